"""The training step: copies of weights in the dtype of the computation, images as bytes, purity."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from synthetic_training import DROPOUT_MLP, SMALL_CNN, trial_config
from torch import Tensor, nn
from torch.utils import _pytree

from inklab.networks.layers import Normalize, NormalizedModel, key_names
from inklab.seeding import Seed
from inklab.training.batches import TensorSet
from inklab.training.objectives import Batch, objectives
from inklab.training.optimizers import HyperParams, make_optimizer
from inklab.training.population import build_normalized, l2_param_names, single_member, stack_states
from inklab.training.step import State, TrainStep

SHAPE, CLASSES, BATCH, MEMBERS = (1, 12, 12), 10, 8, 3
NETS = {"mlp": DROPOUT_MLP, "cnn": SMALL_CNN}
KINDS = [("mlp", True), ("mlp", False), ("cnn", True), ("cnn", False)]


class Toy:
    """A step of a small network, its first state, and its arguments."""

    def __init__(
        self, name: str, precision: Any, *, stacked: bool, optimizer: str = "sgd", averaged: bool = False
    ) -> None:
        config, self.stacked = trial_config(NETS[name], precision), stacked
        nets = [build_normalized(config, SHAPE, CLASSES, Seed(k)) for k in range(MEMBERS if stacked else 1)]
        self.net = nets[0]
        self.step = TrainStep(
            self.net, objectives["classify"], make_optimizer(optimizer, 0.5),
            l2_param_names(self.net, ["*.weight"]), stacked=stacked, precision=precision,
        )  # fmt: skip
        tensors = stack_states(nets) if stacked else single_member(nets[0])
        self.state = self.step.init_state(*tensors, averaged=averaged)

    def batch(self, number: int = 0, *, floats: bool = False) -> Batch:
        rng = torch.Generator().manual_seed(number)
        lead = (MEMBERS, BATCH) if self.stacked else (BATCH,)
        pixels, inputs = torch.randint(0, 256, (2, *lead, *SHAPE), generator=rng).to(torch.uint8)
        labels = torch.randint(0, CLASSES, lead, generator=rng)
        images = [part.float() / 255 if floats else part for part in (pixels, inputs)]
        return Batch(images[0], labels, images[1])

    def keys(self, number: int = 0) -> dict[str, Tensor]:
        lead = (MEMBERS, 2) if self.stacked else (2,)
        rng = torch.Generator().manual_seed(100 + number)
        return {
            name: torch.randint(0, 2**31 - 1, lead, generator=rng).to(torch.int32)
            for name in key_names(self.net)
        }

    def hyper(self, number: int = 0) -> HyperParams:
        rate, l2, momentum = (
            torch.full((MEMBERS,), value) if self.stacked else torch.tensor(value)
            for value in (0.1, 1e-3, 0.5)
        )
        return HyperParams(rate, l2, momentum, torch.tensor(number, dtype=torch.float64))

    def states(self, count: int) -> list[State]:
        """Before the first step, and after each."""
        states = [self.state]
        for number in range(count):
            after, losses = self.step(states[-1], self.batch(number), self.keys(number), self.hyper(number))
            assert losses.isfinite().all()
            states.append(after)
        return states


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "muon"])
@pytest.mark.parametrize(("name", "stacked"), KINDS)
def test_bf16_copies_are_the_masters_rounded_after_each_step(name, stacked, optimizer):
    """If they were one step late, or rounded twice, training would compute with other weights."""
    states = Toy(name, "bf16", stacked=stacked, optimizer=optimizer).states(4)
    for state in states:
        assert state.compute_params.keys() == state.params.keys()
        for key, master in state.params.items():
            assert master.dtype == torch.float32 and state.compute_params[key].dtype == torch.bfloat16
            assert torch.equal(state.compute_params[key], master.bfloat16()), key
    for before, after in pairwise(states):
        assert not any(torch.equal(before.params[key], after.params[key]) for key in before.params)


def test_masters_keep_what_bf16_would_round_away():
    """The reason for master weights: steps far below the last bit of bf16 still add up."""
    toy = Toy("mlp", "bf16", stacked=False)
    hyper = toy.hyper()._replace(learning_rate=torch.tensor(1e-6), l2=torch.tensor(0.0))
    after, _ = toy.step(toy.state, toy.batch(), toy.keys(), hyper)
    name = "net.output.weight"
    assert not torch.equal(after.params[name], toy.state.params[name])
    assert (after.compute_params[name] == toy.state.compute_params[name]).float().mean() > 0.9


@pytest.mark.parametrize(("name", "stacked"), KINDS[:3])
def test_in_fp32_there_are_no_copies_but_of_a_single_networks_convolutions(name, stacked):
    assert all(state.compute_params == {} for state in Toy(name, "fp32", stacked=stacked).states(2))


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_kernels_of_a_single_network_are_channels_last(precision, optimizer):
    for state in Toy("cnn", precision, stacked=False, optimizer=optimizer).states(2):
        # A kernel of one channel lies alike both ways.
        kernels = {key: value for key, value in state.params.items() if value.dim() == 4}
        assert len(kernels) == 2
        for key, master in kernels.items():
            computed = state.compute_params.get(key, master)
            assert computed.is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(computed.float(), master.to(computed.dtype).float())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stacked", [True, False])
def test_an_average_is_of_the_masters_and_changes_nothing_else(stacked, precision):
    """After the first step it is the weights; then it moves by a share towards them, as torch's does."""
    toy, bare = (Toy("mlp", precision, stacked=stacked, averaged=averaged) for averaged in (True, False))
    state, expected = toy.state, {}
    for number, (weight, plain) in enumerate(zip((1.0, 0.25, 0.25), bare.states(3)[1:], strict=True)):
        hyper = toy.hyper(number)._replace(ema_weight=torch.tensor(weight))
        state, _ = toy.step(state, toy.batch(number), toy.keys(number), hyper)
        assert all(torch.equal(state.params[name], value) for name, value in plain.params.items())
        for name, value in state.params.items():
            expected[name] = value if number == 0 else 0.75 * expected[name] + 0.25 * value
            torch.testing.assert_close(state.average[name], expected[name])
    assert not toy.keys().keys() & state.average.keys(), "keys of dropout have no average"
    assert plain.average == {}


def test_running_statistics_are_averaged_with_the_weights_that_they_belong_to():
    """As torch's `AveragedModel` with `use_buffers`; counters are those of the last step."""
    (step, _), toy = with_batch_norm(), Toy("mlp", "fp32", stacked=False)
    state = step.init_state(*single_member(step.net), averaged=True)
    for number, weight in enumerate((1.0, 0.1)):
        before, hyper = state, toy.hyper()._replace(ema_weight=torch.tensor(weight))
        state, _ = step(state, toy.batch(number), {}, hyper)
    for name in ("net.2.running_mean", "net.2.running_var"):
        expected = 0.9 * before.average[name] + 0.1 * state.buffers[name]
        torch.testing.assert_close(state.average[name], expected)
    assert "net.2.num_batches_tracked" not in state.average


def with_batch_norm() -> tuple[TrainStep, State]:
    """A bf16 step of a network whose module writes into its buffers."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 6), nn.BatchNorm1d(6), nn.Linear(6, CLASSES))
    step = TrainStep(
        NormalizedModel(Normalize(), net).train(), objectives["classify"], make_optimizer("sgd", 0.0),
        frozenset(), stacked=False, precision="bf16",
    )  # fmt: skip
    return step, step.init_state(*single_member(step.net))


def test_batch_norm_is_not_rounded():
    """Its statistics are sums over a batch: in bf16 they would be wrong in the third digit."""
    _, state = with_batch_norm()
    assert state.compute_params.keys() == {
        f"net.{layer}.{kind}" for layer in (1, 3) for kind in ("weight", "bias")
    }


def test_running_statistics_are_returned_and_not_changed_in_place():
    (step, state), toy = with_batch_norm(), Toy("mlp", "fp32", stacked=False)
    before = {name: value.clone() for name, value in state.buffers.items()}
    after, _ = step(state, toy.batch(), {}, toy.hyper())
    assert all(torch.equal(value, before[name]) for name, value in state.buffers.items())
    assert after.buffers["net.2.num_batches_tracked"] == 1
    assert not torch.equal(after.buffers["net.2.running_mean"], before["net.2.running_mean"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize(("name", "stacked"), KINDS)
def test_a_step_leaves_its_arguments_alone(name, stacked, optimizer, precision):
    toy = Toy(name, precision, stacked=stacked, optimizer=optimizer, averaged=True)
    arguments = (toy.states(1)[-1], toy.batch(1), toy.keys(1), toy.hyper(1))
    before = [leaf.clone() for leaf in _pytree.tree_leaves(arguments)]
    first, second = toy.step(*arguments), toy.step(*arguments)
    assert all(map(torch.equal, before, _pytree.tree_leaves(arguments)))
    assert all(map(torch.equal, *map(_pytree.tree_leaves, (first, second)))), "the same step twice"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("name", "stacked"), KINDS)
def test_bytes_are_the_floats_that_they_stand_for(name, stacked, precision):
    toy = Toy(name, precision, stacked=stacked)
    first, other = (
        toy.step(toy.state, toy.batch(floats=floats), toy.keys(), toy.hyper()) for floats in (False, True)
    )
    assert all(map(torch.equal, *map(_pytree.tree_leaves, (first, other))))


class TestTensorSet:
    @pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4), (0,), (2, 0)], ids=str)
    def test_pixels_at_some_indices_are_a_copy(self, shape, data):
        images, before = data.train, data.train.pixels.clone()
        index = torch.randint(0, len(images), shape, generator=torch.Generator().manual_seed(0))
        pixels = images.pixels_at(index)
        assert pixels.dtype == torch.uint8 and pixels.shape == (*shape, 1, 12, 12)
        assert torch.equal(pixels, images.pixels[index])
        assert torch.equal(images.images(index), images.pixels[index].float() / 255)
        pixels.zero_()
        assert torch.equal(images.pixels, before)

    def test_channels_keep_their_order(self):
        pixels = torch.arange(4 * 3 * 2 * 5).reshape(4, 3, 2, 5).to(torch.uint8)
        images = TensorSet(pixels, torch.zeros(4, dtype=torch.int64))
        index = torch.tensor([[3, 0], [3, 1]])
        assert torch.equal(images.pixels_at(index), pixels[index])

    def test_an_index_out_of_range_is_refused(self, data):
        with pytest.raises(IndexError):
            data.train.pixels_at(torch.tensor([len(data.train)]))

"""What a step keeps and reads: copies of weights as they are computed with, and images as bytes."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from synthetic_training import SMALL_CNN, SMALL_MLP, settings
from torch import Tensor, nn
from torch.utils import _pytree

from inklab.networks.layers import Normalize, NormalizedModel, key_names
from inklab.seeding import Seed
from inklab.training.batches import TensorSet
from inklab.training.objectives import Batch, objectives
from inklab.training.optimizers import HyperParams, make_optimizer
from inklab.training.population import single_member, stack_states, weight_decay_names
from inklab.training.step import State, TrainStep
from inklab.training.trainer import build_normalized

SHAPE, CLASSES, BATCH, MEMBERS = (1, 12, 12), 10, 8, 3
DROPPED = {**SMALL_MLP, "dropout": 0.4}
NETS = {"mlp": DROPPED, "cnn": SMALL_CNN}
WAYS = [("mlp", True), ("mlp", False), ("cnn", True), ("cnn", False)]


class Toy:
    """A step of a small network, its first state, and what it is given."""

    def __init__(self, name: str, precision: str, *, lifted: bool, optimiser: str = "sgd") -> None:
        told, self.lifted = settings(NETS[name], precision), lifted
        nets = [build_normalized(told, SHAPE, CLASSES, Seed(k)) for k in range(MEMBERS if lifted else 1)]
        self._ready(nets, precision, optimiser)

    def _ready(self, nets: list[Any], precision: str, optimiser: str) -> None:
        self.net = nets[0]
        decayed = weight_decay_names(self.net, ["*.weight"])
        self.maker = TrainStep(
            self.net, objectives["classify"], make_optimizer(optimiser, 0.5), decayed,
            lifted=self.lifted, precision=precision,
        )  # fmt: skip
        self.step = self.maker.step()
        self.state = self.maker.init_state(*(stack_states(nets) if self.lifted else single_member(nets[0])))

    def batch(self, number: int = 0, *, floats: bool = False) -> Batch:
        rng = torch.Generator().manual_seed(number)
        lead = (MEMBERS, BATCH) if self.lifted else (BATCH,)
        pixels, shown = torch.randint(0, 256, (2, *lead, *SHAPE), generator=rng).to(torch.uint8)
        labels = torch.randint(0, CLASSES, lead, generator=rng)
        images = [part.float() / 255 if floats else part for part in (pixels, shown)]
        return Batch(images[0], labels, images[1])

    def keys(self, number: int = 0) -> dict[str, Tensor]:
        lead = (MEMBERS, 2) if self.lifted else (2,)
        rng = torch.Generator().manual_seed(100 + number)
        return {
            name: torch.randint(0, 2**31 - 1, lead, generator=rng).to(torch.int32)
            for name in key_names(self.net)
        }

    def hyper(self, number: int = 0) -> HyperParams:
        rate, l2, momentum = (
            torch.full((MEMBERS,), value) if self.lifted else torch.tensor(value)
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


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "muon"])
@pytest.mark.parametrize(("name", "lifted"), WAYS)
def test_bf16_copies_are_the_masters_rounded_after_each_step(name, lifted, optimiser):
    """One step late, or rounded twice, and members would differ from a network that is rounded when used."""
    states = Toy(name, "bf16", lifted=lifted, optimiser=optimiser).states(4)
    for state in states:
        assert state.working.keys() == state.params.keys()
        for key, master in state.params.items():
            assert master.dtype == torch.float32 and state.working[key].dtype == torch.bfloat16
            assert torch.equal(state.working[key], master.bfloat16()), key
    for before, after in pairwise(states):
        assert not any(torch.equal(before.params[key], after.params[key]) for key in before.params)


def test_masters_keep_what_bf16_would_round_away():
    """The reason for two copies: a step far below a weight's last bit in bf16 still adds up."""
    toy = Toy("mlp", "bf16", lifted=False)
    hyper = toy.hyper()._replace(rate=torch.tensor(1e-6), l2=torch.tensor(0.0))
    after, _ = toy.step(toy.state, toy.batch(), toy.keys(), hyper)
    name = "net.output.weight"
    assert not torch.equal(after.params[name], toy.state.params[name])
    assert (after.working[name] == toy.state.working[name]).float().mean() > 0.9


@pytest.mark.parametrize("name", NETS)
def test_populations_in_fp32_have_no_copies(name):
    assert all(state.working == {} for state in Toy(name, "fp32", lifted=True).states(2))


def test_a_dense_network_in_fp32_has_no_copies():
    assert all(state.working == {} for state in Toy("mlp", "fp32", lifted=False).states(2))


@pytest.mark.parametrize("optimiser", ["sgd", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_lone_networks_kernels_are_computed_with_channels_last(precision, optimiser):
    for state in Toy("cnn", precision, lifted=False, optimiser=optimiser).states(2):
        # A kernel of one channel lies alike both ways.
        kernels = {key: value for key, value in state.params.items() if value.dim() == 4}
        assert len(kernels) == 2
        for key, master in kernels.items():
            computed = state.working.get(key, master)
            assert computed.is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(computed.float(), master.to(computed.dtype).float())


def with_batch_norm() -> tuple[TrainStep, State]:
    """A bf16 step of a network whose module writes into its buffers."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 6), nn.BatchNorm1d(6), nn.Linear(6, CLASSES))
    maker = TrainStep(
        NormalizedModel(Normalize(), net).train(), objectives["classify"], make_optimizer("sgd", 0.0),
        frozenset(), lifted=False, precision="bf16",
    )  # fmt: skip
    return maker, maker.init_state(*single_member(maker.net))


def test_batch_norm_is_not_rounded():
    """Its statistics are sums over a batch: in bf16 they would be wrong in the third digit."""
    _, state = with_batch_norm()
    assert state.working.keys() == {f"net.{place}.{kind}" for place in (1, 3) for kind in ("weight", "bias")}


def test_statistics_that_a_module_keeps_come_back_and_are_not_changed_in_place():
    (maker, state), toy = with_batch_norm(), Toy("mlp", "fp32", lifted=False)
    before = {name: value.clone() for name, value in state.buffers.items()}
    after, _ = maker.step()(state, toy.batch(), {}, toy.hyper())
    assert all(torch.equal(value, before[name]) for name, value in state.buffers.items())
    assert after.buffers["net.2.num_batches_tracked"] == 1
    assert not torch.equal(after.buffers["net.2.running_mean"], before["net.2.running_mean"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize(("name", "lifted"), WAYS)
def test_a_step_leaves_its_arguments_alone(name, lifted, optimiser, precision):
    toy = Toy(name, precision, lifted=lifted, optimiser=optimiser)
    given = (toy.states(1)[-1], toy.batch(1), toy.keys(1), toy.hyper(1))
    before = [leaf.clone() for leaf in _pytree.tree_leaves(given)]
    first, second = toy.step(*given), toy.step(*given)
    assert all(map(torch.equal, before, _pytree.tree_leaves(given)))
    assert all(map(torch.equal, *map(_pytree.tree_leaves, (first, second)))), "the same step twice"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("name", "lifted"), WAYS)
def test_bytes_are_the_floats_that_they_stand_for(name, lifted, precision):
    toy = Toy(name, precision, lifted=lifted)
    one, other = (
        toy.step(toy.state, toy.batch(floats=floats), toy.keys(), toy.hyper()) for floats in (False, True)
    )
    assert all(map(torch.equal, *map(_pytree.tree_leaves, (one, other))))


class TestPart:
    @pytest.fixture
    def part(self, data):
        return data.train

    @pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4), (0,), (2, 0)], ids=str)
    def test_bytes_at_places(self, part, shape):
        index = torch.randint(0, len(part.labels), shape, generator=torch.Generator().manual_seed(0))
        found = part.bytes_at(index)
        assert found.dtype == torch.uint8 and found.shape == (*shape, 1, 12, 12)
        assert torch.equal(found, part.pixels[index])
        assert torch.equal(part.images(index), part.pixels[index].float() / 255)

    def test_colours_keep_their_places(self):
        pixels = torch.arange(4 * 3 * 2 * 5).reshape(4, 3, 2, 5).to(torch.uint8)
        part = TensorSet(pixels, torch.zeros(4, dtype=torch.int64))
        index = torch.tensor([[3, 0], [3, 1]])
        assert torch.equal(part.bytes_at(index), pixels[index])

    def test_what_is_taken_is_a_copy(self, part):
        before = part.pixels.clone()
        part.bytes_at(torch.arange(len(part.labels))).zero_()
        assert torch.equal(part.pixels, before)

    def test_a_place_that_is_none_is_refused(self, part):
        with pytest.raises(IndexError):
            part.bytes_at(torch.tensor([len(part.labels)]))

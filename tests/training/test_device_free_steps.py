"""Steps, corruptions and augmentations on a device without values: nothing is read, nothing is on the CPU.

A tensor on torch's device `meta` has a shape and no values, so reading one, as `.item()` does, is an error.
It takes the place of a fake CUDA tensor: a build of torch without CUDA can't compute the gradients of those.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from synthetic_training import glyphs, replicates_of, training_data, trial_config
from torch import Tensor
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from inklab.corruptions.corruption import corruptions
from inklab.counters import Draws
from inklab.networks.network import networks
from inklab.records.components import NetworkConfig
from inklab.records.recipe import Augmentation
from inklab.training.augmentations import augmentations, warp
from inklab.training.objectives import objectives
from inklab.training.population import Population, PopulationSpec

SHAPE = (1, 12, 12)
DEVICE = torch.device("meta")
COPIES = (torch.ops.aten._to_copy, torch.ops.aten.copy_)
SMALL = {
    "mlp": {"hidden": [6], "dropout": 0.3}, "autoencoder": {"hidden": [6], "code": 4},
    "cnn": {"channels": [4, 8], "hidden": 6}, "compact": {"channels": [4, 8], "stem_kernel": 3},
    "unet": {"channels": [4, 8], "depth": 1}, "conv-autoencoder": {"channels": [4, 8], "code": 6},
}  # fmt: skip
DENSE = {"mlp", "autoencoder"}


class OneDevice(TorchDispatchMode):
    """Refuses every operation that takes or returns a tensor on another device.

    Python's numbers are no such tensors: under vmap they are tensors without dimensions, which no device
    waits for unless they are copied there.
    """

    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in _pytree.tree_leaves((args, kwargs, output)) if isinstance(leaf, Tensor)]
        elsewhere = [tensor for tensor in tensors if tensor.device != DEVICE]
        is_copy = len(elsewhere) < len(tensors) and func.overloadpacket in COPIES
        assert not any(tensor.dim() or is_copy for tensor in elsewhere), f"{func} on the CPU"
        return output


def draws() -> Draws:
    return Draws(torch.empty(2, dtype=torch.int32, device=DEVICE))


@pytest.fixture
def images() -> Tensor:
    return torch.empty(5, *SHAPE, device=DEVICE)


def test_a_tensor_of_the_cpu_and_a_value_that_is_read_are_noticed(images):
    for wrong in (
        lambda: torch.ones(3),
        lambda: torch.tensor(2.0).to(DEVICE),
        lambda: images.copy_(torch.ones(())),
    ):
        with OneDevice(), pytest.raises(AssertionError, match="on the CPU"):
            wrong()
    with OneDevice(), pytest.raises(RuntimeError, match="item"):
        images.max().item()


@pytest.mark.parametrize("name", sorted(corruptions))
def test_corruptions_stay_on_the_device(images, name):
    corruption = corruptions[name]
    with OneDevice():
        for strength in (corruption.strengths[1], torch.empty(5, device=DEVICE)):
            corrupted = corruption(images, strength, draws())
            assert (corrupted.device, corrupted.shape) == (DEVICE, images.shape)


@pytest.mark.parametrize("name", sorted(augmentations))
def test_augmentations_stay_on_the_device(images, name):
    with OneDevice():
        assert augmentations[name].fn(images, draws()).device == DEVICE
        moved = Augmentation(rotation=10, scale=0.1, elastic=0.5)
        assert warp(images, moved, draws()).device == DEVICE


def networks_and_objectives() -> list[tuple[str, str]]:
    """Each registered network with each objective for its task."""
    return [
        (network, objective)
        for network in sorted(networks)
        for objective in sorted(objectives)
        if networks[network].task == objectives[objective].task
    ]


@pytest.mark.parametrize(("optimizer", "precision"), [("adam", "bf16"), ("muon", "fp32"), ("sgd", "fp32")])
@pytest.mark.parametrize(("network", "objective"), networks_and_objectives())
def test_steps_stay_on_the_device(network, objective, optimizer, precision):
    """With everything that a step may contain; what the step takes is moved to the device, nothing else."""
    config = trial_config(
        NetworkConfig.of(network, **SMALL.get(network, {})), precision, objective=objective,
        optimizer=optimizer, momentum=0.5, l2=1e-3, clip_norm=1.0, ema_decay=0.9,
    )  # fmt: skip
    stacked = network in DENSE
    spec = PopulationSpec(replicates_of(config, 0), stacked=stacked, reseed_each_step=False, seed=0)
    population = Population.build(spec, training_data(*glyphs(40, seed=1), train=32, validation=8))
    batch = next(population.batches.epoch(0))
    arguments = (population.init_state, batch, population.dropout_keys(0, 0), population.schedule.at(0))
    arguments = _pytree.tree_map(lambda tensor: tensor.to(DEVICE), arguments)
    with OneDevice():
        state, losses = population.step(*arguments)
    assert losses.shape == ((len(spec.members),) if stacked else ())
    assert {leaf.device for leaf in _pytree.tree_leaves((state, losses))} == {DEVICE}

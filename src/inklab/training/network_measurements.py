"""What is measured of one network, on some images: what enters its layers, weights, gradients and outputs.

Nothing of the network is changed.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from inklab.networks.layers import NormalizedModel
from inklab.records.recipe import Recipe

LONGER_STEP = 30.0
"""Times the learning rate of the step that is tried."""

N_MIDPOINTS = 32  # pairs of images that linearity is measured on
MIN_HALF = 16  # images, below which no step is tried

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of outputs and targets, averaged: what networks of a task are evaluated by."""


@dataclass(frozen=True)
class Probe:
    """What a network is given to be measured, and what it should return.

    Attributes:
        inputs: `(n, c, h, w)` images, clean or corrupted.
        targets: `(n,)` classes, or `(n, c, h, w)` clean images.
        loss: cross-entropy in nats, of an image or of a pixel.
    """

    inputs: Float[Tensor, "n c h w"]
    targets: Shaped[Tensor, "n ..."]
    loss: Loss


@dataclass(frozen=True)
class LayerMeasurements:
    """A layer with weights, on some training images.

    Attributes:
        name: of the module.
        input_std: standard deviation of what enters it.
        silent_inputs: share of its input features (of convolutions: channels) that are 0 for every image.
        weights: its kernel.
        gradient_rms: root mean square of the loss's gradient with respect to the kernel; 0 if it was not
            measured.
    """

    name: str
    input_std: float
    silent_inputs: float
    weights: Float[Tensor, "..."]
    gradient_rms: float

    @property
    def weight_rms(self) -> float:
        """Root mean square of the kernel."""
        return rms(self.weights)

    @property
    def has_equal_units(self) -> bool:
        """Whether all its units, two or more, have the same weights."""
        rows = self.weights.flatten(1)
        return len(rows) > 1 and bool((rows == rows[0]).all())


@dataclass(frozen=True)
class NetworkMeasurements:
    """A network on some training images.

    Attributes:
        outputs: `(n, k)` logits of classes, or `(n, c, h, w)` of pixels.
        loss: cross-entropy in nats, of an image or of a pixel.
        layers: those with weights, in the order in which images pass them.
    """

    outputs: Float[Tensor, "n ..."]
    loss: float
    layers: tuple[LayerMeasurements, ...]

    @property
    def has_equal_units(self) -> bool:
        """Whether all units of some layer but the last have the same weights."""
        return any(layer.has_equal_units for layer in self.layers[:-1])


def measure_network(net: NormalizedModel, probe: Probe, *, gradients: bool) -> NetworkMeasurements:
    """Run a network in evaluation mode on some images, forward and, for gradients, backward."""
    inputs: dict[str, Tensor] = {}
    params = dict(net.net.named_parameters())
    with _watch_inputs(net.net, inputs), torch.set_grad_enabled(gradients):
        outputs = net(probe.inputs).float()
        loss = probe.loss(outputs, probe.targets)
    kernels = {name: params[f"{name}.weight".lstrip(".")] for name in inputs}
    trainable = {name: kernel for name, kernel in kernels.items() if gradients and kernel.requires_grad}
    slopes = torch.autograd.grad(loss, list(trainable.values()), allow_unused=True) if trainable else ()
    sizes = {name: rms(slope) for name, slope in zip(trainable, slopes, strict=True) if slope is not None}
    layers = tuple(
        LayerMeasurements(
            name, float(inputs[name].float().std()), _silent_share(inputs[name]), kernel.detach().clone(),
            sizes.get(name, 0.0),
        )
        for name, kernel in kernels.items()
    )  # fmt: skip
    return NetworkMeasurements(outputs.detach(), float(loss.detach()), layers)


def _silent_share(entering: Tensor) -> float:
    """The share of features, of `(n, c, h, w)` of channels, that are 0 everywhere."""
    features = 1 if entering.dim() == 4 else entering.dim() - 1
    others = [dim for dim in range(entering.dim()) if dim != features]
    return float((entering == 0).all(dim=others).float().mean())


@contextmanager
def _watch_inputs(net: nn.Module, inputs: dict[str, Tensor]) -> Iterator[None]:
    """Keep what first enters each layer with a kernel, in the order of the calls."""

    def hook_of(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, arguments: tuple[object, ...]) -> None:
            if arguments and isinstance(arguments[0], Tensor) and arguments[0].dim() in (2, 4):
                inputs.setdefault(name, arguments[0].detach())

        return hook

    hooks = [
        module.register_forward_pre_hook(hook_of(name))
        for name, module in net.named_modules()
        if isinstance(kernel := getattr(module, "weight", None), nn.Parameter) and kernel.dim() >= 2
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def longer_step(net: NormalizedModel, recipe: Recipe, probe: Probe) -> float | None:
    """The loss after a step of `LONGER_STEP` times the learning rate, relative to the loss before it.

    The step is taken on one half of the images, and its loss is that of the other half. None if there are too
    few, or if nothing can be trained.
    """
    params = [value for value in net.parameters() if value.requires_grad]
    if len(probe.targets) < 2 * MIN_HALF or not params:
        return None

    def loss_on(model: NormalizedModel, start: int) -> Tensor:
        return probe.loss(model(probe.inputs[start::2]).float(), probe.targets[start::2])

    grads = torch.autograd.grad(loss_on(net, 0), params, allow_unused=True)
    rate = LONGER_STEP * recipe.learning_rate / (1 - recipe.momentum)
    moved = copy.deepcopy(net)
    with torch.no_grad():
        others = [value for value in moved.parameters() if value.requires_grad]
        for value, grad in zip(others, grads, strict=True):
            if grad is not None:
                value.sub_(rate * (grad if recipe.optimizer == "sgd" else grad.sign()))
        old, new = (float(loss_on(model, 1)) for model in (net, moved))
    return new / old if old > 0 and math.isfinite(new / old) else None


def midpoint_error(net: NormalizedModel, probe: Probe, outputs: Float[Tensor, "n ..."]) -> float:
    """How far outputs of the mean of two images are from the mean of their outputs, over the outputs' spread.

    `outputs` are those of all images; 0 for a linear network.
    """
    images, outputs = probe.inputs[:N_MIDPOINTS], outputs[:N_MIDPOINTS]
    with torch.no_grad():
        middle = net((images + images.roll(1, 0)) / 2).float()
    error = (middle - (outputs + outputs.roll(1, 0)) / 2).abs().max()
    return float(error / max(float(outputs.std()), 1e-12))


def rms(values: Tensor) -> float:
    """Root mean square."""
    return float(values.detach().double().square().mean().sqrt())

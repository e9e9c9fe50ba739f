"""The preflight check: does a network fit its objective, and how may it be trained? It takes one batch."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from inklab.errors import ModelMismatchError, format_error
from inklab.networks.layer_table import layer_table
from inklab.networks.layers import NormalizedModel, key_names
from inklab.records.manifest import output_shape
from inklab.records.plan import NetworkTraits
from inklab.records.recipe import Precision, Recipe, TrialConfig
from inklab.records.record import Shape
from inklab.seeding import Seed, global_states
from inklab.training.objectives import Batch, Objective, objectives
from inklab.training.optimizers import PLAIN_SGD, HyperParams, Tensors
from inklab.training.population import build_normalized, single_member, stack_states
from inklab.training.step import TrainStep

N_IMAGES = 4


def preflight(config: TrialConfig, shape: Shape, n_classes: int) -> NetworkTraits:
    """Train one step on random images and look at what happens.

    Raises:
        ModelMismatchError: the output has a wrong shape, the loss is not finite, or no gradient reaches some
            parameters; the message names likely causes. Or images would be shifted by their whole side.
    """
    objective, name = objectives.resolve(config.recipe.objective), config.network.name
    _check_shift(config.recipe, shape)
    net = build_normalized(config, shape, n_classes, Seed(0) / "rehearsal")
    images = torch.rand(N_IMAGES, *shape, generator=(Seed(0) / "rehearsal images").generator())
    batch = Batch(images, torch.arange(N_IMAGES) % n_classes, images)
    _check_output(name, net, objective, images, n_classes)
    _check_gradients(name, net, objective, batch)
    loss = _single_step(name, net, objective, batch, config.precision)
    uses_global_rng = _uses_global_rng(net, images)
    # Stacked, BatchNorm is one norm over all members' channels: its bits depend on the number of members.
    has_batch_norm = any(isinstance(module, _NormBase) for module in net.modules())
    is_vmappable = not uses_global_rng and not has_batch_norm
    return NetworkTraits(
        vmappable=is_vmappable and _supports_vmap(net, objective, batch, config.precision, loss),
        has_convolutions=any(isinstance(module, nn.modules.conv._ConvNd) for module in net.modules()),
        uses_global_rng=uses_global_rng,
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        macs=sum(row.macs or 0 for row in layer_table(net.net, shape)),
    )


def _check_shift(recipe: Recipe, shape: Shape) -> None:
    shift, side = recipe.augmentation.shift if recipe.augmentation else 0, min(shape[1:])
    if shift >= side:
        usual = "1" if side < 20 else f"1 to {side // 10}"
        raise ModelMismatchError(
            f"augmentation.shift is {shift}, but images have {shape[1]}x{shape[2]} pixels; allowed: 0 to "
            f"{side - 1}, usual: {usual}",
            key="augmentation.shift",
        )


def _check_output(
    name: str, net: NormalizedModel, objective: Objective, images: Tensor, n_classes: int
) -> None:
    try:
        with torch.no_grad(), Seed(0).as_global():
            output = net(images)
    except Exception as error:  # a user's module may raise anything
        raise ModelMismatchError(
            f"'{name}' fails on a batch of shape {tuple(images.shape)}: {format_error(error)}; likely "
            "causes: a layer of the wrong size, a missing nn.Flatten()",
            key=name,
        ) from error
    channels, height, width = images.shape[1:]
    expected = (N_IMAGES, *output_shape(objective.task, n_classes, (channels, height, width)))
    actual = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if actual != expected:
        raise ModelMismatchError(
            f"'{name}' returns {actual} for {N_IMAGES} images, but objective '{objective.name}' needs "
            f"{expected}; likely causes: the width of the last layer, the wrong objective",
            key=name,
        )


def _check_gradients(name: str, net: NormalizedModel, objective: Objective, batch: Batch) -> None:
    with Seed(0).as_global():
        loss = objective.loss(net, batch)
    if not bool(torch.isfinite(loss)):
        raise ModelMismatchError(
            f"the loss of '{name}' is {loss.item()} on its first batch; likely causes: a log or division by "
            "zero, too large initial weights",
            key=name,
        )
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    unreached = [parameter for parameter, value in net.named_parameters() if value.grad is None]
    net.zero_grad()
    if unreached or not loss.requires_grad:
        raise ModelMismatchError(
            f"no gradient reaches {', '.join(unreached) or 'any parameter'} of '{name}'; likely causes: "
            "a layer that forward() never calls, a detach() or an argmax",
            key=name,
        )


def _uses_global_rng(net: NormalizedModel, images: Tensor) -> bool:
    """Whether a forward pass in training draws anything from a global generator."""
    with torch.no_grad(), Seed(0).as_global():
        before = global_states()
        net(images)
        return before != global_states()


def _single_step(
    name: str, net: NormalizedModel, objective: Objective, batch: Batch, precision: Precision
) -> Tensor:
    """The loss of the very step that training takes, in its precision."""
    hyper = HyperParams(torch.tensor(0.1), *torch.zeros(3))
    try:
        with Seed(0).as_global():
            return _step_loss(net, objective, single_member(net), batch, hyper, precision)
    except Exception as error:  # as above
        raise ModelMismatchError(
            f"'{name}' fails in a training step in {precision}: {format_error(error)}; likely causes: an "
            "operation without bf16 support (try fp32), or one that changes tensors in place",
            key=name,
        ) from error


def _supports_vmap(
    net: NormalizedModel, objective: Objective, batch: Batch, precision: Precision, single_loss: Tensor
) -> bool:
    """Whether one step over two stacked members runs, and gives the loss of a single one."""
    stacked_batch = Batch(*(torch.stack([part, part]) for part in batch))
    zeros = torch.zeros(2)
    hyper = HyperParams(zeros + 0.1, zeros, zeros, step=torch.zeros(()))
    try:
        losses = _step_loss(net, objective, stack_states([net, net]), stacked_batch, hyper, precision)
    except Exception:  # control flow on data, changes in place, no batching rule: many types
        return False
    return bool(torch.allclose(losses[0], single_loss, rtol=0.05, atol=1e-3))


def _step_loss(
    net: NormalizedModel,
    objective: Objective,
    tensors: tuple[Tensors, Tensors],
    batch: Batch,
    hyper: HyperParams,
    precision: Precision,
) -> Tensor:
    """The loss of one step; it is stacked if the hyperparameters are."""
    stacked = hyper.learning_rate.dim() > 0
    step = TrainStep(net, objective, PLAIN_SGD, frozenset(), stacked, precision)
    keys = {name: torch.zeros((2, 2) if stacked else 2, dtype=torch.int32) for name in key_names(net)}
    return step(step.init_state(*tensors), batch, keys, hyper)[1]

"""The preflight check: does a network fit its objective, and how may it be trained? It takes one batch."""

import warnings

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from inklab.errors import ModelMismatchError, format_error
from inklab.format import pluralize
from inklab.networks.layer_table import layer_table
from inklab.networks.layers import NormalizedModel, key_names
from inklab.records.execution import NetworkTraits
from inklab.records.manifest import output_shape
from inklab.records.recipe import Precision, Recipe, TrialConfig
from inklab.records.record import Shape
from inklab.seeding import Seed, global_states
from inklab.training.augmentations import augmentations
from inklab.training.objectives import Batch, Objective, objectives
from inklab.training.optimizers import PLAIN_SGD, HyperParams, Tensors
from inklab.training.population import build_normalized, single_member, stack_states, trains_on_one_image
from inklab.training.step import TrainStep
from inklab.usercode import short_name

N_IMAGES = 4


def preflight(
    config: TrialConfig, shape: Shape, n_classes: int, n_images: int | None = None
) -> NetworkTraits:
    """Train one step on random images and look at what happens.

    Args:
        config: what is to be trained.
        shape: of images: channels, height, width.
        n_classes: number of classes.
        n_images: number of training images, if known.

    Raises:
        ModelMismatchError: the output has a wrong shape, the loss is not finite or has no gradient, or no
            gradient reaches some parameters that require one; the message names likely causes. Or images
            would be shifted by their whole side, an augmentation does not give images, or batches have one
            image, which the network can't be trained on.
    """
    objective, name = objectives.resolve(config.recipe.objective), short_name(config.network.name)
    _check_shift(config.recipe, shape)
    net = build_normalized(config, shape, n_classes, Seed(0) / "rehearsal")
    images = torch.rand(N_IMAGES, *shape, generator=(Seed(0) / "rehearsal images").generator())
    batch = Batch(images, torch.arange(N_IMAGES) % n_classes, images)
    if config.recipe.augmentation and (function := config.recipe.augmentation.function):
        augmentations.resolve(function)(images.clone(), Seed(0) / "rehearsal augmentation")
    _check_output(name, net, objective, images, n_classes)
    if 1 in (config.recipe.batch_size, n_images):
        _check_single_image(name, net, shape)
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
    channels, height, width = images.shape[1:]
    expected = output_shape(objective.task, n_classes, (channels, height, width))
    finite: dict[int, bool] = {}
    for n in (N_IMAGES, 1):  # one is what is predicted later, or the last batch
        try:
            with torch.no_grad(), Seed(0).as_global(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's, of too few degrees of freedom
                output = net.train(n > 1)(images[:n])
        except Exception as error:  # a user's module may raise anything
            causes = "a layer of the wrong size, a missing nn.Flatten()" if n > 1 else "a fixed batch size"
            raise ModelMismatchError(
                f"'{name}' fails on a batch of shape {tuple(images[:n].shape)}: {format_error(error)}; "
                f"likely causes: {causes}",
                key=name,
            ) from error
        actual = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        if actual != (n, *expected):
            causes = "the width of the last layer, the wrong objective" if n > 1 else "a squeeze() or view()"
            raise ModelMismatchError(
                f"'{name}' returns {actual} for {pluralize(n, 'image')}, but objective "
                f"'{short_name(objective.name)}' needs {(n, *expected)}; likely causes: {causes}",
                key=name,
            )
        finite[n] = bool(output.isfinite().all())
    if finite[N_IMAGES] and not finite[1]:
        raise ModelMismatchError(
            f"'{name}' returns NaN or infinite values for 1 image, but not for {N_IMAGES}; likely cause: a "
            "standard deviation over the batch; use it only if self.training, or use BatchNorm",
            key=name,
        )
    net.train()


def _check_single_image(name: str, net: NormalizedModel, shape: Shape) -> None:
    if not trains_on_one_image(net, shape):
        raise ModelMismatchError(
            f"'{name}' can't be trained on batches of one image, of which BatchNorm or a standard deviation "
            "over the batch has no statistics; use a larger batch_size and more images, or GroupNorm instead",
            key=name,
        )


def _check_gradients(name: str, net: NormalizedModel, objective: Objective, batch: Batch) -> None:
    trained = [parameter for parameter, value in net.named_parameters() if value.requires_grad]
    if not trained:
        raise ModelMismatchError(
            f"no gradient reaches any parameter of '{name}', because "
            f"{'all are frozen' if [*net.parameters()] else 'it has none'}; leave requires_grad at True for "
            "what is to be trained",
            key=name,
        )
    try:
        with Seed(0).as_global():
            loss = objective.loss(net, batch)
    except Exception as error:  # a user's objective or module may raise anything
        raise ModelMismatchError(
            f"objective '{short_name(objective.name)}' fails on '{name}': {format_error(error)}",
            key=name,
        ) from error
    if not isinstance(loss, Tensor) or loss.dim():
        returned = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ModelMismatchError(
            f"objective '{short_name(objective.name)}' returned {returned}; it must return one number, a "
            "tensor without dimensions, such as a mean over the batch",
            key=objective.name,
        )
    if not bool(torch.isfinite(loss)):
        raise ModelMismatchError(
            f"the loss of '{name}' is {loss.item()} on its first batch; likely causes: a log or division by "
            "zero, too large initial weights",
            key=name,
        )
    try:
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise ModelMismatchError(
            f"the loss of '{name}' has no gradient: {format_error(error)[:300]}; likely cause: layers that "
            "change a tensor in place which another layer's gradient needs; set inplace=False",
            key=name,
        ) from error
    unreached = [parameter for parameter in trained if net.get_parameter(parameter).grad is None]
    net.zero_grad()
    if unreached or not loss.requires_grad:
        raise ModelMismatchError(
            f"no gradient reaches {', '.join(unreached) or 'any parameter'} of '{name}'; likely causes: "
            "a layer that forward() never calls, a detach() or an argmax; or set requires_grad to False for "
            "what is not to be trained",
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

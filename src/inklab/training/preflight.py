"""A rehearsal with one batch: does a module fit its objective, and how may it be trained?"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from inklab.errors import ModelMismatchError
from inklab.networks.layer_table import layer_table
from inklab.networks.layers import NormalizedModel, key_names
from inklab.networks.network import Shape
from inklab.seeding import Seed, global_states
from inklab.training.objectives import Batch, Objective, objectives
from inklab.training.optimizers import PLAIN_SGD, HyperParams, Tensors
from inklab.training.population import single_member, stack_states
from inklab.training.recipe import Augmentation, Recipe
from inklab.training.step import TrainStep
from inklab.training.trainer import build_normalized

BATCH = 4


@dataclass(frozen=True)
class NetworkTraits:
    """What a rehearsal finds out.

    Attributes:
        liftable: the step runs over stacked members, and a member's bits don't depend on its company.
        convolutional: it has convolutions, which do not gain from being stacked on a CPU (DESIGN.md, section
            7).
        random: it draws from torch's global generator, so it is trained alone and reseeded each step.
        parameters: how many numbers are trained.
        multiply_adds: for one image, forward.
    """

    liftable: bool
    convolutional: bool
    random: bool
    parameters: int
    multiply_adds: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def preflight(settings: dict[str, Any], shape: Shape, classes: int) -> NetworkTraits:
    """Train one step on made-up images and look at what happens.

    Args:
        settings: a trial's resolved settings.
        shape: channels, height, width.
        classes: how many labels there are.

    Raises:
        ModelMismatchError: wrong output shape, loss not finite, or parameters that no gradient reaches;
            likely
            causes are named. Or images are shifted by their whole side.
    """
    recipe = Recipe.model_validate(settings["recipe"])
    objective = objectives[recipe.objective]
    _check_shift(recipe, shape)
    net = build_normalized(settings, shape, classes, Seed(0) / "rehearsal")
    name = settings["model"]["name"]
    images = torch.rand(BATCH, *shape, generator=(Seed(0) / "rehearsal images").generator())
    labels = torch.arange(BATCH) % classes
    batch = Batch(images, labels, images)
    _check_output(name, net, objective, images, classes)
    _check_gradients(name, net, objective, batch)
    precision = settings["precision"]
    single = _single_step(name, net, objective, batch, precision)
    random = _uses_global_rng(net, images)
    return NetworkTraits(
        liftable=not random
        and not _is_normed(net)
        and _supports_vmap(net, objective, batch, precision, single),
        convolutional=any(isinstance(module, nn.modules.conv._ConvNd) for module in net.modules()),
        random=random,
        parameters=sum(p.numel() for p in net.parameters()),
        multiply_adds=sum(row.multiply_adds for row in layer_table(net.net, shape)),
    )


def _check_shift(recipe: Recipe, shape: Shape) -> None:
    shift, side = (recipe.augmentation or Augmentation()).shift, min(shape[1:])
    if shift >= side:
        raise ModelMismatchError(
            f"augmentation.shift is {shift}, but images are {shape[1]}x{shape[2]} pixels: such shifts leave "
            f"nothing to see; allowed are 0 to {side - 1}, usual are 1 to {max(1, side // 10)}"
        )


def _check_output(
    name: str, net: NormalizedModel, objective: Objective, images: Tensor, classes: int
) -> None:
    try:
        with torch.no_grad(), Seed(0).as_global():
            out = net(images)
    except Exception as error:  # whatever a user's module raises is told in one line
        raise ModelMismatchError(
            f"'{name}' fails on a batch of shape {tuple(images.shape)}: {' '.join(str(error).split())}; "
            "likely causes: a layer of the wrong size, a missing nn.Flatten()"
        ) from error
    wanted = (BATCH, classes) if objective.target == "labels" else tuple(images.shape)
    if not isinstance(out, Tensor) or tuple(out.shape) != wanted:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ModelMismatchError(
            f"'{name}' gives {got} for {BATCH} images, but objective '{objective.name}' needs {wanted}; "
            "likely causes: the last layer's width, or another objective was meant"
        )


def _check_gradients(name: str, net: NormalizedModel, objective: Objective, batch: Batch) -> None:
    with Seed(0).as_global():
        loss = objective.loss(net, batch)
    if not bool(torch.isfinite(loss)):
        raise ModelMismatchError(
            f"'{name}' has the loss {loss.item()} on its first batch; likely causes: a log or division by "
            "zero, or weights that begin too large"
        )
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    unreached = [parameter for parameter, value in net.named_parameters() if value.grad is None]
    net.zero_grad()
    if unreached or not loss.requires_grad:
        raise ModelMismatchError(
            f"no gradient reaches {', '.join(unreached) or 'any parameter'} of '{name}'; likely causes: "
            "a layer that forward() never calls, a detach() or an argmax"
        )


def _uses_global_rng(net: NormalizedModel, images: Tensor) -> bool:
    """Whether a pass in training takes anything from a global generator, were it once in a while."""
    with torch.no_grad(), Seed(0).as_global():
        before = global_states()
        net(images)
        return before != global_states()


def _is_normed(net: NormalizedModel) -> bool:
    """Whether it has BatchNorm, which runs lifted, but not to the bit.

    Lifted, it is one norm over all members' channels, added up in an order that depends on their number.
    """
    return any(isinstance(module, _NormBase) for module in net.modules())


def _single_step(
    name: str, net: NormalizedModel, objective: Objective, batch: Batch, precision: str
) -> Tensor:
    """The loss of the very step that training takes, in its precision."""
    hyper = HyperParams(torch.tensor(0.1), *torch.zeros(3))
    try:
        with Seed(0).as_global():
            return _one_step(net, objective, single_member(net), batch, hyper, precision, lifted=False)
    except Exception as error:  # as above
        raise ModelMismatchError(
            f"'{name}' fails in a training step in {precision}: {' '.join(str(error).split())}; "
            "likely causes: an operation that has no bf16 (try fp32), or one that changes tensors in place"
        ) from error


def _supports_vmap(
    net: NormalizedModel, objective: Objective, batch: Batch, precision: str, single: Tensor
) -> bool:
    """Whether one step over two members runs, and gives what it gives unlifted."""
    twice = Batch(*(torch.stack([part, part]) for part in batch))
    rate, nothing = torch.tensor([0.1, 0.1]), torch.zeros(2)
    hyper = HyperParams(rate, nothing, nothing, taken=torch.zeros(()))
    try:
        both = _one_step(net, objective, stack_states([net, net]), twice, hyper, precision, lifted=True)
    except (
        Exception
    ):  # data-dependent control flow, in-place tricks, operations without a batching rule: many types
        return False
    return bool(torch.allclose(both[0], single, rtol=0.05, atol=1e-3))


def _one_step(
    net: NormalizedModel,
    objective: Objective,
    tensors: tuple[Tensors, Tensors],
    batch: Batch,
    hyper: HyperParams,
    precision: str,
    *,
    lifted: bool,
) -> Tensor:
    maker = TrainStep(net, objective, PLAIN_SGD, frozenset(), lifted, precision)
    keys = {name: torch.zeros((2, 2) if lifted else 2, dtype=torch.int32) for name in key_names(net)}
    return maker.step()(maker.init_state(*tensors), batch, keys, hyper)[1]

"""Objectives: what a network is trained for, as a loss."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from inklab.errors import ConfigError
from inklab.metrics import Task
from inklab.registry import Registry, registered_entry
from inklab.usercode import short_name

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8
    from torch import Tensor

ADVERSARIAL_STEP = 0.1  # how far each pixel is moved, image range 0 to 1
STEP_PASSES = 3  # forward passes that a plain training step costs: one, and two for the gradient
LABEL_SMOOTHING = 0.1  # Szegedy et al., "Rethinking the Inception architecture" (2016), section 7

Forward = Callable[["Tensor"], "Tensor"]
"""Images `(n, c, h, w)` in [0, 1] to logits in float32."""


class Batch(NamedTuple):
    """The images of one step.

    Attributes:
        images: `(n, c, h, w)` clean images. An objective gets floats in [0, 1]; until then they are bytes.
        labels: `(n,)` integers in [0, k).
        inputs: what the network is given: the clean images, or a corrupted copy.
    """

    images: 'Float[Tensor, "..."] | UInt8[Tensor, "..."]'
    labels: 'Int[Tensor, "..."]'
    inputs: 'Float[Tensor, "..."] | UInt8[Tensor, "..."]'


LossFn = Callable[[Forward, Batch], "Tensor"]


@dataclass(frozen=True)
class Objective:
    """A loss, and what it is for.

    Attributes:
        name: what recipes call it.
        loss: `(net, batch) -> scalar`, a pure function of torch operations.
        task: "classification" (the network returns logits of classes) or "denoising" (logits of pixels).
        description: the first line of the function's docstring.
        label: what reports call the loss.
        cost: of a training step, in forward passes; a rough number for estimates.
    """

    name: str
    loss: LossFn
    task: Task
    description: str
    label: str
    cost: int = STEP_PASSES

    @property
    def is_metric(self) -> bool:
        """Whether its loss is also the one that is evaluated; that of a classifier is plain cross-entropy."""
        return self.task == "denoising" or self.name == "classify"


def _wrap(name: str, value: object) -> Objective:
    """A plain function of the user's is taken to be for classification."""
    entry = registered_entry(value)
    if isinstance(entry, Objective):
        return replace(entry, name=name)
    if not callable(value) or isinstance(value, type):
        raise ConfigError(
            f"'{short_name(name)}' is no function; an objective is a function (net, batch) -> loss", key=name
        )
    description = (value.__doc__ or "").partition("\n")[0]
    return Objective(name, value, "classification", description, short_name(name))


objectives: Registry[Objective] = Registry("objective", "inklab.training.objectives", wrap=_wrap)
"""Every objective by name."""


def objective(
    name: str, *, task: Task, label: str = "", cost: int = STEP_PASSES
) -> Callable[[LossFn], LossFn]:
    """Register `(net, batch) -> scalar loss` as an objective. It must be a pure function of torch operations.

    The arguments are the attributes of `Objective`; the label is the name if left out. A cost of 3 is one
    forward pass and two for the gradient of the weights; a loss that calls the network more often costs more.
    """

    def register(loss: LossFn) -> LossFn:
        description = (loss.__doc__ or "").partition("\n")[0]
        entry = Objective(name, loss, task, description, label or name, cost)
        return objectives.add_function(name, entry, loss)

    return register


@objective("classify", task="classification", label="cross-entropy")
def classify(net: Forward, batch: Batch) -> "Tensor":
    """Cross-entropy of the true labels, in nats, averaged over the batch."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(net(batch.inputs), batch.labels)


@objective(
    "classify-adversarial",
    task="classification",
    label="cross-entropy, half of it on adversarially perturbed images",
    cost=7,
)
def classify_adversarial(net: Forward, batch: Batch) -> "Tensor":
    """Cross-entropy in nats, half of it on images each of whose pixels was moved by 0.1 to increase the loss.

    Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples" (2015), section 6: the
    sign of the gradient of the loss gives the direction of each pixel. A step costs about twice that of
    `classify`: three forward and two backward passes.
    """
    import torch
    from torch.nn.functional import cross_entropy

    def loss(images: "Tensor") -> "Tensor":
        return cross_entropy(net(images), batch.labels)

    direction = torch.func.grad(loss)(batch.inputs).detach().sign()
    perturbed = (batch.inputs + ADVERSARIAL_STEP * direction).clamp(0, 1)
    return (loss(batch.inputs) + loss(perturbed)) / 2


@objective("classify-smoothed", task="classification", label="cross-entropy with labels smoothed by 0.1")
def classify_smoothed(net: Forward, batch: Batch) -> "Tensor":
    """Cross-entropy against labels of which a tenth is spread evenly over all classes, in nats."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(net(batch.inputs), batch.labels, label_smoothing=LABEL_SMOOTHING)


@objective("reconstruct", task="denoising", label="binary cross-entropy against the clean image")
def reconstruct(net: Forward, batch: Batch) -> "Tensor":
    """Binary cross-entropy per pixel against the clean image, in nats; with corrupted inputs: denoising."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(net(batch.inputs), batch.images)

"""Objectives: what a network is trained for, and its loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from inklab.registry import Registry

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8
    from torch import Tensor

Forward = Callable[["Tensor"], "Tensor"]
"""Images `(n, c, h, w)` in [0, 1] to logits in float32."""


class Batch(NamedTuple):
    """One step's images.

    Attributes:
        images: `(n, c, h, w)` the truth, clean. An objective sees floats in [0, 1]; on the way there they are
            bytes.
        labels: `(n,)` integers in [0, k).
        shown: what the network sees: the clean images, or a corrupted copy.
    """

    images: 'Float[Tensor, "..."] | UInt8[Tensor, "..."]'
    labels: 'Int[Tensor, "..."]'
    shown: 'Float[Tensor, "..."] | UInt8[Tensor, "..."]'


@dataclass(frozen=True)
class Objective:
    """A loss, and what its network gives back: "labels" (class logits) or "images" (pixel logits).

    `told` is what reports call the loss. `passes` is what a training step costs, in forward passes; a rough
    number, which estimates use.
    """

    name: str
    loss: Callable[[Forward, Batch], "Tensor"]
    target: Literal["labels", "images"]
    about: str
    told: str
    passes: int = 3

    @property
    def is_scored(self) -> bool:
        """Whether its loss is also the one that is scored: classifiers are scored by plain cross-entropy."""
        return self.target == "images" or self.name == "classify"


objectives: Registry[Objective] = Registry("objective", "inklab.training.objectives")


def objective(
    name: str, *, target: Literal["labels", "images"], told: str = "", passes: int = 3
) -> Callable[[Callable[[Forward, Batch], "Tensor"]], Callable[[Forward, Batch], "Tensor"]]:
    """Register `(net, batch) -> scalar loss`. It must be a pure function of torch operations.

    Args:
        name: what recipes call it.
        target: what its networks give back, "labels" or "images".
        told: what reports call the loss, in a list of what a chapter did; its name if nothing is said.
        passes: forward passes that a training step costs: one forward and two for the gradient of the
            weights, unless the loss goes through the network more often.
    """

    def register(loss: Callable[[Forward, Batch], "Tensor"]) -> Callable[[Forward, Batch], "Tensor"]:
        about = (loss.__doc__ or "").partition("\n")[0]
        objectives.add(name, Objective(name, loss, target, about, told or name, passes))
        return loss

    return register


@objective("classify", target="labels", told="cross-entropy")
def classify(net: Forward, batch: Batch) -> "Tensor":
    """Cross-entropy of the true labels, in nats, averaged over the batch."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(net(batch.shown), batch.labels)


STEP = 0.1  # how far each pixel is moved, image range 0 to 1


@objective(
    "classify-adversarial",
    target="labels",
    told="cross-entropy, half of it on images moved against the network",
    passes=7,
)
def classify_adversarial(net: Forward, batch: Batch) -> "Tensor":
    """Cross-entropy in nats, half of it on images of which each pixel was moved by 0.1 to make it worse.

    Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples" (2015), section 6: the
    sign of the loss's gradient says where to move each pixel. Knows nothing of images but their range. A step
    costs about twice that of `classify`: the network is gone through three times, and back twice.
    """
    import torch
    from torch.nn.functional import cross_entropy

    def loss(images: "Tensor") -> "Tensor":
        return cross_entropy(net(images), batch.labels)

    uphill = torch.func.grad(loss)(batch.shown).detach().sign()
    against = (batch.shown + STEP * uphill).clamp(0, 1)
    return (loss(batch.shown) + loss(against)) / 2


SMOOTHING = 0.1  # Szegedy et al., "Rethinking the Inception architecture" (2016), section 7


@objective("classify-smoothed", target="labels", told="cross-entropy, labels smoothed by a tenth")
def classify_smoothed(net: Forward, batch: Batch) -> "Tensor":
    """Cross-entropy against labels of which a tenth is spread evenly over all classes, in nats."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(net(batch.shown), batch.labels, label_smoothing=SMOOTHING)


@objective("reconstruct", target="images", told="binary cross-entropy against the clean image")
def reconstruct(net: Forward, batch: Batch) -> "Tensor":
    """Binary cross-entropy a pixel, in nats. Shown a corrupted copy, this is denoising: no more changes."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(net(batch.shown), batch.images)

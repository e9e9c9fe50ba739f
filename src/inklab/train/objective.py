"""What a network is trained for: a function from a network and a batch to a loss.

What there is, and what networks of each give, is known without torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from inklab.registry import Registry

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8
    from torch import Tensor

Net = Callable[["Tensor"], "Tensor"]
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
    loss: Callable[[Net, Batch], "Tensor"]
    target: Literal["labels", "images"]
    about: str
    told: str
    passes: int = 3

    @property
    def is_scored(self) -> bool:
        """Whether its loss is also the one that is scored: classifiers are scored by plain cross-entropy."""
        return self.target == "images" or self.name == "classify"


objectives: Registry[Objective] = Registry("objective", "inklab.train.objectives")


def objective(
    name: str, *, target: Literal["labels", "images"], told: str = "", passes: int = 3
) -> Callable[[Callable[[Net, Batch], "Tensor"]], Callable[[Net, Batch], "Tensor"]]:
    """Register `(net, batch) -> scalar loss`. It must be a pure function of torch operations.

    Args:
        name: what recipes call it.
        target: what its networks give back, "labels" or "images".
        told: what reports call the loss, in a list of what a chapter did; its name if nothing is said.
        passes: forward passes that a training step costs: one forward and two for the gradient of the
            weights, unless the loss goes through the network more often.
    """

    def register(loss: Callable[[Net, Batch], "Tensor"]) -> Callable[[Net, Batch], "Tensor"]:
        about = (loss.__doc__ or "").partition("\n")[0]
        objectives.add(name, Objective(name, loss, target, about, told or name, passes))
        return loss

    return register

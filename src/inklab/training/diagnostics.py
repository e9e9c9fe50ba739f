"""Verdicts: what measurements on a trained network mean, and what to do about it.

A rule reads; it never touches the network, so a watched training ends in the same bits as an unwatched one.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inklab.networks.layers import NormalizedModel


@dataclass(frozen=True)
class Diagnosis:
    """A finding that a person can act on.

    Attributes:
        name: what it is called in results, such as `inputs-scaled-twice`.
        finding: what was seen, in a sentence with its numbers.
        advice: what to do.
        evidence: the numbers by name.
    """

    name: str
    finding: str
    advice: str
    evidence: dict[str, float]

    def to_json(self) -> dict[str, object]:
        """As it stands in an outcome."""
        return asdict(self)


@dataclass(frozen=True)
class ForwardTrace:
    """What rules look at: a trained classifier on a few training images.

    Attributes:
        reaching: what reaches the network after scaling.
        images: the same images in [0, 1].
        labels: `(n,)` true classes.
        logits: `(n, k)`.
    """

    reaching: Float[Tensor, "n c h w"]
    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    logits: Float[Tensor, "n k"]


def trace_forward(
    net: NormalizedModel, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]
) -> ForwardTrace:
    """Let a trained network look at some images."""
    with torch.inference_mode():
        return ForwardTrace(net.scaling(images), images, labels, net(images).float())


MIN_INPUT_SPREAD = (
    0.02  # spread of what reaches the net over the images' own; a second division by 255 gives 0.004
)
MIN_UNINFORMED_LOSS = (
    0.95  # of the labels' entropy: after ten epochs MNIST scaled twice has 0.98, scaled once 0.04
)
MAX_CLASS_SHARE = 0.5  # share of images that get the commonest prediction; MNIST's commonest digit has 0.11


def inputs_scaled_twice(seen: ForwardTrace) -> Diagnosis | None:
    """Inputs with next to no spread, a loss that knows only the labels' frequencies, one class for most.

    The three together: a well-trained net with an unusual scaling has a low loss, an untrained one with sound
    inputs has spread. The most likely cause of the source's 11.35 %.
    """
    spread = seen.images.std()
    if not spread > 0:  # blank images: nothing can be said about their scaling
        return None
    ratio = float(seen.reaching.std() / spread)
    shares = torch.bincount(seen.labels, minlength=seen.logits.shape[1]).double() / len(seen.labels)
    entropy = float(-(shares[shares > 0] * shares[shares > 0].log()).sum())
    loss = float(torch.nn.functional.cross_entropy(seen.logits, seen.labels))
    most = float(torch.bincount(seen.logits.argmax(1)).max() / len(seen.labels))
    if ratio > MIN_INPUT_SPREAD or loss < MIN_UNINFORMED_LOSS * entropy or most < MAX_CLASS_SHARE:
        return None
    return Diagnosis(
        "inputs-scaled-twice",
        f"the inputs' spread is {ratio:.2g} of what the source yields, the loss of {loss:.3f} is hardly "
        f"below that of guessing by the labels' frequencies ({entropy:.3f}), and {most:.0%} of the images "
        "get one and the same class",
        "images are divided by 255 once, by the source; remove the second scaling (in a study: scaling)",
        {"spread_ratio": ratio, "loss": loss, "label_entropy": entropy, "largest_class_share": most},
    )


RULES: tuple[Callable[[ForwardTrace], Diagnosis | None], ...] = (inputs_scaled_twice,)


def diagnose(seen: ForwardTrace) -> list[Diagnosis]:
    """What every rule says that has something to say."""
    return [verdict for rule in RULES if (verdict := rule(seen)) is not None]

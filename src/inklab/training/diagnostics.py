"""Diagnoses: what measurements on a trained network point to, and what to do about it.

A rule only reads. A diagnosed training ends in the same bits as any other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inklab.networks.layers import NormalizedModel
from inklab.records.outcomes import Diagnosis

MIN_INPUT_SPREAD = 0.02
"""Least standard deviation of normalized inputs over that of the images; a second division by 255: 0.004."""

MIN_UNINFORMED_LOSS = 0.95
"""Of the labels' entropy: after ten epochs MNIST divided twice has 0.98, divided once 0.04."""

MAX_CLASS_SHARE = 0.5
"""Of images predicted as one class: with the digits of MNIST, 0.11 are right."""


@dataclass(frozen=True)
class ForwardTrace:
    """What rules look at: a trained classifier on some training images.

    Attributes:
        normalized: the images after normalization, which the network gets.
        images: the same images in [0, 1].
        labels: `(n,)` true classes.
        logits: `(n, k)`.
    """

    normalized: Float[Tensor, "n c h w"]
    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    logits: Float[Tensor, "n k"]


def trace_forward(
    net: NormalizedModel, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]
) -> ForwardTrace:
    """Run a trained network on some images."""
    with torch.inference_mode():
        return ForwardTrace(net.normalize(images), images, labels, net(images).float())


def diagnose(trace: ForwardTrace) -> tuple[Diagnosis, ...]:
    """The diagnoses of all rules that apply."""
    return tuple(diagnosis for rule in RULES if (diagnosis := rule(trace)) is not None)


def inputs_scaled_twice(trace: ForwardTrace) -> Diagnosis | None:
    """Inputs with almost no spread, a loss that reflects only class frequencies, one class for most images.

    All three together: a trained network with an unusual normalization has a low loss, an untrained one with
    correct inputs has spread. The most likely cause of the student report's 11.35%.
    """
    spread = trace.images.std()
    if not spread > 0:  # blank images say nothing about their scaling
        return None
    ratio = float(trace.normalized.std() / spread)
    shares = torch.bincount(trace.labels, minlength=trace.logits.shape[1]).double() / len(trace.labels)
    entropy = float(-(shares[shares > 0] * shares[shares > 0].log()).sum())
    loss = float(torch.nn.functional.cross_entropy(trace.logits, trace.labels))
    top_share = float(torch.bincount(trace.logits.argmax(1)).max() / len(trace.labels))
    if ratio > MIN_INPUT_SPREAD or loss < MIN_UNINFORMED_LOSS * entropy or top_share < MAX_CLASS_SHARE:
        return None
    return Diagnosis(
        name="inputs-scaled-twice",
        message=f"the standard deviation of the inputs is {ratio:.2g} times that of the images, the loss of "
        f"{loss:.3f} is hardly below that of guessing by class frequencies ({entropy:.3f}), and "
        f"{top_share:.0%} of the images are predicted as one class",
        advice="images are already divided by 255 when they are loaded; remove the second scaling "
        "(in a study: normalize)",
        evidence={
            "spread_ratio": ratio, "loss": loss, "label_entropy": entropy, "largest_class_share": top_share,
        },
    )  # fmt: skip


RULES: tuple[Callable[[ForwardTrace], Diagnosis | None], ...] = (inputs_scaled_twice,)
"""Every rule. A new one is a function here."""

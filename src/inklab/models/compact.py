"""Small convolutional networks that are fast to train."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from inklab.errors import ModelMismatch
from inklab.models.model import Shape, model

if TYPE_CHECKING:
    from torch import nn


@model("compact")
def compact(
    shape: Shape,
    classes: int,
    *,
    channels: Sequence[int] = (16, 32, 64),
    first: int = 5,
    dropout: float = 0.0,
) -> "nn.Module":
    """A small convolutional network that pools early: all convolutions, then one dense layer.

    Args:
        shape: channels, height, width.
        classes: number of logits.
        channels: filters of each convolution (no padding); the first two are followed by max-pooling by 2.
        first: side of the first convolution's kernels; the others are 3x3.
        dropout: share of the last features that are silenced in training; in [0, 1).

    Returns:
        `(n, c, h, w) -> (n, classes)`. The last feature maps are reduced to their maxima. Weights are He
        normal, the output layer's Glorot uniform, biases zero.

    Raises:
        ModelMismatch: the images are too small for it.

    Example:
        >>> net = compact((1, 28, 28), 10)
        >>> sum(p.numel() for p in net.parameters())
        24202
    """
    from collections import OrderedDict

    from torch import nn

    from inklab.models.parts.dropout import Dropout
    from inklab.models.parts.init import he
    from inklab.models.parts.pool import LargestOfMap, MaxPool

    layers: list[nn.Module] = []
    sides = list(shape[1:])
    for number, (before, after) in enumerate(zip([shape[0], *channels], channels, strict=False)):
        kernel = 3 if number else first
        layers.append(nn.Conv2d(before, after, kernel))
        sides = [side - kernel + 1 for side in sides]
        if number < 2:
            # Before the ReLU: maximum and ReLU commute, so the same function is a quarter of the work.
            layers.append(MaxPool(2))
            sides = [side // 2 for side in sides]
        layers.append(nn.ReLU())
        if min(sides) < 1:
            raise ModelMismatch(
                f"images of {shape[1]}x{shape[2]} pixels are too small for {len(channels)} convolutions, the "
                f"first of {first}x{first}, and two poolings by 2; shorten channels or take a smaller first"
            )
    parts = OrderedDict(features=nn.Sequential(*layers), largest=LargestOfMap())
    if dropout:
        parts["dropout"] = Dropout(dropout)
    parts["output"] = nn.Linear(channels[-1], classes)
    return he(nn.Sequential(parts))

"""Small convolutional networks that are fast to train."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from inklab.errors import ModelMismatchError
from inklab.networks.network import Shape, model

if TYPE_CHECKING:
    from torch import nn


@model("compact")
def compact(
    shape: Shape,
    classes: int,
    *,
    channels: Sequence[int] = (32, 64, 128),
    first: int = 6,
    pool: int = 2,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> "nn.Module":
    """A small convolutional network that looks at every second place: convolutions, then one dense layer.

    Args:
        shape: channels, height, width.
        classes: number of logits.
        channels: filters of each convolution (no padding), two or more. The first goes over every second
            place, which costs a quarter of going over all and pooling.
        first: side of the first convolution's kernels; the others are 3x3.
        pool: the convolution after which maps are max-pooled by 2: 2 is the second.
        batch_norm: whether each convolution is followed by a batch normalisation (Ioffe and Szegedy 2015) in
            place of a bias. A step takes a sixth longer.
        dropout: share of the last features that are silenced in training; in [0, 1).

    Returns:
        `(n, c, h, w) -> (n, classes)`. The last feature maps are reduced to their maxima. Weights are He
        normal, the output layer's Glorot uniform, biases zero.

    Raises:
        ModelMismatchError: the images are too small for it, or `pool` is no convolution after the first.

    Example:
        >>> net = compact((1, 28, 28), 10)
        >>> sum(p.numel() for p in net.parameters())
        94826
    """
    from collections import OrderedDict

    from torch import nn

    from inklab.networks.layers import Dropout, LargestOfMap, MaxPool, he

    if not 2 <= pool <= len(channels):
        raise ModelMismatchError(
            f"'compact' pools after one of its convolutions but the first, not after number {pool} of "
            f"{len(channels)}; pool is at least 2, and channels has at least as many"
        )

    def convolution(before: int, after: int, side: int, stride: int = 1) -> list[nn.Module]:
        conv = nn.Conv2d(before, after, side, stride, bias=not batch_norm)
        return [conv, nn.BatchNorm2d(after), nn.ReLU()] if batch_norm else [conv, nn.ReLU()]

    layers = convolution(shape[0], channels[0], first, stride=2)
    sides = [(side - first) // 2 + 1 for side in shape[1:]]
    for number, (before, after) in enumerate(zip(channels, channels[1:], strict=False), start=2):
        layers += convolution(before, after, 3)
        sides = [side - 2 for side in sides]
        if number == pool:
            # Before the ReLU: maximum and ReLU commute, so the same function is a quarter of the work.
            layers.insert(-1, MaxPool(2))
            sides = [side // 2 for side in sides]
    if min(sides) < 1:
        raise ModelMismatchError(
            f"images of {shape[1]}x{shape[2]} pixels are too small for {len(channels)} convolutions, the "
            f"first of {first}x{first}, and pooling by 2; shorten channels or take a smaller first"
        )
    parts = OrderedDict(features=nn.Sequential(*layers), largest=LargestOfMap())
    if dropout:
        parts["dropout"] = Dropout(dropout)
    parts["output"] = nn.Linear(channels[-1], classes)
    return he(nn.Sequential(parts))

"""Small convolutional networks that are fast to train."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from inklab.errors import ModelMismatchError
from inklab.networks.network import Shape, network

if TYPE_CHECKING:
    from torch import nn


@network("compact")
def compact(
    shape: Shape,
    classes: int,
    *,
    channels: Sequence[int] = (32, 64, 128),
    stem_kernel: int = 6,
    pool_after: int = 2,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> "nn.Module":
    """Strided first convolution, early pooling, global max-pooling, one dense layer.

    Args:
        shape: channels, height, width.
        classes: number of logits.
        channels: filters of each convolution (no padding), two or more. The first has stride 2, which costs a
            quarter of stride 1 and pooling.
        stem_kernel: side of the first convolution's kernel; the others are 3x3.
        pool_after: the convolution after which maps are max-pooled by 2; 2 is the second.
        batch_norm: batch normalization (Ioffe and Szegedy 2015) after each convolution, in place of its bias.
            A step takes a sixth longer.
        dropout: share of the last features set to zero in training; in [0, 1).

    Returns:
        `(n, c, h, w) -> (n, classes)`. Weights are He normal, the output layer's Glorot uniform, biases zero.

    Raises:
        ModelMismatchError: the images are too small for it, or `pool_after` is not one of its later
            convolutions.

    Example:
        >>> net = compact((1, 28, 28), 10)
        >>> sum(p.numel() for p in net.parameters())
        94826
    """
    from collections import OrderedDict

    from torch import nn

    from inklab.networks.layers import Dropout, GlobalMaxPool, MaxPool, he

    if not 2 <= pool_after <= len(channels):
        raise ModelMismatchError(
            f"pool_after of 'compact' must be in 2 to {len(channels)}, its number of convolutions, but is "
            f"{pool_after}"
        )

    def convolution(before: int, after: int, side: int, stride: int = 1) -> list[nn.Module]:
        conv = nn.Conv2d(before, after, side, stride, bias=not batch_norm)
        return [conv, nn.BatchNorm2d(after), nn.ReLU()] if batch_norm else [conv, nn.ReLU()]

    layers = convolution(shape[0], channels[0], stem_kernel, stride=2)
    sides = [(side - stem_kernel) // 2 + 1 for side in shape[1:]]
    for number, (before, after) in enumerate(pairwise(channels), start=2):
        layers += convolution(before, after, 3)
        sides = [side - 2 for side in sides]
        if number == pool_after:
            # Before the ReLU: maximum and ReLU commute, so it is the same function for a quarter of the work.
            layers.insert(-1, MaxPool(2))
            sides = [side // 2 for side in sides]
    if min(sides) < 1:
        raise ModelMismatchError(
            f"images of {shape[1]}x{shape[2]} pixels are too small for {len(channels)} convolutions, the "
            f"first of {stem_kernel}x{stem_kernel}, and pooling by 2; use fewer channels or a smaller "
            "stem_kernel"
        )
    parts = OrderedDict(features=nn.Sequential(*layers), global_pool=GlobalMaxPool())
    if dropout:
        parts["dropout"] = Dropout(dropout)
    parts["output"] = nn.Linear(channels[-1], classes)
    return he(nn.Sequential(parts))

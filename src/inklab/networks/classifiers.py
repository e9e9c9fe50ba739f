"""Classifiers: networks from images to one logit per class."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from inklab.errors import ModelMismatchError
from inklab.networks.network import network
from inklab.records.record import PositiveCount, Shape

if TYPE_CHECKING:
    from torch import nn


@network("mlp")
def mlp(
    shape: Shape, classes: int, *, hidden: Sequence[PositiveCount] = (64, 64), dropout: float = 0.0
) -> "nn.Module":
    """Dense layers with ReLU, one logit per class.

    Args:
        shape: channels, height, width; every pixel is one input.
        classes: number of logits.
        hidden: units of each hidden layer.
        dropout: share of hidden units set to zero in training, after each hidden layer; in [0, 1).

    Returns:
        `(n, c, h, w) -> (n, classes)`; weights Glorot uniform and biases zero, as Keras does.

    Example:
        >>> net = mlp((1, 28, 28), 10, hidden=(64, 64))
        >>> sum(p.numel() for p in net.parameters())
        55050
    """
    from torch import nn

    from inklab.networks.layers import Dropout, glorot

    widths = [math.prod(shape), *hidden]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
        if dropout:
            layers.append(Dropout(dropout))
    parts = OrderedDict(
        flatten=nn.Flatten(), hidden=nn.Sequential(*layers), output=nn.Linear(widths[-1], classes)
    )
    return glorot(nn.Sequential(parts))


@network("cnn")
def cnn(
    shape: Shape,
    classes: int,
    *,
    channels: Sequence[PositiveCount] = (32, 64),
    pool: int = 3,
    dropout: float = 0.5,
    hidden: PositiveCount = 300,
) -> "nn.Module":
    """3x3 convolutions, one max-pooling, dropout, one dense layer.

    Args:
        shape: channels, height, width.
        classes: number of logits.
        channels: filters of each 3x3 convolution (no padding).
        pool: side and stride of the max-pooling after the last convolution.
        dropout: share of pooled features set to zero in training; in [0, 1).
        hidden: ReLU units of the dense layer.

    Returns:
        `(n, c, h, w) -> (n, classes)`; weights Glorot uniform and biases zero, as Keras does.

    Raises:
        ModelMismatchError: the images are too small for it.

    Example:
        >>> net = cnn((1, 28, 28), 10)
        >>> sum(p.numel() for p in net.parameters())
        1250926
    """
    from torch import nn

    from inklab.networks.layers import Dropout, Flatten, MaxPool, glorot

    sides = [(length - 2 * len(channels)) // pool for length in shape[1:]]
    if min(sides) < 1:
        raise ModelMismatchError(
            f"images of {shape[1]}x{shape[2]} pixels are too small for {len(channels)} convolutions and "
            f"pooling by {pool}; use fewer channels or a smaller pool"
        )
    layers: list[nn.Module] = []
    for before, after in pairwise([shape[0], *channels]):
        layers += [nn.Conv2d(before, after, 3), nn.ReLU()]
    # Pooling before the last ReLU: maximum and ReLU commute, so it is the same function for a ninth of the
    # work.
    layers.insert(-1, MaxPool(pool))
    dense = nn.Sequential(nn.Linear(channels[-1] * sides[0] * sides[1], hidden), nn.ReLU())
    parts = OrderedDict(
        features=nn.Sequential(*layers),
        flatten=Flatten(),
        dropout=Dropout(dropout),
        hidden=dense,
        output=nn.Linear(hidden, classes),
    )
    return glorot(nn.Sequential(parts))


@network("compact")
def compact(
    shape: Shape,
    classes: int,
    *,
    channels: Sequence[PositiveCount] = (32, 64, 128),
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

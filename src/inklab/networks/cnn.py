"""Convolutional networks."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from inklab.errors import ModelMismatchError
from inklab.networks.network import Shape, network

if TYPE_CHECKING:
    from torch import nn


@network("cnn")
def cnn(
    shape: Shape,
    classes: int,
    *,
    channels: Sequence[int] = (32, 64),
    pool: int = 3,
    dropout: float = 0.5,
    hidden: int = 300,
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
    from collections import OrderedDict

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

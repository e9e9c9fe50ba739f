"""Dense networks."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from inklab.networks.network import Shape, network

if TYPE_CHECKING:
    from torch import nn


@network("mlp")
def mlp(shape: Shape, classes: int, *, hidden: Sequence[int] = (64, 64), dropout: float = 0.0) -> "nn.Module":
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
    from collections import OrderedDict

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

"""Dense autoencoders: trained from corrupted to clean images, they are denoisers."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from inklab.networks.network import Shape, network

if TYPE_CHECKING:
    from torch import nn


@network("autoencoder", task="denoising")
def autoencoder(shape: Shape, classes: int, *, hidden: Sequence[int] = (128,), code: int = 96) -> "nn.Module":
    """Dense and symmetric; `net.encoder` and `net.decoder` can be used on their own.

    Args:
        shape: channels, height, width.
        classes: not used; every network is built with the same arguments.
        hidden: ReLU units from the image to the code; the decoder has them in reverse.
        code: ReLU units in the middle.

    Returns:
        `(n, c, h, w) -> (n, c, h, w)` logits of pixel values; a sigmoid turns them into an image.
        `encoder: (n, c, h, w) -> (n, code)`, all >= 0; `decoder: (n, code) -> (n, c, h, w)` logits.

    Example:
        >>> net = autoencoder((1, 28, 28), 10)
        >>> sum(p.numel() for p in net.parameters())
        226416
    """
    from collections import OrderedDict

    from torch import nn

    from inklab.networks.layers import glorot

    pixels = math.prod(shape)
    down, up = [pixels, *hidden, code], [code, *reversed(hidden)]
    encoder: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(down):
        encoder += [nn.Linear(before, after), nn.ReLU()]
    decoder: list[nn.Module] = []
    for before, after in pairwise(up):
        decoder += [nn.Linear(before, after), nn.ReLU()]
    decoder += [nn.Linear(up[-1], pixels), nn.Unflatten(1, shape)]
    return glorot(
        nn.Sequential(OrderedDict(encoder=nn.Sequential(*encoder), decoder=nn.Sequential(*decoder)))
    )

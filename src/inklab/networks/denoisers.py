"""Networks from images to images, which are denoisers when they are trained from corrupted to clean ones."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from inklab.errors import ModelMismatchError
from inklab.networks.network import network
from inklab.records.record import Shape

if TYPE_CHECKING:
    from torch import nn

MAX_CONVOLUTIONS = 16
"""At each scale, each way: a damaged model.json may name a billion, and each is an object."""


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
    from torch import nn

    from inklab.networks.layers import glorot

    def dense(*widths: int) -> list[nn.Module]:
        pairs = pairwise(widths)
        return [layer for pair in pairs for layer in (nn.Linear(*pair), nn.ReLU())]

    pixels = math.prod(shape)
    encoder = nn.Sequential(nn.Flatten(), *dense(pixels, *hidden, code))
    up = [code, *reversed(hidden)]
    decoder = nn.Sequential(*dense(*up), nn.Linear(up[-1], pixels), nn.Unflatten(1, shape))
    return glorot(nn.Sequential(OrderedDict(encoder=encoder, decoder=decoder)))


@network("unet", task="denoising")
def unet(
    shape: Shape,
    classes: int,
    *,
    channels: Sequence[int] = (64, 128),
    space_to_depth: int = 2,
    depth: int = 2,
) -> "nn.Module":
    """Image to image: a small U-Net with additive skip connections.

    Ronneberger, Fischer and Brox (2015), smaller and padded. Small squares of pixels become channels first
    and pixels again last (Shi et al. 2016; Zhang et al. 2018 do so to denoise), which leaves a quarter of the
    positions. Each pixel v comes with 4v(1 - v), how gray it is.

    Args:
        shape: channels, height, width; sides that are not divisible are padded inside.
        classes: not used; every network is built with the same arguments.
        channels: filters at each scale, the finest first; each further scale has half the side.
        space_to_depth: side of the pixel squares that become channels; 1 changes nothing.
        depth: 3x3 convolutions at each scale, on the way down and on the way up.

    Returns:
        `(n, c, h, w) -> (n, c, h, w)` logits of pixel values; a sigmoid turns them into an image.

    Raises:
        ModelMismatchError: the images are too small for it, or an argument is out of range.

    Example:
        >>> net = unet((1, 28, 28), 10, channels=(8, 16))
        >>> sum(p.numel() for p in net.parameters())
        5996
    """
    if space_to_depth < 1 or not 1 <= depth <= MAX_CONVOLUTIONS:
        raise ModelMismatchError(
            f"space_to_depth must be at least 1 and depth in 1 to {MAX_CONVOLUTIONS}, but they are "
            f"{space_to_depth} and {depth}"
        )
    if min(shape[1:]) < space_to_depth * 2 ** (len(channels) - 1):
        raise ModelMismatchError(
            f"images of {shape[1]}x{shape[2]} pixels are too small for {len(channels)} scales, "
            f"with space_to_depth = {space_to_depth}; use fewer channels or a smaller space_to_depth"
        )
    from inklab.networks.layers import UNet, he

    return he(UNet(shape, tuple(channels), space_to_depth, depth))

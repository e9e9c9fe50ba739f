"""Networks from images to images, which are denoisers when they are trained from corrupted to clean ones."""

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

MAX_CONVOLUTIONS = 16
"""At each scale, each way: a damaged model.json may name a billion, and each is an object."""


@network("autoencoder", task="denoising")
def autoencoder(
    shape: Shape, classes: int, *, hidden: Sequence[PositiveCount] = (128,), code: PositiveCount = 96
) -> "nn.Module":
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
    channels: Sequence[PositiveCount] = (64, 128),
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
    _check_scales(shape, channels, space_to_depth, depth)
    from inklab.networks.layers import UNet, he

    return he(UNet(shape, tuple(channels), space_to_depth, depth))


@network("conv-autoencoder", task="denoising")
def conv_autoencoder(
    shape: Shape,
    classes: int,
    *,
    channels: Sequence[PositiveCount] = (32, 64),
    code: PositiveCount = 32,
    noise: float = 0.1,
    depth: int = 2,
) -> "nn.Module":
    """Convolutions to a short code and back; its decoder can draw new images.

    Codes have a root mean square of 1, and get normal noise in training, so the decoder maps a whole region
    around each code to similar images. It is a variational autoencoder whose codes all have the same
    variance: the length of a code and the noise bound how much it can say of an image, in place of a term of
    the loss. Squares of 2 x 2 pixels become channels first and pixels again last, as in `unet`.

    Args:
        shape: channels, height, width; sides that are not divisible are padded inside.
        classes: not used; every network is built with the same arguments.
        channels: filters at each scale, the finest first; each further scale has half the side.
        code: units of a code.
        noise: standard deviation of the noise of each unit in training, at least 0.
        depth: 3x3 convolutions at each scale, on the way down and on the way up.

    Returns:
        `(n, c, h, w) -> (n, c, h, w)` logits of pixel values; a sigmoid turns them into an image.
        `encoder: (n, c, h, w) -> (n, code)`; `decoder: (n, code) -> (n, c, h, w)` logits.

    Raises:
        ModelMismatchError: the images are too small for it, or an argument is out of range.

    Example:
        >>> net = conv_autoencoder((1, 28, 28), 10, channels=(8, 16), code=12)
        >>> sum(p.numel() for p in net.parameters())
        34720
    """
    _check_scales(shape, channels, 2, depth)
    from torch import nn

    from inklab.networks.layers import CodeNoise, Crop, Flatten, Unflatten, UnitCode, he, scale_padding

    def convolutions(before: int, after: int, stride: int = 1) -> list[nn.Module]:
        first = nn.Conv2d(before, after, 3, stride, padding=1)
        more = (nn.Conv2d(after, after, 3, padding=1) for _ in range(depth - 1))
        return [layer for convolution in (first, *more) for layer in (convolution, nn.ReLU())]

    coarsest = 2 ** len(channels)
    left, right, top, bottom = padding = scale_padding(shape, coarsest)
    height, width = (shape[1] + top + bottom) // coarsest, (shape[2] + left + right) // coarsest
    features = channels[-1] * height * width
    down = [layer for pair in pairwise(channels) for layer in convolutions(*pair, stride=2)]
    encoder = nn.Sequential(
        nn.ZeroPad2d(padding), nn.PixelUnshuffle(2), *convolutions(4 * shape[0], channels[0]), *down,
        Flatten(), nn.Linear(features, code), UnitCode(), CodeNoise(noise),
    )  # fmt: skip
    up: list[nn.Module] = []
    for fine, coarse in [*pairwise(channels)][::-1]:
        up += [*convolutions(coarse, coarse), nn.Conv2d(coarse, 4 * fine, 3, padding=1), nn.PixelShuffle(2)]
        up += [nn.ReLU()]
    decoder = nn.Sequential(
        UnitCode(), nn.Linear(code, features), nn.ReLU(), Unflatten(channels[-1], height, width), *up,
        *convolutions(channels[0], channels[0]), nn.Conv2d(channels[0], 4 * shape[0], 3, padding=1),
        nn.PixelShuffle(2), Crop(left, top, shape[1:]),
    )  # fmt: skip
    return he(nn.Sequential(OrderedDict(encoder=encoder, decoder=decoder)))


def _check_scales(shape: Shape, channels: Sequence[int], space_to_depth: int, depth: int) -> None:
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

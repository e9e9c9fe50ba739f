"""Convolutional networks from image to image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from inklab.errors import ModelMismatchError
from inklab.networks.network import Shape, model

if TYPE_CHECKING:
    from torch import nn

MAX_CONVOLUTIONS = 16
"""At each scale, each way: a bundle from outside may ask for a billion, and each is an object."""


@model("unet", target="images")
def unet(
    shape: Shape, classes: int, *, channels: Sequence[int] = (64, 128), fold: int = 2, depth: int = 2
) -> "nn.Module":
    """A U-Net: convolutions at ever coarser scales and back, each scale's way back seeing its way in.

    Ronneberger, Fischer and Brox (2015), smaller and padded. The pixels of small squares are folded into
    channels first and unfolded last (Shi et al. 2016; Zhang et al. 2018 do so to denoise), which leaves a
    quarter of the places to go over. Beside each pixel v it sees 4v(1 - v), how grey it is.

    Args:
        shape: channels, height, width; sides that do not divide are padded inside.
        classes: not used; every model is built with the same arguments.
        channels: filters at each scale, the finest first; each next scale has half the side.
        fold: side of the squares that are folded into channels; 1 folds nothing.
        depth: 3x3 convolutions at each scale, on the way in and on the way back.

    Returns:
        `(n, c, h, w) -> (n, c, h, w)` logits of pixel values; a sigmoid makes an image of them.

    Raises:
        ModelMismatchError: the images are too small for it, or the settings make no network.

    Example:
        >>> net = unet((1, 28, 28), 10, channels=(8, 16))
        >>> sum(p.numel() for p in net.parameters())
        5996
    """
    if fold < 1 or not 1 <= depth <= MAX_CONVOLUTIONS:
        raise ModelMismatchError(
            f"fold must be 1 or more and depth lie in 1 to {MAX_CONVOLUTIONS}, but they are {fold}, {depth}"
        )
    if min(shape[1:]) < fold * 2 ** (len(channels) - 1):
        raise ModelMismatchError(
            f"images of {shape[1]}x{shape[2]} pixels are too small for {len(channels)} scales, "
            f"folded by {fold}; shorten channels or take a smaller fold"
        )
    from inklab.networks.layers import he
    from inklab.networks.unet_layers import UNet

    return he(UNet(shape, tuple(channels), fold, depth))

"""Dense autoencoders: shown a corrupted image and asked for the clean one, they are denoisers."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from inklab.networks.network import Shape, model

if TYPE_CHECKING:
    from torch import nn


@model("autoencoder", target="images")
def autoencoder(shape: Shape, classes: int, *, hidden: Sequence[int] = (128,), code: int = 96) -> "nn.Module":
    """A dense autoencoder, mirrored about its code; `net.encoder` and `net.decoder` work apart.

    Args:
        shape: channels, height, width.
        classes: not used; every model is built with the same arguments.
        hidden: ReLU units from the image towards the code; the decoder has them in reverse.
        code: ReLU units in the middle.

    Returns:
        `(n, c, h, w) -> (n, c, h, w)` logits of pixel values; a sigmoid makes an image of them.
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
    for before, after in zip(down, down[1:], strict=False):
        encoder += [nn.Linear(before, after), nn.ReLU()]
    decoder: list[nn.Module] = []
    for before, after in zip(up, up[1:], strict=False):
        decoder += [nn.Linear(before, after), nn.ReLU()]
    decoder += [nn.Linear(up[-1], pixels), nn.Unflatten(1, shape)]
    return glorot(
        nn.Sequential(OrderedDict(encoder=nn.Sequential(*encoder), decoder=nn.Sequential(*decoder)))
    )

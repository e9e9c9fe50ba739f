"""The inside of a U-Net for images from which noise is to be taken."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from inklab.networks.layers import MaxPool
from inklab.networks.network import Shape


class UNet(nn.Module):
    """Down the scales and up again.

    Args:
        shape: channels, height, width of images.
        channels: filters at each scale, the finest first.
        fold: side of the squares of pixels that are folded into channels.
        depth: 3x3 convolutions at each scale, each way.
    """

    def __init__(self, shape: Shape, channels: Sequence[int], fold: int, depth: int) -> None:
        super().__init__()
        folded = shape[0] * fold**2
        coarsest = fold * 2 ** (len(channels) - 1)
        # As much border as lets each scale have half the side of the one before.
        missing = [-side % coarsest for side in shape[1:]]
        self.border = (
            missing[1] // 2,
            missing[1] - missing[1] // 2,
            missing[0] // 2,
            missing[0] - missing[0] // 2,
        )
        self.size = shape[1:]
        self.fold = nn.PixelUnshuffle(fold)
        self.inward = nn.ModuleList(
            _convolutions(before, after, depth)
            for before, after in zip([2 * folded, *channels], channels, strict=False)
        )
        self.pool = MaxPool(2)
        finer = list(zip(channels[1:], channels, strict=False))[::-1]
        self.narrow = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for coarse, fine in finer)
        self.back = nn.ModuleList(_convolutions(fine, fine, depth) for _, fine in finer)
        self.output = nn.Conv2d(channels[0], folded, 1)
        self.unfold = nn.PixelShuffle(fold)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Scaled images to logits of pixel values."""
        whole = self.fold(functional.pad(images, self.border))
        # Beside each pixel, how grey it is: impulse noise is black or white, so a grey one can be trusted.
        features = torch.cat([whole, 4 * whole * (1 - whole)], 1)
        seen = []
        for number, convolutions in enumerate(self.inward):
            features = convolutions(self.pool(features) if number else features)
            seen.append(features)
        for narrow, convolutions, beside in zip(self.narrow, self.back, reversed(seen[:-1]), strict=True):
            # Added, not set beside it as in the paper: the next convolution then has a third of the work.
            features = convolutions(_doubled(narrow(features)) + beside)
        logits: Tensor = self.unfold(self.output(features))
        left, _, top, _ = self.border
        return logits[..., top : top + self.size[0], left : left + self.size[1]]


def _doubled(features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """Each value as a square of four: `interpolate` to the nearest, with its bits and as fast.

    Not `interpolate`, since that is exported as `Resize`, which no graph may have that is read again
    (`export/guard.py`).
    """
    rows = features.permute(0, 2, 3, 1)  # as channels-last lies in memory
    rows = torch.stack([rows, rows], 3).flatten(2, 3)
    return torch.stack([rows, rows], 2).flatten(1, 2).permute(0, 3, 1, 2)


def _convolutions(before: int, after: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(depth):
        layers += [nn.Conv2d(after if number else before, after, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)

"""The layers of a U-Net that denoises images."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from inklab.networks.layers import MaxPool
from inklab.networks.network import Shape


class UNet(nn.Module):
    """A U-Net from images to logits of pixels.

    Args:
        shape: channels, height, width of images.
        channels: filters at each scale, the finest first.
        space_to_depth: side of the pixel squares that become channels.
        depth: 3x3 convolutions at each scale, on the way down and on the way up.
    """

    def __init__(self, shape: Shape, channels: Sequence[int], space_to_depth: int, depth: int) -> None:
        super().__init__()
        folded = shape[0] * space_to_depth**2
        coarsest = space_to_depth * 2 ** (len(channels) - 1)
        # As much padding as lets each scale have half the side of the one before.
        missing = [-side % coarsest for side in shape[1:]]
        left, top = missing[1] // 2, missing[0] // 2
        self.padding = (left, missing[1] - left, top, missing[0] - top)
        self.size = shape[1:]
        self.space_to_depth = nn.PixelUnshuffle(space_to_depth)
        self.down = nn.ModuleList(
            _convolutions(before, after, depth) for before, after in pairwise([2 * folded, *channels])
        )
        self.pool = MaxPool(2)
        finer = [(coarse, fine) for fine, coarse in pairwise(channels)][::-1]
        self.narrow = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for coarse, fine in finer)
        self.up = nn.ModuleList(_convolutions(fine, fine, depth) for _, fine in finer)
        self.output = nn.Conv2d(channels[0], folded, 1)
        self.depth_to_space = nn.PixelShuffle(space_to_depth)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Normalized images to logits of pixel values."""
        pixels = self.space_to_depth(functional.pad(images, self.padding))
        # How gray each pixel is: impulse noise is black or white, so a gray pixel is not noise.
        features = torch.cat([pixels, 4 * pixels * (1 - pixels)], 1)
        skips = []
        for number, convolutions in enumerate(self.down):
            features = convolutions(self.pool(features) if number else features)
            skips.append(features)
        for narrow, convolutions, skip in zip(self.narrow, self.up, reversed(skips[:-1]), strict=True):
            # Added, not concatenated as in the paper: the next convolution has a third of the work.
            features = convolutions(_upsample(narrow(features)) + skip)
        logits: Tensor = self.depth_to_space(self.output(features))
        left, _, top, _ = self.padding
        return logits[..., top : top + self.size[0], left : left + self.size[1]]


def _upsample(features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """Nearest-neighbor upsampling by 2, with the bits and the speed of `interpolate`.

    `interpolate` would be exported to ONNX as `Resize`, which `export/onnx_policy.py` does not accept.
    """
    rows = features.permute(0, 2, 3, 1)  # the memory layout of channels-last
    rows = torch.stack([rows, rows], 3).flatten(2, 3)
    return torch.stack([rows, rows], 2).flatten(1, 2).permute(0, 3, 1, 2)


def _convolutions(before: int, after: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(depth):
        layers += [nn.Conv2d(after if number else before, after, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)

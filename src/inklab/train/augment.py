"""Augmentation: training images moved a little, so that no two epochs show quite the same ones.

Shifts by whole pixels keep bytes as they are and cost a gather. All else is one interpolation.
"""

import math

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from inklab.seeding import Seed
from inklab.train.recipe import Augmentation

BUMPS = 5
"""Places along each axis whose displacements an elastic deformation draws; between them it is smooth."""


class Shifter:
    """All training images with an empty border, out of which shifted ones are cut.

    Args:
        pixels: all training images.
        most: pixels that an image may be shifted by.
    """

    def __init__(self, pixels: UInt8[Tensor, "n c h w"], most: int) -> None:
        self.places = 2 * most + 1
        self.height, self.width = pixels.shape[2:]
        bordered = functional.pad(pixels, (most,) * 4)
        # Every image at every place, as a view: only what a batch takes is ever copied.
        self.views = bordered.unfold(2, self.height, 1).unfold(3, self.width, 1)

    def cells(self, seed: Seed, epoch: int) -> Int[Tensor, " n"]:
        """Where each image stands in an epoch: a number below `places ** 2`.

        Images begin at random and go on by a stride that visits every place once: few epochs see more
        different pictures so than by drawing anew (K. Jordan, "94% on CIFAR-10 in 3.29 seconds", 2024,
        mirrors images in turns).
        """
        count = self.places**2
        first = torch.randint(count, (len(self.views),), generator=(seed / "shift").generator())
        return (first + epoch * (count // 2 + 1)) % count

    def cut(self, index: Int[Tensor, " b"], cells: Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        """Some images, each at its place."""
        return self.views[index, :, cells // self.places, cells % self.places]


def warped(
    images: Float[Tensor, "n c h w"], spec: Augmentation, rng: torch.Generator
) -> Float[Tensor, "n c h w"]:
    """Turn, scale and bend images, each by its own draws; what comes from outside is black.

    Args:
        images: floats in [0, 1].
        spec: rotation, scale and elastic are used; shift is not.
        rng: where the draws come from.

    Returns:
        A new tensor in [0, 1], interpolated bilinearly.
    """
    count, _, height, width = images.shape
    turn, wider, taller = torch.rand(3, count, generator=rng) * 2 - 1
    angle = turn * math.radians(spec.rotation)
    grow = torch.stack([1 + wider * spec.scale, 1 + taller * spec.scale], 1)[:, :, None]
    # Rows for x and y; the sides' ratio, because a grid's units are half an image's width and height.
    rows = torch.stack(
        [
            torch.stack([angle.cos(), -angle.sin() * (height / width)], 1),
            torch.stack([angle.sin() * (width / height), angle.cos()], 1),
        ],
        1,
    )
    theta = functional.pad(rows / grow, (0, 1))
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    if spec.elastic:
        bumps = torch.randn(count, 2, BUMPS, BUMPS, generator=rng)
        bend = functional.interpolate(bumps, (height, width), mode="bicubic", align_corners=True)
        unit = torch.tensor([2 / width, 2 / height]) * spec.elastic
        grid = grid + bend.permute(0, 2, 3, 1) * unit
    return functional.grid_sample(images, grid, align_corners=False).clamp_(0, 1)

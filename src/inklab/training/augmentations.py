"""Augmentations: how training images are changed: shifts, warps, degradation, functions of the user's own."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from inklab.corruptions.blur import gaussian_blur
from inklab.corruptions.corruption import check_output
from inklab.counters import Draws
from inklab.errors import ConfigError, ModelMismatchError, format_error
from inklab.records.recipe import Augmentation
from inklab.registry import Registry, registered_entry
from inklab.seeding import Seed
from inklab.usercode import short_name

ELASTIC_GRID = 5
"""Points along each axis whose displacement an elastic deformation draws; in between it is smooth."""

SHADE_GRID = 4
"""Points along each axis at which the shade of `degrade` is drawn; in between it is smooth."""

MAX_BLUR = 1.5  # pixels, of `degrade`

AugmentFn = Callable[[Tensor, Draws], Tensor]
"""Images `(n, c, h, w)`, floats in [0, 1], and draws to images of the same shape and range."""


@dataclass(frozen=True)
class AugmentationFunction:
    """A way to change training images besides those that a recipe has built in.

    Attributes:
        name: what recipes call it.
        fn: the function itself, which checks nothing; `__call__` does.
    """

    name: str
    fn: AugmentFn

    def __call__(self, images: Float[Tensor, "n c h w"], seed: Seed) -> Float[Tensor, "n c h w"]:
        """Changed images; the same images and seed give the same.

        What the function draws from a global generator, as transforms of torchvision do, depends on the seed
        as well. `images` may be changed in place.

        Raises:
            ModelMismatchError: the function fails, or returns no such images.
        """
        expected = torch.empty_like(images, device="meta")
        try:
            with seed.as_global():
                output = self.fn(images, seed.draws(device=images.device))
        except Exception as error:  # a user's function may raise anything
            raise ModelMismatchError(
                f"augmentation '{self.name}' fails on images of shape {tuple(images.shape)}: "
                f"{format_error(error)}",
                key=self.name,
            ) from error
        return check_output(f"augmentation '{self.name}'", output, expected).detach()


def _wrap(name: str, value: object) -> AugmentationFunction:
    entry = registered_entry(value)
    if isinstance(entry, AugmentationFunction):
        return replace(entry, name=short_name(name))
    if not callable(value):
        raise ConfigError(
            f"'{short_name(name)}' is of type {type(value).__name__}; an augmentation is a function (images, "
            "draws) -> images",
            key=name,
        )
    return AugmentationFunction(short_name(name), value)


augmentations: Registry[AugmentationFunction] = Registry(
    "augmentation", "inklab.training.augmentations", wrap=_wrap
)
"""Every augmentation that is a function, by name."""


def augmentation(name: str) -> Callable[[AugmentFn], AugmentFn]:
    """Register `(images, draws) -> images` as an augmentation, for recipes to name.

    Images are floats `(n, c, h, w)` in [0, 1], before normalization, and so must be the result.

    Example:
        >>> @augmentation("mirror")
        ... def mirror(images, draws):
        ...     chosen = draws.uniform(len(images), 1, 1, 1) < 0.5
        ...     return torch.where(chosen, images.flip(-1), images)
        >>> augmentations["mirror"](torch.rand(5, 1, 8, 8), Seed(0)).shape
        torch.Size([5, 1, 8, 8])
    """
    return lambda fn: augmentations.add_function(name, AugmentationFunction(name, fn), fn)


class RandomShift:
    """Shifts images by at most `max_shift` whole pixels along both axes; what enters at a border is zero."""

    def __init__(self, pixels: UInt8[Tensor, "n c h w"], max_shift: int) -> None:
        self.side = 2 * max_shift + 1
        height, width = pixels.shape[2:]
        padded = functional.pad(pixels, (max_shift,) * 4)
        # Every image at every offset, as a view: only what a batch takes is ever copied.
        self.views = padded.unfold(2, height, 1).unfold(3, width, 1)

    def offsets(self, seed: Seed, epoch: int) -> Int[Tensor, " n"]:
        """The offset of each image in an epoch: a number below `side ** 2`.

        Images begin at random and continue with a stride that visits every offset once: few epochs see more
        different images than with a new draw each time (K. Jordan, "94% on CIFAR-10 in 3.29 seconds", 2024,
        alternates mirror images).
        """
        count = self.side**2
        first = (seed / "shift").draws(device=self.views.device).integers(0, count, len(self.views))
        return (first + epoch * (count // 2 + 1)) % count

    def cut(self, index: Int[Tensor, " b"], offsets: Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        """Some images, each at its offset."""
        return self.views[index, :, offsets // self.side, offsets % self.side]


def warp(
    images: Float[Tensor, "n c h w"], augmentation: Augmentation, draws: Draws
) -> Float[Tensor, "n c h w"]:
    """Rotate, scale and deform images, each by its own draws, with bilinear interpolation; shift is not used.

    What enters at a border is zero.
    """
    count, _, height, width = images.shape
    rotation, wider, taller = (draws.uniform(count, 3) * 2 - 1).unbind(1)
    angle = rotation * math.radians(augmentation.rotation)
    factors = torch.stack([1 + wider * augmentation.scale, 1 + taller * augmentation.scale], 1)[:, :, None]
    # Rows for x and y; the ratio of the sides, because a grid's units are half an image's width and height.
    rows = torch.stack(
        [
            torch.stack([angle.cos(), -angle.sin() * (height / width)], 1),
            torch.stack([angle.sin() * (width / height), angle.cos()], 1),
        ],
        1,
    )
    theta = functional.pad(rows / factors, (0, 1))
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    if augmentation.elastic:
        coarse = draws.normal(count, 2, ELASTIC_GRID, ELASTIC_GRID)
        smooth = functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
        across, down = smooth.unbind(1)
        moved = [across * (2 / width * augmentation.elastic), down * (2 / height * augmentation.elastic)]
        grid = grid + torch.stack(moved, -1)
    return functional.grid_sample(images, grid, align_corners=False).clamp_(0, 1)


@augmentation("degrade")
def degrade(images: Tensor, draws: Draws) -> Tensor:
    """Outline, blur, gray levels, shade, noise and rectangles, as in bad scans; each image has its own draws.

    A fifth of the images become the rim of their ink. Half are blurred by up to 1.5 pixels and half shaded by
    a smooth random field; gray levels are stretched, and inverted for a fifth; noise has a standard deviation
    of up to 0.2. In half of the images a rectangle is inverted or hidden by one gray level.
    """

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * draws.uniform(len(images), 1, 1, 1)

    def half(values: Tensor) -> Tensor:
        return values * (draws.uniform(len(images), 1, 1, 1) < 0.5)

    n, _, height, width = images.shape
    rim = functional.max_pool2d(images, 3, stride=1, padding=1) - images
    ink = torch.where(draw(0.0, 1.0) < 0.2, rim, images)
    blurred = gaussian_blur(ink, half(draw(0.0, MAX_BLUR)), max_sigma=MAX_BLUR, axes=(-2, -1))
    contrast, sign = draw(0.25, 1.0), torch.where(draw(0.0, 1.0) < 0.2, -1.0, 1.0)
    black = draw(0.0, 1.0) * (1 - contrast) + contrast * (sign < 0)
    field = draws.normal(n, 1, SHADE_GRID, SHADE_GRID)
    shade = functional.interpolate(field, (height, width), mode="bicubic", align_corners=True)
    noise = draws.normal(*images.shape) * draw(0.0, 0.2)
    degraded = (black + sign * contrast * blurred + half(draw(0.0, 0.3)) * shade + noise).clamp_(0, 1)
    row = torch.arange(height, device=images.device).view(-1, 1) / height
    column = torch.arange(width, device=images.device) / width
    top, left, tall, wide = draw(-0.5, 1.0), draw(-0.5, 1.0), half(draw(0.0, 1.0)), draw(0.0, 0.5)
    covered = (row >= top) & (row < top + tall) & (column >= left) & (column < left + wide)
    cover = torch.where(draw(0.0, 1.0) < 0.5, 1 - degraded, draw(0.0, 1.0))
    return torch.where(covered, cover, degraded)

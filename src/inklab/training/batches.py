"""Training data as tensors, and the batches that are shown to networks: drawn, corrupted, augmented."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from inklab.corruptions.corruption import get_corruption
from inklab.networks.network import Shape
from inklab.seeding import Seed
from inklab.training.objectives import Batch
from inklab.training.recipe import Augmentation, CorruptionSpec, Recipe


@dataclass(frozen=True)
class TensorSet:
    """Some images: bytes `(n, c, h, w)` and labels `(n,)`."""

    pixels: UInt8[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]

    def images(self, index: Int[Tensor, "*any"]) -> Float[Tensor, "*any c h w"]:
        """The images at some places, floats in [0, 1]."""
        return to_floats(self.bytes_at(index))

    def bytes_at(self, index: Int[Tensor, "*any"]) -> UInt8[Tensor, "*any c h w"]:
        """The images at some places, as they lie."""
        # Row by row: a sixth of the time of `pixels[index]`, which goes byte by byte.
        rows = self.pixels.flatten(1).index_select(0, index.flatten())
        return rows.reshape(*index.shape, *self.pixels.shape[1:])


@dataclass(frozen=True)
class TrainingData:
    """What a trial is trained, chosen and scored on."""

    train: TensorSet
    validation: TensorSet
    test: TensorSet
    labels: tuple[str, ...]

    @property
    def shape(self) -> Shape:
        """Channels, height, width."""
        channels, height, width = self.train.pixels.shape[1:]
        return channels, height, width


def to_floats(pixels: Tensor) -> Tensor:
    """Bytes as floats in [0, 1]; floats as they are."""
    return pixels if pixels.is_floating_point() else pixels.float() / 255


def to_tensor_set(pixels: UInt8[np.ndarray, "n c h w"], labels: Int[np.ndarray, " n"]) -> TensorSet:
    """Copy arrays onto the device."""
    return TensorSet(torch.from_numpy(np.array(pixels)), torch.from_numpy(np.array(labels, dtype=np.int64)))


BUMPS = 5
"""Places along each axis whose displacements an elastic deformation draws; between them it is smooth."""


class RandomShift:
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


def warp(
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


class BatchLoader:
    """Makes the batches of an epoch.

    Args:
        data: all images.
        recipe: gives batch size, augmentation and corruption.
        seeds: one a member; a member's order, moves and noise come from it alone.
        lifted: whether batches lead with members.
    """

    def __init__(self, data: TrainingData, recipe: Recipe, seeds: Sequence[Seed], *, lifted: bool) -> None:
        self.part, self.recipe, self.seeds, self.lifted = data.train, recipe, seeds, lifted
        self.augmentation = recipe.augmentation or Augmentation()
        shift = self.augmentation.shift
        self.shifter = RandomShift(self.part.pixels, shift) if shift else None

    def epoch(self, epoch: int, taken: int = 0) -> Iterator[Batch]:
        """Every training image once a member, in an order drawn from the stream `order / epoch`.

        Args:
            epoch: from 0.
            taken: batches to leave out, since their steps were taken before.
        """
        count = len(self.part.labels)
        orders = torch.stack(
            [torch.randperm(count, generator=(seed / "order" / epoch).generator()) for seed in self.seeds]
        )
        cells = [self.shifter.cells(seed, epoch) for seed in self.seeds] if self.shifter else []
        for number, index in enumerate(torch.split(orders, self.recipe.batch, dim=1)):
            if number >= taken:
                yield self._batch(index, self._moved(index, cells, epoch, number), epoch, number)

    def _batch(self, index: Int[Tensor, "p b"], pixels: Tensor, epoch: int, number: int) -> Batch:
        labels = self.part.labels[index]
        shown = pixels
        if self.recipe.corruption:
            # Member by member, so that the noise does not depend on who else is trained.
            streams = [seed / "corruption" / epoch / number for seed in self.seeds]
            rows = zip(to_floats(pixels), streams, strict=True)
            shown = torch.stack([corrupt_images(row, self.recipe.corruption, seed) for row, seed in rows])
        return Batch(pixels, labels, shown) if self.lifted else Batch(pixels[0], labels[0], shown[0])

    def _moved(
        self, index: Int[Tensor, "p b"], cells: Sequence[Tensor], epoch: int, number: int
    ) -> Float[Tensor, "p b c h w"] | UInt8[Tensor, "p b c h w"]:
        """Images as the recipe's augmentation moves them: bytes, unless pixels are interpolated."""
        if self.shifter:
            rows = zip(index, cells, strict=True)
            pixels = torch.stack([self.shifter.cut(row, place[row]) for row, place in rows])
        else:
            pixels = self.part.bytes_at(index)
        if not self.augmentation.warps:
            return pixels
        streams = [(seed / "augmentation" / epoch / number).generator() for seed in self.seeds]
        members = zip(to_floats(pixels), streams, strict=True)
        return torch.stack([warp(row, self.augmentation, rng) for row, rng in members])


def corrupt_images(
    images: Float[Tensor, "n c h w"], spec: CorruptionSpec, seed: Seed
) -> Float[Tensor, "n c h w"]:
    """Corrupt images as a recipe says, each at a strength drawn between its bounds.

    Returns:
        A corrupted copy, a function of the arguments alone.
    """
    rng = seed.generator()
    low, high = spec.strength
    corruption = get_corruption(spec.name)
    if low == high:
        return corruption(images, low, rng)
    strengths = low + (high - low) * torch.rand(len(images), generator=rng)
    return corruption(images, strengths, rng)


def scoring_inputs(part: TensorSet, spec: CorruptionSpec | None, seed: Seed) -> Float[Tensor, "n c h w"]:
    """All images of a part as a network is shown them when it is scored: the same noise for all trials."""
    images = part.images(torch.arange(len(part.labels)))
    return images if spec is None else corrupt_images(images, spec, seed)

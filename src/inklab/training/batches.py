"""Training data as tensors, and the batches that networks are trained on: shuffled, augmented, corrupted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from inklab.corruptions.corruption import get_corruption
from inklab.evaluation.scores import to_floats
from inklab.records.components import NormalizeConfig
from inklab.records.recipe import Augmentation, CorruptionConfig, Recipe
from inklab.records.record import Shape
from inklab.seeding import Seed
from inklab.training.accelerators import move
from inklab.training.augmentations import RandomShift, augmentations, warp
from inklab.training.objectives import Batch


@dataclass(frozen=True)
class TensorSet:
    """Some images: bytes `(n, c, h, w)` and labels `(n,)`."""

    pixels: UInt8[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return self.pixels.device

    def to(self, device: torch.device) -> "TensorSet":
        """The same images on a device."""
        return TensorSet(self.pixels.to(device), self.labels.to(device))

    @property
    def all_images(self) -> Float[Tensor, "n c h w"]:
        """Every image, floats in [0, 1]."""
        return self.images(torch.arange(len(self), device=self.device))

    def images(self, index: Int[Tensor, "*any"]) -> Float[Tensor, "*any c h w"]:
        """The images at some indices, floats in [0, 1]."""
        return to_floats(self.pixels_at(index))

    def pixels_at(self, index: Int[Tensor, "*any"]) -> UInt8[Tensor, "*any c h w"]:
        """The images at some indices, as bytes."""
        # Row by row: a sixth of the time of `pixels[index]`, which copies byte by byte.
        rows = self.pixels.flatten(1).index_select(0, index.flatten())
        return rows.reshape(*index.shape, *self.pixels.shape[1:])


@dataclass(frozen=True, eq=False)  # by identity, so that what depends on the data alone is computed once
class TrainingData:
    """The images that a trial is trained and evaluated on."""

    train: TensorSet
    validation: TensorSet
    test: TensorSet
    labels: tuple[str, ...]

    def to(self, device: torch.device) -> "TrainingData":
        """The same images on a device, copied there once; itself if they lie there."""
        return self if self.train.device == device else _copy_to_device(self, device)

    @property
    def shape(self) -> Shape:
        """Channels, height, width."""
        channels, height, width = self.train.pixels.shape[1:]
        return channels, height, width


@lru_cache(maxsize=1)  # of a data set and a device; jobs of one process train on the same ones
def _copy_to_device(data: TrainingData, device: torch.device) -> TrainingData:
    train, validation, test = (part.to(device) for part in (data.train, data.validation, data.test))
    return TrainingData(train, validation, test, data.labels)


def standardization(images: TensorSet) -> NormalizeConfig:
    """The normalization that gives some images mean 0 and standard deviation 1.

    Images of a single value, which have no standard deviation, are only shifted.
    """
    pixels = images.pixels.numpy()
    return NormalizeConfig(mean=float(pixels.mean()) / 255, std=float(pixels.std()) / 255 or 1.0)


def to_tensor_set(pixels: UInt8[np.ndarray, "n c h w"], labels: Int[np.ndarray, " n"]) -> TensorSet:
    """Copy arrays to tensors."""
    return TensorSet(torch.from_numpy(np.array(pixels)), torch.from_numpy(np.array(labels, dtype=np.int64)))


class BatchLoader:
    """Makes the batches of an epoch; stacked ones lead with members.

    The order, augmentation and noise of a member come from its seed alone. The last batch of an epoch is
    smaller if the images do not divide evenly. `merge_single` is for networks that can't be trained on one
    image, as with BatchNorm: a last batch of one is then part of the batch before it.
    """

    def __init__(
        self,
        data: TrainingData,
        recipe: Recipe,
        seeds: Sequence[Seed],
        *,
        stacked: bool,
        merge_single: bool = False,
    ) -> None:
        self.train, self.recipe, self.seeds, self.stacked = data.train, recipe, seeds, stacked
        self.augmentation = recipe.augmentation or Augmentation()
        shift = self.augmentation.shift
        self.shifter = RandomShift(self.train.pixels, shift) if shift else None
        function = self.augmentation.function
        self.function = augmentations.resolve(function) if function else None
        self.batch_sizes = batch_sizes(len(self.train), recipe.batch_size, merge_single=merge_single)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.batch_sizes)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Every training image once for each member, in an order drawn from the stream `order / epoch`.

        Epochs count from 0; the first `skip` batches are left out.
        """
        orders = torch.stack(
            [
                torch.randperm(len(self.train), generator=(seed / "order" / epoch).generator())
                for seed in self.seeds
            ]
        )
        orders = move(orders, self.train.device)  # drawn on the processor, and copied once an epoch
        offsets = [self.shifter.offsets(seed, epoch) for seed in self.seeds] if self.shifter else []
        for number, index in enumerate(torch.split(orders, self.batch_sizes, dim=1)):
            if number >= skip:
                yield self._batch(index, self._augmented(index, offsets, epoch, number), epoch, number)

    def _batch(self, index: Int[Tensor, "p b"], images: Tensor, epoch: int, number: int) -> Batch:
        labels = self.train.labels[index]
        inputs = images
        if self.recipe.corruption:
            # Member by member, so that the noise of one does not depend on the others.
            streams = [seed / "corruption" / epoch / number for seed in self.seeds]
            rows = zip(to_floats(images), streams, strict=True)
            inputs = torch.stack([corrupt_images(row, self.recipe.corruption, seed) for row, seed in rows])
        batch = Batch(images, labels, inputs)
        return batch if self.stacked else Batch(*(part[0] for part in batch))

    def _augmented(
        self, index: Int[Tensor, "p b"], offsets: Sequence[Tensor], epoch: int, number: int
    ) -> Float[Tensor, "p b c h w"] | UInt8[Tensor, "p b c h w"]:
        """Augmented images: bytes, unless pixels are interpolated or a function has changed them."""
        if self.shifter:
            rows = zip(index, offsets, strict=True)
            pixels = torch.stack([self.shifter.cut(row, offset[row]) for row, offset in rows])
        else:
            pixels = self.train.pixels_at(index)
        images = pixels
        if self.augmentation.interpolates:
            paths = [seed / "augmentation" / epoch / number for seed in self.seeds]
            members = zip(to_floats(pixels), paths, strict=True)
            images = torch.stack(
                [warp(row, self.augmentation, path.draws(device=row.device)) for row, path in members]
            )
        if self.function:
            paths = [seed / "augmentation function" / epoch / number for seed in self.seeds]
            floats = zip(to_floats(images), paths, strict=True)
            images = torch.stack([self.function(row, path) for row, path in floats])
        return images


def batch_sizes(n_images: int, batch_size: int, *, merge_single: bool = False) -> list[int]:
    """Images of each batch of an epoch.

    Example:
        >>> batch_sizes(9, 4), batch_sizes(9, 4, merge_single=True)
        ([4, 4, 1], [4, 5])
    """
    n_full, last = divmod(n_images, batch_size)
    sizes = [batch_size] * n_full + [last] * (last > 0)
    if merge_single and last == 1 and n_full and batch_size > 1:
        sizes[-2:] = [batch_size + 1]
    return sizes


def corrupt_images(
    images: Float[Tensor, "n c h w"], corruption: CorruptionConfig, seed: Seed
) -> Float[Tensor, "n c h w"]:
    """A corrupted copy of images, each at a strength drawn between the two bounds."""
    draws = seed.draws(device=images.device)
    low, high = corruption.strength
    corrupt = get_corruption(corruption.name)
    if low == high:
        return corrupt(images, low, draws)
    strengths = low + (high - low) * draws.uniform(len(images))
    return corrupt(images, strengths, draws)


def evaluation_inputs(
    images: TensorSet, corruption: CorruptionConfig | None, seed: Seed
) -> Float[Tensor, "n c h w"]:
    """What a network is given where it is evaluated: the same noise for all trials."""
    return corrupt_images(images.all_images, corruption, seed) if corruption else images.all_images

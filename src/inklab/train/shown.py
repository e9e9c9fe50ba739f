"""What the network is shown: batches in random order, moved and corrupted, from each member's own streams."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from inklab.corrupt.find import find_corruption
from inklab.seeding import Seed
from inklab.train.augment import Shifter, warped
from inklab.train.objective import Batch
from inklab.train.recipe import Augmentation, CorruptionSpec, Recipe
from inklab.train.tensors import Part, TrainingData, as_floats


class BatchMaker:
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
        self.shifter = Shifter(self.part.pixels, shift) if shift else None

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
            rows = zip(as_floats(pixels), streams, strict=True)
            shown = torch.stack([spoilt(row, self.recipe.corruption, seed) for row, seed in rows])
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
        members = zip(as_floats(pixels), streams, strict=True)
        return torch.stack([warped(row, self.augmentation, rng) for row, rng in members])


def spoilt(images: Float[Tensor, "n c h w"], spec: CorruptionSpec, seed: Seed) -> Float[Tensor, "n c h w"]:
    """Corrupt images as a recipe says, each at a strength drawn between its bounds.

    Returns:
        A corrupted copy, a function of the arguments alone.
    """
    rng = seed.generator()
    low, high = spec.strength
    corruption = find_corruption(spec.name)
    if low == high:
        return corruption(images, low, rng)
    strengths = low + (high - low) * torch.rand(len(images), generator=rng)
    return corruption(images, strengths, rng)


def shown_for_scoring(part: Part, spec: CorruptionSpec | None, seed: Seed) -> Float[Tensor, "n c h w"]:
    """All images of a part as a network is shown them when it is scored: the same noise for all trials."""
    images = part.images(torch.arange(len(part.labels)))
    return images if spec is None else spoilt(images, spec, seed)

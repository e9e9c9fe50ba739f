"""Images that a run was trained on, to compare with: the data if it is at hand, else its samples."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from inklab.arrays import Pixels
from inklab.data.dataset import ImageSet
from inklab.seeding import Seed
from inklab.study.store import RunFolder
from inklab.study.view import StoredRun

MOST_TRAINING, MOST_VALIDATION = 10_000, 3000  # images that are looked at; more cost time and change little
BLOCK = 100  # images of one pass while learning
TRAINING, SAMPLES = "training images", "samples"


@dataclass(frozen=True)
class References:
    """Images to compare with.

    Attributes:
        training: some of those that were trained on.
        held_out: some of those that were held out; None if there are the samples only.
        identity: what they depend on, for names of what is computed from them.
    """

    training: UInt8[np.ndarray, "n c h w"]
    held_out: UInt8[np.ndarray, "m c h w"] | None
    identity: list[Any]

    @property
    def source(self) -> str:
        """What they are, for the page."""
        return SAMPLES if self.held_out is None else TRAINING


def in_blocks(pixels: Pixels) -> Iterator[Float32[np.ndarray, "b c h w"]]:
    """Images in [0, 1], some at a time, for a network that learns of many."""
    for start in range(0, len(pixels), BLOCK):
        yield pixels[start : start + BLOCK].astype(np.float32) / np.float32(255)


def samples_of(folder: RunFolder | None) -> Pixels | None:
    """Ten training images of each class, as they lie in a run's folder."""
    found = None if folder is None else StoredRun(folder).samples()
    return None if found is None else found[0]


def references_of(folder: RunFolder | None) -> References | None:
    """A run's images, or None if there are none. Takes a second or two.

    Args:
        folder: the run; None for a lone bundle, which has no images.
    """
    if folder is None:
        return None
    run = StoredRun(folder)
    data = run.plan["data"]
    identity = [data["sha256"], run.plan["seed"], sum(data["counts"]["validation"])]
    parts = run.training_parts()
    if parts is None:
        samples = samples_of(folder)
        enough = samples is not None and len(samples) > 1
        return References(samples, None, [*identity, SAMPLES]) if enough and samples is not None else None
    training, held_out = parts
    seed = Seed(run.plan["seed"]) / "page"
    return References(
        _some(training, MOST_TRAINING, seed / TRAINING),
        _some(held_out if len(held_out) else training, MOST_VALIDATION, seed / "held out"),
        [*identity, TRAINING, MOST_TRAINING, MOST_VALIDATION],
    )


def _some(images: ImageSet, most: int, seed: Seed) -> Pixels:
    """At most so many images, drawn at random, in their order."""
    return images.take(np.sort(seed.rng().permutation(len(images))[:most])).pixels

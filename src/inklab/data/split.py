"""The one fixed split: the test set reports, the validation set chooses."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from inklab.arrays import Labels
from inklab.data.dataset import Dataset, ImageSet
from inklab.errors import SpecError
from inklab.seeding import Seed


@dataclass(frozen=True, eq=False)
class Split:
    """Three sets of images that share none. `validation` may be empty."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet


def split(dataset: Dataset, *, validation: int, seed: int) -> Split:
    """Hold out part of the training images for choosing, in the classes' proportions.

    The same for all replicates and chapters: it depends on the data, `validation` and the root seed alone.

    Args:
        dataset: its test set is passed on untouched.
        validation: number of images held out; 0 trains on all.
        seed: the root seed.

    Returns:
        Training and validation images in the order in which they stood.

    Raises:
        SpecError: `validation` is negative or leaves nothing to train on.

    Example:
        >>> from inklab.data.framing import Framing
        >>> images = ImageSet(np.zeros((10, 1, 28, 28), np.uint8), np.arange(10) % 2)
        >>> blank = Dataset("blank", images, images, ("a", "b"), Framing.plain((1, 28, 28)))
        >>> parts = split(blank, validation=4, seed=0)
        >>> parts.train.counts(2), parts.validation.counts(2)
        ([3, 3], [2, 2])
    """
    standing = len(dataset.train)
    if not 0 <= validation < standing:
        raise SpecError(
            f"data.validation = {validation}, but '{dataset.source}' has {standing} training images; "
            f"0 to {standing - 1} can be held out"
        )
    held = stratified(dataset.train.labels, validation, Seed(seed) / "split")
    kept = np.setdiff1d(np.arange(standing), held)
    return Split(dataset.train.take(kept), dataset.train.take(held), dataset.test)


def without_test(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    """Training and test images out of one set: a sixth of every class becomes the test."""
    held = stratified(images.labels, len(images) // 6, Seed(seed) / "test")
    return images.take(np.setdiff1d(np.arange(len(images)), held)), images.take(held)


def stratified(labels: Labels, take: int, seed: Seed) -> Int64[np.ndarray, " take"]:
    """Choose `take` places at random so that each class gives its share, to within one image.

    Args:
        labels: `(n,)` class numbers.
        take: 0 to n.
        seed: where the choice comes from; each class has a stream of its own.

    Returns:
        The places in rising order.
    """
    chosen = [
        (seed / number).rng().permutation(np.flatnonzero(labels == number))[:share]
        for number, share in enumerate(shares(np.bincount(labels), take))
    ]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))


def shares(counts: Int64[np.ndarray, " k"], take: int) -> Int64[np.ndarray, " k"]:
    """Divide `take` in proportion to `counts`, by largest remainders; no class is emptied needlessly.

    Example:
        >>> shares(np.array([6, 3, 1]), 5).tolist()
        [3, 2, 0]
    """
    whole, remainder = np.divmod(counts * take, max(counts.sum(), 1))
    emptied = (counts > 0) & (whole + 1 >= counts)  # would lose its last image: asked last
    order = np.lexsort((-remainder, emptied, remainder == 0))
    whole[order[: take - whole.sum()]] += 1
    return whole

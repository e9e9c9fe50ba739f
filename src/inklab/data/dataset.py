"""Images with labels, split into parts."""

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64, Shaped

from inklab.data.preprocessing import Preprocessing
from inklab.errors import ConfigError, DataError, OutOfRangeError
from inklab.io.documents import sha256_of
from inklab.seeding import Seed
from inklab.shapes import Labels, Pixels

MAX_BYTES = 2 * 1024**3  # of pixels; 2.7 million images of 28 x 28, and a small machine still holds them
MAX_CLASSES = 1000  # a label beyond this is a misread file rather than a class


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images: pixels `(n, c, h, w)` uint8 with c 1 or 3, labels `(n,)` int64, from 0. May be empty.

    Raises:
        DataError: a dtype, a shape or the two lengths don't fit.
        OutOfRangeError: a label is negative or beyond what can be a class.

    Example:
        >>> blank = ImageSet(np.zeros((2, 1, 28, 28), np.uint8), np.array([0, 1]))
        >>> len(blank), blank.shape
        (2, (1, 28, 28))
    """

    pixels: Pixels
    labels: Labels

    def __post_init__(self) -> None:
        pixels, labels = self.pixels, self.labels
        if (
            pixels.dtype != np.uint8
            or pixels.ndim != 4
            or pixels.shape[1] not in (1, 3)
            or 0 in pixels.shape[1:]
        ):
            raise DataError(f"pixels are {describe(pixels)}; they must be uint8 (n, c, h, w) with c 1 or 3")
        if labels.dtype != np.int64 or labels.ndim != 1:
            raise DataError(f"labels are {describe(labels)}; they must be int64 (n,)")
        if len(pixels) != len(labels):
            raise DataError(f"{len(pixels)} images have {len(labels)} labels; each image needs one")
        if len(labels) and not 0 <= labels.min() <= labels.max() < MAX_CLASSES:
            raise OutOfRangeError(
                f"labels go from {labels.min()} to {labels.max()}; 0 to {MAX_CLASSES - 1} are allowed"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def take(self, indices: Int64[np.ndarray, " m"]) -> "ImageSet":
        """The images at `indices`, in that order, as a copy."""
        return ImageSet(self.pixels[indices], self.labels[indices])

    def counts(self, classes: int) -> list[int]:
        """How many images each of `classes` classes has."""
        counts: list[int] = np.bincount(self.labels, minlength=classes).tolist()
        return counts


@dataclass(frozen=True, eq=False)
class Dataset:
    """What a source yields: a training and a test set of one image shape, and the names of the classes.

    Args:
        source: what to `load` to get it again, such as "mnist" or a path.
        train: at least one image.
        test: at least one image; scored, never chosen by.
        labels: one name a class; class number k is called `labels[k]`. At least two.
        framing: how any other picture is brought into the form of these images.
        note: one sentence that the user must see, such as why this isn't the data asked for.

    Raises:
        DataError: sets are empty, differ in shape, or don't fit `labels` or `framing`.

    Example:
        >>> images = ImageSet(np.zeros((2, 1, 28, 28), np.uint8), np.array([0, 1]))
        >>> Dataset("blank", images, images, ("no", "yes"), Preprocessing.plain((1, 28, 28))).shape
        (1, 28, 28)
    """

    source: str
    train: ImageSet
    test: ImageSet
    labels: tuple[str, ...]
    framing: Preprocessing
    note: str | None = None

    def __post_init__(self) -> None:
        if not len(self.train) or not len(self.test):
            raise DataError(
                f"'{self.source}' has {len(self.train)} training and {len(self.test)} test images; "
                "both need some"
            )
        if self.train.shape != self.test.shape:
            raise DataError(
                f"'{self.source}': training images are {self.train.shape} and test images {self.test.shape} "
                "(channels, height, width); they must be alike"
            )
        self._check_labels()
        if self.framing.shape != self.shape:
            raise DataError(
                f"'{self.source}': images are {self.shape}, but its framing makes {self.framing.shape}"
            )

    def _check_labels(self) -> None:
        if not 2 <= len(set(self.labels)) == len(self.labels) <= MAX_CLASSES:
            raise DataError(
                f"'{self.source}' names {len(self.labels)} classes, {len(set(self.labels))} different; "
                f"2 to {MAX_CLASSES} different names are allowed"
            )
        largest = max(int(images.labels.max()) for images in (self.train, self.test))
        if largest >= len(self.labels):
            raise OutOfRangeError(
                f"'{self.source}' has the label {largest}, but only {len(self.labels)} classes"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return self.train.shape

    @cached_property
    def sha256(self) -> str:
        """The identity of the content: every array with dtype and shape, and the names of the classes."""
        parts: list[bytes | memoryview] = [json.dumps(self.labels).encode()]
        for array in (self.train.pixels, self.train.labels, self.test.pixels, self.test.labels):
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))  # the same on every machine
            parts += [
                json.dumps([little.dtype.str, little.shape]).encode(),
                little.reshape(-1).view(np.uint8).data,
            ]
        return sha256_of(*parts)


def describe(array: Shaped[np.ndarray, "..."]) -> str:
    """An array's dtype and shape for a message, such as `float32 (10, 784)`."""
    return f"{array.dtype} {array.shape}"


def labeled(pixels: Shaped[np.ndarray, "..."], labels: Shaped[np.ndarray, "..."], name: str) -> ImageSet:
    """Pixels `(n, c, h, w)` and labels `(n,)` that were read from a file, as a set; `name` is for messages.

    Raises:
        DataError: there isn't one label an image.
        OutOfRangeError: a label is negative or beyond what can be a class.
    """
    if labels.ndim != 1 or len(pixels) != len(labels):
        raise DataError(
            f"{name}: {describe(pixels)} images have the labels {describe(labels)}; each needs one"
        )
    if 0 in pixels.shape[1:]:
        raise DataError(f"{name}: {describe(pixels)} has no pixels")
    try:
        return ImageSet(pixels, labels.astype(np.int64))
    except OutOfRangeError as error:
        raise OutOfRangeError(f"{name}: {error}") from error


def numbered(*sets: ImageSet) -> tuple[str, ...]:
    """Names "0", "1", ... for class numbers, up to the largest that occurs."""
    high = max((int(images.labels.max()) for images in sets if len(images)), default=0)
    return tuple(str(number) for number in range(max(high + 1, 2)))


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
        ConfigError: `validation` is negative or leaves nothing to train on.

    Example:
        >>> from inklab.data.preprocessing import Preprocessing
        >>> images = ImageSet(np.zeros((10, 1, 28, 28), np.uint8), np.arange(10) % 2)
        >>> blank = Dataset("blank", images, images, ("a", "b"), Preprocessing.plain((1, 28, 28)))
        >>> parts = split(blank, validation=4, seed=0)
        >>> parts.train.counts(2), parts.validation.counts(2)
        ([3, 3], [2, 2])
    """
    standing = len(dataset.train)
    if not 0 <= validation < standing:
        raise ConfigError(
            f"data.validation = {validation}, but '{dataset.source}' has {standing} training images; "
            f"0 to {standing - 1} can be held out"
        )
    held = stratified_split(dataset.train.labels, validation, Seed(seed) / "split")
    kept = np.setdiff1d(np.arange(standing), held)
    return Split(dataset.train.take(kept), dataset.train.take(held), dataset.test)


def without_test(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    """Training and test images out of one set: a sixth of every class becomes the test."""
    held = stratified_split(images.labels, len(images) // 6, Seed(seed) / "test")
    return images.take(np.setdiff1d(np.arange(len(images)), held)), images.take(held)


def stratified_split(labels: Labels, take: int, seed: Seed) -> Int64[np.ndarray, " take"]:
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
        for number, share in enumerate(class_counts(np.bincount(labels), take))
    ]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))


def class_counts(counts: Int64[np.ndarray, " k"], take: int) -> Int64[np.ndarray, " k"]:
    """Divide `take` in proportion to `counts`, by largest remainders; no class is emptied needlessly.

    Example:
        >>> class_counts(np.array([6, 3, 1]), 5).tolist()
        [3, 2, 0]
    """
    whole, remainder = np.divmod(counts * take, max(counts.sum(), 1))
    emptied = (counts > 0) & (whole + 1 >= counts)  # would lose its last image: asked last
    order = np.lexsort((-remainder, emptied, remainder == 0))
    whole[order[: take - whole.sum()]] += 1
    return whole

"""Labeled images, and their split into training, validation and test set."""

import json
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from inklab.errors import ConfigError, DataError, OutOfRangeError
from inklab.format import pluralize
from inklab.io.files import sha256_of
from inklab.records.components import Preprocessing
from inklab.seeding import Seed

Pixels = UInt8[np.ndarray, "n c h w"]
"""Images as bytes: in MNIST, 0 is background and 255 full ink."""

Labels = Int64[np.ndarray, " n"]
"""Class numbers in [0, k)."""

MAX_BYTES = 2 * 1024**3  # of pixels: 2.7 million images of 28 x 28, which fit into a small machine's memory
MAX_CLASSES = 1000  # a larger label comes from a misread file


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Labeled images; may be empty.

    Attributes:
        pixels: `(n, c, h, w)` uint8, c is 1 or 3.
        labels: `(n,)` int64, from 0.

    Raises:
        DataError: a dtype, a shape or the two lengths do not fit.
        OutOfRangeError: a label is negative or too large.

    Example:
        >>> blank = ImageSet(np.zeros((2, 1, 28, 28), np.uint8), np.array([0, 1]))
        >>> blank
        ImageSet(2 images, 1 x 28 x 28)
    """

    pixels: Pixels
    labels: Labels

    def __post_init__(self) -> None:
        pixels, labels = self.pixels, self.labels
        is_image_batch = pixels.ndim == 4 and pixels.shape[1] in (1, 3) and 0 not in pixels.shape[1:]
        if pixels.dtype != np.uint8 or not is_image_batch:
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

    def __repr__(self) -> str:
        return f"ImageSet({pluralize(len(self), 'image')}, {describe_shape(self.shape)})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def take(self, indices: Int64[np.ndarray, " m"]) -> "ImageSet":
        """The images at `indices`, in that order, as a copy."""
        return ImageSet(self.pixels[indices], self.labels[indices])

    def counts(self, n_classes: int) -> tuple[int, ...]:
        """How many images each class has."""
        return tuple(np.bincount(self.labels, minlength=n_classes).tolist())


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A training and a test set of one image shape, and the names of the classes.

    Attributes:
        name: what `load_dataset` takes to load it again, such as "mnist" or a path.
        train: at least one image.
        test: at least one image; for evaluation, never for a choice.
        labels: one name per class; class number k is called `labels[k]`. At least two.
        preprocessing: how any picture becomes an image of this form.
        note: one sentence that the user must see, such as why this is not the requested dataset.
        validation: images for choices, where the source has a set of them; else `split` holds some out.

    Raises:
        DataError: a set is empty, the sets differ in shape, or do not fit `labels` or `preprocessing`.
        OutOfRangeError: a label has no name.

    Example:
        >>> images = ImageSet(np.zeros((2, 1, 28, 28), np.uint8), np.array([0, 1]))
        >>> Dataset("blank", images, images, ("no", "yes"), Preprocessing.resize_only((1, 28, 28))).shape
        (1, 28, 28)
    """

    name: str
    train: ImageSet
    test: ImageSet
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    note: str | None = None
    validation: ImageSet | None = None

    def __post_init__(self) -> None:
        if not len(self.train) or not len(self.test):
            raise DataError(
                f"'{self.name}' has {len(self.train)} training and {len(self.test)} test images; both sets "
                "need at least one"
            )
        for images, part in ((self.test, "test"), (self.validation or self.train, "validation")):
            if self.train.shape != images.shape:
                raise DataError(
                    f"'{self.name}': training images are {self.train.shape} and {part} images {images.shape} "
                    "(channels, height, width); they must be the same"
                )
        self._check_labels()
        if self.preprocessing.shape != self.shape:
            raise DataError(
                f"'{self.name}': images are {self.shape}, but preprocessing makes {self.preprocessing.shape}"
            )

    def _check_labels(self) -> None:
        if not 2 <= len(set(self.labels)) == len(self.labels) <= MAX_CLASSES:
            raise DataError(
                f"'{self.name}' names {len(self.labels)} classes, {len(set(self.labels))} different; "
                f"2 to {MAX_CLASSES} different names are allowed"
            )
        sets = (self.train, self.test, self.validation or self.train)
        largest = max(int(images.labels.max()) for images in sets)
        if largest >= len(self.labels):
            raise OutOfRangeError(
                f"'{self.name}' has the label {largest}, but only {len(self.labels)} classes"
            )

    def transposed(self) -> "Dataset":
        """The same dataset with rows and columns of every image exchanged, as EMNIST's files need it.

        Example:
            >>> images = ImageSet(np.zeros((2, 1, 2, 3), np.uint8), np.array([0, 1]))
            >>> blank = Dataset("blank", images, images, ("no", "yes"), Preprocessing.resize_only((1, 2, 3)))
            >>> blank.transposed().shape
            (1, 3, 2)
        """

        def turn(images: ImageSet) -> ImageSet:
            return ImageSet(np.ascontiguousarray(images.pixels.swapaxes(2, 3)), images.labels)

        sides = {"height": self.preprocessing.width, "width": self.preprocessing.height}
        return replace(
            self, train=turn(self.train), test=turn(self.test),
            validation=None if self.validation is None else turn(self.validation),
            preprocessing=self.preprocessing.model_copy(update=sides),
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}: {self.summary})"

    def _repr_html_(self) -> str:
        """Its classes, their sizes and a few images of each, for a notebook."""
        from inklab.data.preview import dataset_html  # Pillow, which nothing else here needs

        return dataset_html(self)

    @property
    def summary(self) -> str:
        """Sizes in a few words, such as `60,000 training and 10,000 test images, 1 x 28 x 28, 10 classes`."""
        validation = f", {len(self.validation):,} validation" if self.validation else ""
        counts = f"{len(self.train):,} training{validation} and {len(self.test):,} test images"
        return f"{counts}, {describe_shape(self.shape)}, {len(self.labels):,} classes"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return self.train.shape

    @cached_property
    def sha256(self) -> str:
        """Identifies the content: all arrays with dtype and shape, and the names of the classes."""
        parts: list[bytes | memoryview] = [json.dumps(self.labels).encode()]
        sets = [self.train, self.test, *([self.validation] if self.validation else [])]
        for array in (array for images in sets for array in (images.pixels, images.labels)):
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))  # the same on every machine
            parts += [
                json.dumps([little.dtype.str, little.shape]).encode(),
                little.reshape(-1).view(np.uint8).data,
            ]
        return sha256_of(*parts)


def describe(array: Shaped[np.ndarray, "..."]) -> str:
    """An array's dtype and shape for a message, such as `float32 (10, 784)`."""
    return f"{array.dtype} {array.shape}"


def describe_shape(shape: tuple[int, int, int]) -> str:
    """Channels, height and width for a person, such as `1 x 28 x 28`."""
    return " x ".join(map(str, shape))


def make_image_set(
    pixels: Shaped[np.ndarray, "..."], labels: Shaped[np.ndarray, "..."], name: str
) -> ImageSet:
    """An image set from the arrays of a file, which messages call by a name; labels of any integer type.

    Raises:
        DataError: there is not one label per image.
        OutOfRangeError: a label is negative or too large.
    """
    if labels.ndim != 1 or len(pixels) != len(labels):
        raise DataError(
            f"{name}: images are {describe(pixels)} and labels {describe(labels)}; each image needs one label"
        )
    if 0 in pixels.shape[1:]:
        raise DataError(f"{name}: {describe(pixels)} has images without pixels")
    try:
        return ImageSet(pixels, labels.astype(np.int64))
    except OutOfRangeError as error:
        raise OutOfRangeError(f"{name}: {error}") from error


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint sets of images. `validation` may be empty."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet


def split(dataset: Dataset, *, validation: int, seed: int) -> Split:
    """Hold out a stratified part of the training images for validation.

    The same for all replicates and experiments: it depends on the data, `validation` and the root seed only.
    Images keep their order. A dataset that has a validation set of its own keeps that one instead.

    Raises:
        ConfigError: `validation` is negative or leaves no training images.

    Example:
        >>> images = ImageSet(np.zeros((10, 1, 28, 28), np.uint8), np.arange(10) % 2)
        >>> blank = Dataset("blank", images, images, ("a", "b"), Preprocessing.resize_only((1, 28, 28)))
        >>> parts = split(blank, validation=4, seed=0)
        >>> parts.train.counts(2), parts.validation.counts(2)
        ((3, 3), (2, 2))
    """
    if dataset.validation is not None:
        return Split(dataset.train, dataset.validation, dataset.test)
    n = len(dataset.train)
    if not 0 <= validation < n:
        raise ConfigError(
            f"data.validation = {validation}, but '{dataset.name}' has {n} training images; 0 to {n - 1} can "
            "be held out",
            key="data.validation",
        )
    held_out = stratified_sample(dataset.train.labels, validation, Seed(seed) / "split")
    remaining = np.setdiff1d(np.arange(n), held_out)
    return Split(dataset.train.take(remaining), dataset.train.take(held_out), dataset.test)


def split_off_test(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    """A training and a test set out of one set: a sixth of every class becomes the test set."""
    held_out = stratified_sample(images.labels, len(images) // 6, Seed(seed) / "test")
    return images.take(np.setdiff1d(np.arange(len(images)), held_out)), images.take(held_out)


def stratified_sample(labels: Labels, take: int, seed: Seed) -> Int64[np.ndarray, " take"]:
    """Draw `take` of n indices, ascending, so that each class has its share, to within one image.

    Each class has its own stream of the seed.
    """
    chosen = [
        (seed / number).rng().permutation(np.flatnonzero(labels == number))[:share]
        for number, share in enumerate(class_counts(np.bincount(labels), take))
    ]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))


def class_counts(counts: Int64[np.ndarray, " k"], take: int) -> Int64[np.ndarray, " k"]:
    """Divide `take` in proportion to `counts`, by largest remainders; no class is emptied unnecessarily.

    Example:
        >>> class_counts(np.array([6, 3, 1]), 5).tolist()
        [3, 2, 0]
    """
    whole, remainder = np.divmod(counts * take, max(counts.sum(), 1))
    emptied = (counts > 0) & (whole + 1 >= counts)  # would lose its last image: comes last
    order = np.lexsort((-remainder, emptied, remainder == 0))
    whole[order[: take - whole.sum()]] += 1
    return whole

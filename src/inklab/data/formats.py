"""Datasets of image files, one directory per class."""

from collections import Counter
from pathlib import Path
from unicodedata import category

import numpy as np
from PIL import Image

from inklab.data.dataset import MAX_BYTES, Dataset, ImageSet, split_off_test
from inklab.data.image_file import FORMATS, SUFFIXES, open_image
from inklab.data.preprocessing import Image8, preprocess_picture
from inklab.errors import DataError
from inklab.format import pluralize
from inklab.records.components import Preprocessing
from inklab.shapes import Pixels

MAX_SIDE = 64  # pixels; larger pictures are preprocessed to MNIST's size
FOREIGN_SUFFIXES = (".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".svg", ".pdf")
UNPRINTABLE = (
    "Cc",
    "Cs",
)  # Unicode categories: control characters, and surrogates of bytes that are not UTF-8
Classes = dict[str, list[Path]]


def load_image_folder(path: Path, *, seed: int, preprocessing: Preprocessing | None = None) -> Dataset:
    """Load image files from one subdirectory per class; or from `train` and `test` with those subdirectories.

    Without `train` and `test`, a sixth of every class, selected by `seed`, becomes the test set. Pictures
    that all have one size of at most 64 pixels per side stay as they are, grayscale if all are gray. Others
    are
    preprocessed as MNIST was made: ink detected, cropped, scaled and centered in 28 x 28.

    Args:
        path: of the directory.
        seed: the root seed.
        preprocessing: in place of the one that suits the sizes.

    Raises:
        CorruptFileError: a picture is damaged or too large; it is named.
        DataError: a class is empty, the classes of `train` and `test` differ, or the pictures together are
            too large.
    """
    subsets = _subsets(path)
    names = tuple(sorted(subsets[0]))
    for subset in subsets:
        _check_classes(subset, names, path)
    files = [file for subset in subsets for class_files in subset.values() for file in class_files]
    preprocessing = preprocessing or _suitable_preprocessing(files)
    _check_total_size(len(files), preprocessing, path)
    sets = [_image_set(subset, names, preprocessing) for subset in subsets]
    train, test = sets if len(sets) == 2 else split_off_test(sets[0], seed)
    return Dataset(str(path), train, test, names, preprocessing, _note_on_sizes(files, preprocessing))


def _subsets(path: Path) -> list[Classes]:
    """The files of the training and the test set; or one subset of all."""
    subdirectories = _subdirectories(path)
    if set(subdirectories) == {"train", "test"}:
        return [_classes(subdirectories[name]) for name in ("train", "test")]
    if len(subdirectories) < 2:
        raise DataError(
            f"'{path}' has {pluralize(len(subdirectories), 'subdirectory', 'subdirectories')}; it needs one "
            "per class, at least two, or 'train' and 'test' with those"
        )
    return [_classes(path)]


def _subdirectories(path: Path) -> dict[str, Path]:
    paths = [inner for inner in sorted(path.iterdir()) if inner.is_dir() and not inner.name.startswith(".")]
    for inner in paths:
        if any(category(letter) in UNPRINTABLE for letter in inner.name):
            raise DataError(
                f"'{path}' has a subdirectory called {inner.name!r}, which is not printable; rename it"
            )
    return {inner.name: inner for inner in paths}


def _classes(path: Path) -> Classes:
    return {name: _image_files(inner) for name, inner in _subdirectories(path).items()}


def _image_files(directory: Path) -> list[Path]:
    files = [path for path in sorted(directory.iterdir()) if path.is_file() and not path.name.startswith(".")]
    foreign = [path for path in files if path.suffix.lower() in FOREIGN_SUFFIXES]
    if foreign:
        raise DataError(
            f"'{foreign[0]}' can't be read, only {', '.join(FORMATS)}; save it as PNG or remove it"
        )
    return [path for path in files if path.suffix.lower() in SUFFIXES]


def _check_classes(subset: Classes, names: tuple[str, ...], path: Path) -> None:
    if set(subset) != set(names):
        unmatched = ", ".join(sorted(set(subset) ^ set(names)))
        raise DataError(
            f"'{path}': 'train' and 'test' must have the same classes; only one of them has: {unmatched}"
        )
    for name, files in subset.items():
        if not files:
            raise DataError(
                f"'{path}': the class '{name}' has no image files ({', '.join(SUFFIXES)}); add some or "
                "remove it"
            )


def _suitable_preprocessing(files: list[Path]) -> Preprocessing:
    """The one that leaves small pictures of one size unchanged, else MNIST's."""
    size, all_gray = open_image(files[0]).size, True
    if max(size) > MAX_SIDE:
        return Preprocessing()
    for path in files:
        picture = open_image(path)
        if picture.size != size:
            return Preprocessing()
        all_gray = all_gray and _is_gray(picture)
    width, height = size
    return Preprocessing.resize_only((1 if all_gray else 3, height, width))


def _note_on_sizes(files: list[Path], preprocessing: Preprocessing) -> str | None:
    """What a person should know of the pictures' sizes; None if they are unchanged."""
    sizes = Counter(open_image(path).size for path in files)
    if set(sizes) == {(preprocessing.width, preprocessing.height)}:
        return None
    (width, height), count = sizes.most_common(1)[0]
    described = f"of {width} x {height} pixels"
    if len(sizes) > 1:
        described = f"in {len(sizes)} sizes (most often {width} x {height}: {count:,})"
    target = f"{preprocessing.width} x {preprocessing.height}"
    return f"{pluralize(len(files), 'picture')} {described}: all were preprocessed to {target} pixels."


def _is_gray(picture: Image.Image) -> bool:
    if picture.mode in ("1", "L", "LA", "F") or picture.mode.startswith("I"):
        return True
    colors = np.asarray(picture.convert("RGB"))
    return bool((colors[..., :1] == colors).all())


def _check_total_size(count: int, preprocessing: Preprocessing, path: Path) -> None:
    size = count * preprocessing.channels * preprocessing.height * preprocessing.width
    if size > MAX_BYTES:
        raise DataError(f"'{path}' has {size:,} bytes of pixels; at most {MAX_BYTES:,} are allowed")


def _image_set(subset: Classes, names: tuple[str, ...], preprocessing: Preprocessing) -> ImageSet:
    pixels: Pixels = np.stack([_read(path, preprocessing) for name in names for path in subset[name]])
    labels = np.repeat(np.arange(len(names)), [len(subset[name]) for name in names])
    return ImageSet(pixels, labels)


def _read(path: Path, preprocessing: Preprocessing) -> Image8:
    try:
        return preprocess_picture(open_image(path), preprocessing)
    except DataError as error:
        if str(path) in str(error):
            raise
        raise DataError(f"'{path}': {error}") from error

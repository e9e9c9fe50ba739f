"""Datasets in files: IDX as MNIST has it, NumPy's .npz, and directories of image files."""

import gzip
import io
import math
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO
from unicodedata import category

import numpy as np
from jaxtyping import Shaped, UInt8

from inklab.data.conversion import UNPRINTABLE, make_dataset, order_classes, to_pixels
from inklab.data.dataset import MAX_BYTES, Dataset, ImageSet, make_image_set
from inklab.data.pictures import PictureFiles, preprocess_pictures
from inklab.data.preprocessing import FORMATS, SUFFIXES
from inklab.errors import CorruptFileError, DataError
from inklab.format import pluralize
from inklab.io.files import open_regular
from inklab.records.components import PreprocessingChoice

MAX_DIMENSIONS = 4
CHUNK = 1024 * 1024  # bytes decompressed at once
IMAGES_NAME = re.compile(r"images([-.]idx)3")
TRAIN_NAME = re.compile(r"train(?=[-_.])")
Array = Shaped[np.ndarray, "..."]


# ---------------------------------------------------------------- IDX


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """Read an IDX file of unsigned bytes, gzipped or not.

    Reads no more than the header declares, and refuses more than 2 GiB before reading it.

    Raises:
        CorruptFileError: it is not IDX, has another type than unsigned byte, is truncated, too long or too
            large, or is no regular file.
        DataError: there is no such file.
    """
    try:
        with open_regular(path) as file:
            return parse_idx(unpack(file, str(path)), str(path))
    except OSError as error:
        raise DataError(f"'{path}' can't be read: {error.strerror or error}") from error


def unpack(file: BinaryIO | io.BytesIO, name: str) -> bytes:
    """The bytes of an IDX file, uncompressed: the header and exactly the data that it declares.

    Raises:
        CorruptFileError: as for `read_idx`.
    """
    is_gzipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if not is_gzipped:
        return _read_declared(file.read, name)
    try:
        with gzip.GzipFile(fileobj=file) as unpacked:
            return _read_declared(unpacked.read, name)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorruptFileError(f"'{name}' is a damaged gzip file ({error}); download it again") from error


def _read_declared(read: Callable[[int], bytes], name: str) -> bytes:
    head = read(4 + 4 * MAX_DIMENSIONS)
    shape = _shape(head, name)
    expected = 4 + 4 * len(shape) + math.prod(shape)
    content = bytearray(head)
    while len(content) <= expected and (chunk := read(min(CHUNK, expected + 1 - len(content)))):
        content += chunk
    if len(content) != expected:
        actual = f"{len(content):,}" if len(content) < expected else f"more than {expected:,}"
        raise CorruptFileError(f"'{name}' declares {expected:,} bytes but has {actual}; download it again")
    return bytes(content)


def _shape(head: bytes, name: str) -> tuple[int, ...]:
    """The shape in an IDX header, whose first bytes are: two zeros, the type of numbers, the dimensions."""
    if len(head) < 4 or head[:2] != b"\0\0":
        raise CorruptFileError(
            f"'{name}' is not an IDX file: it starts with {head[:4].hex() or 'nothing'}, not 0000"
        )
    kind, count = head[2], head[3]
    if kind != 0x08:
        raise CorruptFileError(f"'{name}' has IDX type 0x{kind:02x}; only 0x08, unsigned bytes, is read")
    if not 1 <= count <= MAX_DIMENSIONS:
        raise CorruptFileError(f"'{name}' declares {count} dimensions; 1 to {MAX_DIMENSIONS} are read")
    if len(head) < 4 + 4 * count:
        raise CorruptFileError(
            f"'{name}' needs a header of {4 + 4 * count} bytes but has {len(head)}; download it again"
        )
    shape = struct.unpack_from(f">{count}I", head, 4)
    size = math.prod(shape)
    if size > MAX_BYTES:
        raise CorruptFileError(
            f"'{name}' declares {size:,} bytes in the shape {shape}; at most {MAX_BYTES:,} are read"
        )
    return shape


def parse_idx(content: bytes, name: str) -> UInt8[np.ndarray, "..."]:
    """The array in the bytes that `unpack` returns; `name` is what messages call the file.

    Example:
        >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), "two labels").tolist()
        [7, 9]
    """
    shape = _shape(content, name)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy()


def idx_image_set(pixels: UInt8[np.ndarray, "..."], labels: UInt8[np.ndarray, "..."], name: str) -> ImageSet:
    """Grayscale images `(n, h, w)` and labels `(n,)` of two IDX files as one set.

    Raises:
        DataError: they have other dimensions, or differ in number.
    """
    if pixels.ndim != 3 or labels.ndim != 1:
        raise DataError(
            f"'{name}': images have the shape {pixels.shape} and labels {labels.shape}; "
            "(n, h, w) and (n,) are read"
        )
    return make_image_set(pixels[:, None], labels, f"'{name}'")


def load_idx(path: Path, *, seed: int, name: str) -> Dataset:
    """Load an IDX images file, its labels and its test set, which are recognized by their names.

    Labels: `images-idx3` -> `labels-idx1`. Test set: `train` -> `t10k` or `test`; without one, a sixth of the
    images of every class, selected by `seed`, becomes the test set.

    Raises:
        DataError: the file is not named as an images file, or its labels are not next to it.
        CorruptFileError: as for `read_idx`.
    """
    if not IMAGES_NAME.search(path.name):
        raise DataError(
            f"'{path}' is not named as IDX images are; give the file with 'images-idx3' in its name"
        )
    sets = {f"'{part}'": _read_pair(part) for part in (path, _test_images(path)) if part}
    pixels = {part: images.pixels for part, images in sets.items()}
    labels = {f"the labels' file of {part}": images.labels for part, images in sets.items()}
    return make_dataset(name, pixels, labels, seed=seed)


def find_idx(directory: Path) -> Path | None:
    """The training images among the IDX files of a directory; None if there are none."""
    candidates = sorted(directory.glob("*train*images*idx3*"))
    return next((path for path in candidates if IMAGES_NAME.search(path.name) and path.is_file()), None)


def _read_pair(path: Path) -> ImageSet:
    labels_path = path.with_name(IMAGES_NAME.sub(r"labels\g<1>1", path.name))
    labels = gzipped_or_not(labels_path)
    if labels is None:
        raise DataError(
            f"'{path}' needs its labels next to it, in '{labels_path.name}' (.gz or not); there is no such "
            "file"
        )
    return idx_image_set(read_idx(path), read_idx(labels), str(path))


def _test_images(path: Path) -> Path | None:
    if not TRAIN_NAME.search(path.name):
        return None
    candidates = (
        gzipped_or_not(path.with_name(TRAIN_NAME.sub(word, path.name))) for word in ("t10k", "test")
    )
    return next((candidate for candidate in candidates if candidate), None)


def gzipped_or_not(path: Path) -> Path | None:
    """The file, or the one whose name differs by a final `.gz`; None if neither exists."""
    other = path.with_suffix("") if path.suffix == ".gz" else path.with_name(path.name + ".gz")
    return next((candidate for candidate in (path, other) if candidate.is_file()), None)


# ---------------------------------------------------------------- npz


KEYS = (
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("images", "labels"),
)


def load_npz(path: Path, *, seed: int) -> Dataset:
    """Load images and labels from an .npz file.

    Keys are `train_images, train_labels, test_images, test_labels`, or `x_train, y_train, x_test, y_test`, or
    `images, labels`; then a sixth of every class, selected by `seed`, becomes the test set. Images and labels
    have any form that `to_pixels` and `encode_labels` accept.

    Raises:
        CorruptFileError: the file is damaged, holds objects, or more than 2 GiB.
        DataError: keys, types, shapes or ranges are others.
    """
    arrays, unused = read_npz(path)
    names = {key: f"the array {key} of '{path}'" for key in arrays}
    keys = list(arrays)
    return make_dataset(
        str(path),
        {names[key]: to_pixels(arrays[key], names[key]) for key in keys[::2]},
        {names[key]: arrays[key] for key in keys[1::2]},
        note=f"Arrays that are not used: {', '.join(unused)}." if unused else None,
        seed=seed,
    )


def read_npz(path: Path) -> tuple[dict[str, Array], list[str]]:
    """Read the arrays of an .npz file that have the names of images and labels; and name the others.

    Raises:
        CorruptFileError: the file is damaged, holds objects, or more than 2 GiB.
        DataError: there is no such file, or no images and labels in it.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy, about headers that Python 2 wrote
            size = sum(entry.file_size for entry in archive.infolist())
            if size > MAX_BYTES:
                raise CorruptFileError(
                    f"'{path}' has {size:,} bytes uncompressed; at most {MAX_BYTES:,} are read"
                )
            with np.load(file, allow_pickle=False) as arrays:
                keys = _choose_keys(arrays.files, path)
                chosen = {key: arrays[key] for key in keys}
                if raw := [key for key, array in chosen.items() if not isinstance(array, np.ndarray)]:
                    raise CorruptFileError(f"'{path}', {raw[0]}, is no array; save it with numpy.savez")
                return chosen, sorted(set(arrays.files) - set(keys))
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"'{path}' can't be read: {error.strerror or error}") from error
    except Exception as error:  # zipfile and NumPy raise a dozen types on damaged bytes
        reason = "it contains Python objects" if "allow_pickle" in str(error) else error
        raise CorruptFileError(
            f"'{path}' is not a complete .npz file of plain arrays ({reason}); save it again with numpy.savez"
        ) from error


def _choose_keys(names: Sequence[str], path: Path) -> tuple[str, ...]:
    for keys in KEYS:
        if set(keys) <= set(names):
            return keys
    allowed = "; or ".join(", ".join(keys) for keys in KEYS)
    raise DataError(f"'{path}' has the arrays {', '.join(sorted(names)) or '(none)'}; needed are {allowed}")


# ---------------------------------------------------------------- directories of image files


FOREIGN_SUFFIXES = (".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".svg", ".pdf")
Classes = dict[str, list[Path]]


def load_image_folder(path: Path, *, seed: int, preprocessing: PreprocessingChoice = "auto") -> Dataset:
    """Load image files from one subdirectory per class; or from `train` and `test` with those subdirectories.

    Without `train` and `test`, a sixth of every class, selected by `seed`, becomes the test set. Pictures
    that all have one size of at most 64 pixels per side stay as they are, grayscale if all are gray. Others
    are preprocessed as MNIST was made: ink detected, cropped, scaled and centered in 28 x 28.

    `preprocessing` replaces the one that suits the sizes.

    Raises:
        CorruptFileError: a picture is damaged or too large; it is named.
        DataError: a class is empty, the classes of `train` and `test` differ, or the pictures together are
            too large.
    """
    subsets = _subsets(path)
    names = order_classes(subsets[0])
    for subset in subsets:
        _check_classes(subset, names, path)
    pictures = [PictureFiles([file for name in names for file in subset[name]]) for subset in subsets]
    result = preprocess_pictures(pictures, preprocessing)
    parts = [f"'{path}'"] if len(subsets) == 1 else [f"'{path / part}'" for part in ("train", "test")]
    counts = [[len(subset[name]) for name in names] for subset in subsets]
    return make_dataset(
        str(path),
        dict(zip(parts, result.sets, strict=True)),
        {part: np.repeat(np.arange(len(names)), count) for part, count in zip(parts, counts, strict=True)},
        class_names=names,
        preprocessing=result.preprocessing,
        note=result.note,
        seed=seed,
    )


def _subsets(path: Path) -> list[Classes]:
    """The files of the training and the test set; or one subset of all."""
    subdirectories = _subdirectories(path)
    if set(subdirectories) == {"train", "test"}:
        return [_classes(_subdirectories(subdirectories[name])) for name in ("train", "test")]
    if len(subdirectories) < 2:
        raise DataError(
            f"'{path}' has {pluralize(len(subdirectories), 'subdirectory', 'subdirectories')}; it needs one "
            "per class, at least two, or 'train' and 'test' with those"
        )
    return [_classes(subdirectories)]


def _subdirectories(path: Path) -> dict[str, Path]:
    paths = [inner for inner in sorted(path.iterdir()) if inner.is_dir() and not inner.name.startswith(".")]
    for inner in paths:
        if any(category(letter) in UNPRINTABLE for letter in inner.name):
            raise DataError(
                f"'{path}' has a subdirectory called {inner.name!r}, which is not printable; rename it"
            )
    return {inner.name: inner for inner in paths}


def _classes(subdirectories: dict[str, Path]) -> Classes:
    return {name: _image_files(path) for name, path in subdirectories.items()}


def _image_files(directory: Path) -> list[Path]:
    files = [path for path in sorted(directory.iterdir()) if path.is_file() and not path.name.startswith(".")]
    foreign = [path for path in files if path.suffix.lower() in FOREIGN_SUFFIXES]
    if foreign:
        raise DataError(
            f"'{foreign[0]}' can't be read, only {', '.join(FORMATS)}; save it as PNG or remove it"
        )
    return [path for path in files if path.suffix.lower() in SUFFIXES]


def _check_classes(subset: Classes, names: tuple[str, ...], path: Path) -> None:
    if unmatched := ", ".join(sorted(set(subset) ^ set(names))):
        raise DataError(
            f"'{path}': 'train' and 'test' must have the same classes; only one of them has: {unmatched}"
        )
    for name, files in subset.items():
        if not files:
            raise DataError(
                f"'{path}': the class '{name}' has no image files ({', '.join(SUFFIXES)}); add some or "
                "remove it"
            )

"""Datasets in files of arrays: IDX as MNIST has it, and NumPy's .npz and .npy."""

import glob
import gzip
import io
import math
import os
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Shaped

from inklab.data.conversion import (
    SET_NAMES,
    ClassNames,
    LabeledImages,
    encode_labels,
    make_dataset,
    to_pixels,
)
from inklab.data.dataset import MAX_BYTES, Dataset, ImageSet, make_image_set
from inklab.data.image_layout import EMNIST_NOTE, emnist_part
from inklab.errors import CorruptFileError, DataError
from inklab.io.files import open_regular

MAX_DIMENSIONS = 4
IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
CHUNK = 1024 * 1024  # bytes decompressed at once
IMAGES_NAME = re.compile(r"images([-.]idx)3")
TRAIN_NAME = re.compile(r"train(?=[-_.])")
Array = Shaped[np.ndarray, "..."]


# ---------------------------------------------------------------- IDX


def read_idx(path: Path) -> Array:
    """Read an IDX file of any of its types of numbers, gzipped or not.

    Reads no more than the header declares, and refuses more than 2 GiB before reading it.

    Raises:
        CorruptFileError: it is not IDX, is truncated, too long or too large, or is no regular file.
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
    dtype, shape = _header(head, name)
    expected = 4 + 4 * len(shape) + dtype.itemsize * math.prod(shape)
    content = bytearray(head)
    while len(content) <= expected and (chunk := read(min(CHUNK, expected + 1 - len(content)))):
        content += chunk
    if len(content) != expected:
        actual = f"{len(content):,}" if len(content) < expected else f"more than {expected:,}"
        raise CorruptFileError(f"'{name}' declares {expected:,} bytes but has {actual}; download it again")
    return bytes(content)


def _header(head: bytes, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape in an IDX header, which begins with two zeros, the type of numbers, the dimensions."""
    if len(head) < 4 or head[:2] != b"\0\0":
        raise CorruptFileError(
            f"'{name}' is not an IDX file: it starts with {head[:4].hex() or 'nothing'}, not 0000"
        )
    kind, count = head[2], head[3]
    if kind not in IDX_TYPES:
        known = ", ".join(f"0x{number:02x}" for number in IDX_TYPES)
        raise CorruptFileError(f"'{name}' has IDX type 0x{kind:02x}; there are {known}; download it again")
    if not 1 <= count <= MAX_DIMENSIONS:
        raise CorruptFileError(f"'{name}' declares {count} dimensions; 1 to {MAX_DIMENSIONS} are read")
    if len(head) < 4 + 4 * count:
        raise CorruptFileError(
            f"'{name}' needs a header of {4 + 4 * count} bytes but has {len(head)}; download it again"
        )
    shape = struct.unpack_from(f">{count}I", head, 4)
    dtype = np.dtype(IDX_TYPES[kind])
    size = dtype.itemsize * math.prod(shape)
    if size > MAX_BYTES:
        raise CorruptFileError(
            f"'{name}' declares {size:,} bytes in the shape {shape}; at most {MAX_BYTES:,} are read"
        )
    return dtype, shape


def parse_idx(content: bytes, name: str) -> Array:
    """The array in the bytes that `unpack` returns; `name` is what messages call the file.

    Example:
        >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), "two labels").tolist()
        [7, 9]
    """
    dtype, shape = _header(content, name)
    array = np.frombuffer(content, dtype, offset=4 + 4 * len(shape)).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def idx_image_set(pixels: Array, labels: Array, name: str) -> ImageSet:
    """Grayscale images `(n, h, w)` and labels `(n,)` of two published IDX files as one set.

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
    images of every class, selected by `seed`, becomes the test set. Images and labels have any form that
    `to_pixels` and `encode_labels` accept; floats that are whole numbers above 1 count as such. EMNIST's
    files are recognized by their names: their images are turned upright, and their classes named.

    Raises:
        DataError: the file is not named as an images file, or its labels are not next to it.
        CorruptFileError: as for `read_idx`.
    """
    if not IMAGES_NAME.search(path.name):
        raise DataError(
            f"'{path}' is not named as IDX images are; give the file with 'images-idx3' in its name"
        )
    files = {"train": path, "test": _test_images(path)}
    sets = {role: _read_pair(file) for role, file in files.items() if file}
    part = emnist_part(path.name)
    if part is None:
        return make_dataset(name, sets, seed=seed)
    upright = {
        role: replace(images, pixels=np.ascontiguousarray(images.pixels.swapaxes(2, 3)))
        for role, images in sets.items()
    }
    return make_dataset(name, upright, class_names=part.class_names, note=EMNIST_NOTE, seed=seed)


def find_idx(directory: Path) -> Path | None:
    """The training images among the IDX files of a directory; None if there are none.

    Files may lie in directories of their own names, as Kaggle unpacks them.

    Raises:
        DataError: there are several.
    """
    named = sorted(directory.glob("*train*images*idx3*"))
    paths = (path / path.name if path.is_dir() else path for path in named)
    candidates = [path for path in paths if IMAGES_NAME.search(path.name) and path.is_file()]
    if len({_plain(path.name) for path in candidates}) > 1:
        names = ", ".join(path.name for path in candidates)
        raise DataError(f"'{directory}' has the training images of several datasets; name one: {names}")
    return candidates[0] if candidates else None


def _read_pair(path: Path) -> LabeledImages:
    labels_path = path.with_name(IMAGES_NAME.sub(r"labels\g<1>1", path.name))
    labels = _beside(path, labels_path.name) or _any_type(labels_path)
    if labels is None:
        raise DataError(
            f"'{path}' needs its labels next to it, in '{labels_path.name}' (.gz or not); there is no such "
            "file"
        )
    pixels, name = read_idx(path), f"'{path}'"
    if pixels.dtype.kind == "f" and pixels.size and pixels.max() > 1 and (pixels == np.rint(pixels)).all():
        pixels = pixels.astype(np.int64)
    return LabeledImages(to_pixels(pixels, name), read_idx(labels), name, f"the labels' file of {name}")


def _any_type(path: Path) -> Path | None:
    """The file whose name ends in another type of numbers: `labels-idx1-int` beside `images-idx3-float`."""
    start = path.name[: path.name.index("idx1") + len("idx1")]
    return next((file for file in sorted(path.parent.glob(f"{glob.escape(start)}*")) if file.is_file()), None)


def _test_images(path: Path) -> Path | None:
    if not TRAIN_NAME.search(path.name):
        return None
    candidates = (_beside(path, TRAIN_NAME.sub(word, path.name)) for word in ("t10k", "test"))
    return next((candidate for candidate in candidates if candidate), None)


def _beside(path: Path, name: str) -> Path | None:
    """The file called `name` next to a file: gzipped or not, with `-idx` or `.idx`.

    Both may lie in directories of their own names, as Kaggle unpacks them.
    """
    home = path.parent.parent if path.parent.name == path.name else path.parent
    plain = _plain(name)
    forms = (plain, plain.replace("-idx", ".idx"))
    candidates = [path.with_name(name)] + [
        home / file for form in forms for file in (form, f"{form}.gz", f"{form}/{form}")
    ]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _plain(name: str) -> str:
    """The name that forms of one IDX file share: uncompressed, with `-idx`."""
    return name.removesuffix(".gz").replace(".idx", "-idx")


# ---------------------------------------------------------------- npz


CONVENTIONS = (
    ("{}_images", "{}_labels"),
    ("x_{}", "y_{}"),
    ("X_{}", "Y_{}"),
    ("X_{}", "y_{}"),
    ("{}_x", "{}_y"),
    ("{}_X", "{}_y"),
    ("{}_data", "{}_labels"),
)
SINGLE = (
    ("images", "labels"),
    ("X", "y"),
    ("x", "y"),
    ("data", "labels"),
    ("data", "target"),
    ("arr_0", "arr_1"),
)
CLASS_NAMES = ("class_names", "classes", "label_names", "target_names")


def load_npz(path: Path, *, seed: int) -> Dataset:
    """Load images and labels from an .npz file.

    Keys are `train_images, train_labels`, or `x_train, y_train`, and so on, and the same with `val` and
    `test`; or `images, labels`, or `X, y`. Without a test set, a sixth of every class, selected by `seed`,
    becomes one. `class_names` names the classes. Images and labels have any form that `to_pixels` and
    `encode_labels` accept.

    Raises:
        CorruptFileError: the file is damaged, holds objects, or more than 2 GiB.
        DataError: keys, types, shapes or ranges are others.
    """
    arrays, pairs, unused = read_npz(path)
    sets = {}
    for role, (images, labels) in pairs.items():
        name = f"the array {images} of '{path}'"
        label_name = f"the array {labels} of '{path}'"
        sets[role] = LabeledImages(to_pixels(arrays[images], name), arrays[labels], name, label_name)
    names, class_names = _class_names(arrays, sets)
    unused = sorted({*unused, *(key for key in CLASS_NAMES if key in arrays and key != names)})
    return make_dataset(
        str(path),
        sets,
        class_names=class_names,
        note=f"Arrays that are not used: {', '.join(unused)}." if unused else None,
        seed=seed,
    )


def _class_names(
    arrays: Mapping[str, Array], sets: Mapping[str, LabeledImages]
) -> tuple[str | None, ClassNames | None]:
    """The array of class names and the names that occur, if they fit the labels."""
    for key in CLASS_NAMES:
        names = arrays.get(key)
        if names is None or names.ndim != 1 or names.dtype.kind not in "US":
            continue
        texts = [str(name) for name in (np.char.decode(names, "utf-8") if names.dtype.kind == "S" else names)]
        classes, _ = encode_labels({part.label_name: part.labels for part in sets.values()})
        if len(set(texts)) < len(texts):
            continue
        if set(classes) <= set(texts):  # labels are text, and this is their order
            return key, {name: name for name in texts if name in classes}
        if all(name.isdecimal() and int(name) < len(texts) for name in classes):
            return key, {int(name): texts[int(name)] for name in classes}
    return None, None


def load_npy(path: Path, *, seed: int) -> Dataset:
    """Load images and labels from a pair of .npy files, named as the arrays of an .npz file are.

    Args:
        path: a directory with such files; or the file of the images, with that of the labels next to it.
        seed: selects the test images where there are none.

    Raises:
        CorruptFileError: a file is damaged, holds objects, or more than 2 GiB.
        DataError: there are no files of such names.
    """
    directory = path if path.is_dir() else path.parent
    files = {file.stem: file for file in sorted(directory.glob("*.npy")) if file.is_file()}
    pairs = _choose_pairs(list(files), directory)
    if path != directory and path.stem not in (images for images, _ in pairs.values()):
        raise DataError(
            f"'{path}' is not named as images are; give {' or '.join(f'{a}.npy' for a, _ in pairs.values())}"
        )
    sets = {}
    for role, keys in pairs.items():
        images, labels = (_read_npy(files[key]) for key in keys)
        name, label_name = (f"'{files[key]}'" for key in keys)
        sets[role] = LabeledImages(to_pixels(images, name), labels, name, label_name)
    unused = sorted(set(files).difference(*pairs.values()))
    note = f"Files that are not used: {', '.join(f'{key}.npy' for key in unused)}." if unused else None
    return make_dataset(str(path), sets, note=note, seed=seed)


def _read_npy(path: Path) -> Array:
    try:
        with open_regular(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy, about headers that Python 2 wrote
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise CorruptFileError(f"'{path}' has {size:,} bytes; at most {MAX_BYTES:,} are read")
            array = np.load(file, allow_pickle=False)
            if not isinstance(array, np.ndarray):
                raise CorruptFileError(f"'{path}' is no array; save it with numpy.save")
            return array
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"'{path}' can't be read: {error.strerror or error}") from error
    except Exception as error:  # NumPy raises several types on damaged bytes
        raise CorruptFileError(
            f"'{path}' is not a complete .npy file of a plain array ({error}); save it again with numpy.save"
        ) from error


def read_npz(path: Path) -> tuple[dict[str, Array], dict[str, tuple[str, str]], list[str]]:
    """Read the arrays of an .npz file that have the names of images, labels or class names.

    Returns:
        Those arrays; the names of images and labels of each set; and the names of arrays that are not read.

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
                pairs = _choose_pairs(arrays.files, path)
                keys = [key for pair in pairs.values() for key in pair]
                chosen = {key: arrays[key] for key in keys}
                for key in set(CLASS_NAMES) & set(arrays.files) - set(keys):
                    with suppress(ValueError):  # of objects, which are never unpickled
                        chosen[key] = arrays[key]
                if raw := [key for key, array in chosen.items() if not isinstance(array, np.ndarray)]:
                    raise CorruptFileError(f"'{path}', {raw[0]}, is no array; save it with numpy.savez")
                return chosen, pairs, sorted(set(arrays.files) - set(chosen))
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"'{path}' can't be read: {error.strerror or error}") from error
    except Exception as error:  # zipfile and NumPy raise a dozen types on damaged bytes
        reason = "it contains Python objects" if "allow_pickle" in str(error) else error
        raise CorruptFileError(
            f"'{path}' is not a complete .npz file of plain arrays ({reason}); save it again with numpy.savez"
        ) from error


def _choose_pairs(names: Sequence[str], path: Path) -> dict[str, tuple[str, str]]:
    """Images and labels of each set, by the names of arrays."""
    for images, labels in CONVENTIONS:
        pairs = {
            role: (images.format(word), labels.format(word))
            for role, words in SET_NAMES.items()
            for word in words
            if {images.format(word), labels.format(word)} <= set(names)
        }
        if "train" in pairs:
            return pairs
    for pair in SINGLE:
        if set(pair) <= set(names):
            return {"train": pair}
    raise DataError(
        f"'{path}' has the arrays {', '.join(sorted(names)) or '(none)'}; needed are train_images, "
        "train_labels, and test_images, test_labels if there are; or x_train, y_train, x_test, y_test; or "
        "images, labels; or X, y"
    )

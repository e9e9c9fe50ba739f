"""IDX, the format of MNIST: two zero bytes, a type, the number of dimensions, the dimensions, the data."""

import gzip
import io
import math
import re
import zlib
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from inklab.data.dataset import MAX_BYTES, Dataset, ImageSet, make_image_set, number_classes, split_off_test
from inklab.errors import CorruptFileError, DataError
from inklab.io.files import open_regular
from inklab.records.components import Preprocessing

UNSIGNED_BYTE = 0x08
MAX_DIMENSIONS = 4
CHUNK = 1024 * 1024  # bytes decompressed at once
IMAGES_NAME = re.compile(r"images([-.]idx)3")
TRAIN_NAME = re.compile(r"train(?=[-_.])")


@runtime_checkable
class ReadableFile(Protocol):
    """An open binary file, or an object like one."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to a position."""


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


def unpack(file: ReadableFile, name: str) -> bytes:
    """The bytes of an IDX file, uncompressed: the header and exactly the data that it declares.

    Raises:
        CorruptFileError: as for `read_idx`.
    """
    is_gzipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if not is_gzipped:
        return _read_declared(file, name)
    try:
        with gzip.GzipFile(fileobj=file) as unpacked:
            return _read_declared(unpacked, name)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorruptFileError(f"'{name}' is a damaged gzip file ({error}); download it again") from error


def _read_declared(file: ReadableFile, name: str) -> bytes:
    head = file.read(4 + 4 * MAX_DIMENSIONS)
    expected = _declared_bytes(head, name)
    content = bytearray(head)
    while len(content) <= expected and (chunk := file.read(min(CHUNK, expected + 1 - len(content)))):
        content += chunk
    if len(content) != expected:
        actual = f"{len(content):,}" if len(content) < expected else f"more than {expected:,}"
        raise CorruptFileError(f"'{name}' declares {expected:,} bytes but has {actual}; download it again")
    return bytes(content)


def _dimensions(head: bytes, name: str) -> tuple[int, ...]:
    if len(head) < 4 or head[:2] != b"\0\0":
        raise CorruptFileError(
            f"'{name}' is not an IDX file: it starts with {head[:4].hex() or 'nothing'}, not 0000"
        )
    kind, count = head[2], head[3]
    if kind != UNSIGNED_BYTE:
        raise CorruptFileError(f"'{name}' has IDX type 0x{kind:02x}; only 0x08, unsigned bytes, is read")
    if not 1 <= count <= MAX_DIMENSIONS:
        raise CorruptFileError(f"'{name}' declares {count} dimensions; 1 to {MAX_DIMENSIONS} are read")
    if len(head) < 4 + 4 * count:
        raise CorruptFileError(
            f"'{name}' needs a header of {4 + 4 * count} bytes but has {len(head)}; download it again"
        )
    return tuple(int.from_bytes(head[4 + 4 * k : 8 + 4 * k], "big") for k in range(count))


def _declared_bytes(head: bytes, name: str) -> int:
    shape = _dimensions(head, name)
    size = math.prod(shape)
    if size > MAX_BYTES:
        raise CorruptFileError(
            f"'{name}' declares {size:,} bytes in the shape {shape}; at most {MAX_BYTES:,} are read"
        )
    return 4 + 4 * len(shape) + size


def parse_idx(content: bytes, name: str) -> UInt8[np.ndarray, "..."]:
    """The array in the uncompressed bytes of an IDX file.

    Args:
        content: the whole file.
        name: what messages call it.

    Raises:
        CorruptFileError: as for `read_idx`.

    Example:
        >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), "two labels").tolist()
        [7, 9]
    """
    checked = _read_declared(io.BytesIO(content), name)
    shape = _dimensions(checked, name)
    return np.frombuffer(checked, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy()


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

    Args:
        path: the images.
        seed: the root seed.
        name: of the dataset.

    Raises:
        DataError: the file is not named as an images file, or its labels are not next to it.
        CorruptFileError: as for `read_idx`.
    """
    if not IMAGES_NAME.search(path.name):
        raise DataError(
            f"'{path}' is not named as IDX images are; give the file with 'images-idx3' in its name"
        )
    images, test_path = _read_pair(path), _test_images(path)
    train, test = (images, _read_pair(test_path)) if test_path else split_off_test(images, seed)
    labels = number_classes(train, test)
    return Dataset(name, train, test, labels, Preprocessing.resize_only(train.shape))


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

"""IDX, the format of MNIST: two zero bytes, a type, the number of dimensions, the dimensions, the bytes."""

import gzip
import io
import math
import re
import zlib
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from inklab.data.dataset import MAX_BYTES, Dataset, ImageSet, labeled, numbered, without_test
from inklab.data.preprocessing import Preprocessing
from inklab.errors import CorruptFileError, DataError
from inklab.io.atomic import open_regular

UNSIGNED_BYTE = 0x08
MAX_DIMENSIONS = 4
PIECE = 1024 * 1024  # bytes decompressed at a time
IMAGES_NAME = re.compile(r"images([-.]idx)3")
TRAIN_NAME = re.compile(r"train(?=[-_.])")


@runtime_checkable
class ReadableFile(Protocol):
    """An open binary file, or what stands in for one."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes from here on."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place."""


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """Read an IDX file of unsigned bytes, gzipped or not.

    Never holds more than the header promises, and refuses a promise above 2 GiB before it reads on.

    Raises:
        CorruptFileError: not IDX, another type than unsigned byte, cut short, too long, or too large; or no
            plain
            file.
        DataError: there is no such file.
    """
    try:
        with open_regular(path) as file:
            return parse_idx(unpack(file, str(path)), str(path))
    except OSError as error:
        raise DataError(f"'{path}' can't be read: {error.strerror or error}") from error


def unpack(file: ReadableFile, name: str) -> bytes:
    """The bytes of an IDX file, uncompressed: header and exactly the pixels that the header promises.

    Raises:
        CorruptFileError: as for `read_idx`.
    """
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if not packed:
        return _read_promised(file, name)
    try:
        with gzip.GzipFile(fileobj=file) as unpacked:
            return _read_promised(unpacked, name)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorruptFileError(f"'{name}' is a damaged gzip file ({error}); get it again") from error


def _read_promised(file: ReadableFile, name: str) -> bytes:
    head = file.read(4 + 4 * MAX_DIMENSIONS)
    expected = _promised_bytes(head, name)
    content = bytearray(head)
    while len(content) <= expected and (piece := file.read(min(PIECE, expected + 1 - len(content)))):
        content += piece
    if len(content) != expected:
        actual = f"{len(content):,}" if len(content) < expected else f"more than {expected:,}"
        raise CorruptFileError(f"'{name}' promises {expected:,} bytes but has {actual}; get it again")
    return bytes(content)


def _dimensions(head: bytes, name: str) -> tuple[int, ...]:
    if len(head) < 4 or head[:2] != b"\0\0":
        raise CorruptFileError(
            f"'{name}' isn't an IDX file: it starts with {head[:4].hex() or 'nothing'}, not 0000"
        )
    kind, count = head[2], head[3]
    if kind != UNSIGNED_BYTE:
        raise CorruptFileError(f"'{name}' holds IDX type 0x{kind:02x}; only 0x08, unsigned bytes, is read")
    if not 1 <= count <= MAX_DIMENSIONS:
        raise CorruptFileError(f"'{name}' claims {count} dimensions; 1 to {MAX_DIMENSIONS} are read")
    if len(head) < 4 + 4 * count:
        raise CorruptFileError(
            f"'{name}' promises a header of {4 + 4 * count} bytes but has {len(head)}; get it again"
        )
    return tuple(int.from_bytes(head[4 + 4 * k : 8 + 4 * k], "big") for k in range(count))


def _promised_bytes(head: bytes, name: str) -> int:
    shape = _dimensions(head, name)
    size = math.prod(shape)
    if size > MAX_BYTES:
        raise CorruptFileError(
            f"'{name}' claims {size:,} bytes in the shape {shape}; at most {MAX_BYTES:,} are read"
        )
    return 4 + 4 * len(shape) + size


def parse_idx(content: bytes, name: str) -> UInt8[np.ndarray, "..."]:
    """The array in the uncompressed bytes of an IDX file; `name` is for messages.

    Raises:
        CorruptFileError: as for `read_idx`.

    Example:
        >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), "two labels").tolist()
        [7, 9]
    """
    whole = _read_promised(io.BytesIO(content), name)
    shape = _dimensions(whole, name)
    return np.frombuffer(whole, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy()


def image_set(pixels: UInt8[np.ndarray, "..."], labels: UInt8[np.ndarray, "..."], name: str) -> ImageSet:
    """Grey images `(n, h, w)` and labels `(n,)` of two IDX files as one set.

    Raises:
        DataError: they have other dimensions, or differ in number.
    """
    if pixels.ndim != 3 or labels.ndim != 1:
        raise DataError(
            f"'{name}': images have the shape {pixels.shape} and labels {labels.shape}; "
            "(n, h, w) and (n,) are read"
        )
    return labeled(pixels[:, None], labels, f"'{name}'")


def load_idx(path: Path, *, seed: int, source: str) -> Dataset:
    """Load an IDX images file and the files that belong to it by name.

    Labels are found by `images-idx3` -> `labels-idx1`; the test set by `train` -> `t10k` or `test`. Without
    one, a sixth of the images of every class, chosen by `seed`, becomes the test set.

    Raises:
        DataError: the file isn't named as an images file, or its labels aren't beside it.
        CorruptFileError: as for `read_idx`.
    """
    if not IMAGES_NAME.search(path.name):
        raise DataError(
            f"'{path}' isn't named as IDX images are; give the file whose name holds 'images-idx3'"
        )
    images, beside = _pair(path), _test_beside(path)
    train, test = (images, _pair(beside)) if beside else without_test(images, seed)
    names = numbered(train, test)
    return Dataset(source, train, test, names, Preprocessing.plain(train.shape))


def find_idx(folder: Path) -> Path | None:
    """The training images among the IDX files of a folder, if it holds any."""
    named = sorted(path for path in folder.glob("*train*images*idx3*") if IMAGES_NAME.search(path.name))
    found = [path for path in named if path.is_file()]
    return found[0] if found else None


def _pair(path: Path) -> ImageSet:
    wanted = path.with_name(IMAGES_NAME.sub(r"labels\g<1>1", path.name))
    labels = either(wanted)
    if labels is None:
        raise DataError(
            f"'{path}' needs its labels beside it, in '{wanted.name}' (.gz or not); there is no such file"
        )
    return image_set(read_idx(path), read_idx(labels), str(path))


def _test_beside(path: Path) -> Path | None:
    if not TRAIN_NAME.search(path.name):
        return None
    candidates = (either(path.with_name(TRAIN_NAME.sub(word, path.name))) for word in ("t10k", "test"))
    return next((candidate for candidate in candidates if candidate), None)


def either(path: Path) -> Path | None:
    """The file itself, or the one that differs in a final `.gz`, if either exists."""
    other = path.with_suffix("") if path.suffix == ".gz" else path.with_name(path.name + ".gz")
    return next((candidate for candidate in (path, other) if candidate.is_file()), None)

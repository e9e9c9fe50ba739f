"""NumPy's .npz archives, read without trust: headers first, no pickles, nothing larger than it says."""

import io
import math
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Shaped

from inklab.data.dataset import MAX_BYTES, Dataset, ImageSet, describe, labeled, numbered, without_test
from inklab.data.idx import ReadableFile
from inklab.data.preprocessing import Preprocessing
from inklab.errors import CorruptFileError, DataError
from inklab.io.atomic import open_regular

Array = Shaped[np.ndarray, "..."]
KEYS = (
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("images", "labels"),
)
KINDS = "uib"  # whole numbers and booleans: images and labels are nothing else
MAX_HEADER = 10_000  # characters; NumPy's own limit
MAX_DIRECTORY = 1024 * 1024  # bytes; zipfile reads it whole, and makes an object of each entry
END, END_BYTES, MAX_REMARK = b"PK\5\6", 22, 65_536  # the record that ends a zip file; a remark may follow
LARGE, LARGE_BYTES = b"PK\6\7", 20  # stands before it if another record, for large files, counts instead


def load_npz(path: Path, *, seed: int, source: str) -> Dataset:
    """Load images and labels from an .npz file.

    Keys are `train_images, train_labels, test_images, test_labels`, or `x_train, y_train, x_test, y_test`, or
    `images, labels`; then a sixth of every class, chosen by `seed`, becomes the test set. Images are uint8
    `(n, h, w)`, `(n, c, h, w)` or `(n, h, w, c)` with c 1 or 3; labels whole numbers from 0.

    Raises:
        CorruptFileError: damaged, hostile (objects, a decompression bomb), or more than 2 GiB.
        DataError: keys, dtypes or shapes are others.
    """
    arrays = read_npz(path)
    keys = next((keys for keys in KEYS if all(key in arrays for key in keys)), None)
    if keys is None:
        allowed = "; or ".join(", ".join(keys) for keys in KEYS)
        raise DataError(
            f"'{path}' holds the arrays {', '.join(sorted(arrays)) or '(none)'}; needed are {allowed}"
        )
    sets = [
        _image_set(arrays[x], arrays[y], f"'{path}', {x}") for x, y in zip(keys[::2], keys[1::2], strict=True)
    ]
    train, test = sets if len(sets) == 2 else without_test(sets[0], seed)
    names = numbered(train, test)
    return Dataset(source, train, test, names, Preprocessing.plain(train.shape))


def read_npz(path: Path) -> dict[str, Array]:
    """Read every array of an .npz file by name, whole numbers only.

    Raises:
        CorruptFileError: damaged, hostile, or more than 2 GiB together.
        DataError: there is no such file, or an array isn't of whole numbers.
    """
    try:
        with open_regular(path) as file:
            _refuse_long_directory(file, path)
            with zipfile.ZipFile(file) as archive:
                _refuse_large(archive, path)
                return {
                    entry.filename.removesuffix(".npy"): _array(archive, entry, path)
                    for entry in archive.infolist()
                }
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"'{path}' can't be read: {error.strerror or error}") from error
    except Exception as error:  # zipfile raises a dozen kinds on damaged bytes; all of them mean this
        raise CorruptFileError(
            f"'{path}' isn't a whole .npz file ({error}); save it again with numpy.savez"
        ) from error


def _refuse_long_directory(file: BinaryIO, path: Path) -> None:
    """Look for the end of the archive where zipfile does, and refuse a directory of millions of entries."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - END_BYTES - MAX_REMARK - LARGE_BYTES))
    tail = file.read()
    at = len(tail) - END_BYTES if tail[-END_BYTES:].startswith(END) else tail.rfind(END)
    if at < 0:
        return  # zipfile tells it
    directory = int.from_bytes(tail[at + 12 : at + 16], "little")
    if directory > MAX_DIRECTORY or tail[max(0, at - LARGE_BYTES) : at].startswith(LARGE):
        raise CorruptFileError(
            f"'{path}' has a directory that is too large for a few arrays; save it again with numpy.savez"
        )


def _refuse_large(archive: zipfile.ZipFile, path: Path) -> None:
    size = sum(entry.file_size for entry in archive.infolist())
    if size > MAX_BYTES:
        raise CorruptFileError(f"'{path}' claims {size:,} bytes unpacked; at most {MAX_BYTES:,} are read")
    for entry in archive.infolist():
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise CorruptFileError(f"'{path}' is compressed in a way that numpy.savez_compressed doesn't use")


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> Array:
    name = f"'{path}', {entry.filename}"
    with archive.open(entry) as file:
        shape, fortran, dtype = _header(file, name)
        size = math.prod(shape) * dtype.itemsize
        if size > entry.file_size:
            raise CorruptFileError(
                f"{name} claims the shape {shape}, {size:,} bytes, but has {entry.file_size:,}"
            )
        content = file.read(size + 1)  # one more than there may be: also makes zipfile compare the checksum
    if len(content) != size:
        raise CorruptFileError(
            f"{name} claims {size:,} bytes but has {'more' if len(content) > size else len(content)}"
        )
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C").copy()


def _header(file: ReadableFile, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers written by Python 2 are read all the same
            reader = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[np.lib.format.read_magic(file)]
            shape, fortran, dtype = reader(file, max_header_size=MAX_HEADER)
    except (zipfile.BadZipFile, zlib.error):
        raise
    except Exception as error:  # the header is a Python literal: its parser raises what it likes
        raise CorruptFileError(f"{name} has no readable array header ({str(error)[:200]})") from error
    if dtype.kind not in KINDS:
        raise DataError(f"{name} holds {dtype}; only whole numbers are read, images as uint8")
    if any(side < 0 for side in shape):
        raise CorruptFileError(f"{name} claims the shape {shape}")
    return shape, fortran, dtype


def _image_set(pixels: Array, labels: Array, name: str) -> ImageSet:
    if pixels.dtype != np.uint8:
        raise DataError(
            f"{name} is {describe(pixels)}; images must be uint8, 0 to 255: convert them before saving"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]  # Keras' habit
    if labels.ndim != 1 or not np.array_equal(labels, labels.astype(np.int64)):
        raise DataError(f"{name} has labels {describe(labels)}; they must be class numbers (n,), not one-hot")
    return labeled(_channels_first(pixels, name), labels, name)


def _channels_first(pixels: Array, name: str) -> Array:
    if pixels.ndim == 3:
        return pixels[:, None]
    first, last = (pixels.ndim == 4 and pixels.shape[axis] in (1, 3) for axis in (1, 3))
    if first == last:
        why = "channels may come first or last" if first else "neither (n, h, w) nor 1 or 3 channels"
        raise DataError(f"{name} is {describe(pixels)}: {why}; save as uint8 (n, h, w) or (n, c, h, w)")
    return pixels if first else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))

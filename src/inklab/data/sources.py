"""Sources: where images come from, by registered name or by path."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from inklab.data.dataset import Dataset, ImageSet
from inklab.data.idx import find_idx, load_idx
from inklab.data.image_folder import load_folder
from inklab.data.npz import load_npz
from inklab.data.preprocessing import Preprocessing
from inklab.errors import DataError, DatasetUnavailableError
from inklab.registry import Registry
from inklab.usercode import is_user_code, load_object

__all__ = ["Dataset", "ImageSet", "Source", "load", "source", "sources"]

Loader = Callable[[], Dataset]


@dataclass(frozen=True)
class Source:
    """A registered place that images come from.

    Args:
        name: what is typed after `--data`.
        description: one line for `inklab data list`: what, how much, what it costs to get.
        load: yields the images.
    """

    name: str
    description: str
    load: Loader


sources: Registry[Source] = Registry("source", "inklab.data")


def source(name: str, *, description: str) -> Callable[[Loader], Loader]:
    """Register a function that yields a `Dataset` under a name.

    Example:
        >>> sources["mnist-5k"].description
        '5,000 real MNIST digits, 28 x 28 grey; comes with inklab, needs no network'
    """

    def register(loader: Loader) -> Loader:
        sources.add(name, Source(name, description, loader))
        return loader

    return register


def load(name: str, *, seed: int = 0, framing: Preprocessing | None = None) -> Dataset:
    """Load a source by its registered name, or the images at a path.

    A path may be a folder of pictures (a sub-folder a class, or `train/` and `test/` with those), an `.npz`
    file, an IDX images file, or a folder of IDX files. Where it has no test set, a sixth of every class
    becomes one.

    Args:
        name: such as "mnist", "stamps/", "meters.npz", "train-images-idx3-ubyte.gz"; or
            `my_data.py:stamps`, a function of the user's own that returns a `Dataset`: this runs the file.
        seed: the root seed; chooses the test set where none is given.
        framing: for folders of pictures: how to bring them into one form, instead of the way that is found
            by looking.

    Raises:
        UnknownNameError: no source has that name, and there is no such path.
        DatasetUnavailableError: the source can't be had here.
        CorruptFileError: a file is damaged, hostile, or not the published one.
        DataError: what is there doesn't make a data set.
    """
    if is_user_code(name):
        return _load_users(name)
    path = Path(os.path.expanduser(name))
    if name not in sources and os.path.exists(path):
        try:
            return _load_path(path, seed, framing)
        except OSError as error:
            raise DataError(f"'{name}' can't be read: {error.strerror or error}") from error
        except UnicodeEncodeError as error:
            raise DataError(f"{name!r} can't be written as text, nor can a plan that names it") from error
    if name not in sources and _looks_like_a_path(name):
        raise DataError(
            f"there is no file or folder '{name}'; give a path that exists, or one of: {', '.join(sources)}"
        )
    if framing is not None:
        raise DataError(
            f"'{name}' has a framing of its own; another can be given for folders of pictures only"
        )
    return sources[name].load()


def _load_users(name: str) -> Dataset:
    loader = load_object(name)
    dataset = loader() if callable(loader) else loader
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"'{name}' gives a {type(dataset).__name__}; a source is a function that returns a Dataset"
        )
    return dataset


def _looks_like_a_path(name: str) -> bool:
    return "/" in name or "\\" in name or Path(name).suffix != ""


def _load_path(path: Path, seed: int, framing: Preprocessing | None) -> Dataset:
    str(path).encode("utf-8")  # what the file system calls it need not be UTF-8
    images = find_idx(path) if path.is_dir() else None
    if path.is_dir() and images is None:
        return load_folder(path, seed=seed, source=str(path), framing=framing)
    if framing is not None:
        raise DataError(
            f"'{path}' holds images of one form already; a framing can be given for folders of pictures only"
        )
    if path.suffix == ".npz":
        return load_npz(path, seed=seed, source=str(path))
    if images is None and "idx" not in path.name:
        raise DataError(
            f"'{path}' is not an images file; read are folders of pictures, .npz and IDX (images-idx3)"
        )
    return load_idx(images or path, seed=seed, source=str(path))


DOWNLOAD_HELP = (
    "With a network, inklab data get mnist brings them; or put the four files into $INKLAB_DATA_DIR/mnist."
)


def load_default() -> Dataset:
    """MNIST where it can be had, else mnist-5k with a note that says why.

    Raises:
        CorruptFileError: the user's own MNIST files are damaged; going on without them would hide that.
    """
    try:
        return load("mnist")
    except DatasetUnavailableError as error:
        note = f"These are 5,000 digits of MNIST (mnist-5k), not all 70,000: {error.reason}. {DOWNLOAD_HELP}"
        return replace(load("mnist-5k"), note=note)


def data_folder() -> Path | None:
    """The folder that the user named by `INKLAB_DATA_DIR`, if any."""
    named = os.environ.get("INKLAB_DATA_DIR")
    return Path(named).expanduser() if named else None


def is_offline() -> bool:
    """Whether `INKLAB_OFFLINE` forbids the network; unset, empty and 0 allow it."""
    return os.environ.get("INKLAB_OFFLINE", "") not in ("", "0")

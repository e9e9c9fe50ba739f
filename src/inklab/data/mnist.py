"""Datasets in the files of MNIST: four IDX files each; and the bundled digits of MNIST."""

import io
import struct
import zipfile
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from jaxtyping import UInt8

from inklab.data.dataset import Dataset, ImageSet
from inklab.data.formats import idx_image_set, parse_idx, unpack
from inklab.data.image_layout import DIGITS, EMNIST_PARTS, EmnistPart, suitable_preprocessing
from inklab.data.published import MIB, PublishedFile, PublishedFiles
from inklab.data.sources import dataset
from inklab.errors import CorruptFileError
from inklab.records.components import Preprocessing

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def four_files(gzip_sha256: tuple[str, ...], content_sha256: tuple[str, ...]) -> tuple[PublishedFile, ...]:
    """The four files of MNIST, with SHA-256 of the gzip files and, where they are known, of the contents."""
    contents = content_sha256 or ("",) * len(FILES)
    return tuple(
        PublishedFile(name, f"sha256:{packed}", content)
        for name, packed, content in zip(FILES, gzip_sha256, contents, strict=True)
    )


@dataclass(frozen=True)
class IdxSource:
    """A dataset in four IDX files: images and labels for training, images and labels for the test.

    Attributes:
        published: where the files are.
        labels: the names of the classes.
        preprocessing: how any picture becomes an image of this form.
        counts: training and test images; () for any.
    """

    published: PublishedFiles
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    counts: tuple[int, ...] = ()

    def load(self) -> Dataset:
        """The dataset, from this machine or a mirror.

        Raises:
            DatasetUnavailableError: it can't be obtained; says what was tried and what to do.
            CorruptFileError: a file is not the published one.
        """
        arrays = [
            parse_idx(unpack(io.BytesIO(content), file.name), file.name)
            for content, file in zip(self.published.read(), self.published.files, strict=True)
        ]
        names = [file.name for file in self.published.files]
        train = idx_image_set(arrays[0], arrays[1], names[0])
        test = idx_image_set(arrays[2], arrays[3], names[2])
        check_counts(self.published.name, (train, test), self.counts)
        return Dataset(self.published.name, train, test, self.labels, self.preprocessing)


def check_counts(name: str, sets: tuple[ImageSet, ImageSet], counts: tuple[int, ...]) -> None:
    """Refuse files with another number of images than the published ones have."""
    actual = tuple(len(images) for images in sets)
    if counts and actual != counts:
        raise CorruptFileError(
            f"{name}: the files have {actual[0]:,} training and {actual[1]:,} test images, but the published "
            f"ones {counts[0]:,} and {counts[1]:,}; replace or remove them"
        )


MNIST = IdxSource(
    PublishedFiles(
        name="mnist",
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",  # PyTorch's
            "https://storage.googleapis.com/cvdf-datasets/mnist/",  # TensorFlow's
        ),
        files=four_files(
            (
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
            (
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
        directories=("MNIST/raw",),  # torchvision's
        hints=("data/MNIST/raw", "~/.keras/datasets/mnist.npz"),
    ),
    DIGITS,
    Preprocessing(),
)
FASHION_MNIST = IdxSource(
    PublishedFiles(
        name="fashion-mnist",
        mirrors=(
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",  # Keras'
            "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",  # its authors'
        ),
        files=four_files(
            (
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
            (
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ),
        directories=("FashionMNIST/raw", "/usr/share/datasets/fashion-mnist"),  # torchvision's; Debian's
        hints=("data/FashionMNIST/raw",),
    ),
    (
        "T-shirt/top", "trouser", "pullover", "dress", "coat",
        "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
    Preprocessing(fit_to=28, center="box"),  # as its authors made them
)  # fmt: skip
KMNIST = IdxSource(
    PublishedFiles(
        name="kmnist",
        mirrors=(
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        ),
        files=four_files(
            (
                "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
                "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
                "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
                "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
            ),
            (),  # of the contents none is known
        ),
        directories=("KMNIST/raw",),
        hints=("data/KMNIST/raw",),
    ),
    ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    Preprocessing(fit_to=28, center="box"),
    (60_000, 10_000),
)
QMNIST = PublishedFiles(
    name="qmnist",
    mirrors=("https://raw.githubusercontent.com/facebookresearch/qmnist/master/",),
    files=(
        PublishedFile("qmnist-train-images-idx3-ubyte.gz", "md5:ed72d4157d28c017586c42bc6afe6370"),
        PublishedFile("qmnist-train-labels-idx2-int.gz", "md5:0058f8dd561b90ffdd0f734c6a30e5e4"),
        PublishedFile("qmnist-test-images-idx3-ubyte.gz", "md5:1394631089c404de565df7b7aeaf9412"),
        PublishedFile("qmnist-test-labels-idx2-int.gz", "md5:5b5b05890a5e13444e108efe57b788aa"),
    ),
    directories=("QMNIST/raw",),
    hints=("data/QMNIST/raw",),
)
QMNIST_COUNTS = (60_000, 60_000)
MNIST_TEST = 10_000  # images: the first of QMNIST's test set are MNIST's
EMNIST = PublishedFiles(
    name="emnist",
    mirrors=(
        "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/",
        "https://biometrics.nist.gov/cs_links/EMNIST/",
    ),
    files=(
        PublishedFile("gzip.zip", "sha256:fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e"),
    ),
    directories=("EMNIST/raw",),
    max_mib=600,
)


@dataset(
    "mnist",
    description="70,000 handwritten digits, 28 x 28 grayscale; downloaded once (12 MB)",
    sha256="6f447c62b1e26a19d3782b5bc1d051f13adff443eb580c652f7ab27d916b4c4e",
)
def mnist() -> Dataset:
    """The handwritten digits of LeCun, Cortes and Burges (1998): 60,000 for training, 10,000 for the test."""
    return MNIST.load()


@dataset(
    "fashion-mnist",
    description="70,000 images of clothing, 28 x 28 grayscale; downloaded once (31 MB)",
    sha256="0a1b11ba33b0b51753be1ed752dfdc5fa4a4947cafca0b53a1c5fb2f6452d430",
)
def fashion_mnist() -> Dataset:
    """The clothing of Xiao, Rasul and Vollgraf (2017): harder than digits, in the same form."""
    return FASHION_MNIST.load()


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


@dataset(
    "kmnist", description="70,000 cursive Japanese characters, 28 x 28 grayscale; downloaded once (21 MB)"
)
def kmnist() -> Dataset:
    """The Kuzushiji of Clanuwat et al. (2018): ten Hiragana, in the form of MNIST."""
    return KMNIST.load()


QMNIST_TEXT = (
    "MNIST's 60,000 training digits and 50,000 fresh test digits, 28 x 28 grayscale; downloaded once (20 MB)"
)


@dataset("qmnist", description=QMNIST_TEXT)
def qmnist() -> Dataset:
    """MNIST as reconstructed by Yadav and Bottou (2019), with the 50,000 test digits that MNIST left out.

    The first 10,000 of QMNIST's test set are MNIST's and are left out here.
    """
    return load_qmnist(QMNIST, QMNIST_COUNTS, MNIST_TEST)


def load_qmnist(published: PublishedFiles, counts: tuple[int, ...], skip: int) -> Dataset:
    """QMNIST's training set, and its test set without the first `skip` images."""
    contents = published.read()
    sets = []
    for index in (0, 2):
        name = published.files[index].name
        pixels = parse_idx(unpack(io.BytesIO(contents[index]), name), name)
        labels = _first_column(contents[index + 1], published.files[index + 1].name)
        sets.append(idx_image_set(pixels, labels, name))
    train, test = sets
    check_counts(published.name, (train, test), counts)
    fresh = test.take(np.arange(skip, len(test)))
    return Dataset(published.name, train, fresh, DIGITS, Preprocessing())


def _first_column(content: bytes, name: str) -> UInt8[np.ndarray, " n"]:
    """The digits in an IDX table of 32-bit integers, whose other columns tell where a digit comes from."""
    magic, rows, columns = struct.unpack_from(">3I", content.ljust(12))
    if magic != 0x0C02 or len(content) != 12 + 4 * rows * columns or not columns:
        raise CorruptFileError(f"'{name}' is not an IDX table of 32-bit integers; replace or remove it")
    return np.frombuffer(content, ">i4", offset=12).reshape(rows, columns)[:, 0].astype(np.uint8)


@dataset(
    "emnist-letters", description="145,600 letters, 26 classes, 28 x 28 grayscale; downloaded once (562 MB)"
)
def emnist_letters() -> Dataset:
    """The letters of EMNIST (Cohen et al. 2017): upper and lower case in one class, upright."""
    return load_emnist(EMNIST, "letters", EMNIST_PARTS["letters"])


@dataset(
    "emnist-balanced",
    description="131,600 digits and letters, 47 classes, 28 x 28 grayscale; downloaded once (562 MB)",
)
def emnist_balanced() -> Dataset:
    """Digits and letters of EMNIST, as many of each class; some lower case is one class with upper case."""
    return load_emnist(EMNIST, "balanced", EMNIST_PARTS["balanced"])


@dataset("emnist-digits", description="280,000 digits, 28 x 28 grayscale; downloaded once (562 MB)")
def emnist_digits() -> Dataset:
    """The digits of EMNIST: from the same forms as MNIST's, four times as many."""
    return load_emnist(EMNIST, "digits", EMNIST_PARTS["digits"])


def load_emnist(published: PublishedFiles, name: str, part: EmnistPart) -> Dataset:
    """One dataset of EMNIST's archive, upright: its files have rows and columns exchanged.

    Raises:
        CorruptFileError: the archive has no such files.
    """
    limit = published.max_mib * MIB
    with zipfile.ZipFile(io.BytesIO(published.read()[0])) as archive:
        sets = []
        for split in ("train", "test"):
            arrays = [
                _member(archive, f"gzip/emnist-{name}-{split}-{kind}-ubyte.gz", limit)
                for kind in ("images-idx3", "labels-idx1")
            ]
            labels = arrays[1].astype(np.int64) - part.first_label
            sets.append(ImageSet(arrays[0].transpose(0, 2, 1)[:, None].copy(), labels))
    train, test = sets
    check_counts(f"emnist-{name}", (train, test), part.counts)
    return Dataset(f"emnist-{name}", train, test, part.labels, suitable_preprocessing(train.pixels))


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> UInt8[np.ndarray, "..."]:
    if name not in archive.namelist() or archive.getinfo(name).file_size > limit:
        raise CorruptFileError(f"'gzip.zip' has no file '{name}' of at most {limit:,} bytes; remove it")
    return parse_idx(unpack(io.BytesIO(archive.read(name)), name), name)

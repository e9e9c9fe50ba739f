"""Datasets that are published in other files than MNIST's: USPS, CIFAR-10, SVHN and MedMNIST.

Nothing is unpickled: text, the binary version of CIFAR-10, MATLAB's matrices and NumPy's plain arrays.
"""

import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from inklab.data.dataset import Dataset, ImageSet, make_image_set
from inklab.data.image_layout import DIGITS, suitable_preprocessing
from inklab.data.mnist import check_counts
from inklab.data.published import PublishedFile, PublishedFiles
from inklab.data.sources import RegisteredDataset, dataset, datasets
from inklab.errors import CorruptFileError
from inklab.records.components import Preprocessing

# ---------------------------------------------------------------- USPS

USPS = PublishedFiles(
    name="usps",
    mirrors=("https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/",),
    files=(
        PublishedFile("usps.bz2", "md5:ec16c51db3855ca6c91edd34d0e9b197"),
        PublishedFile("usps.t.bz2", "md5:8ea070ee2aca1ac39742fdd1ef5ed118"),
    ),
)
USPS_COUNTS, USPS_SIDE = (7291, 2007), 16


@dataset("usps", description="9,298 digits of envelopes, 16 x 16 grayscale; downloaded once (8 MB)")
def usps() -> Dataset:
    """The digits of the US Postal Service (Hull 1994), which fill 16 x 16 pixels."""
    return load_usps(USPS, USPS_COUNTS)


def load_usps(published: PublishedFiles, counts: tuple[int, ...]) -> Dataset:
    """USPS in LIBSVM's text form: in a line a label from 1 to 10 and 256 pairs `number:value`, -1 to 1."""
    train, test = (
        _parse_libsvm(content, file.name)
        for content, file in zip(published.read(), published.files, strict=True)
    )
    check_counts("usps", (train, test), counts)
    whole = Preprocessing(height=USPS_SIDE, width=USPS_SIDE, fit_to=USPS_SIDE, center="box")
    return Dataset("usps", train, test, DIGITS, whole)


def _parse_libsvm(content: bytes, name: str) -> ImageSet:
    size = USPS_SIDE**2
    try:
        table = np.array(content.replace(b":", b" ").split(), np.float32).reshape(-1, 1 + 2 * size)
    except ValueError as error:
        raise CorruptFileError(f"'{name}' has no lines of {size} pixels ({error}); remove it") from error
    values = table[:, 2::2].reshape(-1, 1, USPS_SIDE, USPS_SIDE)
    if (table[:, 1::2] != np.arange(1, size + 1)).any() or not (np.abs(values) <= 1).all():
        raise CorruptFileError(f"'{name}' has pixels out of order or range; remove it")
    pixels = np.rint((values + 1) * 127.5).astype(np.uint8)
    return make_image_set(pixels, table[:, 0].astype(np.int64) - 1, f"'{name}'")


# ---------------------------------------------------------------- CIFAR-10

CIFAR10 = PublishedFiles(
    name="cifar10",
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
    files=(
        PublishedFile(
            "cifar-10-binary.tar.gz",
            "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
    max_mib=256,
)
CIFAR10_COUNTS, CIFAR10_SHAPE = (50_000, 10_000), (3, 32, 32)
CIFAR10_LABELS = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


@dataset("cifar10", description="60,000 photographs of 10 things, 32 x 32 in color; downloaded once (170 MB)")
def cifar10() -> Dataset:
    """The photographs of Krizhevsky (2009), in their binary version."""
    return load_cifar10(CIFAR10, CIFAR10_COUNTS)


def load_cifar10(published: PublishedFiles, counts: tuple[int, ...]) -> Dataset:
    """CIFAR-10 in its binary version: in each record a label and 3,072 bytes, channels first."""
    content, name = published.read()[0], published.files[0].name
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            members = {member.name.rpartition("/")[2]: member for member in archive if member.isfile()}
            batches = {key: _read_member(archive, members[key]) for key in sorted(members)}
    except (tarfile.TarError, EOFError) as error:
        raise CorruptFileError(f"'{name}' is no tar archive ({error}); remove it") from error
    training = [batch for batch in batches if batch.startswith("data_batch")]
    if not training or "test_batch.bin" not in batches:
        raise CorruptFileError(f"'{name}' lacks data_batch_1.bin or test_batch.bin; remove it")
    train = _cifar_records([batches[batch] for batch in training])
    test = _cifar_records([batches["test_batch.bin"]])
    check_counts("cifar10", (train, test), counts)
    return Dataset("cifar10", train, test, CIFAR10_LABELS, Preprocessing.resize_only(CIFAR10_SHAPE))


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return b"" if file is None else file.read()


def _cifar_records(batches: list[bytes]) -> ImageSet:
    record = 1 + int(np.prod(CIFAR10_SHAPE))
    if any(len(batch) % record for batch in batches):
        raise CorruptFileError(f"a batch of CIFAR-10 has no records of {record:,} bytes; remove the archive")
    table = np.frombuffer(b"".join(batches), np.uint8).reshape(-1, record)
    return make_image_set(table[:, 1:].reshape(-1, *CIFAR10_SHAPE).copy(), table[:, 0], "CIFAR-10")


# ---------------------------------------------------------------- SVHN

SVHN = PublishedFiles(
    name="svhn",
    mirrors=("http://ufldl.stanford.edu/housenumbers/",),
    files=(
        PublishedFile(
            "train_32x32.mat", "sha256:435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"
        ),
        PublishedFile(
            "test_32x32.mat", "sha256:cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"
        ),
    ),
    max_mib=256,
)
SVHN_COUNTS = (73_257, 26_032)


@dataset("svhn", description="99,289 digits of house numbers, 32 x 32 in color; downloaded once (246 MB)")
def svhn() -> Dataset:
    """The digits of Netzer et al. (2011), cropped; for non-commercial use."""
    return load_svhn(SVHN, SVHN_COUNTS)


def load_svhn(published: PublishedFiles, counts: tuple[int, ...]) -> Dataset:
    """SVHN in MATLAB's form, read only after its checksum: `X` (h, w, 3, n), `y` with 10 for zero."""
    train, test = (
        _parse_mat(content, file.name)
        for content, file in zip(published.read(), published.files, strict=True)
    )
    check_counts("svhn", (train, test), counts)
    return Dataset("svhn", train, test, DIGITS, Preprocessing.resize_only(train.shape))


def _parse_mat(content: bytes, name: str) -> ImageSet:
    from scipy.io import loadmat  # 0.1 s

    try:
        arrays = loadmat(io.BytesIO(content), variable_names=("X", "y"))
        pixels, labels = arrays["X"].transpose(3, 2, 0, 1), arrays["y"].reshape(-1) % 10
    except Exception as error:  # scipy raises a dozen types on other bytes
        raise CorruptFileError(f"'{name}' has no matrices X and y ({error}); remove it") from error
    return make_image_set(np.ascontiguousarray(pixels), labels, f"'{name}'")


# ---------------------------------------------------------------- MedMNIST


@dataclass(frozen=True)
class MedicalSet:
    """A dataset of MedMNIST with one label per image.

    Attributes:
        md5: of its file.
        counts: training images, those for validation included, and test images.
        color: whether it has three channels.
        subject: of the images, for listings.
        labels: the names of the classes.
    """

    md5: str
    counts: tuple[int, int]
    color: bool
    subject: str
    labels: tuple[str, ...]


ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left",
    "lung-right", "pancreas", "spleen",
)  # fmt: skip
MEDICAL_SETS = {
    "pathmnist": MedicalSet(
        "a8b06965200029087d5bd730944a56c1", (100_000, 7_180), True, "tissue of the colon",
        (
            "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
            "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
        ),
    ),
    "dermamnist": MedicalSet(
        "0744692d530f8e62ec473284d019b0c7", (8_010, 2_005), True, "lesions of the skin",
        (
            "actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma",
            "benign keratosis-like lesions", "dermatofibroma", "melanoma", "melanocytic nevi",
            "vascular lesions",
        ),
    ),
    "octmnist": MedicalSet(
        "c68d92d5b585d8d81f7112f81e2d0842", (108_309, 1_000), False, "retinas in tomography",
        ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    ),
    "pneumoniamnist": MedicalSet(
        "28209eda62fecd6e6a2d98b1501bb15f", (5_232, 624), False, "chest X-rays", ("normal", "pneumonia"),
    ),
    "retinamnist": MedicalSet(
        "bd4c0672f1bba3e3a89f0e4e876791e4", (1_200, 400), True, "retinas, five grades of retinopathy",
        tuple("01234"),
    ),
    "breastmnist": MedicalSet(
        "750601b1f35ba3300ea97c75c52ff8f6", (624, 156), False, "ultrasound of breasts",
        ("malignant", "normal, benign"),
    ),
    "bloodmnist": MedicalSet(
        "7053d0359d879ad8a5505303e11de1dc", (13_671, 3_421), True, "blood cells",
        (
            "basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte", "monocyte",
            "neutrophil", "platelet",
        ),
    ),
    "tissuemnist": MedicalSet(
        "ebe78ee8b05294063de985d821c1c34b", (189_106, 47_280), False, "cells of the kidney",
        (
            "Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells",
            "Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments",
            "Thick Ascending Limb",
        ),
    ),
    "organamnist": MedicalSet(
        "866b832ed4eeba67bfb9edee1d5544e6", (41_072, 17_778), False, "organs, axial CT", ORGANS
    ),
    "organcmnist": MedicalSet(
        "0afa5834fb105f7705a7d93372119a21", (15_392, 8_268), False, "organs, coronal CT", ORGANS
    ),
    "organsmnist": MedicalSet(
        "e5c39f1af030238290b9557d9503af9d", (16_392, 8_829), False, "organs, sagittal CT", ORGANS
    ),
}  # fmt: skip
"""All of MedMNIST's 28 x 28 images but chestmnist, whose images have several labels each."""


def medical_files(name: str, md5: str) -> PublishedFiles:
    """Where a dataset of MedMNIST is published."""
    return PublishedFiles(
        name=name,
        mirrors=("https://zenodo.org/record/6496656/files/", "https://zenodo.org/records/10519652/files/"),
        files=(PublishedFile(f"{name}.npz", f"md5:{md5}"),),
        directories=("medmnist",),
        max_mib=256,
    )


def load_medical(published: PublishedFiles, medical: MedicalSet) -> Dataset:
    """A dataset of MedMNIST; its validation images are training images, of which a study holds out some."""
    sets = {}
    try:
        with np.load(io.BytesIO(published.read()[0]), allow_pickle=False) as arrays:
            for split in ("train", "val", "test"):
                pixels, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
                channels_first = pixels.transpose(0, 3, 1, 2).copy() if pixels.ndim == 4 else pixels[:, None]
                sets[split] = make_image_set(channels_first, labels.reshape(len(labels)), f"{split}_images")
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        name = published.files[0].name
        raise CorruptFileError(f"'{name}' has not the arrays of MedMNIST ({error}); remove it") from error
    train = ImageSet(
        np.concatenate([sets["train"].pixels, sets["val"].pixels]),
        np.concatenate([sets["train"].labels, sets["val"].labels]),
    )
    check_counts(published.name, (train, sets["test"]), medical.counts)
    preprocessing = suitable_preprocessing(train.pixels)
    return Dataset(published.name, train, sets["test"], medical.labels, preprocessing)


def _loader(name: str, medical: MedicalSet) -> Callable[[], Dataset]:
    return lambda: load_medical(medical_files(name, medical.md5), medical)


for _name, _medical in MEDICAL_SETS.items():
    _form = "color" if _medical.color else "grayscale"
    _size = f"{sum(_medical.counts):,} images"
    _text = f"{_size}: {_medical.subject}, 28 x 28 {_form}; of MedMNIST, downloaded once"
    datasets.add(_name, RegisteredDataset(_name, _text, _loader(_name, _medical)))

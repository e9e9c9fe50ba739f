"""Published datasets of all forms, from small files of the true form behind a server on this machine."""

import bz2
import functools
import gzip
import hashlib
import http.server
import io
import pickle
import struct
import tarfile
import threading
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from malicious_files import idx
from scipy.io import savemat

from inklab.data import benchmark_sets, mnist
from inklab.data.benchmark_sets import load_cifar10, load_medical, load_svhn, load_usps
from inklab.data.image_layout import EMNIST_PARTS
from inklab.data.mnist import load_emnist, load_qmnist
from inklab.data.published import PublishedFile, PublishedFiles
from inklab.errors import CorruptFileError, DatasetUnavailableError

RNG = np.random.default_rng(4)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A directory on loopback, and its address."""
    folder = tmp_path_factory.mktemp("mirror")
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def publish(server, tmp_path, monkeypatch):
    """A function that serves files as a dataset whose checksums are theirs."""
    folder, address = server
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("INKLAB_DATA_DIR", raising=False)
    monkeypatch.delenv("INKLAB_OFFLINE", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def serve(name, contents):
        for file, content in contents.items():
            (folder / file).write_bytes(content)
        files = tuple(
            PublishedFile(file, f"md5:{hashlib.md5(content).hexdigest()}")
            for file, content in contents.items()
        )
        return PublishedFiles(name, (address,), files)

    return serve


def digits(count, side=28):
    return RNG.integers(0, 256, (count, side, side), np.uint8), np.arange(count, dtype=np.uint8) % 10


def table(labels):
    """QMNIST's labels: a digit and seven numbers about its origin in each row."""
    rows = np.tile(np.arange(8), (len(labels), 1))
    rows[:, 0] = labels
    return struct.pack(">4B2I", 0, 0, 0x0C, 2, *rows.shape) + rows.astype(">i4").tobytes()


def test_qmnist_has_the_digits_after_those_of_mnist(publish):
    (train, train_labels), (test, test_labels) = digits(20), digits(15)
    contents = (idx(train), table(train_labels), idx(test), table(test_labels))
    names = [file.name for file in mnist.QMNIST.files]
    published = publish("qmnist", dict(zip(names, map(gzip.compress, contents), strict=True)))
    dataset = load_qmnist(published, (20, 15), skip=10)
    np.testing.assert_array_equal(dataset.test.pixels[:, 0], test[10:])
    assert dataset.test.labels.tolist() == test_labels[10:].tolist()
    with pytest.raises(CorruptFileError, match="20 training and 15 test .* published ones 60,000"):
        load_qmnist(published, (60_000, 60_000), skip=10)


def test_emnist_is_upright_and_its_letters_have_names(publish):
    sets = {"train": digits(30), "test": digits(10)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for split, (pixels, labels) in sets.items():
            for kind, array in (("images-idx3", pixels.transpose(0, 2, 1)), ("labels-idx1", labels + 1)):
                name = f"gzip/emnist-letters-{split}-{kind}-ubyte.gz"
                archive.writestr(name, gzip.compress(idx(np.ascontiguousarray(array))))
    published = publish("emnist", {"gzip.zip": buffer.getvalue()})
    part = replace(EMNIST_PARTS["letters"], counts=(30, 10))
    dataset = load_emnist(published, "letters", part)
    np.testing.assert_array_equal(dataset.train.pixels[:, 0], sets["train"][0])
    assert dataset.labels[dataset.train.labels[2]] == "C" and len(dataset.labels) == 26
    with pytest.raises(CorruptFileError, match="no file 'gzip/emnist-digits-train"):
        load_emnist(published, "digits", part)


def test_the_classes_of_emnist_are_as_many_as_its_authors_say():
    assert {name: len(part.labels) for name, part in EMNIST_PARTS.items() if part.counts} == {
        "letters": 26, "balanced": 47, "digits": 10,
    }  # fmt: skip


def libsvm(pixels, labels):
    """LIBSVM's text of images in [0, 255]."""
    lines = [
        " ".join(
            [str(label + 1), *(f"{i}:{value:.4f}" for i, value in enumerate(image.ravel() / 127.5 - 1, 1))]
        )
        for image, label in zip(pixels, labels, strict=True)
    ]
    return "\n".join(lines).encode() + b"\n"


def test_usps_is_read_from_the_text_of_libsvm(publish):
    train, test = digits(20, 16), digits(10, 16)
    published = publish(
        "usps", {"usps.bz2": bz2.compress(libsvm(*train)), "usps.t.bz2": bz2.compress(libsvm(*test))}
    )
    dataset = load_usps(published, (20, 10))
    np.testing.assert_array_equal(dataset.train.pixels[:, 0], train[0])
    assert dataset.test.labels.tolist() == test[1].tolist()
    bad = publish("usps", {"usps.bz2": bz2.compress(b"1 1:0.5 2:0.5\n"), "usps.t.bz2": b"1"})
    with pytest.raises(CorruptFileError, match=r"no lines of 256 pixels"):
        load_usps(bad, (20, 10))


def test_cifar10_is_read_from_its_binary_version(publish):
    records = [RNG.integers(0, 10, (4, 3073), np.uint8) for _ in range(6)]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, record in zip(
            ["test_batch", *(f"data_batch_{i}" for i in range(1, 6))], records, strict=True
        ):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = record.size
            archive.addfile(member, io.BytesIO(record.tobytes()))
    published = publish("cifar10", {"cifar-10-binary.tar.gz": buffer.getvalue()})
    dataset = load_cifar10(published, (20, 4))
    assert dataset.shape == (3, 32, 32) and dataset.test.labels.tolist() == records[0][:, 0].tolist()
    np.testing.assert_array_equal(dataset.train.pixels[4].ravel(), records[2][0, 1:])


def test_svhn_is_read_from_matrices_with_ten_for_zero(publish):
    contents, arrays = {}, {}
    for name, count in (("train_32x32.mat", 20), ("test_32x32.mat", 10)):
        arrays[name] = RNG.integers(0, 256, (32, 32, 3, count), np.uint8)
        buffer = io.BytesIO()
        labels = np.arange(1, count + 1).reshape(-1, 1) % 10
        savemat(buffer, {"X": arrays[name], "y": np.where(labels == 0, 10, labels).astype(np.uint8)})
        contents[name] = buffer.getvalue()
    dataset = load_svhn(publish("svhn", contents), (20, 10))
    np.testing.assert_array_equal(dataset.train.pixels[3, 1], arrays["train_32x32.mat"][:, :, 1, 3])
    assert dataset.train.labels[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


def medical_file(color, **other):
    arrays = {}
    for split, count in (("train", 12), ("val", 4), ("test", 6)):
        shape = (count, 28, 28, 3) if color else (count, 28, 28)
        arrays[f"{split}_images"] = RNG.integers(0, 256, shape, np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **(arrays | other))
    return arrays, buffer.getvalue()


@pytest.mark.parametrize("color", [True, False])
def test_medical_images_with_those_for_validation_among_the_training_images(publish, color):
    arrays, content = medical_file(color)
    medical = replace(benchmark_sets.MEDICAL_SETS["breastmnist"], counts=(16, 6))
    dataset = load_medical(publish("breastmnist", {"breastmnist.npz": content}), medical)
    assert dataset.shape == (3 if color else 1, 28, 28) and dataset.labels[0] == "malignant"
    last = arrays["val_images"][-1]
    np.testing.assert_array_equal(dataset.train.pixels[-1], last.transpose(2, 0, 1) if color else last[None])


def test_nothing_is_unpickled(publish):
    _, content = medical_file(False, train_labels=np.array([print] * 12, object))
    medical = replace(benchmark_sets.MEDICAL_SETS["breastmnist"], counts=(16, 6))
    with pytest.raises(CorruptFileError, match="allow_pickle"):
        load_medical(publish("breastmnist", {"breastmnist.npz": content}), medical)
    pickled = publish("svhn", {"train_32x32.mat": pickle.dumps({"X": 1}), "test_32x32.mat": b""})
    with pytest.raises(CorruptFileError, match="no matrices X and y"):
        load_svhn(pickled, (20, 10))


def test_another_checksum_is_another_file(publish, server):
    published = publish("usps", {"usps.bz2": b"one", "usps.t.bz2": b"two"})
    (server[0] / "usps.t.bz2").write_bytes(b"three")
    with pytest.raises(DatasetUnavailableError, match="'usps.t.bz2' could not .*another checksum"):
        published.read()


SPECS = [
    mnist.MNIST.published, mnist.FASHION_MNIST.published, mnist.KMNIST.published, mnist.QMNIST, mnist.EMNIST,
    benchmark_sets.USPS, benchmark_sets.CIFAR10, benchmark_sets.SVHN,
    *(benchmark_sets.medical_files(name, entry.md5) for name, entry in benchmark_sets.MEDICAL_SETS.items()),
]  # fmt: skip


@pytest.mark.parametrize("published", SPECS, ids=lambda published: published.name)
def test_every_download_is_checked(published):
    for file in published.files:
        method, _, digest = file.checksum.partition(":")
        assert len(digest) == {"md5": 32, "sha256": 64}[method] and set(digest) <= set("0123456789abcdef")
    assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in published.mirrors)

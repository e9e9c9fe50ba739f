"""MNIST from files, cache and mirrors; what happens when it can't be had."""

import contextlib
import functools
import gzip
import hashlib
import http.server
import os
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from malicious_files import idx

from inklab.data.dataset import split
from inklab.data.mnist import FASHION_MNIST, FILES, MNIST, IdxSource, four_files
from inklab.data.published import PublishedFiles, download_time
from inklab.data.sources import datasets, load_dataset, load_default
from inklab.errors import CorruptFileError, DataError, DatasetUnavailableError
from inklab.records.components import Preprocessing


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """No test here uses the user's cache or data, or a network beyond this machine."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("INKLAB_DATA_DIR", raising=False)
    monkeypatch.delenv("INKLAB_OFFLINE", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def small_files() -> dict[str, bytes]:
    """The four files of a dataset like MNIST, uncompressed, with 20 and 10 images of 28 x 28."""
    rng, files = np.random.default_rng(0), {}
    for count, images, labels in ((20, *FILES[:2]), (10, *FILES[2:])):
        pixels = rng.integers(0, 256, (count, 28, 28), np.uint8)
        files[images], files[labels] = idx(pixels), idx(np.arange(count, dtype=np.uint8) % 10)
    return files


CONTENT = small_files()
PACKED = {file: gzip.compress(content, mtime=0) for file, content in CONTENT.items()}
SMALL = PublishedFiles(
    name="small",
    mirrors=(),
    files=four_files(
        tuple(hashlib.sha256(PACKED[file]).hexdigest() for file in FILES),
        tuple(hashlib.sha256(CONTENT[file]).hexdigest() for file in FILES),
    ),
)


def load(published):
    return IdxSource(published, tuple("0123456789"), Preprocessing()).load()


def write_files(folder: Path, packed: bool = True) -> None:
    folder.mkdir(parents=True)
    for file, content in CONTENT.items():
        name = file if packed else file.removesuffix(".gz")
        (folder / name).write_bytes(PACKED[file] if packed else content)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def mirror(tmp_path):
    """Serves `tmp_path / "mirror"` on loopback; gives its address."""
    handler = functools.partial(_Quiet, directory=str(tmp_path / "mirror"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


def no_sockets(monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("packed", [True, False])
def test_files_in_the_data_folder_are_used_without_any_network(tmp_path, monkeypatch, packed):
    write_files(tmp_path / "data/small", packed)
    monkeypatch.setenv("INKLAB_DATA_DIR", str(tmp_path / "data"))
    no_sockets(monkeypatch)
    dataset = load(SMALL)
    assert (len(dataset.train), len(dataset.test), dataset.preprocessing) == (20, 10, Preprocessing())


def test_a_wrong_file_in_the_data_folder_is_named_and_not_passed_over(tmp_path, monkeypatch):
    write_files(tmp_path / "data/small")
    wrong = bytearray(CONTENT[FILES[0]])
    wrong[100] ^= 1
    (tmp_path / "data/small" / FILES[0]).write_bytes(gzip.compress(bytes(wrong)))
    monkeypatch.setenv("INKLAB_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(CorruptFileError, match=f"data/small/{FILES[0]}'"):
        load(SMALL)


def test_a_mirror_that_fails_is_followed_by_one_that_works_and_the_cache_keeps_it(tmp_path, mirror):
    write_files(tmp_path / "mirror/good")
    write_files(tmp_path / "mirror/wrong")
    for file in FILES:
        (tmp_path / "mirror/wrong" / file).write_bytes(gzip.compress(CONTENT[FILES[1]] + b"!"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/"
    addresses = (closed, mirror + "missing/", mirror + "wrong/", mirror + "good/")
    first = load(replace(SMALL, mirrors=addresses))
    cache = tmp_path / "cache/inklab/data/small"
    assert sorted(path.name for path in cache.iterdir()) == sorted(FILES)  # and no partial files
    (cache / FILES[2]).write_bytes((cache / FILES[2]).read_bytes()[:-20])
    good = replace(SMALL, mirrors=(mirror + "good/",))
    load(good)
    assert gzip.decompress((cache / FILES[2]).read_bytes()) == CONTENT[FILES[2]], "downloaded again"
    with pytest.MonkeyPatch.context() as patch:
        no_sockets(patch)
        assert load(SMALL).sha256 == first.sha256
    (cache / FILES[0]).unlink()
    with pytest.raises(DatasetUnavailableError):  # not the published files
        load(replace(good, files=tuple(replace(file, content_sha256="0" * 64) for file in good.files)))


def test_when_every_mirror_fails_the_message_says_what_was_tried_and_what_to_do(tmp_path, mirror):
    (tmp_path / "mirror").mkdir()
    with pytest.raises(DatasetUnavailableError) as caught:
        load(replace(SMALL, mirrors=(mirror,)))
    message = str(caught.value)
    for part in ("127.0.0.1", "404", "INKLAB_DATA_DIR", "cache"):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"small/{name.replace('-idx', '.idx')}",  # of Kaggle
        lambda name: f"small/{name.replace('-idx', '.idx')}.gz",
        lambda name: f"small/{name.replace('-idx', '.idx')}/{name.replace('-idx', '.idx')}",
        lambda name: f"small/{name}/{name}",
        lambda name: f"Small/raw/{name}",  # of torchvision
    ],
)
def test_other_names_in_the_data_folder(tmp_path, monkeypatch, rename):
    for name, content in CONTENT.items():
        path = tmp_path / rename(name.removesuffix(".gz"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    monkeypatch.setenv("INKLAB_DATA_DIR", str(tmp_path))
    no_sockets(monkeypatch)
    assert len(load(replace(SMALL, directories=("Small/raw",))).train) == 20


def test_a_file_that_is_missing_in_the_data_folder_is_named(tmp_path, monkeypatch):
    write_files(tmp_path / "data/small")
    (tmp_path / "data/small" / FILES[1]).unlink()
    (tmp_path / "there.npz").touch()
    monkeypatch.setenv("INKLAB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("INKLAB_OFFLINE", "1")
    hint = str(tmp_path / "there.npz")
    with pytest.raises(DatasetUnavailableError, match=f"data/small' has no '{FILES[1]}'.*--data {hint}"):
        load(replace(SMALL, hints=(hint, str(tmp_path / "not there"))))


def test_folders_of_torchvision_are_found_from_above(tmp_path):
    write_files(tmp_path / "data/MNIST/raw", packed=False)
    sha256 = {load_dataset(str(tmp_path / name)).sha256 for name in ("data", "data/MNIST", "data/MNIST/raw")}
    assert len(sha256) == 1
    write_files(tmp_path / "data/KMNIST/raw")
    with pytest.raises(DataError, match=r"several datasets; name one of them: '.*KMNIST/raw', '.*MNIST/raw'"):
        load_dataset(str(tmp_path / "data"))


DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist_as_debian_packs_it(monkeypatch):
    no_sockets(monkeypatch)
    dataset = load_dataset("fashion-mnist")
    assert (dataset.train.counts(10), dataset.test.counts(10)) == ((6000,) * 10, (1000,) * 10)
    assert load_dataset(str(DEBIAN)).preprocessing.is_resize_only, "by path it is not taken for digits"


def test_offline_means_that_no_socket_is_opened(monkeypatch):
    monkeypatch.setenv("INKLAB_OFFLINE", "1")
    no_sockets(monkeypatch)
    for published in (MNIST.published, replace(FASHION_MNIST.published, directories=())):
        with pytest.raises(DatasetUnavailableError, match="INKLAB_OFFLINE"):
            load(published)


def test_slow_and_silent_mirrors_are_given_up_at_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as server:

        def drip():
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n")
                for _ in range(100):
                    connection.sendall(bytes(65536))
                    time.sleep(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        for mirror, times in ((server, 1), (silent, 2)):
            addresses = (f"http://127.0.0.1:{mirror.getsockname()[1]}/",) * times
            start = time.monotonic()
            with pytest.raises(DatasetUnavailableError), download_time(0.5):
                load(replace(SMALL, mirrors=addresses))
            assert time.monotonic() - start < 3  # the whole would take five seconds of each
        thread.join()


def test_the_default_is_mnist_5k_without_a_network_and_says_why(monkeypatch):
    monkeypatch.setenv("INKLAB_OFFLINE", "1")
    dataset = load_default()
    assert dataset.name == "mnist-5k"
    assert dataset.note is not None and "INKLAB_OFFLINE" in dataset.note and "\n" not in dataset.note
    registered = load_dataset("mnist-5k")
    known = "fe48da968cd7a5789574066704d6763ae111e6f396c6646fae5c96d93869449e"  # part of the ids of trials
    assert (registered.note, registered.sha256) == (None, known)
    assert {"mnist", "fashion-mnist", "mnist-5k"} <= set(datasets)

    parts = split(dataset, validation=500, seed=0)
    for images, count in ((parts.train, 350), (parts.validation, 50), (parts.test, 100)):
        assert images.counts(10) == (count,) * 10


REAL = os.environ.get("INKLAB_DATA_DIR")


@pytest.mark.skipif(not REAL or not (Path(REAL) / "mnist").is_dir(), reason="INKLAB_DATA_DIR holds no MNIST")
def test_the_real_mnist_has_its_known_counts_and_holds_mnist_5k(monkeypatch):
    monkeypatch.setenv("INKLAB_DATA_DIR", str(REAL))
    dataset = load_dataset("mnist")
    assert dataset.train.counts(10) == tuple([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    assert dataset.test.counts(10) == tuple([980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    inside = {image.tobytes() for image in dataset.train.pixels}
    small = load_dataset("mnist-5k")
    assert all(image.tobytes() in inside for images in (small.train, small.test) for image in images.pixels)
    parts = split(dataset, validation=5000, seed=0)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (55_000, 5_000, 10_000)

"""IDX files: what is read, and that nothing malformed is accepted."""

import contextlib
import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from malicious_files import idx

from inklab.data.formats import parse_idx, read_idx, unpack
from inklab.data.sources import load_dataset
from inklab.datasets import from_arrays
from inklab.errors import CorruptFileError, DataError


def write_pair(folder: Path, part: str, count: int, packed: bool = False) -> None:
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, 4, 5), np.uint8)
    labels = (np.arange(count) % 3).astype(np.uint8)
    for name, array in ((f"{part}images-idx3-ubyte", images), (f"{part}labels-idx1-ubyte", labels)):
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(idx(array)) if packed else idx(array))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (0, 28, 28), (2, 1, 3, 4)])
def test_what_was_written_is_read(tmp_path, shape, pack):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    path = tmp_path / "a-idx"
    path.write_bytes(pack(idx(array)))
    np.testing.assert_array_equal(read_idx(path), array)
    whole = idx(array)
    packed = gzip.compress(whole[:5], mtime=0) + gzip.compress(whole[5:])  # of two members
    assert unpack(io.BytesIO(packed), "two") == whole


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: b"\0\0\x08" + tail))
def test_any_bytes_give_an_array_or_our_error(content):
    for raw in (content, gzip.compress(content, mtime=0), gzip.compress(content)[: len(content)]):
        with contextlib.suppress(DataError):
            parse_idx(unpack(io.BytesIO(raw), "f"), "f")


GOOD = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n",
        b"\0\0\x0a\x01" + bytes(8),  # a type that does not exist
        b"\0\0\x0d\x01\0\0\0\x02" + bytes(7),  # floats, one byte too few
        b"\0\0\x08\x07" + bytes(40),  # seven dimensions
        GOOD[:10],
        GOOD[:-1],
        GOOD + b"!",
        b"\0\0\x08\x03" + b"\xff" * 12,  # terabytes
        gzip.compress(GOOD, mtime=0)[:-9],
        gzip.compress(GOOD, mtime=0)[:-8] + bytes(8),
        gzip.compress(GOOD[:-1], mtime=0),
    ],
    ids=range(12),
)
def test_malformed_bytes_are_refused_in_one_line(content):
    with pytest.raises(CorruptFileError) as caught:
        unpack(io.BytesIO(content), "f.gz")
    assert "'f.gz'" in str(caught.value) and "\n" not in str(caught.value)


def test_a_gzip_bomb_is_not_unpacked():
    bomb = gzip.compress(idx(np.zeros(4, np.uint8)) + bytes(50_000_000))

    class Counting(io.BytesIO):
        received = 0

        def read(self, size=-1):
            chunk = super().read(size)
            self.received += len(chunk)
            return chunk

    file = Counting(bomb + bytes(1_000_000))
    with pytest.raises(CorruptFileError):
        unpack(file, "bomb")
    assert file.received < 300_000  # the buffer of gzip's reader, not the file


@pytest.mark.parametrize("packed", [False, True])
def test_labels_and_test_set_are_recognized_by_their_names(tmp_path, packed):
    write_pair(tmp_path, "train-", 12, packed)
    write_pair(tmp_path, "t10k-", 6, packed)
    for path in (tmp_path, tmp_path / ("train-images-idx3-ubyte" + ".gz" * packed)):
        dataset = load_dataset(str(path))
        assert (len(dataset.train), len(dataset.test), dataset.shape) == (12, 6, (1, 4, 5))
        assert dataset.labels == ("0", "1", "2")


@pytest.mark.parametrize("dotted", [False, True])
def test_files_in_directories_of_their_names_are_read(tmp_path, dotted):  # as Kaggle unpacks them
    write_pair(tmp_path, "train-", 12)
    write_pair(tmp_path, "t10k-", 6)
    expected = load_dataset(str(tmp_path)).sha256
    for path in list(tmp_path.iterdir()):
        name = path.name.replace("-idx", ".idx") if dotted else path.name
        content = path.read_bytes()
        path.unlink()
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(content)
    images = next(tmp_path.glob("train-images*"))
    assert {load_dataset(str(path)).sha256 for path in (tmp_path, images, images / images.name)} == {expected}


def test_a_single_images_file_gives_a_sixth_of_each_class_to_the_test(tmp_path):
    write_pair(tmp_path, "", 36)
    dataset = load_dataset(str(tmp_path / "images-idx3-ubyte"), seed=3)
    assert dataset.test.counts(3) == (2, 2, 2)
    assert dataset.sha256 == load_dataset(str(tmp_path / "images-idx3-ubyte"), seed=3).sha256
    assert dataset.sha256 != load_dataset(str(tmp_path / "images-idx3-ubyte"), seed=4).sha256


TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def typed(kind, array):
    stored = np.asarray(array).astype(TYPES[kind])
    return b"\0\0" + bytes([kind, stored.ndim]) + np.array(stored.shape, ">u4").tobytes() + stored.tobytes()


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_of_numbers_is_read_as_arrays_are(tmp_path, kind):
    images = np.random.default_rng(0).integers(0, 128 if kind == 0x09 else 256, (24, 4, 5))
    labels = np.arange(24) % 3
    for name, content in (("train-images-idx3-x", images), ("train-labels-idx1-y", labels)):
        (tmp_path / name).write_bytes(typed(kind, content))
    expected = from_arrays(images, labels)
    assert load_dataset(str(tmp_path)).sha256 == expected.sha256
    if kind >= 0x0D:
        (tmp_path / "train-images-idx3-x").write_bytes(typed(kind, images / 255))
        assert load_dataset(str(tmp_path)).sha256 == expected.sha256
        (tmp_path / "train-images-idx3-x").write_bytes(typed(kind, images / 100))
        with pytest.raises(DataError, match="floats from"):
            load_dataset(str(tmp_path))


def test_missing_labels_and_wrong_names_say_what_is_needed(tmp_path):
    write_pair(tmp_path, "", 6)
    (tmp_path / "labels-idx1-ubyte").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="labels-idx1-ubyte"):
        load_dataset(str(tmp_path / "images-idx3-ubyte"))
    (tmp_path / "idx-things").write_bytes(GOOD)
    with pytest.raises(DataError, match="images-idx3"):
        load_dataset(str(tmp_path / "idx-things"))


def test_files_of_emnist_are_turned_upright_and_named(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 5, 5), np.uint8), (np.arange(40) % 26 + 1).astype(np.uint8)
    for part, rows in (("train", slice(30)), ("test", slice(30, 40))):
        for kind, array in (("images-idx3", images.swapaxes(1, 2).copy()), ("labels-idx1", labels)):
            (tmp_path / f"emnist-letters-{part}-{kind}-ubyte").write_bytes(idx(array[rows]))
    dataset = load_dataset(str(tmp_path))
    np.testing.assert_array_equal(dataset.train.pixels[:, 0], images[:30])
    np.testing.assert_array_equal(dataset.test.pixels[:, 0], images[30:])
    assert dataset.labels == tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ") and dataset.train.labels[:2].tolist() == [
        0,
        1,
    ]
    assert "turned upright" in dataset.note
    write_pair(tmp_path, "train-", 9)
    with pytest.raises(DataError, match="training images of several datasets; name one: emnist-letters"):
        load_dataset(str(tmp_path))

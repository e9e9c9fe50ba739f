"""NumPy archives: what is read, and that malicious ones are refused."""

import io
import zipfile

import numpy as np
import pytest

from inklab.data.formats import read_npz
from inklab.data.sources import load_dataset
from inklab.datasets import from_arrays
from inklab.errors import CorruptFileError, DataError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (24, 6, 7), np.uint8)
LABELS = np.arange(24) % 3


def saved(path, save=np.savez, **arrays):
    save(path, **arrays)
    return str(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "names", ["train_images train_labels test_images test_labels", "x_train y_train x_test y_test"]
)
def test_both_conventions_of_names_are_read(tmp_path, names, save):
    arrays = dict(zip(names.split(), (IMAGES, LABELS, IMAGES[:6], LABELS[:6]), strict=True))
    dataset = load_dataset(saved(tmp_path / "a.npz", save, **arrays))
    np.testing.assert_array_equal(dataset.train.pixels, IMAGES[:, None])
    assert (len(dataset.test), dataset.labels, dataset.test.labels.dtype) == (6, ("0", "1", "2"), np.int64)


def test_without_a_test_set_a_sixth_of_each_class_becomes_one(tmp_path):
    dataset = load_dataset(saved(tmp_path / "a.npz", images=IMAGES, labels=LABELS.astype(np.uint8)))
    assert (len(dataset.train), len(dataset.test)) == (20, 4)
    assert set(dataset.test.counts(3)) == {1, 2}


@pytest.mark.parametrize("shape", [(24, 6, 7, 3), (24, 6, 7, 1)])
def test_channels_last_are_moved_to_the_front_and_fortran_order_is_the_same(tmp_path, shape):
    images = RNG.integers(0, 256, shape, np.uint8)
    arrays = {"x_train": np.asfortranarray(images), "y_train": LABELS}
    path = saved(tmp_path / "a.npz", **arrays, x_test=images, y_test=LABELS[:, None])
    np.testing.assert_array_equal(load_dataset(path).train.pixels, images.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (IMAGES.astype(float), LABELS),
        (IMAGES.reshape(24, 42), LABELS),
        (np.zeros((24, 5, 7, 6), np.uint8), LABELS),
        (np.zeros((24, 3, 7, 3), np.uint8), LABELS),
        (np.zeros((24, 5, 7, 5), np.uint8), LABELS),
        (IMAGES / 17, LABELS),
        (IMAGES, np.eye(24)[:, :12]),
        (IMAGES, LABELS[:-1]),
        (IMAGES, LABELS.astype(np.uint64) + np.uint64(2**63)),
        (IMAGES[:0], LABELS[:0]),
        (IMAGES[:, :0], LABELS),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path, images, labels):
    with pytest.raises(DataError):
        load_dataset(saved(tmp_path / "a.npz", images=images, labels=labels))


@pytest.mark.parametrize(
    ("images", "labels", "names"),
    [
        (IMAGES.astype(np.int64), LABELS - 1, ("-1", "0", "1")),
        (IMAGES / 255, LABELS.astype(np.float32), ("0", "1", "2")),
        (IMAGES, np.eye(3, dtype=int)[LABELS], ("0", "1", "2")),
        (IMAGES, np.array(["ü", "<b>", "z"])[LABELS], ("<b>", "z", "ü")),
        (IMAGES, LABELS + 10**12, tuple(str(10**12 + k) for k in range(3))),
    ],
)
def test_images_and_labels_may_have_any_usual_form(tmp_path, images, labels, names):
    dataset = load_dataset(
        saved(
            tmp_path / "a.npz",
            train_images=images,
            train_labels=labels,
            test_images=images,
            test_labels=labels,
        )
    )
    np.testing.assert_array_equal(dataset.train.pixels, IMAGES[:, None])
    assert dataset.labels == names


def test_arrays_of_other_names_are_not_read_and_named(tmp_path):
    other = {"val_images": IMAGES, "mean": np.array(0.5), "object": np.array([{}], object)}
    dataset = load_dataset(saved(tmp_path / "a.npz", images=IMAGES, labels=LABELS, **other))
    assert dataset.validation is None
    assert dataset.note == "Arrays that are not used: mean, object, val_images."
    assert dataset.sha256 == load_dataset(saved(tmp_path / "b.npz", images=IMAGES, labels=LABELS)).sha256


PAIRS = (
    "train_images train_labels",
    "x_train y_train",
    "X_train y_train",
    "images labels",
    "X y",
    "arr_0 arr_1",
)


@pytest.mark.parametrize("names", PAIRS)
@pytest.mark.parametrize("form", ["npz", "npy", "directory"])
def test_names_are_those_of_the_field_in_one_file_or_in_two(tmp_path, names, form):
    images, labels = names.split()
    if form == "npz":
        path = saved(tmp_path / "a.npz", **{images: IMAGES, labels: LABELS})
    else:
        np.save(tmp_path / f"{images}.npy", IMAGES)
        np.save(tmp_path / f"{labels}.npy", LABELS)
        path = str(tmp_path if form == "directory" else tmp_path / f"{images}.npy")
    assert load_dataset(path).sha256 == from_arrays(IMAGES, LABELS).sha256


@pytest.mark.parametrize("names", ["val_images val_labels", "x_val y_val"])
def test_a_validation_set_is_used(tmp_path, names):
    images, labels = names.split()
    arrays = {images.replace("val", part): IMAGES for part in ("train", "val", "test")}
    arrays |= {labels.replace("val", part): LABELS for part in ("train", "val", "test")}
    dataset = load_dataset(saved(tmp_path / "a.npz", **arrays))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (24, 24, 24)


def test_class_names_are_used_where_they_fit(tmp_path):
    names = np.array(["zero", "one", "two", "three"])
    path = saved(tmp_path / "a.npz", images=IMAGES, labels=LABELS, class_names=names)
    assert load_dataset(path).labels == ("zero", "one", "two")
    path = saved(tmp_path / "b.npz", images=IMAGES, labels=names[LABELS], class_names=names[::-1])
    assert load_dataset(path).labels == ("two", "one", "zero")
    path = saved(tmp_path / "c.npz", images=IMAGES, labels=LABELS, class_names=names[:2])
    dataset = load_dataset(path)
    assert (dataset.labels, dataset.note) == (("0", "1", "2"), "Arrays that are not used: class_names.")


def test_transparent_images_are_composited_on_the_contrasting_color(tmp_path):
    images = np.zeros((24, 6, 7, 4), np.uint8)
    images[:, 2:4, 2:4, 3] = 255  # black ink
    images[12:, ..., :3] = 255  # white ink
    pixels = from_arrays(images, LABELS, (images, LABELS)).train.pixels
    assert pixels.shape == (24, 3, 6, 7)
    assert (pixels[0, :, 2, 2] == 0).all() and (pixels[0, :, 0, 0] == 255).all()
    assert (pixels[12, :, 2, 2] == 255).all() and (pixels[12, :, 0, 0] == 0).all()
    opaque = np.dstack([IMAGES[0], IMAGES[1], IMAGES[2], np.full_like(IMAGES[0], 255)])[None].repeat(24, 0)
    pixels = from_arrays(opaque, LABELS, (opaque, LABELS)).train.pixels
    np.testing.assert_array_equal(pixels[5], IMAGES[:3])


def test_unknown_keys_list_what_is_there_and_what_is_read(tmp_path):
    with pytest.raises(DataError, match="pictures.*train_images"):
        load_dataset(saved(tmp_path / "a.npz", pictures=IMAGES))


class Trap:
    sprung = False

    def __reduce__(self):
        return (setattr, (Trap, "sprung", True))


def test_objects_are_never_unpickled(tmp_path):
    with pytest.raises(CorruptFileError):
        load_dataset(saved(tmp_path / "a.npz", images=np.array([Trap()], object), labels=LABELS))
    assert not Trap.sprung


def archive_with(header: bytes, body: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("images.npy", "labels.npy"):
            archive.writestr(name, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body)
    return file.getvalue()


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000)}",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 4)}",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        b"__import__('os')",
        b"(" * 5000,
    ],
    ids=range(5),
)
def test_false_headers_are_refused(tmp_path, header):
    path = tmp_path / "a.npz"
    path.write_bytes(archive_with(header, b"abc"))
    with pytest.raises(CorruptFileError):
        read_npz(path)


def test_an_entry_that_is_no_array_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images", b"no array")
        archive.writestr("labels", b"no array")
    with pytest.raises(CorruptFileError, match="images, is no array"):
        load_dataset(str(path))


def test_a_zip_bomb_is_refused_by_its_declared_size(tmp_path):
    path = tmp_path / "a.npz"
    content = bytearray(archive_with(b"{'descr': '|u1', 'fortran_order': False, 'shape': (3,)}", b"abc"))
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (2**32 - 2).to_bytes(4, "little")  # its uncompressed size
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match="4,294,967,"):
        read_npz(path)

"""Folders and zip files of pictures: every picture is used, and what is left out is named."""

import os
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from inklab import datasets
from inklab.data import pictures
from inklab.data.dataset import split
from inklab.errors import CorruptFileError, DataError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 6, 6), np.uint8)


def fill(folder, names, first=0):
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {"": "PNG", ".jfif": "JPEG", ".jpe": "JPEG"}.get(path.suffix.lower())
        Image.fromarray(IMAGES[(first + index) % len(IMAGES)]).save(path, kind)
    return folder


def names_of(part, classes="ab", count=6):
    return [f"{part}/{label}/{k}.png" for label in classes for k in range(count)]


def total(dataset):
    return len(dataset.train) + len(dataset.test) + len(dataset.validation or ())


@pytest.mark.parametrize(
    "suffix",
    [".png", ".PNG", ".bmp", ".gif", ".tif", ".TIFF", ".pgm", ".ppm", ".tga", ".webp", ".jfif", ".jpe", ""],
)
def test_every_suffix_is_read_and_files_without_one_by_content(tmp_path, suffix):
    fill(tmp_path, [f"{label}/{k}{suffix}" for label in "ab" for k in range(6)])
    dataset = datasets.from_folder(tmp_path)
    assert (total(dataset), dataset.note) == (12, None)
    if suffix.lower() not in (".webp", ".jfif", ".jpe"):
        contents = sorted(image.tobytes() for part in (dataset.train, dataset.test) for image in part.pixels)
        assert contents == sorted(image.tobytes() for image in IMAGES)


@pytest.mark.parametrize("white", [1, 255, 65535])
def test_pictures_of_floats_have_any_of_the_usual_ranges(tmp_path, white):
    for index, image in enumerate(IMAGES):
        path = tmp_path / "ab"[index % 2] / f"{index}.tif"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((image / np.float32(255) * white).astype(np.float32)).save(path)
    dataset = datasets.from_folder(tmp_path)
    contents = sorted(image.tobytes() for part in (dataset.train, dataset.test) for image in part.pixels)
    assert contents == sorted(image.tobytes() for image in IMAGES)


def test_pictures_below_a_class_are_its_pictures(tmp_path):
    fill(tmp_path, [f"{label}/{k}.png" for label in "ab" for k in range(3)])
    fill(tmp_path, [f"{label}/writer/deep/{k}.png" for label in "ab" for k in range(3)])
    assert total(datasets.from_folder(tmp_path)) == 12


def test_what_is_left_out_is_counted_and_named_and_junk_is_not(tmp_path):
    fill(tmp_path, names_of("."))
    for name in (
        "a/notes.txt",
        "b/empty",
        "README",
        ".DS_Store",
        "a/._0.png",
        "__MACOSX/x.png",
        "b/Thumbs.db",
        "a/@eaDir/SYNOPHOTO_THUMB.png",
        "lost+found/x",
        "System Volume Information/WPSettings.dat",
        "$RECYCLE.BIN/x",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    dataset = datasets.from_folder(tmp_path)
    assert dataset.note == "3 files were left out: 'README', 'a/notes.txt', 'b/empty'."
    assert (total(dataset), dataset.labels) == (12, ("a", "b"))


@pytest.mark.parametrize(
    "parts",
    [
        ("train", "test"),
        ("Training", "Testing"),
        ("train", "val"),
        ("TRAIN", "valid", "test"),
        ("train", "validation"),
    ],
)
def test_names_of_sets_in_any_case_and_a_validation_set_is_kept(tmp_path, parts):
    for index, part in enumerate(parts):
        fill(tmp_path, names_of(part), index)
    dataset = datasets.from_folder(tmp_path)
    has_test = parts[-1].lower().startswith("test")
    validation = next((part for part in parts if part.lower().startswith("val")), None)
    assert len(dataset.train) == 12 if has_test else len(dataset.train) + len(dataset.test) == 12
    assert (dataset.validation is not None) == (validation is not None)
    if validation:
        parts = split(dataset, validation=3, seed=0)
        assert (len(parts.train), parts.validation) == (len(dataset.train), dataset.validation)
        assert dataset.validation.counts(2) == (6, 6)
        shutil.rmtree(tmp_path / validation)
        assert "validation" in repr(dataset)
        if has_test:
            assert datasets.from_folder(tmp_path).sha256 != dataset.sha256


def test_classes_beside_sets_are_refused(tmp_path):
    for part in ("train", "test", "unlabeled"):
        fill(tmp_path, names_of(part))
    with pytest.raises(DataError, match="'test', 'train' and 'unlabeled' beside them"):
        datasets.from_folder(tmp_path)
    shutil.rmtree(tmp_path / "test")
    assert datasets.from_folder(tmp_path).labels == ("train", "unlabeled")  # vehicles, perhaps


def zipped(folder, path, inside=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, inside + file.relative_to(folder).as_posix())
    return path


@pytest.mark.parametrize("inside", ["", "set/", "a/b/"])
def test_a_zip_file_is_the_folder_in_it(tmp_path, inside):
    folder = fill(tmp_path / "set", [*names_of("train"), *names_of("val"), *names_of("test")])
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "a.png").write_bytes(b"")
    path = zipped(folder, tmp_path / "set.zip", inside)
    dataset = datasets.load(path)
    assert dataset.sha256 == datasets.from_folder(folder).sha256 == datasets.from_folder(path).sha256
    assert dataset.note is None
    assert sorted(tmp_path.iterdir()) == [folder, path]  # nothing is unpacked


def test_malicious_zip_files_are_refused(tmp_path):
    content = (fill(tmp_path, ["x.png"]) / "x.png").read_bytes()
    outside = tmp_path / "outside.zip"
    with zipfile.ZipFile(outside, "w") as archive:
        for name in ("../../a/0.png", "/etc/b/0.png"):
            archive.writestr(name, content)
    with pytest.raises(DataError):
        datasets.load(outside)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for label in "ab":
            archive.writestr(f"{label}/0.png", content)
    raw = bytearray(bomb.read_bytes())
    entry = raw.index(b"PK\x01\x02")
    raw[entry + 24 : entry + 28] = (600_000_000).to_bytes(4, "little")  # its uncompressed size
    bomb.write_bytes(raw)
    with pytest.raises(CorruptFileError, match="too large"):
        datasets.load(bomb)
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(outside.read_bytes()[:-30])
    with pytest.raises(CorruptFileError, match="damaged"):
        datasets.load(damaged)


def test_many_pictures_are_decoded_once_and_again_when_one_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MIN_CACHED_PICTURES", 12)
    monkeypatch.setattr(pictures, "cache_dir", lambda name: tmp_path / "cache" / name)
    folder = fill(tmp_path / "set", names_of("."))
    plain = datasets.from_folder(folder)
    (entry,) = (tmp_path / "cache" / "pictures").iterdir()
    status = (folder / "a/0.png").stat()
    (folder / "a/0.png").write_bytes(bytes(status.st_size))  # would be an error if it were decoded
    os.utime(folder / "a/0.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    again = datasets.from_folder(folder)
    assert (again.sha256, again.preprocessing, again.note) == (plain.sha256, plain.preprocessing, plain.note)
    entry.write_bytes(entry.read_bytes()[:-1])
    with pytest.raises(CorruptFileError, match="0.png"):  # a damaged cache is not believed
        datasets.from_folder(folder)
    fill(folder, ["a/0.png"], first=3)
    assert datasets.from_folder(folder).sha256 != plain.sha256
    monkeypatch.setattr(pictures, "MAX_CACHE_BYTES", entry.stat().st_size + 100)
    assert datasets.from_folder(folder).sha256 != plain.sha256
    assert len(list(entry.parent.iterdir())) == 1

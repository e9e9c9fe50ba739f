"""Datasets, their identity, their split, and checks of them."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inklab.data.dataset import Dataset, ImageSet, class_counts, make_image_set, split
from inklab.data.quality import check_data
from inklab.data.sources import load_dataset
from inklab.errors import ConfigError, DataError, OutOfRangeError, UnknownNameError
from inklab.records.components import Preprocessing
from inklab.records.data_report import DataReport


def images(labels, seed=0) -> ImageSet:
    labels = np.asarray(labels, np.int64)
    return ImageSet(np.random.default_rng(seed).integers(0, 256, (len(labels), 1, 4, 4), np.uint8), labels)


def dataset(numbers, **other) -> Dataset:
    names = ("class 0", "class 1", "class 2")
    fields: dict[str, Any] = {"train": images(numbers), "test": images([0, 1, 2], seed=1), "labels": names}
    return Dataset(name="made up", preprocessing=Preprocessing.resize_only((1, 4, 4)), **(fields | other))


LABELS = [0] * 50 + [1] * 30 + [2] * 21


def test_the_parts_make_up_the_whole_in_order_share_nothing_and_follow_from_the_seed():
    whole = dataset(LABELS)
    parts, again, other = (split(whole, validation=20, seed=seed) for seed in (3, 3, 4))
    kept = [image.tobytes() for part in (parts.train, parts.validation) for image in part.pixels]
    original = [image.tobytes() for image in whole.train.pixels]
    assert sorted(kept) == sorted(original) and len(set(kept)) == len(LABELS)
    indices = [original.index(image.tobytes()) for image in parts.validation.pixels]
    assert indices == sorted(indices) and parts.test is whole.test
    np.testing.assert_array_equal(parts.validation.pixels, again.validation.pixels)
    assert not np.array_equal(parts.validation.pixels, other.validation.pixels)
    assert split(dataset([0] * 9 + [1] * 9 + [2]), validation=9, seed=0).train.counts(3)[2] == 1
    none = split(whole, validation=0, seed=0)
    assert (len(none.train), len(none.validation), none.validation.shape) == (101, 0, (1, 4, 4))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=12).filter(any), st.data())
def test_shares_are_proportional_to_within_one_image(counts, data):
    take = data.draw(st.integers(0, sum(counts)))
    shares = class_counts(np.array(counts), take)
    assert shares.sum() == take
    for share, count in zip(shares, counts, strict=True):
        assert 0 <= share <= count and abs(share - take * count / sum(counts)) < 1


@pytest.mark.parametrize("validation", [-1, 101, 10**9])
def test_more_images_than_there_are_are_not_held_out(validation):
    with pytest.raises(ConfigError) as caught:
        split(dataset(LABELS), validation=validation, seed=0)
    assert caught.value.key == "data.validation"


def test_the_identity_follows_every_pixel_label_and_name_and_nothing_else():
    whole = dataset(LABELS)
    changed = whole.train.pixels.copy()
    changed[7, 0, 1, 2] ^= 1
    others = [
        dataset(LABELS, train=ImageSet(changed, whole.train.labels)),
        dataset([*LABELS[:-1], 1]),
        dataset(LABELS, labels=("class 0", "class 1", "two")),
        dataset(LABELS, train=whole.test, test=whole.train),
    ]
    assert len({whole.sha256, *(other.sha256 for other in others)}) == 5
    assert dataset(LABELS, note="a note").sha256 == whole.sha256


@pytest.mark.parametrize(
    "fields",
    [
        {"train": images([])},
        {"labels": ("a", "a", "b")},
        {"labels": ("a",)},
        {"labels": ("a", "b")},
        {"test": ImageSet(np.zeros((1, 1, 5, 4), np.uint8), np.array([0]))},
    ],
)
def test_sets_that_do_not_fit_together_are_refused(fields):
    with pytest.raises(DataError):
        dataset(LABELS, **fields)


def test_labels_that_do_not_fit_the_images_are_refused():
    pixels = np.zeros((3, 1, 4, 4), np.uint8)
    with pytest.raises(DataError, match="x.npz"):
        make_image_set(pixels, np.array([0, 1]), "x.npz")
    with pytest.raises(OutOfRangeError, match="x.npz"):
        make_image_set(pixels, np.array([0, -1, 1]), "x.npz")


def test_unknown_datasets_get_the_nearest_name_or_the_missing_path():
    with pytest.raises(UnknownNameError) as caught:
        load_dataset("mnist-5")
    assert (caught.value.key, caught.value.suggestion) == ("mnist-5", "mnist-5k")
    with pytest.raises(DataError, match="./nowhere.npz"):
        load_dataset("./nowhere.npz")


def test_a_function_in_a_users_file_is_a_dataset(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "from inklab.data.dataset import Dataset, ImageSet\n"
        "from inklab.records.components import Preprocessing\n"
        "def blank():\n"
        "    images = ImageSet(np.zeros((4, 1, 8, 8), np.uint8), np.arange(4) % 2)\n"
        "    return Dataset('blank', images, images, ('a', 'b'), Preprocessing.resize_only((1, 8, 8)))\n"
        "def nothing():\n"
        "    return 3\n"
    )
    assert load_dataset(f"{tmp_path}/mine.py:blank").shape == (1, 8, 8)
    with pytest.raises(DataError, match="mine.py:nothing"):
        load_dataset(f"{tmp_path}/mine.py:nothing")


def test_check_detects_every_issue():
    pixels = np.random.default_rng(0).integers(1, 100, (40, 1, 6, 6), np.uint8)
    labels = np.array([0] * 30 + [1] * 10)
    pixels[5] = pixels[3]  # a duplicate, same label
    pixels[35] = pixels[3]  # a duplicate, other label
    pixels[7] = 9  # constant
    pixels[8] = 255 - pixels[8]  # inverted
    test = ImageSet(np.stack([pixels[20], pixels[20] ^ 1]), np.array([0, 1]))
    data = Dataset(
        "planted", ImageSet(pixels, labels), test, ("a", "b", "c"), Preprocessing.resize_only((1, 6, 6))
    )
    report = check_data(data)
    assert report.counts == {"train": (30, 10, 0), "test": (1, 1, 0)}
    assert report.balance is None
    assert report.duplicates["train"].examples == (("train", 5), ("train", 35))
    assert report.train_test_overlap.examples == (("test", 0),)
    assert {index for _, index in report.label_conflicts.examples} == {3, 5, 35}
    assert report.constant_images.examples == (("train", 7),)
    assert report.inverted_polarity.examples == (("train", 8),)
    assert any("'c'" in note for note in report.notes)
    parts = split(data, validation=10, seed=1)
    assert set(check_data(data, parts).counts) == {"train", "validation", "test"}
    assert DataReport.parse_json(report.model_dump_json().encode(), "report") == report
    good = check_data(dataset([0, 1, 2] * 12))
    assert good.notes == () and good.balance == 1.0
    assert good.problems == report.problems == ()


TRAIN, TEST = images([0, 1, 2] * 12), images([0, 1, 2], seed=1)


@pytest.mark.parametrize(
    ("train", "test", "problem"),
    [
        (ImageSet(TRAIN.pixels % 2, TRAIN.labels), TEST, r"nearly black.* 1 of 255.*multiply them by 255"),
        (ImageSet(TRAIN.pixels % 17, TRAIN.labels), TEST, r"nearly black.* 16 of 255.*multiply them by 15"),
        (ImageSet(TRAIN.pixels * 0, TRAIN.labels), TEST, "nearly black.* 0 of 255"),
        (TRAIN, ImageSet(TEST.pixels % 2, TEST.labels), r"The test images are nearly black.* 1 of 255"),
        (images([0, 1] * 12), TEST, "No training image has the class 'class 2', but test images have"),
        (TRAIN, TRAIN.take(np.arange(9)), "9 of 9 test images are training images"),
    ],
)
def test_images_that_make_training_pointless_are_problems(train, test, problem):
    report = check_data(
        Dataset("x", train, test, ("class 0", "class 1", "class 2"), dataset([0]).preprocessing)
    )
    (sentence,) = report.problems
    assert re.search(problem, sentence)


def test_what_only_limits_a_result_is_a_note():
    four = ("0", "1", "2", "3")
    nowhere = check_data(dataset([1, 2, 3] * 12, test=images([1, 2, 3], seed=1), labels=four))
    assert nowhere.problems == () and "Do the labels begin at 1?" in " ".join(nowhere.notes)
    pixels = TRAIN.pixels % 2
    pixels[0] = TRAIN.pixels[0]  # a single bright image must not hide the others
    dim = check_data(replace(dataset([0, 1, 2] * 12), train=ImageSet(pixels, TRAIN.labels)))
    assert dim.problems == () and "35 of 36 training images are nearly black" in " ".join(dim.notes)
    untested = check_data(dataset([0, 1, 2, 3] * 12, labels=four))
    assert untested.problems == () and "No test image has the class '3'" in " ".join(untested.notes)
    leaked = check_data(dataset([0, 1, 2] * 12, test=ImageSet(
        np.concatenate([TRAIN.pixels[:1], TEST.pixels]), np.array([0, 0, 1, 2])
    )))  # fmt: skip
    assert leaked.problems == () and leaked.leaked_test_images == 1

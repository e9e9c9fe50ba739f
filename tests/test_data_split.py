"""Data sets, their identity, and the one fixed split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inklab.data.dataset import Dataset, ImageSet, class_counts, labeled, split
from inklab.data.preprocessing import Preprocessing
from inklab.data.quality import check_data
from inklab.data.sources import load
from inklab.errors import ConfigError, DataError, OutOfRangeError, UnknownNameError


def images(labels, seed=0) -> ImageSet:
    labels = np.asarray(labels, np.int64)
    return ImageSet(np.random.default_rng(seed).integers(0, 256, (len(labels), 1, 4, 4), np.uint8), labels)


def dataset(numbers, **other) -> Dataset:
    names = ("class 0", "class 1", "class 2")
    fields = {"train": images(numbers), "test": images([0, 1, 2], seed=1), "labels": names}
    return Dataset(source="made up", framing=Preprocessing.plain((1, 4, 4)), **(fields | other))


LABELS = [0] * 50 + [1] * 30 + [2] * 21


def test_the_parts_make_up_the_whole_in_order_and_share_nothing():
    whole = dataset(LABELS)
    parts = split(whole, validation=20, seed=3)
    seen = [image.tobytes() for part in (parts.train, parts.validation) for image in part.pixels]
    all_of_them = [image.tobytes() for image in whole.train.pixels]
    assert sorted(seen) == sorted(all_of_them) and len(set(seen)) == len(LABELS)
    places = [all_of_them.index(image.tobytes()) for image in parts.validation.pixels]
    assert places == sorted(places)
    assert parts.test is whole.test


def test_the_split_follows_from_the_seed_alone():
    first, again, other = (split(dataset(LABELS), validation=20, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.validation.pixels, again.validation.pixels)
    assert not np.array_equal(first.validation.pixels, other.validation.pixels)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=12).filter(any), st.data())
def test_shares_are_proportional_to_within_one_image(counts, data):
    take = data.draw(st.integers(0, sum(counts)))
    given_out = class_counts(np.array(counts), take)
    assert given_out.sum() == take
    for share, count in zip(given_out, counts, strict=True):
        assert 0 <= share <= count and abs(share - take * count / sum(counts)) < 1


def test_a_class_of_one_image_keeps_it_for_training():
    assert split(dataset([0] * 9 + [1] * 9 + [2]), validation=9, seed=0).train.counts(3)[2] == 1


def test_nothing_held_out_is_an_empty_set():
    parts = split(dataset(LABELS), validation=0, seed=0)
    assert (len(parts.train), len(parts.validation), parts.validation.shape) == (101, 0, (1, 4, 4))


@pytest.mark.parametrize("validation", [-1, 101, 10**9])
def test_more_than_there_is_can_not_be_held_out(validation):
    with pytest.raises(ConfigError, match=f"data.validation = {validation}.*101 training images; 0 to 100"):
        split(dataset(LABELS), validation=validation, seed=0)


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
    assert dataset(LABELS, note="a remark").sha256 == whole.sha256


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"train": images([])}, "0 training and 3 test images"),
        ({"labels": ("a", "a", "b")}, "2 different"),
        ({"labels": ("a",)}, "2 to 1000"),
        ({"labels": ("a", "b")}, "label 2, but only 2 classes"),
        ({"test": ImageSet(np.zeros((1, 1, 5, 4), np.uint8), np.array([0]))}, "must be alike"),
    ],
)
def test_sets_that_do_not_fit_together_are_refused(fields, says):
    with pytest.raises(DataError, match=says):
        dataset(LABELS, **fields)


def test_labels_that_do_not_fit_the_images_are_refused():
    pixels = np.zeros((3, 1, 4, 4), np.uint8)
    with pytest.raises(DataError, match="x.npz: uint8 .3, 1, 4, 4. images have the labels int64 .2,."):
        labeled(pixels, np.array([0, 1]), "x.npz")
    with pytest.raises(OutOfRangeError, match="from -1 to 1"):
        labeled(pixels, np.array([0, -1, 1]), "x.npz")


def test_unknown_sources_get_the_nearest_name_or_the_missing_path():
    with pytest.raises(UnknownNameError, match="Did you mean 'mnist-5k'"):
        load("mnist-5")
    with pytest.raises(DataError, match="no file or folder './nowhere.npz'"):
        load("./nowhere.npz")


def test_a_function_of_the_users_own_is_a_source(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "from inklab.data.sources import Dataset, ImageSet\n"
        "from inklab.data.preprocessing import Preprocessing\n"
        "def blank():\n"
        "    images = ImageSet(np.zeros((4, 1, 8, 8), np.uint8), np.arange(4) % 2)\n"
        "    return Dataset('blank', images, images, ('a', 'b'), Preprocessing.plain((1, 8, 8)))\n"
        "def nothing():\n"
        "    return 3\n"
    )
    assert load(f"{tmp_path}/mine.py:blank").shape == (1, 8, 8)
    with pytest.raises(DataError, match="gives a int"):
        load(f"{tmp_path}/mine.py:nothing")


def test_check_finds_what_was_planted():
    pixels = np.random.default_rng(0).integers(1, 100, (40, 1, 6, 6), np.uint8)
    labels = np.array([0] * 30 + [1] * 10)
    pixels[5] = pixels[3]  # repeated, same label
    pixels[35] = pixels[3]  # repeated, other label
    pixels[7] = 9  # constant
    pixels[8] = 255 - pixels[8]  # inverted
    test = ImageSet(np.stack([pixels[20], pixels[20] ^ 1]), np.array([0, 1]))
    data = Dataset("planted", ImageSet(pixels, labels), test, ("a", "b", "c"), Preprocessing.plain((1, 6, 6)))
    report = check_data(data)
    assert report.counts == {"train": [30, 10, 0], "test": [1, 1, 0]}
    assert report.balance is None
    assert report.repeated["train"].examples == (("train", 5), ("train", 35))
    assert report.leaked.examples == (("test", 0),)
    assert {place for _, place in report.conflicting.examples} == {3, 5, 35}
    assert (report.constant.examples, report.inverted.examples) == ((("train", 7),), (("train", 8),))
    assert any("no image of the class 'c'" in remark for remark in report.remarks)
    held = split(data, validation=10, seed=1)
    assert set(check_data(data, held).counts) == {"train", "validation", "test"}
    import json

    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["leaked"]["count"] == 1


def test_check_has_no_remark_on_good_data():
    good = dataset([0, 1, 2] * 12)
    assert check_data(good).remarks == () and check_data(good).balance == 1.0

"""Datasets from Python: what users have becomes bytes and class numbers, or is refused in one line."""

import base64
import csv
import io
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from source_tree import ROOT
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import inklab
from inklab import datasets
from inklab.data.dataset import split
from inklab.data.quality import check_data
from inklab.errors import ConfigError, CorruptFileError, DataError, InklabError, UnknownNameError
from inklab.records.components import Preprocessing
from inklab.study.load import prepare_study

CASES = ROOT.parent / "shared" / "cases"  # beside the checkout, where they are at hand
N = 24
X = np.random.default_rng(0).integers(0, 256, (N, 8, 8), np.uint8)
X[0, 0, :2] = 0, 255
Y = np.arange(N) % 3
COLOR = np.random.default_rng(1).integers(0, 256, (N, 3, 8, 8), np.uint8)


def whole(dataset):
    """Images and labels of a dataset whose training and test set are the same arrays."""
    np.testing.assert_array_equal(dataset.train.pixels, dataset.test.pixels)
    return dataset.train.pixels, [dataset.labels[k] for k in dataset.train.labels]


def of_both(x, y, **options):
    return whole(datasets.from_arrays(x, y, (x, y), **options))


class TestPixels:
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_every_byte_survives_the_division_by_255(self, dtype):
        levels = np.tile(np.arange(256, dtype=np.uint8).reshape(16, 16), (2, 1, 1))
        floats = (levels / 255).astype(dtype)
        np.testing.assert_array_equal(of_both(floats, [0, 1])[0], levels[:, None])

    @given(arrays.arrays(np.uint8, st.tuples(st.integers(2, 9), st.integers(1, 9), st.integers(1, 9))))
    def test_bytes_stay_as_they_are(self, images):
        pixels, _ = of_both(images, np.arange(len(images)))
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, images[:, None])

    @given(arrays.arrays(np.float32, (2, 3, 3), elements=st.floats(0, 1, width=32)))
    def test_floats_are_rounded_to_the_nearest_byte(self, images):
        pixels, _ = of_both(images, [0, 1])
        assert np.abs(pixels[:, 0] / 255.0 - images).max() <= 0.5 / 255 + 1e-6

    @pytest.mark.parametrize(
        ("images", "expected"),
        [
            (X[:, None], X[:, None]),
            (X[..., None], X[:, None]),
            (COLOR, COLOR),
            (COLOR.transpose(0, 2, 3, 1), COLOR),
            (X.reshape(N, 64), X[:, None]),
            (np.asfortranarray(X), X[:, None]),
            (X.astype(np.int64), X[:, None]),
            (X.astype(">u2"), X[:, None]),
            (X > 100, (X > 100)[:, None] * np.uint8(255)),
            (X.tolist(), X[:, None]),
            (list(X), X[:, None]),
            (pd.DataFrame(X.reshape(N, 64)), X[:, None]),
            (pd.Series(list(X)), X[:, None]),
            (torch.from_numpy(COLOR), COLOR),
            ((torch.from_numpy(X) / 255).requires_grad_(), X[:, None]),
            (list(torch.from_numpy(X)), X[:, None]),
            ([Image.fromarray(image) for image in X], X[:, None]),
            ([Image.fromarray(image) for image in COLOR.transpose(0, 2, 3, 1)], COLOR),
        ],
        ids=range(18),
    )
    def test_every_usual_form(self, images, expected):
        np.testing.assert_array_equal(of_both(images, Y)[0], expected)

    @pytest.mark.parametrize("shape", [(4, 16), (1, 4, 16), (4, 16, 1)])
    def test_flat_images_have_the_given_shape(self, shape):
        pixels, _ = of_both(X.reshape(N, 64), Y, image_shape=shape)
        np.testing.assert_array_equal(pixels, X.reshape(N, 1, 4, 16))

    @pytest.mark.parametrize(
        ("images", "advice"),
        [
            (X.astype(float), "if 255 is full: divide by 255"),
            (X / 255.0 * 16, "if 16 is full: divide by 16"),
            (X.astype(np.uint16) * 257, "divide by 65535"),
            (X / 127.5 - 1, "add 1, divide by 2"),
            ((X - 100.0) / 60, "before any normalization"),
            (X.astype(int) - 1, "integers from -1 to 254"),
            (np.where(X > 250, np.nan, X / 255), "NaN or infinite, the first in image 0"),
            (X.astype(complex), "not numbers"),
            (X.astype(str), "not numbers"),
            (X[:, :, :, None, None], "neither"),
            (np.zeros((N, 3, 5, 3)), "first or last"),
            (np.zeros((N, 8, 8, 5)), "neither"),
            (X.reshape(N, 64)[:, :60], "60 values are not square; give image_shape"),
            (X[:0], "no images"),
            (X[:, :0], "no images"),
            (X[:5], "5 images, but y has 24 labels"),
            ([X[0], X[1, :4]], r"X\[1\] uint8 \(4, 8\)"),
            ([[1, 2], [3]], "different shapes"),
            ([Image.fromarray(X[0]), X[1]], "pictures only"),
            ("mnist", "of type str"),
        ],
        ids=range(20),
    )
    def test_others_are_refused_with_what_to_do(self, images, advice):
        with pytest.raises(DataError, match=advice):
            datasets.from_arrays(images, Y)

    @pytest.mark.parametrize("shape", [(8,), (8, 8, 1, 1), (0, 8), ()])
    def test_a_wrong_image_shape_is_refused(self, shape):
        with pytest.raises(ConfigError, match="image_shape"):
            datasets.from_arrays(X.reshape(N, 64), Y, image_shape=shape)

    def test_image_shape_does_not_cut_images_that_have_one(self):
        with pytest.raises(DataError, match="does not fit"):
            datasets.from_arrays(X, Y, image_shape=(4, 16))

    def test_the_given_arrays_are_neither_changed_nor_shared(self):
        images, labels = X.copy(), Y.copy()
        dataset = datasets.from_arrays(images, labels)
        before = dataset.sha256
        images[:], labels[:] = 0, 0
        assert (
            datasets.Dataset(
                dataset.name, dataset.train, dataset.test, dataset.labels, dataset.preprocessing
            ).sha256
            == before
        )

    def test_nearly_black_images_are_noticed(self):
        assert "value is 16 of 255" in datasets.from_arrays(X // 16 + (X > 250), Y).note
        assert "All training images are black" in datasets.from_arrays(X * 0, Y).note
        assert datasets.from_arrays(X, Y).note is None


class TestLabels:
    @pytest.mark.parametrize(
        ("labels", "classes"),
        [
            (Y, "0 1 2"),
            (Y + 1, "1 2 3"),
            (Y * 50 - 50, "-50 0 50"),
            (Y.astype(np.uint8), "0 1 2"),
            (Y.astype(float), "0 1 2"),
            (Y.astype(str), "0 1 2"),
            (Y.astype("S1"), "0 1 2"),
            (Y.tolist(), "0 1 2"),
            (Y[:, None], "0 1 2"),
            (Y > 0, "False True"),
            (np.eye(3)[Y], "0 1 2"),
            (["10", "9", "2"] * 8, "2 9 10"),
            (["cat", "Cat", "cät"] * 8, "Cat cat cät"),
            (["<b>", "{{7*7}}", "=1+1"] * 8, "<b> =1+1 {{7*7}}"),
            (torch.from_numpy(Y), "0 1 2"),
            (list(torch.from_numpy(Y)), "0 1 2"),
            (pd.Series(Y, index=range(5, 5 + N)), "0 1 2"),
            (pd.Series(["a", "b"] * 12, dtype="category"), "a b"),
            (pd.Series(["a", "b"] * 12, dtype="string"), "a b"),
            (pd.Series(Y, dtype="Int64"), "0 1 2"),
        ],
        ids=range(20),
    )
    def test_the_values_that_occur_are_the_classes(self, labels, classes):
        dataset = datasets.from_arrays(X, labels, (X, labels))
        assert " ".join(dataset.labels) == classes
        given_values = (
            np.argmax(labels, axis=1) if np.ndim(labels) == 2 and np.shape(labels)[1] > 1 else labels
        )
        if isinstance(given_values, torch.Tensor | list) and isinstance(given_values[0], torch.Tensor):
            given_values = [int(value) for value in given_values]
        texts = [
            value.decode() if isinstance(value, bytes) else str(value)
            for value in np.asarray(given_values).reshape(-1).tolist()
        ]
        assert [dataset.labels[k].removesuffix(".0") for k in dataset.train.labels] == [
            text.removesuffix(".0") for text in texts
        ]

    @pytest.mark.parametrize(
        ("labels", "problem"),
        [
            (None, "y is None"),
            ([], "y is empty"),
            (Y[:-1], "23 labels"),
            (Y * 0, "one label only, 0"),
            (Y + 0.5, "0.5, which is no whole number"),
            (np.r_[Y[:-1], np.nan], "1 label is missing in y, the first of image 23"),
            (["a"] * 22 + [None] * 2, "2 labels are missing in y, the first of image 22"),
            (pd.Series([*"ab" * 11, pd.NA, "a"], dtype="string"), "missing in y, the first of image 22"),
            (["a", 1] * 12, "types int, str"),
            (["a", ""] * 12, "can't name a class"),
            (["a", "b\x00"] * 12, "printable"),
            (["a", "\ud800"] * 12, "printable"),
            (["a", "b" * 300] * 12, "1 to 200"),
            (np.eye(3)[Y] / 2, "not one-hot"),
            (Y.reshape(2, 12), "not one-hot"),
            (Y.reshape(2, 3, 4), "labels are"),
            (Y.astype(np.uint64) + 2**63, "below"),
            ([10**30] * N, "64 bits"),
            ([{}] * N, "types dict"),
            (np.array(["2026-01-01"] * N, "M8[D]"), "integers, strings or booleans"),
            (5, "labels are"),
        ],
        ids=range(21),
    )
    def test_others_are_refused(self, labels, problem):
        with pytest.raises(DataError, match=problem):
            datasets.from_arrays(X, labels)

    def test_classes_of_both_sets_count(self):
        dataset = datasets.from_arrays(X, Y, (X, Y + 1))
        assert dataset.labels == ("0", "1", "2", "3")
        assert dataset.test.labels.tolist() == (Y + 1).tolist()
        with pytest.raises(DataError, match=r"y has integers but test\[1\] has strings"):
            datasets.from_arrays(X, Y, (X, Y.astype(str)))

    def test_many_classes(self):
        labels = np.arange(900) % 300
        dataset = datasets.from_arrays(np.zeros((900, 2, 2), np.uint8), labels)
        assert len(dataset.labels) == 300
        with pytest.raises(DataError, match="1,001 different labels"):
            datasets.from_arrays(np.zeros((1001, 2, 2), np.uint8), np.arange(1001))

    def test_names_are_given_by_number_by_value_or_as_an_order(self):
        assert of_both(X, Y, labels=["c", "b", "a"])[1] == [["c", "b", "a"][k] for k in Y]
        assert of_both(X, Y + 5, labels={7: "x", 6: "y", 5: "z"})[1] == [["z", "y", "x"][k] for k in Y]
        words = np.array(["low", "mid", "high"])
        dataset = datasets.from_arrays(X, words[Y], labels=["low", "mid", "high", "never"])
        assert dataset.labels == ("low", "mid", "high", "never")

    @pytest.mark.parametrize(
        ("names", "error"),
        [(["a", "b"], DataError), ({0: "a", 1: "b"}, DataError), ("abc", ConfigError),
         (["a", "a", "b"], ConfigError), (["a"], ConfigError), (["a", "b", " "], DataError)],
    )  # fmt: skip
    def test_names_that_do_not_fit_are_refused(self, names, error):
        with pytest.raises(error):
            datasets.from_arrays(X, Y, labels=names)


class TestArrays:
    def test_a_sixth_of_every_class_is_set_apart_by_the_seed(self):
        labels = np.repeat([0, 1, 2], [60, 30, 12])
        images = np.random.default_rng(0).integers(0, 256, (102, 4, 4), np.uint8)
        first, again, other = (datasets.from_arrays(images, labels, seed=seed) for seed in (0, 0, 1))
        assert first.test.counts(3) == (10, 5, 2)
        assert first.sha256 == again.sha256 != other.sha256
        rows = [image.tobytes() for part in (first.train, first.test) for image in part.pixels]
        assert sorted(rows) == sorted(image.tobytes() for image in images)

    def test_identity_is_the_content_in_whatever_form(self):
        forms = [X, X / 255, X.reshape(N, 64), torch.from_numpy(X), pd.DataFrame(X.reshape(N, 64))]
        assert len({datasets.from_arrays(images, Y).sha256 for images in forms}) == 1
        assert datasets.from_arrays(255 - X, Y).sha256 != datasets.from_arrays(X, Y).sha256
        assert datasets.from_arrays(X, Y, labels=list("abc")).sha256 != datasets.from_arrays(X, Y).sha256

    def test_half_a_test_set_is_refused(self):
        with pytest.raises(ConfigError, match=r"test is of type ndarray; give test=\(images, labels\)"):
            datasets.from_arrays(X, Y, X)
        with pytest.raises(ConfigError, match="validation is of type tuple of 1; give"):
            datasets.from_arrays(X, Y, validation=(X,))
        with pytest.raises(DataError, match=r"test\[1\] is None; each image needs a label"):
            datasets.from_arrays(X, Y, test=(X, None))

    def test_a_validation_set_is_used_as_it_is(self):
        held_out = X[::-1][:7]
        dataset = datasets.from_arrays(X, Y, (X[:5], Y[:5]), validation=(held_out / 255, Y[:7]))
        np.testing.assert_array_equal(dataset.validation.pixels[:, 0], held_out)
        assert split(dataset, validation=3, seed=0).validation is dataset.validation
        assert "7 validation" in dataset.summary and "<th>validation</th>" in dataset._repr_html_()
        assert dataset.sha256 != datasets.from_arrays(X, Y, (X[:5], Y[:5])).sha256
        tensors = [TensorDataset(torch.from_numpy(X[:k]), torch.from_numpy(Y[:k])) for k in (N, 5, 7)]
        by_torch = datasets.from_torch(tensors[0], tensors[1], validation=tensors[2])
        assert by_torch.sha256 == datasets.from_arrays(X, Y, (X[:5], Y[:5]), validation=(X[:7], Y[:7])).sha256
        report = check_data(datasets.from_arrays(X, Y, (255 - X, Y), validation=(X[:2], Y[:2])))
        assert report.counts["validation"] == (1, 1, 0) and report.train_test_overlap.count == 2

    def test_few_images_need_a_test_set(self):
        with pytest.raises(DataError, match="5 images, too few to set some apart"):
            datasets.from_arrays(X[:5], Y[:5])
        assert len(datasets.from_arrays(X[:5], Y[:5], (X[:1], Y[:1])).test) == 1

    def test_sets_of_different_shapes_are_refused(self):
        with pytest.raises(DataError, match="must be the same"):
            datasets.from_arrays(X, Y, (X[:, :4], Y))

    def test_pictures_of_digits_will_be_preprocessed_as_the_digits_were(self):
        digits = datasets.load("mnist-5k").train
        assert datasets.from_arrays(digits.pixels, digits.labels).preprocessing == Preprocessing()
        moved = np.roll(digits.pixels, 4, axis=3)
        assert datasets.from_arrays(moved, digits.labels).preprocessing.is_resize_only
        assert datasets.from_arrays(X, Y).preprocessing == Preprocessing.resize_only((1, 8, 8))
        own = Preprocessing(height=8, width=8, fit_to=6)
        assert datasets.from_arrays(X, Y, preprocessing=own).preprocessing == own
        with pytest.raises(DataError, match="preprocessing makes"):
            datasets.from_arrays(X, Y, preprocessing=Preprocessing())

    @pytest.mark.parametrize(
        ("turn", "problem"),
        [(lambda x: x, ""), (lambda x: x.swapaxes(1, 2), "transposed"),
         (lambda x: np.rot90(x, 2, (1, 2)), "upside down"),
         (lambda x: 255 - x.swapaxes(1, 2), "transposed"), (lambda x: x[:, :, ::-1], "mirrored")],
        ids=range(5),
    )  # fmt: skip
    def test_digits_that_do_not_stand_upright_are_noticed(self, turn, problem):
        digits = datasets.load("mnist-5k").test
        notes = " ".join(check_data(datasets.from_arrays(turn(digits.pixels[:, 0]), digits.labels)).notes)
        assert ("The digits are" in notes) is bool(problem) and problem in notes

    def test_images_on_their_side_are_turned_by_a_key_of_the_study(self, tmp_path):
        test, side = datasets.load("mnist-5k").test, X.swapaxes(1, 2)
        tall, wide = (datasets.from_arrays(images[:, :5], Y) for images in (X, X.swapaxes(1, 2)))
        assert tall.transposed().shape == (1, 8, 5) and tall.transposed().transposed().sha256 == tall.sha256
        assert wide.transposed().preprocessing.shape == (1, 8, 5)
        np.savez(tmp_path / "side.npz", X=side, y=Y)
        study = inklab.Study("turn", {"net": {"network": "mlp"}}, data=str(tmp_path / "side.npz"))
        turned = prepare_study(study.configure(None, ["data.transpose=true", "data.validation=6"]))
        assert turned.dataset.sha256 == datasets.from_arrays(X, Y).sha256
        lying = test.pixels.swapaxes(2, 3)
        (note,) = check_data(datasets.from_arrays(lying, test.labels)).notes
        assert "data.transpose = true" in note
        assert not check_data(datasets.from_arrays(lying, test.labels).transposed()).notes


class TestCsv:
    def write(self, path, rows, header=None, delimiter=",", **options):
        with open(path, "w", newline="", **{"encoding": "utf-8", **options}) as file:
            csv.writer(file, delimiter=delimiter).writerows([*([header] if header else []), *rows])
        return path

    @pytest.fixture
    def rows(self):
        return [[label, *image.reshape(-1)] for image, label in zip(X, Y, strict=True)]

    HEADER = ("label", *(f"pixel{k}" for k in range(64)))

    @pytest.mark.parametrize("form", ["header", "bare", "last", "semicolon", "bom", "floats"])
    def test_rows_of_pixels_are_the_arrays(self, tmp_path, rows, form):
        path = tmp_path / "a.csv"
        match form:
            case "header" | "semicolon":
                self.write(path, rows, self.HEADER, ";" if form == "semicolon" else ",")
            case "bare":
                self.write(path, rows)
            case "last":
                self.write(path, [[*row[1:], row[0]] for row in rows], [*self.HEADER[1:], "class"])
            case "bom":
                self.write(path, rows, self.HEADER, encoding="utf-8-sig")
            case "floats":
                scaled = [[row[0], *(f"{value / 255:.6f}" for value in row[1:])] for row in rows]
                self.write(path, scaled, self.HEADER)
        assert datasets.from_csv(path).sha256 == datasets.from_arrays(X, Y).sha256

    def test_a_second_file_is_the_test_set(self, tmp_path, rows):
        train, test = (
            self.write(tmp_path / "a.csv", rows, self.HEADER),
            self.write(tmp_path / "b.csv", rows[:6]),
        )
        dataset = datasets.from_csv(train, test, name="two files")
        assert (len(dataset.train), len(dataset.test), dataset.name) == (N, 6, "two files")
        np.testing.assert_array_equal(dataset.test.pixels[:, 0], X[:6])

    def test_many_rows_are_read_in_parts(self, tmp_path):
        values = np.random.default_rng(0).integers(0, 256, (9001, 4), np.uint8)
        path = self.write(tmp_path / "a.csv", np.c_[np.arange(9001) % 7, values].tolist())
        dataset = datasets.from_csv(path)
        assert dataset.sha256 == datasets.from_arrays(values, np.arange(9001) % 7).sha256

    def test_black_and_white_is_0_and_255(self, tmp_path):
        path = self.write(tmp_path / "a.csv", [[k % 2, 0, 1, 1, 0] for k in range(12)])
        assert set(np.unique(datasets.from_csv(path).train.pixels)) == {0, 255}

    def test_labels_may_be_quoted_words(self, tmp_path):
        rows = [['a, "b"' if k % 2 else "ü", 0, 9, 200, 0] for k in range(12)]
        assert datasets.from_csv(self.write(tmp_path / "a.csv", rows, ["label", *"abcd"])).labels == (
            'a, "b"',
            "ü",
        )

    @pytest.mark.parametrize("header", [("file", "label"), None])
    def test_picture_files_are_the_same_as_in_folders(self, tmp_path, header):
        rows = []
        for index, (image, label) in enumerate(zip(X, "abc" * 8, strict=True)):
            path = tmp_path / "pictures" / label / f"{index:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
            rows.append([path.relative_to(tmp_path), label])
        rows.sort(key=lambda row: (row[1], row[0]))
        listed = datasets.from_csv(self.write(tmp_path / "a.csv", rows, header))
        assert listed.sha256 == datasets.from_folder(tmp_path / "pictures").sha256
        assert listed.labels == ("a", "b", "c")
        (tmp_path / rows[0][0]).unlink()
        with pytest.raises(DataError, match=f"{rows[0][0]}'.*No such file"):
            datasets.from_csv(tmp_path / "a.csv")

    @pytest.mark.parametrize(
        ("text", "error", "problem"),
        [
            ("", DataError, "0 columns"),
            ("label\n1\n", DataError, "1 column "),
            ("label,a,b,c,d\n", DataError, "no rows"),
            ("pixel0,pixel1\n1,2\n", DataError, "no column called label.*pixel0, pixel1"),
            ("label,a,b,c,d\n1,0,0,0,x\n", CorruptFileError, "'x'"),
            ("label,a,b,c,d\n1,0,0,0,\n", CorruptFileError, "''"),
            ("label,a,b,c,d\n1,0,0,0,9\n1,0,0,0\n", CorruptFileError, "columns"),
            ("label,a,b,c,d\n1,0,0,0,300\n", DataError, "from 0 to 300"),
            ("label,a,b,c,d\n1,0,0,0,nan\n", DataError, "NaN"),
            ("id,label,a,b,c,d\n1,2,0,0,0,9\n", DataError, "5 values are not square"),
            ("label,a,b,c,d\n,0,0,0,9\n1,0,0,0,9\n", DataError, "can't name a class"),
            ("file,label\na.png,1\nb.png\n", CorruptFileError, "line 3, has 1 columns"),
        ],
        ids=range(12),
    )  # fmt: skip
    def test_others_are_refused(self, tmp_path, text, error, problem):
        path = tmp_path / "a.csv"
        path.write_text(text)
        with pytest.raises(error, match=problem):
            datasets.from_csv(path)

    def test_columns_are_chosen_by_name_or_position(self, tmp_path):
        path = self.write(tmp_path / "a.csv", [[k % 2, 0, 9, 200, 0] for k in range(12)], ["digit", *"abcd"])
        assert datasets.from_csv(path, label="digit").sha256 == datasets.from_csv(path, label=0).sha256
        bare = self.write(tmp_path / "b.csv", [[k % 2, 0, 9, 200, 0] for k in range(12)])
        assert datasets.from_csv(bare, label=0).sha256 == datasets.from_csv(path, label=0).sha256
        with pytest.raises(DataError, match="no column 'digits'. Did you mean 'digit'"):
            datasets.from_csv(path, label="digits")
        with pytest.raises(DataError, match="no column 7; it has 5"):
            datasets.from_csv(path, label=7)

    def test_files_that_are_no_text_are_refused(self, tmp_path):
        (tmp_path / "a.csv").write_bytes(b"label,a\xff\xfe\n1,2\n")
        with pytest.raises(CorruptFileError, match="UTF-8"):
            datasets.from_csv(tmp_path / "a.csv")
        with pytest.raises(DataError, match="can't be read"):
            datasets.from_csv(tmp_path / "none.csv")

    def test_the_form_of_kaggle(self):
        path = CASES / "18-csv" / "train.csv"
        if not path.exists():
            pytest.skip("no shared cases")
        dataset = datasets.from_csv(path)
        assert (len(dataset.train), len(dataset.test), dataset.shape) == (250, 50, (1, 28, 28))
        table = pd.read_csv(path)
        same = datasets.as_dataset((table.drop(columns="label"), table["label"]))
        assert dataset.sha256 == same.sha256


class VisionDataset(Dataset):
    """As torchvision's: bytes in `.data`, pictures with a transform as items."""

    classes = ("zero", "one", "two", "never")

    def __init__(self, data, targets, transform=None, target_transform=None):
        self.data, self.targets = data, targets
        self.transform, self.target_transform = transform, target_transform
        self.read = 0

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        self.read += 1
        image = Image.fromarray(np.asarray(self.data[index]))
        label = int(self.targets[index])
        return (
            self.transform(image) if self.transform else image,
            self.target_transform(label) if self.target_transform else label,
        )


class ToTensor:
    def __call__(self, picture):
        values = torch.from_numpy(np.array(picture)) / 255
        return values[None] if values.ndim == 2 else values.permute(2, 0, 1)


class Normalize(ToTensor):
    def __call__(self, picture):
        return (super().__call__(picture) - 0.13) / 0.3


class RandomBrightness(ToTensor):
    def __call__(self, picture):
        return super().__call__(picture) * torch.rand(())


class Half(ToTensor):
    def __call__(self, picture):
        return super().__call__(picture.resize((4, 4)))


class TestTorch:
    @pytest.mark.parametrize(
        "images", [torch.from_numpy(X) / 255, torch.from_numpy(X), torch.from_numpy(X)[:, None]]
    )
    def test_a_tensor_dataset(self, images):
        dataset = datasets.from_torch(TensorDataset(images, torch.from_numpy(Y)))
        assert dataset.sha256 == datasets.from_arrays(X, Y).sha256

    @pytest.mark.parametrize("transform", [None, ToTensor(), Normalize()])
    @pytest.mark.parametrize("images", [torch.from_numpy(X), COLOR.transpose(0, 2, 3, 1)])
    def test_bytes_are_read_directly_below_exact_transforms(self, transform, images):
        source = VisionDataset(images, torch.from_numpy(Y), transform)
        dataset = datasets.from_torch(source)
        expected = datasets.from_arrays(images, Y, labels={0: "zero", 1: "one", 2: "two"})
        assert dataset.sha256 == expected.sha256
        assert source.read <= 8
        assert dataset.name == "VisionDataset"

    def test_a_part_is_that_part_of_the_bytes(self):
        source = VisionDataset(torch.from_numpy(X), Y.tolist(), ToTensor())
        dataset = datasets.from_torch(Subset(source, range(1, N)), Subset(source, [0, 4]))
        np.testing.assert_array_equal(dataset.train.pixels[:, 0], X[1:])
        np.testing.assert_array_equal(dataset.test.pixels[:, 0], X[[0, 4]])
        two = datasets.from_torch(Subset(source, np.flatnonzero(Y != 1)))
        assert two.labels == ("zero", "two")

    def test_other_transforms_are_applied(self):
        dataset = datasets.from_torch(VisionDataset(X, Y, Half()))
        resized = np.stack([np.asarray(Image.fromarray(image).resize((4, 4))) for image in X])
        assert (
            dataset.sha256 == datasets.from_arrays(resized, Y, labels={0: "zero", 1: "one", 2: "two"}).sha256
        )

    def test_other_items_than_the_bytes_are_believed(self):
        class Inverted(VisionDataset):
            def __getitem__(self, index):
                return 255 - self.data[index], int(self.targets[index])

        dataset = datasets.from_torch(Inverted(X, Y))
        np.testing.assert_array_equal(datasets.from_arrays(255 - X, Y).train.pixels, dataset.train.pixels)

    def test_classes_do_not_name_transformed_targets(self):
        dataset = datasets.from_torch(VisionDataset(X, Y, target_transform=lambda label: label % 2))
        assert dataset.labels == ("0", "1")

    def test_pictures_and_concatenated_sets_are_read_one_by_one(self):
        pictures = ConcatDataset([VisionDataset(X, Y), VisionDataset(255 - X, Y)])
        both = np.concatenate([X, 255 - X])
        assert datasets.from_torch(pictures).sha256 == datasets.from_arrays(both, np.tile(Y, 2)).sha256

    @pytest.mark.parametrize(
        ("source", "problem"),
        [
            (VisionDataset(X, Y, RandomBrightness()), "another image at each reading"),
            (ConcatDataset([VisionDataset(X, Y, Normalize())]), "before any normalization"),
            (TensorDataset(torch.zeros(9, 4, 4)), r"has 1 parts; items must be \(image, label\)"),
            (Subset(VisionDataset(X, Y), []), "no items"),
            (DataLoader(VisionDataset(X, Y)), "give its .dataset"),
            (5, "of type int"),
            ("mnist", "of type str"),
        ],
        ids=range(7),
    )
    def test_others_are_refused(self, source, problem):
        with pytest.raises(DataError, match=problem):
            datasets.from_torch(source)

    def test_a_stream_is_refused(self):
        class Stream(IterableDataset):
            def __iter__(self):
                yield X[0], 0

        with pytest.raises(DataError, match="with a length"):
            datasets.from_torch(Stream())


class ClassLabel(SimpleNamespace):
    names: list[str]


class HuggingFace:
    """As a `Dataset` of the library datasets: columns by name, features, a length."""

    def __init__(self, columns, features=None):
        self.columns, self.features = columns, features or {}
        self.column_names = list(columns)
        self.info = SimpleNamespace(dataset_name="made_up")

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key):
        return self.columns[key] if isinstance(key, str) else {k: v[key] for k, v in self.columns.items()}


def hugging_face(image="image", label="label", count=N):
    pictures = [Image.fromarray(pixels) for pixels in X[:count]]
    features = {image: type("Image", (), {})(), label: ClassLabel(names=["zero", "one", "two", "never"])}
    return HuggingFace({image: pictures, label: Y[:count].tolist()}, features)


def png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


NAMED = {0: "zero", 1: "one", 2: "two"}


class TestHuggingFace:
    def test_pictures_and_the_names_of_their_classes(self):
        dataset = datasets.from_huggingface(hugging_face())
        assert dataset.sha256 == datasets.from_arrays(X, Y, labels=NAMED).sha256
        assert dataset.name == "made_up"

    def test_the_only_columns_of_their_type_need_no_name(self):
        dataset = datasets.from_huggingface(hugging_face("img", "fine_label"))
        assert dataset.sha256 == datasets.from_huggingface(hugging_face()).sha256

    def test_files_that_are_not_decoded(self):
        decoded = hugging_face()
        files = [png(picture) for picture in decoded.columns["image"]]
        for entries in (files, [{"bytes": content, "path": None} for content in files]):
            undecoded = HuggingFace({"image": entries, "label": decoded.columns["label"]}, decoded.features)
            assert datasets.from_huggingface(undecoded).sha256 == datasets.from_huggingface(decoded).sha256
        table = pd.DataFrame({"image": [{"bytes": content, "path": "x.png"} for content in files]})
        by_table = datasets.from_arrays(table["image"], Y, labels=NAMED)
        assert by_table.sha256 == datasets.from_huggingface(decoded).sha256
        entries[3] = {"bytes": None, "path": None}
        with pytest.raises(DataError, match=r"train\['image'\]\[3\] has no picture; leave that row out"):
            datasets.from_huggingface(HuggingFace({"image": entries, "label": decoded.columns["label"]}))
        entries[3] = {"bytes": files[3][:50], "path": None}
        with pytest.raises(CorruptFileError, match=r"train\['image'\]\[3\]"):
            datasets.from_huggingface(HuggingFace({"image": entries, "label": decoded.columns["label"]}))

    @pytest.mark.parametrize("images", [X, X.tolist(), torch.from_numpy(X), list(X)])
    def test_columns_of_arrays(self, images):
        source = HuggingFace({"image": images, "label": [f"class {k}" for k in Y]})
        words = [f"class {k}" for k in Y]
        assert datasets.from_huggingface(source).sha256 == datasets.from_arrays(X, words).sha256

    def test_splits(self):
        parts = {"train": hugging_face(), "test": hugging_face(count=6), "validation": hugging_face(count=9)}
        for test, count, held_out in (("auto", 6, 9), ("test", 6, 9), ("validation", 9, 0), (None, 4, 9)):
            dataset = datasets.from_huggingface(parts, test=test)
            assert (len(dataset.test), len(dataset.validation or ())) == (count, held_out)
        assert datasets.from_huggingface(parts, validation=None).validation is None
        other = {"Training": parts["train"], "valid": parts["validation"], "testing": parts["test"]}
        assert datasets.from_huggingface(other).sha256 == datasets.from_huggingface(parts).sha256
        assert len(datasets.from_huggingface(parts["train"], test=parts["validation"]).test) == 9
        with pytest.raises(DataError, match="no split 'holdout'"):
            datasets.from_huggingface(parts, test="holdout")
        with pytest.raises(DataError, match="no split 'train', but validation"):
            datasets.from_huggingface({"validation": parts["validation"]})

    def test_others_are_refused(self):
        with pytest.raises(DataError, match="no column 'imge'. Did you mean 'image'"):
            datasets.from_huggingface(hugging_face(), image="imge")
        with pytest.raises(DataError, match="not a stream"):
            datasets.from_huggingface(SimpleNamespace(column_names=["image"], features={}))
        with pytest.raises(DataError, match="unlabeled"):
            source = hugging_face()
            source.columns["label"] = [-1] * N
            datasets.from_huggingface(source)
        with pytest.raises(DataError, match="no rows"):
            datasets.from_huggingface(HuggingFace({"image": [], "label": []}))


class TestAnything:
    @staticmethod
    def saved_csv(path):
        pd.DataFrame(X.reshape(N, 64)).assign(label=Y).to_csv(path, index=False)
        return str(path)

    def test_one_rule_for_all_forms(self, tmp_path):
        np.savez(tmp_path / "a.npz", images=X, labels=Y)
        tensors = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
        alike = [
            (X, Y),
            [X, Y],
            datasets.from_arrays(X, Y),
            str(tmp_path / "a.npz"),
            tmp_path / "a.npz",
            self.saved_csv(tmp_path / "a.csv"),
            tensors,
            HuggingFace({"image": X, "label": Y}),
            lambda: (X, Y),
        ]
        assert len({datasets.as_dataset(data).sha256 for data in alike}) == 1
        with_test = [
            (X, Y, X, Y),
            ((X, Y), (X, Y)),
            (tensors, tensors),
            {"train": HuggingFace({"image": X, "label": Y}), "test": HuggingFace({"image": X, "label": Y})},
            (HuggingFace({"image": X, "label": Y}), HuggingFace({"image": X, "label": Y})),
        ]
        assert len({datasets.as_dataset(data).sha256 for data in with_test}) == 1

    def test_the_seed_is_passed_on(self):
        for data in ((X, Y), TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))):
            assert datasets.as_dataset(data, seed=1).sha256 == datasets.from_arrays(X, Y, seed=1).sha256

    @pytest.mark.parametrize(
        ("data", "advice"),
        [
            (X, "ndarray; give"),
            ((X,), "1 parts"),
            ({"x_train": X, "y_train": Y}, "it has x_train, y_train"),
            (pd.DataFrame({"label": Y}), "drop"),
            (DataLoader(VisionDataset(X, Y)), "loader's .dataset"),
            (VisionDataset, "type"),
            (5, "int; give"),
            (lambda: None, "function"),
        ],
        ids=range(8),
    )
    def test_others_are_refused_with_what_to_give(self, data, advice):
        with pytest.raises(DataError, match=advice):
            datasets.as_dataset(data)

    def test_names(self):
        assert {"mnist", "mnist-5k", "fashion-mnist"} <= set(datasets.names())
        assert datasets.as_dataset("mnist-5k").name == "mnist-5k"
        with pytest.raises(UnknownNameError, match="Did you mean 'mnist-5k'"):
            datasets.load("mnist-5")

    def test_a_registered_function_has_a_name(self):
        @datasets.dataset("glyphs", description="made up")
        def glyphs():
            return datasets.from_arrays(X, Y, name="glyphs")

        assert "glyphs" in datasets.names()
        assert datasets.as_dataset("glyphs").sha256 == datasets.from_arrays(X, Y).sha256

    def test_a_folder_must_be_one(self, tmp_path):
        (tmp_path / "file").write_text("")
        for path in (tmp_path / "none", tmp_path / "file"):
            with pytest.raises(DataError, match="not a directory"):
                datasets.from_folder(path)

    @given(
        st.recursive(
            st.none() | st.integers() | st.text(max_size=3) | st.floats(), lambda x: st.lists(x, max_size=4)
        )
    )
    def test_nothing_ends_in_another_error(self, value):
        for images, labels in ((value, Y), (X, value)):
            try:
                datasets.from_arrays(images, labels)
            except InklabError as error:
                assert "\n" not in str(error)


class Structure(HTMLParser):
    """The tags, texts and attributes of a piece of HTML."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.images = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.images += [dict(attributes)] if tag == "img" else []

    def handle_data(self, text):
        self.texts.append(text)


class TestDisplay:
    def test_one_line(self):
        dataset = datasets.from_arrays(COLOR, Y, name="birds")
        assert repr(dataset) == "Dataset('birds': 20 training and 4 test images, 3 x 8 x 8, 3 classes)"
        assert repr(dataset.train) == "ImageSet(20 images, 3 x 8 x 8)"

    @pytest.mark.parametrize("images", [X, COLOR])
    def test_classes_counts_and_images(self, images):
        dataset = datasets.from_arrays(images, Y, name="a <b> & 'c'", labels=["<script>", "'\"&", "ü"])
        page = Structure(dataset._repr_html_())
        assert set(page.tags) <= {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "img"}
        assert {"<script>", "'\"&", "ü", "a <b> & 'c'"} <= set(page.texts)
        counts = [str(count) for count in dataset.train.counts(3)]
        assert [text for text in page.texts if text in counts]
        strip = Image.open(io.BytesIO(base64.b64decode(page.images[0]["src"].partition("base64,")[2])))
        first = np.asarray(strip)[:, :8]
        chosen = dataset.train.pixels[dataset.train.labels == 0][0]
        np.testing.assert_array_equal(first, chosen[0] if len(chosen) == 1 else chosen.transpose(1, 2, 0))
        assert "alt" in page.images[0]

    def test_many_classes_are_counted_and_not_all_shown(self):
        labels = np.arange(900) % 300
        page = Structure(datasets.from_arrays(np.zeros((900, 2, 2), np.uint8), labels)._repr_html_())
        assert "280 more" in page.texts and len(page.images) == 20
        assert "All training images are black: every pixel is 0." in page.texts

    def test_a_class_without_training_images_shows_those_of_the_test(self):
        page = Structure(datasets.from_arrays(X, Y, (X, Y + 1))._repr_html_())
        assert len(page.images) == 4

"""Which images are preprocessed as MNIST's digits were made, whatever they came in."""

import csv

import numpy as np
import pytest
from malicious_files import idx
from PIL import Image
from sklearn.datasets import load_digits

from inklab.data.image_layout import suitable_preprocessing
from inklab.data.preprocessing import preprocess_picture
from inklab.data.sources import load_dataset
from inklab.datasets import from_arrays
from inklab.errors import ConfigError, DataError
from inklab.records.components import Preprocessing

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def digits():
    """Some of MNIST's digits, two of each class in turn, and their labels."""
    images = load_dataset("mnist-5k").train.take(np.arange(100))
    return images.pixels, images.labels


def save(folder, form, pixels, labels):
    """Write gray images in one of the forms in which people have them; returns what to give to --data."""
    path = folder / f"data.{form}"
    if form == "npz":
        train = {"x_train": pixels[:50, 0], "y_train": labels[:50]}
        np.savez(path, **train, x_test=pixels[50:, 0], y_test=labels[50:])
    elif form == "csv":
        with path.open("w", newline="") as file:
            names = ["label", *(f"pixel{i}" for i in range(pixels[0].size))]
            rows = ([label, *image.ravel()] for image, label in zip(pixels, labels, strict=True))
            csv.writer(file).writerows([names, *rows])
    elif form == "idx":
        path = folder / "train-images-idx3-ubyte"
        path.write_bytes(idx(pixels[:, 0]))
        (folder / "train-labels-idx1-ubyte").write_bytes(idx(labels.astype(np.uint8)))
    else:
        path = folder / "pictures"
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            (path / str(label)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0]).save(path / str(label) / f"{number}.png")
    return str(path)


@pytest.mark.parametrize("form", ["npz", "idx", "png", "csv"])
def test_digits_have_the_preprocessing_of_mnist_in_every_container(tmp_path, digits, form):
    name = save(tmp_path, form, *digits)
    assert load_dataset(name).preprocessing == Preprocessing()
    chosen = load_dataset(name, preprocessing="resize")
    assert chosen.preprocessing == Preprocessing.resize_only((1, 28, 28))
    assert chosen.sha256 == load_dataset(name).sha256


def test_arrays_too(digits):
    pixels, labels = digits
    assert from_arrays(pixels[:, 0] / 255, labels).preprocessing == Preprocessing()


def resized(pixels, side):
    return np.stack([np.asarray(Image.fromarray(image[0]).resize((side, side))) for image in pixels])[:, None]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda pixels: 255 - pixels, Preprocessing(light_on_dark=False)),
        (lambda pixels: np.pad(pixels, ((0, 0), (0, 0), (2, 2), (2, 2))), Preprocessing(height=32, width=32)),
        (lambda pixels: np.where(pixels > 127, 255, 0).astype(np.uint8), Preprocessing()),
        (lambda pixels: np.roll(pixels, (1, -1), (2, 3)), Preprocessing()),
    ],
    ids=["dark on light", "padded to 32", "black and white", "shifted by one"],
)
def test_variants_of_mnist_are_recognized(digits, change, expected):
    preprocessing = suitable_preprocessing(change(digits[0]))
    assert preprocessing.model_copy(update={"fit_to": 20}) == expected and abs(preprocessing.fit_to - 20) <= 1


@pytest.mark.parametrize(("side", "least"), [(14, 0.65), (28, 0.85), (32, 0.7), (56, 0.7)])
def test_what_is_recognized_makes_such_images_of_them(digits, side, least):
    """The preprocessing hardly changes an image that has its form already; positions are whole pixels."""
    images = resized(digits[0], side)
    preprocessing = suitable_preprocessing(images)
    assert preprocessing.center == "mass"
    again = np.stack([preprocess_picture(Image.fromarray(image[0]), preprocessing) for image in images[:30]])
    overlap = np.minimum(again, images[:30]).sum() / np.maximum(again, images[:30]).sum()
    assert overlap > least


def letters(count=40):
    """Ink whose box, not its center of mass, is in the middle: 24 of 28 pixels, as in EMNIST."""
    images = np.zeros((count, 1, 28, 28), np.uint8)
    images[..., 2:26, 6:22] = 60  # faint, but ink
    images[..., 2:26, 6:10] = 255
    images[..., 20:26, 6:22] = 255
    return images


def test_ink_in_the_middle_by_its_box():
    preprocessing = suitable_preprocessing(letters())
    assert (preprocessing.fit_to, preprocessing.center) == (24, "box")


def objects_at_random_places():
    images = np.zeros((200, 1, 28, 28), np.uint8)
    for image, (row, column) in zip(images, RNG.integers(1, 15, (200, 2)), strict=True):
        image[0, row : row + 12, column : column + 12] = 255
    return images


def objects_of_all_sizes():
    images = np.zeros((200, 1, 28, 28), np.uint8)
    for image, half in zip(images, RNG.integers(1, 13, 200), strict=True):
        image[0, 14 - half : 14 + half, 14 - half : 14 + half] = 255
    return images


@pytest.mark.parametrize(
    "images",
    [
        (load_digits().images * 255 / 16).astype(np.uint8)[:, None],
        RNG.integers(0, 256, (50, 1, 28, 28), np.uint8),
        RNG.integers(0, 256, (50, 3, 28, 28), np.uint8),
        np.pad(RNG.integers(0, 256, (50, 3, 20, 20), np.uint8), ((0, 0), (0, 0), (4, 4), (4, 4))),
        np.pad(np.full((50, 1, 28, 20), 200, np.uint8), ((0, 0), (0, 0), (0, 0), (4, 4))),  # like clothing
        np.zeros((20, 1, 28, 28), np.uint8),
        np.full((20, 1, 28, 28), 255, np.uint8),
        objects_at_random_places(),
        objects_of_all_sizes(),
    ],
    ids=[
        "8 x 8 digits", "noise", "color", "color with a margin", "filling the height", "black", "white",
        "where it is", "how large it is",
    ],
)  # fmt: skip
def test_other_images_are_only_resized(images):
    assert suitable_preprocessing(images).is_resize_only


def test_a_choice_that_does_not_fit_is_refused(tmp_path, digits):
    with pytest.raises(ConfigError, match="3 channels need center"):
        from_arrays(RNG.integers(0, 256, (12, 9, 9, 3), np.uint8), np.arange(12) % 2, preprocessing="mnist")
    with pytest.raises(DataError, match="but preprocessing makes"):
        load_dataset("mnist-5k", preprocessing=Preprocessing(height=32, width=32))
    for number, size in enumerate([(20, 20), (30, 20)] * 6):
        folder = tmp_path / "mixed" / str(number // 6)
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, 9 * number).save(folder / f"{number}.png")
    with pytest.raises(DataError, match="'resize' needs pictures of one size"):
        load_dataset(str(tmp_path / "mixed"), preprocessing="resize")

"""Pictures: decoded within limits, preprocessed as MNIST was made; directories of them."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inklab.data.formats import read_idx
from inklab.data.preprocessing import UPLOAD_FORMATS, open_image, preprocess_picture
from inklab.data.sources import load_dataset
from inklab.errors import CorruptFileError, DataError
from inklab.records.components import Preprocessing

RNG = np.random.default_rng(0)
REAL = Path(os.environ.get("INKLAB_DATA_DIR", "/nonexistent")) / "mnist/t10k-images-idx3-ubyte.gz"


def strokes(number: int) -> np.ndarray:
    """A thing like a digit, `(28, 28)`: a bent stroke in a 20 x 20 box, its mass in the middle."""
    big = Image.new("L", (400, 400))
    from PIL import ImageDraw

    rng = np.random.default_rng(number)
    points = [tuple(map(int, point)) for point in rng.integers(30, 370, (4, 2))]
    ImageDraw.Draw(big).line(points, fill=255, width=45, joint="curve")
    return preprocess_picture(big, Preprocessing())[0]


DIGITS = [strokes(number) for number in range(12)]


def middle(image: np.ndarray) -> np.ndarray:
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([np.average(axis, weights=image.astype(float)) for axis in (rows, columns)])


def enlarged(digit: np.ndarray) -> Image.Image:
    return Image.fromarray(digit).resize((224, 224), Image.Resampling.BICUBIC)


def inverted(digit: np.ndarray) -> Image.Image:
    return Image.fromarray(255 - np.asarray(enlarged(digit)))


def colored(digit: np.ndarray) -> Image.Image:
    """Blue ink on yellowish paper."""
    share = np.asarray(enlarged(digit))[..., None] / 255
    return Image.fromarray(
        np.uint8(np.array([245, 240, 215]) * (1 - share) + np.array([30, 40, 120]) * share)
    )


def photographed(digit: np.ndarray) -> Image.Image:
    """Dark ink on a larger sheet, off the middle, with noise and a shadow that darkens one side to 60 %."""
    sheet = np.full((360, 420), 235.0)
    sheet[40:264, 150:374] -= np.asarray(enlarged(digit)) * 0.8
    sheet = sheet * np.linspace(1, 0.6, 420) + np.random.default_rng(1).normal(0, 6, sheet.shape)
    return Image.fromarray(np.uint8(sheet.clip(0, 255)))


def transparent(digit: np.ndarray) -> Image.Image:
    """White ink on nothing, as drawn in a browser."""
    picture = Image.new("RGBA", (224, 224), (255, 255, 255, 0))
    picture.putalpha(enlarged(digit))
    return picture


def deep(digit: np.ndarray) -> Image.Image:
    return Image.fromarray(np.asarray(enlarged(digit)).astype(np.uint16) * 257)


VARIANTS = [enlarged, inverted, colored, photographed, transparent, deep]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
def test_a_picture_of_a_digit_becomes_the_digit(variant):
    for digit in DIGITS:
        image = preprocess_picture(variant(digit), Preprocessing())
        assert image.shape == (1, 28, 28) and image.dtype == np.uint8
        assert np.abs(image[0].astype(float) - digit).mean() < 0.06 * 255
        assert np.abs(middle(image[0]) - middle(digit)).max() <= 1


@pytest.mark.skipif(not REAL.is_file(), reason="INKLAB_DATA_DIR holds no MNIST")
@pytest.mark.parametrize("variant", [Image.fromarray, *VARIANTS], ids=lambda variant: variant.__name__)
def test_real_digits_stay_what_they_are(variant):
    digits = read_idx(REAL)[:10]
    images = [preprocess_picture(variant(digit), Preprocessing())[0] for digit in digits]
    apart = [
        np.abs(image.astype(float) - digit).mean() / 255 for image, digit in zip(images, digits, strict=True)
    ]
    # Two different MNIST digits differ by 0.15 in the mean.
    assert np.mean(apart) < (0.01 if variant is Image.fromarray else 0.04) and max(apart) < 0.13
    moved = [np.abs(middle(image) - middle(digit)).max() for image, digit in zip(images, digits, strict=True)]
    assert max(moved) <= 1


def test_dark_ink_and_the_middle_of_the_box_are_options():
    picture = enlarged(DIGITS[0])
    np.testing.assert_array_equal(
        preprocess_picture(picture, Preprocessing(light_on_dark=False)),
        255 - preprocess_picture(picture, Preprocessing()),
    )
    picture = Image.new("L", (90, 90))
    picture.paste(255, (10, 20, 40, 30))
    picture.paste(255, (10, 20, 15, 60))
    image = preprocess_picture(picture, Preprocessing(center="box"))[0]
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert (rows[0], 27 - rows[-1]) == (4, 4) and abs(columns[0] - (27 - columns[-1])) <= 1


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("L", (50, 50), 0),
        Image.new("RGB", (300, 200), (250, 250, 240)),
        Image.new("RGBA", (64, 64), (0, 0, 0, 0)),
        Image.fromarray(np.uint8(RNG.normal(128, 20, (200, 200)).clip(0, 255))),
        Image.fromarray(np.uint8(np.linspace(120, 220, 200)[None].repeat(150, 0))),
        Image.new("L", (1, 1), 7),
    ],
    ids=["black", "paper", "transparent", "noise", "shadow", "one pixel"],
)
def test_a_picture_without_ink_is_refused(picture):
    with pytest.raises(DataError):
        preprocess_picture(picture, Preprocessing())


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["L", "RGB", "RGBA", "1", "I;16"]),
    st.integers(0, 99),
)
def test_any_picture_is_preprocessed_or_refused(width, height, mode, seed):
    dots = np.random.default_rng(seed).choice([0, 255], (height, width), p=[0.9, 0.1]).astype(np.uint8)
    picture = (
        Image.fromarray(dots.astype(np.uint16) * 200)
        if mode == "I;16"
        else Image.fromarray(dots).convert(mode)
    )
    try:
        assert preprocess_picture(picture, Preprocessing()).shape == (1, 28, 28)
    except DataError:
        pass
    assert preprocess_picture(picture, Preprocessing.resize_only((3, 9, 7))).shape == (3, 9, 7)


def test_resizing_to_the_right_size_changes_nothing():
    colors = RNG.integers(0, 256, (32, 30, 3), np.uint8)
    np.testing.assert_array_equal(
        preprocess_picture(Image.fromarray(colors), Preprocessing.resize_only((3, 32, 30))),
        colors.transpose(2, 0, 1),
    )
    gray = colors[..., 0]
    np.testing.assert_array_equal(
        preprocess_picture(Image.fromarray(gray), Preprocessing.resize_only((1, 32, 30))), gray[None]
    )


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def test_a_camera_picture_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    assert open_image(encoded(Image.new("L", (30, 20)), "JPEG", exif=exif)).size == (20, 30)


def test_other_formats_and_damaged_files_are_refused(tmp_path):
    picture = Image.fromarray(RNG.integers(0, 256, (40, 40), np.uint8))
    with pytest.raises(CorruptFileError, match="is not a PNG.*save it as PNG"):
        open_image(encoded(picture, "JPEG2000"))
    with pytest.raises(CorruptFileError, match="but HEIC"):
        open_image(b"\0\0\0\x18ftypheic" + bytes(20))
    with pytest.raises(CorruptFileError, match="2 pictures in one file"):
        open_image(encoded(picture, "GIF", save_all=True, append_images=[picture.rotate(90)]))
    with pytest.raises(CorruptFileError, match="is not a PNG, JPEG, BMP or WEBP"):
        open_image(encoded(picture, "TIFF"), formats=UPLOAD_FORMATS)
    (tmp_path / "cut.png").write_bytes(encoded(picture)[:-300])
    with pytest.raises(CorruptFileError, match="cut.png"):
        open_image(tmp_path / "cut.png")
    with pytest.raises(DataError, match="no.png"):
        open_image(tmp_path / "no.png")


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded():
    for side in (8_100, 60_000):
        header = bytearray(encoded(Image.new("1", (8, 8)), "BMP"))
        header[18:26] = side.to_bytes(4, "little") * 2
        with pytest.raises(CorruptFileError, match="64,000,000"):
            open_image(bytes(header))


def fill(folder: Path, pictures) -> Path:
    for name, picture in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(folder / name)
    return folder


def test_small_pictures_of_one_size_stay_as_they_are(tmp_path):
    arrays = RNG.integers(0, 256, (12, 10, 9), np.uint8)
    pictures = {
        f"{'ab'[i % 2]}/{i}.png": Image.fromarray(arrays[i]).convert("LRGB"[i % 2 :][: 1 + 2 * (i % 2)])
        for i in range(12)
    }
    dataset = load_dataset(str(fill(tmp_path, pictures)), seed=5)
    assert (dataset.labels, dataset.shape, dataset.preprocessing) == (
        ("a", "b"),
        (1, 10, 9),
        Preprocessing.resize_only((1, 10, 9)),
    )
    assert (dataset.train.counts(2), dataset.test.counts(2)) == ((5, 5), (1, 1))
    images = {image.tobytes() for part in (dataset.train, dataset.test) for image in part.pixels}
    assert images == {array.tobytes() for array in arrays}
    Image.fromarray(np.stack([*arrays[:3]], -1)).save(tmp_path / "a" / "0.png")
    assert load_dataset(str(tmp_path)).shape == (3, 10, 9), "color is kept where there is any"


def test_pictures_of_many_sizes_are_preprocessed_and_it_is_recorded(tmp_path):
    pictures = {}
    for part, digits in (("train", DIGITS[:8]), ("test", DIGITS[8:])):
        for i, digit in enumerate(digits):
            variant = [enlarged, photographed][i % 2]
            pictures[f"{part}/{'xy'[i % 2]}/{i}.png"] = variant(digit)
    dataset = load_dataset(str(fill(tmp_path, pictures)))
    assert (dataset.shape, dataset.preprocessing) == ((1, 28, 28), Preprocessing())
    assert (dataset.train.counts(2), dataset.test.counts(2)) == ((4, 4), (2, 2))
    other = load_dataset(str(tmp_path), preprocessing=Preprocessing.resize_only((3, 16, 16)))
    assert (other.shape, other.preprocessing) == ((3, 16, 16), Preprocessing.resize_only((3, 16, 16)))


BLANK, DIGIT = Image.new("L", (8, 8), 3), enlarged(DIGITS[0])


@pytest.mark.parametrize(
    ("pictures", "named"),
    [
        ({"a/1.png": BLANK}, "folder"),
        ({"a/1.png": BLANK, "b/": None}, "'b'"),
        ({"train/a/1.png": BLANK, "train/b/1.png": BLANK, "test/a/1.png": BLANK}, ": b"),
        ({"a/1.png": BLANK, "b/1.heic": None}, "b/1.heic"),
        ({"a/1.png": BLANK, "b/1.png": None}, "folder/b/1.png"),
        ({"a/1.png": DIGIT, "b/2.png": Image.new("L", (300, 200), 255)}, "folder/b/2.png"),
    ],
    ids=range(6),
)
def test_folders_that_make_no_data_set_say_which_part_is_wrong(tmp_path, pictures, named):
    folder = tmp_path / "folder"
    fill(folder, {name: picture for name, picture in pictures.items() if picture})
    for name in (name for name, picture in pictures.items() if not picture):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"no picture") if Path(name).suffix else (folder / name).mkdir()
    with pytest.raises(DataError, match=named) as caught:
        load_dataset(str(folder))
    assert isinstance(caught.value, CorruptFileError) or named != "folder/b/1.png"

"""How any picture becomes an image of the training format: as MNIST was made, or only resized."""

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageFilter

from inklab.data.image_file import composite_on_background, gray_values
from inklab.data.segmentation import find_foreground
from inklab.errors import DataError
from inklab.records.components import Center, Preprocessing

# Share of full ink where a stroke begins. Of 0.1 to 0.5, this reproduces 150 MNIST test digits best,
# unchanged and enlarged eight times (mean difference 0.003 and 0.02 of the range).
MIN_INK = 0.3
Image8 = UInt8[np.ndarray, "c h w"]


def preprocess_picture(picture: Image.Image, preprocessing: Preprocessing) -> Image8:
    """Turn any picture into an image of the training format.

    With `center` "mass" or "box": converted to grayscale, uneven background removed, ink detected (dark or
    light), cropped, its longer side scaled to `fit_to` pixels with antialiasing, and centered. With "none"
    the whole picture is resized.

    Args:
        picture: of any mode and size, upright; see `open_image`.
        preprocessing: the training format.

    Returns:
        Bytes `(c, h, w)`.

    Raises:
        DataError: no ink is detected.

    Example:
        >>> page = Image.new("L", (100, 80), 250)
        >>> page.paste(20, (45, 20, 55, 60))
        >>> image = preprocess_picture(page, Preprocessing())
        >>> image.shape, int(image.max()), int((image > 127).any(axis=2).sum())
        ((1, 28, 28), 255, 20)
    """
    if preprocessing.is_resize_only:
        return _resize_whole(picture, preprocessing)
    ink = find_foreground(gray_values(picture))
    image = _place_in_center(_fit(_crop(ink), preprocessing.fit_to), preprocessing)
    return image if preprocessing.light_on_dark else np.asarray(255 - image, np.uint8)


def _resize_whole(picture: Image.Image, preprocessing: Preprocessing) -> Image8:
    size = (preprocessing.width, preprocessing.height)
    if preprocessing.channels == 1:
        gray = Image.fromarray(np.round(gray_values(picture)).astype(np.uint8))
        return np.array(_resize(gray, size))[None]
    return np.array(_resize(composite_on_background(picture).convert("RGB"), size)).transpose(2, 0, 1).copy()


def _resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)  # antialiases


def _crop(ink: Float64[np.ndarray, "h w"]) -> Image.Image:
    rows = np.flatnonzero((ink > MIN_INK).any(axis=1))
    columns = np.flatnonzero((ink > MIN_INK).any(axis=0))
    if not len(rows) or not len(columns):
        raise DataError(
            "no ink is detected in the picture; use a picture of light strokes on dark, or dark ones on light"
        )
    cropped = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Image.fromarray(np.round(255 * cropped).astype(np.uint8))


def _fit(cropped: Image.Image, fit_to: int) -> UInt8[np.ndarray, "h w"]:
    scale = fit_to / max(cropped.size)
    size = (max(1, round(cropped.width * scale)), max(1, round(cropped.height * scale)))
    if scale > 2:  # enlarged strokes stay smooth
        cropped = cropped.filter(ImageFilter.SMOOTH)
    return np.array(_resize(cropped, size))


def _place_in_center(fitted: UInt8[np.ndarray, "a b"], preprocessing: Preprocessing) -> Image8:
    image = np.zeros(preprocessing.shape, np.uint8)
    top, left = (
        _offset(fitted.sum(axis=axis, dtype=np.float64), length, preprocessing.center)
        for axis, length in ((1, preprocessing.height), (0, preprocessing.width))
    )
    image[0, top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return image


def _offset(profile: Float64[np.ndarray, " side"], length: int, center: Center) -> int:
    """Where a profile begins if its center is in the middle of `length` pixels; never outside them."""
    side = len(profile)
    offset = (length - side) / 2
    if center == "mass" and profile.sum() > 0:
        # Pixel 14 of 0 to 27, not 13.5: MNIST's mean center of mass, measured as 13.99 and 14.01.
        offset = length // 2 - float(np.average(np.arange(side), weights=profile))
    return int(np.clip(round(offset), 0, length - side))

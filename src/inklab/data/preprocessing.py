"""Any picture, brought into the form of the training data: as MNIST was made, or plainly resized."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageFilter

from inklab.data.image_file import composite_on_background, gray_values
from inklab.data.segmentation import find_foreground
from inklab.errors import ConfigError, DataError, did_you_mean

CENTERS = ("mass", "box", "none")
# Share of full ink where a stroke begins. Of 0.1 to 0.5, this gives back 150 MNIST test digits best,
# as they are and enlarged eight times (mean difference 0.003 and 0.02 of the range).
TRACE = 0.3
Image8 = UInt8[np.ndarray, "c h w"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a picture becomes an image; travels with every bundle, so that it can't be forgotten.

    Args:
        channels: 1 grey, 3 colour (with `centre="none"` only).
        height: of the image, pixels.
        width: of the image, pixels.
        light_on_dark: whether ink is light on a dark ground, as in MNIST.
        box: pixels; the ink's longer side is made to fit it.
        centre: what is put in the middle: the ink's centre of "mass", its bounding "box", or "none": nothing
            is looked for or cropped, the whole picture is resized.

    Raises:
        ConfigError: a value outside what is said here.

    Example:
        >>> Preprocessing().shape, Preprocessing.plain((3, 32, 32)).centre
        ((1, 28, 28), 'none')
    """

    channels: int = 1
    height: int = 28
    width: int = 28
    light_on_dark: bool = True
    box: int = 20
    centre: str = "mass"

    def __post_init__(self) -> None:
        if self.centre not in CENTERS:
            hint = did_you_mean(self.centre, CENTERS)
            raise ConfigError(f"framing.centre = '{self.centre}';{hint} Known: {', '.join(CENTERS)}.")
        if self.channels != 1 and (self.channels != 3 or self.centre != "none"):
            raise ConfigError(
                f"framing.channels = {self.channels} with centre = '{self.centre}'; "
                "allowed are 1, and 3 with 'none'"
            )
        if min(self.height, self.width) < 1 or max(self.height, self.width) > 4096:
            raise ConfigError(
                f"framing makes {self.height} x {self.width} pixels; 1 to 4096 a side are allowed"
            )
        if not 1 <= self.box <= min(self.height, self.width):
            raise ConfigError(
                f"framing.box = {self.box} must lie in 1 to {min(self.height, self.width)}, the shorter side"
            )

    @staticmethod
    def plain(shape: tuple[int, int, int]) -> "Preprocessing":
        """The framing that only resizes, to `(channels, height, width)`."""
        channels, height, width = shape
        return Preprocessing(
            channels=channels, height=height, width=width, box=min(height, width), centre="none"
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what it makes."""
        return self.channels, self.height, self.width

    def to_json(self) -> dict[str, object]:
        """The fields by name."""
        return asdict(self)

    @staticmethod
    def from_json(value: Any) -> "Preprocessing":
        """The framing that `to_json` described; unknown or missing fields and wrong types are refused.

        Raises:
            ConfigError: it is not what `to_json` writes.
        """
        expected = {name: type(default) for name, default in asdict(Preprocessing()).items()}
        if not isinstance(value, dict) or {name: type(field) for name, field in value.items()} != expected:
            wanted = ", ".join(f"{name} ({kind.__name__})" for name, kind in expected.items())
            raise ConfigError(f"a framing of {value!r:.200} is not one; its fields are {wanted}")
        return Preprocessing(**value)


def frame(picture: Image.Image, framing: Preprocessing) -> Image8:
    """Bring any picture into the form of the training data.

    With `centre` "mass" or "box": grey, uneven ground removed, ink found (dark or light), cropped, its
    longer side fitted into `framing.box` pixels with antialiasing, and placed. With "none": resized as a
    whole.

    Args:
        picture: of any mode and size, upright; see `open_image`.
        framing: what to make of it.

    Returns:
        Bytes `(c, h, w)`.

    Raises:
        DataError: no ink is to be seen.

    Example:
        >>> page = Image.new("L", (100, 80), 250)
        >>> page.paste(20, (45, 20, 55, 60))
        >>> image = frame(page, Preprocessing())
        >>> image.shape, int(image.max()), int((image > 127).any(axis=2).sum())
        ((1, 28, 28), 255, 20)
    """
    if framing.centre == "none":
        return _resized(picture, framing)
    ink = find_foreground(gray_values(picture))
    fitted = _fitted(_cropped(ink), framing.box)
    image = _placed(fitted, framing)
    return image if framing.light_on_dark else np.asarray(255 - image, np.uint8)


def _resized(picture: Image.Image, framing: Preprocessing) -> Image8:
    size = (framing.width, framing.height)
    if framing.channels == 1:
        grey = Image.fromarray(np.round(gray_values(picture)).astype(np.uint8))
        return np.array(_scaled(grey, size))[None]
    return np.array(_scaled(composite_on_background(picture).convert("RGB"), size)).transpose(2, 0, 1).copy()


def _scaled(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)  # antialiases


def _cropped(ink: Float64[np.ndarray, "h w"]) -> Image.Image:
    rows = np.flatnonzero((ink > TRACE).any(axis=1))
    columns = np.flatnonzero((ink > TRACE).any(axis=0))
    if not len(rows) or not len(columns):
        raise DataError(
            "no ink is to be seen in the picture; give one with a light sign on dark or a dark one on light"
        )
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Image.fromarray(np.round(255 * cut).astype(np.uint8))


def _fitted(cut: Image.Image, box: int) -> UInt8[np.ndarray, "h w"]:
    scale = box / max(cut.size)
    size = (max(1, round(cut.width * scale)), max(1, round(cut.height * scale)))
    if scale > 1:  # enlarging: thin strokes stay smooth
        cut = cut.filter(ImageFilter.SMOOTH) if scale > 2 else cut
    return np.array(_scaled(cut, size))


def _placed(fitted: UInt8[np.ndarray, "a b"], framing: Preprocessing) -> Image8:
    image = np.zeros(framing.shape, np.uint8)
    top, left = (
        _start(fitted.sum(axis=axis, dtype=np.float64), room, framing.centre)
        for axis, room in ((1, framing.height), (0, framing.width))
    )
    image[0, top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return image


def _start(profile: Float64[np.ndarray, " side"], room: int, centre: str) -> int:
    """Where a strip begins so that its centre comes to the middle of `room` pixels, but never outside."""
    side = len(profile)
    start = (room - side) / 2
    if centre == "mass" and profile.sum() > 0:
        # Pixel 14 of 0 to 27, not 13.5: there lies MNIST's mean centre of mass, measured 13.99 and 14.01.
        start = room // 2 - float(np.average(np.arange(side), weights=profile))
    return int(np.clip(round(start), 0, room - side))

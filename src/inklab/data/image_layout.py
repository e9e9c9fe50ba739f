"""How training images are laid out, and so how a picture becomes such an image.

A model reads a photograph right only if it is preprocessed into the form of the training images. Files and
arrays do not say what that form is, so it is measured.
"""

import re
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from inklab.data.dataset import Dataset
from inklab.records.components import Center, Preprocessing, PreprocessingChoice

SAMPLE = 1000  # images that are looked at, evenly over all
SHARE = 0.8  # of the sample must have a property; a few odd images do not decide
INK = 76  # of 255: where a stroke begins, as in `preprocessing.MIN_INK`
MIN_SIDE, MAX_SIDE = 12, 64  # pixels; below there is no room for a margin, above are photographs
MAX_SPREAD = 0.2  # of the median size of the ink; more, and the size itself may tell classes apart
MAX_OFFSET = 0.1  # of the side; more, and the position itself may tell classes apart
MIN_SIZE = 0.4  # of the shorter side, of the ink

Positions = Float64[np.ndarray, "2 n"]
Sample = UInt8[np.ndarray, "_ _ _ _"]


def choose_preprocessing(choice: PreprocessingChoice, pixels: Sample) -> Preprocessing:
    """What a person has chosen for images `(n, c, h, w)`; what suits them if that is "auto".

    Raises:
        ConfigError: "mnist" for color images.
    """
    if isinstance(choice, Preprocessing):
        return choice
    _, channels, height, width = pixels.shape
    shape = (channels, height, width)
    return suitable_preprocessing(pixels) if choice == "auto" else Preprocessing.of(choice, shape)


def with_preprocessing(dataset: Dataset, choice: PreprocessingChoice) -> Dataset:
    """The same images with another preprocessing of pictures, unless the choice is "auto"."""
    if choice == "auto":
        return dataset
    return replace(dataset, preprocessing=choose_preprocessing(choice, dataset.train.pixels))


def suitable_preprocessing(pixels: Sample) -> Preprocessing:
    """How pictures become such images: as MNIST's digits were made if these look so, else only resized.

    Images look like MNIST's if they are gray, 12 to 64 pixels per side, and at least 80 % of a sample have

    * an outermost ring of pixels without ink, dark (or light, and then ink is dark);
    * ink of about one size: the longer side of its box is within 20 % of the median, and at least 40 % of
      the shorter side of the image;
    * ink in the middle: its center of mass, or its box, within a tenth of the side.

    Then ink is detected in pictures, cropped, scaled to the median size, and centered in the way that fits
    the images better.

    Args:
        pixels: `(n, c, h, w)` training images; at least one.

    Example:
        >>> image = np.zeros((1, 1, 28, 28), np.uint8)
        >>> image[0, 0, 4:24, 8:20] = 255
        >>> suitable_preprocessing(image).center, suitable_preprocessing(255 - image).light_on_dark
        ('box', False)
        >>> suitable_preprocessing(image[..., 4:24, :]).center
        'none'
    """
    _, channels, height, width = pixels.shape
    resized = Preprocessing.resize_only((channels, height, width))
    if channels != 1 or min(height, width) < MIN_SIDE or max(height, width) > MAX_SIDE:
        return resized
    sample = pixels[:: max(1, len(pixels) // SAMPLE), 0]
    for light_on_dark, image in ((True, sample), (False, 255 - sample)):
        if layout := _measure(image):
            size, center = layout
            return resized.model_copy(
                update={"fit_to": size, "center": center, "light_on_dark": light_on_dark}
            )
    return resized


def _measure(sample: UInt8[np.ndarray, "n h w"]) -> tuple[int, Center] | None:
    """Size and centering of light ink on a dark ground; None if the images have another layout."""
    ink = sample > INK
    sides = np.array(sample.shape[1:])
    ring = np.ones(sample.shape[1:], bool)
    ring[1:-1, 1:-1] = False
    has_margin = ~ink[:, ring].any(axis=1) & ink.any(axis=(1, 2))
    if has_margin.mean() < SHARE:
        return None
    firsts, lengths = zip(*(_extent(np.asarray(ink.any(axis=axis))) for axis in (2, 1)), strict=True)
    longer = np.maximum(*lengths)
    size = int(np.median(longer[has_margin]))
    is_like_others = has_margin & (np.abs(longer - size) <= max(1, MAX_SPREAD * size))
    if is_like_others.mean() < SHARE or not MIN_SIZE * sides.min() <= size <= sides.min():
        return None
    boxes = np.stack(firsts) + np.stack(lengths) / 2
    # Pixel 14 of 0 to 27 is MNIST's mean center of mass, see `preprocessing._offset`.
    distances: dict[Center, Float64[np.ndarray, " n"]] = {
        "mass": np.abs(_mass_centers(sample) - sides[:, None] // 2).max(axis=0),
        "box": np.abs(boxes - sides[:, None] / 2).max(axis=0),
    }
    center = min(distances, key=lambda name: float(np.median(distances[name])))
    is_centered = has_margin & (distances[center] <= MAX_OFFSET * sides.min())
    return (size, center) if is_centered.mean() >= SHARE else None


def _mass_centers(sample: UInt8[np.ndarray, "n h w"]) -> Positions:
    weights = sample.astype(np.float64)
    total = np.maximum(weights.sum(axis=(1, 2)), 1)
    rows, columns = weights.sum(axis=2), weights.sum(axis=1)
    centers = [profile @ np.arange(profile.shape[1]) / total for profile in (rows, columns)]
    return np.stack(centers)


def _extent(occupied: Bool[np.ndarray, "n side"]) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """The first position that is occupied, and the number of positions from it to the last."""
    first = np.argmax(occupied, axis=1)
    last = occupied.shape[1] - np.argmax(occupied[:, ::-1], axis=1)
    return first, np.where(occupied.any(axis=1), last - first, 0)


# ---------------------------------------------------------------- EMNIST, which lies on its side


DIGITS = tuple("0123456789")
UPPERCASE = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
MERGED = (*DIGITS, *UPPERCASE, *"abdefghnqrt")
EMNIST_IMAGES = re.compile(r"emnist-([a-z]+)-(?:train|test)-images[-.]idx3")
EMNIST_NOTE = "The images of EMNIST's files lie on their side; they were turned upright."


@dataclass(frozen=True)
class EmnistPart:
    """One of the datasets in EMNIST's archive.

    Attributes:
        labels: the names of the classes.
        counts: training and test images; () for any.
        first_label: of the first class in the files.
    """

    labels: tuple[str, ...]
    counts: tuple[int, ...] = ()
    first_label: int = 0

    @property
    def class_names(self) -> dict[int, str]:
        """The name of each label in the files."""
        return dict(enumerate(self.labels, self.first_label))


EMNIST_PARTS = {
    "letters": EmnistPart(UPPERCASE, (124_800, 20_800), first_label=1),  # upper and lower case in one class
    "balanced": EmnistPart(MERGED, (112_800, 18_800)),
    "digits": EmnistPart(DIGITS, (240_000, 40_000)),
    "mnist": EmnistPart(DIGITS),
    "bymerge": EmnistPart(MERGED),
    "byclass": EmnistPart((*DIGITS, *UPPERCASE, *map(str.lower, UPPERCASE))),
}


def emnist_part(file_name: str) -> EmnistPart | None:
    """The part of EMNIST that a file of images belongs to, by its name; None for other files.

    Example:
        >>> emnist_part("emnist-letters-train-images-idx3-ubyte.gz").class_names[1]
        'A'
    """
    match = EMNIST_IMAGES.match(file_name)
    return EMNIST_PARTS.get(match[1]) if match else None

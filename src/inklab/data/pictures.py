"""Pictures of any size and mode as the images of one dataset: files, or pictures in memory."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from inklab.data.conversion import ImageBytes
from inklab.data.dataset import MAX_BYTES
from inklab.data.image_layout import choose_preprocessing
from inklab.data.preprocessing import Image8, preprocess_picture
from inklab.errors import DataError
from inklab.format import pluralize
from inklab.records.components import Preprocessing, PreprocessingChoice

MAX_SIDE = 64  # pixels; larger pictures are preprocessed to MNIST's size

NamedPictures = Iterable[tuple[str, Image.Image]]
"""Pictures with the names that messages use; read twice, so that they need not all be in memory."""


@dataclass(frozen=True)
class PreprocessedPictures:
    """What became of pictures.

    Attributes:
        sets: images of each set, in their order.
        preprocessing: how a picture becomes such an image.
        note: what a person should know of their sizes; None if they are unchanged.
    """

    sets: tuple[ImageBytes, ...]
    preprocessing: Preprocessing
    note: str | None


def preprocess_pictures(
    sets: Sequence[NamedPictures], choice: PreprocessingChoice = "auto"
) -> PreprocessedPictures:
    """Make images of pictures, all in one way.

    Pictures that all have one size of at most 64 pixels per side stay as they are, grayscale if all are gray.
    Others are preprocessed as MNIST was made: ink detected, cropped, scaled and centered in 28 x 28.

    Args:
        sets: the pictures of the training set, then of the test set if there is one.
        choice: "auto" as above, and later pictures as suits the images; "mnist" or "resize" for later
            pictures; or a preprocessing for all of them.

    Raises:
        DataError: a picture can't be preprocessed (it is named), they are too large together, or "resize" is
            chosen for pictures that have no common size.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    is_gray = True
    for pictures in sets:
        for _, picture in pictures:
            sizes[picture.size] += 1
            is_small = len(sizes) == 1 and max(picture.size) <= MAX_SIDE
            is_gray = is_gray and (not is_small or has_gray_values(picture))
    if not sizes:
        raise DataError("there are no pictures")
    (width, height), *others = sizes
    keep = isinstance(choice, str) and not others and max(width, height) <= MAX_SIDE
    if choice == "resize" and not keep:
        raise DataError(
            "preprocessing = 'resize' needs pictures of one size of at most 64 pixels per side; for others "
            'give the size: {center = "none", channels = 3, height = 32, width = 32, fit_to = 32}'
        )
    preprocessing = Preprocessing() if isinstance(choice, str) else choice
    if keep:
        preprocessing = Preprocessing.resize_only((1 if is_gray else 3, height, width))
    channels, height, width = preprocessing.shape
    size = sizes.total() * channels * height * width
    if size > MAX_BYTES:
        raise DataError(f"the pictures have {size:,} bytes of pixels; at most {MAX_BYTES:,} are allowed")
    images = tuple(
        np.stack([_preprocess(name, picture, preprocessing) for name, picture in pictures])
        for pictures in sets
    )
    if keep:
        preprocessing = choose_preprocessing(choice, images[0])
    return PreprocessedPictures(images, preprocessing, _note_on_sizes(sizes, preprocessing))


def has_gray_values(picture: Image.Image) -> bool:
    """Whether no pixel has a color."""
    if picture.mode in ("1", "L", "LA", "F") or picture.mode.startswith("I"):
        return True
    colors = np.asarray(picture.convert("RGB"))
    return bool((colors[..., :1] == colors).all())


def _preprocess(name: str, picture: Image.Image, preprocessing: Preprocessing) -> Image8:
    try:
        return preprocess_picture(picture, preprocessing)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def _note_on_sizes(sizes: Counter[tuple[int, int]], preprocessing: Preprocessing) -> str | None:
    if set(sizes) == {(preprocessing.width, preprocessing.height)}:
        return None
    (width, height), count = sizes.most_common(1)[0]
    described = f"of {width} x {height} pixels"
    if len(sizes) > 1:
        described = f"in {len(sizes)} sizes (most often {width} x {height}: {count:,})"
    target = f"{preprocessing.width} x {preprocessing.height}"
    return f"{pluralize(sizes.total(), 'picture')} {described}: all were preprocessed to {target} pixels."

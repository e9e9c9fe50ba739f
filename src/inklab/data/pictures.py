"""Pictures of any size and mode as the images of one dataset: files, or pictures in memory."""

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import PIL
from PIL import Image

from inklab.data.conversion import ImageBytes
from inklab.data.dataset import MAX_BYTES
from inklab.data.image_layout import choose_preprocessing
from inklab.data.preprocessing import Image8, preprocess_picture
from inklab.errors import DataError
from inklab.format import pluralize
from inklab.io.files import cache_dir, cached, keep_newest, sha256_of
from inklab.records.components import Preprocessing, PreprocessingChoice

CACHE_FORMAT = 1  # another one wherever the same files become other images
MIN_CACHED_PICTURES = 500
MAX_CACHE_BYTES = 2 * 1024**3
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


@runtime_checkable
class StoredPictures(Protocol):
    """Named pictures in files, which say whether they are still the same."""

    def __len__(self) -> int:
        """Number of pictures."""

    def __iter__(self) -> Iterator[tuple[str, Image.Image]]:
        """Each picture with its name in messages."""

    def stamps(self) -> list[tuple[object, ...]]:
        """Names, sizes and times of the files: the same as long as the pictures are.

        Raises:
            OSError: a file is gone.
        """


def preprocess_files(
    sets: Sequence[NamedPictures], choice: PreprocessingChoice = "auto"
) -> PreprocessedPictures:
    """Make images of pictures as `preprocess_pictures` does; many that are stored are decoded only once.

    From 500 stored pictures on, the result is kept in the user's cache, by the stamps of the files.

    Raises:
        DataError: as for `preprocess_pictures`.
    """
    stored = [pictures for pictures in sets if isinstance(pictures, StoredPictures)]
    if len(stored) < len(sets) or sum(map(len, stored)) < MIN_CACHED_PICTURES:
        return preprocess_pictures(sets, choice)
    kind = choice if isinstance(choice, str) else choice.model_dump(mode="json")
    try:
        stamps = [pictures.stamps() for pictures in stored]
    except OSError:  # a file is gone: reading it says which
        return preprocess_pictures(sets, choice)
    identity = json.dumps([CACHE_FORMAT, PIL.__version__, kind, stamps]).encode()
    path = cache_dir("pictures") / f"{sha256_of(identity)}.npz"
    content = cached(path, lambda: _to_bytes(preprocess_pictures(sets, choice)))
    keep_newest(path.parent, MAX_CACHE_BYTES)
    return _from_bytes(content)


def _to_bytes(result: PreprocessedPictures) -> bytes:
    about = json.dumps([result.preprocessing.model_dump(mode="json"), result.note])
    file = io.BytesIO()
    np.savez(file, np.frombuffer(about.encode(), np.uint8), *result.sets)
    return file.getvalue()


def _from_bytes(content: bytes) -> PreprocessedPictures:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        about, *sets = (arrays[name] for name in arrays.files)
    preprocessing, note = json.loads(about.tobytes())
    return PreprocessedPictures(tuple(sets), Preprocessing.model_validate(preprocessing), note)


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

"""Pictures in folders, a folder a class: how one brings images of one's own."""

from collections import Counter
from pathlib import Path
from unicodedata import category

import numpy as np
from PIL import Image

from inklab.data.dataset import MAX_BYTES, Dataset, ImageSet, without_test
from inklab.data.image_file import FORMATS, SUFFIXES, open_image
from inklab.data.preprocessing import Image8, Preprocessing, frame
from inklab.errors import DataError
from inklab.shapes import Pixels

MAX_SIDE = 64  # pixels; larger pictures are framed to MNIST's size, fit for nets for small images
FOREIGN_SUFFIXES = (".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".svg", ".pdf")
UNPRINTABLE = ("Cc", "Cs")  # Unicode's control characters, and what stands for bytes that are no UTF-8
Classes = dict[str, list[Path]]


def load_folder(path: Path, *, seed: int, source: str, framing: Preprocessing | None = None) -> Dataset:
    """Load pictures, a sub-folder a class; or `train` and `test`, each with those sub-folders.

    Without `train` and `test`, a sixth of every class, chosen by `seed`, becomes the test set. Pictures that
    all have one size of at most 64 pixels a side stay as they are, grey if all are grey. Others are framed
    as MNIST was made: ink found, cropped, fitted and centred in 28 x 28. The data set's `framing` says what
    was done.

    Raises:
        CorruptFileError: a picture is damaged or too large; it is named.
        DataError: a class is empty, the classes of `train` and `test` differ, or the pictures together are
            too large.
    """
    parts = _parts(path)
    names = tuple(sorted(next(iter(parts.values()))))
    for part in parts.values():
        _check_classes(part, names, path)
    every = [picture for part in parts.values() for pictures in part.values() for picture in pictures]
    framing = framing or _fitting(every)
    _refuse_large(len(every), framing, path)
    sets = [_image_set(part, names, framing) for part in parts.values()]
    train, test = sets if len(sets) == 2 else without_test(sets[0], seed)
    return Dataset(source, train, test, names, framing, _on_sizes(every, framing))


def _parts(path: Path) -> dict[str, Classes]:
    found = _folders(path)
    if set(found) == {"train", "test"}:
        return {name: _classes(found[name]) for name in ("train", "test")}
    if len(found) < 2:
        raise DataError(
            f"'{path}' has {len(found)} sub-folders; needed is one a class with its pictures, two at least, "
            "or 'train' and 'test' with those"
        )
    return {"all": _classes(path)}


def _folders(path: Path) -> dict[str, Path]:
    found = [inner for inner in sorted(path.iterdir()) if inner.is_dir() and not inner.name.startswith(".")]
    for inner in found:
        if any(category(letter) in UNPRINTABLE for letter in inner.name):
            raise DataError(
                f"'{path}' has a sub-folder called {inner.name!r}, which can't be written as text; rename it"
            )
    return {inner.name: inner for inner in found}


def _classes(path: Path) -> Classes:
    return {name: _pictures(folder) for name, folder in _folders(path).items()}


def _pictures(folder: Path) -> list[Path]:
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    foreign = [path for path in files if path.suffix.lower() in FOREIGN_SUFFIXES]
    if foreign:
        raise DataError(
            f"'{foreign[0]}' can't be read, only {', '.join(FORMATS)}; save it as PNG or take it out"
        )
    return [path for path in files if path.suffix.lower() in SUFFIXES]


def _check_classes(part: Classes, names: tuple[str, ...], path: Path) -> None:
    if set(part) != set(names):
        odd = ", ".join(sorted(set(part) ^ set(names)))
        raise DataError(
            f"'{path}': 'train' and 'test' must have the same classes; only one of them has: {odd}"
        )
    for name, pictures in part.items():
        if not pictures:
            raise DataError(
                f"'{path}': the class '{name}' has no pictures ({', '.join(SUFFIXES)}); add some or remove it"
            )


def _fitting(pictures: list[Path]) -> Preprocessing:
    """The framing that leaves small pictures of one size as they are, or else MNIST's."""
    first, grey = open_image(pictures[0]).size, True
    if max(first) > MAX_SIDE:
        return Preprocessing()
    for path in pictures:
        picture = open_image(path)
        if picture.size != first:
            return Preprocessing()
        grey = grey and _is_gray(picture)
    width, height = first
    return Preprocessing.plain((1 if grey else 3, height, width))


def _on_sizes(pictures: list[Path], framing: Preprocessing) -> str | None:
    """What a person should know of the pictures' sizes, if they were not taken as they are."""
    sizes = Counter(open_image(path).size for path in pictures)
    if set(sizes) == {(framing.width, framing.height)}:
        return None
    (width, height), count = sizes.most_common(1)[0]
    odd = (
        ""
        if len(sizes) == 1
        else f", in {len(sizes)} sizes; the commonest, {width} x {height}, has {count:,}"
    )
    each = f" of {width} x {height} pixels" if len(sizes) == 1 else ""
    framed = f"{framing.width} x {framing.height}"
    return f"{len(pictures):,} pictures{each}{odd}: all were framed to {framed} pixels."


def _is_gray(picture: Image.Image) -> bool:
    if picture.mode in ("1", "L", "LA", "F") or picture.mode.startswith("I"):
        return True
    colors = np.asarray(picture.convert("RGB"))
    return bool((colors[..., :1] == colors).all())


def _refuse_large(count: int, framing: Preprocessing, path: Path) -> None:
    size = count * framing.channels * framing.height * framing.width
    if size > MAX_BYTES:
        raise DataError(f"'{path}' makes {size:,} bytes of pixels; at most {MAX_BYTES:,} are held")


def _image_set(part: Classes, names: tuple[str, ...], framing: Preprocessing) -> ImageSet:
    pixels: Pixels = np.stack([_framed(path, framing) for name in names for path in part[name]])
    labels = np.repeat(np.arange(len(names)), [len(part[name]) for name in names])
    return ImageSet(pixels, labels)


def _framed(path: Path, framing: Preprocessing) -> Image8:
    try:
        return frame(open_image(path), framing)
    except DataError as error:
        if str(path) in str(error):
            raise
        raise DataError(f"'{path}': {error}") from error

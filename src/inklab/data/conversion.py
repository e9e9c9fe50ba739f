"""What users have in memory, as bytes and class numbers: arrays, tensors and tables of any usual form."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as shorten
from typing import Any, cast
from unicodedata import category

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from inklab.data.dataset import (
    MAX_BYTES,
    MAX_CLASSES,
    Dataset,
    ImageSet,
    Labels,
    Pixels,
    describe,
    split_off_test,
)
from inklab.data.image_layout import choose_preprocessing
from inklab.errors import ConfigError, DataError, OutOfRangeError
from inklab.format import pluralize
from inklab.records.components import PreprocessingChoice

Array = Shaped[np.ndarray, "..."]
ImageBytes = UInt8[np.ndarray, "_ _ _ _"]
"""Like `Pixels`, in a collection of sets of different lengths."""

ClassNumbers = Int64[np.ndarray, " _"]
"""Like `Labels`, in a collection of sets of different lengths."""

ImageShape = Sequence[int]
ClassNames = Sequence[str] | Mapping[Any, str]

SET_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""The usual names of each set, in lower case: of directories, files, arrays and splits."""

MIN_IMAGES = 6  # of which a sixth becomes the test set
CHUNK = 4096  # images converted at once, so that a large array is not copied as floats
TOLERANCE = 1e-6  # beyond [0, 1], of arithmetic in float32
DARK = 32  # of 255: images without a lighter pixel were probably not scaled to 0 to 255
MAX_LABEL_LENGTH = 200  # characters; longer ones come from the wrong column
UNPRINTABLE = ("Cc", "Cs")  # Unicode categories: control characters, surrogates of bytes that are not UTF-8
MISSING_TYPES = ("NoneType", "NAType", "NaTType")  # of Python and pandas
RULE = "give bytes from 0 to 255, or floats in [0, 1], before any normalization"


def to_numpy(values: object, name: str) -> Array:
    """An array of anything that has one: a tensor on any device, a DataFrame, a list.

    Args:
        values: a NumPy array, torch tensor, pandas object, or sequence of numbers, arrays or tensors.
        name: what messages call it.

    Raises:
        DataError: it is sparse, or its parts differ in shape.
    """
    if isinstance(values, np.ndarray):
        return values
    if hasattr(values, "tocsr"):
        raise DataError(f"{name} is a sparse matrix; give {name}.toarray()")
    torch = sys.modules.get("torch")  # only who has imported it can have a tensor
    if torch is not None and isinstance(values, torch.Tensor):
        tensor = values.detach().cpu()
        return cast(Array, (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())
    if hasattr(values, "to_numpy"):
        return cast(Array, values.to_numpy())
    if isinstance(values, list | tuple) and values and hasattr(values[0], "shape"):
        return _stack([to_numpy(entry, name) for entry in values], name)
    try:
        return np.asarray(values)
    except ValueError as error:  # of NumPy: lists of different lengths
        raise DataError(f"{name} has parts of different shapes; all images need one shape") from error


def _stack(arrays: Sequence[Array], name: str) -> Array:
    for index, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise DataError(
                f"{name}[0] is {describe(arrays[0])} and {name}[{index}] {describe(array)}; all images need "
                "one shape: resize them first"
            )
    return np.stack(arrays)


# ---------------------------------------------------------------- images


def to_pixels(images: object, name: str, image_shape: ImageShape | None = None) -> Pixels:
    """Images of any usual form as bytes, channels first.

    Args:
        images: `(n, h, w)`, `(n, c, h, w)` or `(n, h, w, c)` with c 1 or 3, or `(n, p)` with p values of each
            image row by row. A last channel of transparency, c 2 or 4, is composited. Bytes, or other
            integers from 0 to 255, stay as they are; floats in [0, 1] are multiplied by 255 and rounded;
            booleans become 0 and 255.
        name: what messages call them.
        image_shape: of one image of `(n, p)`: `(h, w)`, `(c, h, w)` or `(h, w, c)`; a square by default.

    Raises:
        DataError: no such shape or type, or not a number.
        OutOfRangeError: values outside these ranges.

    Example:
        >>> to_pixels([[0.0, 1.0, 0.2, 0.4]], "X").tolist()
        [[[[0, 255], [51, 102]]]]
    """
    array = to_numpy(images, name)
    if array.dtype == object and array.ndim == 1 and len(array):
        array = _stack([to_numpy(entry, name) for entry in array], name)  # such as a Series of arrays
    if not array.ndim:
        raise DataError(f"{name} is of type {type(images).__name__}; give an array of images")
    if array.dtype.kind not in "buif":
        raise DataError(f"{name} is {describe(array)}, not numbers; {RULE}")
    if array.size > MAX_BYTES:
        raise DataError(f"{name} is {describe(array)}; at most {MAX_BYTES:,} values are allowed")
    unflattened = _unflatten(array, name, image_shape)
    if not unflattened.size:
        raise DataError(f"{name} is {describe(array)}: there are no images in it")
    if unflattened.ndim == 4 and unflattened.shape[1] not in (1, 3) and unflattened.shape[3] in (2, 4):
        return _composite(to_bytes(unflattened, name))
    return to_bytes(channels_first(unflattened, name), name)


def _composite(pixels: ImageBytes) -> Pixels:
    """Images with an alpha channel, last, on white if the visible part of an image is dark, else on black."""
    composed = np.empty((*pixels.shape[:3], pixels.shape[3] - 1), np.uint8)
    for image, target in zip(pixels, composed, strict=True):
        colors, alpha = image[..., :-1].astype(np.float32), image[..., -1:].astype(np.float32) / 255
        is_dark = 2 * float((colors.mean(axis=2, keepdims=True) * alpha).sum()) <= 255 * float(alpha.sum())
        target[:] = np.rint(colors * alpha + (255.0 if is_dark else 0.0) * (1 - alpha))
    return np.ascontiguousarray(composed.transpose(0, 3, 1, 2))


def _unflatten(array: Array, name: str, image_shape: ImageShape | None) -> Array:
    if image_shape is not None:
        shape = _check_image_shape(image_shape)
        is_flat = array.ndim == 2 and array.shape[1] == math.prod(shape)
        if not is_flat and array.shape[1:] != shape:
            raise DataError(f"{name} is {describe(array)}, which does not fit image_shape = {shape}")
        return array.reshape(len(array), *shape)
    if array.ndim != 2:
        return array
    side = math.isqrt(array.shape[1])
    if side * side != array.shape[1]:
        raise DataError(
            f"{name} is {describe(array)}, and images of {array.shape[1]} values are not square; give "
            "image_shape=(height, width), (channels, height, width) or (height, width, channels)"
        )
    return array.reshape(len(array), side, side)


def _check_image_shape(image_shape: ImageShape) -> tuple[int, ...]:
    sides = tuple(image_shape) if isinstance(image_shape, Sequence) else ()
    if len(sides) not in (2, 3) or not all(isinstance(side, int | np.integer) and side > 0 for side in sides):
        raise ConfigError(
            f"image_shape = {image_shape!r}; give (height, width), (channels, height, width) or "
            "(height, width, channels)",
            key="image_shape",
        )
    return tuple(int(side) for side in sides)


def channels_first(array: Array, name: str) -> Array:
    """Images `(n, h, w)`, `(n, c, h, w)` or `(n, h, w, c)` as `(n, c, h, w)`, c 1 or 3.

    Raises:
        DataError: another shape, or one that can be read in both ways.
    """
    if array.ndim == 3:
        return array[:, None]
    first, last = (array.ndim == 4 and array.shape[axis] in (1, 3) for axis in (1, 3))
    if first == last:
        why = "channels may come first or last" if first else "neither (n, h, w) nor 1 or 3 channels"
        raise DataError(f"{name} is {describe(array)}: {why}; give (n, h, w) or (n, c, h, w)")
    return array if first else array.transpose(0, 3, 1, 2)


def to_bytes(array: Array, name: str) -> UInt8[np.ndarray, "..."]:
    """Numbers as bytes by the one rule: bytes stay, floats in [0, 1] times 255, booleans 0 and 255.

    Args:
        array: at least one value, of any shape.
        name: what messages call it.

    Raises:
        OutOfRangeError: values are outside the range of their type, or not finite.
    """
    if array.dtype.kind == "b":
        return np.ascontiguousarray(array).view(np.uint8) * np.uint8(255)
    if array.dtype.kind in "ui":
        if array.dtype != np.uint8:
            _check_range(array, name, 0.0, 255.0)
        return np.ascontiguousarray(array, np.uint8)
    _check_range(array, name, -TOLERANCE, 1.0 + TOLERANCE)
    pixels = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), CHUNK):
        chunk = array[start : start + CHUNK]
        wide = chunk.astype(np.float32) if chunk.dtype == np.float16 else chunk
        np.rint((wide * 255).clip(0, 255), out=pixels[start : start + CHUNK], casting="unsafe")
    return pixels


def _check_range(array: Array, name: str, lowest: float, highest: float) -> None:
    low, high = array.min(), array.max()
    if lowest <= low and high <= highest:
        return
    if not np.isfinite(low) or not np.isfinite(high):
        wrong = ~np.isfinite(array)
        first = int(np.argmax(wrong.reshape(len(array), -1).any(axis=1)))
        raise OutOfRangeError(
            f"{name} has {int(wrong.sum()):,} values that are NaN or infinite, the first in image {first}; "
            "remove or replace them"
        )
    kind = "integers" if array.dtype.kind in "ui" else "floats"
    advice = _range_advice(float(low), float(high), kind)
    raise OutOfRangeError(f"{name} has {kind} from {low:.6g} to {high:.6g}; {RULE}{advice}")


def _range_advice(low: float, high: float, kind: str) -> str:
    """What to do about the usual other ranges."""
    if low < 0:
        is_symmetric = low >= -1 and high <= 1 and kind == "floats"
        return " (if they go from -1 to 1: add 1, divide by 2)" if is_symmetric else ""
    top = 255.0 if 127 < high <= 255 else next((top for top in (16.0, 4095.0, 65535.0) if high <= top), high)
    return f" (if {top:.6g} is full: divide by {top:.6g})"


def note_on_range(pixels: Pixels) -> str | None:
    """What a person should know if the images are nearly black."""
    top = int(pixels.max())
    if top > DARK:
        return None
    if not top:
        return "All training images are black: every pixel is 0."
    return (
        f"The largest pixel value is {top} of 255, so the images are nearly black; if {top} is full, "
        f"give floats in [0, 1] (divided by {top})."
    )


# ---------------------------------------------------------------- labels


def encode_labels(
    sets: Mapping[str, object], labels: ClassNames | None = None
) -> tuple[tuple[str, ...], list[ClassNumbers]]:
    """Class names, and the class numbers of each set.

    Args:
        sets: by the name that messages use: `(n,)` integers, strings or booleans, or `(n, k)` one-hot.
        labels: names of the classes 0, 1, ...; or the name of each value, in the order of the classes. By
            default the values that occur are the classes, in ascending order.

    Raises:
        DataError: a label is missing or of another type, or they are not 2 to 1,000 classes.
        ConfigError: `labels` are not different names.

    Example:
        >>> encode_labels({"y": [8, 3, 8]})
        (('3', '8'), [array([1, 0, 1])])
        >>> encode_labels({"y": [1, 2, 1]}, {1: "cat", 2: "dog"})
        (('cat', 'dog'), [array([0, 1, 0])])
    """
    arrays = {name: _label_values(values, name) for name, values in sets.items()}
    kinds = {name: _kind(array) for name, array in arrays.items()}
    if len(set(kinds.values())) > 1:
        described = " but ".join(f"{name} has {kind}" for name, kind in kinds.items())
        raise DataError(f"{described}; give labels of one type")
    uniques = {name: np.unique(array, return_inverse=True) for name, array in arrays.items()}
    values = sorted({value for unique, _ in uniques.values() for value in unique.tolist()})
    names = _name_values(values, labels, next(iter(sets)))
    classes = tuple(dict.fromkeys(names.values()))
    numbers = {value: classes.index(name) for value, name in names.items()}
    encoded: list[ClassNumbers] = []
    for name, (unique, inverse) in uniques.items():
        unknown = [value for value in unique.tolist() if value not in numbers]
        if unknown:
            raise DataError(_unknown_label(name, unknown[0], labels))
        encoded.append(np.array([numbers[value] for value in unique.tolist()], np.int64)[inverse.reshape(-1)])
    return classes, encoded


def _name_values(values: Sequence[Any], labels: ClassNames | None, name: str) -> dict[Any, str]:
    """The name of each label value, in the order of the classes."""
    if labels is None:
        is_text = isinstance(values[0], str)
        names = {value: str(value) for value in (order_classes(values) if is_text else values)}
        if len(names) < 2:
            raise DataError(f"{name} has one label only, {values[0]!r}; at least two classes are needed")
        if len(names) > MAX_CLASSES:
            raise DataError(
                f"{name} has {len(names):,} different labels; at most {MAX_CLASSES:,} classes are allowed"
            )
    else:
        names = _given_names(labels, is_text=bool(values) and isinstance(values[0], str))
    for text in names.values():
        if not text.strip() or len(text) > MAX_LABEL_LENGTH or any(category(c) in UNPRINTABLE for c in text):
            raise DataError(
                f"the label {shorten(text)} can't name a class; give 1 to {MAX_LABEL_LENGTH} "
                "printable characters"
            )
    return names


def order_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Names of classes in ascending order; as numbers if all are.

    Example:
        >>> order_classes(["10", "9", "2"]), order_classes(["b", "a", "10"])
        (('2', '9', '10'), ('10', 'a', 'b'))
    """
    names = sorted(names)
    if all(name.isascii() and name.isdecimal() for name in names):
        names.sort(key=int)
    return tuple(names)


def _given_names(labels: ClassNames, *, is_text: bool) -> dict[Any, str]:
    if isinstance(labels, str):
        raise ConfigError(
            f"labels = {labels!r}; give a list of class names, or {{value: name}}", key="labels"
        )
    pairs = list(labels.items()) if isinstance(labels, Mapping) else [(i, n) for i, n in enumerate(labels)]
    names = [str(name) for _, name in pairs]
    if not 2 <= len(set(names)) == len(names) <= MAX_CLASSES:
        raise ConfigError(
            f"labels has {len(names)} names, {len(set(names))} different; 2 to {MAX_CLASSES} different names "
            "are allowed",
            key="labels",
        )
    if is_text and not isinstance(labels, Mapping):
        return {name: name for name in names}
    return {value: name for (value, _), name in zip(pairs, names, strict=True)}


def _unknown_label(name: str, value: object, labels: ClassNames | None) -> str:
    known = list(labels or ())[:5]
    allowed = (
        f"0 to {len(labels or ()) - 1}"
        if isinstance(value, int) and not isinstance(labels, Mapping)
        else known
    )
    return (
        f"{name} has the label {value!r}, which labels does not name (allowed: {allowed}); "
        "give the name of each value, {value: name}"
    )


def _kind(array: Array) -> str:
    return {"b": "booleans", "i": "integers", "U": "strings", "O": "strings"}[array.dtype.kind]


def _label_values(values: object, name: str) -> Array:
    """Labels `(n,)` of one type: int64, bool or strings."""
    if isinstance(values, list | tuple) and all(map(_is_scalar, values)):
        values = np.array(
            [x.item() if hasattr(x, "item") else x for x in values], object
        )  # 1 and "a" stay apart
    array = to_numpy(values, name)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]  # as Keras stores them
    if not array.size:
        raise DataError(f"{name} is empty; each image needs a label")
    if array.ndim == 2:
        return _from_one_hot(array, name)
    if array.ndim != 1:
        raise DataError(f"{name} is {describe(array)}; labels are (n,), or one-hot (n, classes)")
    if array.dtype == object:
        array = _from_objects(array, name)
    convert = {"f": _from_floats, "S": _decode, "u": _from_unsigned}.get(array.dtype.kind)
    array = convert(array, name) if convert else array
    if array.dtype.kind not in "ibUO":
        raise DataError(f"{name} is {describe(array)}; labels are integers, strings or booleans")
    return array.astype(np.int64) if array.dtype.kind == "i" else array


def _is_scalar(value: object) -> bool:
    return not isinstance(value, list | tuple) and not getattr(value, "ndim", 0)


def _from_one_hot(array: Array, name: str) -> Labels:
    if (
        array.dtype.kind not in "buif"
        or not ((array == 0) | (array == 1)).all()
        or (array.sum(axis=1) != 1).any()
    ):
        raise DataError(
            f"{name} is {describe(array)}, but not one-hot: each row needs a single 1 and zeros; give class "
            "numbers (n,)"
        )
    return np.asarray(array.argmax(axis=1), np.int64)


def _from_objects(array: Array, name: str) -> Array:
    """Python objects of one type as an array of it; strings stay objects, since NumPy's lose a final NUL."""
    missing = [
        index
        for index, value in enumerate(array)
        if type(value).__name__ in MISSING_TYPES
        or (isinstance(value, float | np.floating) and value != value)
    ]
    if missing:
        raise DataError(_missing_labels(name, len(missing), missing[0]))
    for types, dtype in (
        ((str,), np.object_), ((bool, np.bool_), np.bool_), ((bytes,), np.bytes_),
        ((int, np.integer), np.int64), ((int, float, np.number), np.float64),
    ):  # fmt: skip
        if all(isinstance(value, types) for value in array):
            try:
                return array.astype(dtype)
            except OverflowError as error:
                raise OutOfRangeError(f"{name} has a label that does not fit into 64 bits") from error
    kinds = sorted({type(value).__name__ for value in array})
    raise DataError(
        f"{name} has labels of the types {', '.join(kinds[:4])}; give integers, strings or booleans"
    )


def _from_floats(array: Array, name: str) -> Int64[np.ndarray, " n"]:
    wrong = np.flatnonzero(~np.isfinite(array))
    if len(wrong):
        raise DataError(_missing_labels(name, len(wrong), int(wrong[0])))
    broken = np.flatnonzero((array != np.rint(array)) | (np.abs(array) >= 2.0**53))
    if len(broken):
        raise DataError(
            f"{name} has the label {array[broken[0]]:.6g}, which is no whole number; labels are integers, "
            "strings or booleans"
        )
    return array.astype(np.int64)


def _from_unsigned(array: Array, name: str) -> Int64[np.ndarray, " n"]:
    if array.max() >= 2**63:
        raise OutOfRangeError(f"{name} has the label {array.max()}; labels are below 2**63")
    return array.astype(np.int64)


def _decode(array: Array, name: str) -> Array:
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} has labels of bytes that are not UTF-8; decode them first") from error


def _missing_labels(name: str, count: int, first: int) -> str:
    verb = "label is" if count == 1 else "labels are"
    return f"{count:,} {verb} missing in {name}, the first of image {first}; leave those images out"


# ---------------------------------------------------------------- datasets


@dataclass(frozen=True)
class LabeledImages:
    """Converted images, and labels of any form, of one set.

    Attributes:
        pixels: the images.
        labels: see `encode_labels`.
        name: what messages call the images.
        label_name: what messages call the labels.
    """

    pixels: ImageBytes
    labels: object
    name: str
    label_name: str


def make_dataset(
    name: str,
    sets: Mapping[str, LabeledImages],
    *,
    class_names: ClassNames | None = None,
    preprocessing: PreprocessingChoice = "auto",
    note: str | None = None,
    seed: int = 0,
) -> Dataset:
    """A dataset of converted images and labels of any form.

    Args:
        name: of the dataset.
        sets: "train", and "validation" and "test" if there are any.
        class_names: see `encode_labels`.
        preprocessing: how pictures become such images; the suitable one by default.
        note: what a person should know.
        seed: selects a sixth of every class as test images where there are none.

    Raises:
        DataError: images and labels do not fit, or are too few.
    """
    labels = {part.label_name: part.labels for part in sets.values()}
    class_labels, numbers = encode_labels(labels, class_names)
    encoded_sets = {}
    for (role, part), encoded in zip(sets.items(), numbers, strict=True):
        if len(part.pixels) != len(encoded):
            raise DataError(
                f"{part.name} has {len(part.pixels):,} images, but {part.label_name} has {len(encoded):,} "
                "labels; each needs one"
            )
        encoded_sets[role] = ImageSet(part.pixels, encoded)
    train, test = encoded_sets["train"], encoded_sets.get("test")
    if test is None:
        if len(train) < MIN_IMAGES:
            raise DataError(
                f"'{name}' has {pluralize(len(train), 'image')}, too few to set some apart for the test; "
                "give test images too"
            )
        train, test = split_off_test(train, seed)
    notes = [text for text in (note, note_on_range(train.pixels)) if text]
    suitable = choose_preprocessing(preprocessing, train.pixels)
    validation = encoded_sets.get("validation")
    return Dataset(name, train, test, class_labels, suitable, " ".join(notes) or None, validation)

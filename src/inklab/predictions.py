"""What users give to a trained model, as images of its format; and what it predicts for them.

Arrays and tensors are taken as images of the training format. Pictures, files and folders are preprocessed
as the training images were; one that can't be is an entry with an error, and the others are answered.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from inklab.data.conversion import RULE, TOLERANCE, to_numpy
from inklab.data.dataset import describe
from inklab.errors import DataError, OutOfRangeError
from inklab.format import format_percent
from inklab.notebook import Columns, Tabular, png_data_uri
from inklab.ood import Abstained, OodDetector, is_empty, why_abstained
from inklab.records.components import Preprocessing
from inklab.records.record import Shape

if TYPE_CHECKING:
    from PIL.Image import Image

Images = Float32[np.ndarray, "n c h w"]
Pixels = Float32[np.ndarray, "n c h w"] | UInt8[np.ndarray, "n c h w"]

MAX_SHOWN = 20  # entries of a table in a notebook
CLASSIFIER = "classifier"  # id in a detector of a single one
UNLIKE: dict[Abstained, str] = {"empty": "an empty image", "ood": "unlike the training images"}
"""Why a label is a guess, in words."""


# ---------------------------------------------------------------- inputs


@dataclass(frozen=True)
class Inputs:
    """What a model is given.

    Attributes:
        pixels: the images that could be read: bytes, or floats in [0, 1].
        sources: of every entry: a path, or None for arrays and pictures in memory.
        errors: of every entry: why it can't be read, or None.
        preprocessing: how pictures were made images.
    """

    pixels: Pixels
    sources: tuple[str | None, ...]
    errors: tuple[str | None, ...]
    preprocessing: Preprocessing

    @classmethod
    def of(cls, value: object, preprocessing: Preprocessing) -> "Inputs":
        """Images of an array, tensor, PIL picture, path or folder, or of a list of pictures and paths.

        Raises:
            DataError: a shape that does not fit, or a folder or list without pictures.
            OutOfRangeError: values that are neither bytes nor floats in [0, 1].
        """
        entries = find_pictures(value)
        if not entries:
            pixels = array_pixels(value, preprocessing.shape)
            return cls(pixels, (None,) * len(pixels), (None,) * len(pixels), preprocessing)
        return cls._read(entries, preprocessing)

    @classmethod
    def _read(cls, entries: Sequence[Any], preprocessing: Preprocessing) -> "Inputs":
        from inklab.data.preprocessing import open_image

        images: list[np.ndarray] = []
        errors: list[str | None] = []
        for entry in entries:
            try:
                picture = open_image(entry) if isinstance(entry, Path) else entry
                images.append(image_of(picture, preprocessing))
                errors.append(None)
            except DataError as error:
                errors.append(str(error))
        pixels = np.stack(images) if images else np.zeros((0, *preprocessing.shape), np.uint8)
        sources = tuple(str(entry) if isinstance(entry, Path) else None for entry in entries)
        return cls(pixels, sources, tuple(errors), preprocessing)

    @cached_property
    def images(self) -> Images:
        """The same as floats in [0, 1]; of many images, a copy that takes as long as a small network."""
        if self.pixels.dtype != np.uint8:
            return self.pixels
        return self.pixels.astype(np.float32) / np.float32(255)

    def require_all(self) -> Images:
        """The images, where an answer has no place for errors.

        Raises:
            DataError: one could not be read.
        """
        for error in self.errors:
            if error is not None:
                raise DataError(error)
        return self.images


def image_of(picture: "Image", preprocessing: Preprocessing) -> UInt8[np.ndarray, "c h w"]:
    """A picture as an image of the training format; an empty one where no strokes are found."""
    from inklab.data.preprocessing import preprocess_picture

    try:
        return preprocess_picture(picture, preprocessing)
    except DataError:  # predictions say that it is empty
        return np.full(preprocessing.shape, 0 if preprocessing.light_on_dark else 255, np.uint8)


def find_pictures(value: object) -> list[Any]:
    """Paths and PIL pictures in a path or folder, a picture, or a list of them; none in an array.

    Raises:
        DataError: a folder or list without pictures.
    """
    entries = list(_pictures(value))
    if not entries and isinstance(value, str | Path):
        raise DataError(f"there are no pictures in '{value}'", key=str(value))
    if not entries and isinstance(value, list | tuple) and (not value or _is_picture_or_path(value[0])):
        names = ", ".join(f"'{entry}'" for entry in value) or "an empty list"
        raise DataError(f"there are no pictures in {names}")
    return entries


def _pictures(value: object) -> Iterator[Any]:
    """Paths and PIL pictures, folders walked; nothing of an array."""
    if isinstance(value, str | Path):
        yield from _files(Path(value))
    elif _is_picture(value):
        yield value
    elif isinstance(value, list | tuple) and value and all(map(_is_picture_or_path, value)):
        for entry in value:
            yield from _pictures(entry)


def _is_picture(value: object) -> bool:
    """Whether it is a picture of PIL, which is not imported for arrays."""
    return any(cls.__module__ == "PIL.Image" for cls in type(value).__mro__)


def _is_picture_or_path(value: object) -> bool:
    return isinstance(value, str | Path) or _is_picture(value)


def _files(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path]
    from inklab.data.preprocessing import SUFFIXES

    return sorted(file for file in path.rglob("*") if file.is_file() and file.suffix.lower() in SUFFIXES)


def array_pixels(value: object, shape: Shape, name: str = "images") -> Pixels:
    """Images of the training format, as bytes or floats in [0, 1], of an array, tensor or list of numbers.

    Args:
        value: `(n, c, h, w)`, `(n, h, w, c)`, flat `(n, c*h*w)`, one image `(c, h, w)`, `(h, w, c)` or
            `(c*h*w,)`; of one channel also `(n, h, w)` and `(h, w)`.
        shape: channels, height, width of one image; decides what the axes are, channels first if both fit.
        name: what messages call it.

    Raises:
        DataError: another shape or type.
        OutOfRangeError: floats outside [0, 1], or other integers than bytes.

    Example:
        >>> array_pixels(np.array([[0, 255], [51, 102]], np.uint8), (1, 2, 2)).tolist()
        [[[[0, 255], [51, 102]]]]
    """
    array = to_numpy(value, name)
    if array.dtype.kind not in "buif":
        raise DataError(f"{name} is {describe(array)}, not numbers; {RULE}")
    shaped = _to_shape(array, shape, name)
    if array.dtype == np.uint8:
        return np.require(shaped, requirements=["C", "W"])  # torch warns of what it can't write to
    if array.dtype.kind in "iu":
        raise OutOfRangeError(f"{name} is {describe(array)}; {RULE}")
    floats = np.ascontiguousarray(shaped, np.float32)
    low, high = (float(floats.min()), float(floats.max())) if floats.size else (0.0, 0.0)
    if not (-TOLERANCE <= low and high <= 1 + TOLERANCE):  # also if one is not a number
        raise OutOfRangeError(f"{name} has values from {low:g} to {high:g}; {RULE}")
    return floats.clip(0, 1) if low < 0 or high > 1 else floats


def _to_shape(array: np.ndarray, shape: Shape, name: str) -> np.ndarray:
    channels, height, width = shape
    size, last = channels * height * width, (height, width, channels)
    axes = array.shape
    if axes == shape or axes[1:] == shape or (channels == 1 and axes[-2:] == shape[1:] and len(axes) < 4):
        return array.reshape(-1, *shape)
    if axes == last or axes[1:] == last:
        return np.moveaxis(array.reshape(-1, *last), -1, 1)
    if axes == (size,) or axes[1:] == (size,):
        return array.reshape(-1, *shape)
    raise DataError(
        f"{name} is {describe(array)}, but the model takes images of {channels} x {height} x {width} "
        f"(channels, height, width): give {(len(array) if array.ndim else 1, *shape)}, or pictures or files, "
        "which are preprocessed"
    )


# ---------------------------------------------------------------- predictions


@dataclass(frozen=True)
class Prediction:
    """What a classifier predicts for one image.

    Attributes:
        label: the most probable class; None if the image could not be read.
        probability: of that class.
        probabilities: of each class by its name; they sum to 1.
        source: path of the file; None for arrays and pictures in memory.
        ood_score: 0 for an image like the training images, above 1 for one unlike them.
        abstained: "ood" if its score is above 1, "empty" if it is blank; the label is then a guess.
        error: why the image could not be read.
    """

    label: str | None
    probability: float | None
    probabilities: dict[str, float]
    source: str | None
    ood_score: float | None
    abstained: Abstained | None
    error: str | None


@dataclass(frozen=True, eq=False)
class Predictions(Tabular, Sequence[Prediction]):
    """Predictions for images, one for each, in their order. Shows itself as a table in a notebook.

    OOD scores are computed when something first needs them: an entry, a table. If the training images must
    be learned for that, it takes seconds, once for each model. `labels` and `probabilities` need none.

    Attributes:
        inputs: what the model was given.
        answers: `(m, k)` probabilities of the m images that could be read.
        class_names: of the k classes.
        logits: of the same images; None of a network that gives probabilities only.
        find_detector: gives what scores them; without it, the largest probability does.
    """

    inputs: Inputs
    answers: Float32[np.ndarray, "m k"]
    class_names: tuple[str, ...]
    logits: Float32[np.ndarray, "m k"] | None = None
    find_detector: Callable[[], OodDetector] = OodDetector.of_probabilities

    def __len__(self) -> int:
        """Number of images, unreadable ones included."""
        return len(self.inputs.errors)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | list[Prediction]:
        """One prediction, or a list of some."""
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        index = range(len(self))[index]
        source, error = self.inputs.sources[index], self.inputs.errors[index]
        if error is not None:
            return Prediction(None, None, {}, source, None, None, error)
        row = self.answers[self._rows[index]]
        best, score = int(row.argmax()), float(self.ood_scores[index])
        named = dict(zip(self.class_names, row.tolist(), strict=True))
        abstained = why_abstained(bool(self.is_empty[index]), score)
        return Prediction(self.class_names[best], float(row[best]), named, source, score, abstained, None)

    @cached_property
    def is_read(self) -> Bool[np.ndarray, " n"]:
        """Of each image, whether it could be read."""
        return np.array([error is None for error in self.inputs.errors], bool)

    @cached_property
    def _rows(self) -> np.ndarray:
        return np.cumsum(self.is_read) - 1

    @property
    def labels(self) -> np.ndarray:
        """`(n,)` names of the most probable classes; None where an image could not be read."""
        labels = np.full(len(self), None, object)
        labels[self.is_read] = np.array(self.class_names, object)[self.answers.argmax(axis=1)]
        return labels

    @property
    def probabilities(self) -> Float32[np.ndarray, "n k"]:
        """`(n, k)` probabilities; NaN where an image could not be read."""
        if self.is_read.all():
            return self.answers
        rows = np.full((len(self), len(self.class_names)), np.nan, np.float32)
        rows[self.is_read] = self.answers
        return rows

    @cached_property
    def is_empty(self) -> Bool[np.ndarray, " n"]:
        """Of each image, whether there is nothing on it; False where it could not be read."""
        flags = np.zeros(len(self), bool)
        flags[self.is_read] = is_empty(to_bytes(self.inputs.images), self.inputs.preprocessing)
        return flags

    @cached_property
    def ood_scores(self) -> Float64[np.ndarray, " n"]:
        """`(n,)` OOD scores, above 1 for images unlike the training images; NaN for one that was not read."""
        scores = np.full(len(self), np.nan)
        if self.is_read.any():
            detector, images = self._detector, self.inputs.images
            similarity = detector.similarity(images)[0] if detector.neighbors is not None else None
            known = detector.score(CLASSIFIER, similarity, self.logits, self.answers)
            scores[self.is_read] = np.nan if known is None else known
        return scores

    @property
    def ood_method(self) -> str:
        """What the OOD scores are of."""
        return self._detector.method(CLASSIFIER)

    @property
    def ood_note(self) -> str:
        """What the OOD scores lack, why, and what to do; "" if they are of all training images."""
        return self._detector.note

    @cached_property
    def _detector(self) -> OodDetector:
        return self.find_detector()

    @property
    def errors(self) -> dict[str, str]:
        """Why files could not be read, by path or position."""
        pairs = enumerate(zip(self.inputs.sources, self.inputs.errors, strict=True))
        return {source or str(i): error for i, (source, error) in pairs if error is not None}

    @property
    def _columns(self) -> Columns:
        """Source, label, probability, ood_score, abstained, error, and a column for each class."""
        names = ("source", "label", "probability", "ood_score", "abstained", "error")
        columns: dict[str, Sequence[object]] = {name: [getattr(row, name) for row in self] for name in names}
        classes = zip(self.class_names, self.probabilities.T.tolist(), strict=True)
        return columns | {f"p({name})": column for name, column in classes}

    def __repr__(self) -> str:
        """Their number, and the first few labels."""
        failed = f", {len(self.errors)} not read" if self.errors else ""
        labels = ", ".join(str(label) for label in self.labels[:8]) + (", ..." if len(self) > 8 else "")
        return f"Predictions({len(self)}{failed}: {labels})"

    def _repr_html_(self) -> str:
        rows = "".join(self._html_row(index) for index in range(min(len(self), MAX_SHOWN)))
        more = f"<p>and {len(self) - MAX_SHOWN:,} more</p>" if len(self) > MAX_SHOWN else ""
        head = "<tr><th>image</th><th>label</th><th>probability</th><th>OOD score</th><th>source</th></tr>"
        method = "; ".join(filter(None, (self.ood_method, escape(self.ood_note))))
        return f"<table>{head}{rows}</table>{more}<p>OOD score by the {method}</p>"

    def _html_row(self, index: int) -> str:
        row = self[index]
        source = escape(row.source or str(index))
        if row.error is not None:
            return f"<tr><td></td><td colspan=3>{escape(row.error)}</td><td>{source}</td></tr>"
        image = _picture_html(self.inputs.images[self._rows[index]])
        shares = f"{format_percent(row.probability or 0, 1)}</td><td>{row.ood_score:z.2f}"
        unlike = f" ({UNLIKE[row.abstained]})" if row.abstained else ""
        label = f"{escape(row.label or '')}{unlike}"
        return f"<tr><td>{image}</td><td>{label}</td><td>{shares}</td><td>{source}</td></tr>"


def to_bytes(images: Float32[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Images in [0, 1] as bytes."""
    return (images * 255).round().astype(np.uint8)


def _picture_html(image: Float32[np.ndarray, "c h w"]) -> str:
    pixels = np.moveaxis(to_bytes(image), 0, -1)
    return f'<img height="42" src="{png_data_uri(pixels)}">'

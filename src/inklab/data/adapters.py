"""Images and labels as other libraries have them: torch datasets, Hugging Face datasets, PIL pictures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64
from PIL import Image

from inklab.data.conversion import (
    SET_NAMES,
    ClassNames,
    ImageBytes,
    ImageShape,
    LabeledImages,
    make_dataset,
    to_numpy,
    to_pixels,
)
from inklab.data.dataset import Dataset
from inklab.data.pictures import NamedPictures, StoredPictures, preprocess_files
from inklab.data.preprocessing import open_image
from inklab.errors import DataError, did_you_mean
from inklab.records.components import PreprocessingChoice


@dataclass(frozen=True)
class LabeledItems:
    """Images and labels in the form in which a library has them, and names of classes if it knows any."""

    images: object
    labels: object
    classes: Sequence[str] | None


def make_labeled_dataset(
    parts: Mapping[str, LabeledItems],
    name: str,
    *,
    class_names: ClassNames | None,
    image_shape: ImageShape | None = None,
    preprocessing: PreprocessingChoice,
    note: str | None = None,
    seed: int,
) -> Dataset:
    """A dataset of "train", "validation" and "test", if there are; classes that do not occur are left out.

    Raises:
        DataError: images are unlabeled (-1), or as for `make_dataset`.
    """
    images = {key: part.images for key, part in parts.items()}
    converted = convert_images(images, image_shape, preprocessing)
    labels = {f"the label list of {key}": part.labels for key, part in parts.items()}
    numbers = {key: _class_numbers(values) for key, values in labels.items()}
    classes = parts["train"].classes
    occurring = sorted(set().union(*(values.tolist() for values in numbers.values())))
    if classes is not None and class_names is None and occurring:
        if unlabeled := next((key for key, values in numbers.items() if (values == -1).any()), None):
            without = "" if unlabeled == "train" else f", or give {unlabeled}=None"
            raise DataError(
                f"{unlabeled} has -1 for some images, which means unlabeled; leave those out{without}"
            )
        if occurring[0] >= 0 and occurring[-1] < len(classes):
            class_names = {number: classes[number] for number in occurring}
    return make_dataset(
        name,
        {
            key: LabeledImages(pixels, part.labels, key, label)
            for (key, pixels), part, label in zip(
                converted.images.items(), parts.values(), labels, strict=True
            )
        },
        class_names=class_names,
        preprocessing=converted.preprocessing,
        note=" ".join(text for text in (converted.note, note) if text) or None,
        seed=seed,
    )


def _class_numbers(labels: object) -> Int64[np.ndarray, " n"]:
    """Class numbers; () if the labels are something else."""
    array = np.asarray(labels)
    is_numbers = array.dtype.kind in "ui" and array.ndim == 1
    return array.astype(np.int64) if is_numbers else np.empty(0, np.int64)


@dataclass(frozen=True)
class ConvertedImages:
    """Bytes by the name of the set; what was done to pictures, and what a person should know of it."""

    images: dict[str, ImageBytes]
    preprocessing: PreprocessingChoice
    note: str | None = None


def convert_images(
    sets: Mapping[str, object], image_shape: ImageShape | None, preprocessing: PreprocessingChoice
) -> ConvertedImages:
    """Arrays by `to_pixels`, or pictures by `preprocess_pictures`; all sets in one form.

    Raises:
        DataError: as for these, or one set has pictures and the other arrays.
    """
    pictures = {
        name: entries for name, images in sets.items() if (entries := _as_pictures(images, name)) is not None
    }
    if len(pictures) == len(sets):
        result = preprocess_files(list(pictures.values()), preprocessing)
        images = dict(zip(sets, result.sets, strict=True))
        return ConvertedImages(images, result.preprocessing, result.note)
    if pictures:
        raise DataError(
            f"{next(iter(pictures))} has pictures, and the other set arrays; give both in one form"
        )
    converted = {name: to_pixels(images, name, image_shape) for name, images in sets.items()}
    return ConvertedImages(converted, preprocessing)


def _as_pictures(images: object, name: str) -> NamedPictures | None:
    """Pictures one after the other; None if the images are numbers."""
    if isinstance(images, TorchPictures | ColumnPictures | StoredPictures):
        return images
    if hasattr(images, "iloc") and getattr(images, "ndim", 0) == 1:
        images = list(images)  # type: ignore[call-overload]  # a Series of a DataFrame
    if not isinstance(images, list | tuple) or not images or not is_picture_entry(images[0]):
        return None
    if others := [type(entry).__name__ for entry in images if not is_picture_entry(entry)]:
        raise DataError(f"{name} has pictures and an object of type {others[0]}; give pictures only")
    return ColumnPictures(images, name)


# ---------------------------------------------------------------- torch


@runtime_checkable
class MapStyle(Protocol):
    """A torch `Dataset` that has a length: item k is `(image, label)`."""

    def __len__(self) -> int:
        """Number of items."""

    def __getitem__(self, index: int, /) -> Any:
        """An image and its label."""


EXACT_TRANSFORMS = {
    "Compose", "ToTensor", "PILToTensor", "ToImage", "ToDtype", "ConvertImageDtype", "ToPureTensor",
    "Normalize",
}  # fmt: skip
"""torchvision's transforms that change the form of an image, or are undone by reading its bytes."""

PROBED_ITEMS = 8


@dataclass(frozen=True)
class TorchPictures:
    """The PIL pictures of a torch dataset, read one after the other."""

    items: MapStyle
    name: str

    def __iter__(self) -> Iterator[tuple[str, Image.Image]]:
        """Each picture with its name in messages."""
        for index in range(len(self.items)):
            yield f"{self.name}[{index}]", self.items[index][0]


def read_torch(dataset: object, name: str) -> LabeledItems:
    """The images and labels of a map-style torch dataset.

    Bytes are read directly where a dataset of torchvision only converts or normalizes them.

    Raises:
        DataError: it has no length, other items, or gives another image at each reading.
    """
    if not isinstance(dataset, MapStyle) or not is_torch_dataset(dataset):
        kind = type(dataset).__name__
        advice = "give its .dataset" if kind == "DataLoader" else "give one whose items are (image, label)"
        raise DataError(f"{name} is of type {kind}, not a torch dataset with a length; {advice}")
    if not len(dataset):
        raise DataError(f"{name} has no items")
    classes = _class_names(dataset)
    probed = [_item(dataset, index, name) for index in range(min(PROBED_ITEMS, len(dataset)))]
    stored = _stored_arrays(dataset)
    if stored is not None and _agrees(stored, dataset, probed):
        return LabeledItems(*stored, classes)
    for index, (image, _) in enumerate(probed):
        if not np.array_equal(to_numpy(image, name), to_numpy(_item(dataset, index, name)[0], name)):
            raise DataError(
                f"{name}[{index}] is another image at each reading; remove random transforms, and augment by "
                "the recipe's augmentation"
            )
    if isinstance(probed[0][0], Image.Image):
        labels = [_item(dataset, index, name)[1] for index in range(len(dataset))]
        return LabeledItems(TorchPictures(dataset, name), labels, classes)
    items = [_item(dataset, index, name) for index in range(len(dataset))]
    return LabeledItems([to_numpy(image, name) for image, _ in items], [label for _, label in items], classes)


def is_torch_dataset(data: object) -> bool:
    """Whether it has a length and items, and is no other container of that kind."""
    is_other = isinstance(data, type | Mapping | str | list | tuple) or any(
        hasattr(data, attribute) for attribute in ("dtype", "iloc", "column_names", "batch_sampler")
    )
    return isinstance(data, MapStyle) and not is_other


def _item(dataset: MapStyle, index: int, name: str) -> tuple[object, object]:
    item = dataset[index]
    if not isinstance(item, tuple | list) or len(item) != 2:
        described = (
            f"has {len(item)} parts" if isinstance(item, tuple | list) else f"is {type(item).__name__}"
        )
        raise DataError(f"{name}[{index}] {described}; items must be (image, label)")
    image, label = item
    is_scalar = hasattr(label, "item") and np.ndim(label) == 0
    return image, label.item() if is_scalar else label


def _class_names(dataset: object) -> Sequence[str] | None:
    """The `.classes` of a dataset, or of the one that it is a part of, unless it changes their numbers."""
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        return _class_names(dataset.dataset)
    classes = getattr(dataset, "classes", None)
    if getattr(dataset, "target_transform", None) is not None:
        return None
    is_names = isinstance(classes, list | tuple) and all(isinstance(text, str) for text in classes)
    return classes if is_names else None


def _stored_arrays(dataset: Any) -> tuple[Any, Any] | None:
    """All images and labels at once, where transforms leave the bytes as they are."""
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):  # a Subset
        whole = _stored_arrays(dataset.dataset)
        indices = np.asarray(dataset.indices, np.int64)
        return None if whole is None else (whole[0][indices], whole[1][indices])
    tensors = getattr(dataset, "tensors", None)
    if isinstance(tensors, tuple) and len(tensors) == 2:  # a TensorDataset
        return to_numpy(tensors[0], "images"), to_numpy(tensors[1], "labels")
    images = getattr(dataset, "data", None)
    labels = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if images is None or labels is None or not _keeps_bytes(dataset):
        return None
    return to_numpy(images, "data"), to_numpy(labels, "targets")


def _keeps_bytes(dataset: Any) -> bool:
    if getattr(dataset, "target_transform", None) is not None:
        return False
    joint = getattr(dataset, "transforms", None)
    if joint is not None and type(joint).__name__ != "StandardTransform":
        return False
    return _transform_names(getattr(dataset, "transform", None)) <= EXACT_TRANSFORMS


def _transform_names(transform: Any) -> set[str]:
    if transform is None:
        return set()
    parts = getattr(transform, "transforms", None) or ()
    return {type(transform).__name__}.union(*(_transform_names(part) for part in parts))


def _agrees(stored: tuple[Any, Any], dataset: Any, probed: Sequence[tuple[object, object]]) -> bool:
    """Whether the stored arrays are the items: a user's own class may do more in `__getitem__`."""
    images, labels = stored
    if not len(images) == len(labels) == len(dataset):
        return False
    whole = getattr(dataset, "dataset", dataset)
    is_normalized = "Normalize" in _transform_names(getattr(whole, "transform", None))
    for index, (image, label) in enumerate(probed):
        if not np.array_equal(to_numpy(label, "label"), labels[index]):
            return False
        if not is_normalized and not _has_same_bytes(image, images[index]):
            return False
    return True


def _has_same_bytes(image: object, stored: Any) -> bool:
    try:
        read, kept = (to_pixels(to_numpy(part, "image")[None], "image") for part in (image, stored))
    except DataError:
        return False
    return np.array_equal(read, kept)


# ---------------------------------------------------------------- Hugging Face


@dataclass(frozen=True)
class ColumnPictures:
    """The pictures of a list or column, decoded one after the other."""

    column: Sequence[Any]
    name: str

    def __iter__(self) -> Iterator[tuple[str, Image.Image]]:
        """Each picture with its name in messages."""
        for index, entry in enumerate(self.column):
            name = f"{self.name}[{index}]"
            yield name, open_entry(entry, name)


def is_picture_entry(entry: object) -> bool:
    """Whether it is a picture: decoded, the bytes of a file, or those in `{"bytes": ..., "path": ...}`."""
    if isinstance(entry, Mapping):
        return bool(entry) and entry.keys() <= {"bytes", "path"}
    return isinstance(entry, Image.Image | bytes)


def open_entry(entry: object, name: str, directory: Path = Path()) -> Image.Image:
    """The picture of an entry; paths start at a directory.

    Raises:
        CorruptFileError: it is damaged.
        DataError: it is missing.
    """
    if isinstance(entry, Image.Image):
        return entry
    parts = entry if isinstance(entry, Mapping) else {"bytes": entry, "path": entry}
    content, path = parts.get("bytes"), parts.get("path")
    if isinstance(content, bytes) and content:
        return open_image(content, name=name)
    if isinstance(path, str) and path:
        return open_image(directory / path)
    raise DataError(f"{name} has no picture; leave that row out")


def is_huggingface(dataset: object) -> bool:
    """Whether it has columns, as a `Dataset` of the library datasets does; that is not imported."""
    return hasattr(dataset, "column_names") and hasattr(dataset, "features")


def choose_splits(dataset: Any, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a dataset by role: "train", and "validation" and "test" if there are.

    Args:
        dataset: the training images, or a mapping of splits; the usual names of each are known.
        chosen: for "validation" and "test" the name of a split, a dataset, None for none; or "auto" for the
            split of a usual name that is not chosen for the other.

    Raises:
        DataError: there is no such split.
    """
    splits = dataset if isinstance(dataset, Mapping) else {}
    parts = {"train": dataset}
    if isinstance(dataset, Mapping):
        name = _usual_split(splits, "train")
        if name is None:
            known = ", ".join(map(str, splits)) or "(none)"
            raise DataError(
                f"the dataset has no split 'train', but {known}; give one of them: dataset['...']"
            )
        parts["train"] = splits[name]
    for role, choice in chosen.items():
        if choice == "auto":
            name = _usual_split(splits, role)
            choice = None if name in chosen.values() else name
        if isinstance(choice, str) and choice not in splits:
            known = ", ".join(map(str, splits)) or "(none)"
            raise DataError(f"the dataset has no split '{choice}'; its splits are {known}")
        part = splits[choice] if isinstance(choice, str) else choice
        if part is not None:
            parts[role] = part
    return parts


def _usual_split(splits: Mapping[str, Any], role: str) -> str | None:
    return next((name for name in splits if str(name).casefold() in SET_NAMES[role]), None)


def read_columns(part: Any, name: str, image: str, label: str) -> LabeledItems:
    """The images and labels of one Hugging Face `Dataset`.

    Raises:
        DataError: it is a stream or empty, or has no such column.
    """
    if not is_huggingface(part) or not hasattr(part, "__len__"):
        kind = type(part).__name__
        raise DataError(f"{name} is of type {kind}; give a Dataset with columns and a length, not a stream")
    if not len(part):
        raise DataError(f"{name} has no rows")
    image = _column_name(part, name, image, "image", "Image")
    label = _column_name(part, name, label, "label", "ClassLabel")
    images, labels = part[image], part[label]
    if is_picture_entry(images[0]):
        images = ColumnPictures(images, f"{name}[{image!r}]")
    names = getattr((part.features or {}).get(label), "names", None)
    return LabeledItems(_as_array(images), _as_array(labels), names)


def _as_array(column: Any) -> Any:
    """A lazy column as a list; pictures, arrays and tensors as they are."""
    return column if isinstance(column, ColumnPictures) or hasattr(column, "shape") else list(column)


def _column_name(part: Any, name: str, column: str, default: str, kind: str) -> str:
    if column in part.column_names:
        return column
    typed = [key for key, feature in (part.features or {}).items() if type(feature).__name__ == kind]
    if column == default and len(typed) == 1:
        return str(typed[0])
    known = [str(key) for key in part.column_names]
    raise DataError(
        f"{name} has no column '{column}'.{did_you_mean(column, known)} Its columns are {', '.join(known)}; "
        f"choose one by {default}="
    )

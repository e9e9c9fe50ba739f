"""Datasets from Python: by name, or from arrays, tensors, files, torch and Hugging Face datasets.

Everything becomes a `Dataset`: bytes, class numbers and class names. Its identity is its content, so the same
arrays resume the same run.

    >>> import inklab
    >>> X = [[0.0, 0.2, 0.4, 1.0], [1.0, 0.4, 0.2, 0.0]] * 6
    >>> inklab.datasets.from_arrays(X, ["up", "down"] * 6)
    Dataset('arrays': 10 training and 2 test images, 1 x 2 x 2, 2 classes)
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from inklab.data.adapters import (
    choose_splits,
    convert_images,
    is_huggingface,
    is_torch_dataset,
    make_labeled_dataset,
    read_columns,
    read_torch,
)
from inklab.data.conversion import ClassNames, ImageShape, LabeledImages, make_dataset
from inklab.data.csv_files import Column, ColumnOptions, load_csv
from inklab.data.dataset import Dataset, ImageSet
from inklab.data.image_folders import load_image_folder
from inklab.data.parquet_files import find_parquet, load_parquet
from inklab.data.sources import dataset, load_dataset, load_default
from inklab.data.sources import datasets as registered
from inklab.errors import ConfigError, DataError
from inklab.records.components import Preprocessing, PreprocessingChoice

__all__ = [
    "Dataset",
    "ImageSet",
    "Preprocessing",
    "as_dataset",
    "dataset",
    "from_arrays",
    "from_csv",
    "from_folder",
    "from_huggingface",
    "from_parquet",
    "from_torch",
    "load",
    "names",
]

PathLike = str | os.PathLike[str]


def names() -> tuple[str, ...]:
    """Names of all registered datasets, in alphabetical order; each can be given to `load`.

    Example:
        >>> [name for name in names() if name.endswith("5k")]
        ['mnist-5k']
    """
    return tuple(registered)


def load(name: PathLike, *, seed: int = 0, preprocessing: PreprocessingChoice = "auto") -> Dataset:
    """Load a dataset by its registered name, or the files at a path.

    Args:
        name: one of `names()`; a directory of image files, a CSV, `.npz` or IDX file; or
            `my_data.py:function`, which runs that file.
        seed: selects a sixth of every class as test images where there are none.
        preprocessing: how pictures become such images: "auto" decides from the images; "mnist" detects,
            scales and centers ink, "resize" only resizes; or a `Preprocessing`. Image files in a directory
            are themselves preprocessed by the latter.

    Raises:
        UnknownNameError: no dataset has that name, and there is no such path.
        DatasetUnavailableError: it can't be obtained here, such as without a network.
        DataError: the files are not a dataset, or are damaged.

    Example:
        >>> load("mnist-5k")
        Dataset('mnist-5k': 4,000 training and 1,000 test images, 1 x 28 x 28, 10 classes)
    """
    return load_dataset(os.fspath(name), seed=seed, preprocessing=preprocessing)


def from_arrays(
    X: object,
    y: object,
    test: object = None,
    *,
    validation: object = None,
    labels: ClassNames | None = None,
    image_shape: ImageShape | None = None,
    preprocessing: PreprocessingChoice = "auto",
    name: str = "arrays",
    seed: int = 0,
) -> Dataset:
    """A dataset of arrays, tensors, DataFrames, lists, or lists of PIL pictures.

    Args:
        X: training images `(n, h, w)`, `(n, c, h, w)` or `(n, h, w, c)`, c 1 or 3, or flat `(n, p)`. Bytes,
            or other integers from 0 to 255, stay as they are; floats in [0, 1] are multiplied by 255 and
            rounded; booleans become 0 and 255. Other ranges are refused: normalization comes later, in front
            of the network. Pictures are preprocessed as image files are.
        y: `(n,)` integers, strings or booleans, or `(n, classes)` one-hot. The values that occur in any set
            are the classes, in ascending order.
        test: `(X, y)` of test images in the same form; by default a sixth of every class is set apart.
        validation: `(X, y)` of images for choices such as early stopping; by default some of the training
            images are held out (`data.validation` of a study).
        labels: names of the classes 0, 1, ...; or of the values of `y`, `{value: name}`, in the order of the
            classes.
        image_shape: of one flat image, `(h, w)`, `(c, h, w)` or `(h, w, c)`; a square by default.
        preprocessing: how a trained model makes such images of pictures; "auto" is as MNIST's digits were
            made if the images look so, else pictures are only resized.
        name: of the dataset, in reports.
        seed: selects the test images where there are none.

    Raises:
        DataError: shapes, lengths or types do not fit, labels are missing, or there are not 2 to 1,000
            classes.
        OutOfRangeError: pixels are outside their range, NaN or infinite.
        ConfigError: an argument is wrong, such as a test set without labels.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> dataset = from_arrays(rng.random((60, 8, 8)), np.arange(60) % 3 + 1)
        >>> dataset.labels, dataset.train.pixels.dtype, dataset.train.counts(3)
        (('1', '2', '3'), dtype('uint8'), (16, 17, 17))
    """
    names = {"train": ("X", "y")} | {role: (f"{role}[0]", f"{role}[1]") for role in ("validation", "test")}
    pairs = {"train": (X, y), "validation": _pair(validation, "validation"), "test": _pair(test, "test")}
    arrays = {role: pair for role, pair in pairs.items() if pair is not None}
    for role, (_, numbers) in arrays.items():
        if numbers is None:
            raise DataError(f"{names[role][1]} is None; each image needs a label")
    converted = convert_images(
        {names[role][0]: images for role, (images, _) in arrays.items()}, image_shape, preprocessing
    )
    sets = {
        role: LabeledImages(converted.images[names[role][0]], numbers, *names[role])
        for role, (_, numbers) in arrays.items()
    }
    return make_dataset(
        name, sets, class_names=labels, preprocessing=converted.preprocessing, note=converted.note, seed=seed
    )


def _pair(part: object, name: str) -> tuple[object, object] | None:
    """Images and labels of a set."""
    if part is None:
        return None
    if not isinstance(part, tuple | list) or len(part) != 2:
        size = f" of {len(part)}" if isinstance(part, tuple | list) else ""
        raise ConfigError(
            f"{name} is of type {type(part).__name__}{size}; give {name}=(images, labels)", key=name
        )
    images, numbers = part
    return images, numbers


def from_folder(path: PathLike, *, preprocessing: PreprocessingChoice = "auto", seed: int = 0) -> Dataset:
    """A dataset of image files: one subdirectory per class, or `train`, `val` and `test` with those.

    Args:
        path: the directory.
        preprocessing: in place of the one that suits the pictures' sizes: small ones of one size stay as they
            are, others become 28 x 28 as MNIST's digits were made. For photographs:
            `Preprocessing.resize_only((3, 32, 32))`.
        seed: selects a sixth of every class as test images where there are none.

    Raises:
        DataError: there is no such directory, a class is empty, or a picture is damaged; it is named.

    Example:
        >>> from_folder("stamps")
        Traceback (most recent call last):
            ...
        inklab.errors.DataError: 'stamps' is not a directory; give one with a subdirectory per class
    """
    folder = _expand(path)
    if not folder.is_dir() and folder.suffix.lower() != ".zip":
        raise DataError(f"'{folder}' is not a directory; give one with a subdirectory per class")
    return load_image_folder(folder, seed=seed, preprocessing=preprocessing)


def from_csv(
    path: PathLike,
    test: PathLike | None = None,
    *,
    validation: PathLike | None = None,
    label: Column | None = None,
    image: Column | None = None,
    labels: ClassNames | None = None,
    image_shape: ImageShape | None = None,
    preprocessing: PreprocessingChoice = "auto",
    name: str | None = None,
    seed: int = 0,
) -> Dataset:
    r"""A dataset of a CSV file: in each row a label and pixels, as Kaggle has MNIST, or a label and a file.

    Args:
        path: the file, with or without a line of column names.
        test: a file with test images; by default a sixth of every class is set apart.
        validation: a file with images for choices; by default some training images are held out.
        label: name or position of the labels' column; by default the one called "label", "class" or "target",
            or the first if columns have no names.
        image: name or position of the column of picture files, which are relative to the CSV file; by default
            one called "image", "file", "filename" or "path". Without such a column, all columns but the
            label's are pixels: whole numbers from 0 to 255, floats in [0, 1], or zeros and ones.
        labels: class names, as in `from_arrays`; values are text here: `{"0": "cat", "1": "dog"}`.
        image_shape: of one row of pixels, as in `from_arrays`.
        preprocessing: of picture files, as in `from_folder`.
        name: of the dataset; the path by default.
        seed: selects the test images where there are none.

    Raises:
        DataError: the file can't be read, has no such column, or its values are no images.
        CorruptFileError: a line has another number of columns, or a pixel is no number.

    Example:
        >>> import tempfile
        >>> rows = ["label,pixel0,pixel1,pixel2,pixel3", *(f"{k % 2},0,{k},128,255" for k in range(12))]
        >>> path = Path(tempfile.mkdtemp()) / "tiny.csv"
        >>> _ = path.write_text("\n".join(rows))
        >>> from_csv(path, name="tiny")
        Dataset('tiny': 10 training and 2 test images, 1 x 2 x 2, 2 classes)
    """
    options = ColumnOptions(label, image, image_shape, preprocessing)
    return load_csv(_files(path, validation, test), options, class_names=labels, name=name, seed=seed)


def from_parquet(
    path: PathLike,
    test: PathLike | None = None,
    *,
    validation: PathLike | None = None,
    label: Column | None = None,
    image: Column | None = None,
    labels: ClassNames | None = None,
    image_shape: ImageShape | None = None,
    preprocessing: PreprocessingChoice = "auto",
    name: str | None = None,
    seed: int = 0,
) -> Dataset:
    """A dataset of Parquet files, as Hugging Face publishes them; needs the extra `inklab[parquet]`.

    Args:
        path: a directory of such files, or one of them. Files and directories of the usual names of sets
            (`train-00000-of-00002.parquet`, `test/0000.parquet`) are these sets.
        test: a file with test images; by default that beside the training images, if there is one, or a
            sixth of every class.
        validation: a file with images for choices, in the same way.
        label: name or position of the labels' column; by default the one called "label", "class" or "target",
            or the one that Hugging Face's library has marked.
        image: of the column of images: picture files (bytes, `{"bytes": ...}`, or paths relative to the
            Parquet file), or arrays of numbers; by default the one called "image" or so, or the only one of
            such a type. Without one, all other columns of numbers are pixels.
        labels: class names, as in `from_arrays`; those in the file by default.
        image_shape: of one row of pixels, as in `from_arrays`.
        preprocessing: of pictures, as in `from_folder`.
        name: of the dataset; the path by default.
        seed: selects the test images where there are none.

    Raises:
        InklabError: pyarrow is not installed.
        DataError: a file can't be read, has no such column, or its values are no images.
        CorruptFileError: a file is damaged or too large.

    Example:
        >>> from_parquet("beans/", label="labels")  # doctest: +SKIP
        Dataset('beans/': 1,034 training, 133 validation and 128 test images, 1 x 28 x 28, 3 classes)
    """
    start = _expand(path)
    if not start.exists():
        raise DataError(f"there is no file or directory '{start}'")
    sets = find_parquet(start)
    if sets is None:
        raise DataError(f"'{start}' has no Parquet files; give a directory that has, or a file")
    chosen = {role: [file] for role, file in _files(path, validation, test).items() if role != "train"}
    options = ColumnOptions(label, image, image_shape, preprocessing)
    files = replace(sets, files=sets.files | chosen)
    return load_parquet(files, options, class_names=labels, name=name or str(start), seed=seed)


def _files(train: PathLike, validation: PathLike | None, test: PathLike | None) -> dict[str, Path]:
    paths = {"train": train, "validation": validation, "test": test}
    return {role: _expand(path) for role, path in paths.items() if path is not None}


def _expand(path: PathLike) -> Path:
    return Path(path).expanduser()


# ---------------------------------------------------------------- torch


def from_torch(
    train: object,
    test: object = None,
    *,
    validation: object = None,
    labels: ClassNames | None = None,
    preprocessing: PreprocessingChoice = "auto",
    name: str | None = None,
    seed: int = 0,
) -> Dataset:
    """A dataset of map-style torch datasets, such as those of torchvision.

    Args:
        train: items are `(image, label)`: a tensor, array or PIL picture as in `from_arrays`, and a number or
            name. Bytes are read directly where a dataset of torchvision only converts or normalizes them.
        test: test images in the same form; by default a sixth of every class is set apart.
        validation: images for choices, as in `from_arrays`.
        labels: class names, as in `from_arrays`; those in `.classes` by default, without classes that do not
            occur.
        preprocessing: of PIL pictures, as in `from_folder`; otherwise as in `from_arrays`.
        name: of the dataset; by default that of its class.
        seed: selects the test images where there are none.

    Raises:
        DataError: the dataset has no length, other items, or gives another image at each reading.
        OutOfRangeError: tensors are normalized; remove `Normalize`, since inklab normalizes by itself.

    Example:
        >>> import torch
        >>> items = torch.utils.data.TensorDataset(torch.rand(24, 1, 8, 8), torch.arange(24) % 2)
        >>> from_torch(items)
        Dataset('TensorDataset': 20 training and 4 test images, 1 x 8 x 8, 2 classes)
    """
    sets = {"train": train, "validation": validation, "test": test}
    parts = {key: read_torch(value, key) for key, value in sets.items() if value is not None}
    name = name or type(getattr(train, "dataset", train)).__name__  # of the whole, if this is a Subset
    return make_labeled_dataset(parts, name, class_names=labels, preprocessing=preprocessing, seed=seed)


# ---------------------------------------------------------------- Hugging Face


def from_huggingface(
    dataset: object,
    image: str = "image",
    label: str = "label",
    test: object = "auto",
    *,
    validation: object = "auto",
    labels: ClassNames | None = None,
    preprocessing: PreprocessingChoice = "auto",
    name: str | None = None,
    seed: int = 0,
) -> Dataset:
    """A dataset of a Hugging Face `Dataset`, or of a `DatasetDict` with splits; the library is not imported.

    Args:
        dataset: the training images, or a mapping with the split "train".
        image: the column of images: PIL pictures, files that are not decoded (`{"bytes": ...}`), arrays or
            nested lists. If there is none of that name, the only column of type `Image`.
        label: the column of labels. If there is none of that name, the only one of type `ClassLabel`.
        test: the name of the test split, or a `Dataset`; "auto" is the split "test" or "testing". None sets a
            sixth of every class apart, which is also done where there is no such split.
        validation: the name of the split for choices, or a `Dataset`; "auto" is the split "validation",
            "valid" or "val". None holds out some training images, as is done where there is no such split.
        labels: class names, as in `from_arrays`; those of the label column by default.
        preprocessing: of pictures, as in `from_folder`; for photographs, such as
            `Preprocessing.resize_only((3, 32, 32))`.
        name: of the dataset; by default that of its information, such as "mnist".
        seed: selects the test images where there are none.

    Raises:
        DataError: there is no such column or split, it is a stream, or images are unlabeled (-1).
        OutOfRangeError: arrays are outside the ranges of `from_arrays`.

    Example:
        >>> from_huggingface(datasets.load_dataset("ylecun/mnist"))  # doctest: +SKIP
        Dataset('mnist': 60,000 training and 10,000 test images, 1 x 28 x 28, 10 classes)
    """
    sets = choose_splits(dataset, {"validation": validation, "test": test})
    parts = {key: read_columns(part, key, image, label) for key, part in sets.items()}
    name = name or getattr(getattr(sets["train"], "info", None), "dataset_name", None) or "huggingface"
    return make_labeled_dataset(parts, name, class_names=labels, preprocessing=preprocessing, seed=seed)


# ---------------------------------------------------------------- anything


def as_dataset(data: object = None, *, seed: int = 0) -> Dataset:
    """The one rule for `data=` everywhere.

    Args:
        data: a `Dataset`; a name or path, see `load`; `(X, y)`, `(X, y, X_test, y_test)` or
            `((X, y), (X_test, y_test))`, see `from_arrays`; a torch dataset or `(train, test)` of them; a
            Hugging Face `Dataset` or `DatasetDict`; a function that returns one of these; None for MNIST, or
            its 5,000 bundled digits where it can't be obtained.
        seed: selects a sixth of every class as test images where there are none.

    Raises:
        DataError: it is none of these, or not a dataset; see there.

    Example:
        >>> as_dataset(([[[0, 255], [255, 0]], [[0, 0], [9, 255]]] * 6, [0, 1] * 6)).shape
        (1, 2, 2)
    """
    if isinstance(data, Dataset):
        return data
    if data is None:
        return load_default()
    if isinstance(data, str | os.PathLike):
        return load(data, seed=seed)
    if isinstance(data, tuple | list):
        return _from_tuple(data, seed)
    if is_huggingface(data) or _is_split(data):
        return from_huggingface(data, seed=seed)
    if is_torch_dataset(data):
        return from_torch(data, seed=seed)
    result = data() if callable(data) and not isinstance(data, type) else None
    if result is not None and not callable(result):
        return as_dataset(result, seed=seed)
    raise DataError(f"data is of type {type(data).__name__}; {_advice(data)}")


def _is_split(data: object) -> bool:
    """Whether it is a Hugging Face `DatasetDict`, or a dictionary like it."""
    return isinstance(data, Mapping) and bool(data) and all(is_huggingface(part) for part in data.values())


def _from_tuple(data: Sequence[Any], seed: int) -> Dataset:
    if len(data) == 2 and all(isinstance(part, tuple) and len(part) == 2 for part in data):
        data = tuple(chain.from_iterable(data))  # as Keras returns them
    if len(data) == 2 and all(map(is_torch_dataset, data)):
        return from_torch(*data, seed=seed)
    if len(data) == 2 and all(map(is_huggingface, data)):
        return from_huggingface(data[0], test=data[1], seed=seed)
    if len(data) in (2, 4):
        X, y, *test = data
        return from_arrays(X, y, test or None, seed=seed)
    raise DataError(f"data has {len(data)} parts; give (X, y) or (X, y, X_test, y_test)")


def _advice(data: object) -> str:
    if hasattr(data, "batch_sampler"):
        return "give the loader's .dataset"
    if hasattr(data, "iloc"):
        return "give (images, labels), such as (data.drop(columns='label'), data['label'])"
    if isinstance(data, Mapping):
        keys = ", ".join(map(str, data))[:200]
        return f"give a tuple of its arrays, (X, y) or (X, y, X_test, y_test); it has {keys}"
    return "give a name, a path, (X, y), (X, y, X_test, y_test), or a torch or Hugging Face dataset"

"""Datasets in Parquet files: pictures or numbers in columns, as Hugging Face publishes them."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from inklab.data.adapters import LabeledItems, make_labeled_dataset, open_entry
from inklab.data.conversion import SET_NAMES, ClassNames
from inklab.data.csv_files import IMAGE_COLUMNS, LABEL_COLUMNS, ColumnOptions, find_column, list_columns
from inklab.data.dataset import MAX_BYTES, Dataset
from inklab.data.file_trees import is_junk
from inklab.errors import CorruptFileError, DataError, InklabError
from inklab.io.files import open_regular

SUFFIXES = (".parquet", ".pq")
DEPTH = 3  # directories between the one that is named and a file
SHARD = re.compile(r"([a-z]+)([-_.]?\d+([-_.]of[-_.]\d+)?(-[0-9a-f]+)?)?", re.IGNORECASE)
"""The name of a set, alone or with the number of a shard: `train-00000-of-00002`."""

ROWS = 1024  # read at once
MAX_COLUMN_BYTES = 8 * MAX_BYTES  # uncompressed: eight bytes a pixel
PIXEL_NAME = re.compile(r"(pixel|px)[-_ ]?\d+(x\d+)?", re.IGNORECASE)
Numbers = Shaped[np.ndarray, "_ ..."]


# ---------------------------------------------------------------- which files


@dataclass(frozen=True)
class ParquetSets:
    """The files of a dataset, and those beside them that belong to no set.

    Attributes:
        files: of "train", and of "validation" and "test" if there are.
        unused: files of other names.
    """

    files: dict[str, list[Path]]
    unused: tuple[Path, ...] = ()


def find_parquet(path: Path) -> ParquetSets | None:
    """The Parquet files of a directory, or those that a training file belongs to; None if there are none.

    Sets are recognized by the names of files (`train-00000-of-00002.parquet`, `test.parquet`) or of their
    directories (`train/0000.parquet`). If no file has such a name, all are training images.

    Raises:
        DataError: there are several datasets, or no training images.
    """
    if path.is_file():
        role = _set_of_name(path.stem)
        beside = [file for file in sorted(path.parent.iterdir()) if _set_of_name(file.stem)]
        files = [file for file in beside if file.suffix.lower() in SUFFIXES] if role == "train" else [path]
        return _group(files, path) if role == "train" else ParquetSets({"train": files})
    files = sorted(_walk(path, DEPTH))
    return _group(files, path) if files else None


def _walk(directory: Path, depth: int) -> Iterator[Path]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if is_junk(entry.name):
                continue
            if entry.name.lower().endswith(SUFFIXES):
                yield Path(entry.path)
            elif depth and entry.is_dir():
                yield from _walk(Path(entry.path), depth - 1)


def _set_of_name(name: str) -> str | None:
    match = SHARD.fullmatch(name)
    word = match[1].casefold() if match else ""
    return next((role for role, words in SET_NAMES.items() if word in words), None)


def _group(files: Sequence[Path], path: Path) -> ParquetSets:
    """Files by the directory that has all sets, and by set."""
    roots: dict[Path, dict[str, list[Path]]] = {}
    unused = []
    for file in files:
        of_file, of_directory = _set_of_name(file.stem), _set_of_name(file.parent.name)
        if role := of_file or of_directory:
            root = file.parent if of_file else file.parent.parent
            roots.setdefault(root, {}).setdefault(role, []).append(file)
        else:
            unused.append(file)
    if not roots:
        for file in unused:
            roots.setdefault(file.parent, {}).setdefault("train", []).append(file)
        unused = []
    if len(roots) > 1:
        names = ", ".join(f"'{root}'" for root in sorted(roots))
        raise DataError(f"'{path}' has several datasets; name one of them: {names}")
    ((root, sets),) = roots.items()
    if "train" not in sets:
        present = ", ".join(file.name for part in sets.values() for file in part[:3])
        raise DataError(f"'{root}' has {present}, but no training images; name their file train.parquet")
    return ParquetSets({role: sets[role] for role in SET_NAMES if role in sets}, tuple(unused))


# ---------------------------------------------------------------- a dataset


def load_parquet(
    sets: ParquetSets,
    options: ColumnOptions,
    *,
    class_names: ClassNames | None = None,
    name: str,
    seed: int = 0,
) -> Dataset:
    """Load a dataset of Parquet files.

    Args:
        sets: the files of each set.
        options: how columns are read. The names of columns and classes that Hugging Face's library writes
            into the files are known.
        class_names: see `encode_labels`; by default those in the files.
        name: of the dataset.
        seed: selects a sixth of every class as test images where there are none.

    Raises:
        InklabError: pyarrow is not installed.
        DataError: there are no such columns, or their values are no images.
        CorruptFileError: a file is damaged or too large.
    """
    layout = _read_layout(sets.files["train"][0], options)
    parts = {role: _read_set(files, layout) for role, files in sets.files.items()}
    unused = [file.name for file in sets.unused] + list(layout.unused)
    return make_labeled_dataset(
        parts,
        name,
        class_names=class_names,
        image_shape=options.image_shape,
        preprocessing=options.preprocessing,
        note=f"Not used: {', '.join(unused)}." if unused else None,
        seed=seed,
    )


@dataclass(frozen=True)
class ParquetLayout:
    """Which columns have what.

    Attributes:
        label: the column of labels.
        classes: names of the classes 0, 1, ..., if the file has them.
        images: the column of pictures or arrays, or all columns of pixels.
        is_pictures: whether they are pictures.
        unused: other columns.
    """

    label: str
    classes: tuple[str, ...] | None
    images: tuple[str, ...]
    is_pictures: bool
    unused: tuple[str, ...]


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile`; what pyarrow raises becomes an error of one line."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise InklabError(
            f"'{path}' needs pyarrow, which is not installed: pip install 'inklab[parquet]'"
        ) from None
    try:
        with open_regular(path) as file:
            yield ParquetFile(file)
    except InklabError:
        raise
    except (ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise DataError(f"'{path}' can't be read: {error.strerror or error}") from error
        reason = " ".join(str(error).split())[:200]
        raise CorruptFileError(f"'{path}' is no complete Parquet file ({reason}); write it again") from error


def _read_layout(path: Path, options: ColumnOptions) -> ParquetLayout:
    from pyarrow import types

    with _open(path) as file:
        schema = file.schema_arrow
    columns = [name for name in schema.names if not name.startswith("__index_level_")]
    kinds = {name: schema.field(name).type for name in columns}
    features = _features(schema.metadata or {}, columns)
    is_class = [name for name in columns if features.get(name, {}).get("_type") == "ClassLabel"]
    label = find_column(path, columns, options.label, (*LABEL_COLUMNS, *is_class), len(columns))
    if label is None:
        raise DataError(
            f"'{path}' has no column called {', '.join(LABEL_COLUMNS[:-1])} or {LABEL_COLUMNS[-1]}; "
            f"choose the labels' by label=: {list_columns(columns)}"
        )
    labels = columns[label]
    is_image = [
        name
        for name in columns
        if name != labels and (_is_pictures(kinds[name]) or types.is_nested(kinds[name]))
    ]
    image = find_column(path, columns, options.image, (*IMAGE_COLUMNS, *is_image), len(columns))
    names = features.get(labels, {}).get("names")
    classes = tuple(map(str, names)) if isinstance(names, list) else None
    if image is not None:
        images, is_pictures = (columns[image],), _is_pictures(kinds[columns[image]])
    else:
        numbers = [name for name in columns if name != labels and _is_number(kinds[name])]
        images = tuple([name for name in numbers if PIXEL_NAME.fullmatch(name)] or numbers)
        is_pictures = False
    if not images:
        raise DataError(
            f"'{path}' has no column of pictures or numbers; choose one by image=: {list_columns(columns)}"
        )
    unused = tuple(name for name in columns if name not in (labels, *images))
    return ParquetLayout(labels, classes, images, is_pictures, unused)


def _features(metadata: Mapping[bytes, bytes], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What Hugging Face's library writes of each column; {} for files of others."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {name: features[name] for name in columns if isinstance(features.get(name), dict)}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _is_pictures(kind: Any) -> bool:
    """Whether a column has files, their paths, or `{"bytes": ..., "path": ...}`."""
    from pyarrow import types

    if types.is_struct(kind):
        return {field.name for field in kind} <= {"bytes", "path"}
    tests = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(test(kind) for test in tests)


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return any(test(kind) for test in (types.is_integer, types.is_floating, types.is_boolean))


# ---------------------------------------------------------------- columns


def _read_set(files: Sequence[Path], layout: ParquetLayout) -> LabeledItems:
    labels = [
        label
        for path in files
        for batch in _batches(path, (layout.label,))
        for label in batch.column(0).to_pylist()
    ]
    if not labels:
        raise DataError(f"'{files[0]}' has no rows")
    if layout.is_pictures:
        return LabeledItems(
            ParquetPictures(tuple(files), layout.images[0], len(labels)), labels, layout.classes
        )
    chunks = [
        _to_numbers(batch, path)
        for path in files
        for batch in _batches(path, layout.images)
        if batch.num_rows
    ]
    shapes = {chunk.shape[1:] for chunk in chunks}
    if len(shapes) > 1:
        raise DataError(f"'{files[0]}' has images of the shapes {sorted(shapes)}; all need one shape")
    return LabeledItems(np.concatenate(chunks), labels, layout.classes)


def _batches(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """The columns of a file, some rows at a time.

    Raises:
        CorruptFileError: they are damaged or too large.
        DataError: one is missing.
    """
    with _open(path) as file:
        if missing := [name for name in columns if name not in file.schema_arrow.names]:
            raise DataError(f"'{path}' has no column '{missing[0]}', as the training images have")
        metadata, size = file.metadata, 0
        for group in (metadata.row_group(index) for index in range(metadata.num_row_groups)):
            chunks = (group.column(index) for index in range(group.num_columns))
            size += sum(
                chunk.total_uncompressed_size
                for chunk in chunks
                if chunk.path_in_schema in columns or chunk.path_in_schema.partition(".")[0] in columns
            )
        if size > MAX_COLUMN_BYTES or metadata.num_rows * len(columns) > MAX_BYTES:
            raise CorruptFileError(
                f"'{path}' has {size:,} bytes uncompressed in {metadata.num_rows:,} rows; at most "
                f"{MAX_COLUMN_BYTES:,} are read"
            )
        for batch in file.iter_batches(ROWS, columns=list(columns)):
            yield batch.select(list(columns))


def _to_numbers(batch: Any, path: Path) -> Numbers:
    """Images of some rows: of a column of nested lists, or of columns of pixels."""
    if batch.num_columns > 1:
        columns = [_values(column, path) for column in batch.columns]
        return _compact(np.stack(columns, axis=1))
    column, shape = batch.column(0), [batch.num_rows]
    while hasattr(column.type, "value_type"):
        inner = column.flatten()
        side, rest = divmod(len(inner), len(column))
        lengths = set(column.value_lengths().to_pylist())
        if rest or len(lengths) > 1 or column.null_count or not side:
            raise DataError(
                f"'{path}' has rows of different lengths or without values in the column "
                f"'{batch.schema.names[0]}'; all images need one shape"
            )
        shape.append(side)
        column = inner
    return _compact(_values(column, path).reshape(shape))


def _values(column: Any, path: Path) -> Shaped[np.ndarray, " n"]:
    if column.null_count:
        raise DataError(f"'{path}' has rows without values; leave those out")
    if not _is_number(column.type):
        raise DataError(f"'{path}' has images of the type {column.type}; give numbers or picture files")
    values: Shaped[np.ndarray, " n"] = column.to_numpy(zero_copy_only=False)
    return values


def _compact(values: Numbers) -> Numbers:
    """Whole numbers as bytes where they fit: an eighth of the memory."""
    is_bytes = values.dtype.kind in "ui" and 0 <= values.min() <= values.max() <= 255
    return values.astype(np.uint8) if is_bytes else values


@dataclass(frozen=True)
class ParquetPictures:
    """The pictures of a column, read from the files whenever they are gone through."""

    files: tuple[Path, ...]
    column: str
    length: int

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[str, Image.Image]]:
        """Each picture with its name in messages."""
        for path in self.files:
            row = 0
            for batch in _batches(path, (self.column,)):
                for entry in batch.column(0).to_pylist():
                    name = f"'{path}', row {row}"
                    yield name, open_entry(entry, name, path.parent)
                    row += 1

    def stamps(self) -> list[tuple[object, ...]]:
        """What changes when the pictures do: names, sizes and times of the files."""
        statuses = [(path, os.stat(path)) for path in self.files]
        return [
            (str(path.absolute()), self.column, status.st_size, status.st_mtime_ns)
            for path, status in statuses
        ]

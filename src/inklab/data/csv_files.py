"""Datasets in CSV files: a row of pixels for each image, as Kaggle has MNIST, or the path of a picture."""

import csv
import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from inklab.data.conversion import (
    MAX_LABEL_LENGTH,
    ClassNames,
    ImageShape,
    LabeledImages,
    make_dataset,
    to_pixels,
)
from inklab.data.dataset import MAX_BYTES, Dataset
from inklab.data.file_trees import DirectoryTree, PictureFiles
from inklab.data.pictures import preprocess_files
from inklab.data.preprocessing import SUFFIXES
from inklab.errors import CorruptFileError, DataError, did_you_mean
from inklab.format import pluralize
from inklab.io.files import open_regular
from inklab.records.components import PreprocessingChoice

LABEL_COLUMNS = ("label", "labels", "class", "target", "category")
IMAGE_COLUMNS = ("image", "img", "file", "file_name", "filename", "filepath", "path", "image_path")
DELIMITERS = ",;\t"
MAX_FILE_BYTES = 4 * MAX_BYTES  # "255," is the longest text of a byte
CHUNK_ROWS = 4096
SHOWN_COLUMNS = 6

Column = str | int


@dataclass(frozen=True)
class ColumnOptions:
    """How columns are read.

    Attributes:
        label: name or position of the column of labels; recognized by its name, else the first, by default.
        image: of the column of picture files; recognized by its name by default.
        image_shape: of one image, for rows of pixels; a square by default.
        preprocessing: of pictures; the one that suits their sizes by default.
    """

    label: Column | None = None
    image: Column | None = None
    image_shape: ImageShape | None = None
    preprocessing: PreprocessingChoice = "auto"


def load_csv(
    paths: Mapping[str, Path],
    options: ColumnOptions = ColumnOptions(),  # noqa: B008 - frozen
    *,
    class_names: ClassNames | None = None,
    name: str | None = None,
    seed: int = 0,
) -> Dataset:
    """Load a training file, and files for validation and test if there are.

    Args:
        paths: the files for "train", "validation" and "test", each with or without a line of column names.
        options: how columns are read.
        class_names: see `encode_labels`.
        name: of the dataset; the first path by default.
        seed: selects a sixth of every class as test images where there is no file for it.

    Raises:
        DataError: a file can't be read, has no label column, or its values are no images.
        CorruptFileError: a line has another number of columns than the first, or is no text.
    """
    layouts = [_read_layout(path, options) for path in paths.values()]
    names = [f"'{path}'" for path in paths.values()]
    note: str | None = None
    preprocessing = options.preprocessing
    if layouts[0].image is None:
        tables = [_read_pixels(layout) for layout in layouts]
        labels = [table[0] for table in tables]
        images = [
            to_pixels(table[1], name, options.image_shape) for table, name in zip(tables, names, strict=True)
        ]
    else:
        rows = [_read_rows(layout) for layout in layouts]
        labels = [np.array([row[0] for row in pairs]) for pairs in rows]
        pictures = [
            PictureFiles(DirectoryTree(layout.path.parent), [row[1] for row in pairs])
            for layout, pairs in zip(layouts, rows, strict=True)
        ]
        result = preprocess_files(pictures, options.preprocessing)
        images, preprocessing, note = list(result.sets), result.preprocessing, result.note
    return make_dataset(
        name or str(paths["train"]),
        {
            role: LabeledImages(pixels, column, name, f"the column of labels in {name}")
            for role, pixels, column, name in zip(paths, images, labels, names, strict=True)
        },
        class_names=class_names,
        preprocessing=preprocessing,
        note=note,
        seed=seed,
    )


@dataclass(frozen=True)
class Layout:
    """Where a file has what.

    Attributes:
        path: the file.
        delimiter: between columns.
        header_rows: 1 if the first line names the columns, else 0.
        n_columns: of every line.
        label: position of the labels.
        image: position of the picture files; None for rows of pixels.
    """

    path: Path
    delimiter: str
    header_rows: int
    n_columns: int
    label: int
    image: int | None


@contextmanager
def _open_text(path: Path) -> Iterator[io.TextIOWrapper]:
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
                raise DataError(f"'{path}' is too large; at most {MAX_FILE_BYTES:,} bytes are read")
            with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
                yield text
    except OSError as error:
        raise DataError(f"'{path}' can't be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorruptFileError(f"'{path}' is no CSV file in UTF-8 ({error}); save it again as one") from error


def _read_layout(path: Path, options: ColumnOptions) -> Layout:
    with _open_text(path) as file:
        line = file.readline()
        delimiter = max(DELIMITERS, key=line.count)
        first = [field.strip() for field in next(csv.reader([line], delimiter=delimiter), [])]
    if len(first) < 2:
        raise DataError(
            f"'{path}' has {pluralize(len(first), 'column')} in its first line; a label, and pixels or a "
            "picture file, are needed"
        )
    paths = [index for index, field in enumerate(first) if field.lower().endswith(SUFFIXES)]
    names = [name for name in (options.label, options.image) if isinstance(name, str)]
    known = {*LABEL_COLUMNS, *IMAGE_COLUMNS, *(name.casefold() for name in names)}
    is_known = any(field.casefold() in known for field in first)  # pandas may call the others 0, 1, ...
    has_header = not paths and (is_known or not any(_is_number(field) for field in first))
    header = first if has_header else []
    image = find_column(path, header, options.image, IMAGE_COLUMNS, len(first))
    if image is None and len(paths) == 1:
        image = paths[0]
    label = find_column(path, header, options.label, LABEL_COLUMNS, len(first))
    if label is None:
        if header:
            raise DataError(
                f"'{path}' has no column called {', '.join(LABEL_COLUMNS[:-1])} or {LABEL_COLUMNS[-1]}; "
                f"choose the labels' by label=: {list_columns(header)}"
            )
        label = 1 if image == 0 else 0
    return Layout(path, delimiter, int(has_header), len(first), label, image)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def list_columns(header: Sequence[str]) -> str:
    """The first names of columns, for a message."""
    more = f", and {len(header) - SHOWN_COLUMNS} more" if len(header) > SHOWN_COLUMNS else ""
    return ", ".join(header[:SHOWN_COLUMNS]) + more


def find_column(
    path: Path, header: Sequence[str], column: Column | None, known: Sequence[str], n_columns: int
) -> int | None:
    """The position of a column that is chosen by name or position, or recognized by a known name.

    Raises:
        DataError: there is no such column.
    """
    if isinstance(column, int) and not isinstance(column, bool):
        if not 0 <= column < n_columns:
            raise DataError(f"'{path}' has no column {column}; it has {n_columns}, 0 to {n_columns - 1}")
        return column
    if column is not None:
        if column not in header:
            hint = did_you_mean(str(column), header)
            raise DataError(
                f"'{path}' has no column '{column}'.{hint} Its columns: {list_columns(header) or '(unnamed)'}"
            )
        return header.index(column)
    matches = [index for name in known for index, field in enumerate(header) if field.casefold() == name]
    return matches[0] if matches else None


# ---------------------------------------------------------------- rows of pixels


def _read_pixels(layout: Layout) -> tuple[Shaped[np.ndarray, " n"], Shaped[np.ndarray, "n p"]]:
    """Labels as text, and pixels: bytes if all are whole numbers and one is above 1, else floats."""
    columns = [index for index in range(layout.n_columns) if index != layout.label]
    dtype = np.dtype([("label", f"U{MAX_LABEL_LENGTH + 1}"), ("pixels", np.float32, (len(columns),))])
    labels, chunks = [], []
    with _open_text(layout.path) as file:
        for _ in range(layout.header_rows):
            file.readline()
        while len(rows := _read_chunk(file, layout, dtype, columns)):
            labels.append(np.char.strip(rows["label"]))
            values = rows["pixels"]
            is_byte = (values == np.rint(values)) & (values >= 0) & (values <= 255)
            chunks.append(values.astype(np.uint8) if is_byte.all() else values)
    if not chunks:
        raise DataError(f"'{layout.path}' has no rows of values")
    pixels = np.concatenate(chunks)
    if pixels.dtype == np.uint8 and pixels.max() <= 1:
        pixels = pixels.astype(bool)  # black and white
    return np.concatenate(labels), pixels


def _read_chunk(
    file: io.TextIOWrapper, layout: Layout, dtype: np.dtype[np.void], columns: Sequence[int]
) -> Shaped[np.ndarray, " rows"]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy, at the end of the file
            return np.loadtxt(
                file, dtype, delimiter=layout.delimiter, quotechar='"', comments=None, ndmin=1,
                usecols=[layout.label, *columns], max_rows=CHUNK_ROWS,
            )  # fmt: skip
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise CorruptFileError(
            f"'{layout.path}' has rows that can't be read: {str(error).partition(';')[0]}; each needs a "
            f"label and {len(columns)} numbers"
        ) from error


# ---------------------------------------------------------------- picture files


def _read_rows(layout: Layout) -> list[tuple[str, str]]:
    """Label and picture file of each row; relative paths start at the CSV file's directory."""
    image = layout.image or 0
    rows = []
    with _open_text(layout.path) as file:
        reader = csv.reader(file, delimiter=layout.delimiter)
        for number, row in enumerate(reader):
            if number < layout.header_rows or not row:
                continue
            if len(row) != layout.n_columns:
                raise CorruptFileError(
                    f"'{layout.path}', line {reader.line_num}, has {len(row)} columns; the first has "
                    f"{layout.n_columns}"
                )
            rows.append((row[layout.label].strip(), row[image].strip()))
    if not rows:
        raise DataError(f"'{layout.path}' has no rows of values")
    return rows

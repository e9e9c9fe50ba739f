"""Arrays in files, as safetensors: a header in JSON, then bare bytes.

What a header says is checked here, before any library sees it.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from inklab.errors import CorruptFileError
from inklab.io.atomic import read_bytes_capped, write_atomic

MAX_FILE_BYTES = 4 * 1024**3  # bytes of a file
MAX_HEADER = 1024**2  # bytes; that of 10,000 arrays with short names
MAX_ARRAYS = 10_000
MAX_DIMENSIONS = 16  # of one array; a stacked convolution has five
MAX_SIDE = 2**40
MAX_NAME_LENGTH = 512  # characters
METADATA = "__metadata__"  # remarks in a header that belong to no array
ENTRY = ("dtype", "shape", "data_offsets")
ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
"""What is read: everything that torch and NumPy both compute with."""


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as safetensors, whole."""
    write_atomic(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a safetensors file.

    Raises:
        FileNotFoundError: there is none.
        CorruptFileError: it is none of safetensors, damaged, hostile, or larger than 4 GiB.
        DataError: the system doesn't let it be read.
    """
    raw = check_header(read_capped(path), str(path))
    try:
        return dict(load(raw))
    except (SafetensorError, ValueError, KeyError) as error:  # KeyError: NumPy has no bfloat16
        raise _corrupt(path, error) from error


def read_capped(path: Path) -> bytes:
    """The bytes of a file of arrays, at most 4 GiB.

    Raises:
        FileNotFoundError: there is none.
        CorruptFileError: it is larger, or no plain file.
        DataError: the system doesn't let it be read.
    """
    return read_bytes_capped(path, MAX_FILE_BYTES)


def check_header(raw: bytes, name: str) -> bytes:
    """The bytes of a safetensors file as they came, if its header is sound. No array is touched.

    Args:
        raw: the whole file.
        name: what to call it in messages.

    Raises:
        CorruptFileError: the header is longer than 1 MiB, not JSON, or names an array twice or more than
            10,000;
            or an array has an unknown type, sides that its bytes are too few or too many for, or a place that
            is outside the file, another's, or leaves a gap.

    Example:
        >>> raw = save({"two": np.zeros(2, np.uint8)})
        >>> check_header(raw, "a file") is raw
        True
    """
    try:
        entries = _header(raw)
        begin = 8 + int.from_bytes(raw[:8], "little")
        _check_contiguous(sorted(_span(key, entry) for key, entry in entries.items()), len(raw) - begin)
    except (ValueError, RecursionError) as error:
        raise _corrupt(name, error) from error
    return raw


def _corrupt(name: object, why: object) -> CorruptFileError:
    return CorruptFileError(f"'{name}' is not a safetensors file: {why}; restore it from a copy")


def _header(raw: bytes) -> dict[str, Any]:
    length = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or length > len(raw) - 8:
        raise ValueError("it is cut short, or never was one")
    if length > MAX_HEADER:
        raise ValueError(f"its header has {length:,} bytes; at most {MAX_HEADER:,} are read")
    found = json.loads(raw[8 : 8 + length].decode("utf-8"), object_pairs_hook=_reject_duplicates)
    if not isinstance(found, dict):
        raise ValueError("its header is no table")
    remarks = found.pop(METADATA, {})
    if not isinstance(remarks, dict) or not all(isinstance(text, str) for text in remarks.values()):
        raise ValueError(f"its {METADATA} is no table of texts")
    if len(found) > MAX_ARRAYS:
        raise ValueError(f"it holds {len(found):,} arrays; at most {MAX_ARRAYS:,} are read")
    return found


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):  # which of the two counts, no two readers agree
        raise ValueError("a name stands twice in its header")
    return found


def _span(name: str, entry: Any) -> tuple[int, int]:
    """Where an array begins and ends behind the header, if everything that its entry says agrees."""
    if len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise ValueError(f"an array's name is not one ({name!r:.60})")
    if not isinstance(entry, dict) or set(entry) != {*ENTRY}:
        raise ValueError(f"'{name}' needs {', '.join(ENTRY)} and nothing else")
    kind, shape, place = (entry[key] for key in ENTRY)
    if not isinstance(kind, str) or kind not in ITEM_BYTES:
        raise ValueError(f"'{name}' has the type {kind!r:.20}; read are {', '.join(ITEM_BYTES)}")
    if not _is_valid(shape) or len(shape) > MAX_DIMENSIONS or math.prod(n or 1 for n in shape) > MAX_SIDE:
        raise ValueError(f"'{name}' has the shape {shape!r:.60}")
    if not _is_valid(place) or len(place) != 2:
        raise ValueError(f"'{name}' lies at {place!r:.60}")
    begin, end = place
    if end - begin != math.prod(shape) * ITEM_BYTES[kind]:
        raise ValueError(f"'{name}' has {end - begin:,} bytes, not those of {kind} {tuple(shape)}")
    return begin, end


def _is_valid(numbers: Any) -> bool:
    """Whether it is a list of whole numbers that a file can have; a truth value is none."""
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n <= MAX_SIDE for n in numbers)


def _check_contiguous(places: list[tuple[int, int]], size: int) -> None:
    """Refuse arrays that overlap, that lie outside, or between which bytes are hidden."""
    at = 0
    for begin, end in places:
        if begin != at:
            raise ValueError(f"its arrays overlap or leave a gap at byte {min(at, begin):,}")
        at = end
    if at != size:
        raise ValueError(f"its arrays take {at:,} bytes, but {size:,} follow the header")

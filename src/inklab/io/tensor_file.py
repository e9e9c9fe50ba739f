"""Arrays in safetensors files: a header in JSON, then the bare bytes of the arrays.

The library itself checks types, shapes and offsets. Here are limits, and what it does not check.
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
from inklab.io.files import read_bytes_capped, write_atomic

MAX_FILE_BYTES = 4 * 1024**3
MAX_HEADER = 1024**2  # bytes: 10,000 arrays with short names
MAX_ARRAYS = 10_000
MAX_DIMENSIONS = 16  # of an array; a stacked convolution has five


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as safetensors, whole or not at all."""
    write_atomic(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a safetensors file.

    Raises:
        FileNotFoundError: there is none.
        CorruptFileError: it is not safetensors, damaged, or larger than 4 GiB.
        DataError: it can't be read.
    """
    raw = check_header(read_bytes_capped(path, MAX_FILE_BYTES), str(path))
    try:
        return dict(load(raw))
    except (SafetensorError, ValueError, KeyError) as error:  # KeyError: NumPy has no bfloat16
        raise _corrupt(path, error) from error


def check_header(raw: bytes, name: str) -> bytes:
    """The bytes of a safetensors file, which messages call by a name, once its header is checked.

    Raises:
        CorruptFileError: the header is longer than 1 MiB, not JSON, has a name twice or more than 10,000
            arrays, or an array whose name can't be printed, with too many dimensions, or with more elements
            than bytes.

    Example:
        >>> raw = save({"two": np.zeros(2, np.uint8)})
        >>> check_header(raw, "a file") is raw
        True
    """
    length = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or length > len(raw) - 8:
        raise _corrupt(name, "it is truncated, or has another format")
    if length > MAX_HEADER:
        raise _corrupt(name, f"its header has {length:,} bytes; at most {MAX_HEADER:,} are read")
    try:
        entries = json.loads(raw[8 : 8 + length], object_pairs_hook=_reject_duplicates)
        entries.pop("__metadata__", None)
        if len(entries) > MAX_ARRAYS:
            raise ValueError(f"it has {len(entries):,} arrays; at most {MAX_ARRAYS:,} are read")
        for key, entry in entries.items():
            _check_entry(key, entry["shape"], len(raw))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _corrupt(name, error) from error
    return raw


def _check_entry(name: str, shape: list[int], n_bytes: int) -> None:
    if not name.isprintable():
        raise ValueError(f"an array's name is not printable ({name!r:.60})")
    # An array without elements may have sides that overflow when a library multiplies them.
    if len(shape) > MAX_DIMENSIONS or math.prod(max(side, 1) for side in shape) > n_bytes:
        raise ValueError(f"'{name}' has the shape {shape!r:.60}")


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):  # readers disagree about which of the two counts
        raise ValueError("its header has a name twice")
    return table


def _corrupt(name: object, reason: object) -> CorruptFileError:
    return CorruptFileError(f"'{name}' is not a readable safetensors file: {reason}; restore it from a copy")

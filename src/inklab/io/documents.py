"""JSON and TOML documents: written whole, read within limits, named by their content."""

import gc
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inklab.errors import ConfigError, CorruptFileError, DataError
from inklab.io.atomic import read_bytes_capped, write_atomic

MAX_JSON = 256 * 1024 * 1024  # bytes; a full digits run's largest is a hundred times smaller
MAX_BRACKETS = 4_000_000  # lists and tables in one JSON file: each takes up to 250 bytes of memory
MAX_DEPTH = 64  # lists and tables in each other; ours are at most a dozen deep
MAX_TOML = 256 * 1024  # bytes; the built-in study has 8,000
LONG_KEY_PATTERN = re.compile(
    r"""(?<![^\s{,\[])(?:(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}"""
)
"""A dotted key of 33 parts or more: what reading one takes grows with the square of them."""


def write_json(path: Path, value: object) -> None:
    """Write a value as readable JSON, whole."""
    write_atomic(path, json_text(value))


def json_text(value: object) -> str:
    """A value as readable JSON. NaN and infinity are refused: they are not JSON."""
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def read_json(path: Path, *, largest: int | None = None) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        largest: bytes that are read; 256 MiB if left out.

    Raises:
        FileNotFoundError, NotADirectoryError: there is none.
        CorruptFileError: it is too large, or not what `parse_json` takes.
        DataError: the system doesn't let it be read.
    """
    return parse_json(read_bytes_capped(path, MAX_JSON if largest is None else largest), str(path))


def parse_json(raw: bytes, name: str) -> Any:
    """The value in the bytes of a JSON file; it may be walked, printed and written again.

    Args:
        raw: the whole file.
        name: what to call it in messages.

    Raises:
        CorruptFileError: it is not UTF-8 or not JSON, holds NaN, infinity or half a character, or has too
            many
            lists and tables, or more than 64 in each other.

    Example:
        >>> parse_json(b'{"epochs": [1, 2]}', "a file")
        {'epochs': [1, 2]}
    """
    try:
        text = raw.decode("utf-8")
        brackets = text.count("[") + text.count("{")
        if brackets > MAX_BRACKETS:
            raise ValueError(f"it has {brackets:,} brackets; at most {MAX_BRACKETS:,} are read")
        value = _JSON.decode(text)
        if brackets > MAX_DEPTH:  # else it can't be so deep
            check_depth(value)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # half a character can't be written again
        return value
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(
            f"'{name}' is not readable JSON ({error}); delete it or restore it from a copy"
        ) from error


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


_JSON = json.JSONDecoder(parse_constant=_no_number, parse_float=_number)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file that somebody wrote: a study or a recipe.

    Raises:
        ConfigError: it can't be read, is larger than 256 KiB, or not what `parse_toml` takes.
    """
    try:
        return parse_toml(read_bytes_capped(path, MAX_TOML).decode("utf-8"), f"'{path}'")
    except (OSError, DataError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{path}' is not TOML: {error}") from error


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """The tables in some TOML; `name` is for messages.

    Raises:
        ConfigError: it is not TOML, has a key of more than 32 parts, or is deeper than 64 lists and tables.

    Example:
        >>> parse_toml("recipe = { epochs = 3 }", "a study")
        {'recipe': {'epochs': 3}}
    """
    try:
        if LONG_KEY_PATTERN.search(text):
            raise ValueError("a key has more than 32 parts")
        found = tomllib.loads(text)
        check_depth(found)
        return found
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is not TOML: {error}") from error


def check_depth(value: object) -> None:
    """Refuse a value with more than 64 lists and tables in each other; to walk it would end in an error.

    Raises:
        ValueError: it is deeper.
    """
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inside = (each.values() if isinstance(each, dict) else each for each in level)
        level = [child for each in inside for child in each if isinstance(child, dict | list)]
        if not level:
            return
    raise ValueError(f"more than {MAX_DEPTH} lists and tables stand in each other")


def sha256_of(*parts: bytes | memoryview) -> str:
    """The SHA-256 of some bytes, one after the other, as 64 hex digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def fingerprint(value: object) -> str:
    """Twelve hex digits that name a JSON value's content: equal values, equal names, on every machine.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextmanager
def gc_paused() -> Iterator[None]:
    """No search for cyclic garbage meanwhile: for a command that reads a run, tells of it, and ends.

    The collector would walk every outcome again and again and find nothing, since JSON has no cycles:
    reading 10,000 takes 1.05 s with it and 0.57 s without.
    """
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()

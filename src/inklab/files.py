"""Files written whole, and read with care. Every byte that a run keeps goes through `write_whole`."""

import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import stat
import tomllib
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import platformdirs

from inklab.errors import CorruptFile, DataError, SpecError, Unwritable

LARGEST_JSON = 256 * 1024 * 1024  # bytes; a full digits run's largest is a hundred times smaller
DRAFT = re.compile(r"\..+\.[0-9a-f]{32}")
"""Names of files that are being written; what a killed process leaves of them."""
MOST_BRACKETS = 4_000_000  # lists and tables in one JSON file: each takes up to 250 bytes of memory
DEEPEST = 64  # lists and tables in each other; ours are at most a dozen deep
LARGEST_TOML = 256 * 1024  # bytes; the built-in study has 8,000
LONG_KEY = re.compile(
    r"""(?<![^\s{,\[])(?:(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}"""
)
"""A dotted key of 33 parts or more: what reading one takes grows with the square of them."""


def cache_folder(name: str) -> Path:
    """The user's own folder for what can be had again: "data", "programs", ... Not made here."""
    return Path(platformdirs.user_cache_dir("inklab")) / name


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never half; also after a power cut.

    A temporary name beside it, fsync, rename, fsync of the folder. Makes the folder if it is missing.

    Raises:
        Unwritable: the file system refuses; then the old file is still there.
    """
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    raw = content.encode("utf-8") if isinstance(content, str) else content
    try:
        make_folder(path.parent)
        try:
            _put(draft, raw)
            _sync(draft)
            _rename(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        _sync(path.parent)
    except OSError as error:
        raise Unwritable(path, error) from error


def move_whole(draft: Path, final: Path) -> None:
    """Give a finished folder its final name, in one step and for good.

    Args:
        draft: the folder, in the same file system.
        final: its new place. A folder that is there already is moved to where `draft` was and then deleted.

    Raises:
        Unwritable: the file system refuses; then the old folder is still there.
    """
    old = draft.with_name(f".{draft.name}.{uuid4().hex}")
    try:
        make_folder(final.parent)
        if final.exists():
            _rename(final, old)
        _rename(draft, final)
        _sync(final.parent)
    except OSError as error:
        raise Unwritable(final, error) from error
    shutil.rmtree(old, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they survive a power cut."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def sweep(folder: Path) -> None:
    """Delete what killed processes left of files that they were writing straight into a folder."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if DRAFT.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


# The three steps on the way of every byte. Proofs of what a crash leaves replace them (tests/faults.py).


def _put(draft: Path, raw: bytes) -> None:
    with draft.open("xb") as file:
        file.write(raw)


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: its fsync stops at the disk's own cache
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
        else:
            os.fsync(handle)
    finally:
        os.close(handle)


def _rename(old: Path, new: Path) -> None:
    os.replace(old, new)


def write_json(path: Path, value: object) -> None:
    """Write a value as readable JSON, whole."""
    write_whole(path, json_text(value))


def json_text(value: object) -> str:
    """A value as readable JSON. NaN and infinity are refused: they are not JSON."""
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def open_plain(path: Path) -> BinaryIO:
    """Open a file for reading, if it is a plain one: a pipe or a device may never end.

    Raises:
        OSError: the system doesn't let it be read.
        CorruptFile: it is no plain file.
    """
    file = open(path, "rb", opener=_without_waiting)
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise CorruptFile(f"'{path}' is not a plain file; put one there, or delete it")


def _without_waiting(path: str | os.PathLike[str], flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # opening a pipe would wait for somebody who writes


def read_at_most(path: Path, largest: int) -> bytes:
    """The bytes of a plain file, if there are not too many.

    Raises:
        FileNotFoundError, NotADirectoryError: there is none.
        CorruptFile: it is larger, or no plain file.
        DataError: the system doesn't let it be read.
    """
    try:
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > largest:
                raise CorruptFile(f"'{path}' has {size:,} bytes; at most {largest:,} are read")
            return file.read(size)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise DataError(f"'{path}' can't be read: {error.strerror or error}") from error


def read_json(path: Path, *, largest: int | None = None) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        largest: bytes that are read; 256 MiB if left out.

    Raises:
        FileNotFoundError, NotADirectoryError: there is none.
        CorruptFile: it is too large, or not what `parse_json` takes.
        DataError: the system doesn't let it be read.
    """
    return parse_json(read_at_most(path, LARGEST_JSON if largest is None else largest), str(path))


def parse_json(raw: bytes, name: str) -> Any:
    """The value in the bytes of a JSON file; it may be walked, printed and written again.

    Args:
        raw: the whole file.
        name: what to call it in messages.

    Raises:
        CorruptFile: it is not UTF-8 or not JSON, holds NaN, infinity or half a character, or has too many
            lists and tables, or more than 64 in each other.

    Example:
        >>> parse_json(b'{"epochs": [1, 2]}', "a file")
        {'epochs': [1, 2]}
    """
    try:
        text = raw.decode("utf-8")
        brackets = text.count("[") + text.count("{")
        if brackets > MOST_BRACKETS:
            raise ValueError(f"it has {brackets:,} brackets; at most {MOST_BRACKETS:,} are read")
        value = _JSON.decode(text)
        if brackets > DEEPEST:  # else it can't be so deep
            refuse_deep(value)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # half a character can't be written again
        return value
    except (ValueError, RecursionError) as error:
        raise CorruptFile(
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
        SpecError: it can't be read, is larger than 256 KiB, or not what `parse_toml` takes.
    """
    try:
        return parse_toml(read_at_most(path, LARGEST_TOML).decode("utf-8"), f"'{path}'")
    except (OSError, DataError, UnicodeDecodeError) as error:
        raise SpecError(f"'{path}' is not TOML: {error}") from error


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """The tables in some TOML; `name` is for messages.

    Raises:
        SpecError: it is not TOML, has a key of more than 32 parts, or is deeper than 64 lists and tables.

    Example:
        >>> parse_toml("recipe = { epochs = 3 }", "a study")
        {'recipe': {'epochs': 3}}
    """
    try:
        if LONG_KEY.search(text):
            raise ValueError("a key has more than 32 parts")
        found = tomllib.loads(text)
        refuse_deep(found)
        return found
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{name} is not TOML: {error}") from error


def refuse_deep(value: object) -> None:
    """Refuse a value with more than 64 lists and tables in each other; to walk it would end in an error.

    Raises:
        ValueError: it is deeper.
    """
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        inside = (each.values() if isinstance(each, dict) else each for each in level)
        level = [child for each in inside for child in each if isinstance(child, dict | list)]
        if not level:
            return
    raise ValueError(f"more than {DEEPEST} lists and tables stand in each other")


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

"""Files written whole, and read with care. Every byte that a run keeps goes through `write_whole`."""

import fcntl
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import platformdirs

from inklab.errors import CorruptFile, Unwritable

LARGEST_JSON = 256 * 1024 * 1024  # bytes; a full digits run's largest is a hundred times smaller
DRAFT = re.compile(r"\..+\.[0-9a-f]{32}")
"""Names of files that are being written; what a killed process leaves of them."""


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


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        CorruptFile: it is too large, not UTF-8, or not JSON.
    """
    if path.stat().st_size > LARGEST_JSON:
        raise CorruptFile(
            f"'{path}' has {path.stat().st_size:,} bytes; at most {LARGEST_JSON:,} are read as JSON"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptFile(
            f"'{path}' is not readable JSON ({error}); delete it or restore it from a copy"
        ) from error


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

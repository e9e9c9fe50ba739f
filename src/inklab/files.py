"""Files written whole, and read with care."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import platformdirs

from inklab.errors import CorruptFile

LARGEST_JSON = 256 * 1024 * 1024  # bytes; a full digits run's largest is a hundred times smaller


def cache_folder(name: str) -> Path:
    """The user's own folder for what can be had again: "data", "programs", ... Not made here."""
    return Path(platformdirs.user_cache_dir("inklab")) / name


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never half; also after a power cut.

    A temporary name beside it, fsync, rename, fsync of the folder. Makes the folder if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    raw = content.encode("utf-8") if isinstance(content, str) else content
    try:
        with draft.open("xb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: object) -> None:
    """Write a value as readable JSON, whole. NaN and infinity are refused: they are not JSON."""
    write_whole(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


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

"""Files: written whole or not at all, read within size limits, named by their content."""

import gc
import hashlib
import json
import logging
import os
import re
import shutil
import stat
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import platformdirs
from pydantic_core import from_json

from inklab.errors import ConfigError, CorruptFileError, DataError, WriteError

DIGEST_LENGTH = 64  # hex digits in front of the content of a cached file
MAX_CACHED = 1024**3  # bytes
MAX_TOML = 256 * 1024  # bytes; the built-in study has 8,000
LONG_KEY = re.compile(r"""(?<![\w"'-])(?:(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){100}""")
"""A TOML key of more than 100 dotted parts; tomllib's time is cubic in them: a minute for 30,000."""

DRAFT_PATTERN = re.compile(r"\..+\.[0-9a-f]{32}")
"""Names of files that are being written, which a killed process leaves behind."""

log = logging.getLogger("inklab")


def cache_dir(name: str) -> Path:
    """The user's cache directory for "data", "programs", ...; it need not exist.

    Where there is no home, or it can't be written to, one in the directory for temporary files, which
    belongs to this user alone. Where that is impossible, too, a path at which nothing can be kept.
    """
    with suppress(RuntimeError):  # HOME is not set, and the user has no entry in /etc/passwd
        usual = Path(platformdirs.user_cache_dir("inklab")) / name
        existing = next(path for path in (usual, *usual.parents) if path.exists())
        if existing == usual or os.access(existing, os.W_OK | os.X_OK):
            return usual
    try:
        # Made by this user for this user only: what lies there is run, such as compiled programs.
        own = Path(tempfile.gettempdir()) / f"inklab-{os.getuid()}"
        own.mkdir(mode=0o700, exist_ok=True)
        facts = own.lstat()
    except (OSError, AttributeError):  # no directory for temporary files; no numbers of users
        return Path(os.devnull) / name
    is_own = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o077
    return (own if is_own else Path(os.devnull)) / name


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader finds the old or the new one, never a part, also after a power loss.

    A temporary file next to it, fsync, rename, fsync of the directory, which is created if it is missing.

    Raises:
        WriteError: it can't be written; the old file stays.
    """
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    raw = content.encode("utf-8") if isinstance(content, str) else content
    try:
        make_dir(path.parent)
        try:
            _put(draft, raw)
            _sync(draft)
            _rename(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        _sync(path.parent)
    except OSError as error:
        raise WriteError(path, error) from error


def replace_dir(draft: Path, final: Path) -> None:
    """Move a finished directory to its final path on the same file system, atomically and durably.

    An existing directory there is moved next to `draft` and then deleted.

    Raises:
        WriteError: it can't be moved; the old directory stays.
    """
    old = draft.with_name(f".{draft.name}.{uuid4().hex}")
    try:
        make_dir(final.parent)
        if final.exists():
            _rename(final, old)
        _rename(draft, final)
        _sync(final.parent)
    except OSError as error:
        raise WriteError(final, error) from error
    shutil.rmtree(old, ignore_errors=True)


def make_dir(path: Path) -> None:
    """Create a directory and its parents durably."""
    if path.is_dir():
        return
    make_dir(path.parent)
    path.mkdir(exist_ok=True)
    _sync(path.parent)


def cleanup_drafts(directory: Path) -> None:
    """Delete the temporary files that killed processes left directly in a directory."""
    for path in directory.iterdir() if directory.is_dir() else ():
        if DRAFT_PATTERN.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


# The three steps of every write. Crash tests replace them (tests/support/disk_faults.py).


def _put(draft: Path, raw: bytes) -> None:
    with draft.open("xb") as file:
        file.write(raw)


def _sync(path: Path) -> None:
    """Wait until a file's content, or a directory's entries, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        if sys.platform == "darwin":  # its fsync stops at the disk's own cache
            import fcntl

            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
        else:
            os.fsync(handle)
    finally:
        os.close(handle)


def _rename(old: Path, new: Path) -> None:
    os.replace(old, new)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe or a device may never end.

    Raises:
        OSError: it can't be opened.
        CorruptFileError: it is not a regular file.
    """
    file = open(path, "rb", opener=_open_nonblocking)
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise CorruptFileError(f"'{path}' is not a regular file; replace or delete it")


def _open_nonblocking(path: str | os.PathLike[str], flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # opening a pipe would wait for a writer


def read_bytes_capped(path: Path, max_bytes: int) -> bytes:
    """The bytes of a regular file within a size limit.

    Raises:
        FileNotFoundError, NotADirectoryError: there is none.
        CorruptFileError: it is larger, or not a regular file.
        DataError: it can't be read.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise CorruptFileError(f"'{path}' has {size:,} bytes; at most {max_bytes:,} are read")
            return file.read(size)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise DataError(f"'{path}' can't be read: {error.strerror or error}") from error


def cached(path: Path, compute: Callable[[], bytes]) -> bytes:
    """The bytes that `compute` returns, from a file if they are there and whole.

    Args:
        path: below `cache_dir`, with a name of everything that the bytes depend on.
        compute: called if they are not there.
    """
    with suppress(OSError, DataError):  # not there, or not readable: they are computed again
        raw = read_bytes_capped(path, MAX_CACHED)
        digest, content = raw[:DIGEST_LENGTH], raw[DIGEST_LENGTH:]
        if sha256_of(content).encode() == digest:
            return content
    content = compute()
    if len(content) > MAX_CACHED - DIGEST_LENGTH:
        return content
    try:
        write_atomic(path, sha256_of(content).encode() + content)
    except WriteError as error:  # a full disk is no reason to stop
        log.warning("%s", error)
    return content


def keep_newest(directory: Path, max_bytes: int) -> None:
    """Delete the oldest files of a directory of caches, so that the others have at most so many bytes."""
    with suppress(OSError):  # another process may do the same
        files = [(path.stat().st_mtime_ns, path.stat().st_size, path) for path in directory.iterdir()]
        total = 0
        for _, size, path in sorted(files, reverse=True):
            total += size
            if total > max_bytes:
                path.unlink(missing_ok=True)


# ---------------------------------------------------------------- documents


def write_json(path: Path, value: object) -> None:
    """Write a value as readable JSON, whole or not at all."""
    write_atomic(path, json_text(value))


def json_text(value: object) -> str:
    """A value as readable JSON.

    Raises:
        ValueError: a number is NaN or infinite, which JSON can't express.
    """
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def parse_json(raw: bytes, name: str) -> Any:
    """The value of a JSON document, which messages call by a name.

    Raises:
        CorruptFileError: it is not UTF-8 or not JSON, or is nested deeper than 200 levels.

    Example:
        >>> parse_json(b'{"epochs": [1, 2]}', "a file")
        {'epochs': [1, 2]}
    """
    try:
        return from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise CorruptFileError(
            f"'{name}' is not readable JSON ({error}); delete it or restore it from a copy"
        ) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of at most 256 KiB: a study or a recipe.

    Raises:
        ConfigError: it can't be read, is too large, or not TOML.
    """
    try:
        text = read_bytes_capped(path, MAX_TOML).decode("utf-8")
    except (OSError, DataError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{path}' is not TOML: {error}") from error
    return parse_toml(text, f"'{path}'")


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """The tables of a TOML document, which messages call by a name.

    Raises:
        ConfigError: it is not TOML, or a key has more than 100 dotted parts.

    Example:
        >>> parse_toml("recipe = { epochs = 3 }", "a study")
        {'recipe': {'epochs': 3}}
    """
    if match := LONG_KEY.search(text):
        raise ConfigError(f"{name} has the key '{match[0][:20]}...'; at most 100 dotted parts are allowed")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is not TOML: {error}") from error


def sha256_of(*parts: bytes | memoryview) -> str:
    """The SHA-256 of the concatenation of some bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def fingerprint(value: object) -> str:
    """Twelve hex digits that identify a JSON value: the same for equal values on every machine.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause garbage collection, for commands that read a run and end.

    The collector would traverse all outcomes again and again without finding cycles: reading 10,000 takes
    1.05 s with it and 0.57 s without.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

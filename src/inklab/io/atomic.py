"""Atomic writes of files and directories, and reads within a size limit."""

import os
import re
import shutil
import stat
import sys
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import platformdirs

from inklab.errors import CorruptFileError, DataError, WriteError

DRAFT_PATTERN = re.compile(r"\..+\.[0-9a-f]{32}")
"""Names of files that are being written, which a killed process leaves behind."""


def cache_dir(name: str) -> Path:
    """The user's cache directory for "data", "programs", ...; it need not exist."""
    return Path(platformdirs.user_cache_dir("inklab")) / name


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
    """Move a finished directory to its final path, atomically and durably.

    Args:
        draft: the directory, on the same file system.
        final: its final path. An existing directory there is moved next to `draft` and then deleted.

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

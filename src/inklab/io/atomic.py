"""Files and folders written whole, and opened with care: what a reader finds is the old or the new."""

import fcntl
import os
import re
import shutil
import stat
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import platformdirs

from inklab.errors import CorruptFileError, DataError, WriteError

DRAFT_PATTERN = re.compile(r"\..+\.[0-9a-f]{32}")
"""Names of files that are being written; what a killed process leaves of them."""


def cache_dir(name: str) -> Path:
    """The user's own folder for what can be had again: "data", "programs", ... Not made here."""
    return Path(platformdirs.user_cache_dir("inklab")) / name


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never half; also after a power cut.

    A temporary name beside it, fsync, rename, fsync of the folder. Makes the folder if it is missing.

    Raises:
        WriteError: the file system refuses; then the old file is still there.
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
    """Give a finished folder its final name, in one step and for good.

    Args:
        draft: the folder, in the same file system.
        final: its new place. A folder that is there already is moved to where `draft` was and then deleted.

    Raises:
        WriteError: the file system refuses; then the old folder is still there.
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


def make_dir(folder: Path) -> None:
    """Make a folder and those above it, so that they survive a power cut."""
    if folder.is_dir():
        return
    make_dir(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def cleanup_drafts(folder: Path) -> None:
    """Delete what killed processes left of files that they were writing straight into a folder."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if DRAFT_PATTERN.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


# The three steps on the way of every byte. Proofs of what a crash leaves replace them
# (tests/support/disk_faults.py).


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


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, if it is a plain one: a pipe or a device may never end.

    Raises:
        OSError: the system doesn't let it be read.
        CorruptFileError: it is no plain file.
    """
    file = open(path, "rb", opener=_without_waiting)
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise CorruptFileError(f"'{path}' is not a plain file; put one there, or delete it")


def _without_waiting(path: str | os.PathLike[str], flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # opening a pipe would wait for somebody who writes


def read_bytes_capped(path: Path, max_bytes: int) -> bytes:
    """The bytes of a plain file, if there are not too many.

    Raises:
        FileNotFoundError, NotADirectoryError: there is none.
        CorruptFileError: it is larger, or no plain file.
        DataError: the system doesn't let it be read.
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

"""Files below a directory or in a zip file, by the same names; nothing is ever unpacked to disk."""

import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image

from inklab.data.preprocessing import MAX_FILE_BYTES, open_image
from inklab.errors import CorruptFileError, DataError
from inklab.io.files import open_regular, read_bytes_capped

MAX_FILES = 5_000_000
# Of macOS, Windows, Linux, Synology and Python; hidden files are junk too.
JUNK = (
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information",
    "lost+found", "@eadir", "__pycache__",
)  # fmt: skip

Entries = list[tuple[str, bool]]


@runtime_checkable
class FileTree(Protocol):
    """Files by names relative to the root, with `/` between directories."""

    @property
    def root(self) -> Path:
        """The directory or zip file."""

    def entries(self) -> Entries:
        """Every file (name, False) and directory (name, True) that is not junk, in any order."""

    def read(self, name: str, size: int | None = None) -> bytes:
        """The content of a file, or its first bytes."""

    def stamp(self, name: str) -> tuple[object, ...]:
        """What changes when the file does: its size and time."""


@dataclass(frozen=True)
class DirectoryTree:
    """The files below a directory; names may also be absolute paths."""

    root: Path

    def entries(self) -> Entries:
        """As in `FileTree`; linked directories are followed, but not in circles."""
        entries: Entries = []
        visited: set[tuple[int, int]] = set()
        for directory, below, files in os.walk(self.root, followlinks=True):
            status = os.stat(directory)
            if (status.st_dev, status.st_ino) in visited:
                below.clear()
                continue
            visited.add((status.st_dev, status.st_ino))
            below[:] = [name for name in below if not is_junk(name)]
            start = (
                "" if directory == str(self.root) else Path(directory).relative_to(self.root).as_posix() + "/"
            )
            entries += [(start + name, True) for name in below]
            entries += [(start + name, False) for name in files if not is_junk(name)]
            if len(entries) > MAX_FILES:
                raise DataError(f"'{self.root}' has more than {MAX_FILES:,} files; name a smaller directory")
        return entries

    def read(self, name: str, size: int | None = None) -> bytes:
        """As in `FileTree`.

        Raises:
            DataError: it can't be read, or is too large.
        """
        path = self.root / name
        try:
            if size is None:
                return read_bytes_capped(path, MAX_FILE_BYTES)
            with open_regular(path) as file:
                return file.read(size)
        except OSError as error:
            raise DataError(f"'{path}' can't be read: {error.strerror or error}") from error

    def stamp(self, name: str) -> tuple[object, ...]:
        """As in `FileTree`."""
        status = os.stat(self.root / name)
        return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class ZipTree:
    """The files in a zip file, read one by one: names can't lead out of it, and sizes are limited."""

    root: Path
    archive: zipfile.ZipFile

    def entries(self) -> Entries:
        """As in `FileTree`.

        Raises:
            CorruptFileError: it has too many files.
        """
        infos = self.archive.infolist()
        if len(infos) > MAX_FILES:
            raise CorruptFileError(f"'{self.root}' has {len(infos):,} files; at most {MAX_FILES:,} are read")
        files = {info.filename.strip("/") for info in infos if not info.is_dir()}
        above = {
            "/".join(parts[:k]) for name in files if (parts := name.split("/")) for k in range(1, len(parts))
        }
        directories = {info.filename.strip("/") for info in infos if info.is_dir()} | above
        return [
            (name, is_directory)
            for names, is_directory in ((files, False), (directories, True))
            for name in names
            if name and not any(map(is_junk, name.split("/")))
        ]

    def read(self, name: str, size: int | None = None) -> bytes:
        """As in `FileTree`; never more than is declared, nor than 512 MiB.

        Raises:
            CorruptFileError: it is damaged, encrypted or too large.
        """
        label = f"'{self.root}/{name}'"
        try:
            if self.archive.getinfo(name).file_size > MAX_FILE_BYTES:
                raise CorruptFileError(f"{label} is too large; at most {MAX_FILE_BYTES:,} bytes are read")
            with self.archive.open(name) as file:
                return file.read(-1 if size is None else size)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            RuntimeError,
            NotImplementedError,
            KeyError,
        ) as error:
            raise CorruptFileError(f"{label} can't be unpacked ({error}); pack it again") from error
        except OSError as error:
            raise DataError(f"{label} can't be read: {error.strerror or error}") from error

    def stamp(self, name: str) -> tuple[object, ...]:
        """As in `FileTree`: the checksum that the archive has of it."""
        info = self.archive.getinfo(name)
        return info.file_size, info.CRC


@contextmanager
def open_tree(path: Path) -> Iterator[FileTree]:
    """The files of a directory or zip file.

    Raises:
        DataError: it can't be read.
        CorruptFileError: it is a damaged zip file.
    """
    if path.is_dir():
        yield DirectoryTree(path)
        return
    try:
        file = open_regular(path)
    except OSError as error:
        raise DataError(f"'{path}' can't be read: {error.strerror or error}") from error
    with file:
        try:
            archive = zipfile.ZipFile(file)
        except Exception as error:  # zipfile raises several types on damaged bytes
            raise CorruptFileError(
                f"'{path}' is a damaged zip file ({error}); download or pack it again"
            ) from error
        with archive:
            yield ZipTree(path, archive)


def is_junk(name: str) -> bool:
    """Whether an operating system or editor has put it there: hidden files, `__MACOSX`, `@eaDir`."""
    return name.startswith(".") or name.casefold() in JUNK


@dataclass(frozen=True)
class PictureFiles:
    """Picture files of a tree, opened one after the other."""

    tree: FileTree
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[str, Image.Image]]:
        """Each file's name for messages, and its picture."""
        for name in self.names:
            label = f"'{self.tree.root / name}'"
            yield label, open_image(self.tree.read(name), name=label)

    def stamps(self) -> list[tuple[object, ...]]:
        """Names, sizes and times of the files: the same as long as the pictures are.

        Raises:
            OSError: a file is gone.
        """
        return [(str(self.tree.root.absolute()), name, *self.tree.stamp(name)) for name in self.names]

"""Files of published datasets: found on this machine or downloaded once, and checked before they are read."""

import bz2
import gzip
import io
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import new as new_hash
from pathlib import Path
from urllib.parse import urlsplit

from inklab.data.sources import data_dir, is_offline
from inklab.errors import CorruptFileError, DatasetUnavailableError
from inklab.io.files import cache_dir, sha256_of

DOWNLOAD_TIMEOUT = 15.0  # seconds for all files of a dataset, unless `download_time` allows more
STALL_TIMEOUT = 5.0  # seconds without a byte, after which the next mirror is tried
CHUNK = 64 * 1024  # bytes
MIB = 1024**2

_seconds: ContextVar[float | int] = ContextVar("seconds", default=DOWNLOAD_TIMEOUT)


@dataclass(frozen=True)
class PublishedFile:
    """A file of a dataset.

    Attributes:
        name: as it is published.
        checksum: of the file as it is published, "sha256:..." or "md5:...".
        content_sha256: of its content, uncompressed, so that any compression is accepted; "" if unknown.
    """

    name: str
    checksum: str
    content_sha256: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names under which it lies on disks: also uncompressed and as on Kaggle.

        That is with a dot, or in a directory of the same name.
        """
        bare = self.name.removesuffix(".gz").removesuffix(".bz2")
        dotted = bare.replace("-idx", ".idx")
        unpacked = (f"{name}/{name}" for name in (bare, dotted))
        return tuple(dict.fromkeys((self.name, bare, dotted, f"{dotted}.gz", *unpacked)))


@dataclass(frozen=True)
class PublishedFiles:
    """The files of a dataset, and where they are published.

    Attributes:
        name: of the dataset, and of its directory in the data directory and the cache.
        mirrors: URLs without the file's name, in order of preference.
        files: all are needed.
        directories: other directories that may have them: below the data directory, or absolute ones.
        max_mib: upper bound of one file, as it is published and uncompressed.
        hints: files that other libraries leave in their own form; named if the dataset is missing.
    """

    name: str
    mirrors: tuple[str, ...]
    files: tuple[PublishedFile, ...]
    directories: tuple[str, ...] = ()
    max_mib: int = 128
    hints: tuple[str, ...] = ()

    @property
    def cache(self) -> Path:
        """Where downloaded files are kept."""
        return cache_dir("data") / self.name

    def read(self) -> list[bytes]:
        """The content of each file, uncompressed and checked; missing ones are downloaded.

        Raises:
            DatasetUnavailableError: it can't be obtained; says what was tried and what to do.
            CorruptFileError: a file in the user's directories is not the published one.
        """
        deadline = time.monotonic() + _seconds.get()
        if paths := self._on_this_machine():
            return [self._read(file, path) for file, path in zip(self.files, paths, strict=True)]
        return [self._fetch(file, deadline) for file in self.files]

    # ------------------------------------------------------------ on this machine

    def _directories(self) -> list[Path]:
        """The directories that the user or the system may have filled, in order of preference."""
        root = data_dir()
        below = (
            [self.name, *self.directories]
            if root
            else [path for path in self.directories if Path(path).is_absolute()]
        )
        return [(root or Path()) / path for path in below]

    def _on_this_machine(self) -> list[Path]:
        """The files of the first directory that has all; else none."""
        for directory in self._directories():
            present = self._in(directory)
            if len(present) == len(self.files):
                return list(present.values())
        return []

    def _in(self, directory: Path) -> dict[str, Path]:
        """The files that a directory has, by their published names."""
        paths = {
            file.name: next((path for name in file.names if (path := directory / name).is_file()), None)
            for file in self.files
        }
        return {name: path for name, path in paths.items() if path}

    def _read(self, file: PublishedFile, path: Path, *, is_download: bool = False) -> bytes:
        try:
            raw = path.read_bytes()
            content = decompress(raw, self.max_mib * MIB)
            check(file, raw, content, is_download=is_download)
        except (CorruptFileError, OSError) as error:
            raise CorruptFileError(f"'{path}': {error}; replace or remove it") from error
        return content

    # ------------------------------------------------------------ download

    def _fetch(self, file: PublishedFile, deadline: float) -> bytes:
        """The content of a file in the cache, downloaded if it is missing or damaged."""
        import pooch

        pooch.get_logger().setLevel("WARNING")
        path = self.cache / file.name
        if (content := self._read_genuine(file, path)) is not None:
            return content
        if is_offline():
            reason = "INKLAB_OFFLINE forbids the network"
            raise DatasetUnavailableError(self._advice(reason), reason)
        failures = []
        for mirror in self.mirrors:
            try:
                progress = _Deadline(deadline, self.max_mib * MIB)
                downloader = pooch.HTTPDownloader(
                    progressbar=progress,
                    chunk_size=CHUNK,
                    timeout=min(STALL_TIMEOUT, progress.remaining()),
                    headers={"Accept-Encoding": "identity"},
                )
                path.unlink(missing_ok=True)
                pooch.retrieve(mirror + file.name, None, file.name, self.cache, downloader=downloader)
                if (content := self._read_genuine(file, path)) is not None:
                    return content
                failures.append(f"{urlsplit(mirror).hostname}: another checksum")
            except (OSError, ValueError) as error:  # of requests
                failures.append(f"{urlsplit(mirror).hostname}: {_reason(error)}")
        path.unlink(missing_ok=True)
        tried = f"'{file.name}' could not be downloaded ({'; '.join(failures) or 'no mirror is known'})"
        raise DatasetUnavailableError(self._advice(tried), "no mirror could be reached")

    def _read_genuine(self, file: PublishedFile, path: Path) -> bytes | None:
        with suppress(CorruptFileError):
            return self._read(file, path, is_download=True) if path.is_file() else None
        return None

    def _advice(self, reason: str) -> str:
        root, names = data_dir(), [file.name for file in self.files]
        own = f"'{root / self.name}'" if root else f"$INKLAB_DATA_DIR/{self.name}"
        missing = next(
            (
                f"'{directory}' has no '{next(name for name in names if name not in present)}'"
                for directory in self._directories()
                if (present := self._in(directory))
            ),
            f"{own}{'' if root else ' (which is not set)'} and '{self.cache}' do not have all files",
        )
        ways = [f"put {', '.join(names)} into {own}"]
        ways += [
            f"use --data {hint}, which is there" for hint in self.hints if Path(hint).expanduser().exists()
        ]
        if self.name == "mnist":
            ways.append("use --data mnist-5k (5,000 digits, needs no network)")
        advice = ", or ".join(ways)
        return f"{self.name} is not available: {missing}, and {reason}. {advice[0].upper()}{advice[1:]}"


def _reason(error: Exception) -> str:
    """Why a mirror gave nothing, without the layers of libraries that a connection error names."""
    from requests.exceptions import ConnectionError, Timeout  # half a second, for downloads only

    if isinstance(error, Timeout):
        return "it did not answer in time"
    return "it can't be reached" if isinstance(error, ConnectionError) else " ".join(str(error).split())[:200]


@contextmanager
def download_time(seconds: float | int) -> Iterator[None]:
    """Allow downloads of a dataset so many seconds; 0 to do without any.

    Example:
        >>> with download_time(600):
        ...     pass  # load_dataset("emnist-letters")
    """
    token = _seconds.set(seconds)
    try:
        yield
    finally:
        _seconds.reset(token)


def decompress(raw: bytes, max_bytes: int) -> bytes:
    """The content of a gzip or bzip2 file; other bytes as they are.

    Raises:
        CorruptFileError: it is damaged, or larger than `max_bytes`.

    Example:
        >>> decompress(gzip.compress(b"images"), 100), decompress(b"images", 100)
        (b'images', b'images')
    """
    if raw[:2] == b"\x1f\x8b":
        opened: gzip.GzipFile | bz2.BZ2File = gzip.GzipFile(fileobj=io.BytesIO(raw))
    elif raw[:3] == b"BZh":
        opened = bz2.BZ2File(io.BytesIO(raw))
    else:
        return raw
    try:
        with opened:
            content = opened.read(max_bytes + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise CorruptFileError(f"it is damaged ({error})") from error
    if len(content) > max_bytes:
        raise CorruptFileError(f"it has more than {max_bytes:,} bytes uncompressed")
    return content


def check(file: PublishedFile, raw: bytes, content: bytes, *, is_download: bool) -> None:
    """Refuse bytes that are not those of a published file.

    A user's file that is not compressed is not checked here if the SHA-256 of the content is unknown; its
    shape and number of images are, later.

    Raises:
        CorruptFileError: the checksum differs.
    """
    method, _, expected = file.checksum.partition(":")
    if file.content_sha256:
        method, actual, expected = "sha256", sha256_of(content), file.content_sha256
    elif raw == content and file.name.endswith((".gz", ".bz2")) and not is_download:
        return
    else:
        digest = new_hash(method, usedforsecurity=False)
        digest.update(raw)
        actual = digest.hexdigest()
    if actual != expected:
        name = {"sha256": "SHA-256", "md5": "MD5"}[method]
        raise CorruptFileError(
            f"it has the {name} {actual[:12]}..., but the published file has {expected[:12]}..."
        )


class _Deadline:
    """Stands in for pooch's progress bar, and ends a download that takes too long or is too large."""

    def __init__(self, deadline: float, max_bytes: int) -> None:
        self.total = self.received = 0
        self._deadline, self._max_bytes = deadline, max_bytes

    def remaining(self) -> float:
        """Seconds until the deadline."""
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("not tried, since the time for downloads is used up")
        return seconds

    def update(self, count: int) -> None:
        """Take note of a chunk."""
        self.received += count
        if self.received > self._max_bytes:
            raise OSError(f"more than {self._max_bytes:,} bytes")
        self.remaining()

    def reset(self) -> None:
        """The download is complete; pooch then reports its total size once more."""
        self.received = 0

    def close(self) -> None:
        """Nothing is shown, so nothing is closed."""

"""Published files fetched from mirrors: one after the other, within a time limit, checked."""

import http.client
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlsplit

from inklab.errors import CorruptFileError, DatasetUnavailableError

DOWNLOAD_TIMEOUT = 15.0  # seconds for everything that one source needs
STALL_TIMEOUT = 5.0  # seconds without a byte after which a mirror is given up
MAX_DOWNLOAD = 128 * 1024**2  # bytes; Fashion-MNIST's largest file has 26 million
PIECE = 256 * 1024


def fetch(urls: Sequence[str], check: Callable[[bytes], None], *, deadline: float) -> bytes:
    """The content of the first of `urls` that answers and passes `check`.

    Args:
        urls: the same file on several mirrors, http or https, in order of preference.
        check: raises `CorruptFileError` if the content isn't the published one; then the next mirror is
            asked.
        deadline: on `time.monotonic`'s clock; no mirror is waited for beyond it.

    Raises:
        DatasetUnavailableError: no mirror had it; says what each answered.
    """
    failures = []
    for url in urls:
        try:
            content = _content(url, deadline)
            check(content)
            return content
        except (OSError, http.client.HTTPException, CorruptFileError) as error:
            failures.append(f"{urlsplit(url).hostname}: {getattr(error, 'reason', None) or error}")
    raise DatasetUnavailableError("; ".join(failures) or "no mirror is known")


def _content(url: str, deadline: float) -> bytes:
    content = bytearray()
    for piece in _pieces(url, deadline):
        content += piece
        if len(content) > MAX_DOWNLOAD:
            raise CorruptFileError(f"more than {MAX_DOWNLOAD:,} bytes")
    return bytes(content)


def _pieces(url: str, deadline: float) -> Iterator[bytes]:
    """Pieces of a download as they come, read in a thread: looking up a host can't be timed otherwise."""
    line: queue.Queue[bytes | Exception] = queue.Queue()
    stop = threading.Event()
    threading.Thread(target=_read, args=(url, line, stop), daemon=True).start()
    try:
        while True:
            try:
                piece = line.get(timeout=max(0.0, min(STALL_TIMEOUT, deadline - time.monotonic())))
            except queue.Empty:
                raise TimeoutError("too slow, or no answer") from None
            if isinstance(piece, Exception):
                raise piece
            if not piece:
                return
            yield piece
    finally:
        stop.set()


def _read(url: str, line: "queue.Queue[bytes | Exception]", stop: threading.Event) -> None:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen  # 60 ms, needed on the first use of a source only

    try:
        with urlopen(Request(url, headers={"User-Agent": "inklab"}), timeout=STALL_TIMEOUT) as answer:
            while not stop.is_set() and (piece := answer.read(PIECE)):
                line.put(piece)
        line.put(b"")
    except HTTPError as error:
        error.close()  # it is also the answer, with a socket of its own
        line.put(OSError(f"HTTP {error.code} {error.reason}"))
    except Exception as error:  # crosses to the thread that waits
        line.put(error)

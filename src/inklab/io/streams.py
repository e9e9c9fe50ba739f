"""The standard streams of a process: output that nobody reads any more ends nothing."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class GuardedStream:
    """A stream whose reader may have gone, as in `inklab run 2>&1 | head`: the rest is discarded.

    Args:
        stream: stdout or stderr.
        is_result: other failures, such as a full disk, are errors. Of progress and notes they are none.
    """

    def __init__(self, stream: TextIO, *, is_result: bool) -> None:
        self._stream, self._is_result = stream, is_result

    def __getattr__(self, name: str) -> Any:
        """Everything but writing is that of the stream."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, or discard it.

        Raises:
            OSError: results can't be written, and their reader is still there.
        """
        with self._reader_may_be_gone():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Pass on what was written, or discard it; errors as above."""
        with self._reader_may_be_gone():
            self._stream.flush()

    @contextmanager
    def _reader_may_be_gone(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # What its buffer holds, and what other processes write there, goes where nothing fails.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
            if self._is_result and not isinstance(error, BrokenPipeError):
                raise OSError(error.errno, error.strerror, "stdout") from error


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Meanwhile stdout and stderr can be written to, whether they are open, closed or no longer read.

    Example:
        >>> with guarded_streams():
        ...     print("a result")
        a result
    """
    before = sys.stdin, sys.stdout, sys.stderr
    _open_closed_descriptors()
    null = open(os.devnull, "r+", encoding="utf-8")
    sys.stdin = sys.stdin or null
    sys.stdout = GuardedStream(sys.stdout or null, is_result=True)
    sys.stderr = GuardedStream(sys.stderr or null, is_result=False)
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
        null.close()


def _open_closed_descriptors() -> None:
    """Occupy the numbers 0 to 2, so that no file gets them that warnings of a library would be written to."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)

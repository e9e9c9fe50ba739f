"""The progress of a study as server-sent events: one poll of the run directory for all subscribers."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator

from inklab.errors import InklabError
from inklab.records.record import REPORT_FILE, RESULTS_FILE
from inklab.records.results import Results
from inklab.records.status import Progress
from inklab.serve.middleware import service_unavailable
from inklab.serve.schemas import StudyResponse
from inklab.study.monitor import RunMonitor
from inklab.study.run_directory import RunDirectory

POLL_SECONDS = 1.0  # between two polls, while there are subscribers
MAX_CPU_SHARE = 0.1  # of a core for polling: a run with 10,000 trials is polled less often
HEARTBEAT_SECONDS = 15.0  # after which a comment is sent, so that a dead connection is noticed

log = logging.getLogger("inklab.serve")


class ProgressStream:
    """Polls a run while it has subscribers.

    Args:
        directory: directory of the run.
        max_subscribers: at once.
        heartbeat_seconds: after which a silent stream sends a comment.
    """

    def __init__(
        self,
        directory: RunDirectory,
        max_subscribers: int,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.heartbeat_seconds = heartbeat_seconds
        self.subscribers, self.polls, self.closed = 0, 0, False
        self._directory, self._max_subscribers = directory, max_subscribers
        self._monitor = RunMonitor(directory)
        self._polling = asyncio.Lock()
        self._polled_at, self._poll_cost = -1e9, 0.0
        self._progress: Progress | None = None
        self._changed = asyncio.Condition()
        self._watcher: asyncio.Task[None] | None = None

    @property
    def is_watching(self) -> bool:
        """Whether it polls by itself."""
        return self._watcher is not None and not self._watcher.done()

    async def study(self) -> StudyResponse:
        """Results, if they are written, and progress.

        Raises:
            CorruptFileError: the run is damaged.
        """
        progress = await self.progress()
        results = await asyncio.to_thread(self._read_results)
        has_report = (self._directory.path / REPORT_FILE).is_file()
        return StudyResponse(results=results, progress=progress, has_report=has_report)

    def _read_results(self) -> Results | None:
        try:
            return Results.read(self._directory.path / RESULTS_FILE)
        except FileNotFoundError:
            return None

    async def progress(self) -> Progress:
        """How far the run is; at most about a second old.

        Raises:
            CorruptFileError: the run is damaged.
        """
        async with self._polling:
            if self._progress is None or time.monotonic() - self._polled_at >= self._interval:
                started = time.monotonic()
                progress = await asyncio.to_thread(self._monitor.poll)
                self._polled_at, self.polls = time.monotonic(), self.polls + 1
                self._poll_cost = self._polled_at - started
                if progress != self._progress:
                    self._progress = progress
                    async with self._changed:
                        self._changed.notify_all()
            return self._progress

    @property
    def _interval(self) -> float:
        return max(POLL_SECONDS, self._poll_cost / MAX_CPU_SHARE)

    async def events(self) -> AsyncIterator[bytes]:
        """Progress as events: one at once and one for each change, until the run or the server ends.

        Raises:
            HttpError: there are too many subscribers, or the server ends (503).
        """
        if self.closed or self.subscribers >= self._max_subscribers:
            raise service_unavailable("too many clients follow this study already", 10)
        self.subscribers += 1
        try:
            progress = await self.progress()
            if not self.is_watching:
                self._watcher = asyncio.create_task(self._watch())
            yield _event(progress)
            while progress.state != "finished" and not self.closed:
                latest = await self._wait_for_change(progress)
                yield b": still here\n\n" if latest is progress else _event(latest)
                progress = latest
        finally:
            self.subscribers -= 1

    async def _wait_for_change(self, progress: Progress) -> Progress:
        """The next progress; the same after a while without any, and when all streams are closed."""
        try:
            async with asyncio.timeout(self.heartbeat_seconds), self._changed:
                await self._changed.wait_for(lambda: self.closed or self._progress is not progress)
        except TimeoutError:
            pass
        return self._progress or progress

    async def _watch(self) -> None:
        while self.subscribers and not self.closed:
            await asyncio.sleep(self._interval)
            try:
                await self.progress()
            except InklabError as error:  # half written, or deleted; the next poll may succeed
                log.warning("%s", error)

    async def close(self) -> None:
        """End all streams."""
        async with self._changed:
            self.closed = True
            self._changed.notify_all()
        if self._watcher is not None:
            self._watcher.cancel()


def _event(progress: Progress) -> bytes:
    return f"event: progress\ndata: {progress.model_dump_json()}\n\n".encode()

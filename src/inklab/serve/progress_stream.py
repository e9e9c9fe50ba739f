"""The study while it runs: one look at its folder for all who follow it, sent as server-sent events."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from inklab.errors import InklabError
from inklab.serve.catalog import read_results
from inklab.serve.limits import HttpError, service_unavailable
from inklab.study.monitor import RunMonitor
from inklab.study.run_directory import RunDirectory

POLL_INTERVAL = 1.0  # seconds between two looks, as long as somebody follows
MAX_CPU_SHARE = (
    0.1  # of a core that looking may take at most: a run with 10,000 trials is looked at less often
)
HEARTBEAT = 15.0  # seconds after which a line is sent so that a dead connection is noticed

log = logging.getLogger("inklab.serve")


class ProgressStream:
    """Looks at a run while somebody follows it.

    Args:
        folder: the run.
        listeners: that may follow at once.
    """

    def __init__(self, folder: RunDirectory, listeners: int) -> None:
        self._folder, self._most = folder, listeners
        self._onlooker = RunMonitor(folder)
        self._looking = asyncio.Lock()
        self._looked, self._cost = -1e9, 0.0
        self._progress: dict[str, Any] = {}
        self._text = ""
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.listeners, self.looks, self.closed = 0, 0, False

    async def study(self) -> dict[str, Any]:
        """Results and progress, as the page asks for them.

        Raises:
            CorruptFileError: the run is damaged.
        """
        progress = await self.progress()
        return {"results": await asyncio.to_thread(read_results, self._folder) or None, "progress": progress}

    async def progress(self) -> dict[str, Any]:
        """How far the run is; at most a second old."""
        async with self._looking:
            if time.monotonic() - self._looked >= max(POLL_INTERVAL, self._cost / MAX_CPU_SHARE):
                began = time.monotonic()
                self._progress = await asyncio.to_thread(self._onlooker.look)
                self._looked, self.looks = time.monotonic(), self.looks + 1
                self._cost = self._looked - began
            return self._progress

    async def events(self) -> AsyncIterator[bytes]:
        """Progress as events: one at once, one whenever it changed; ends with the run, or when all is closed.

        Raises:
            HttpError: too many follow already (503), or the server ends.
        """
        if self.closed or self.listeners >= self._most:
            raise service_unavailable("too many follow this study already", 10)
        self.listeners += 1
        try:
            await self._look_again()
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._watch())
            sent = ""
            while not self.closed:
                if self._text != sent:
                    sent = self._text
                    yield f"event: progress\ndata: {sent}\n\n".encode()
                if self._progress.get("state") == "finished":
                    return
                if not await self._changed(sent):
                    yield b": still here\n\n"
        finally:
            self.listeners -= 1

    async def _changed(self, sent: str) -> bool:
        """Wait for news, but not for ever."""
        try:
            async with asyncio.timeout(HEARTBEAT), self._news:
                await self._news.wait_for(lambda: self.closed or self._text != sent)
        except TimeoutError:
            return False
        return True

    async def _watch(self) -> None:
        while self.listeners and not self.closed:
            await asyncio.sleep(max(POLL_INTERVAL, self._cost / MAX_CPU_SHARE))
            try:
                await self._look_again()
            except InklabError as error:  # half written by something else, or deleted: the next look may do
                log.warning("%s", error)

    async def _look_again(self) -> None:
        text = json.dumps(await self.progress(), allow_nan=False)
        if text != self._text:
            async with self._news:
                self._text = text
                self._news.notify_all()

    async def close(self) -> None:
        """End all who follow."""
        async with self._news:
            self.closed = True
            self._news.notify_all()
        if self._task is not None:
            self._task.cancel()


def no_study() -> HttpError:
    """What is answered where a lone bundle is served."""
    return HttpError(404, "a bundle alone is served, so there is no study to follow; serve a run instead")

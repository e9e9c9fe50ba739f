"""Requests that wait for the same network are answered in one pass, by one thread."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np

from inklab.serve.limits import HttpError, service_unavailable

Network = Callable[[np.ndarray], tuple[np.ndarray, ...]]
"""Maps `(b, ...)` floats to arrays of b rows each."""

Answer = tuple[np.ndarray, ...]
MAX_BATCH = 16
"""Rows of one pass, unless one request has more. The study's cnn takes 0.29 ms for one, 0.23 a row for 8 and
0.26 for 64: larger passes gain nothing, and answers of small ones are written while the next is computed."""

log = logging.getLogger("inklab.serve")


@dataclass(eq=False, slots=True)
class _Job:
    network: str
    rows: np.ndarray
    answer: "asyncio.Future[Answer]"


class Batcher:
    """Networks by id, and a thread that asks them.

    A job that finds the thread idle is run at once, alone; those that come meanwhile gather and go together.
    So nothing waits for company, and passes grow with the load. Jobs of cancelled requests are left out.

    Args:
        waiting: bytes of rows, as floats, that may wait; what comes on top is refused.
    """

    def __init__(self, waiting: int) -> None:
        self.networks: dict[str, Network] = {}
        self._most_waiting, self._waiting = waiting, 0
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="inklab networks", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to answer; called in the event loop that will ask."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End the thread after what it is at."""
        self._queue.put(None)

    def ask(self, network: str, rows: np.ndarray) -> "asyncio.Future[Answer]":
        """What a network makes of some rows; called in the event loop.

        Args:
            network: its id.
            rows: `(b, ...)` bytes, which become floats in [0, 1], or floats as they are.

        Raises:
            HttpError: too much waits already (503).
        """
        assert self._loop is not None
        if self._waiting + 4 * rows.size > self._most_waiting and self._waiting:
            raise service_unavailable("too many images wait for the networks")
        self._waiting += 4 * rows.size
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._queue.put(_Job(network, rows, answer))
        return answer

    def _work(self) -> None:
        waiting: list[_Job] = []
        while True:
            try:
                job = self._queue.get(block=not waiting)
            except Empty:
                waiting = self._pass(waiting)
                continue
            if job is None:
                return
            waiting.append(job)

    def _pass(self, waiting: Sequence[_Job]) -> list[_Job]:
        """Ask the network that has been waited for longest; what is left waits on."""
        chosen: list[_Job] = []
        left: list[_Job] = []
        rows = 0
        for job in waiting:
            fits = job.network == waiting[0].network and (not chosen or rows + len(job.rows) <= MAX_BATCH)
            (chosen if fits else left).append(job)
            rows += len(job.rows) if fits else 0
        wanted = [job for job in chosen if not job.answer.cancelled()]
        found = self._answers(wanted) if wanted else []
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._hand_out, chosen, wanted, found)
        except RuntimeError:  # the loop has ended: nobody waits any more
            return []
        return left

    def _answers(self, jobs: Sequence[_Job]) -> list[Answer] | Exception:
        try:
            rows = [_floats(job.rows) for job in jobs]
            made = self.networks[jobs[0].network](rows[0] if len(rows) == 1 else np.concatenate(rows))
        except Exception as error:  # told to those who asked; the thread goes on
            log.exception("a network failed")
            return error
        ends = np.cumsum([len(job.rows) for job in jobs])
        return [
            tuple(part[end - len(job.rows) : end] for part in made)
            for job, end in zip(jobs, ends, strict=True)
        ]

    def _hand_out(
        self, done: Sequence[_Job], wanted: Sequence[_Job], found: Sequence[Answer] | Exception
    ) -> None:
        self._waiting -= sum(4 * job.rows.size for job in done)
        for place, job in enumerate(wanted):
            if job.answer.done():  # cancelled meanwhile
                continue
            if isinstance(found, Exception):
                job.answer.set_exception(HttpError(500, f"the network '{job.network}' failed: {found}"))
            else:
                job.answer.set_result(found[place])


def _floats(rows: np.ndarray) -> np.ndarray:
    """Bytes divided by 255, once, as everywhere; floats as they are."""
    return rows.astype(np.float32) / np.float32(255) if rows.dtype == np.uint8 else rows

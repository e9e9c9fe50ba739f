"""An executor that does its jobs in this process: for proofs that need thousands of runs."""

import traceback
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from inklab.errors import InklabError, WriteError
from inklab.study.executor import Event
from inklab.study.job_context import JobContext
from inklab.study.jobs import run_job


class InlineExecutor:
    """One job after the other, as a worker would do it."""

    def __init__(self, bench: JobContext, work: Path, workers: int) -> None:
        self.bench, self.work = bench, work
        self.queue: deque[dict[str, Any]] = deque()

    def __enter__(self) -> "InlineExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, job: dict[str, Any]) -> None:
        self.queue.append(job)

    def events(self) -> Iterator[Event]:
        while self.queue:
            job = self.queue.popleft()
            yield Event("started", job["name"])
            draft = self.work / "inline" / uuid4().hex
            try:
                yield Event("done", job["name"], (run_job(job, self.bench, draft, self), draft))
            except WriteError:
                raise
            except InklabError as error:
                yield Event("failed", job["name"], str(error))
            except Exception:
                yield Event("failed", job["name"], traceback.format_exc())

    def epoch(self, epoch: int, epochs: int, loss: float) -> None:
        pass

    def warn(self, text: str) -> None:
        pass

    def asked_to_stop(self) -> bool:
        return False

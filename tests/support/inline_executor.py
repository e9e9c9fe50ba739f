"""An executor that runs its jobs in this process: for tests that need many runs, or look into one."""

import traceback
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from inklab.errors import InklabError, WriteError
from inklab.study.jobs import EpochEnded, Failed, Job, JobContext, JobEvent, Started
from inklab.study.worker import run_job


class InlineExecutor:
    """One job after the other, as a worker would run it."""

    def __init__(self, context: JobContext, work_dir: Path, workers: int) -> None:
        self.context, self.work_dir = context, work_dir
        self.queue: deque[Job] = deque()

    def __enter__(self) -> "InlineExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, job: Job) -> None:
        self.queue.append(job)

    def events(self) -> Iterator[JobEvent]:
        while self.queue:
            job = self.queue.popleft()
            yield Started(job)
            try:
                self.job = job
                self.epochs: list[JobEvent] = []
                done = run_job(job, self.context, self.work_dir / "inline" / uuid4().hex, self)
                yield from self.epochs
                yield done
            except WriteError:
                raise
            except InklabError as error:
                yield Failed(job, str(error))
            except Exception:
                yield Failed(job, traceback.format_exc())

    def epoch_ended(self, epoch: int, epochs: int, train_loss: float) -> None:
        self.epochs.append(EpochEnded(self.job, epoch, epochs, train_loss))

    def warn(self, message: str) -> None:
        pass

    def checkpoint_written(self, path: Path) -> None:
        pass

    def should_stop(self) -> bool:
        return False

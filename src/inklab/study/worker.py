"""A worker process: does one job after the other until the driver's end of the pipe closes."""

import signal
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from inklab.errors import InklabError, Unwritable
from inklab.machine import keep_freed_memory
from inklab.study.bench import Bench

BEAT = 5.0  # seconds between two signs of life


@dataclass
class PipeLine:
    """A job's line to the driver, through a pipe. A driver that is gone has asked to stop."""

    pipe: Connection
    gone: bool = False
    beat: float = 0.0

    def say(self, kind: str, value: object = None) -> None:
        """Send something to the driver."""
        try:
            self.pipe.send((kind, value))
        except OSError:
            self.gone = True

    def epoch(self, epoch: int, epochs: int, loss: float) -> None:
        """An epoch of a training has ended."""
        self.say("epoch", (epoch, epochs, loss))

    def warn(self, text: str) -> None:
        """Something that the user should know."""
        self.say("warned", text)

    def asked_to_stop(self) -> bool:
        """Whether the driver has said something, which during a job can only be that, or has died."""
        if time.monotonic() >= self.beat:
            self.beat = time.monotonic() + BEAT
            self.say("training")
        return self.gone or self.pipe.poll()


def serve(pipe: Connection, bench: Bench) -> None:
    """A worker's life."""
    # Ctrl-C and a SIGTERM for the whole group reach it too; the driver decides, and kills what must end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    import torch

    torch.set_num_threads(bench.threads)
    keep_freed_memory()
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        if task is None:
            return
        job, draft = task
        line = PipeLine(pipe)
        line.say(*_done(job, bench, Path(draft), line))


def _done(job: dict[str, Any], bench: Bench, draft: Path, line: PipeLine) -> tuple[Any, ...]:
    """Do a job; what to say of it."""
    from inklab.study.jobs import perform
    from inklab.train.checkpoint import Interrupted

    try:
        return "done", perform(job, bench, draft, line)
    except Interrupted:
        return "stopped", None
    except Unwritable as error:
        return "unwritable", (error.filename, error.errno)
    except InklabError as error:
        return "failed", str(error)
    except Exception:  # a crash becomes an outcome, so that no failure is lost
        return "failed", traceback.format_exc()

"""What a process of the local executor does: it waits for jobs, runs them, and reports.

This module is imported before anything else in the process, so it imports nothing that may fail: an import
that does is reported, where the process would end with nothing but an exit code.
"""

import pickle
import signal
import traceback
import warnings
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inklab.study.jobs import Job, JobContext


@dataclass(frozen=True)
class StartFailed:
    """A process can't run any job, because what all jobs need can't be imported there."""

    reason: str


def start_worker(pipe: Connection, content: bytes) -> None:
    """Run jobs that arrive, until None arrives or the pipe is closed.

    Args:
        pipe: to the process that drives the run.
        content: the pickled `JobContext` of all jobs; restoring it imports most of inklab.
    """
    # Signals for the whole process group reach workers, too: Ctrl-C, SIGTERM, the warnings of a batch system.
    # The parent decides what to do.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    try:
        context: JobContext = pickle.loads(content)  # of this process's own parent
        import inklab.study.executors.local_executor  # noqa: F401
    except BaseException:  # a module of the user's may shadow one of a library and raise or exit
        with suppress(OSError):
            pipe.send(StartFailed(traceback.format_exc()))
        return
    _run_worker(pipe, context)


def _run_worker(pipe: Connection, context: "JobContext") -> None:
    from inklab.hardware import disable_malloc_trim
    from inklab.io.streams import guarded_streams
    from inklab.study.executor import run_attempt
    from inklab.study.executors.local_executor import PipeReporter
    from inklab.usercode import install_live

    # Of networks that torch can stack, but not fast; the plan is no worse for it.
    warnings.filterwarnings("ignore", "There is a performance drop because we have not yet implemented")
    install_live(dict(context.live_objects))
    disable_malloc_trim()
    with guarded_streams():  # a network may print although its output is closed
        while task := _next_task(pipe):
            reporter = PipeReporter(pipe, task[0])
            reporter.send(run_attempt(*task, context, reporter))


def _next_task(pipe: Connection) -> "tuple[Job, Path] | None":
    task: tuple[Job, Path] | None = None
    with suppress(EOFError, OSError):
        task = pipe.recv()
    return task

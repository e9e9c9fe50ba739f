"""What a SLURM job of a run does: it takes jobs from the shared queue, runs them, and reports.

The jobs run in processes of a local executor, so one that crashes does not end the SLURM job. Before its time
is up, or when it is preempted, SLURM sends a signal: trainings leave a checkpoint, their jobs go back into
the queue, and the SLURM job is queued again.
"""

import secrets
import signal
import socket
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from inklab.errors import WriteError
from inklab.study.executor import WriteRefused
from inklab.study.executors.local_executor import LocalExecutor
from inklab.study.executors.node_facts import NodeFacts
from inklab.study.executors.shared_queue import SharedQueue
from inklab.study.jobs import JobContext, JobEvent

STEP_SECONDS = 1.0  # between two looks at the queue while jobs run
IDLE_SECONDS = 0.2  # and while none does
HEARTBEAT_SECONDS = 30.0
DRIVER_TIMEOUT_SECONDS = 600.0  # without a beat, until the process that drives the run is taken for dead


@dataclass(frozen=True)
class WorkerStarted:
    """A SLURM job runs now, for the first time or again, on a host."""

    host: str


@dataclass(frozen=True)
class WorkerRefused:
    """The node computes other numbers than the others, so the SLURM job has ended."""

    host: str
    differences: str


@dataclass(frozen=True)
class WorkerStopped:
    """A SLURM job runs no jobs any more; what it had claimed is to be run by others."""


@dataclass(frozen=True)
class WorkerHeartbeat:
    """A SLURM job lives."""


@dataclass(frozen=True)
class WorkerEvent:
    """What happened to the job that was offered under a number."""

    number: int
    event: JobEvent


WorkerMessage = WorkerStarted | WorkerRefused | WorkerStopped | WorkerHeartbeat | WorkerEvent | WriteRefused
"""What a SLURM job sends."""


class _Interrupted(Exception):
    """The jobs of this SLURM job are to stop."""


@dataclass(frozen=True)
class SlurmWorker:
    """The function of a SLURM job. Submitit pickles it, and calls it on a node.

    Args:
        queue: directory of the shared queue.
        index: of this SLURM job in its run.
        processes: jobs side by side.
        context: handed to every job.
        driver: facts of the machine of the process that drives the run; versions must be equal.
    """

    queue: Path
    index: int
    processes: int
    context: JobContext
    driver: NodeFacts

    def __call__(self) -> None:
        """Run jobs until the session ends, or SLURM ends this."""
        with_signals = _Signals()
        session = _WorkerSession(
            SharedQueue(self.queue), f"{self.index}-{secrets.token_hex(4)}", with_signals
        )
        session.send(WorkerStarted(socket.gethostname()))
        own = NodeFacts.current()
        agreed = session.queue.agree(own)
        expected = replace(
            self.driver, processor=agreed.processor, precision=agreed.precision,
            instructions=agreed.instructions,
        )  # fmt: skip
        if differences := own.differences(expected):
            session.send(WorkerRefused(socket.gethostname(), differences))
            return
        try:
            with LocalExecutor(self.context, self.queue.parent, self.processes) as executor:
                session.run_jobs(executor, self.processes)
        except _Interrupted:
            pass
        except WriteError as error:
            session.send(WriteRefused(error.filename, error.errno or 0))
        session.send(WorkerStopped())
        with_signals.end()

    def checkpoint(self) -> Any:
        """What submitit queues again: the same. Trainings have left checkpoints of their own."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class _Signals:
    """The signals of SLURM and submitit, which are acted upon between two looks at the queue."""

    def __init__(self) -> None:
        from submitit.core.job_environment import JobEnvironment

        # Of the end of the time, or of preemption.
        self._warning = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
        self._requeue = signal.getsignal(self._warning)
        self.received: int | None = None
        for number in (self._warning, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: object) -> None:
        self.received = number

    def end(self) -> None:
        """End this process as the signal demands: queued again by submitit after a warning."""
        if self.received == self._warning and callable(self._requeue):
            self._requeue(self._warning, None)
        if self.received is not None:  # not by returning, which submitit takes for the end of all work
            sys.exit(128 + self.received)


@dataclass
class _WorkerSession:
    """A worker's side of the shared queue."""

    queue: SharedQueue
    name: str
    signals: _Signals
    _sent: int = field(default=0, init=False)
    _numbers: dict[str, int] = field(default_factory=dict, init=False)  # of the jobs that run, by name
    _next_heartbeat: float = field(default=0.0, init=False)
    _beat: tuple[bytes, float] = field(default=(b"", -1.0), init=False)

    def send(self, message: WorkerMessage) -> None:
        """Send a message, unless the session has ended, since nothing reads it then."""
        try:
            self.queue.send(self.name, self._sent, message)
        except WriteError:
            if self.queue.path.is_dir():
                raise
        self._sent += 1

    def run_jobs(self, executor: LocalExecutor, processes: int) -> None:
        """Claim jobs and run them.

        Raises:
            _Interrupted: it is to stop.
            WriteError: the disk refuses.
        """
        while True:
            self._check_stop()
            while len(self._numbers) < processes and (claimed := self.queue.claim(self.name)):
                number, job = claimed
                self._numbers[job.name] = number
                executor.submit(job)
            if not self._numbers:
                time.sleep(IDLE_SECONDS)
                continue
            for event in executor.step(STEP_SECONDS):
                self.send(WorkerEvent(self._numbers[event.job.name], event))
                if event.is_terminal:
                    del self._numbers[event.job.name]

    def _check_stop(self) -> None:
        now = time.monotonic()
        if self.signals.received is not None or self.queue.has_stopped:
            raise _Interrupted
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + HEARTBEAT_SECONDS
            self.send(WorkerHeartbeat())
            beat, since = self._beat
            if beat != (current := self.queue.last_beat) or since < 0:
                self._beat = (current, now)
            elif now - since > DRIVER_TIMEOUT_SECONDS:
                raise _Interrupted

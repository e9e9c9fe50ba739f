"""The contract of executors, which run jobs somewhere, and what all of them share (docs/executors.md).

The executors themselves are modules of `inklab.study.executors`.
"""

import time
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from inklab.errors import ConfigError, InklabError, WriteError
from inklab.io.files import fingerprint
from inklab.registry import Registry
from inklab.study.jobs import EpochEnded, Failed, Job, JobContext, JobEvent, Lost, Retried, Warned
from inklab.study.run_directory import new_attempt_dir

if TYPE_CHECKING:
    from inklab.study.worker import JobReporter  # torch

HEARTBEAT_SECONDS = 5.0  # between two heartbeats of a training

HANG_TIMEOUT_SECONDS = 1800.0
"""Without a message until a worker is killed. An evaluation says nothing until it ends."""

SHUTDOWN_GRACE_SECONDS = 30.0  # that a training gets for its last step and checkpoint
MAX_ATTEMPTS = 2  # at a job whose worker dies; then it is lost
MAX_NODE_LOSSES = 20
"""Nodes that a job may lose before it is taken to be the reason. Preempted machines vanish often."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@runtime_checkable
class Executor(Protocol):
    """Runs jobs. Each job has exactly one event that is terminal; no error of a job is raised here."""

    def submit(self, job: Job) -> None:
        """Queue a job; jobs start in the order in which they are submitted."""

    def events(self) -> Iterator[JobEvent]:
        """What happens, until every submitted job has ended. More may be submitted meanwhile.

        Raises:
            WriteError: the disk refuses; no job can do anything about it.
            RunError: nothing is left that could run the jobs.
        """


ExecutorFactory = Callable[[JobContext, Path, int], AbstractContextManager[Executor]]
"""Of the context of all jobs, a directory for attempts and how many jobs may run side by side."""


# ---------------------------------------------------------------- by name


@dataclass(frozen=True)
class ExecutorOptions:
    """What the user requests of an executor.

    Attributes:
        workers: jobs side by side at most; None: as many as the executor finds room for.
        address: of a cluster; None: this machine.
        settings: of the batch system, by name.
    """

    workers: int | None = None
    address: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def refuse_settings(self, name: str) -> None:
        """Raise ConfigError if there are settings: the executor called `name` has none."""
        if self.settings:
            raise ConfigError(
                f"the executor '{name}' has no settings such as --slurm {next(iter(self.settings))}; add "
                '--executor slurm (executor="slurm" in Python), or leave the setting out'
            )


@dataclass(frozen=True)
class ExecutorKind:
    """A registered executor.

    Attributes:
        name: for `--executor` and `executor=`.
        summary: one sentence for lists.
        configure: gives the factory; raises ConfigError for options that it has no use for, or if a library
            that it needs is not installed.
    """

    name: str
    summary: str
    configure: Callable[[ExecutorOptions], ExecutorFactory]


executors: Registry[ExecutorKind] = Registry("executor", "inklab.study.executors")

F = TypeVar("F", bound=Callable[[ExecutorOptions], ExecutorFactory])


def executor(name: str) -> Callable[[F], F]:
    """Register a function from options to a factory; the first line of its docstring is the summary."""

    def register(function: F) -> F:
        summary = (function.__doc__ or "").strip().partition("\n")[0]
        return executors.add_function(name, ExecutorKind(name, summary, function), function)

    return register


def executor_factory(executor: str | ExecutorFactory, options: ExecutorOptions) -> ExecutorFactory:
    """The factory behind a registered name; one of your own is returned as it is.

    Raises:
        UnknownNameError: no executor has this name.
        ConfigError: the executor has no use for the options, or a library that it needs is not installed.
    """
    return executors[executor].configure(options) if isinstance(executor, str) else executor


def refuse_gpu(context: JobContext, name: str) -> None:
    """Raise ConfigError if a run trains on a GPU: the executor called `name` has processors only."""
    if not context.device.is_cpu:
        raise ConfigError(
            f"the executor '{name}' trains on processors only, not on '{context.device.name}'; add "
            f'--device cpu (device="cpu" in Python), or leave --executor {name} out'
        )


# ---------------------------------------------------------------- attempts at jobs


@dataclass
class AttemptQueue:
    """Jobs that wait, and the attempts at each: in the process that drives the run.

    Args:
        work_dir: each attempt has a directory of its own below it.
    """

    work_dir: Path
    waiting: deque[Job] = field(default_factory=deque, init=False)
    _attempts: dict[str, int] = field(default_factory=dict, init=False)

    def add(self, job: Job) -> None:
        """Queue a new job."""
        self._attempts[job.name] = 0
        self.waiting.append(job)

    def begin(self) -> tuple[Job, Path]:
        """Take the next job, and make the directory of this attempt at it. Raises WriteError."""
        job = self.waiting.popleft()
        self._attempts[job.name] += 1
        return job, new_attempt_dir(self.job_dir(job))

    def job_dir(self, job: Job) -> Path:
        """The directory of all attempts at a job."""
        return self.work_dir / fingerprint(job.name)

    def retry(self, job: Job, reason: str) -> Retried:
        """Queue a job once more, before all others, without an attempt counted: it was not to blame."""
        self._attempts[job.name] -= 1
        self.waiting.appendleft(job)
        return Retried(job, reason)

    def died(self, job: Job, reason: str) -> Retried | Lost:
        """What follows from the death of a job's worker: one more attempt, from its checkpoint, or none."""
        if self._attempts[job.name] >= MAX_ATTEMPTS:
            return Lost(job, f"{reason}, {MAX_ATTEMPTS} times")
        self.waiting.appendleft(job)
        return Retried(job, reason)


# ---------------------------------------------------------------- in the worker


class WorkerSignal(Enum):
    """What a worker sends besides events."""

    HEARTBEAT = "a training takes steps, so it can be stopped with a checkpoint"
    STOPPED = "a training was to stop, and has left a checkpoint"


@dataclass(frozen=True)
class WriteRefused:
    """The disk refuses a file, with an error number of the system's."""

    path: str
    errno: int


Message = JobEvent | WorkerSignal | WriteRefused
"""What a worker sends."""


class MessageReporter(ABC):
    """Connects a job with the process that drives the run: what all executors report, and when.

    An executor says how messages travel, and how it asks a job to stop.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._next_heartbeat = 0.0

    @abstractmethod
    def send(self, message: Message) -> None:
        """Send a message."""

    @abstractmethod
    def stop_requested(self) -> bool:
        """Whether the process that drives the run wants the job to end."""

    def epoch_ended(self, epoch: int, epochs: int, train_loss: float) -> None:
        """Report an epoch of a training."""
        self.send(EpochEnded(self.job, epoch, epochs, train_loss))

    def warn(self, message: str) -> None:
        """Report something that the user should know."""
        self.send(Warned(self.job, message))

    def should_stop(self) -> bool:
        """Whether the job is to end; asking also counts as a heartbeat."""
        if time.monotonic() >= self._next_heartbeat:
            self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
            self.send(WorkerSignal.HEARTBEAT)
        return self.stop_requested()


def run_attempt(job: Job, attempt_dir: Path, context: JobContext, reporter: "JobReporter") -> Message:
    """Run a job; the message that it ends with. An import that fails here fails the job, and says why."""
    try:
        import torch

        from inklab.study.worker import run_job
        from inklab.training.checkpoint import TrainingInterrupted

        torch.set_num_threads(context.threads)
        try:
            return run_job(job, context, attempt_dir, reporter)
        except TrainingInterrupted:
            return WorkerSignal.STOPPED
    except WriteError as error:
        return WriteRefused(error.filename, error.errno or 0)
    except InklabError as error:
        return Failed(job, str(error))
    except SystemExit as error:
        return Failed(job, f"its code ended Python (SystemExit: {error.code}); nothing it calls may exit")
    except BaseException:  # a crash becomes an outcome, so that no failure is lost
        return Failed(job, traceback.format_exc())

"""The local executor: worker processes on this machine."""

import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

from inklab.errors import ConfigError, WriteError
from inklab.study.executor import (
    HANG_TIMEOUT_SECONDS,
    SHUTDOWN_GRACE_SECONDS,
    THREAD_VARIABLES,
    AttemptQueue,
    ExecutorFactory,
    ExecutorOptions,
    Message,
    MessageReporter,
    WorkerSignal,
    WriteRefused,
    executor,
)
from inklab.study.executors.local_worker import StartFailed, start_worker
from inklab.study.jobs import Failed, Job, JobContext, JobEvent, Lost, Retried, Started

POLL_SECONDS = 5.0  # between two searches for workers that hang
JOIN_SECONDS = 5.0  # that a worker gets to end after it has closed its pipe


@executor("local")
def local_executor(options: ExecutorOptions) -> ExecutorFactory:
    """Worker processes on this machine."""
    options.refuse_settings("local")
    if options.address:
        raise ConfigError(
            f"the executor 'local' has no address such as '{options.address}'; add --executor ray "
            '(executor="ray" in Python), or leave the address out'
        )
    return LocalExecutor


@dataclass
class _Worker:
    """A process and what it does."""

    process: BaseProcess
    pipe: Connection
    job: Job | None = None  # while it is busy
    silent_seconds: float = 0.0  # that the parent has waited since its last message
    can_checkpoint: bool = False  # it takes steps of a training


@dataclass
class LocalExecutor:
    """Worker processes on this machine.

    Left by an exception, such as Ctrl-C, it lets trainings end with a checkpoint; a second one ends all
    at once.

    Args:
        context: handed to every job; gives the threads of each worker.
        work_dir: for attempts; each has a directory of its own.
        workers: at most so many processes; one is started only when a job waits for it.
        hang_timeout: seconds without a message after which a worker is killed.
    """

    context: JobContext
    work_dir: Path
    workers: int
    hang_timeout: float = HANG_TIMEOUT_SECONDS
    _attempts: AttemptQueue = field(init=False)
    _pool: list[_Worker] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._attempts = AttemptQueue(self.work_dir)

    def __enter__(self) -> "LocalExecutor":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            for worker in self._pool:
                with suppress(OSError):
                    worker.pipe.send(None)
            if kind is not None:
                self._shutdown()
        finally:
            for worker in self._pool:
                worker.pipe.close()
                worker.process.kill()
            for worker in self._pool:
                worker.process.join()

    def _shutdown(self) -> None:
        """Wait for trainings to leave a checkpoint."""
        deadline = time.monotonic() + SHUTDOWN_GRACE_SECONDS
        for worker in self._pool:
            if worker.job and (worker.can_checkpoint or worker.pipe.poll()):
                worker.process.join(max(0.0, deadline - time.monotonic()))

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._attempts.add(job)

    def events(self) -> Iterator[JobEvent]:
        """What happens, until every submitted job has ended."""
        while self._attempts.waiting or self._busy:
            yield from self.step(POLL_SECONDS)

    def step(self, seconds: float) -> Iterator[JobEvent]:
        """Hand out jobs, and report what happens within some seconds, or until something does."""
        yield from self._dispatch()
        by_pipe = {worker.pipe: worker for worker in self._busy}
        timeout, before = min(seconds, self.hang_timeout), time.monotonic()
        pipes = wait(list(by_pipe), timeout=timeout)
        # While everything is paused (Ctrl-Z, docker pause) time passes, but no worker hangs.
        waited = min(time.monotonic() - before, timeout)
        for worker in by_pipe.values():
            worker.silent_seconds += waited
        for pipe in pipes:
            assert isinstance(pipe, Connection)
            yield from self._on_message(by_pipe[pipe])
        for worker in self._busy:
            if worker.silent_seconds >= self.hang_timeout:
                worker.process.kill()
                yield self._on_exit(worker, f"its worker process sent nothing for {self.hang_timeout:g} s")

    @property
    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._pool if worker.job]

    def _dispatch(self) -> Iterator[Started]:
        """Give each idle worker a job, if one waits."""
        for index, worker in enumerate(self._pool):
            if not worker.job and not worker.process.is_alive():  # killed while idle: no job's fault
                self._pool[index] = self._start_worker()
        waiting = self._attempts.waiting
        while len(self._pool) < self.workers and len(self._pool) < len(waiting) + len(self._busy):
            self._pool.append(self._start_worker())
        for worker in self._pool:
            if waiting and not worker.job:
                worker.job, attempt_dir = self._attempts.begin()
                worker.silent_seconds, worker.can_checkpoint = 0.0, False
                with suppress(OSError):  # it died just now: events() will read the end of its pipe
                    worker.pipe.send((worker.job, attempt_dir))
                yield Started(worker.job)

    def _on_message(self, worker: _Worker) -> Iterator[JobEvent]:
        worker.silent_seconds = 0.0
        try:
            message: Message | StartFailed = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join(JOIN_SECONDS)
            reason = f"its worker process ended with {_exit_reason(worker.process.exitcode)}"
            yield self._on_exit(worker, reason)
            return
        match message:
            case WriteRefused(path, number):
                raise WriteError(Path(path), OSError(number, os.strerror(number)))
            case StartFailed(reason):
                job = worker.job
                self._replace(worker)
                if job:
                    yield Failed(job, reason)
            case WorkerSignal.HEARTBEAT:
                worker.can_checkpoint = True
            case WorkerSignal.STOPPED:
                worker.job = None
            case event:
                if event.is_terminal:
                    worker.job = None
                yield event

    def _on_exit(self, worker: _Worker, reason: str) -> Retried | Lost:
        """Replace a dead worker; its job is tried again, or lost."""
        assert worker.job
        self._replace(worker)
        return self._attempts.died(worker.job, reason)

    def _replace(self, worker: _Worker) -> None:
        worker.process.join()
        worker.pipe.close()
        self._pool[self._pool.index(worker)] = self._start_worker()

    def _start_worker(self) -> _Worker:
        # Spawned: forking after OpenMP has started threads is unsafe.
        context = multiprocessing.get_context("spawn")
        pipe, worker_pipe = context.Pipe()
        content = pickle.dumps(self.context)  # unpickled where an import that fails can be reported
        process = context.Process(target=start_worker, args=(worker_pipe, content), daemon=True)
        with _environment({name: str(self.context.threads) for name in THREAD_VARIABLES}), _hidden_main():
            process.start()
        worker_pipe.close()
        return _Worker(process, pipe)


class PipeReporter(MessageReporter):
    """In a worker: reports through a pipe. If the process at its other end is gone, the job is to stop."""

    def __init__(self, pipe: Connection, job: Job) -> None:
        super().__init__(job)
        self._pipe, self._is_closed = pipe, False

    def send(self, message: Message) -> None:
        """Send a message."""
        try:
            self._pipe.send(message)
        except OSError:
            self._is_closed = True

    def checkpoint_written(self, path: Path) -> None:
        """Do nothing: it lies where the next attempt looks for it."""

    def stop_requested(self) -> bool:
        """During a job, the only message that arrives is the one to stop."""
        return self._is_closed or self._pipe.poll()


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Spawn a process that does not run the user's script again, and needs none: in a notebook there is none.

    Nothing that workers are sent is looked up in it: what it defines travels as live objects.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _exit_reason(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
    return f"signal {name} (out of memory?)" if code == -signal.SIGKILL else f"signal {name}"


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Environment for a child: torch and numpy read it while they are imported, so it can't be set later."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})

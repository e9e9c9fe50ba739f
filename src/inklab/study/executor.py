"""Executors run jobs somewhere; the local one in processes of its own."""

import multiprocessing
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from inklab.errors import InklabError, WriteError
from inklab.hardware import disable_malloc_trim
from inklab.io.atomic import make_dir
from inklab.io.documents import fingerprint
from inklab.study.job_context import JobContext

HEARTBEAT_INTERVAL = 5.0  # seconds between two signs of life


@dataclass
class PipeReporter:
    """A job's line to the driver, through a pipe. A driver that is gone has asked to stop."""

    pipe: Connection
    gone: bool = False
    beat: float = 0.0

    def send(self, kind: str, value: object = None) -> None:
        """Send something to the driver."""
        try:
            self.pipe.send((kind, value))
        except OSError:
            self.gone = True

    def epoch(self, epoch: int, epochs: int, loss: float) -> None:
        """An epoch of a training has ended."""
        self.send("epoch", (epoch, epochs, loss))

    def warn(self, text: str) -> None:
        """Something that the user should know."""
        self.send("warned", text)

    def asked_to_stop(self) -> bool:
        """Whether the driver has said something, which during a job can only be that, or has died."""
        if time.monotonic() >= self.beat:
            self.beat = time.monotonic() + HEARTBEAT_INTERVAL
            self.send("training")
        return self.gone or self.pipe.poll()


def run_worker(pipe: Connection, bench: JobContext) -> None:
    """A worker's life."""
    # Ctrl-C and a SIGTERM for the whole group reach it too; the driver decides, and kills what must end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    import torch

    torch.set_num_threads(bench.threads)
    disable_malloc_trim()
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        if task is None:
            return
        job, draft = task
        line = PipeReporter(pipe)
        line.send(*_done(job, bench, Path(draft), line))


def _done(job: dict[str, Any], bench: JobContext, draft: Path, line: PipeReporter) -> tuple[Any, ...]:
    """Do a job; what to say of it."""
    from inklab.study.jobs import run_job
    from inklab.training.checkpoint import TrainingInterrupted

    try:
        return "done", run_job(job, bench, draft, line)
    except TrainingInterrupted:
        return "stopped", None
    except WriteError as error:
        return "unwritable", (error.filename, error.errno)
    except InklabError as error:
        return "failed", str(error)
    except Exception:  # a crash becomes an outcome, so that no failure is lost
        return "failed", traceback.format_exc()


THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
ATTEMPTS = 2  # a job whose worker dies is tried once more, then it is lost
HANG_TIMEOUT = (
    1800.0  # seconds; a training says every few that it goes on, an evaluation nothing until it ends
)
SHUTDOWN_GRACE = 30.0  # seconds that a training gets for its last step and checkpoint
WATCH_INTERVAL = 5.0  # seconds between two looks for workers that hang


class Event(NamedTuple):
    """Something that happened to a job.

    Attributes:
        kind: what happened. "probing" and "planned" come from the driver, at most once.
        job: the job's name.
        value: of "planned" an estimate, of "epoch" `(epoch, epochs, loss)`, of "done" what the job returned
            and its draft folder, of "warned", "retried", "failed" and "lost" what a person should know.
    """

    kind: Literal["probing", "planned", "started", "epoch", "warned", "retried", "done", "failed", "lost"]
    job: str
    value: Any = None


@runtime_checkable
class Executor(Protocol):
    """Runs jobs. Exactly one of "done", "failed" and "lost" comes for each; it never raises for a job."""

    def submit(self, job: dict[str, Any]) -> None:
        """Queue a job; jobs start in the order in which they are submitted."""

    def events(self) -> Iterator[Event]:
        """What happens, until every submitted job has ended. More may be submitted meanwhile.

        Raises:
            WriteError: the disk refuses; no job can do anything about it.
        """


@dataclass
class _Worker:
    """A process and what it does.

    Attributes:
        job: its name; None while there is nothing to do.
        draft: the folder of this attempt.
        heard: when it said something last.
        training: it takes steps, so that it can stop with a checkpoint.
    """

    process: BaseProcess
    pipe: Connection
    job: str | None = None
    draft: Path = Path()
    heard: float = 0.0
    training: bool = False


@dataclass
class LocalExecutor:
    """Worker processes on this machine.

    Left by an exception, such as Ctrl-C, it lets trainings end with a checkpoint; a second one ends all
    at once.

    Args:
        bench: handed to every job; gives the threads of each worker.
        work: folder for drafts; each attempt of each session has its own, so a given-up worker can't
            overwrite anything.
        workers: at most so many processes; one is started only when a job waits for it.
        silence: seconds after which a worker that says nothing is taken to hang.
    """

    bench: JobContext
    work: Path
    workers: int
    silence: float = HANG_TIMEOUT
    _queue: deque[str] = field(default_factory=deque, init=False)
    _jobs: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    _attempts: dict[str, int] = field(default_factory=dict, init=False)
    _pool: list[_Worker] = field(default_factory=list, init=False)

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
        until = time.monotonic() + SHUTDOWN_GRACE
        for worker in self._pool:
            if worker.job and (worker.training or worker.pipe.poll()):
                worker.process.join(max(0.0, until - time.monotonic()))

    def submit(self, job: dict[str, Any]) -> None:
        """Queue a job."""
        self._jobs[job["name"]] = job
        self._attempts[job["name"]] = 0
        self._queue.append(job["name"])

    def events(self) -> Iterator[Event]:
        """What happens, until every submitted job has ended."""
        while self._queue or any(worker.job for worker in self._pool):
            yield from self._dispatch()
            busy = {worker.pipe: worker for worker in self._pool if worker.job}
            for pipe in wait(list(busy), timeout=min(WATCH_INTERVAL, self.silence)):
                yield from self._on_message(busy[pipe])  # type: ignore[index]
            for worker in [worker for worker in self._pool if worker.job]:
                if time.monotonic() - worker.heard > self.silence:
                    worker.process.kill()
                    yield self._on_exit(worker, f"its worker process said nothing for {self.silence:.0f} s")

    def _dispatch(self) -> Iterator[Event]:
        for place, worker in enumerate(self._pool):
            if not worker.job and not worker.process.is_alive():  # killed while idle: no job's fault
                self._pool[place] = self._started()
        while len(self._pool) < self.workers and len(self._pool) < len(self._queue) + self._busy():
            self._pool.append(self._started())
        for worker in [worker for worker in self._pool if not worker.job]:
            if not self._queue:
                return
            name = self._queue.popleft()
            self._attempts[name] += 1
            worker.job, worker.draft = name, self._attempt_folder(name)
            worker.heard, worker.training = time.monotonic(), False
            with suppress(OSError):  # it died just now: events() will hear its end of file
                worker.pipe.send((self._jobs[name], str(worker.draft)))
            yield Event("started", name)

    def _on_message(self, worker: _Worker) -> Iterator[Event]:
        assert worker.job
        name, worker.heard = worker.job, time.monotonic()
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join(5)
            ending = f"its worker process ended with {_exit_reason(worker.process.exitcode)}"
            yield self._on_exit(worker, ending)
            return
        if kind == "unwritable":
            path, number = value
            raise WriteError(Path(path), OSError(number, os.strerror(number)))
        if kind == "training":
            worker.training = True
        elif kind in ("epoch", "warned"):
            yield Event(kind, name, value)
        else:
            worker.job = None
            yield Event(kind, name, (value, worker.draft) if kind == "done" else value)

    def _on_exit(self, worker: _Worker, reason: str) -> Event:
        """Replace a dead worker; its job gets one more attempt, from its checkpoint if there is one."""
        assert worker.job
        name = worker.job
        worker.process.join()
        worker.pipe.close()
        self._pool[self._pool.index(worker)] = self._started()
        if self._attempts[name] >= ATTEMPTS:
            return Event("lost", name, f"{reason}, {ATTEMPTS} times")
        self._queue.appendleft(name)
        return Event("retried", name, reason)

    def _busy(self) -> int:
        return sum(1 for worker in self._pool if worker.job)

    def _attempt_folder(self, name: str) -> Path:
        """A new folder: also a worker that a killed driver left behind writes elsewhere."""
        folder = self.work / fingerprint(name)
        make_dir(folder)
        number = 1 + max((int(each.name) for each in folder.iterdir() if each.name.isdigit()), default=0)
        make_dir(folder / str(number))
        return folder / str(number)

    def _started(self) -> _Worker:
        # Spawned: forking after OpenMP has started threads is unsafe.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=run_worker, args=(theirs, self.bench), daemon=True)
        with _environment({name: str(self.bench.threads) for name in THREAD_VARIABLES}):
            process.start()
        theirs.close()
        return _Worker(process, ours)


def _exit_reason(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}" + (
            " (out of memory?)" if code == -signal.SIGKILL else ""
        )
    except ValueError:
        return f"signal {-code}"


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

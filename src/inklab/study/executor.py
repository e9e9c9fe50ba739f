"""Executors run jobs somewhere. This one: worker processes on this machine, watched by a supervisor.

Not `ProcessPoolExecutor`: there one killed worker breaks the whole pool and loses everything that waits.
"""

import multiprocessing
import os
import shutil
import signal
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable
from uuid import uuid4

from inklab.errors import InklabError
from inklab.files import fingerprint
from inklab.machine import keep_freed_memory
from inklab.study.bench import Bench

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
ATTEMPTS = 2  # a job whose worker dies is tried once more, then it is lost


class Event(NamedTuple):
    """Something that happened to a job.

    Attributes:
        kind: what happened. "probing" and "planned" come from the driver, at most once.
        job: the job's name.
        value: of "planned" an estimate, of "epoch" `(epoch, epochs, loss)`, of "done" what the job returned
            and its draft folder, of "retried", "failed" and "lost" the reason.
    """

    kind: Literal["probing", "planned", "started", "epoch", "retried", "done", "failed", "lost"]
    job: str
    value: Any = None


@runtime_checkable
class Executor(Protocol):
    """Runs jobs. Exactly one of "done", "failed" and "lost" comes for each; it never raises for a job."""

    def submit(self, job: dict[str, Any]) -> None:
        """Queue a job; jobs start in the order in which they are submitted."""

    def events(self) -> Iterator[Event]:
        """What happens, until every submitted job has ended. More may be submitted meanwhile."""


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    job: str | None = None


@dataclass
class LocalExecutor:
    """Worker processes on this machine.

    Args:
        bench: handed to every job; gives the threads of each worker.
        work: folder for drafts; each attempt of each session has its own, so a given-up worker can't
            overwrite anything.
        workers: at most so many processes; one is started only when a job waits for it.
    """

    bench: Bench
    work: Path
    workers: int
    _queue: deque[str] = field(default_factory=deque, init=False)
    _jobs: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    _attempts: dict[str, int] = field(default_factory=dict, init=False)
    _pool: list[_Worker] = field(default_factory=list, init=False)
    _session: str = field(default_factory=lambda: uuid4().hex[:8], init=False)

    def __enter__(self) -> "LocalExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._pool:
            worker.pipe.close()
            worker.process.terminate()
        for worker in self._pool:
            worker.process.join(5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def submit(self, job: dict[str, Any]) -> None:
        """Queue a job."""
        self._jobs[job["name"]] = job
        self._attempts[job["name"]] = 0
        self._queue.append(job["name"])

    def events(self) -> Iterator[Event]:
        """What happens, until every submitted job has ended."""
        while self._queue or any(worker.job for worker in self._pool):
            yield from self._give_out()
            busy = {worker.pipe: worker for worker in self._pool if worker.job}
            for pipe in wait(list(busy)):
                yield self._heard(busy[pipe])  # type: ignore[index]

    def _give_out(self) -> Iterator[Event]:
        while len(self._pool) < self.workers and len(self._pool) < len(self._queue) + self._busy():
            self._pool.append(self._started())
        for worker in [worker for worker in self._pool if not worker.job]:
            if not self._queue:
                return
            name = self._queue.popleft()
            self._attempts[name] += 1
            worker.job = name
            try:
                worker.pipe.send((self._jobs[name], str(self._draft(name))))
            except OSError:  # it died while idle: events() will hear its end of file
                pass
            yield Event("started", name)

    def _heard(self, worker: _Worker) -> Event:
        assert worker.job
        name = worker.job
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            return self._died(worker)
        if kind == "epoch":
            return Event("epoch", name, value)
        worker.job = None
        return Event(kind, name, (value, self._draft(name)) if kind == "done" else value)

    def _died(self, worker: _Worker) -> Event:
        """Replace a dead worker; its job gets one more attempt."""
        assert worker.job
        name = worker.job
        worker.process.join(5)
        reason = f"its worker process ended with {_ending(worker.process.exitcode)}"
        shutil.rmtree(self._draft(name), ignore_errors=True)
        self._pool[self._pool.index(worker)] = self._started()
        if self._attempts[name] >= ATTEMPTS:
            return Event("lost", name, f"{reason}, {ATTEMPTS} times")
        self._queue.appendleft(name)
        return Event("retried", name, reason)

    def _busy(self) -> int:
        return sum(1 for worker in self._pool if worker.job)

    def _draft(self, name: str) -> Path:
        return self.work / self._session / fingerprint(name) / str(self._attempts[name])

    def _started(self) -> _Worker:
        # Spawned: forking after OpenMP has started threads is unsafe.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.bench), daemon=True)
        with _environment({name: str(self.bench.threads) for name in THREAD_VARIABLES}):
            process.start()
        theirs.close()
        return _Worker(process, ours)


def _ending(code: int | None) -> str:
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


def _serve(pipe: Connection, bench: Bench) -> None:
    """A worker's life: take a job, do it, say what came of it, until the driver's end of the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides
    import torch

    from inklab.study.jobs import perform

    torch.set_num_threads(bench.threads)
    keep_freed_memory()
    while True:
        try:
            job, draft = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            said = ("done", perform(job, bench, Path(draft), lambda *point: pipe.send(("epoch", point))))
        except InklabError as error:
            said = ("failed", str(error))
        except Exception:  # a crash becomes an outcome, so that no failure is lost
            said = ("failed", traceback.format_exc())
        pipe.send(said)

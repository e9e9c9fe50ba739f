"""Parallel worker processes, one thread each, as a run has them."""

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from typing import Generic, TypeVar

from benchmarks.options import BenchmarkError

MAX_UNIT_SECONDS = 3_600  # such as thirty trainings of bf16; far beyond any
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

T = TypeVar("T")  # what a unit returns
R = TypeVar("R")  # what workers get

WorkerFactory = Callable[[R, int], tuple[Callable[[], object], Callable[[], T]]]
"""`(request, index of the worker) -> (warm up, do one unit)`, called in the worker; importable by name."""


class WorkerError(BenchmarkError):
    """A worker failed, died or hung."""


@dataclass(frozen=True)
class UnitResult(Generic[T]):
    """What a worker sends after a unit; the times are of a clock that all processes share.

    Attributes:
        start: when it started.
        end: when it ended.
        value: that the unit returned; None after warming up.
        error: why it failed.
    """

    start: float = 0.0
    end: float = 0.0
    value: T | None = None
    error: str | None = None


class Workers(Generic[R, T]):
    """Persistent processes that start each unit at the same moment.

    Args:
        count: processes.
        factory: of what each does.
        request: argument of the factory.

    Raises:
        WorkerError: one could not warm up.
    """

    def __init__(self, count: int, factory: "WorkerFactory[R, T]", request: R) -> None:
        context = multiprocessing.get_context("spawn")  # forking after OpenMP has started threads is unsafe
        self.barrier = context.Barrier(count)
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
        self.pipes: list[Connection] = []
        self.processes: list[BaseProcess] = []
        for index in range(count):
            pipe, worker_pipe = context.Pipe()
            arguments = (worker_pipe, self.barrier, factory, request, index)
            self.processes.append(context.Process(target=_run_worker, args=arguments, daemon=True))
            self.processes[-1].start()
            worker_pipe.close()
            self.pipes.append(pipe)
        self._receive()

    def run_unit(self) -> tuple[float, list[T]]:
        """Seconds from the common start to the end of the last worker, and what the units returned.

        Raises:
            WorkerError: a worker failed.
        """
        for pipe in self.pipes:
            pipe.send("go")
        results = self._receive()
        seconds = max(result.end for result in results) - min(result.start for result in results)
        return seconds, [result.value for result in results if result.value is not None]

    def close(self) -> None:
        """End them; what they were doing is lost."""
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.close()
            process.terminate()
            process.join()

    def _receive(self) -> list[UnitResult[T]]:
        results = []
        for index, pipe in enumerate(self.pipes):
            if not pipe.poll(MAX_UNIT_SECONDS):
                raise WorkerError(f"worker {index} gave no answer in {MAX_UNIT_SECONDS} s")
            try:
                result: UnitResult[T] = pipe.recv()
            except EOFError:
                raise WorkerError(f"worker {index} died without an error message") from None
            if result.error is not None:
                raise WorkerError(f"worker {index} failed: {result.error}")
            results.append(result)
        return results


def _run_worker(
    pipe: Connection, barrier: Barrier, factory: "WorkerFactory[R, T]", request: R, index: int
) -> None:
    import torch

    torch.set_num_threads(1)
    try:
        warm_up, run = factory(request, index)
        warm_up()
        pipe.send(UnitResult[T]())
        while pipe.recv() == "go":
            barrier.wait(MAX_UNIT_SECONDS)
            start = time.perf_counter()  # CLOCK_MONOTONIC: one clock for all processes of a machine
            value = run()
            pipe.send(UnitResult(start, time.perf_counter(), value))
    except EOFError:  # the parent process has ended
        return
    except Exception as error:
        traceback.print_exc()
        pipe.send(UnitResult[T](error=f"{type(error).__name__}: {' '.join(str(error).split())}"))

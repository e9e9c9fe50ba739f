"""Processes that work side by side, one thread each, as a run's workers do."""

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from typing import Any

from inklab.errors import InklabError

PATIENCE = 3_600  # seconds for one unit, such as thirty trainings of bf16; far beyond any, short of forever
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Work = Callable[[], Any]
Make = Callable[[dict[str, Any], int], tuple[Work, Work]]
"""`(request, number of the worker) -> (warm up, do one unit)`, called in the worker; importable by name."""


class WorkerFailed(InklabError):
    """One of the processes side by side failed, died or hung."""


class Workers:
    """Persistent processes that start each unit at the same moment.

    Args:
        count: how many.
        make: what each does.
        request: handed to `make`.

    Raises:
        WorkerFailed: one could not warm up.
    """

    def __init__(self, count: int, make: Make, request: dict[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")  # forking after OpenMP has started threads is unsafe
        self.barrier = context.Barrier(count)
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
        self.pipes: list[Connection] = []
        self.processes: list[BaseProcess] = []
        for number in range(count):
            ours, theirs = context.Pipe()
            arguments = (theirs, self.barrier, make, request, number)
            self.processes.append(context.Process(target=_serve, args=arguments, daemon=True))
            self.processes[-1].start()
            theirs.close()
            self.pipes.append(ours)
        self._answers()

    def unit(self) -> tuple[float, list[Any]]:
        """Seconds from the common start to the last one's end, and what each gave back.

        Raises:
            WorkerFailed: one of them did.
        """
        for pipe in self.pipes:
            pipe.send("go")
        answers = self._answers()
        # One clock for all processes of a machine (CLOCK_MONOTONIC), so starts and ends compare.
        return max(end for _, end, _ in answers) - min(start for start, _, _ in answers), [
            given for _, _, given in answers
        ]

    def close(self) -> None:
        """End them; what they were doing is lost."""
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.close()
            process.terminate()
            process.join()

    def _answers(self) -> list[Any]:
        answers = []
        for number, pipe in enumerate(self.pipes):
            if not pipe.poll(PATIENCE):
                raise WorkerFailed(f"worker {number} gave no answer in {PATIENCE} s")
            try:
                answers.append(pipe.recv())
            except EOFError:
                raise WorkerFailed(f"worker {number} died without a word") from None
            if isinstance(answers[-1], str):
                raise WorkerFailed(f"worker {number} failed: {answers[-1]}")
        return answers


def _serve(pipe: Connection, barrier: Barrier, make: Make, request: dict[str, Any], number: int) -> None:
    import torch

    torch.set_num_threads(1)
    try:
        warm_up, work = make(request, number)
        warm_up()
        pipe.send((0.0, 0.0, None))
        while pipe.recv() == "go":
            barrier.wait(PATIENCE)
            start = time.perf_counter()
            given = work()
            pipe.send((start, time.perf_counter(), given))
    except EOFError:  # whoever asked is gone
        return
    except Exception as error:
        traceback.print_exc()
        pipe.send(f"{type(error).__name__}: {' '.join(str(error).split())}")

"""Measures what this machine does fast, in a process of its own: `python -m inklab.training.throughput`.

Prints one JSON object a line as soon as something is known, so that it counts even if the rest, such as a
compiler that hangs, is cut off.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from inklab.hardware import cores, disable_malloc_trim

MATRIX_SIDE = 512
"""Large enough that a product takes milliseconds, small enough that three fit into the cache."""

REPEATS, ROUNDS = 5, 10  # alternating, so that other load slows both precisions alike
MEASUREMENT_SECONDS, MEASUREMENTS = 0.7, 3  # of the speed-up by processes side by side


def main(arguments: list[str]) -> None:
    """Measure everything; with `--steps THREADS` be one of several processes that work side by side."""
    if arguments[:1] == ["--steps"]:
        _print(steps_per_second=_steps_per_second(int(arguments[1])))
        return
    disable_malloc_trim()
    _print(bf16_speedup=bf16_speedup())
    if cores() > 1:
        _print(parallel_speedup=parallel_speedup())
    try:
        _print(compile_seconds=compile_seconds())
    except Exception as error:  # a broken or missing compiler may raise anything
        _print(compile_seconds=None, compile_error=" ".join(str(error).split())[-300:])


def bf16_speedup() -> float:
    """Speed of a matrix product in bf16 over fp32; where bf16 is emulated it is far below 1."""
    torch.set_num_threads(1)  # as in training; more threads would measure the wait for busy cores
    a, b = torch.rand(2, MATRIX_SIDE, MATRIX_SIDE)
    pairs = [
        (_min_seconds(lambda: a @ b), _min_seconds(lambda: a.bfloat16() @ b.bfloat16()))
        for _ in range(ROUNDS)
    ]
    return min(fp32 for fp32, _ in pairs) / min(bf16 for _, bf16 in pairs)


def parallel_speedup() -> float:
    """Work done by as many one-thread processes as there are cores, over that of one process with all cores.

    The median of alternating measurements: on a shared machine single ones lie between 0.95 and 1.3.
    """
    speedups = [
        sum(_run_processes(cores(), 1)) / sum(_run_processes(1, cores())) for _ in range(MEASUREMENTS)
    ]
    return median(speedups)


def compile_seconds() -> float:
    """The time to compile a small training step and run it."""
    from inklab.networks.classifiers import mlp
    from inklab.networks.layers import Normalize, NormalizedModel
    from inklab.training.compiled import CompiledStep
    from inklab.training.objectives import Batch, objectives
    from inklab.training.optimizers import PLAIN_SGD, HyperParams
    from inklab.training.population import stack_states
    from inklab.training.step import TrainStep

    torch.set_num_threads(1)
    nets = [NormalizedModel(Normalize(), mlp((1, 4, 4), 2, hidden=(8,))) for _ in range(2)]
    train_step = TrainStep(nets[0], objectives["classify"], PLAIN_SGD, frozenset(), True, "fp32")
    step = CompiledStep(train_step, train_step.init_state(*stack_states(nets)))
    images = torch.zeros(2, 3, 1, 4, 4, dtype=torch.uint8)
    batch = Batch(images, torch.zeros(2, 3, dtype=torch.int64), images)
    zeros = torch.zeros(2)
    hyper = HyperParams(zeros, zeros, zeros, step=torch.zeros((), dtype=torch.float64))
    start = time.perf_counter()
    with TemporaryDirectory() as empty:  # the program may be in the cache already, which would prove nothing
        step.compile(batch, {}, hyper, folder=Path(empty))
        if not bool(torch.isfinite(step(batch, {}, hyper)).all()):
            raise ArithmeticError("a compiled step gave a loss that is not finite")
    return time.perf_counter() - start


def _run_processes(processes: int, threads: int) -> list[float]:
    """Steps per second of each of some processes that work at the same time."""
    command = [sys.executable, "-m", "inklab.training.throughput", "--steps", str(threads)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return [float(json.loads(process.communicate()[0])["steps_per_second"]) for process in running]


def _steps_per_second(threads: int) -> float:
    """Forward and backward passes of a convolution like those of the study's cnn."""
    torch.set_num_threads(threads)
    layer = nn.Conv2d(32, 64, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(64, 32, 26, 26).contiguous(memory_format=torch.channels_last).requires_grad_()

    def step() -> Tensor:
        return torch.autograd.grad(layer(images).sum(), [images, *layer.parameters()])[0]

    step()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < MEASUREMENT_SECONDS:
        step()
        steps += 1
    return steps / (time.perf_counter() - start)


def _min_seconds(work: Callable[[], object]) -> float:
    """The shortest of several repetitions: other load can only add time."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def _print(**values: float | str | None) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])

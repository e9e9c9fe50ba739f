"""What this machine does fast, measured. A process of its own: `python -m inklab.training.throughput`.

Prints one JSON object a line as soon as it knows something, so that what was found out stands even if the
rest, such as a compiler that hangs, is cut off.
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

SIDE = (
    512  # of the matrices: large enough that a product takes milliseconds, small enough to stay in the cache
)
REPEATS, ROUNDS = 5, 10  # in turns, so that what else runs for a while slows both
BUSY, LOOKS = 0.7, 3  # seconds that each measurement of threads lasts, and how often it is made


def main(arguments: list[str]) -> None:
    """Find out everything, or with `--busy THREADS` be one of several processes that work side by side."""
    if arguments[:1] == ["--busy"]:
        _say(busy=_steps_a_second(int(arguments[1])))
        return
    disable_malloc_trim()
    _say(bf16=bf16_speed())
    if cores() > 1:
        _say(side_by_side=parallel_speedup())
    try:
        _say(compile_seconds=compile_seconds())
    except Exception as error:  # whatever a broken or missing compiler raises
        _say(compile_seconds=None, why_not=" ".join(str(error).split())[-300:])


def bf16_speed() -> float:
    """How many times as fast as in fp32 a matrix product is in bf16; emulated, it is far below 1."""
    torch.set_num_threads(1)  # as trainings run; and threads that wait for busy cores would be measured
    a, b = torch.rand(2, SIDE, SIDE)
    pairs = [(_seconds(lambda: a @ b), _seconds(lambda: a.bfloat16() @ b.bfloat16())) for _ in range(ROUNDS)]
    return min(single for single, _ in pairs) / min(half for _, half in pairs)


def parallel_speedup() -> float:
    """How much more is done by as many processes as cores, one thread each, than by one with all of them.

    The median of some looks in turns: on a shared machine single ones lie between 0.95 and 1.3.
    """
    looks = [sum(_busy(cores(), 1)) / sum(_busy(1, cores())) for _ in range(LOOKS)]
    return median(looks)


def compile_seconds() -> float:
    """Compile a small step in earnest and run it."""
    from inklab.networks.layers import Normalize, NormalizedModel
    from inklab.networks.mlp import mlp
    from inklab.training.compiled import CompiledStep
    from inklab.training.objectives import Batch, objectives
    from inklab.training.optimizers import PLAIN_SGD, HyperParams
    from inklab.training.population import stack_states
    from inklab.training.step import TrainStep

    torch.set_num_threads(1)
    nets = [NormalizedModel(Normalize(), mlp((1, 4, 4), 2, hidden=(8,))) for _ in range(2)]
    maker = TrainStep(nets[0], objectives["classify"], PLAIN_SGD, frozenset(), lifted=True, precision="fp32")
    program = CompiledStep(maker.step(), maker.init_state(*stack_states(nets)))
    images = torch.zeros(2, 3, 1, 4, 4, dtype=torch.uint8)
    batch = Batch(images, torch.zeros(2, 3, dtype=torch.int64), images)
    nothing = torch.zeros(2)
    hyper = HyperParams(nothing, nothing, nothing, taken=torch.zeros((), dtype=torch.float64))
    began = time.perf_counter()
    with TemporaryDirectory() as empty:  # in the cache it may lie already, and prove nothing
        program.compile(batch, {}, hyper, folder=Path(empty))
        if not bool(torch.isfinite(program(batch, {}, hyper)).all()):
            raise ArithmeticError("a compiled step gave a loss that is not finite")
    return time.perf_counter() - began


def _busy(processes: int, threads: int) -> list[float]:
    """Steps a second of each of some processes that work at the same time."""
    command = [sys.executable, "-m", "inklab.training.throughput", "--busy", str(threads)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return [float(json.loads(process.communicate()[0])["busy"]) for process in started]


def _steps_a_second(threads: int) -> float:
    """Forward and backward passes of a convolution as the study's cnn has it."""
    torch.set_num_threads(threads)
    layer = nn.Conv2d(32, 64, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(64, 32, 26, 26).contiguous(memory_format=torch.channels_last).requires_grad_()

    def step() -> Tensor:
        return torch.autograd.grad(layer(images).sum(), [images, *layer.parameters()])[0]

    step()
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < BUSY:
        step()
        steps += 1
    return steps / (time.perf_counter() - began)


def _seconds(work: Callable[[], object]) -> float:
    """The least of some repetitions: what else runs can only add."""
    work()
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def _say(**found: float | str | None) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])

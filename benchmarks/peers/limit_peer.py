"""The matmuls of the l2-sweep's steps and nothing else: what no engine that computes them can beat.

For 784-500-300-10, batch b, all members in one batched product (`torch.bmm`), operands laid out as a stacked
linear layer's forward and backward have them (kernels `(members, out, in)`):

    forward            (b, 784) (784, 500)    (b, 500) (500, 300)    (b, 300) (300, 10)
    weight gradients   (500, b) (b, 784)      (300, b) (b, 500)      (10, b) (b, 300)
    input gradients    not of the first       (b, 300) (300, 500)    (b, 10) (10, 300)

A worker a core, one thread each, all side by side, as in `ours_peer`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.protocol import Json, serve
from benchmarks.sidebyside import Workers
from benchmarks.works import HIDDEN, WORKS, Work, smaller

WIDTHS = (784, *HIDDEN, 10)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
Product = tuple[Tensor, Tensor, Tensor]
"""Left, right and where the result goes."""


def products(members: int, batch: int, precision: str) -> list[Product]:
    """Operands of every matmul of one step, with small random numbers."""
    found: list[Product] = []
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(members, *shape, generator=draw).to(PRECISIONS[precision])

    for place, (inputs, outputs) in enumerate(zip(WIDTHS, WIDTHS[1:], strict=False)):
        shown, kernel, gradient = random(batch, inputs), random(outputs, inputs), random(batch, outputs)
        pairs = [(shown, kernel.mT), (gradient.mT, shown)]
        if place:
            pairs.append((gradient, kernel))
        found += [(left, right, torch.bmm(left, right)) for left, right in pairs]
    return found


def flops(members: int, batch: int) -> int:
    """Of one step's matmuls, two for each multiply-add."""
    return sum(2 * left.numel() * right.shape[-1] for left, right, _ in products(members, batch, "fp32"))


def worker(request: dict[str, Any], number: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """What one of the processes side by side does."""
    work = smaller(WORKS[request["work"]], request["images"], request["members"])
    step = products(work.together, work.batch, request["precision"])

    def run(steps: int) -> None:
        for _ in range(steps * (work.members // work.together)):
            for left, right, out in step:
                torch.bmm(left, right, out=out)

    return lambda: run(3), lambda: run(steps_of(work))


def steps_of(work: Work) -> int:
    """Full batches of a unit; the odd last one of an epoch is left out, and not counted either."""
    return work.images // work.batch


class LimitPeer:
    """Keeps its workers."""

    def prepare(self, request: Json) -> Json:
        """Start the workers."""
        self.work = smaller(WORKS[request["work"]], request["images"], request["members"])
        self.count = request["workers"]
        self.workers = Workers(self.count, worker, request)
        gigaflops = flops(self.work.members, self.work.batch) / self.work.members / 1e9
        does = (
            f"matmuls alone, {gigaflops:.3f} GFLOP a step and member, {request['precision']}, "
            f"{self.count} workers, one thread each, {self.work.together} members in one product"
        )
        return {"versions": {"torch": torch.__version__}, "does": does}

    def measure(self) -> Json:
        """One unit a worker, all side by side."""
        seconds, _ = self.workers.unit()
        images = self.count * self.work.members * steps_of(self.work) * self.work.batch
        return {"seconds": seconds, "images": images, "loss": 0.0}


if __name__ == "__main__":
    serve(LimitPeer())

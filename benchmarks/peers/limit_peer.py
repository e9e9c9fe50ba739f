"""The matmuls of the l2-sweep's steps and nothing else: no engine that computes them can be faster.

For 784-500-300-10, batch b, all members in one batched product (`torch.bmm`), operands laid out as in the
forward and backward pass of a stacked linear layer (kernels `(members, out, in)`):

    forward            (b, 784) (784, 500)    (b, 500) (500, 300)    (b, 300) (300, 10)
    weight gradients   (500, b) (b, 784)      (300, b) (b, 500)      (10, b) (b, 300)
    input gradients    not of the first       (b, 300) (300, 500)    (b, 10) (10, 300)

One worker per core, one thread each, in parallel, as in `inklab_peer`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.parallel import Workers
from benchmarks.peer_protocol import PeerInfo, PrepareRequest, UnitTiming, serve
from benchmarks.workloads import HIDDEN, WORKLOADS, Workload

WIDTHS = (784, *HIDDEN, 10)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Product = tuple[Tensor, Tensor, Tensor]
"""Left operand, right operand and result."""


def step_products(members: int, batch_size: int, precision: str) -> list[Product]:
    """Operands of every matmul of one step, with small random numbers."""
    products: list[Product] = []
    rng = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(members, *shape, generator=rng).to(DTYPES[precision])

    for layer, (inputs, outputs) in enumerate(zip(WIDTHS, WIDTHS[1:], strict=False)):
        features, kernel = random(batch_size, inputs), random(outputs, inputs)
        gradient = random(batch_size, outputs)
        pairs = [(features, kernel.mT), (gradient.mT, features)]
        if layer:
            pairs.append((gradient, kernel))
        products += [(left, right, torch.bmm(left, right)) for left, right in pairs]
    return products


def step_flops(members: int, batch_size: int) -> int:
    """Of one step's matmuls, two per multiply-add."""
    products = step_products(members, batch_size, "fp32")
    return sum(2 * left.numel() * right.shape[-1] for left, right, _ in products)


def matmul_worker(request: PrepareRequest, index: int) -> tuple[Callable[[], object], Callable[[], int]]:
    """What one of the parallel processes does."""
    workload = WORKLOADS[request.workload].reduced(request.images, request.members)
    products = step_products(workload.population, workload.batch_size, request.precision)

    def run(steps: int) -> int:
        for _ in range(steps * (workload.members // workload.population)):
            for left, right, result in products:
                torch.bmm(left, right, out=result)
        return steps

    return lambda: run(3), lambda: run(full_steps(workload))


def full_steps(workload: Workload) -> int:
    """Full batches of a unit; the smaller last one of an epoch is neither computed nor counted."""
    return workload.images // workload.batch_size


class LimitPeer:
    """Keeps its workers."""

    def prepare(self, request: PrepareRequest) -> PeerInfo:
        """Start the workers."""
        self.workload = WORKLOADS[request.workload].reduced(request.images, request.members)
        self.count = request.workers
        self.workers = Workers(self.count, matmul_worker, request)
        gigaflops = step_flops(1, self.workload.batch_size) / 1e9
        description = (
            f"only the matmuls, {gigaflops:.3f} GFLOP per step and member, {request.precision}, "
            f"{self.count} workers, one thread each, {self.workload.population} members in one product"
        )
        return PeerInfo({"torch": torch.__version__}, description)

    def measure(self) -> UnitTiming:
        """One unit per worker, in parallel."""
        seconds, _ = self.workers.run_unit()
        images = self.count * self.workload.members * full_steps(self.workload) * self.workload.batch_size
        return UnitTiming(seconds, images, loss=0.0)


if __name__ == "__main__":
    serve(LimitPeer())

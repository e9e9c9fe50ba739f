"""A well-written plain PyTorch loop: no loader, tensors in memory, eager, fp32.

L2 is the `weight_decay` of the hidden kernels (its gradient is `decay * w`, so decay = 2 * l2), which is
cheaper than adding squares to the loss.
"""

import os
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.peer_protocol import PeerInfo, PrepareRequest, UnitTiming, serve
from benchmarks.peers.arrays import random_images, read_images, read_labels
from benchmarks.workloads import (
    ADAM_EPSILON,
    CHANNELS,
    CNN_HIDDEN,
    CODE,
    DROPOUT,
    HIDDEN,
    POOL,
    WORKLOADS,
    NetworkKind,
    Workload,
)


def build_network(network: NetworkKind) -> nn.Module:
    """The network, with Glorot uniform weights and zero biases."""
    net = {"mlp": _mlp, "cnn": _cnn, "autoencoder": _autoencoder}[network]()
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def _mlp() -> nn.Module:
    first, second = HIDDEN
    return nn.Sequential(
        nn.Linear(784, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 10)
    )


def _cnn() -> nn.Module:
    first, second = CHANNELS
    side = (28 - 4) // POOL
    return nn.Sequential(
        nn.Conv2d(1, first, 3), nn.ReLU(), nn.Conv2d(first, second, 3), nn.ReLU(), nn.MaxPool2d(POOL),
        nn.Dropout(DROPOUT), nn.Flatten(), nn.Linear(second * side * side, CNN_HIDDEN), nn.ReLU(),
        nn.Linear(CNN_HIDDEN, 10),
    )  # fmt: skip


def _autoencoder() -> nn.Module:
    hidden, code = CODE
    return nn.Sequential(
        nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, code), nn.ReLU(),
        nn.Linear(code, hidden), nn.ReLU(), nn.Linear(hidden, 784),
    )  # fmt: skip


def make_optimizer(net: nn.Module, workload: Workload) -> torch.optim.Optimizer:
    """SGD or Adam; L2 on the hidden kernels only."""
    if workload.optimizer == "adam":
        return torch.optim.Adam(net.parameters(), lr=workload.learning_rate, eps=ADAM_EPSILON)
    kernels = [p for p in net.parameters() if p.dim() > 1][:-1] if workload.l2 else []
    others = [p for p in net.parameters() if not any(p is kernel for kernel in kernels)]
    groups: list[dict[str, Any]] = [{"params": others}]  # torch's own format
    if kernels:
        groups.append({"params": kernels, "weight_decay": 2 * workload.l2})
    return torch.optim.SGD(groups, lr=workload.learning_rate)


class TorchPeer:
    """Keeps one network and continues its training."""

    def prepare(self, request: PrepareRequest) -> PeerInfo:
        """Warm up on random images of every batch shape."""
        torch.set_num_threads(os.cpu_count() or 1)
        self.workload = WORKLOADS[request.workload].reduced(request.images)
        self.net = build_network(self.workload.network).train()
        self.optimizer = make_optimizer(self.net, self.workload)
        self.inputs, self.targets = self._read_tensors(request.data)
        images, labels = map(torch.from_numpy, random_images(self.workload.warm_up_images, 784))
        images = images.reshape(-1, *self.inputs.shape[1:])
        self._train_epoch(images, images if self.workload.denoises else labels)
        description = f"a plain loop, eager, fp32, {torch.get_num_threads()} threads"
        return PeerInfo({"torch": torch.__version__}, description)

    def _read_tensors(self, folder: str) -> tuple[Tensor, Tensor]:
        count, denoises = self.workload.images, self.workload.denoises
        shape = (count, 1, 28, 28) if self.workload.network == "cnn" else (count, 784)
        inputs = torch.from_numpy(read_images(folder, "noisy" if denoises else "clean", count)).reshape(shape)
        if not denoises:
            return inputs, torch.from_numpy(read_labels(folder, count))
        return inputs, torch.from_numpy(read_images(folder, "clean", count)).reshape(shape)

    def _train_epoch(self, inputs: Tensor, targets: Tensor) -> float:
        loss_function = (
            functional.binary_cross_entropy_with_logits
            if self.workload.denoises
            else functional.cross_entropy
        )
        total = torch.zeros(())
        for index in torch.randperm(len(inputs)).split(self.workload.batch_size):  # type: ignore[no-untyped-call]
            self.optimizer.zero_grad()
            loss = loss_function(self.net(inputs[index]), targets[index])
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            total += loss.detach() * len(index)
        return float(total) / len(inputs)

    def measure(self) -> UnitTiming:
        """One epoch over the unit's images."""
        start = time.perf_counter()
        loss = self._train_epoch(self.inputs, self.targets)
        return UnitTiming(time.perf_counter() - start, self.workload.images, loss)


if __name__ == "__main__":
    serve(TorchPeer())

"""A plain PyTorch loop, as most people would write it well: no loader, tensors in memory, eager, fp32.

L2 is given as `weight_decay` of the hidden kernels (its gradient is `decay * w`, so decay = 2 * l2), which is
cheaper than adding squares to the loss.
"""

import os
import time
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.peers.images import labels, other, scaled
from benchmarks.protocol import Json, serve
from benchmarks.works import (
    ADAM_EPSILON,
    CHANNELS,
    CNN_HIDDEN,
    CODE,
    DROPOUT,
    HIDDEN,
    POOL,
    WORKS,
    Work,
    smaller,
    warm_up_images,
)


def build(network: str) -> nn.Module:
    """The network, with Glorot uniform weights and zero biases."""
    net = {"mlp": _mlp, "cnn": _cnn, "autoencoder": _autoencoder}[network]()
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
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


def optimiser_of(net: nn.Module, work: Work) -> torch.optim.Optimizer:
    """SGD or Adam; L2 on the hidden kernels only."""
    if work.optimiser == "adam":
        return torch.optim.Adam(net.parameters(), lr=work.rate, eps=ADAM_EPSILON)
    kernels = [p for p in net.parameters() if p.dim() > 1][:-1] if work.l2 else []
    rest = [p for p in net.parameters() if not any(p is kernel for kernel in kernels)]
    groups: list[dict[str, Any]] = [{"params": rest}]
    if kernels:
        groups.append({"params": kernels, "weight_decay": 2 * work.l2})
    return torch.optim.SGD(groups, lr=work.rate)


class TorchPeer:
    """Keeps one network and goes on training it."""

    def prepare(self, request: Json) -> Json:
        """Warm up on made-up images of every batch shape."""
        torch.set_num_threads(os.cpu_count() or 1)
        self.work = smaller(WORKS[request["work"]], request["images"], None)
        self.net = build(self.work.network).train()
        self.optimiser = optimiser_of(self.net, self.work)
        self.denoises = self.work.network == "autoencoder"
        self.shown, self.wanted = self._tensors(request["data"])
        warm, classes = (torch.from_numpy(each) for each in other(warm_up_images(self.work), 784))
        warm = warm.reshape(-1, *self.shown.shape[1:])
        self._epoch(warm, warm if self.denoises else classes)
        versions = {"torch": torch.__version__}
        return {"versions": versions, "does": f"a plain loop, eager, fp32, {torch.get_num_threads()} threads"}

    def _tensors(self, folder: str) -> tuple[torch.Tensor, torch.Tensor]:
        count = self.work.images
        shape = (count, 1, 28, 28) if self.work.network == "cnn" else (count, 784)
        shown = torch.from_numpy(scaled(folder, "noisy" if self.denoises else "clean", count)).reshape(shape)
        if not self.denoises:
            return shown, torch.from_numpy(labels(folder, count))
        return shown, torch.from_numpy(scaled(folder, "clean", count)).reshape(shape)

    def _epoch(self, shown: torch.Tensor, wanted: torch.Tensor) -> float:
        loss_of = functional.binary_cross_entropy_with_logits if self.denoises else functional.cross_entropy
        total = torch.zeros(())
        for index in torch.randperm(len(shown)).split(self.work.batch):  # type: ignore[no-untyped-call]
            self.optimiser.zero_grad()
            loss = loss_of(self.net(shown[index]), wanted[index])
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            total += loss.detach() * len(index)
        return float(total) / len(shown)

    def measure(self) -> Json:
        """One epoch over the unit's images."""
        began = time.perf_counter()
        loss = self._epoch(self.shown, self.wanted)
        return {"seconds": time.perf_counter() - began, "images": self.work.images, "loss": loss}


if __name__ == "__main__":
    serve(TorchPeer())

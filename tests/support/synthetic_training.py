"""Small trainings on made-up digits, for tests of the engine."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from inklab.training.batches import TrainingData, to_tensor_set
from inklab.training.checkpoint import CheckpointManager, TrainingInterrupted
from inklab.training.trainer import PopulationJob, TrainingResult, Trial, train_population

CLASSES, SIDE, MARGIN = 10, 12, 2
LABELS = tuple("0123456789")
SMALL_MLP = {"name": "mlp", "hidden": [16, 12]}
SMALL_CNN = {"name": "cnn", "channels": [4, 8], "pool": 2, "dropout": 0.5, "hidden": 16}
SMALL_AUTOENCODER = {"name": "autoencoder", "hidden": [24], "code": 8}
SMALL_COMPACT = {"name": "compact", "channels": [4, 8], "first": 3}
SMALL_UNET = {"name": "unet", "channels": [4, 8], "depth": 1}


def glyphs(count: int, seed: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Bytes `(count, 1, side, side)` and labels: ten blurred patterns, moved, dimmed, spotted."""
    inner = side - 2 * MARGIN
    bits = np.random.default_rng(0).random((CLASSES, 4, 4)) < 0.45
    coarse = np.kron(bits.astype(np.float64), np.ones((inner // 4, inner // 4)))
    patterns = np.pad(coarse, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    for axis in (1, 2):
        patterns = (np.roll(patterns, 1, axis) + 2 * patterns + np.roll(patterns, -1, axis)) / 4
    rng = np.random.default_rng(seed)
    labels = np.concatenate([rng.permutation(CLASSES) for _ in range(-(-count // CLASSES))])[:count]
    moves, ink = rng.integers(-1, 2, (count, 2)), rng.uniform(0.6, 1.0, count)
    moved = np.stack([np.roll(patterns[k], (y, x), (0, 1)) for k, (y, x) in zip(labels, moves, strict=True)])
    spotted = moved * ink[:, None, None] + 0.08 * rng.random(moved.shape)
    return (spotted.clip(0, 1) * 255).astype(np.uint8)[:, None], labels.astype(np.int64)


def training_data(pixels: np.ndarray, labels: np.ndarray, train: int, validation: int) -> TrainingData:
    """The first `train` images, the next `validation`, and the rest as test images."""
    ends = [0, train, train + validation, len(labels)]
    cuts = [slice(low, high) for low, high in zip(ends, ends[1:], strict=False)]
    return TrainingData(*(to_tensor_set(pixels[cut], labels[cut]) for cut in cuts), labels=LABELS)


def settings(
    model: dict[str, Any] | str = SMALL_MLP, precision: str = "fp32", **recipe: Any
) -> dict[str, Any]:
    """A trial's resolved settings; `mean` and `spread` go to the scaling, all else to the recipe."""
    scaling = {"mean": recipe.pop("mean", 0.0), "spread": recipe.pop("spread", 1.0)}
    named = {"name": model} if isinstance(model, str) else model
    return {
        "model": named,
        "scaling": scaling,
        "recipe": {"epochs": 1, "batch": 32, **recipe},
        "precision": precision,
    }


def members(*told: tuple[int, dict[str, Any]]) -> list[Trial]:
    """Trials of `(replicate, settings)`."""
    return [Trial(f"trial-{place}", each, replicate) for place, (replicate, each) in enumerate(told)]


def train(
    trials: Sequence[Trial], data: TrainingData, *, lifted: bool = True, random: bool = False, seed: int = 0
) -> list[TrainingResult]:
    """Train a group."""
    return train_population(PopulationJob(trials, lifted, random, seed), data)


def train_one(told: dict[str, Any], data: TrainingData, *, replicate: int = 0, **how: Any) -> TrainingResult:
    """Train a lone trial."""
    return train(members((replicate, told)), data, **how)[0]


class StopAfter:
    """Asks to stop after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


def stopped_and_resumed(
    group: PopulationJob, data: TrainingData, folder: Path, stops: Sequence[int]
) -> list[TrainingResult]:
    """Train, stopped after so many steps each time, until it comes to its end; what came of it."""
    for number, steps in enumerate([*stops, 10**9]):
        before = [folder / str(earlier) for earlier in range(number)]
        keeper = CheckpointManager(folder / str(number), before, asked_to_stop=StopAfter(steps), look=0.0)
        try:
            return train_population(group, data, keeper=keeper)
        except TrainingInterrupted:
            continue
    raise AssertionError("it never ended")


def same_bits(one: TrainingResult | nn.Module, other: TrainingResult | nn.Module) -> bool:
    """Whether two trainings (or networks) ended in the same bits, history included."""
    if isinstance(one, TrainingResult) and isinstance(other, TrainingResult):
        if (one.history, one.diverged) != (other.history, other.diverged):
            return False
        one, other = one.net, other.net
    assert isinstance(one, nn.Module) and isinstance(other, nn.Module)
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and a[name].numpy().tobytes() == b[name].numpy().tobytes()
        for name in a
    )  # bytes, since NaN, in which a diverged training ends, is not equal to itself


def assert_near(one: TrainingResult, other: TrainingResult, rtol: float = 1e-4) -> None:
    """Histories and weights agree within a relative tolerance (of each tensor's largest value)."""
    assert one.history.keys() == other.history.keys()
    for name in one.history:
        np.testing.assert_allclose(one.history[name], other.history[name], rtol=rtol, err_msg=name)
    for name, value in one.net.state_dict().items():
        assert_tensor_near(value, other.net.state_dict()[name], name, rtol)


def assert_tensor_near(value: torch.Tensor, wanted: torch.Tensor, name: str, rtol: float = 1e-4) -> None:
    """Equal within `rtol` of the tensor's largest value."""
    gap = float((value.double() - wanted.double()).abs().max())
    assert gap <= rtol * max(float(wanted.double().abs().max()), 1e-3), f"{name} is off by {gap}"


def walk(value: object, see: Callable[[object], None]) -> None:
    """Visit every leaf of nested dicts and lists."""
    parts: Iterator[object] = iter(value.values() if isinstance(value, dict) else value)  # type: ignore[call-overload]
    for part in parts:
        walk(part, see) if isinstance(part, dict | list | tuple) else see(part)

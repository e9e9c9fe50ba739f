"""Small trainings on synthetic digits, for tests of the engine."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.records.outcomes import History
from inklab.records.plan import Trial
from inklab.records.recipe import Recipe, TrialConfig
from inklab.training.batches import TrainingData, to_tensor_set
from inklab.training.checkpoint import CheckpointManager, TrainingInterrupted
from inklab.training.optimizers import MUON_POLYNOMIAL
from inklab.training.population import PopulationSpec
from inklab.training.trainer import TrainingResult, train_population

CLASSES, SIDE, MARGIN = 10, 12, 2
LABELS = tuple("0123456789")
SMALL_MLP = NetworkConfig.of("mlp", hidden=[16, 12])
DROPOUT_MLP = SMALL_MLP.with_kwargs({"dropout": 0.4})
SMALL_CNN = NetworkConfig.of("cnn", channels=[4, 8], pool=2, dropout=0.5, hidden=16)
SMALL_AUTOENCODER = NetworkConfig.of("autoencoder", hidden=[24], code=8)
SMALL_COMPACT = NetworkConfig.of("compact", channels=[4, 8], stem_kernel=3)
SMALL_UNET = NetworkConfig.of("unet", channels=[4, 8], depth=1)
Fields = dict[str, Any]
NOISE: Fields = {"name": "salt_and_pepper", "strength": [0.4, 0.4]}
RANGED: Fields = {"name": "salt_and_pepper", "strength": [0.0, 0.9]}
DENOISE: Fields = {
    "objective": "reconstruct", "optimizer": "adam", "learning_rate": 1e-3, "corruption": NOISE,
}  # fmt: skip
MUON: Fields = {
    "optimizer": "muon", "learning_rate": 0.02, "momentum": 0.9, "schedule": "linear", "warmup": 0.3,
}  # fmt: skip
MOVED: Fields = {"augmentation": {"shift": 1, "rotation": 15, "scale": 0.1, "elastic": 0.5}}


def glyphs(count: int, seed: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Bytes `(count, 1, side, side)` and labels: ten blurred patterns, shifted, dimmed, with spots."""
    inner = side - 2 * MARGIN
    bits = np.random.default_rng(0).random((CLASSES, 4, 4)) < 0.45
    coarse = np.kron(bits.astype(np.float64), np.ones((inner // 4, inner // 4)))
    patterns = np.pad(coarse, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    for axis in (1, 2):
        patterns = (np.roll(patterns, 1, axis) + 2 * patterns + np.roll(patterns, -1, axis)) / 4
    rng = np.random.default_rng(seed)
    labels = np.concatenate([rng.permutation(CLASSES) for _ in range(-(-count // CLASSES))])[:count]
    shifts, ink = rng.integers(-1, 2, (count, 2)), rng.uniform(0.6, 1.0, count)
    shifted = [np.roll(patterns[k], (y, x), (0, 1)) for k, (y, x) in zip(labels, shifts, strict=True)]
    spotted = np.stack(shifted) * ink[:, None, None] + 0.08 * rng.random((count, side, side))
    return (spotted.clip(0, 1) * 255).astype(np.uint8)[:, None], labels.astype(np.int64)


def training_data(pixels: np.ndarray, labels: np.ndarray, train: int, validation: int) -> TrainingData:
    """The first `train` images, the next `validation`, and the rest as test images."""
    ends = [0, train, train + validation, len(labels)]
    cuts = [slice(low, high) for low, high in zip(ends, ends[1:], strict=False)]
    sets = [to_tensor_set(pixels[cut], labels[cut]) for cut in cuts]
    return TrainingData(sets[0], sets[1], sets[2], labels=LABELS)


def trial_config(
    network: NetworkConfig | str = SMALL_MLP,
    precision: Any = "fp32",
    *,
    normalize: NormalizeConfig | None = None,
    **recipe: object,
) -> TrialConfig:
    """A trial's configuration: one epoch of batches of 32, unless the recipe's fields say otherwise."""
    return TrialConfig(
        network=NetworkConfig.parse(network),
        normalize=normalize or NormalizeConfig(),
        recipe=Recipe.parse({"epochs": 1, "batch_size": 32, **recipe}),
        precision=precision,
    )


def with_recipe(config: TrialConfig, **changes: object) -> TrialConfig:
    """The same configuration with some fields of the recipe replaced."""
    recipe = Recipe.parse({**config.recipe.model_dump(), **changes})
    return config.model_copy(update={"recipe": recipe})


def trials_of(*settings: tuple[int, TrialConfig]) -> list[Trial]:
    """Trials of `(replicate, configuration)`."""
    return [
        Trial(f"trial-{number}", config, replicate) for number, (replicate, config) in enumerate(settings)
    ]


def replicates_of(config: TrialConfig, *replicates: int) -> list[Trial]:
    """Replicates of one configuration."""
    return trials_of(*((replicate, config) for replicate in replicates))


def job_of(
    trials: Sequence[Trial],
    *,
    stacked: bool = True,
    reseed_each_step: bool = False,
    seed: int = 0,
    **options: Any,
) -> PopulationSpec:
    """Trials that are trained together."""
    return PopulationSpec(trials, stacked, reseed_each_step, seed, **options)


def train(trials: Sequence[Trial], data: TrainingData, **options: Any) -> list[TrainingResult]:
    """Train some trials together; options as of `job_of`."""
    return train_population(job_of(trials, **options), data)


def train_one(
    config: TrialConfig, data: TrainingData, *, replicate: int = 0, **options: Any
) -> TrainingResult:
    """Train one trial; options as of `job_of`."""
    return train(trials_of((replicate, config)), data, **options)[0]


class KerasAdam(torch.optim.Adam):
    """torch's Adam with Keras's epsilon of 1e-7, which is added to the uncorrected root."""

    def step(self, closure=None):
        (group,) = self.param_groups
        self.steps = getattr(self, "steps", 0) + 1
        group["eps"] = 1e-7 / (1 - 0.999**self.steps) ** 0.5
        return super().step(closure)


def orthogonalized_by_svd(matrix: torch.Tensor, n_iterations: int) -> torch.Tensor:
    """Muon's polynomial of each singular value alone, the oracle of its iteration."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    a, b, c = MUON_POLYNOMIAL
    values = values / values.norm(dim=-1, keepdim=True)
    for _ in range(n_iterations):
        values = a * values + b * values**3 + c * values**5
    return ((left * values[..., None, :]) @ right).float()


class StopAfter:
    """Requests a stop after some steps."""

    def __init__(self, steps: int) -> None:
        self.steps_left = steps

    def __call__(self) -> bool:
        self.steps_left -= 1
        return self.steps_left == 0


def checkpoints_in(
    folder: Path,
    *earlier: Path,
    interval: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> CheckpointManager:
    """A manager that decides anew after every step."""
    return CheckpointManager(folder, earlier, interval=interval, should_stop=should_stop, poll_interval=0.0)


def stopped_and_resumed(
    job: PopulationSpec, data: TrainingData, folder: Path, stops: Sequence[int]
) -> list[TrainingResult]:
    """Train, stopped after some steps each time, to the end."""
    for number, steps in enumerate([*stops, 10**9]):
        earlier = [folder / str(attempt) for attempt in range(number)]
        checkpoints = checkpoints_in(folder / str(number), *earlier, should_stop=StopAfter(steps))
        try:
            return train_population(job, data, checkpoints=checkpoints)
        except TrainingInterrupted:
            continue
    raise AssertionError("it never ended")


def same_bits(first: TrainingResult | nn.Module, other: TrainingResult | nn.Module) -> bool:
    """Whether two trainings (or networks) ended in the same bits, history included."""
    if isinstance(first, TrainingResult) and isinstance(other, TrainingResult):
        if (first.history, first.divergence) != (other.history, other.divergence):
            return False
        first, other = first.net, other.net
    assert isinstance(first, nn.Module) and isinstance(other, nn.Module)
    a, b = first.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and a[name].numpy().tobytes() == b[name].numpy().tobytes()
        for name in a
    )  # bytes, since NaN, in which a diverged training ends, is not equal to itself


def assert_near(first: TrainingResult, other: TrainingResult, rtol: float = 1e-4) -> None:
    """Histories and weights agree within a relative tolerance (of each tensor's largest value)."""
    assert first.history.columns.keys() == other.history.columns.keys()
    for name, column in first.history.columns.items():
        expected = np.array(other.history.columns[name])
        np.testing.assert_allclose(np.array(column), expected, rtol=rtol, err_msg=name)
    for name, value in first.net.state_dict().items():
        assert_tensor_near(value, other.net.state_dict()[name], name, rtol)


def assert_tensor_near(value: torch.Tensor, expected: torch.Tensor, name: str, rtol: float = 1e-4) -> None:
    """Equal within `rtol` of the tensor's largest value."""
    error = float((value.double() - expected.double()).abs().max())
    assert error <= rtol * max(float(expected.double().abs().max()), 1e-3), f"{name} is off by {error}"


def assert_finite(history: History) -> None:
    """Every value of every curve is a finite number."""
    for name, column in history.columns.items():
        assert all(value is not None and math.isfinite(value) for value in column), name

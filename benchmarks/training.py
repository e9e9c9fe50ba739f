"""inklab's engine as the benchmarks call it: `train_population`, as a run's workers do, without scoring.

Learning curves are not timed: the objectives registered here are the engine's own losses, declared to
denoise, which is not evaluated where there are no validation images.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.peers.images import labels, pixels
from benchmarks.works import (
    CHANNELS,
    CNN_HIDDEN,
    CODE,
    DROPOUT,
    HIDDEN,
    L2_VALUES,
    POOL,
    WORKS,
    Work,
    smaller,
    warm_up_images,
)
from inklab.hardware import disable_malloc_trim
from inklab.records.plan import Trial
from inklab.records.recipe import NetworkConfig, NormalizeConfig, Precision, Recipe, TrialConfig
from inklab.training.batches import TensorSet, TrainingData
from inklab.training.checkpoint import CheckpointManager
from inklab.training.objectives import Batch, Forward, objective, objectives
from inklab.training.population import PopulationJob
from inklab.training.trainer import TrainingResult, train_population

NETWORKS = {
    "mlp": NetworkConfig.of("mlp", hidden=list(HIDDEN)),
    "cnn": NetworkConfig.of("cnn", channels=list(CHANNELS), pool=POOL, dropout=DROPOUT, hidden=CNN_HIDDEN),
    "autoencoder": NetworkConfig.of("autoencoder", hidden=list(CODE[:-1]), code=CODE[-1]),
}
NOTHING = TensorSet(torch.zeros(0, 1, 28, 28, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
CLASSES = tuple(str(digit) for digit in range(10))


@objective("benchmark-denoise", task="denoising")
def denoise(net: Forward, batch: Batch) -> Tensor:
    """What `reconstruct` is, for one fixed noisy copy: the clean bytes come in the place of labels."""
    return binary_cross_entropy_with_logits(net(batch.inputs), batch.labels.float() / 255)


def unscored(name: str) -> str:
    """The name of an objective that is another in all but its curves, of which none is scored."""
    other = f"benchmark-{name}"
    if other not in objectives:
        objective(other, task="denoising")(objectives[name].loss)
    return other


def config_of(work: Work, precision: Precision, **fields: Any) -> TrialConfig:
    """A trial's configuration for some work, one epoch; `fields` replace those of its recipe."""
    objective_name = "benchmark-denoise" if work.network == "autoencoder" else unscored("classify")
    recipe = {
        "objective": objective_name, "optimizer": work.optimiser, "learning_rate": work.rate, "momentum": 0.0,
        "schedule": "constant", "epochs": 1, "batch_size": work.batch, "l2": work.l2,
        "l2_params": ("hidden.*.weight",), "corruption": None,
    }  # fmt: skip
    return TrialConfig(
        network=NETWORKS[work.network],
        normalize=NormalizeConfig(),
        recipe=Recipe(**recipe | fields),
        precision=precision,
    )


def group_of(work: Work, precision: Precision, first: int, members: int, **fields: Any) -> PopulationJob:
    """A population as the study makes it, compiled: replicates from `first` on, values of L2 in turn."""
    trials = []
    for number in range(first, first + members):
        l2 = L2_VALUES[number % len(L2_VALUES)] if work.l2 else 0.0
        config = config_of(work, precision, l2=l2, **fields)
        trials.append(Trial(f"{work.name}-{number}", config, number))
    return PopulationJob(
        trials,
        stacked=work.network != "cnn",
        reseed_each_step=False,
        seed=0,
        population_size=members,
        compiled=True,
    )


def groups_of(work: Work, precision: Precision, first: int) -> list[PopulationJob]:
    """The populations that a worker trains one after the other in a unit."""
    starts = range(first, first + work.members, work.together)
    return [group_of(work, precision, start, work.together) for start in starts]


def data_of(work: Work, folder: str, count: int) -> TrainingData:
    """The first images of the laid-out ones, nothing held out; the denoiser's are the noisy copies."""
    denoises = work.network == "autoencoder"
    inputs = np.ascontiguousarray(pixels(folder, "noisy" if denoises else "clean", count)[:, None])
    targets = np.ascontiguousarray(
        pixels(folder, "clean", count)[:, None] if denoises else labels(folder, count)
    )
    return TrainingData(
        TensorSet(torch.from_numpy(inputs), torch.from_numpy(targets)), NOTHING, NOTHING, CLASSES
    )


def train(
    group: PopulationJob, data: TrainingData, checkpoints: CheckpointManager | None = None
) -> list[TrainingResult]:
    """Train a group; whatever diverges is an error here."""
    results = train_population(group, data, checkpoints=checkpoints)
    for result in results:
        if result.divergence:
            raise RuntimeError(f"{result.trial.id} diverged: {result.divergence}")
    return results


def worker(request: dict[str, Any], number: int) -> tuple[Any, Any]:
    """What one of the processes side by side does: a population of its own, built anew for each unit."""
    torch.set_num_threads(1)
    disable_malloc_trim()  # as a run's workers do
    work = smaller(WORKS[request["work"]], request["images"], request["members"])
    data = data_of(work, request["data"], work.images)
    warm = data_of(work, request["data"], warm_up_images(work))
    precision, first = request["precision"], number * work.members

    def warm_up() -> None:
        train(group_of(work, precision, first + 1_000, work.together), warm)

    def unit() -> float:
        results = [result for group in groups_of(work, precision, first) for result in train(group, data)]
        return float(np.mean([result.history.train_loss[-1] for result in results]))

    return warm_up, unit

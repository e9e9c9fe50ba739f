"""inklab's engine as the benchmarks call it: `train_population`, as a run's workers do, without evaluation.

Learning curves are not timed: the objectives registered here have the engine's own losses, but are declared
as denoising, which is not evaluated where there are no validation images.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.peer_protocol import PrepareRequest
from benchmarks.peers.arrays import read_labels, read_pixels
from benchmarks.workloads import (
    CHANNELS,
    CNN_HIDDEN,
    CODE,
    DROPOUT,
    HIDDEN,
    L2_VALUES,
    POOL,
    WORKLOADS,
    Workload,
)
from inklab.hardware import disable_malloc_trim
from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.records.plan import Trial
from inklab.records.recipe import Recipe, TrialConfig
from inklab.training.batches import TensorSet, TrainingData
from inklab.training.checkpoint import CheckpointManager
from inklab.training.objectives import Batch, Forward, objective, objectives
from inklab.training.population import PopulationSpec
from inklab.training.trainer import TrainingResult, train_population

NETWORKS = {
    "mlp": NetworkConfig.of("mlp", hidden=list(HIDDEN)),
    "cnn": NetworkConfig.of("cnn", channels=list(CHANNELS), pool=POOL, dropout=DROPOUT, hidden=CNN_HIDDEN),
    "autoencoder": NetworkConfig.of("autoencoder", hidden=list(CODE[:-1]), code=CODE[-1]),
}
NO_IMAGES = TensorSet(torch.zeros(0, 1, 28, 28, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
CLASSES = tuple(str(digit) for digit in range(10))
WARM_UP_REPLICATE = 1_000  # none of those that are measured


@objective("benchmark-denoise", task="denoising")
def denoise(net: Forward, batch: Batch) -> Tensor:
    """The loss of `reconstruct` for one fixed noisy copy: the labels are the clean images."""
    return binary_cross_entropy_with_logits(net(batch.inputs), batch.labels.float() / 255)


def unevaluated(name: str) -> str:
    """The name of an objective with the same loss whose learning curves are not evaluated."""
    benchmark_name = f"benchmark-{name}"
    if benchmark_name not in objectives:
        objective(benchmark_name, task="denoising")(objectives[name].loss)
    return benchmark_name


def make_config(workload: Workload, precision: str, **recipe_fields: object) -> TrialConfig:
    """A trial's configuration for one epoch of a workload; `recipe_fields` replace fields of its recipe."""
    fields: dict[str, object] = {
        "objective": "benchmark-denoise" if workload.denoises else unevaluated("classify"),
        "optimizer": workload.optimizer, "learning_rate": workload.learning_rate, "momentum": 0.0,
        "schedule": "constant", "epochs": 1, "batch_size": workload.batch_size, "l2": workload.l2,
        "l2_params": ("hidden.*.weight",), "corruption": None,
    }  # fmt: skip
    recipe = Recipe.model_validate(fields | recipe_fields)
    config = {"network": NETWORKS[workload.network], "normalize": NormalizeConfig(), "recipe": recipe}
    return TrialConfig.model_validate({**config, "precision": precision})


def make_population(
    workload: Workload, precision: str, first: int, members: int, **recipe_fields: object
) -> PopulationSpec:
    """A compiled population as the study trains it: replicates from `first` on, values of L2 in turn."""
    trials = []
    for replicate in range(first, first + members):
        l2 = L2_VALUES[replicate % len(L2_VALUES)] if workload.l2 else 0.0
        config = make_config(workload, precision, **{"l2": l2, **recipe_fields})
        trials.append(Trial(f"{workload.name}-{replicate}", config, replicate))
    return make_job(trials, stacked=workload.network != "cnn")


def make_job(trials: list[Trial], *, stacked: bool) -> PopulationSpec:
    """A compiled population of trials."""
    return PopulationSpec(
        trials, stacked=stacked, reseed_each_step=False, seed=0, population_size=len(trials), compiled=True
    )


def unit_populations(workload: Workload, precision: str, first: int) -> list[PopulationSpec]:
    """The populations that a worker trains one after the other in a unit."""
    starts = range(first, first + workload.members, workload.population)
    return [make_population(workload, precision, start, workload.population) for start in starts]


def read_training_data(workload: Workload, folder: str, count: int) -> TrainingData:
    """The first cached images, all for training; the denoiser's inputs are the noisy copies."""
    inputs = read_pixels(folder, "noisy" if workload.denoises else "clean", count)[:, None]
    targets = (
        read_pixels(folder, "clean", count)[:, None] if workload.denoises else read_labels(folder, count)
    )
    tensors = (torch.from_numpy(np.ascontiguousarray(array)) for array in (inputs, targets))
    return TrainingData(TensorSet(*tensors), NO_IMAGES, NO_IMAGES, CLASSES)


def train(
    job: PopulationSpec, data: TrainingData, checkpoints: CheckpointManager | None = None
) -> list[TrainingResult]:
    """Train a population.

    Raises:
        RuntimeError: a member diverged.
    """
    results = train_population(job, data, checkpoints=checkpoints)
    for result in results:
        if result.divergence:
            raise RuntimeError(f"{result.trial.id} diverged: {result.divergence}")
    return results


def training_worker(request: PrepareRequest, index: int) -> tuple[Callable[[], object], Callable[[], float]]:
    """What one of the parallel processes does: a unit trains its own populations, from new networks."""
    torch.set_num_threads(1)
    disable_malloc_trim()  # as a run's workers do
    workload = WORKLOADS[request.workload].reduced(request.images, request.members)
    data = read_training_data(workload, request.data, workload.images)
    warm_up_data = read_training_data(workload, request.data, workload.warm_up_images)
    precision, first = request.precision, index * workload.members

    def warm_up() -> None:
        job = make_population(workload, precision, first + WARM_UP_REPLICATE, workload.population)
        train(job, warm_up_data)

    def run() -> float:
        jobs = unit_populations(workload, precision, first)
        losses = [result.history.train_loss[-1] for job in jobs for result in train(job, data)]
        return float(np.mean([loss for loss in losses if loss is not None]))

    return warm_up, run

"""inklab's engine as the benchmarks call it: `train_population`, as a run's workers do, without scoring.

Learning curves are not timed: the objectives registered here are the engine's own losses, declared to give
back "images", of which nothing is scored where there are no validation images.
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
from inklab.training.batches import TensorSet, TrainingData
from inklab.training.checkpoint import CheckpointManager
from inklab.training.objectives import Batch, Forward, objective, objectives
from inklab.training.trainer import PopulationJob, TrainingResult, Trial, train_population

MODELS = {
    "mlp": {"name": "mlp", "hidden": list(HIDDEN)},
    "cnn": {
        "name": "cnn", "channels": list(CHANNELS), "pool": POOL, "dropout": DROPOUT, "hidden": CNN_HIDDEN,
    },
    "autoencoder": {"name": "autoencoder", "hidden": list(CODE[:-1]), "code": CODE[-1]},
}  # fmt: skip
NOTHING = TensorSet(torch.zeros(0, 1, 28, 28, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
CLASSES = tuple(str(digit) for digit in range(10))


@objective("benchmark-denoise", target="images")
def denoise(net: Forward, batch: Batch) -> Tensor:
    """What `reconstruct` is, for one fixed noisy copy: the clean bytes come in the place of labels."""
    return binary_cross_entropy_with_logits(net(batch.shown), batch.labels.float() / 255)


def unscored(name: str) -> str:
    """The name of an objective that is another in all but its curves, of which none is scored."""
    other = f"benchmark-{name}"
    if other not in objectives:
        objective(other, target="images")(objectives[name].loss)
    return other


def settings_of(work: Work, precision: str, **recipe: Any) -> dict[str, Any]:
    """A trial's resolved settings for some work, one epoch; `recipe` stands over its fields."""
    kind = "benchmark-denoise" if work.network == "autoencoder" else unscored("classify")
    told = {
        "objective": kind, "optimiser": work.optimiser, "rate": work.rate, "momentum": 0.0,
        "schedule": "constant", "epochs": 1, "batch": work.batch, "l2": work.l2,
        "l2_on": ["hidden.*.weight"], "corruption": None,
    }  # fmt: skip
    scaling = {"mean": 0.0, "spread": 1.0}
    model = MODELS[work.network]
    return {"model": model, "scaling": scaling, "recipe": told | recipe, "precision": precision}


def group_of(work: Work, precision: str, first: int, members: int) -> PopulationJob:
    """A population as the study makes it, compiled: replicates from `first` on, values in turn."""
    trials = []
    for number in range(first, first + members):
        l2 = L2_VALUES[number % len(L2_VALUES)] if work.l2 else 0.0
        trials.append(Trial(f"{work.name}-{number}", settings_of(work, precision, l2=l2), number))
    lifted = work.network != "cnn"
    return PopulationJob(trials, lifted=lifted, random=False, seed=0, slots=members, compiled=True)


def groups_of(work: Work, precision: str, first: int) -> list[PopulationJob]:
    """The populations that a worker trains one after the other in a unit."""
    starts = range(first, first + work.members, work.together)
    return [group_of(work, precision, start, work.together) for start in starts]


def data_of(work: Work, folder: str, count: int) -> TrainingData:
    """The first images of the laid-out ones, nothing held out; the denoiser's are the noisy copies."""
    denoises = work.network == "autoencoder"
    shown = np.ascontiguousarray(pixels(folder, "noisy" if denoises else "clean", count)[:, None])
    wanted = np.ascontiguousarray(
        pixels(folder, "clean", count)[:, None] if denoises else labels(folder, count)
    )
    return TrainingData(
        TensorSet(torch.from_numpy(shown), torch.from_numpy(wanted)), NOTHING, NOTHING, CLASSES
    )


def train(
    group: PopulationJob, data: TrainingData, keeper: CheckpointManager | None = None
) -> list[TrainingResult]:
    """Train a group; whatever diverges is an error here."""
    trained = train_population(group, data, keeper=keeper)
    for each in trained:
        if each.diverged:
            raise RuntimeError(f"{each.trial.id} diverged: {each.diverged}")
    return trained


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
        trained = [each for group in groups_of(work, precision, first) for each in train(group, data)]
        return float(np.mean([each.history["train_loss"][-1] for each in trained]))

    return warm_up, unit

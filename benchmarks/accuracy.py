"""Time to accuracy on a CPU, with statistics: how long until the mean of a recipe's replicates is as good.

A level is a recipe with a number of epochs that was chosen on validation images. All its replicates are
trained to the end and scored once on the test images; their mean must reach the level, and every one counts.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.compare import SETTLE
from benchmarks.driver import PREPARE_LIMIT, WORK, BenchmarkError, Entrant, started
from benchmarks.images import lay_out
from benchmarks.storing import Json, machine, note, store
from benchmarks.works import EPOCH
from inklab.data.dataset import ImageSet, Split
from inklab.hardware import cores, preferred_dtype
from inklab.records.plan import ExecutionConfig
from inklab.records.recipe import TrialConfig
from inklab.statistics import estimate
from inklab.study.load import LoadedSpec, open_study, parse_study
from inklab.study.planner import distinct_configs
from inklab.training.objectives import objectives
from inklab.training.recipe_files import read_recipe_file

REPLICATES = 30
SOURCE_EPOCHS = 40
BEST_OF_SOURCE = 0.9939
CLAIM, BAR, STRETCH = "time-to-99.39/keras-tensorflow", 40.0, 80.0
WARM_UP_REPLICATE = 1_000_000  # none of those that are counted


@dataclass(frozen=True)
class Level:
    """What is to be reached, and by what.

    Attributes:
        accuracy: the mean over replicates, on the test images.
        recipe: a built-in recipe that names its network.
        changes: what stands over the recipe's fields, chosen on validation images as well (docs/recipes).
    """

    accuracy: float
    recipe: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def asked(self) -> str:
        """The recipe and what is changed in it."""
        return " ".join([self.recipe, *(f"{key}={value}" for key, value in self.changes.items())])


ONE_EPOCH = {"epochs": 1, "batch_size": 125, "learning_rate": 0.035, "augmentation": None}
LEVELS = (
    Level(0.990, "cnn-fast", ONE_EPOCH),
    Level(0.9939, "cnn-fast"),
    Level(0.994, "cnn-fast"),
    Level(0.995, "cnn-best", {"epochs": 3}),
)
"""99.39 % is what the source's network reached in the best of its forty epochs."""


def time_to_accuracy(out: Path, command: str, replicates: int, images: int | None) -> list[str]:
    """Train and score every level's replicates, with epochs of Keras on the source's network in between.

    Args:
        out: folder of the results.
        command: what was typed.
        replicates: of each level.
        images: fewer training images, to try it out.

    Returns:
        A line a level, and one for the claim.

    Raises:
        BenchmarkError: fewer than two replicates, or one that diverged.
        DataError: MNIST can't be had.
        PeerDied: Keras failed; nothing is stored.
    """
    if replicates < 2:
        raise BenchmarkError(
            f"{replicates} replicates make no interval; at least 2, {REPLICATES} for the claim"
        )
    keras = _Keras(images)
    done: dict[str, Json] = {}
    try:
        for level in LEVELS:  # two levels may ask for the same training
            if level.asked not in done:
                done[level.asked] = measured(level, replicates, images, keras.epoch)
    finally:
        keras.close()
    levels = [
        {
            "level": level.accuracy,
            "reached": done[level.asked]["test"]["mean"] >= level.accuracy,
            **done[level.asked],
        }
        for level in LEVELS
    ]
    claim = _claim(next(each for each in levels if each["level"] == BEST_OF_SOURCE), keras.told, command)
    told: Json = {"name": "time-to-accuracy", "levels": levels, "keras": keras.told}
    store(out, told | machine(command), {CLAIM: claim})
    return [*map(_line, levels), f"{CLAIM}: {claim['value']:.0f} times as fast"]


def measured(
    level: Level, replicates: int, images: int | None, between: Callable[[], None] = lambda: None
) -> Json:
    """Train replicates one after the other on all cores, after a warm-up on other images.

    Args:
        level: what is trained.
        replicates: how many.
        images: fewer training images, to try it out.
        between: called before the first, after the last and halfway: for what is measured beside.

    Returns:
        Scores `time` (in seconds), `test` and `validation` (accuracies), each over replicates; what the
        warm-up took, which compiles and loads the program; what an image costs.
    """
    import torch

    from inklab.evaluation.scores import classification_scores
    from inklab.hardware import disable_malloc_trim

    torch.set_num_threads(cores())
    disable_malloc_trim()
    config, parts = opened(level, images)
    began = time.perf_counter()
    trained(_with_recipe(config, epochs=1), WARM_UP_REPLICATE, _others(parts))
    version = read_recipe_file(level.recipe).version
    found: Json = {"recipe": level.recipe, "version": version, "settings": config.to_json()}
    found |= {"warm_up_seconds": time.perf_counter() - began, "train_images": len(parts.train)}
    seconds: list[float] = []
    accuracies: dict[str, list[float]] = {"test": [], "validation": []}
    for replicate in range(replicates):
        if replicate in (0, replicates // 2):
            between()
        began = time.perf_counter()
        net = trained(config, replicate, parts.train)
        seconds.append(time.perf_counter() - began)
        for name, known in accuracies.items():
            part = getattr(parts, name)
            known.append(classification_scores(net, part.pixels, part.labels).accuracy)
        note(f"{level.asked}: {replicate + 1} of {replicates}, {seconds[-1]:.1f} s")
    between()
    for name, known in accuracies.items():
        found[name] = estimate(known, images=len(getattr(parts, name))).to_json()
    found["time"] = estimate(seconds).to_json()
    return found | _cost(net, config, len(parts.train))


def opened(level: Level, images: int | None) -> tuple[TrialConfig, Split]:
    """The configuration, as a study's plan has it, and the study's split of MNIST."""
    name = level.recipe
    experiment = {"recipe": {"base": name, **level.changes}, "replicates": 1}
    table = {"name": name, "data": {"dataset": "mnist"}, "experiments": {name: experiment}}
    study = open_study(LoadedSpec(parse_study(table, name), "plain"))
    execution = ExecutionConfig(precision=preferred_dtype())
    (config,) = distinct_configs(study.spec, study.data, execution).values()
    train = study.split.train
    return config, replace(study.split, train=train.take(np.arange(len(train))[:images]))


def _with_recipe(config: TrialConfig, **fields: Any) -> TrialConfig:
    return config.model_copy(update={"recipe": config.recipe.model_copy(update=fields)})


def _others(parts: Split) -> ImageSet:
    """As many images as are trained on, and none of them: noise."""
    noise = np.random.default_rng(0).integers(0, 256, parts.train.pixels.shape, dtype=np.uint8)
    return replace(parts.train, pixels=noise)


def trained(config: TrialConfig, replicate: int, images: ImageSet) -> Any:
    """One network, trained as a run trains it, without evaluating learning curves in between."""
    from benchmarks.training import CLASSES, NOTHING, unscored
    from inklab.records.plan import Trial
    from inklab.training.batches import TrainingData, to_tensor_set
    from inklab.training.population import PopulationJob
    from inklab.training.trainer import train_population

    trial = Trial("timed", _with_recipe(config, objective=unscored(config.recipe.objective)), replicate)
    group = PopulationJob(
        [trial], stacked=False, reseed_each_step=False, seed=0, population_size=1, compiled=True
    )
    data = TrainingData(to_tensor_set(images.pixels, images.labels), NOTHING, NOTHING, CLASSES)
    (result,) = train_population(group, data)
    if result.divergence or not result.compiled:
        raise BenchmarkError(f"replicate {replicate}: {result.divergence or result.compile_error}")
    return result.net


def _cost(net: Any, config: TrialConfig, images: int) -> Json:
    """Parameters, and floating-point operations of one training, two a multiply-accumulate."""
    from inklab.networks.layer_table import layer_table

    macs = sum(row.macs or 0 for row in layer_table(net.net, (1, 28, 28)))
    passes = objectives[config.recipe.objective].cost * images * config.recipe.epochs
    return {
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "macs": macs,
        "flops": 2 * passes * macs,
    }


class _Keras:
    """Keras on TensorFlow with the source's network: asleep, but for single epochs over all 60,000 images."""

    def __init__(self, images: int | None) -> None:
        env = {"KERAS_BACKEND": "tensorflow"}
        entrant = Entrant("keras-tensorflow", "benchmarks.peers.keras_peer", env=env)
        request = {"do": "prepare", "work": "cnn", "data": str(lay_out(WORK / "data"))}
        self.peer = started(entrant, WORK / "logs" / "time-to-accuracy")
        self.told: Json = self.peer.ask({**request, "images": images or EPOCH}, PREPARE_LIMIT)
        self.told |= {"epoch_seconds": []}

    def epoch(self) -> None:
        """One epoch; before and after it, threads fall asleep."""
        time.sleep(SETTLE)
        self.told["epoch_seconds"].append(self.peer.ask({"do": "measure"})["seconds"])
        time.sleep(SETTLE)
        note(f"Keras: {self.told['epoch_seconds'][-1]:.1f} s an epoch")

    def close(self) -> None:
        """Tell it to end."""
        self.peer.close()


def _claim(level: Json, keras: Json, command: str) -> Json:
    """How many times as fast: forty epochs of Keras, extrapolated, by the mean of our trainings."""
    ours = level["time"]["mean"]
    ratios = sorted(SOURCE_EPOCHS * epoch / ours for epoch in keras["epoch_seconds"])
    return {
        "value": median(ratios), "unit": "ratio", "low": ratios[0], "high": ratios[-1],
        "n": level["time"]["n"], "bar": BAR, "stretch": STRETCH, "reached": level["reached"],
        "about": f"{SOURCE_EPOCHS} epochs of Keras, extrapolated from {len(ratios)}, by our mean of n",
        "command": command,
    }  # fmt: skip


def _line(level: Json) -> str:
    test, seconds = level["test"], level["time"]
    low, high = test["ci95"]
    return (
        f"{level['level']:.2%} {'reached' if level['reached'] else 'NOT reached'}: {level['recipe']}, "
        f"{level['settings']['recipe']['epochs']} epochs, {seconds['mean']:.1f} s (SD {seconds['sd']:.1f}); "
        f"mean {test['mean']:.3%} ({low:.3%} to {high:.3%}), n = {test['n']}"
    )

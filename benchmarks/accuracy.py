"""Time to accuracy on a CPU, with statistics: how long until the mean of a recipe's replicates is as good.

A level is a recipe with a number of epochs that was chosen on validation images. All its replicates are
trained to the end and scored once on the test images; their mean must reach the level, and every one counts.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.driver import WORK, BenchmarkError, Entrant, started
from benchmarks.images import lay_out
from benchmarks.storing import Json, machine, note, store
from benchmarks.works import EPOCH
from inklab.data.dataset import ImageSet
from inklab.data.split import Split
from inklab.machine import cores, fast_precision
from inklab.statistics import score
from inklab.study.opening import open_study
from inklab.study.plan import plan
from inklab.study.populations import How, Way
from inklab.study.reading import parse_study

REPLICATES = 30
SOURCE_EPOCHS = 40
KERAS_EPOCHS = 3  # that are timed; the source's forty are extrapolated from their median
BACKWARD = 3  # a step costs about three forward passes
BEST_OF_SOURCE = 0.9939
CLAIM, BAR, STRETCH = "time-to-99.39/keras-tensorflow", 40.0, 80.0
WARM_UP_REPLICATE = 1_000_000  # none of those that are counted


@dataclass(frozen=True)
class Level:
    """What is to be reached, and by what.

    Attributes:
        accuracy: the mean over replicates, on the test images.
        recipe: a built-in recipe that names its network.
        epochs: chosen on validation images (docs/recipes).
    """

    accuracy: float
    recipe: str
    epochs: int


LEVELS = (
    Level(0.990, "cnn-fast", 1),
    Level(0.9939, "cnn-fast", 5),
    Level(0.994, "cnn-fast", 5),
    Level(0.995, "cnn-fast", 8),
)
"""99.39 % is what the source's network reached in the best of its forty epochs."""


def time_to_accuracy(out: Path, command: str, replicates: int, images: int | None) -> list[str]:
    """Train and score every level's replicates, then time Keras on the source's network beside.

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
    done: dict[tuple[str, int], Json] = {}
    for level in LEVELS:  # two levels may ask for the same training
        asked = level.recipe, level.epochs
        done[asked] = done.get(asked) or measured(*asked, replicates, images)
    levels = [_level(level, done[level.recipe, level.epochs]) for level in LEVELS]
    keras = _keras(images)
    claim = _claim(next(each for each in levels if each["level"] == BEST_OF_SOURCE), keras, command)
    told: Json = {"name": "time-to-accuracy", "levels": levels, "keras": keras}
    store(out, told | machine(command), {CLAIM: claim})
    return [*map(_line, levels), f"{CLAIM}: {claim['value']:.0f} times as fast"]


def measured(recipe: str, epochs: int, replicates: int, images: int | None) -> Json:
    """Train replicates one after the other on all cores, after a warm-up on other images.

    Returns:
        Seconds, test and validation accuracies, one each a replicate; what the warm-up took, which compiles
        and loads the program; what an image costs.
    """
    import torch

    from inklab.evaluate.scores import classification_scores
    from inklab.machine import keep_freed_memory

    torch.set_num_threads(cores())
    keep_freed_memory()
    settings, parts = _opened(recipe, epochs, images)
    began = time.perf_counter()
    _trained(settings | {"recipe": settings["recipe"] | {"epochs": 1}}, WARM_UP_REPLICATE, _others(parts))
    found: Json = {"recipe": recipe, "epochs": epochs, "settings": settings}
    found |= {"warm_up_seconds": time.perf_counter() - began, "train_images": len(parts.train)}
    found |= {name: [] for name in ("seconds", "test_accuracy", "validation_accuracy")}
    for replicate in range(replicates):
        began = time.perf_counter()
        net = _trained(settings, replicate, parts.train)
        found["seconds"].append(time.perf_counter() - began)
        for name in ("test", "validation"):
            part = getattr(parts, name)
            accuracy = classification_scores(net, part.pixels, part.labels).accuracy
            found[f"{name}_accuracy"].append(accuracy)
        note(f"{recipe}, {epochs} epochs: {replicate + 1} of {replicates}, {found['seconds'][-1]:.1f} s")
    return found | _cost(net, settings, len(parts.train))


def _opened(recipe: str, epochs: int, images: int | None) -> tuple[Json, Split]:
    """A recipe's resolved settings, as a study's plan has them, and the study's split of MNIST."""
    chapter = {"recipe": {"base": recipe, "epochs": epochs}, "replicates": 1}
    spec = parse_study({"name": recipe, "data": {"source": "mnist"}, "chapters": {recipe: chapter}}, recipe)
    study = open_study(spec, "plain")
    planned = plan(spec, "plain", study.identity, How(fast_precision()), lambda _: Way(False, False))
    (trial,) = planned["trials"].values()
    parts = study.split
    return trial["settings"], replace(parts, train=parts.train.take(np.arange(len(parts.train))[:images]))


def _others(parts: Split) -> ImageSet:
    """As many images as are trained on, and none of them: noise."""
    noise = np.random.default_rng(0).integers(0, 256, parts.train.pixels.shape, dtype=np.uint8)
    return replace(parts.train, pixels=noise)


def _trained(settings: Json, replicate: int, images: ImageSet) -> Any:
    """One network, trained as a run trains it, without the scoring of learning curves in between."""
    from benchmarks.training import CLASSES, NOTHING, unscored
    from inklab.train.loop import Group, Trial, train_group
    from inklab.train.tensors import TrainingData, as_part

    recipe = settings["recipe"]
    told = settings | {"recipe": recipe | {"objective": unscored(recipe["objective"])}}
    group = Group(
        [Trial("timed", told, replicate)], lifted=False, random=False, seed=0, slots=1, compiled=True
    )
    data = TrainingData(as_part(images.pixels, images.labels), NOTHING, NOTHING, CLASSES)
    (trained,) = train_group(group, data)
    if trained.diverged or not trained.compiled:
        raise BenchmarkError(f"replicate {replicate}: {trained.diverged or 'it was not compiled'}")
    return trained.net


def _cost(net: Any, settings: Json, images: int) -> Json:
    """Parameters, and floating-point operations of one training: two a multiply-add, three passes a step."""
    from inklab.models.parts.layers import layer_table

    forward = sum(row.multiply_adds for row in layer_table(net.net, (1, 28, 28)))
    return {
        "parameters": sum(each.numel() for each in net.parameters()),
        "multiply_adds": forward,
        "flops": 2 * BACKWARD * forward * images * settings["recipe"]["epochs"],
    }


def _level(level: Level, found: Json) -> Json:
    """A level with what it took, and whether it was reached."""
    accuracy = score(found["test_accuracy"], images=10_000).to_json()
    return {
        "level": level.accuracy, "reached": accuracy["mean"] >= level.accuracy, **found,
        "test": accuracy, "validation": score(found["validation_accuracy"], images=5_000).to_json(),
        "time": score(found["seconds"]).to_json(),
    }  # fmt: skip


def _keras(images: int | None) -> Json:
    """Seconds of single epochs of Keras on TensorFlow over all 60,000 images, the first one apart."""
    entrant = Entrant("keras-tensorflow", "benchmarks.peers.keras_peer", env={"KERAS_BACKEND": "tensorflow"})
    folder = lay_out(WORK / "data")
    peer = started(entrant, WORK / "logs" / "time-to-accuracy")
    try:
        told = peer.ask({"do": "prepare", "work": "cnn", "data": str(folder), "images": images or EPOCH})
        epochs = [peer.ask({"do": "measure"})["seconds"] for _ in range(KERAS_EPOCHS)]
    finally:
        peer.close()
    note(f"Keras: {median(epochs):.1f} s an epoch")
    return {**told, "epoch_seconds": epochs, "seconds": SOURCE_EPOCHS * median(epochs)}


def _claim(level: Json, keras: Json, command: str) -> Json:
    """How many times as fast: forty epochs of Keras, extrapolated, by the mean of our trainings."""
    ours = level["time"]["mean"]
    ratios = sorted(SOURCE_EPOCHS * epoch / ours for epoch in keras["epoch_seconds"])
    return {
        "value": keras["seconds"] / ours, "unit": "ratio", "low": ratios[0], "high": ratios[-1],
        "n": level["time"]["n"], "bar": BAR, "stretch": STRETCH, "reached": level["reached"],
        "about": f"{SOURCE_EPOCHS} epochs of Keras, extrapolated from {len(ratios)}, by our mean of n",
        "command": command,
    }  # fmt: skip


def _line(level: Json) -> str:
    test, seconds = level["test"], level["time"]
    low, high = test["ci95"]
    return (
        f"{level['level']:.2%} {'reached' if level['reached'] else 'NOT reached'}: {level['recipe']}, "
        f"{level['epochs']} epochs, {seconds['mean']:.1f} s (SD {seconds['sd']:.1f}); "
        f"mean {test['mean']:.3%} ({low:.3%} to {high:.3%}), n = {test['n']}"
    )

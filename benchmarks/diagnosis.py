"""How often diagnoses are right: trainings with one injected fault each, and healthy ones.

Thresholds of the rules were chosen with `CHOSEN_ON` and are judged by everything else: another network, or
other images.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from benchmarks.options import HOME, Options
from benchmarks.records import DiagnosisRate, DiagnosisResults, DiagnosisTrial
from benchmarks.results_io import describe_measurement, log_progress, write_results
from inklab.data.dataset import split
from inklab.data.sources import load_dataset
from inklab.errors import ConfigError
from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.records.plan import Trial
from inklab.records.recipe import Recipe, TrialConfig
from inklab.stats import wilson
from inklab.training.batches import TensorSet, TrainingData, to_tensor_set
from inklab.training.diagnostics import diagnose
from inklab.training.measurements import measure_training
from inklab.training.population import PopulationSpec
from inklab.training.trainer import train_population

NETWORKS = ("mlp", "cnn", "compact", "user")
DATA = ("mnist", "fashion-mnist", "mnist-5k")
CHOSEN_ON = frozenset((network, "mnist-5k") for network in ("mlp", "cnn"))
"""Networks and data that thresholds of the rules may be looked up from."""

SOURCE = HOME / "faulty_networks.py"
VALIDATION = {"mnist-5k": 500}  # of others 5,000
DETECTION_TARGET, FALSE_ALARM_TARGET = 0.95, 0.02

Fields = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of training.

    Attributes:
        expected: diagnoses of which one has to be made; () for healthy trainings.
        network: fault of the network.
        recipe: fields that differ from the healthy recipe.
        normalize: in front of the network.
        damage: what is done to the data.
    """

    expected: tuple[str, ...]
    network: str = ""
    recipe: Fields = field(default_factory=dict)
    normalize: NormalizeConfig = field(default_factory=NormalizeConfig)
    damage: Callable[[TrainingData], TrainingData] | None = None


def _shuffled(data: TrainingData) -> TrainingData:
    """All labels of training and validation images in another order."""

    def shuffle(images: TensorSet) -> TensorSet:
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
        return replace(images, labels=images.labels[order])

    return replace(data, train=shuffle(data.train), validation=shuffle(data.validation))


def _off_by_one(data: TrainingData) -> TrainingData:
    """Training labels that are one class further than those of the test images."""
    classes = len(data.labels)

    def move(images: TensorSet) -> TensorSet:
        return replace(images, labels=(images.labels + 1) % classes)

    return replace(data, train=move(data.train), validation=move(data.validation))


def _pixels(data: TrainingData, change: Callable[[torch.Tensor], torch.Tensor]) -> TrainingData:
    train, validation, test = (
        replace(part, pixels=change(part.pixels)) for part in (data.train, data.validation, data.test)
    )
    return replace(data, train=train, validation=validation, test=test)


def _sixteen(data: TrainingData) -> TrainingData:
    """Pixels of 0 to 16."""
    return _pixels(data, lambda pixels: pixels // 16)


def _binary(data: TrainingData) -> TrainingData:
    """Pixels of 0 and 1."""
    return _pixels(data, lambda pixels: (pixels > 127).to(torch.uint8))


def _imbalanced(data: TrainingData) -> TrainingData:
    """One image in a hundred of five classes, in training and validation."""

    def thin(images: TensorSet) -> TensorSet:
        kept = (images.labels >= 5) | (torch.arange(len(images)) % 100 == 0)
        return TensorSet(images.pixels[kept], images.labels[kept])

    return replace(data, train=thin(data.train), validation=thin(data.validation))


def _few(data: TrainingData) -> TrainingData:
    """200 training images."""
    return replace(data, train=TensorSet(data.train.pixels[:200], data.train.labels[:200]))


LONG: Fields = {"epochs": 150, "batch_size": 20, "optimizer": "adam", "learning_rate": 1e-3}
KINDS: dict[str, Kind] = {
    "scaled-twice-normalize": Kind(("inputs-scaled-twice",), normalize=NormalizeConfig(std=255.0)),
    "scaled-twice-network": Kind(("inputs-scaled-twice",), "divides"),
    "not-scaled": Kind(("inputs-too-large",), "multiplies"),
    "pixels-16": Kind(("images-nearly-black",), damage=_sixteen),
    "pixels-binary": Kind(("images-nearly-black",), damage=_binary),
    "labels-shuffled": Kind(("labels-unrelated",), damage=_shuffled),
    "labels-off-by-one": Kind(("labels-permuted",), damage=_off_by_one),
    "loss-off-by-one": Kind(("labels-permuted",), recipe={"objective": f"{SOURCE}:loss_off_by_one"}),
    "imbalance": Kind(("class-imbalance",), damage=_imbalanced),
    "softmax-twice": Kind(("outputs-are-probabilities",), "softmax"),
    "sigmoid-outputs": Kind(("outputs-are-probabilities",), "sigmoid"),
    "relu-outputs": Kind(("relu-on-outputs",), "relu"),
    "activation-removed": Kind(
        ("loss-without-softmax",), recipe={"objective": f"{SOURCE}:loss_of_probabilities"}
    ),
    "nll-of-outputs": Kind(("loss-without-softmax",), recipe={"objective": f"{SOURCE}:loss_nll_of_outputs"}),
    "dead-units": Kind(("dead-units",), "dead"),
    "zero-first-layer": Kind(("zero-weights",), "zero-weights"),
    "zero-weights": Kind(("zero-weights",), "zero-all"),
    "constant-weights": Kind(("zero-weights",), "constant-weights"),
    "large-weights": Kind(("exploding-gradients",), "large-weights"),
    "linear": Kind(("network-is-linear",), "linear"),
    "deep-sigmoid": Kind(("vanishing-gradients",), "deep-sigmoid"),
    "rate-too-high": Kind(("learning-rate-too-high",), recipe={"learning_rate": 20.0}),
    "rate-far-too-high": Kind(("learning-rate-too-high",), recipe={"learning_rate": 1e4}),
    "rate-too-low": Kind(("learning-rate-too-low",), recipe={"learning_rate": 1e-5}),
    "rate-0.001": Kind(
        ("learning-rate-too-low",), recipe={"learning_rate": 1e-3, "batch_size": 128, "epochs": 1}
    ),
    "adam-rate-too-high": Kind(
        ("learning-rate-too-high",), recipe={"optimizer": "adam", "learning_rate": 3.0}
    ),
    "l2-too-strong": Kind(("l2-too-strong",), recipe={"l2": 0.3}),
    "dropout-too-strong": Kind(("dropout-too-strong",), "dropout"),
    "batch-norm-tiny-batches": Kind(
        ("batch-norm-tiny-batches",), "batch-norm", {"batch_size": 2, "epochs": 1}
    ),
    "few-images": Kind(("overfitting",), recipe=LONG, damage=_few),
    "healthy": Kind(()),
    "healthy-1-epoch": Kind(recipe={"epochs": 1}, expected=()),
    "healthy-adam": Kind(recipe={"optimizer": "adam", "learning_rate": 1e-3, "batch_size": 128}, expected=()),
    "healthy-l2": Kind(recipe={"l2": 1e-4, "momentum": 0.9, "learning_rate": 0.02}, expected=()),
    "healthy-500-images": Kind(
        recipe={"epochs": 10, "batch_size": 32},
        expected=(),
        damage=lambda data: replace(data, train=TensorSet(data.train.pixels[:500], data.train.labels[:500])),
    ),
}
"""Kinds of trainings; three of them are mutants of DeepCrime (Humbatova, Jahangirova and Tonella 2021)."""

MUTANTS = ("zero-first-layer", "activation-removed", "rate-0.001")
HEALTHY: Fields = {"optimizer": "sgd", "learning_rate": 0.1, "batch_size": 64, "epochs": 3}
THREADS = 1


def measure_diagnosis(options: Options) -> list[str]:
    """Train every kind with every network on all data, `options.replicates` times; diagnose each.

    Returns:
        A line for each kind.

    Raises:
        ConfigError: a kind, a network or data of an unknown name.
    """
    kinds = _chosen("kind", options.kinds, KINDS)
    networks = _chosen("network", options.networks, NETWORKS)
    datasets = _chosen("dataset", options.data, DATA)
    torch.set_num_threads(THREADS)
    trials: list[DiagnosisTrial] = []
    for name in datasets:
        data = load_training_data(name, options.images)
        for kind in kinds:
            for network in networks:
                trials += diagnose_kind(kind, network, name, data, options.replicates)
    rates = tuple(rate_of(kind, [trial for trial in trials if trial.kind == kind]) for kind in kinds)
    false_alarms = rate_of("healthy", [trial for trial in trials if not KINDS[trial.kind].expected])
    results = DiagnosisResults(
        detection_target=DETECTION_TARGET, false_alarm_target=FALSE_ALARM_TARGET, kinds=rates,
        false_alarms=false_alarms, trials=tuple(trials), chosen_on=tuple(sorted(CHOSEN_ON)), mutants=MUTANTS,
        measurement=describe_measurement(options.command),
    )  # fmt: skip
    write_results(options.output, "diagnosis", results)
    return [rate.line for rate in rates] + [f"false alarms: {false_alarms.line}"]


def _chosen(kind_of_name: str, names: tuple[str, ...], known: Iterable[str]) -> tuple[str, ...]:
    known = tuple(known)
    for name in names:
        if name not in known:
            raise ConfigError(
                f"there is no {kind_of_name} '{name}'; allowed: {', '.join(known)}", key=kind_of_name
            )
    return names or known


def load_training_data(name: str, images: int | None) -> TrainingData:
    """A dataset as tensors; `images` are the training images that are used, None for all."""
    dataset = load_dataset(name)
    parts = split(dataset, validation=VALIDATION.get(name, 5_000), seed=0)
    train, validation, test = (
        to_tensor_set(part.pixels, part.labels) for part in (parts.train, parts.validation, parts.test)
    )
    if images is not None:
        train = TensorSet(train.pixels[:images], train.labels[:images])
    return TrainingData(train, validation, test, dataset.labels)


def diagnose_kind(
    name: str, network: str, data_name: str, data: TrainingData, replicates: int
) -> list[DiagnosisTrial]:
    """Train replicates of one kind, and diagnose them."""
    kind = KINDS[name]
    damaged = kind.damage(data) if kind.damage else data
    config = TrialConfig(
        network=NetworkConfig.of(f"{SOURCE}:faulty", base=network, fault=kind.network),
        normalize=kind.normalize, recipe=Recipe.parse({**HEALTHY, **kind.recipe}), precision="fp32",
    )  # fmt: skip
    trials = [Trial(f"trial-{replicate}", config, replicate) for replicate in range(replicates)]
    spec = PopulationSpec(trials, stacked=False, reseed_each_step=False, seed=0)
    rows = []
    for result in train_population(spec, damaged):
        predicted = None if result.divergence else predict_classes(result.net, damaged.test)
        measured = measure_training(
            result.trial, result.net, result.history, damaged, 0, result.divergence, predicted
        )
        names = tuple(diagnosis.name for diagnosis in diagnose(measured))
        trial = DiagnosisTrial(
            kind=name, network=network, data=data_name, replicate=result.trial.replicate, diagnoses=names,
            is_right=bool(set(names) & set(kind.expected)) if kind.expected else not names,
            extra=tuple(name for name in names if name not in kind.expected),
            judges=(network, data_name) not in CHOSEN_ON,
            train_accuracy=measured.train_accuracy,
        )  # fmt: skip
        log_progress(f"{name}, {network}, {data_name}: {', '.join(names) or 'nothing'}"
                     f"{'' if trial.is_right else '  WRONG'} ({trial.train_accuracy:.3f})")  # fmt: skip
        rows.append(trial)
    return rows


def predict_classes(net: torch.nn.Module, test: TensorSet) -> torch.Tensor:
    """The classes that a network predicts of all test images."""
    with torch.inference_mode():
        return torch.cat(
            [net(test.images(index)).argmax(1) for index in torch.arange(len(test)).split(1_000)]
        )


def rate_of(kind: str, trials: list[DiagnosisTrial]) -> DiagnosisRate:
    """How many trials of a kind were diagnosed rightly, over those that judge; over all if none does."""
    judging = [trial for trial in trials if trial.judges] or trials
    right = sum(trial.is_right for trial in judging)
    is_healthy = not KINDS[kind].expected
    counted = len(judging) - right if is_healthy else right
    low, high = wilson(counted / len(judging), len(judging)) if judging else (0.0, 1.0)
    return DiagnosisRate(
        kind=kind, expected=KINDS[kind].expected, n=len(judging), count=counted, low=low, high=high,
        extra=sum(bool(trial.extra) for trial in judging),
    )  # fmt: skip

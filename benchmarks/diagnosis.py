"""How often diagnoses are right: trainings with one injected fault each, and healthy ones.

Thresholds of the rules were chosen with `CHOSEN_ON`, which do not count where other images were tried.

Every training is a line of `diagnosis-trials.jsonl` in the folder of the results, and is not repeated while
the rules and the kinds are the same. So a run that was cut off goes on where it was, parts can be run one
after the other (`--kinds`, `--networks`, `--data`), and `--replicates 0` only writes the results of what is
there.
"""

import inspect
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks import diagnosis_kinds
from benchmarks.diagnosis_kinds import BUILT_IN, DENOISERS, KINDS, MUTANTS, NETWORKS, SOURCE
from benchmarks.diagnosis_records import DiagnosisRate, DiagnosisResults, DiagnosisTrial, TrialKey
from benchmarks.options import Options
from benchmarks.results_io import describe_measurement, log_progress, write_results
from inklab.data.dataset import split
from inklab.data.sources import load_dataset
from inklab.errors import ConfigError
from inklab.io.files import sha256_of
from inklab.records.plan import Trial
from inklab.stats import wilson
from inklab.training import diagnosis_rules, diagnostics, measurements, network_measurements
from inklab.training.batches import TensorSet, TrainingData, to_tensor_set
from inklab.training.diagnostics import diagnose_training
from inklab.training.population import PopulationSpec
from inklab.training.trainer import train_population

ALL_NETWORKS = (*NETWORKS, *DENOISERS, BUILT_IN)
DATA = ("mnist", "fashion-mnist", "mnist-5k")
CHOSEN_ON = tuple((network, "mnist-5k") for network in ALL_NETWORKS)
"""Networks and data that thresholds of the rules may be looked up from."""

JOURNAL = "diagnosis-trials.jsonl"
VALIDATION = {"mnist-5k": 500}  # of others 5,000
DETECTION_TARGET, FALSE_ALARM_TARGET = 0.95, 0.02
THREADS = 1


class DiagnosisJournal:
    """The trainings that are done: a file to which each is appended as it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trials: dict[TrialKey, DiagnosisTrial] = {}
        if path.is_file():
            # A line that was cut off has no end, and is written over.
            whole, _, rest = path.read_bytes().rpartition(b"\n")
            for number, line in enumerate(whole.splitlines(), 1):
                self._keep(DiagnosisTrial.parse_json(line, f"'{path}', line {number}"))
            if rest:
                path.write_bytes(whole + b"\n" if whole else b"")

    def _keep(self, trial: DiagnosisTrial) -> None:
        self.trials[trial.key] = trial

    def append(self, trial: DiagnosisTrial) -> None:
        """Write a training down."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(trial.model_dump_json() + "\n")
        self._keep(trial)


class Plan(NamedTuple):
    """The trainings of a run: those of a replicate lie together, so that one cut off has tried every kind."""

    kinds: tuple[str, ...]
    networks: tuple[str, ...]
    datasets: tuple[str, ...]
    replicates: int
    images: int | None

    @classmethod
    def of(cls, options: Options) -> "Plan":
        """What the command line says.

        Raises:
            ConfigError: a kind, a network or data of an unknown name.
        """
        return cls(
            _chosen("kind", options.kinds, KINDS),
            _chosen("network", options.networks, ALL_NETWORKS),
            _chosen("dataset", options.data, DATA), options.replicates, options.images,
        )  # fmt: skip

    def keys(self) -> Iterator[TrialKey]:
        """Every training, in order."""
        rules = source_hash()
        return (
            TrialKey(kind, network, data, replicate, self.images, rules)
            for replicate in range(self.replicates)
            for network in self.networks
            for data in self.datasets
            for kind in self.kinds
            if network in KINDS[kind].networks
        )


def measure_diagnosis(options: Options) -> list[str]:
    """Train every kind with every network on all data, `options.replicates` times; diagnose each.

    Returns:
        A line for each kind.

    Raises:
        ConfigError: a kind, a network or data of an unknown name.
    """
    plan = Plan.of(options)
    torch.set_num_threads(THREADS)
    journal = DiagnosisJournal(options.output / JOURNAL)
    missing = [key for key in plan.keys() if key not in journal.trials]
    log_progress(f"{len(missing):,} trainings are to be made")
    for number, key in enumerate(missing, 1):
        trial = train_and_diagnose(key, load_training_data(key.data, key.images))
        journal.append(trial)
        log_progress(f"{number:,}/{len(missing):,} {trial.line}")
    rules = source_hash()
    trials = [row for row in journal.trials.values() if (row.rules, row.images) == (rules, plan.images)]
    results = summarize(trials, options.command)
    write_results(options.output, "diagnosis", results)
    return [rate.line for rate in results.kinds] + [f"false alarms: {results.false_alarms.line}"]


def summarize(trials: list[DiagnosisTrial], command: str) -> DiagnosisResults:
    """The rates of all kinds that were trained."""
    kinds = [kind for kind in KINDS if any(trial.kind == kind for trial in trials)]
    rates = tuple(rate_of(kind, [trial for trial in trials if trial.kind == kind]) for kind in kinds)
    healthy = [trial for trial in trials if not KINDS[trial.kind].expected]
    return DiagnosisResults(
        detection_target=DETECTION_TARGET, false_alarm_target=FALSE_ALARM_TARGET, kinds=rates,
        false_alarms=rate_of("healthy", healthy), trials=tuple(trials), chosen_on=CHOSEN_ON, mutants=MUTANTS,
        measurement=describe_measurement(command),
    )  # fmt: skip


@lru_cache(maxsize=1)
def source_hash() -> str:
    """The beginning of the SHA-256 of all code that decides what is trained and diagnosed."""
    modules = (diagnosis_rules, diagnostics, measurements, network_measurements, diagnosis_kinds)
    return sha256_of(*(inspect.getsource(module).encode() for module in modules), SOURCE.read_bytes())[:16]


def _chosen(kind_of_name: str, names: tuple[str, ...], known: Iterable[str]) -> tuple[str, ...]:
    known = tuple(known)
    for name in names:
        if name not in known:
            raise ConfigError(
                f"there is no {kind_of_name} '{name}'; allowed: {', '.join(known)}", key=kind_of_name
            )
    return names or known


@lru_cache(maxsize=len(DATA))
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


def train_and_diagnose(key: TrialKey, data: TrainingData) -> DiagnosisTrial:
    """Train a network of one kind, and diagnose its training."""
    kind = KINDS[key.kind]
    damaged = kind.damage(data) if kind.damage else data
    spec = PopulationSpec(
        [Trial("trial", kind.config(key.network, damaged), key.replicate)],
        stacked=False, reseed_each_step=False, seed=0,
    )  # fmt: skip
    (result,) = train_population(spec, damaged)
    has_classes = not result.divergence and not kind.is_denoiser
    predicted = predict_classes(result.net, damaged.test) if has_classes else None
    diagnoses = diagnose_training(
        result.trial, result.net, result.history, damaged, 0, result.divergence, predicted
    )
    names = tuple(diagnosis.name for diagnosis in diagnoses)
    accuracies = result.history.values("train_accuracy")
    return DiagnosisTrial(
        **key._asdict(), diagnoses=names,
        is_right=bool(set(names) & set(kind.expected)) if kind.expected else not names,
        extra=tuple(name for name in names if name not in kind.expected),
        judges=(key.network, key.data) not in CHOSEN_ON,
        train_accuracy=accuracies[-1] if accuracies else None,
    )  # fmt: skip


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

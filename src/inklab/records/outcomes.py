"""What became of a trial or an evaluation (`outcome.json`)."""

import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import model_validator

import inklab
from inklab.errors import CorruptFileError
from inklab.hardware import cores, cpu_name
from inklab.metrics import SECOND_TEST, get_metric
from inklab.records.execution import CPU, DeviceName
from inklab.records.plan import Evaluation, GenerationEvaluation, Plan, RobustnessEvaluation
from inklab.records.recipe import TrialConfig
from inklab.records.record import (
    MIB,
    Count,
    Counts,
    Curve,
    FailFast,
    Few,
    FiniteJson,
    Id,
    NonNegative,
    Number,
    Numbers,
    PositiveCount,
    Record,
    RootSeed,
    Sha256,
    Share,
    ShareRow,
)
from inklab.usercode import map_names, short_name

ADVICE = "delete that directory and run the command again"

CONFIDENT = 0.9  # probability above which a classifier counts as confident about an image

NEIGHBORHOOD = 5  # images in the neighborhood of one: k of Kynkäänniemi et al. (2019) and Naeem et al. (2020)


class TrialState(StrEnum):
    """What became of a trial or an evaluation, in the order in which states are counted.

    `DONE`: it has metrics. `DIVERGED`: its loss became NaN or infinite. `FAILED`: it raised an error. `LOST`:
    its worker died without reporting. `WAITING`: it has no outcome yet; this is never written in one.
    """

    DONE = "done"
    DIVERGED = "diverged"
    FAILED = "failed"
    LOST = "lost"
    WAITING = "waiting"

    @property
    def is_final(self) -> bool:
        """Whether another attempt would only repeat it."""
        return self in (TrialState.DONE, TrialState.DIVERGED)


WrittenState = Literal[TrialState.DONE, TrialState.DIVERGED, TrialState.FAILED, TrialState.LOST]
StateCounts = dict[TrialState, PositiveCount]
"""How many trials or evaluations are in each state."""


def count_states(states: Iterable[TrialState | None]) -> dict[TrialState, int]:
    """How many are in each state, in the order of states; None, no outcome yet, counts as waiting.

    Example:
        >>> count_states([TrialState.DONE, None, TrialState.DONE])
        {<TrialState.DONE: 'done'>: 2, <TrialState.WAITING: 'waiting'>: 1}
    """
    counts = Counter(state or TrialState.WAITING for state in states)
    return {state: counts[state] for state in TrialState if state in counts}


class Environment(Record):
    """What a computation ran on.

    Attributes:
        inklab: version.
        python: version.
        torch: version.
        numpy: version.
        platform: operating system and architecture.
        cpu: name of the processor.
        cores: that the process could use.
        threads: that computed one trial.
        device: that it ran on; of results, that of the plan.
        gpu: name, compute capability and memory, if that is a GPU.
        precision: of training; of trials and results.
        members: that were trained in one program; of trials.
        stacked: whether all in one vectorized program; of trials.
        compiled: whether that program was compiled; of trials.
        workers: processes side by side; of results.
    """

    inklab: str
    python: str
    torch: str
    numpy: str
    platform: str
    cpu: str
    cores: PositiveCount
    threads: PositiveCount
    device: DeviceName = CPU
    gpu: str | None = None
    precision: str | None = None
    members: PositiveCount | None = None
    stacked: bool | None = None
    compiled: bool | None = None
    workers: PositiveCount | None = None

    @classmethod
    def current(cls, threads: int) -> "Environment":
        """What this process runs on, one trial in so many threads; asks for torch's version only."""
        return cls(
            inklab=inklab.__version__,
            python=platform.python_version(),
            torch=version("torch"),
            numpy=version("numpy"),
            platform=f"{platform.system()} {platform.machine()}",
            cpu=cpu_name(),
            cores=cores(),
            threads=threads,
        )


class LayerRow(Record):
    """One row of a layer table.

    Attributes:
        name: of the module.
        type: class of the module.
        activation: that follows it.
        output_shape: of one image.
        parameters: how many numbers it has.
        macs: multiply-accumulates of one image forward; None where they are not known.
    """

    name: str
    type: str
    activation: str | None = None
    output_shape: Counts
    parameters: Count
    macs: Count | None


class Diagnosis(Record):
    """An automatic finding about a training that a person can act on.

    Attributes:
        name: such as `inputs-scaled-twice`.
        message: what was measured, in a sentence with its numbers.
        advice: what to do.
        evidence: the numbers by name.
    """

    name: str
    message: str
    advice: str
    evidence: Annotated[dict[str, FiniteJson], Few] = {}


class History(Record):
    """Learning curves: columns with one value per epoch. A column that was not measured is empty.

    Attributes:
        epoch: from 1.
        train_loss: mean over the epoch's steps, without L2.
        train_accuracy: after the epoch, on some training images; a share in [0, 1].
        validation_loss: after the epoch; of denoisers the binary cross-entropy.
        validation_accuracy: after the epoch, a share in [0, 1].

    Example:
        >>> History(epoch=(1, 2), train_loss=(0.4, 0.2)).columns
        {'epoch': (1, 2), 'train_loss': (0.4, 0.2)}
    """

    epoch: Counts = ()
    train_loss: Curve = ()
    train_accuracy: Curve = ()
    validation_loss: Curve = ()
    validation_accuracy: Curve = ()

    @model_validator(mode="after")
    def _check_lengths(self) -> "History":
        n = len(self.epoch)
        for name, column in self.columns.items():
            if len(column) != n:
                raise ValueError(f"'{name}' has {len(column)} values, but there are {n} epochs")
        return self

    @property
    def columns(self) -> dict[str, tuple[float | int | None, ...]]:
        """The columns that were measured, by name."""
        return {name: column for name, column in self if column}

    def values(self, name: str) -> tuple[float, ...]:
        """The values of a column, such as "validation_loss"; () if it was not measured."""
        return tuple(value for value in getattr(self, name) if value is not None)

    def append(self, point: Mapping[str, float | int]) -> "History":
        """The same curves with the metrics of one more epoch."""
        return History(**{name: (*getattr(self, name), value) for name, value in point.items()})


class Outcome(Record):
    """What became of a trial or an evaluation.

    Attributes:
        state: what became of it.
        reason: why it is not done.
        seconds: duration; for a trial, its share of its group's time.
        environment: what it ran on.
    """

    max_bytes: ClassVar[int] = 16 * MIB
    repair_advice: ClassVar[str] = ADVICE

    format: Literal[2] = 2
    state: WrittenState
    reason: str | None = None
    seconds: NonNegative = 0.0
    environment: Environment | None = None

    @property
    def is_done(self) -> bool:
        """Whether it finished successfully."""
        return self.state is TrialState.DONE


class TrialOutcome(Outcome):
    """What became of a trial (`trials/<id>/outcome.json`).

    Attributes:
        id: of the trial.
        config: what it computed.
        replicate: which repetition.
        seed: root of all randomness.
        data_sha256: of the dataset's content.
        numerics: version of the computation; numbers of two versions are never mixed.
        parameters: of its network.
        layers: of its network.
        history: learning curves, as far as it got.
        metrics: metric values by name; accuracies are shares in [0, 1]. None unless it is done.
        diagnoses: what the numbers of a trained network point to.
        weights_sha256: of `model/weights.safetensors`.
    """

    id: Id
    config: TrialConfig
    replicate: Count
    seed: RootSeed
    data_sha256: Sha256
    numerics: Count
    parameters: Count | None = None
    layers: Annotated[tuple[LayerRow, ...], FailFast] = ()
    history: History = History()
    metrics: Numbers | None = None
    diagnoses: Annotated[tuple[Diagnosis, ...], FailFast, Few] = ()
    weights_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _check_metrics(self) -> "TrialOutcome":
        if self.is_done and self.metrics is None:
            raise ValueError("it is done, but has no metrics")
        if not self.is_done and self.metrics is not None:
            raise ValueError(f"it is {self.state}, but has metrics")
        for name, value in (self.metrics or {}).items():
            if not 0 <= value <= 1 and get_metric(name).is_share:
                raise ValueError(f"'{name}' is {value:g}, but it is a share in [0, 1]")
        return self

    @classmethod
    def read_planned(cls, path: Path, id: str) -> "TrialOutcome":
        """Read the outcome of a certain trial.

        Raises:
            FileNotFoundError, NotADirectoryError: there is none.
            CorruptFileError: it is damaged, or another trial's.
        """
        outcome = cls.read(path)
        if outcome.id != id:
            raise CorruptFileError(f"'{path}' is the outcome of '{outcome.id}', not of '{id}'; {ADVICE}")
        return outcome

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights it has, where early stopping restores the best ones; else None."""
        rule = self.config.recipe.early_stopping
        if rule is None or not rule.restore_best or not self.is_done:
            return None
        return rule.best_epoch(self.history.values(rule.metric))

    @property
    def stopped_epoch(self) -> int | None:
        """The epoch after which early stopping ended it, if that was before the recipe's last; else None."""
        epochs = len(self.history.epoch)
        stopped = self.config.recipe.early_stopping and self.is_done and epochs < self.config.recipe.epochs
        return epochs if stopped else None


class SecondTest(Record):
    """What a trained classifier reaches on a second test set (`trials/<id>/second_tests/<hash>.json`).

    Attributes:
        dataset: name or path of the dataset whose test set it is.
        sha256: of its content.
        weights_sha256: of the model.
        metrics: metric values by name, such as `test_accuracy`.
    """

    max_bytes: ClassVar[int] = MIB
    repair_advice: ClassVar[str] = "delete it and run again"

    format: Literal[2] = 2
    dataset: str
    sha256: Sha256
    weights_sha256: Sha256 | None
    metrics: Numbers

    @property
    def named_metrics(self) -> dict[str, float]:
        """The metrics by names that say where they were measured, such as `test_accuracy@qmnist`."""
        return {f"{name}{SECOND_TEST}{self.dataset}": value for name, value in self.metrics.items()}


class EvaluationOutcome(Outcome):
    """What became of an evaluation.

    Attributes:
        evaluation: the evaluation.
    """

    evaluation: Evaluation

    @property
    def id(self) -> str:
        """Id of the evaluation."""
        return self.evaluation.id


class RobustnessOutcome(EvaluationOutcome):
    """What became of a robustness evaluation (`evaluations/<id>/outcome.json`).

    Attributes:
        evaluation: the evaluation.
        recall: mean over classes of the true-positive rate (balanced accuracy), one for each strength.
        recall_per_class: one row for each strength, one share a class; None for a class without images.
        accuracy: one for each strength.
        ece: expected calibration error, one for each strength.
    """

    kind: Literal["robustness"] = "robustness"
    evaluation: RobustnessEvaluation
    recall: Annotated[tuple[Share, ...], FailFast] = ()
    recall_per_class: Annotated[tuple[ShareRow, ...], FailFast] = ()
    accuracy: Annotated[tuple[Share, ...], FailFast] = ()
    ece: Annotated[tuple[Share, ...], FailFast] = ()

    @model_validator(mode="after")
    def _check_lengths(self) -> "RobustnessOutcome":
        lengths = {len(self.recall), len(self.accuracy), len(self.recall_per_class), len(self.ece)}
        n = len(self.evaluation.strengths)
        if self.is_done and lengths != {n}:
            raise ValueError(f"it is done, but has not a recall, accuracy and ECE for each of {n} strengths")
        if len({len(row) for row in self.recall_per_class}) > 1:
            raise ValueError("the rows of recall_per_class have different lengths")
        return self

    @property
    def n_classes(self) -> int | None:
        """Classes that its rows have; None without rows."""
        return len(self.recall_per_class[0]) if self.recall_per_class else None


class GenerationOutcome(EvaluationOutcome):
    """What became of a generation evaluation (`evaluations/<id>/outcome.json`).

    Attributes:
        evaluation: the evaluation.
        confident_share: share of the images that the classifier is confident about.
        confident_share_reconstructed: the same of the decoder's reconstructions of test images; of
            "real_data" only.
        class_shares: share of each class among the images that the classifier is confident about.
        frechet_distance: of the images' features from those of training images.
        manifold_precision: share of the images in the neighborhood of a training image, by features; this and
            the next three are None of five images or fewer.
        manifold_recall: share of training images in the neighborhood of one of the images.
        density: neighborhoods of training images that an image lies in, divided by their k; real ones have 1.
        coverage: share of training images with one of the images in their neighborhood.
        nn_distance: mean Euclidean distance, over pixels in [0, 1], to the nearest training image.
        nearer_share: how often an image is nearer to its nearest training image than a test image to its own;
            not of "real_data".
        sampler_info: what the sampler reports of itself.
    """

    kind: Literal["generation"] = "generation"
    evaluation: GenerationEvaluation
    confident_share: Share | None = None
    confident_share_reconstructed: Share | None = None
    class_shares: ShareRow | None = None
    frechet_distance: Number | None = None
    manifold_precision: Share | None = None
    manifold_recall: Share | None = None
    density: NonNegative | None = None
    coverage: Share | None = None
    nn_distance: NonNegative | None = None
    nearer_share: Share | None = None
    sampler_info: Annotated[dict[str, FiniteJson], Few] = {}

    @model_validator(mode="after")
    def _check_done(self) -> "GenerationOutcome":
        if self.is_done and self.confident_share is None:
            raise ValueError("it is done, but has no confident_share")
        return self

    @property
    def n_classes(self) -> int | None:
        """Classes that it has shares of; None without them."""
        return None if self.class_shares is None else len(self.class_shares)


def count_outcomes(ids: Iterable[str], outcomes: Mapping[str, Outcome]) -> dict[TrialState, int]:
    """How many trials or evaluations are in each state; those without an outcome count as waiting."""
    return count_states(outcomes[id].state if id in outcomes else None for id in ids)


def read_evaluation_outcome(path: Path, planned: Evaluation, n_classes: int) -> EvaluationOutcome:
    """Read the outcome of a planned evaluation of a dataset with some number of classes.

    Raises:
        FileNotFoundError, NotADirectoryError: there is none.
        CorruptFileError: it is damaged, computed something else, or has another number of classes.
    """
    is_robustness = isinstance(planned, RobustnessEvaluation)
    outcome: RobustnessOutcome | GenerationOutcome
    outcome = RobustnessOutcome.read(path) if is_robustness else GenerationOutcome.read(path)
    # The plan of a run that was resumed elsewhere names a user's file by its absolute path.
    if map_names(outcome.evaluation.to_json(), short_name) != map_names(planned.to_json(), short_name):
        raise CorruptFileError(
            f"'{path}' is not the outcome of '{planned.id}': it computed something else; {ADVICE}"
        )
    if outcome.n_classes not in (None, n_classes):
        raise CorruptFileError(
            f"'{path}' has shares of {outcome.n_classes} classes, but the data has {n_classes}; {ADVICE}"
        )
    return outcome


def failed_evaluation(
    evaluation: Evaluation, reason: str, state: WrittenState = TrialState.FAILED
) -> EvaluationOutcome:
    """The outcome of a failed evaluation."""
    if isinstance(evaluation, RobustnessEvaluation):
        return RobustnessOutcome(evaluation=evaluation, state=state, reason=reason)
    return GenerationOutcome(evaluation=evaluation, state=state, reason=reason)


@dataclass(frozen=True)
class Snapshot:
    """A run as of the moment it was read, so that each file is read only once.

    Attributes:
        plan: `plan.json`.
        outcomes: of trials, by id, as far as they are there.
        evaluations: outcomes of evaluations, by id, as far as they are there.
    """

    plan: Plan
    outcomes: dict[str, TrialOutcome]
    evaluations: dict[str, EvaluationOutcome]

    @property
    def states(self) -> dict[str, TrialState]:
        """The state of every trial and evaluation that has an outcome, by id."""
        return {id: outcome.state for id, outcome in (*self.outcomes.items(), *self.evaluations.items())}

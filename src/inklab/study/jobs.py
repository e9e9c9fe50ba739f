"""Jobs that an executor runs, what each of them needs, and the events of a run. Imports no torch."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from inklab.data.dataset import ImageSet, Split
from inklab.format import pluralize
from inklab.io.files import write_atomic
from inklab.io.tensor_file import write_arrays
from inklab.records.components import Preprocessing
from inklab.records.execution import DeviceChoice, NetworkTraits
from inklab.records.outcomes import TrialOutcome, WrittenState
from inklab.records.plan import GenerationEvaluation, GroupPlan, RobustnessEvaluation, Trial
from inklab.records.recipe import TrialConfig
from inklab.records.status import Draft
from inklab.study.resources import Cost
from inklab.study.run_directory import RunDirectory
from inklab.study.spec import StudySpec
from inklab.usercode import short_name

SPLITS = ("train", "validation", "test")
SAMPLES_PER_CLASS = 10
ARRAYS = ("pixels", "labels")


@dataclass(frozen=True)
class CheckJob:
    """Checks the names and strengths in a study, which needs the registries and so torch.

    Every job has a `name`, unique within a run; a `label`, what a person calls it; and the `ids` of the
    trials or evaluations that it computes.
    """

    name: ClassVar[str] = "check"
    label: ClassVar[str] = "check of the study"
    ids: ClassVar[tuple[str, ...]] = ()
    spec: StudySpec


@dataclass(frozen=True)
class PreflightJob:
    """Trains one step of a network, to find out whether it fits and how it may be trained.

    Attributes:
        key: of `Plan.networks`.
        config: one of those with this key.
    """

    ids: ClassVar[tuple[str, ...]] = ()
    key: str
    config: TrialConfig

    @property
    def name(self) -> str:
        """Unique within a run."""
        return f"preflight {self.key}"

    @property
    def label(self) -> str:
        """What a person calls it."""
        return f"preflight of {short_name(self.config.network.name)}"


@dataclass(frozen=True)
class TrainingJob:
    """Trains those trials of a group that have no final outcome.

    Attributes:
        group: how they are trained; it may have more trials.
        experiments: names of those that the trials belong to.
        seconds: estimated, on one core.
    """

    group: GroupPlan
    trials: tuple[Trial, ...]
    experiments: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """Unique within a run."""
        return f"train {self.trials[0].id}"

    @property
    def label(self) -> str:
        """What a person calls it."""
        return f"{', '.join(self.experiments)}: {pluralize(len(self.trials), 'trial')}"

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the trials or evaluations that it computes."""
        return tuple(trial.id for trial in self.trials)


@dataclass(frozen=True)
class EvaluationJob:
    """Computes an evaluation from models that are trained."""

    evaluation: RobustnessEvaluation | GenerationEvaluation

    @property
    def name(self) -> str:
        """Unique within a run."""
        return f"evaluate {self.evaluation.id}"

    @property
    def label(self) -> str:
        """What a person calls it."""
        evaluation = self.evaluation
        subject = evaluation.pipeline if isinstance(evaluation, RobustnessEvaluation) else evaluation.sampler
        return f"{evaluation.kind}: {subject}, replicate {evaluation.replicate}"

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the trials or evaluations that it computes."""
        return (self.evaluation.id,)


Job = CheckJob | PreflightJob | TrainingJob | EvaluationJob


# ---------------------------------------------------------------- events


@dataclass(frozen=True)
class Probing:
    """The machine is about to be measured, which is done once and takes about 40 s."""


@dataclass(frozen=True)
class Planned:
    """The remaining work and its cost are known."""

    estimate: Cost


@dataclass(frozen=True)
class _OfJob:
    """An event of a job; the last one of each job is terminal."""

    is_terminal: ClassVar[bool] = False
    job: Job


@dataclass(frozen=True)
class Started(_OfJob):
    """A worker began with a job; it does so again after `Retried`."""


@dataclass(frozen=True)
class EpochEnded(_OfJob):
    """An epoch of a training has ended.

    Attributes:
        epoch: from 1; trials that are trained one after the other begin at 1 again.
        epochs: of the recipe.
        train_loss: mean over the epoch and the population; it may be NaN or infinite.
    """

    epoch: int
    epochs: int
    train_loss: float


@dataclass(frozen=True)
class Warned(_OfJob):
    """A job goes on, but the user should know something."""

    message: str


@dataclass(frozen=True)
class Retried(_OfJob):
    """A job's worker died, and the job is queued once more."""

    reason: str


@dataclass(frozen=True)
class Done(_OfJob):
    """A job finished successfully.

    Attributes:
        drafts: its results, each in `attempt_dir/<kind>/<id>`.
        attempt_dir: directory of the attempt that ended.
        traits: result of a preflight check; None for other jobs.
    """

    is_terminal: ClassVar[bool] = True
    drafts: tuple[Draft, ...]
    attempt_dir: Path
    traits: NetworkTraits | None = None


@dataclass(frozen=True)
class Failed(_OfJob):
    """A job raised an error; the reason is one line for a mistake of the user's, else a traceback."""

    is_terminal: ClassVar[bool] = True
    reason: str


@dataclass(frozen=True)
class Lost(_OfJob):
    """A job's worker died as often as a job is tried."""

    is_terminal: ClassVar[bool] = True
    reason: str


JobEvent = Started | EpochEnded | Warned | Retried | Done | Failed | Lost
"""What an executor reports."""

Event = Probing | Planned | JobEvent
EventCallback = Callable[[Event], None]


def ignore_event(event: Event) -> None:
    """Do nothing: the default callback."""


# ---------------------------------------------------------------- what jobs need


@dataclass(frozen=True)
class JobContext:
    """Settings that all jobs of a run share; small, since they are sent to each worker.

    Attributes:
        seed: root of all randomness.
        labels: names of the classes.
        numerics: version of the computation.
        threads: number of threads of each worker.
        trust_code: the user's own code that the study names, and that may therefore be run.
        live_objects: by reference, pickled; a worker gets them once, through its pipe.
        checkpoint_every: seconds between checkpoints; None derives them from the cost of one.
        device: that networks are trained on, if they pass its check.
        compile: whether that check tries to compile.
    """

    run_path: Path
    seed: int
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    data_sha256: str
    numerics: int
    threads: int
    trust_code: tuple[str, ...] = ()
    live_objects: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    checkpoint_every: float | None = None
    device: DeviceChoice = DeviceChoice()
    compile: bool = False

    @property
    def run_directory(self) -> RunDirectory:
        """The run directory."""
        return RunDirectory(self.run_path)

    def outcome(self, trial: Trial, state: WrittenState, **fields: Any) -> TrialOutcome:
        """What became of a trial, with the other fields of its outcome."""
        return TrialOutcome(
            id=trial.id, config=trial.config, replicate=trial.replicate, seed=self.seed, state=state,
            data_sha256=self.data_sha256, numerics=self.numerics, **fields,
        )  # fmt: skip


def write_samples(run_directory: RunDirectory, training_set: ImageSet) -> None:
    """Write the first training images of each class into the run directory, for the report and the page."""
    labels = training_set.labels
    firsts = [np.flatnonzero(labels == label)[:SAMPLES_PER_CLASS] for label in np.unique(labels)]
    samples = training_set.take(np.concatenate(firsts))
    arrays = {"pixels": samples.pixels, "labels": samples.labels}
    write_arrays(run_directory.path / "samples.safetensors", arrays)


def array_path(run_directory: RunDirectory, split: str, array: str) -> Path:
    """The file of one of the `ARRAYS` of one of the `SPLITS` while a run is computed."""
    return run_directory.work / "data" / f"{split}_{array}.npy"


def write_split_arrays(run_directory: RunDirectory, split: Split) -> None:
    """Write the images for the workers: read and checked once by the runner, the same for all."""
    for name in SPLITS:
        images = getattr(split, name)
        for array in ARRAYS:
            buffer = io.BytesIO()
            np.save(buffer, getattr(images, array), allow_pickle=False)
            write_atomic(array_path(run_directory, name, array), buffer.getvalue())

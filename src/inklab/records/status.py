"""What a run is doing: `work/status.json`, `timer.json`, and the progress that is computed from them."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from inklab.records.outcomes import StateCounts
from inklab.records.record import (
    MIB,
    Count,
    Counts,
    Curve,
    FailFast,
    Few,
    Id,
    Ids,
    NonNegative,
    Number,
    PositiveCount,
    Record,
    Values,
)

Kind = Literal["data", "training", "robustness", "generation", "corruption-error", "findings"]


class RunningJob(Record):
    """A running job.

    Attributes:
        job: its name.
        label: what it does, in words.
        trials: ids that it trains; () for other jobs.
        index_in_group: which of them is trained now, if they are trained one after the other.
        epochs: of a training; None before the first has ended.
        epoch: those that have ended, from 1.
        train_loss: of each of these epochs; None where it is not finite.
    """

    job: str
    label: str
    trials: Ids
    index_in_group: Count = 0
    epochs: Count | None = None
    epoch: Counts = ()
    train_loss: Curve = ()

    @model_validator(mode="after")
    def _check_lengths(self) -> "RunningJob":
        if len(self.epoch) != len(self.train_loss):
            raise ValueError(f"there are {len(self.epoch)} epochs, but {len(self.train_loss)} losses")
        return self


class LiveStatus(Record):
    """What the process that drives a run is doing (`work/status.json`); nothing depends on it.

    Attributes:
        process: id of the process.
        host: name of its machine.
        started_at: seconds since 1970.
        planned_at: when jobs were given out, seconds since 1970; None before that.
        estimated_seconds: for all jobs; None before they are planned.
        running: the running jobs.
    """

    max_bytes: ClassVar[int] = 4 * MIB
    repair_advice: ClassVar[str] = "delete it; nothing depends on it"

    format: Literal[2] = 2
    process: Annotated[int, Field(ge=1, le=2**31)]
    host: str
    started_at: NonNegative
    planned_at: NonNegative | None = None
    estimated_seconds: NonNegative | None = None
    running: Annotated[tuple[RunningJob, ...], FailFast, Few] = ()


class ElapsedTime(Record):
    """How long a run took (`timer.json`).

    Attributes:
        seconds: wall-clock seconds, summed over sessions.
    """

    max_bytes: ClassVar[int] = MIB
    repair_advice: ClassVar[str] = "delete it; only the elapsed time is lost"

    seconds: NonNegative


class Draft(Record):
    """What an attempt at a job has finished: a directory that is moved into the run directory as a whole.

    Attributes:
        kind: directory that it belongs in.
        id: of the trial or evaluation.
    """

    kind: Literal["trials", "evaluations"]
    id: Id


class PendingCommit(Record):
    """Drafts that the runner began to move into the run directory (`pending_commit.json` of an attempt).

    Attributes:
        drafts: all of the attempt; those that are gone have been moved.
    """

    max_bytes: ClassVar[int] = 4 * MIB
    repair_advice: ClassVar[str] = "delete it; what it names is computed again"

    drafts: Annotated[tuple[Draft, ...], FailFast]


class ExperimentProgress(Record):
    """Progress of an experiment.

    Attributes:
        name: of the experiment.
        title: its heading.
        kind: of experiment.
        outcomes: trials and evaluations by state.
        total: number of trials and evaluations.
    """

    name: Id
    title: str
    kind: Kind
    outcomes: StateCounts
    total: Count


class JobProgress(Record):
    """Progress of a running job.

    Attributes:
        job: its name.
        label: what it does, in words.
        epochs: of a training; None before the first has ended.
        epoch: the last that has ended; None before the first.
        train_loss: of that epoch; None before the first, and where it is not finite.
    """

    job: str
    label: str
    epochs: Count | None = None
    epoch: PositiveCount | None = None
    train_loss: Number | None = None


class LearningCurve(Record):
    """The learning curve of a trial: whole if it has ended, else its training loss so far.

    Attributes:
        trial: its id.
        experiment: name of the experiment.
        setting: values of its setting.
        replicate: which repetition.
        finished: whether it has ended.
        epoch: from 1.
        train_loss: one value per epoch.
        validation_loss: one value per epoch, or empty.
        validation_accuracy: one value per epoch, or empty.
    """

    trial: Id
    experiment: Id
    setting: Values
    replicate: Count
    finished: bool
    epoch: Counts = ()
    train_loss: Curve = ()
    validation_loss: Curve = ()
    validation_accuracy: Curve = ()


class Progress(Record):
    """How far a run is: what `inklab status --json`, the page and its stream of events show.

    Attributes:
        state: "running" while a process drives it, else "finished" or "stopped".
        started_at: when that process began, seconds since 1970; None if none runs.
        seconds_left: None unless it is running and planned.
        done: trials and evaluations that have a final outcome.
        total: of trials and evaluations.
        experiments: in the order of the plan.
        running: the running jobs.
        curves: of some trials of each experiment.
    """

    state: Literal["running", "finished", "stopped"]
    started_at: NonNegative | None = None
    seconds_left: NonNegative | None = None
    done: Count
    total: Count
    experiments: Annotated[tuple[ExperimentProgress, ...], FailFast] = ()
    running: Annotated[tuple[JobProgress, ...], FailFast] = ()
    curves: Annotated[tuple[LearningCurve, ...], FailFast] = ()

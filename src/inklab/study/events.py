"""What happens in a run, as typed events: an executor makes them, the runner passes them on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from inklab.records.plan import NetworkTraits
from inklab.records.status import Draft
from inklab.study.jobs import Job
from inklab.study.resources import Cost


@dataclass(frozen=True)
class Probing:
    """The machine is about to be measured, which is done once and takes about 40 s."""

    is_terminal: ClassVar[bool] = False


@dataclass(frozen=True)
class Planned:
    """It is known what is to be done.

    Attributes:
        estimate: of what is still to be done.
    """

    is_terminal: ClassVar[bool] = False
    estimate: Cost


@dataclass(frozen=True)
class Started:
    """A worker began with a job; it does so again after `Retried`."""

    is_terminal: ClassVar[bool] = False
    job: Job


@dataclass(frozen=True)
class EpochEnded:
    """An epoch of a training has ended.

    Attributes:
        job: that trains.
        epoch: from 1; trials that are trained one after the other begin at 1 again.
        epochs: of the recipe.
        train_loss: mean over the epoch and the population; it may be NaN or infinite.
    """

    is_terminal: ClassVar[bool] = False
    job: Job
    epoch: int
    epochs: int
    train_loss: float


@dataclass(frozen=True)
class Warned:
    """A job goes on, but the user should know something."""

    is_terminal: ClassVar[bool] = False
    job: Job
    message: str


@dataclass(frozen=True)
class Retried:
    """A job's worker died, and the job is queued once more."""

    is_terminal: ClassVar[bool] = False
    job: Job
    reason: str


@dataclass(frozen=True)
class Done:
    """A job has ended, and left what it was to make.

    Attributes:
        job: that has ended.
        drafts: that it made, each in `attempt_dir/<kind>/<id>`.
        attempt_dir: directory of the attempt that ended.
        traits: what a preflight check found out; None for other jobs.
    """

    is_terminal: ClassVar[bool] = True
    job: Job
    drafts: tuple[Draft, ...]
    attempt_dir: Path
    traits: NetworkTraits | None = None


@dataclass(frozen=True)
class Failed:
    """A job raised an error.

    Attributes:
        job: that raised it.
        reason: one line for a mistake of the user's, else a traceback.
    """

    is_terminal: ClassVar[bool] = True
    job: Job
    reason: str


@dataclass(frozen=True)
class Lost:
    """A job's worker died as often as a job is tried."""

    is_terminal: ClassVar[bool] = True
    job: Job
    reason: str


JobEvent = Started | EpochEnded | Warned | Retried | Done | Failed | Lost
"""What an executor reports. Each job has one event that is terminal, and none after it."""

Event = Probing | Planned | JobEvent
EventCallback = Callable[[Event], None]


def ignore_event(event: Event) -> None:
    """Do nothing: the callback of whoever does not want to know."""

"""The forms of outcome.json: what became of a trial or an evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import model_validator

from inklab.errors import CorruptFileError
from inklab.study.forms.form import (
    Count,
    Counts,
    FailFast,
    Json,
    Number,
    Numbers,
    Record,
    Share,
    Size,
    Strengths,
    Table,
    fitting,
)

ADVICE = "delete that folder and type the run's command again"

Curve = Annotated[list[Number | None], FailFast]
Shares = Annotated[list[Share], FailFast]
Row = Annotated[list[Share | None], FailFast]


def check_trial(found: Any, name: str, path: Path) -> Json:
    """A trial's outcome as it was read, if it is one.

    Args:
        found: any JSON value.
        name: the trial's id.
        path: where it was read, for messages.

    Raises:
        CorruptFileError: it is none, or another trial's; what is wrong first is named.
    """
    return _of(name, fitting(_Trial, found, path, f"is not an outcome of '{name}'", ADVICE), path)


def check_evaluation(found: Any, name: str, path: Path) -> Json:
    """An evaluation's outcome as it was read, if it is one.

    Args:
        found: any JSON value.
        name: the evaluation's id.
        path: where it was read, for messages.

    Raises:
        CorruptFileError: it is none, or another evaluation's; what is wrong first is named.
    """
    kind = found.get("kind") if isinstance(found, dict) else None
    form = _GenerationOutcome if kind == "generator" else _RobustnessOutcome
    return _of(name, fitting(form, found, path, f"is not an outcome of '{name}'", ADVICE), path)


def refuse_other(outcome: Json, planned: Mapping[str, Any], classes: int, path: Path) -> None:
    """Refuse an evaluation that computed something else than what was planned under its id.

    Args:
        outcome: the evaluation's, of sound form.
        planned: what the plan says of it.
        classes: of the data.
        path: where it was read, for messages.

    Raises:
        CorruptFileError: it is another, or has rates of more or fewer classes.
    """
    rows = [*outcome.get("tpr_per_class", []), outcome.get("classes")]
    if not planned.items() <= outcome.items() or any(row is not None and len(row) != classes for row in rows):
        raise CorruptFileError(
            f"'{path}' is not an outcome of '{planned['id']}': it computed something else; {ADVICE}"
        )


def _of(name: str, outcome: Json, path: Path) -> Json:
    if outcome["id"] != name:
        raise CorruptFileError(f"'{path}' is not an outcome of '{name}': it is another's; {ADVICE}")
    return outcome


class _Outcome(Record):
    id: str
    state: Literal["done", "diverged", "failed", "lost"]
    reason: str | None = None
    replicate: Count = 0
    seconds: Size | None = None
    ran: Table | None = None


class _Layer(Record):
    layer: str = ""
    kind: str = ""
    activation: str | None = None
    output: Counts = []
    parameters: Count | None = None
    multiply_adds: Count | None = None


class _Diagnosis(Record):
    name: str
    finding: str | None = None
    advice: str | None = None
    evidence: Table | None = None


class _History(Record):
    epoch: Counts = []
    train_loss: Curve = []
    train_accuracy: Curve = []
    validation_loss: Curve = []
    validation_accuracy: Curve = []


class _Trial(_Outcome):
    parameters: Count | None = None
    layers: Annotated[list[_Layer], FailFast] = []
    history: _History = _History()
    scores: Numbers | None = None
    verdicts: Annotated[list[_Diagnosis], FailFast] = []

    @model_validator(mode="after")
    def _agrees(self) -> "_Trial":
        if self.state == "done" and self.scores is None:
            raise ValueError("it is done, but has no scores")
        for name, value in (self.scores or {}).items():
            if name.endswith("_accuracy") and not 0 <= value <= 1:
                raise ValueError("an accuracy is no share")
        return self


class _RobustnessOutcome(_Outcome):
    kind: Literal["noise"]
    strengths: Strengths
    tpr: Shares = []
    accuracy: Shares = []
    tpr_per_class: Annotated[list[Row], FailFast] = []

    @model_validator(mode="after")
    def _agrees(self) -> "_RobustnessOutcome":
        lengths = {len(self.tpr), len(self.accuracy), len(self.tpr_per_class)}
        if self.state == "done" and lengths != {len(self.strengths)}:
            raise ValueError("it is done, but has not a rate for each strength")
        return self


class _GenerationOutcome(_Outcome):
    kind: Literal["generator"]
    recognised: Share | None = None
    reconstructed: Share | None = None
    classes: Row | None = None
    frechet: Number | None = None
    nearest: Number | None = None

    @model_validator(mode="after")
    def _agrees(self) -> "_GenerationOutcome":
        if self.state == "done" and self.recognised is None:
            raise ValueError("it is done, but does not say what was recognised")
        return self

"""The form of plan.json."""

import re
from dataclasses import fields
from pathlib import Path
from reprlib import repr as shortened
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from inklab.errors import CorruptFileError
from inklab.study.forms.form import (
    KEY,
    MAX_ENTRIES,
    Count,
    Counts,
    FailFast,
    FewWords,
    Json,
    Key,
    Keys,
    LimitedEntries,
    Number,
    Numbers,
    Positive,
    Record,
    Size,
    Strengths,
    Table,
    Words,
    fitting,
)
from inklab.study.grouping import ExecutionConfig
from inklab.training.objectives import objectives

NOT_A_PLAN = "is not a plan of format 1"
ADVICE = "delete it and type the run's command again, what is finished is kept"
_KEY = re.compile(KEY.removesuffix("$"))

Side = Annotated[int, Field(ge=1, le=4096)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def check_plan(found: Any, path: Path) -> Json:
    """A plan as it was read, if it is one.

    Args:
        found: any JSON value.
        path: where it was read, for messages.

    Raises:
        CorruptFileError: it is none; what is wrong first is named.
    """
    plan = fitting(_Plan, found, path, NOT_A_PLAN, ADVICE)
    for kind, fact in plan.get("facts", {}).items():
        fitting(_Fact, fact, path, f"{NOT_A_PLAN}: its fact {shortened(kind)}", ADVICE)
    if odd := _odd(plan):
        raise CorruptFileError(f"'{path}' {NOT_A_PLAN}: {odd}; {ADVICE}")
    return plan


def _odd(plan: Json) -> str:
    """What is wrong with a plan's trials or its `how`; nothing if they are sound."""
    for key, trial in plan["trials"].items():  # by hand: there may be 10,000, with little to see in each
        if not _KEY.fullmatch(key) or not isinstance(trial, dict):
            return f"its trial {shortened(key)} is none"
    evaluations = (each["id"] for chapter in plan["chapters"] for each in chapter.get("evaluations", []))
    if twice := plan["trials"].keys() & set(evaluations):
        return f"{shortened(min(twice))} is a trial and an evaluation"
    strange = set(plan["how"]) - {field.name for field in fields(ExecutionConfig)}
    return f"'how' has {shortened(min(strange))}" if strange else ""


class _Counts(Record):
    train: Counts
    validation: Counts
    test: Counts


class _Data(Record):
    source: str
    sha256: Sha256
    shape: Annotated[list[Side], Field(min_length=3, max_length=3)]
    labels: Annotated[list[str], FailFast, Field(min_length=2, max_length=MAX_ENTRIES)]
    counts: _Counts
    train: Positive
    validation: Count
    test: Positive
    framing: Table
    note: str | None = None

    @model_validator(mode="after")
    def _agrees(self) -> "_Data":
        for part in ("train", "validation", "test"):
            each = getattr(self.counts, part)
            if len(each) != len(self.labels) or sum(each) != getattr(self, part):
                raise ValueError(f"counts.{part} are not those of its images and classes")
        return self


class _Execution(Record):
    precision: Literal["fp32", "bf16"]
    threads: Positive
    workers: Positive
    members: Positive = 8
    compile: Literal["auto", "yes", "no"] = "no"
    why: Annotated[dict[str, str], LimitedEntries] = {}


class _Fact(Record):
    liftable: bool
    convolutional: bool
    random: bool
    parameters: Count
    multiply_adds: Count


class _Told(Record):
    """What somebody else measured."""

    who: str
    values: Numbers
    differs: str = ""


class _Reference(_Told):
    also: Annotated[list[_Told], FailFast] = []


class _PlannedChapter(Record):
    name: Key
    title: str = ""
    question: str = ""
    answers: Words = []
    reference: _Reference | None = None


class _Plain(_PlannedChapter):
    kind: Literal["data", "findings"]


class _Model(Record):
    name: str


class _Scaling(Record):
    mean: Number
    spread: Number


class _Corruption(Record):
    name: str
    strength: Annotated[list[Size], Field(min_length=2, max_length=2)]


def _trained_for(objective: str) -> str:
    if objective not in objectives:
        raise ValueError(f"networks are trained to {' or '.join(objectives)}")
    return objective


class _Recipe(Record):
    objective: Annotated[str, AfterValidator(_trained_for)]
    optimiser: str
    rate: Number
    momentum: Number
    schedule: str
    epochs: Count
    batch: Count
    l2: Number
    corruption: _Corruption | None


class _Settings(Record):
    model: _Model
    scaling: _Scaling
    recipe: _Recipe
    precision: str


class _Setting(Record):
    values: Table
    settings: _Settings
    trials: Annotated[Keys, Field(min_length=1)]


class _Train(_PlannedChapter):
    kind: Literal["train"]
    vary: FewWords
    settings: Annotated[list[_Setting], FailFast, Field(min_length=1)]

    @model_validator(mode="after")
    def _agrees(self) -> "_Train":
        if any(each.values.keys() != set(self.vary) for each in self.settings):
            raise ValueError("a setting has values of something else than what varies")
        return self


class _Planned(Record):
    id: Key
    replicate: Count
    needs: Keys


class _PlannedNoise(_Planned):
    pipeline: str
    strengths: Strengths
    images: Positive


class _PlannedRobustness(_PlannedChapter):
    kind: Literal["noise"]
    corruption: str
    strengths: Strengths
    images: Positive
    confusions: Annotated[list[Size], FailFast, Field(max_length=MAX_ENTRIES)] = []
    pipelines: Annotated[FewWords, Field(min_length=1)]
    alone: str
    evaluations: Annotated[list[_PlannedNoise], FailFast]

    @model_validator(mode="after")
    def _agrees(self) -> "_PlannedRobustness":
        if self.alone not in self.pipelines:
            raise ValueError("what stands alone is none of its pipelines")
        told = (self.strengths, self.images)
        for each in self.evaluations:
            if each.pipeline not in self.pipelines or (each.strengths, each.images) != told:
                raise ValueError(f"'{each.id}' is an evaluation of something else")
        return self


class _PlannedSampler(_Planned):
    sampler: str


class _PlannedGeneration(_PlannedChapter):
    kind: Literal["generator"]
    decoder: str
    judge: str
    samplers: FewWords
    samples: Positive
    components: Count
    fit_images: Count
    evaluations: Annotated[list[_PlannedSampler], FailFast]


AnyPlannedChapter = Annotated[
    _Plain | _Train | _PlannedRobustness | _PlannedGeneration, Field(discriminator="kind")
]


class _Plan(Record):
    format: Literal[1]
    study: str
    title: str = ""
    command: str = ""
    profile: str
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    data: _Data
    how: _Execution
    chapters: Annotated[list[AnyPlannedChapter], FailFast]
    trials: Json
    groups: list[Any]
    facts: Json = {}

    @model_validator(mode="after")
    def _agrees(self) -> "_Plan":
        names = [chapter.name for chapter in self.chapters]
        if len(set(names)) != len(names):
            raise ValueError("two of its chapters have one name")
        if any(each.name == "findings" != each.kind for each in self.chapters):
            raise ValueError("a chapter of another kind is called 'findings'")
        return self

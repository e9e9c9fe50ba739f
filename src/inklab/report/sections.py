"""The chapters of a report, with the tables of their evaluations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from inklab.report.figures import Figure
from inklab.report.figures.generation_plots import sampler_scores
from inklab.report.figures.numerals import (
    ABSENT,
    count,
    fixed,
    format_general,
    interval,
    p_value,
    percent1,
    points,
)
from inklab.report.figures.result_access import chapter_results, is_number, read_score, slug
from inklab.report.figures.robustness_plots import pipelines_of, strengths_of
from inklab.report.method import method
from inklab.report.tables import (
    Table,
    failures,
    interval_basis,
    outcomes_text,
    remarks,
    sentence_case,
    short_cell,
    train_tables,
    without_units,
)
from inklab.results.phrases import pluralize
from inklab.run import Json, RunData

SHOWN_STRENGTHS = (0.0, 0.1, 0.25, 0.4, 0.5, 0.75, 1.0)
MAX_ABREAST = 4  # pipelines whose intervals fit beside their means; of more they stand below


def robustness_tables(run: RunData, chapter: Json) -> list[Table]:
    """True-positive rates at some strengths, and what cleaning first changes there."""
    curves, strengths = pipelines_of(run, chapter), strengths_of(run, chapter)
    if not curves:
        return []
    spots = shown_places(strengths)
    below = len(curves) > MAX_ABREAST
    rows = []
    for i in spots:
        scores = [each[i] if i < len(each) else None for each in curves.values()]
        told = without_units([short_cell(score, percent1, below=below) for score in scores])
        rows.append([f"{strengths[i]:g}", *told])
    first = [score for each in curves.values() for score in each[:1]]
    ns = ", ".join(f"{name} n = {score.n}" for name, score in zip(curves, first, strict=True) if score)
    written = [each[i] for i in spots for each in curves.values() if i < len(each)]
    notes = _over(first) + interval_basis(written)
    rates = Table(
        caption=f"Mean true-positive rate in percent (95 % CI) at some strengths; {ns}.{notes}",
        head=("Strength", *curves),
        rows=rows,
    )
    return [rates, *_comparisons(run, chapter)]


def _over(scores: list[Any]) -> str:
    alone = any(score is not None and score.n == 1 and score.interval for score in scores)
    return " Intervals over test images (Wilson) where n = 1." if alone else ""


def shown_places(strengths: list[float]) -> list[int]:
    """Which strengths a table shows: the customary ones that were measured, else all if they are few.

    Example:
        >>> shown_places([0.0, 0.05, 0.1, 0.5])
        [0, 2, 3]
    """
    spots = [
        i for i, strength in enumerate(strengths) if any(abs(strength - s) < 1e-9 for s in SHOWN_STRENGTHS)
    ]
    if len(spots) >= 3:
        return spots
    return [int(i) for i in np.unique(np.linspace(0, len(strengths) - 1, 7).round())] if strengths else []


def _comparisons(run: RunData, chapter: Json) -> list[Table]:
    results = chapter_results(run, chapter["name"])
    one = results.get("helps_by") or {}
    gaps = one.get("differences") or []
    spots = shown_places([float(gap.get("strength", i)) for i, gap in enumerate(gaps)])
    rows = [
        [
            f"{gaps[i].get('strength', 0):g}",
            points(gaps[i]["mean"]),
            interval(gaps[i]["lower"], gaps[i]["upper"], points)
            if is_number(gaps[i].get("lower"))
            else ABSENT,
            p_value(gaps[i]["p_holm"]) if is_number(gaps[i].get("p_holm")) else ABSENT,
            count(gaps[i]["n"]) if gaps[i].get("n") else ABSENT,
        ]
        for i in spots
        if is_number(gaps[i].get("mean"))
    ]
    if not rows:
        return []
    over = "replicates" if one.get("over") == "replicates" else "test images"
    return [
        Table(
            caption=(
                f"{one.get('pipeline')} less {one.get('against')}, in percentage points of the mean "
                "true-positive rate, paired over "
                f"{over}. Bounds and p are adjusted (Holm) for all {len(gaps)} strengths together."
            ),
            head=("Strength", "Difference", "95 % bounds", "p (Holm)", "n"),
            rows=rows,
        )
    ]


def generation_tables(run: RunData, chapter: Json) -> list[Table]:
    """Each sampler: recognised, Fréchet distance beside its floor, distance to the nearest training image."""
    results = chapter_results(run, chapter["name"])
    recognised, frechet, near = (
        sampler_scores(run, chapter, what) for what in ("recognised", "frechet", "nearest")
    )
    names = list(dict.fromkeys([*recognised, *frechet, *near]))
    rows = [
        [
            name,
            short_cell(recognised.get(name), percent1),
            short_cell(frechet.get(name), format_general),
            fixed(near[name].mean, 2) if name in near else ABSENT,
        ]
        for name in names
    ]
    if not rows:
        return []
    floor, real, back = (
        read_score(results.get(key)) for key in ("floor", "recognised_test", "reconstructed")
    )
    if back:
        rows.append(["test images, reconstructed", short_cell(back, percent1), ABSENT, ABSENT])
    if floor or real:
        rows.append(
            ["real test images", short_cell(real, percent1), short_cell(floor, format_general), ABSENT]
        )
    return [
        Table(
            caption=(
                "Samplers. Recognised: share that the judge names with more than 90 % confidence (95 % CI). "
                "Fréchet: squared distance "
                "in the judge’s features, lower is better; the last row is its floor, training against test "
                "images. Nearest: mean "
                "distance to the nearest training image."
                f"{interval_basis([*recognised.values(), *frechet.values(), floor, real, back], 'images')}"
            ),
            head=("Sampler", "Recognised", "Fréchet", "Nearest"),
            rows=rows,
        )
    ]


TEMPLATES = Path(__file__).parent / "templates"
FULL_WORDS = 6  # failures told one by one; more are summed up

TABLES: Mapping[str, Callable[[RunData, Json], list[Table]]] = {
    "train": train_tables,
    "noise": robustness_tables,
    "generator": generation_tables,
}


@dataclass(frozen=True)
class Notice:
    """A verdict: what was found, what shows it, what to do."""

    name: str
    finding: str
    advice: str = ""
    evidence: tuple[tuple[str, str], ...] = ()
    trials: str | None = None


@dataclass(frozen=True)
class Section:
    """What the page shows of one chapter."""

    anchor: str
    name: str
    title: str
    question: str = ""
    method: str = ""
    status: str = ""
    sentence: str = ""
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    callouts: list[Notice] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def build_section(run: RunData, chapter: Json, figures: list[Figure]) -> Section:
    """Everything that there is about a chapter of the plan."""
    name = str(chapter["name"])
    results = chapter_results(run, name) if chapter.get("kind") != "findings" else {}
    tables = TABLES.get(str(chapter.get("kind")))
    return Section(
        anchor=slug(name),
        name=name,
        title=str(chapter.get("title") or name),
        question=str(chapter.get("question") or ""),
        method=method(run, chapter),
        status=status(chapter, results),
        sentence=run.sentences.get(name, ""),
        figures=figures,
        tables=tables(run, chapter) if tables else [],
        callouts=notices(run, chapter, results),
        failures=truncate(failures(run, chapter) + failed_evaluations(run, chapter)),
        remarks=remarks(chapter),
        answers=[one for one in chapter.get("answers") or [] if one in known_answers()],
    )


@lru_cache(maxsize=1)
def known_answers() -> frozenset[str]:
    """The written answers that a study file may name."""
    return frozenset(file.stem for file in (TEMPLATES / "answers").glob("*.html"))


def status(chapter: Json, results: Json) -> str:
    """How far a chapter is, or nothing if all of it is done."""
    outcomes = results.get("outcomes") or {}
    planned = chapter.get("settings") or chapter.get("evaluations")
    if not outcomes:
        return "Nothing of this chapter has been run yet." if planned else ""
    word = "Trainings" if chapter.get("kind") == "train" else "Evaluations"
    if set(outcomes) <= {"done"}:
        return ""
    none = "" if outcomes.get("done") else " There is nothing to average."
    return f"{word} done: {outcomes_text(outcomes)}. Means are over those that are done.{none}"


def notices(run: RunData, chapter: Json, results: Json) -> list[Notice]:
    """The verdicts of a chapter's trials, each once, with the evidence of its first trial."""
    found: dict[str, Notice] = {}
    for setting in chapter.get("settings") or []:
        for trial in setting.get("trials") or []:
            for verdict in (run.outcome(trial) or {}).get("verdicts") or []:
                found.setdefault(str(verdict.get("name")), _notice(verdict))
    for verdict in results.get("verdict_details") or []:
        found.setdefault(str(verdict.get("name")), _notice(verdict))
    total = sum((results.get("outcomes") or {}).values())
    details = results.get("verdict_details") or []
    trials = {one.get("name"): f"{one.get('trials')} of {pluralize(total, 'trial')}" for one in details}
    return [Notice(c.name, c.finding, c.advice, c.evidence, trials.get(c.name)) for c in found.values()]


def _notice(verdict: Json) -> Notice:
    evidence = verdict.get("evidence") or {}
    told = tuple((str(key).replace("_", " "), _evidence(value)) for key, value in evidence.items())
    return Notice(
        str(verdict.get("name")), _sentence(verdict.get("finding")), _sentence(verdict.get("advice")), told
    )


def _sentence(text: object) -> str:
    told = sentence_case(str(text or "").strip())
    return told if not told or told.endswith((".", "!", "?")) else f"{told}."


def _evidence(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_evidence(one) for one in value)
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def failed_evaluations(run: RunData, chapter: Json) -> list[str]:
    """Each evaluation of a chapter that came to nothing, with its reason."""
    told = []
    for planned in chapter.get("evaluations") or []:
        outcome = run.evaluation(planned["id"])
        if outcome is not None and outcome.get("state") != "done":
            what = planned.get("pipeline") or planned.get("sampler")
            reason = outcome.get("reason") or "no reason is known"
            told.append(f"{what}, replicate {planned.get('replicate')}: {outcome.get('state')}; {reason}.")
    return told


def truncate(told: list[str]) -> list[str]:
    """At most a handful of lines, and how many more there are."""
    more = len(told) - FULL_WORDS
    return (
        told if more <= 0 else [*told[:FULL_WORDS], f"And {more} more; see the outcomes in the run folder."]
    )

"""A chapter of the report: everything that the page shows of it, already in words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from inklab.figures import Figure
from inklab.figures.reading import chapter_results, slug
from inklab.report.evaluations import generator_tables, noise_tables
from inklab.report.method import method
from inklab.report.tables import Table, failures, outcomes_text, remarks, sentence_case, train_tables
from inklab.report.view import Json, RunView
from inklab.study.phrases import counted

TEMPLATES = Path(__file__).parent / "templates"
FULL_WORDS = 6  # failures told one by one; more are summed up

TABLES: Mapping[str, Callable[[RunView, Json], list[Table]]] = {
    "train": train_tables,
    "noise": noise_tables,
    "generator": generator_tables,
}


@dataclass(frozen=True)
class Callout:
    """A verdict: what was found, what shows it, what to do."""

    name: str
    finding: str
    advice: str = ""
    evidence: tuple[tuple[str, str], ...] = ()
    trials: str | None = None


@dataclass(frozen=True)
class Chapter:
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
    callouts: list[Callout] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def read_chapter(run: RunView, chapter: Json, figures: list[Figure]) -> Chapter:
    """Everything that there is about a chapter of the plan."""
    name = str(chapter["name"])
    results = chapter_results(run, name) if chapter.get("kind") != "findings" else {}
    tables = TABLES.get(str(chapter.get("kind")))
    return Chapter(
        anchor=slug(name),
        name=name,
        title=str(chapter.get("title") or name),
        question=str(chapter.get("question") or ""),
        method=method(run, chapter),
        status=status(chapter, results),
        sentence=run.sentences.get(name, ""),
        figures=figures,
        tables=tables(run, chapter) if tables else [],
        callouts=callouts(run, chapter, results),
        failures=shortened(failures(run, chapter) + failed_evaluations(run, chapter)),
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


def callouts(run: RunView, chapter: Json, results: Json) -> list[Callout]:
    """The verdicts of a chapter's trials, each once, with the evidence of its first trial."""
    found: dict[str, Callout] = {}
    for setting in chapter.get("settings") or []:
        for trial in setting.get("trials") or []:
            for verdict in (run.outcome(trial) or {}).get("verdicts") or []:
                found.setdefault(str(verdict.get("name")), _callout(verdict))
    for verdict in results.get("verdict_details") or []:
        found.setdefault(str(verdict.get("name")), _callout(verdict))
    total = sum((results.get("outcomes") or {}).values())
    details = results.get("verdict_details") or []
    trials = {one.get("name"): f"{one.get('trials')} of {counted(total, 'trial')}" for one in details}
    return [Callout(c.name, c.finding, c.advice, c.evidence, trials.get(c.name)) for c in found.values()]


def _callout(verdict: Json) -> Callout:
    evidence = verdict.get("evidence") or {}
    told = tuple((str(key).replace("_", " "), _evidence(value)) for key, value in evidence.items())
    return Callout(
        str(verdict.get("name")), _sentence(verdict.get("finding")), _sentence(verdict.get("advice")), told
    )


def _sentence(text: object) -> str:
    told = sentence_case(str(text or "").strip())
    return told if not told or told.endswith((".", "!", "?")) else f"{told}."


def _evidence(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_evidence(one) for one in value)
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def failed_evaluations(run: RunView, chapter: Json) -> list[str]:
    """Each evaluation of a chapter that came to nothing, with its reason."""
    told = []
    for planned in chapter.get("evaluations") or []:
        outcome = run.evaluation(planned["id"])
        if outcome is not None and outcome.get("state") != "done":
            what = planned.get("pipeline") or planned.get("sampler")
            reason = outcome.get("reason") or "no reason is known"
            told.append(f"{what}, replicate {planned.get('replicate')}: {outcome.get('state')}; {reason}.")
    return told


def shortened(told: list[str]) -> list[str]:
    """At most a handful of lines, and how many more there are."""
    more = len(told) - FULL_WORDS
    return (
        told if more <= 0 else [*told[:FULL_WORDS], f"And {more} more; see the outcomes in the run folder."]
    )

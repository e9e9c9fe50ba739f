"""The sections of a report, one for each experiment."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import JsonValue

from inklab.format import TEXT, format_number, format_outcomes, format_setting, pluralize
from inklab.records.outcomes import Diagnosis, TrialState
from inklab.records.plan import (
    AnyExperimentPlan,
    GenerationPlan,
    RobustnessEvaluation,
    RobustnessPlan,
    TrainingPlan,
)
from inklab.records.results import (
    DataResults,
    ExperimentResults,
    GenerationResults,
    RobustnessResults,
    TrainingResults,
)
from inklab.report.figures import Figure
from inklab.report.figures.drawing import slug
from inklab.report.method import describe_method
from inklab.report.tables import (
    Table,
    capitalize,
    generation_tables,
    reference_notes,
    robustness_tables,
    training_tables,
)
from inklab.results.narrative import sentence
from inklab.run import Run

TEMPLATES = Path(__file__).parent / "templates"

MAX_FAILURES = 6
"""Failures that are listed; more are counted."""


@dataclass(frozen=True)
class Notice:
    """A diagnosis as the page shows it.

    Attributes:
        name: of the diagnosis.
        message: what was measured.
        advice: what to do.
        evidence: the numbers of the first trial, by name.
        trials: how many trials have it, such as "1 of 3 trials".
    """

    name: str
    message: str
    advice: str
    evidence: tuple[tuple[str, str], ...]
    trials: str


@dataclass(frozen=True)
class Section:
    """What the page shows of one experiment.

    Attributes:
        anchor: id in the page.
        title: heading.
        question: of the study.
        method: how it was done.
        status: how far it is; "" if all is done.
        sentence: what came out.
        figures: its figures.
        tables: its tables.
        notices: diagnoses of its trials.
        failures: a line for each trial or evaluation that failed.
        explanations: names of written explanations.
        reference_notes: what others reported without numbers.
    """

    anchor: str
    title: str
    question: str
    method: str
    status: str
    sentence: str
    figures: Sequence[Figure]
    tables: list[Table]
    notices: list[Notice]
    failures: list[str]
    explanations: list[str]
    reference_notes: list[str]


def build_section(run: Run, plan: AnyExperimentPlan, figures: Sequence[Figure]) -> Section:
    """Everything that is known about an experiment of the plan."""
    results = run.results.experiments.get(plan.name)
    return Section(
        anchor=slug(plan.name),
        title=plan.title or plan.name,
        question=plan.question,
        method=describe_method(run.plan, plan),
        status=describe_status(results),
        sentence=sentence(plan, run.results),
        figures=figures,
        tables=_build_tables(run, plan, results),
        notices=find_notices(run, plan, results),
        failures=truncate([*failed_trials(run, plan), *failed_evaluations(run, plan)]),
        explanations=[name for name in plan.explanations if name in known_explanations()],
        reference_notes=reference_notes(plan),
    )


def _build_tables(run: Run, plan: AnyExperimentPlan, results: ExperimentResults | None) -> list[Table]:
    if isinstance(plan, TrainingPlan) and isinstance(results, TrainingResults):
        return training_tables(run, plan, results)
    if isinstance(plan, RobustnessPlan) and isinstance(results, RobustnessResults):
        return robustness_tables(plan, results)
    if isinstance(plan, GenerationPlan) and isinstance(results, GenerationResults):
        return generation_tables(plan, results)
    return []


@cache
def known_explanations() -> frozenset[str]:
    """Names of the written explanations that a study may show."""
    return frozenset(path.stem for path in (TEMPLATES / "explanations").glob("*.html"))


def describe_status(results: ExperimentResults | None) -> str:
    """How far an experiment is; "" if all of it is done."""
    if results is None or isinstance(results, DataResults):
        return ""
    outcomes = results.outcomes
    if outcomes.keys() <= {TrialState.WAITING}:
        return "This experiment has not been run yet."
    noun = "training" if isinstance(results, TrainingResults) else "evaluation"
    states = format_outcomes(outcomes, noun, hide_complete=True)
    if not states:
        return ""
    end = "Means are over those that are done." if TrialState.DONE in outcomes else "So there are no means."
    return f"{states}. {end}"


# ---------------------------------------------------------------- diagnoses


def find_notices(run: Run, plan: AnyExperimentPlan, results: ExperimentResults | None) -> list[Notice]:
    """The diagnoses of an experiment's trials, each once, with the evidence of its first trial."""
    if not isinstance(plan, TrainingPlan) or not isinstance(results, TrainingResults):
        return []
    total = pluralize(sum(results.outcomes.values()), "trial")
    counts: dict[str, int] = {}
    first: dict[str, Diagnosis] = {}
    for outcome in (run.outcomes[trial] for trial in plan.trials if trial in run.outcomes):
        for diagnosis in outcome.diagnoses:
            first.setdefault(diagnosis.name, diagnosis)
            counts[diagnosis.name] = counts.get(diagnosis.name, 0) + 1
    return [_build_notice(diagnosis, f"{counts[name]:,} of {total}") for name, diagnosis in first.items()]


def _build_notice(diagnosis: Diagnosis, trials: str) -> Notice:
    evidence = tuple(
        (key.replace("_", " "), _format_evidence(value)) for key, value in diagnosis.evidence.items()
    )
    message, advice = _punctuate(diagnosis.message), _punctuate(diagnosis.advice)
    return Notice(diagnosis.name, message, advice, evidence, trials)


def _punctuate(text: str) -> str:
    """A text with a capital first letter and a full stop."""
    complete = capitalize(text.strip())
    return complete if not complete or complete.endswith((".", "!", "?")) else f"{complete}."


def _format_evidence(value: JsonValue) -> str:
    if isinstance(value, list):
        return ", ".join(map(_format_evidence, value))
    return format_number(value, 5, TEXT) if isinstance(value, float) else str(value)


# ---------------------------------------------------------------- failures


def failed_trials(run: Run, plan: AnyExperimentPlan) -> list[str]:
    """A line for each trial that is not done, with its reason."""
    lines = []
    for setting in plan.settings if isinstance(plan, TrainingPlan) else ():
        for trial in setting.trials:
            outcome = run.outcomes.get(trial)
            if outcome is not None and not outcome.is_done:
                values = format_setting(setting.values)
                name = f"{values}, replicate" if values else "Replicate"
                lines.append(_describe_failure(f"{name} {outcome.replicate}", outcome.state, outcome.reason))
    return lines


def failed_evaluations(run: Run, plan: AnyExperimentPlan) -> list[str]:
    """A line for each evaluation that is not done, with its reason."""
    lines = []
    for entry in plan.evaluations if isinstance(plan, RobustnessPlan | GenerationPlan) else ():
        outcome = run.evaluations.get(entry.id)
        if outcome is not None and not outcome.is_done:
            name = entry.pipeline if isinstance(entry, RobustnessEvaluation) else entry.sampler
            lines.append(
                _describe_failure(f"{name}, replicate {entry.replicate}", outcome.state, outcome.reason)
            )
    return lines


def _describe_failure(name: str, state: TrialState, reason: str | None) -> str:
    return f"{name}: {state}; {(reason or 'the reason is unknown').rstrip('.')}."


def truncate(lines: list[str]) -> list[str]:
    """At most `MAX_FAILURES` lines, and how many more there are.

    Example:
        >>> truncate(["a."] * 8)[-1]
        'And 2 more; see the outcomes in the run directory.'
    """
    more = len(lines) - MAX_FAILURES
    if more <= 0:
        return lines
    return [*lines[:MAX_FAILURES], f"And {more:,} more; see the outcomes in the run directory."]

"""The page: one file that opens offline. Its scripts are those of charts and drawing pad, allowed by hash."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from inklab.format import (
    capitalize,
    format_number,
    format_outcomes,
    format_percent,
    format_setting,
    pluralize,
    typeset,
)
from inklab.io.files import write_atomic
from inklab.records.data_report import DataReport
from inklab.records.outcomes import Diagnosis, EvaluationOutcome, TrialOutcome, TrialState
from inklab.records.plan import (
    AnyExperimentPlan,
    CorruptionErrorPlan,
    FindingsPlan,
    GenerationPlan,
    RobustnessEvaluation,
    RobustnessPlan,
    TrainingPlan,
)
from inklab.records.results import (
    CorruptionErrorResults,
    DataResults,
    ExperimentResults,
    GenerationResults,
    RobustnessResults,
    TrainingResults,
)
from inklab.report.corruption_tables import corruption_error_tables
from inklab.report.figures import SUMMARY, Figure, Figures, draw_figures, write_figures
from inklab.report.figures.drawing import DARK, LIGHT, slug, variables
from inklab.report.figures.mistakes import MistakeMatrix, mistake_matrix
from inklab.report.overview import (
    commands,
    describe_method,
    environment_table,
    key_findings,
    time_table,
)
from inklab.report.pad_demo import TEMPLATES, build_pad, encode_base64, script_hash
from inklab.report.summary import summary_table
from inklab.report.tables import (
    Table,
    data_check_table,
    generation_tables,
    reference_notes,
    robustness_tables,
    training_tables,
)
from inklab.results.narrative import sentence
from inklab.results.run_diagnoses import RunDiagnosis, diagnose_replicates, diagnose_test_set
from inklab.runs import Run

MAX_CSV = 1_000_000
"""Characters of a figure's data in the page; the curves of 10,000 trainings have nine times as many."""

MAX_FAILURES = 6
"""Failures that are listed; more are counted."""


class Notice(NamedTuple):
    """A diagnosis, from the first trial that has it; and how many have it, such as "1 of 3 trials"."""

    diagnosis: Diagnosis
    trials: str

    @classmethod
    def of(cls, row: RunDiagnosis) -> "Notice":
        """What only many trainings together show."""
        text = Diagnosis(name=row.diagnosis.name, message=row.diagnosis.message, advice=row.diagnosis.advice)
        return cls(text, f"{row.where}, {row.diagnosis.trials:,} of {pluralize(row.of, 'trial')}")


@dataclass(frozen=True)
class Section:
    """What the page shows of one experiment; what it has none of is empty.

    Attributes:
        anchor: id in the page.
        status: how far it is.
        sentence: what came out.
        failures: a line for each trial or evaluation that failed.
        mistakes: counts by true and predicted class, with images.
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
    mistakes: MistakeMatrix | None
    tables: list[Table]
    notices: list[Notice]
    failures: list[str]
    explanations: list[str]
    reference_notes: list[str]


def build_section(run: Run, plan: AnyExperimentPlan, figures: Sequence[Figure]) -> Section:
    """What is known about an experiment of the plan."""
    results = run.results.experiments.get(plan.name)
    return Section(
        anchor=slug(plan.name),
        title=plan.title or plan.name,
        question=plan.question,
        method=describe_method(run.plan, plan),
        status=describe_status(results),
        sentence=sentence(plan, run.results),
        figures=figures,
        mistakes=mistake_matrix(run, plan, f"{slug(plan.name)}-mistakes")
        if isinstance(plan, TrainingPlan)
        else None,
        tables=_build_tables(run, plan, results),
        notices=find_notices(run, plan, results),
        failures=truncate(list(find_failures(run, plan))),
        explanations=[name for name in plan.explanations if name in known_explanations()],
        reference_notes=reference_notes(plan),
    )


def _build_tables(run: Run, plan: AnyExperimentPlan, results: ExperimentResults | None) -> list[Table]:
    match plan, results:
        case TrainingPlan(), TrainingResults():
            return training_tables(run, plan, results)
        case CorruptionErrorPlan(), CorruptionErrorResults():
            return corruption_error_tables(run.plan, plan, results)
        case _, RobustnessResults():
            return robustness_tables(results)
        case _, GenerationResults():
            return generation_tables(results)
    return []


@cache
def known_explanations() -> frozenset[str]:
    """Names of the written explanations that a study may show."""
    return frozenset(path.stem for path in (TEMPLATES / "explanations").glob("*.html"))


def describe_status(results: ExperimentResults | None) -> str:
    """How far an experiment is; "" if all of it is done."""
    if results is None or isinstance(results, DataResults):
        return ""
    if results.outcomes.keys() <= {TrialState.WAITING}:
        return "This experiment has not been run yet."
    noun = "training" if isinstance(results, TrainingResults) else "evaluation"
    states = format_outcomes(results.outcomes, noun, hide_complete=True)
    has_means = TrialState.DONE in results.outcomes
    end = "Means are over those that are done." if has_means else "So there are no means."
    return f"{states}. {end}" if states else ""


def find_notices(run: Run, plan: AnyExperimentPlan, results: ExperimentResults | None) -> list[Notice]:
    """The diagnoses of an experiment's trials, each once, with its first trial's evidence; and outliers."""
    if not isinstance(plan, TrainingPlan) or not isinstance(results, TrainingResults):
        return []
    total = pluralize(sum(results.outcomes.values()), "trial")
    outcomes = [run.outcomes[trial] for trial in plan.trials if trial in run.outcomes]
    diagnoses = [diagnosis for outcome in outcomes for diagnosis in outcome.diagnoses]
    counts = Counter(diagnosis.name for diagnosis in diagnoses)
    first = {diagnosis.name: diagnosis for diagnosis in reversed(diagnoses)}
    notices = [Notice(first[name], f"{count:,} of {total}") for name, count in counts.items()]
    return notices + [Notice.of(row) for row in diagnose_replicates(plan.name, results)]


def punctuate(text: str) -> str:
    """A text with a capital first letter and a full stop."""
    complete = capitalize(text.strip())
    return complete if not complete or complete.endswith((".", "!", "?")) else f"{complete}."


def format_evidence(value: JsonValue) -> str:
    """A number or a list of numbers that a diagnosis is based on."""
    if isinstance(value, list):
        return ", ".join(map(format_evidence, value))
    return format_number(value, 5) if isinstance(value, float) else str(value)


def find_failures(run: Run, plan: AnyExperimentPlan) -> Iterator[str]:
    """A line for each trial or evaluation that is not done, with its reason."""
    outcomes: dict[str, TrialOutcome | EvaluationOutcome] = {**run.outcomes, **run.evaluations}
    planned: list[tuple[str, str, int]] = []
    if isinstance(plan, TrainingPlan):
        for setting in plan.settings:
            values = format_setting(setting.values)
            planned += [(id, values, replicate) for replicate, id in enumerate(setting.trials)]
    elif isinstance(plan, RobustnessPlan | GenerationPlan):
        for entry in plan.evaluations:
            name = entry.pipeline if isinstance(entry, RobustnessEvaluation) else entry.sampler
            planned.append((entry.id, name, entry.replicate))
    for id, name, replicate in planned:
        outcome = outcomes.get(id)
        if outcome is not None and not outcome.is_done:
            subject = f"{name}, replicate" if name else "Replicate"
            reason = (outcome.reason or "the reason is unknown").rstrip(".")
            yield f"{subject} {replicate}: {outcome.state}; {reason}."


def truncate(lines: list[str]) -> list[str]:
    """At most `MAX_FAILURES` lines, and how many more there are.

    Example:
        >>> truncate(["a."] * 8)[-1]
        'And 2 more; see the outcomes in the run directory.'
    """
    more = len(lines) - MAX_FAILURES
    rest = f"And {more:,} more; see the outcomes in the run directory."
    return lines if more <= 0 else [*lines[:MAX_FAILURES], rest]


# ---------------------------------------------------------------- page


def build_report(run: Run, figures: Figures | None = None, *, has_pad: bool = True) -> str:
    """One self-contained HTML page with everything that a run has found out so far.

    It requests no font, script or image. A content security policy in its head enforces that and allows two
    scripts only, by their SHA-256: that of charts and tables, and that of the drawing pad, if the run has a
    network that is small enough. Without them the page is complete. Every text of a study or an outcome is
    escaped.

    Args:
        run: what it lacks is left out, or named as missing.
        figures: those already drawn, so as not to draw them twice; those that are missing are left out.
        has_pad: whether the drawing pad is part of the page, if the run has a network for it.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    drawn = draw_figures(run) if figures is None else figures
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (csv_link, format_evidence, format_percent, punctuate, typeset)
    script = (TEMPLATES / "charts.js").read_text(encoding="utf-8")
    environment.filters |= {function.__name__: function for function in filters}
    return environment.get_template("report.html").render(
        title=run.plan.title or run.plan.study,
        note=" ".join(filter(None, (run.plan.data.note, *_accepted_problems(run)))),
        profile=run.plan.profile,
        summary=summary_table(run),
        summary_figure=next(iter(drawn.get(SUMMARY, ())), None),
        is_begun=any(outcome.is_done for outcome in (*run.outcomes.values(), *run.evaluations.values())),
        findings=key_findings(run),
        notices=[Notice.of(row) for row in diagnose_test_set(run.results)],
        sections=_build_sections(run, drawn),
        pad=build_pad(run) if has_pad else None,
        environment=environment_table(run),
        commands=commands(run),
        time=time_table(run),
        script=script,
        script_sha256=script_hash(script),
        light=variables(LIGHT),
        dark=variables(DARK),
    )


def _accepted_problems(run: Run) -> tuple[str, ...]:
    return run.plan.data_report.problems if run.plan.data_report else ()


def _build_sections(run: Run, figures: Figures) -> list[Section]:
    """The sections in order. A table that an earlier one has, such as a network's layers, is left out.

    Findings are at the top of the page; their experiment has a section only if it has explanations.
    """
    earlier: list[Table] = []
    sections = []
    for plan in run.plan.experiments:
        section = build_section(run, plan, figures.get(plan.name, []))
        tables = [table for table in section.tables if table not in earlier]
        earlier += tables
        if not isinstance(plan, FindingsPlan) or section.explanations:
            sections.append(replace(section, tables=tables))
    if run.plan.data_report is not None:
        sections.append(_data_section(run.plan.data_report))
    return sections


def _data_section(report: DataReport) -> Section:
    """What the check of the images found before training."""
    sentences = (*report.problems, *report.notes)
    return Section(
        anchor="data-check",
        title="Check of the images",
        question="Is anything wrong with the images or their labels?",
        method="",
        status="",
        sentence=" ".join(sentences) or "Nothing was found: see the table for what was looked at.",
        figures=[],
        mistakes=None,
        tables=[data_check_table(report)],
        notices=[],
        failures=[],
        explanations=[],
        reference_notes=[],
    )


def csv_link(figure: Figure) -> str:
    """A figure's data as a data URI; "" if they are too large for the page."""
    if len(figure.csv) > MAX_CSV:
        return ""
    return "data:text/csv;charset=utf-8;base64," + encode_base64(figure.csv.encode())


def write_report(run: Run, directory: Path | None = None) -> Path:
    """Draw everything once; write `figures/` and `report.html`.

    Args:
        run: what is reported.
        directory: where to; the run directory if left out.

    Returns:
        The path of the page.
    """
    figures, directory = draw_figures(run), directory or run.path
    write_figures(run, directory / "figures", figures)
    path = directory / "report.html"
    write_atomic(path, build_report(run, figures))
    return path

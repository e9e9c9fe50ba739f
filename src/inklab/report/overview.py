"""The first and last parts of a report: headline numbers, findings, and how the run was made."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from inklab.format import (
    format_delta,
    format_duration,
    format_metric,
    humanize,
    pluralize,
)
from inklab.records.results import GenerationResults, RobustnessResults
from inklab.report.figures.drawing import slug
from inklab.report.tables import Table
from inklab.run import Run

MAX_FINDING_LENGTH = 900
"""Characters of a finding at the top of the page; its section has all of it."""

NO_BREAK_HYPHEN = "\u2011"


@dataclass(frozen=True)
class KeyFinding:
    """A finding at the top of the page, with a link to its section.

    Attributes:
        text: its first sentences.
        title: of its section; "" if it belongs to none.
        anchor: of its section.
    """

    text: str
    title: str = ""
    anchor: str = ""


@dataclass(frozen=True)
class TimeTable:
    """Computing times.

    Attributes:
        table: a row for each experiment.
        bars: for each row, its share of the longest experiment.
    """

    table: Table
    bars: list[float]


def key_findings(run: Run) -> list[KeyFinding]:
    """The findings of the results, each under the title of its section."""
    return [_find_section(run, text) for text in run.results.findings]


def _find_section(run: Run, text: str) -> KeyFinding:
    for plan in run.plan.experiments:
        prefix = f"{plan.name}: "
        if text.startswith(prefix):
            answer = text.removeprefix(prefix).removeprefix(plan.question.strip()).strip()
            return KeyFinding(first_sentences(answer), plan.title or plan.name, slug(plan.name))
    return KeyFinding(text)


def first_sentences(text: str, max_length: int = MAX_FINDING_LENGTH) -> str:
    """The first sentences of a text: about `max_length` characters, at least a third of that.

    Example:
        >>> first_sentences("One is 1.5. Two follows. Three is too much.", 30)
        'One is 1.5. Two follows.'
    """
    first, *others = re.split(r"(?<=[.!?]) (?=\S)", text)
    for sentence in others:
        if len(first) >= max_length / 3 and len(first) + len(sentence) > max_length:
            break
        first = f"{first} {sentence}"
    return first


# ---------------------------------------------------------------- headline


def headline_text(run: Run) -> str:
    """The main numbers in one paragraph: accuracies, what denoising does, how good generated images are."""
    sentences = [_describe_accuracy(run)]
    for results in run.results.experiments.values():
        if isinstance(results, RobustnessResults):
            sentences.append(_describe_denoising(results))
        elif isinstance(results, GenerationResults):
            sentences.append(_describe_generation(results))
    text = " ".join(sentence for sentence in sentences if sentence)
    is_done = any(outcome.is_done for outcome in (*run.outcomes.values(), *run.evaluations.values()))
    return text or ("" if is_done else "No experiment is finished yet.")


def _describe_accuracy(run: Run) -> str:
    """Test accuracies of classifiers with one setting and without a diagnosis."""
    parts = []
    for name, results in run.results.training.items():
        setting = results.settings[0]
        accuracy = setting.metrics.get("test_accuracy")
        if accuracy is not None and accuracy.n and not results.grid and not setting.diagnoses:
            parts.append(f"{name.replace('-', NO_BREAK_HYPHEN)} {accuracy.format('test_accuracy')}")
    images = pluralize(run.plan.data.test, "test image")
    return f"Accuracy on {images}: {'; '.join(parts)}." if parts else ""


def _describe_denoising(results: RobustnessResults) -> str:
    comparison = results.denoising
    if comparison is None or not comparison.differences:
        return ""
    corruption = humanize(results.corruption).capitalize()
    if comparison.significant_from is None:
        return f"{corruption}: at no strength does denoising first help significantly."
    text = f"{corruption}: denoising first helps significantly from strength {comparison.significant_from:g}"
    clean = comparison.cost_when_clean
    is_worse = comparison.differences[0].strength == 0 and 0.0 in comparison.worse_at
    if not is_worse or clean is None or clean.mean is None:
        return f"{text}."
    cost = format_delta(-clean.mean, "recall", signed=False)
    return f"{text}; on clean images it costs {cost} of mean recall."


def _describe_generation(results: GenerationResults) -> str:
    shares = {
        name: sampler.confident_share.mean
        for name, sampler in results.samplers.items()
        if sampler.confident_share.mean is not None and name != "perturbed"  # those are near real images
    }
    if not shares:
        return ""
    best, worst = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
    best_share, worst_share = (format_metric(shares[name], "confident_share") for name in (best, worst))
    others = f", of those from {worst} codes {worst_share}" if worst != best else ""
    return (
        f"The classifier is confident about {best_share} of the images generated from {best} codes{others}."
    )


# ---------------------------------------------------------------- how it was made


def environment_table(run: Run) -> list[tuple[str, str]]:
    """Everything that is needed to reproduce the run: data, seed, execution, machine, versions."""
    plan = run.plan
    rows: list[tuple[str, object]] = [
        ("study", plan.study),
        ("profile", plan.profile),
        ("run", run.path.name),
        ("root seed", plan.seed),
        ("data set", plan.data.dataset),
        ("SHA-256 of the data", plan.data.sha256),
        ("largest population", plan.execution.max_population),
        ("compile", plan.execution.compile),
        *run.results.environment,
        *((f"reason for {name}", reason) for name, reason in plan.execution.reasons.items()),
    ]
    return [(key.replace("_", " "), str(value)) for key, value in rows if value not in (None, "")]


def commands(run: Run) -> Iterator[tuple[str, str]]:
    """What to type to repeat, resume, redraw and read."""
    plan = run.plan
    arguments = f"{plan.study} --profile {plan.profile} --data {plan.data.dataset}"
    seed = f" --set seed={plan.seed}" if plan.seed else ""
    path = f"runs/{plan.study}/{run.path.name}"
    yield "Repeat the study", plan.command or f"inklab run {arguments}{seed}"
    yield "Resume an unfinished run", f"inklab resume {path}"
    yield "Redraw the figures and this page", f"inklab report {path}"
    yield "Read the numbers with a program", f"inklab show {path} --json"


def time_table(run: Run) -> TimeTable | None:
    """Seconds of each experiment; None before anything has been computed."""
    timings = run.results.timings
    if not any(timings.experiments.values()):
        return None
    longest = max(timings.experiments.values())
    rows = [[name, format_duration(seconds)] for name, seconds in timings.experiments.items()]
    table = Table(
        caption=(
            "Computing time of each experiment, summed over the workers (what two experiments share counts "
            "in both), and the time from start to end."
        ),
        header=("Experiment", "Time"),
        rows=[*rows, ["Elapsed", format_duration(timings.total)]],
        bold_rows=frozenset({len(rows)}),
    )
    return TimeTable(table, [*(seconds / longest for seconds in timings.experiments.values()), 0.0])

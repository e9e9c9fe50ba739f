"""Tables of experiments that put robustness experiments together: accuracy, mCE, and what others measured."""

from collections.abc import Iterable, Sequence

import numpy as np

from inklab.corruptions.mnist_c import relative_errors
from inklab.format import NOT_AVAILABLE, format_count, format_metric, join_words
from inklab.records.estimates import Estimate
from inklab.records.plan import CLEAN, CorruptionErrorPlan, Plan, Reference
from inklab.records.results import CorruptionErrorResults
from inklab.report.figures.corruption_plot import corruption_titles
from inklab.report.tables import DIFFERENCE_COLUMNS, Table, difference_cells, estimate_cell, interval_note

MEANS = {
    "mean_accuracy": "Mean",
    "mean_corruption_error": "mCE",
    "relative_mean_corruption_error": "Relative mCE",
}
"""Last rows of the table of accuracies: metric to a title that is short, since the column stays in view."""


def corruption_error_tables(
    plan: Plan, experiment: CorruptionErrorPlan, results: CorruptionErrorResults
) -> list[Table]:
    """Accuracy under each corruption with the means, and each pipeline compared with the baseline."""
    tables = [accuracy_table(plan, experiment, results), mean_differences_table(results)]
    return [table for table in tables if table.rows]


def accuracy_table(plan: Plan, experiment: CorruptionErrorPlan, results: CorruptionErrorResults) -> Table:
    """A row for each corruption, a column for each pipeline, then what others measured on the same data."""
    done = {name: row for name, row in results.pipelines.items() if row.replicates}
    titles = corruption_titles(plan, results)
    corruptions = zip(results.experiments, results.strengths, strict=True)
    estimates: dict[str, Sequence[Estimate]] = {
        "Clean images": [row.clean_accuracy for row in done.values()],
        **{
            f"{titles[name]}, {', '.join(f'{strength:.3g}' for strength in strengths)}": [
                row.accuracy[name] for row in done.values()
            ]
            for name, strengths in corruptions
        },
    }
    published = published_columns(experiment)
    cells = [
        [title, *(estimate_cell(estimate, "accuracy", separator="\n") for estimate in row)]
        for title, row in estimates.items()
    ]
    for name, title in MEANS.items():
        means = (estimate_cell(getattr(row, name), name, separator="\n") for row in done.values())
        cells.append([title, *means])
    return Table(
        caption=_describe_accuracies(experiment, results, estimates.values()),
        header=("Corruption, strength", *done, *(reference.source for reference in experiment.references)),
        rows=[
            [*row, *(column[index] for column in published)]
            for index, row in enumerate(cells if done else ())
        ],
        bold_rows=frozenset(range(len(estimates), len(cells))),
    )


def published_columns(experiment: CorruptionErrorPlan) -> list[list[str]]:
    """Cells of each reference: clean, each corruption, mean, mCE and relative mCE.

    Their errors are relative to the first reference's: only these were measured together.
    """
    columns = []
    for reference in experiment.references:
        cells = [
            format_metric(reference.values[name], "accuracy") if name in reference.values else NOT_AVAILABLE
            for name in (CLEAN, *experiment.experiments)
        ]
        columns.append([*cells, *_published_means(reference, experiment)])
    return columns


def published_mean_accuracies(experiment: CorruptionErrorPlan) -> list[str]:
    """Of each reference that has measured every corruption."""
    means = (_published_means(reference, experiment)[0] for reference in experiment.references)
    return [mean for mean in means if mean != NOT_AVAILABLE]


def _published_means(reference: Reference, experiment: CorruptionErrorPlan) -> list[str]:
    first = experiment.references[0]
    if any(name not in row.values for row in (first, reference) for name in experiment.experiments):
        return [NOT_AVAILABLE] * len(MEANS)
    errors, baseline = (
        np.array([[1 - row.values[name] for name in experiment.experiments]]) for row in (reference, first)
    )
    clean = [1 - row.values.get(CLEAN, np.nan) for row in (reference, first)]
    values = (
        1 - errors.mean(),
        relative_errors(errors, baseline).mean(),
        relative_errors(errors, baseline, *clean).mean(),
    )
    return [
        format_metric(float(value), name) if np.isfinite(value) else NOT_AVAILABLE
        for value, name in zip(values, MEANS, strict=True)
    ]


def _describe_accuracies(
    experiment: CorruptionErrorPlan, results: CorruptionErrorResults, rows: Iterable[Sequence[Estimate]]
) -> str:
    images = _format_counts(results.images)
    ns = sorted({len(row.replicates) for row in results.pipelines.values() if row.replicates})
    n = " or ".join(f"{n:,}" for n in ns)
    several = any(len(strengths) > 1 for strengths in results.strengths)
    parts = [
        f"Accuracy under each corruption{', mean over its strengths' if several else ''} (95% CI), on "
        f"{images} test images; n = {n}.{interval_note(estimate for row in rows for estimate in row)} Mean "
        "corruption error (mCE): the error under each corruption divided by the mean error of "
        f"{results.baseline} there, averaged over corruptions; lower is better. Relative mCE: the same of "
        "what each corruption adds to the error on clean images.",
        *_undefined(results),
    ]
    if experiment.references:
        notes = dict.fromkeys(note for reference in experiment.references for note in reference.notes)
        datasets = dict.fromkeys(reference.dataset for reference in experiment.references)
        parts.append(
            f"Published values, on {join_words(list(datasets))}: their mCE is relative to the first of them"
            + (f"; what differs: {'; '.join(notes)}." if notes else ".")
        )
    return " ".join(parts)


def _format_counts(counts: Sequence[int]) -> str:
    """One number, or the smallest and the largest."""
    low, high = min(counts), max(counts)
    return format_count(low) if low == high else f"{format_count(low)} to {format_count(high)}"


def _undefined(results: CorruptionErrorResults) -> list[str]:
    """Why there is no mCE, or no relative one."""
    baseline = results.pipelines[results.baseline]
    if not baseline.replicates:
        return [f"No mCE: {results.baseline} is not done yet."]
    reasons = {
        "mCE": ("makes no error under", baseline.corruption_error),
        "relative mCE": (
            "makes no more errors than on clean images under",
            baseline.relative_corruption_error,
        ),
    }
    sentences = []
    for quantity, (reason, errors) in reasons.items():
        if names := [name for name, error in errors.items() if not error.n]:
            sentences.append(f"No {quantity}, because {results.baseline} {reason} {join_words(names)}.")
    return sentences


def mean_differences_table(results: CorruptionErrorResults) -> Table:
    """Differences of each pipeline's mean accuracy and mCE from those of the baseline."""
    rows = [
        [f"{row.pipeline}: {title}", *difference_cells(difference, metric)]
        for metric, title in (("mean_accuracy", "mean accuracy"), ("mean_corruption_error", "mCE"))
        for row in results.comparisons
        if (difference := getattr(row, metric)).n
    ]
    return Table(
        caption=(
            f"Differences from {results.baseline} over all corruptions, paired by replicate. Intervals and p "
            f"(two-sided t test) are Holm-adjusted for all {len(results.comparisons)} pipelines. The mean "
            f"errors of {results.baseline} that errors are divided by count as exact. Minimum detectable "
            "effect: the true difference that a single comparison detects with 80% power."
        ),
        header=("Pipeline", *DIFFERENCE_COLUMNS),
        rows=rows,
    )

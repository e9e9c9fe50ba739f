"""The main numbers of a run: a table with one row for each experiment."""

from collections.abc import Iterator

from inklab.format import (
    NOT_AVAILABLE,
    format_count,
    format_delta,
    format_delta_interval,
    format_metric,
    humanize,
    pluralize,
)
from inklab.metrics import REPORTED_METRIC, get_metric
from inklab.records.estimates import Estimate
from inklab.records.plan import AnyExperimentPlan, CorruptionErrorPlan
from inklab.records.results import (
    CorruptionErrorResults,
    GenerationResults,
    RobustnessResults,
    TrainingResults,
)
from inklab.report.corruption_tables import published_mean_accuracies
from inklab.report.figures.summary_plot import main_setting
from inklab.report.tables import Table, format_starred, interval_note
from inklab.runs import Run


def summary_table(run: Run) -> Table:
    """One number for each experiment that has any, with its interval, n, and what others report."""
    rows: list[list[str]] = []
    estimates: list[Estimate] = []
    for plan in run.plan.experiments:
        match run.results.experiments.get(plan.name):
            case CorruptionErrorResults() as results if isinstance(plan, CorruptionErrorPlan):
                rows += _corruption_error_rows(plan, results)
                estimates += [row.mean_accuracy for row in results.pipelines.values() if row.mean_accuracy.n]
            case TrainingResults() as results if (setting := main_setting(results)) is not None:
                metric = REPORTED_METRIC[results.task]
                estimate = setting.metrics.get(metric, Estimate.empty())
                measured = f"{get_metric(metric).title}{f', {setting.label}' if setting.label else ''}"
                if estimate.n:
                    rows.append([plan.name, measured, *_cells(estimate, metric), _reference(plan, metric)])
                    estimates.append(estimate)
            case RobustnessResults() as results:
                rows += _robustness_rows(plan.name, results)
            case GenerationResults() as results:
                rows += _generation_rows(plan.name, results)
    header: tuple[str, ...] = ("Experiment", "Measured", "Value", "95% CI", "n", "Others report")
    if all(row[-1] == NOT_AVAILABLE for row in rows):  # references are of other data, or there are none
        header, rows = header[:-1], [row[:-1] for row in rows]
    return Table(
        caption=f"The main number of each experiment.{interval_note(estimates)}",
        header=header,
        rows=rows,
        text_columns=frozenset({1}),
    )


def _cells(estimate: Estimate, metric: str) -> list[str]:
    return [
        format_metric(estimate.mean or 0.0, metric),
        format_starred(estimate, metric) or NOT_AVAILABLE,
        format_count(estimate.n),
    ]


def _reference(plan: AnyExperimentPlan, metric: str) -> str:
    values = [reference.values[metric] for reference in plan.references if metric in reference.values]
    return ", ".join(format_metric(value, metric) for value in values) or NOT_AVAILABLE


def _robustness_rows(name: str, results: RobustnessResults) -> Iterator[list[str]]:
    """What denoising first changes at the strength where it gains most, and on clean images."""
    comparison = results.denoising
    if comparison is None or not comparison.differences:
        return
    first = comparison.differences[0]
    for row in dict.fromkeys([first, comparison.best or first]):
        difference, interval = row.difference, row.difference.interval
        if difference.mean is not None:
            over_images = comparison.paired_over == "images"  # of too few replicates
            pairs = pluralize(difference.n, "image") if over_images else format_count(difference.n)
            yield [
                name,
                f"{comparison.pipeline} − {comparison.baseline}, mean recall at {row.strength:g} of "
                f"{humanize(results.corruption)}",
                format_delta(difference.mean, "recall"),
                format_delta_interval(interval, "recall") if interval else NOT_AVAILABLE,
                pairs,
                NOT_AVAILABLE,
            ]


def _corruption_error_rows(plan: CorruptionErrorPlan, results: CorruptionErrorResults) -> Iterator[list[str]]:
    """The mean accuracy of every pipeline; the published ones stand beside the baseline's."""
    published = ", ".join(published_mean_accuracies(plan)) or NOT_AVAILABLE
    for pipeline, row in results.pipelines.items():
        if row.mean_accuracy.n:
            yield [
                plan.name,
                f"Mean accuracy under {pluralize(len(results.experiments), 'corruption')}, {pipeline}",
                *_cells(row.mean_accuracy, "mean_accuracy"),
                published if pipeline == results.baseline else NOT_AVAILABLE,
            ]


def _generation_rows(name: str, results: GenerationResults) -> Iterator[list[str]]:
    """The sampler with the highest confident share, without the one that starts from real images."""
    shares = {
        sampler: row.confident_share
        for sampler, row in results.samplers.items()
        if row.confident_share.n and sampler != "perturbed"
    }
    if shares:
        best = max(shares, key=lambda sampler: shares[sampler].mean or 0.0)
        cells = _cells(shares[best], "confident_share")
        yield [name, f"Confident share of images generated from {best} codes", *cells, NOT_AVAILABLE]

"""The figure of the summary: the test error of every classifier."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from inklab.format import format_metric
from inklab.records.estimates import Estimate
from inklab.records.plan import AnyExperimentPlan
from inklab.records.results import SettingResults, TrainingResults
from inklab.report.figures.drawing import Plot, as_percent, themed
from inklab.report.figures.figure import Figure, interval_cells
from inklab.report.figures.marks import mark
from inklab.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRIC = "test_accuracy"
MIN_ERROR = 1e-4
"""Where the axis ends on the left: an error of 0 has no place on a log scale."""


class ErrorRow(NamedTuple):
    """A classifier: its name, its accuracy, and what others report."""

    name: str
    accuracy: Estimate
    references: tuple[float, ...]


def main_setting(results: TrainingResults) -> SettingResults | None:
    """The best setting, or the only one; None while several have no result."""
    return results.best or (results.settings[0] if len(results.settings) == 1 else None)


def summary_figure(run: Run) -> Figure | None:
    """Test error of every classifier with its interval, on a log scale; None for fewer than two."""
    rows = [
        ErrorRow(plan.name, setting.metrics[METRIC], _references(plan))
        for plan in run.plan.experiments
        if isinstance(results := run.results.experiments.get(plan.name), TrainingResults)
        and (setting := main_setting(results)) is not None
        and setting.metrics.get(METRIC, Estimate.empty()).n
    ]
    if len(rows) < 2:
        return None
    ns = sorted({row.accuracy.n for row in rows})
    n = f"n = {ns[0]:,}" if len(ns) == 1 else f"n from {ns[0]:,} to {ns[-1]:,}"
    others = " Diamonds: what others report." if any(row.references for row in rows) else ""
    return Figure(
        name="summary-errors",
        title="Test error of every classifier",
        caption=(
            "Share of the test images that are classified wrongly (log scale; left is better), of the best "
            f"setting if there are several. Bars: the 95% intervals of the table; {n}.{others}"
        ),
        alt=f"Dot chart of test errors. {'; '.join(f'{row.name} {_describe_error(row)}' for row in rows)}.",
        drawing=Plot.row({"error": partial(_draw_errors, rows=rows)}, 0.62 + 0.27 * len(rows)),
        csv_header=("experiment", METRIC, "n", "ci95_low", "ci95_high", "interval_over"),
        csv_rows=tuple(
            (row.name, row.accuracy.mean, row.accuracy.n, *interval_cells(row.accuracy)) for row in rows
        ),
    )


def _references(plan: AnyExperimentPlan) -> tuple[float, ...]:
    return tuple(reference.values[METRIC] for reference in plan.references if METRIC in reference.values)


def _describe_error(row: ErrorRow) -> str:
    return f"{format_metric(1 - (row.accuracy.mean or 0.0), METRIC)} (n = {row.accuracy.n:,})"


def _draw_errors(axes: "Axes", rows: Sequence[ErrorRow]) -> None:
    positions = range(len(rows))[::-1]
    for y, row in zip(positions, rows, strict=True):
        error = max(1 - (row.accuracy.mean or 0.0), MIN_ERROR)
        if row.accuracy.interval:
            ends = [max(1 - end, MIN_ERROR) for end in row.accuracy.interval]
            axes.plot(ends, [y, y], color=themed("c1"), linewidth=1.6, marker="|", markersize=6)
        axes.plot(error, y, "o", color=themed("c1"), markersize=5)
        mark(axes, error, y, f"{row.name}: test accuracy {row.accuracy.format(METRIC)}")
        for value in row.references:
            reported = max(1 - value, MIN_ERROR)
            axes.plot(reported, y, "D", color=themed("c2"), markersize=4.5, markerfacecolor="none")
            mark(axes, reported, y, f"{row.name}: others report {format_metric(value, METRIC)}")
    axes.set_xscale("log")
    axes.set_yticks(list(positions), [row.name for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(visible=False, axis="y")
    as_percent(axes.xaxis)
    axes.minorticks_off()
    axes.set_xlabel("Test error")

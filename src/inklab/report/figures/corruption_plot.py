"""The figure of experiments that put robustness experiments together: accuracy under each corruption."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from inklab.format import format_metric
from inklab.metrics import get_metric
from inklab.records.components import Pipeline
from inklab.records.estimates import Estimate
from inklab.records.plan import CorruptionErrorPlan, Plan
from inklab.records.results import CorruptionErrorResults
from inklab.report.figures.drawing import Plot, as_percent, series_style, slug, themed
from inklab.report.figures.figure import Figure, interval_cells
from inklab.report.figures.marks import mark
from inklab.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPREAD = 0.6
"""Part of a row's height over which its pipelines are spread."""

INCHES_PER_ROW = 0.24

Dots = Mapping[Pipeline, Sequence[Estimate]]
"""Of each pipeline, one estimate for each row."""


def corruption_titles(plan: Plan, results: CorruptionErrorResults) -> dict[str, str]:
    """What figures and tables call each corruption: the title of its robustness experiment."""
    return {name: plan.experiment(name).title or name for name in results.experiments}


def corruption_dots(run: Run, plan: CorruptionErrorPlan, results: CorruptionErrorResults) -> Figure | None:
    """Accuracy of each pipeline under each corruption, and the mean, as dots with intervals."""
    done = {name: row for name, row in results.pipelines.items() if row.replicates}
    if not done:
        return None
    rows = [*corruption_titles(run.plan, results).values(), "Mean"]
    dots = {name: [*row.accuracy.values(), row.mean_accuracy] for name, row in done.items()}
    return Figure(
        name=f"{slug(plan.name)}-accuracy",
        title="Accuracy under each corruption",
        caption=(
            "Accuracy of each pipeline under each corruption, and its mean over corruptions. Bars: 95% "
            "intervals over replicates (Student's t), or over test images (Wilson) where there is one; "
            f"{_describe_counts(results)}."
        ),
        alt=_describe_dots(rows, dots),
        drawing=_dot_plot(rows, dots),
        csv_header=(
            "pipeline",
            "corruption",
            "accuracy",
            "sd",
            "n",
            "ci95_low",
            "ci95_high",
            "interval_over",
        ),
        csv_rows=tuple(
            (pipeline, row, estimate.mean, estimate.sd, estimate.n, *interval_cells(estimate))
            for pipeline, estimates in dots.items()
            for row, estimate in zip(rows, estimates, strict=True)
        ),
    )


def _describe_counts(results: CorruptionErrorResults) -> str:
    ns = {name: len(row.replicates) for name, row in results.pipelines.items() if row.replicates}
    return ", ".join(f"{name} n = {n:,}" for name, n in ns.items())


def _describe_dots(rows: Sequence[str], dots: Dots) -> str:
    parts = []
    for pipeline, estimates in dots.items():
        means = [estimate.mean or 0.0 for estimate in estimates]
        worst = int(np.argmin(means[:-1]))
        parts.append(
            f"{pipeline}: mean {format_metric(means[-1], 'accuracy')}, lowest "
            f"{format_metric(means[worst], 'accuracy')} under {rows[worst]}"
        )
    return f"Dot plot of accuracy under {len(rows) - 1} corruptions. {'; '.join(parts)}."


def _dot_plot(rows: Sequence[str], dots: Dots) -> Plot:
    draw = partial(_draw_dots, rows=rows, dots=dots)
    return Plot.row({"accuracy": draw}, 0.9 + INCHES_PER_ROW * len(rows), legend_columns=4)


def _draw_dots(axes: "Axes", rows: Sequence[str], dots: Dots) -> None:
    positions = np.arange(len(rows))
    offsets = np.linspace(-SPREAD / 2, SPREAD / 2, len(dots)) if len(dots) > 1 else np.zeros(1)
    for index, (offset, (pipeline, estimates)) in enumerate(zip(offsets, dots.items(), strict=True)):
        heights = positions + offset
        color, _, marker = series_style(index)
        means = np.array([np.nan if estimate.mean is None else estimate.mean for estimate in estimates])
        ends = np.array([estimate.interval or (np.nan, np.nan) for estimate in estimates])
        axes.hlines(heights, *ends.clip(0, 1).T, color=color, linewidth=1)
        axes.plot(means, heights, color=color, linestyle="", marker=marker, markersize=4.5, label=pipeline)
        for row, height, estimate in zip(rows, heights, estimates, strict=True):
            if estimate.mean is not None:
                text = f"{pipeline}, {row}: {estimate.format('accuracy')}"
                mark(axes, estimate.mean, height, text)
    axes.axhline(len(rows) - 1.5, color=themed("muted"), linewidth=0.7)
    axes.set_yticks(positions, rows)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(max(0, axes.get_xlim()[0]), 1.005)
    as_percent(axes.xaxis)
    axes.set_title(get_metric("accuracy").title)

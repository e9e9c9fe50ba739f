"""The figure of a grid: a metric against the setting, with replicates, mean, interval and spread."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from pydantic import JsonValue

from inklab.format import TYPESET, format_interval, format_metric, format_value
from inklab.metrics import REPORTED_METRIC, SELECTION_METRIC, get_metric
from inklab.records.estimates import Estimate, Interval
from inklab.records.plan import TrainingPlan
from inklab.records.record import MAX_NUMBER
from inklab.records.results import TrainingResults
from inklab.report.figures.drawing import Figure, as_percent, plot, set_ylabel_horizontal, slug
from inklab.report.figures.palette import PLACEHOLDER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

MAX_DOTS = 100
"""Replicates drawn of one setting: more dots hide each other, and 20,000 of them make a drawing of 2 MB."""

MIN_LOG_RATIO = 20
"""Positive values that span more than this factor are drawn on a log scale."""

Estimates = Mapping[str, Sequence[Estimate]]
"""Metric to its estimates, one for each setting."""


def sweep_figure(plan: TrainingPlan, results: TrainingResults) -> Figure | None:
    """Validation and test metric of every setting; None for an experiment with one setting."""
    metrics = (SELECTION_METRIC[plan.task], REPORTED_METRIC[plan.task])
    estimates = {
        metric: [setting.metrics.get(metric, Estimate.empty()) for setting in results.settings]
        for metric in metrics
    }
    ns = sorted({estimate.n for row in estimates.values() for estimate in row if estimate.n})
    if len(results.settings) < 2 or not ns:
        return None
    name, keys = f"{slug(plan.name)}-sweep", ", ".join(plan.grid)
    values = [setting.values for setting in results.settings]
    labels = [grid_label(setting.values) for setting in results.settings]
    base = get_metric(metrics[0].removeprefix("validation_"))
    return Figure(
        name=name,
        title=f"{base.title} against {keys}",
        caption=(
            f"Dots: {_describe_dots(ns)}, spread horizontally so that they do not overlap. Horizontal line: "
            "mean. Thick bar: 95% confidence interval of the mean (Student's t), which says how precisely "
            "the mean is known. Thin bar with caps: mean ± 1 standard deviation, which says how much "
            "single trainings differ."
        ),
        alt=_describe(labels, estimates, keys),
        svg=plot(name, lambda sheet: _draw(sheet, values, estimates, keys), 4.3),
        csv_header=("metric", keys, "mean", "sd", "n", "ci95_low", "ci95_high", "values"),
        csv_rows=tuple(
            (metric, label, *_csv_cells(estimate))
            for metric, row in estimates.items()
            for label, estimate in zip(labels, row, strict=True)
        ),
    )


def grid_label(values: Mapping[str, JsonValue]) -> str:
    """A setting by its values alone, for axes and tables whose title names the keys.

    Example:
        >>> grid_label({"l2": 1e-6}), grid_label({"hidden": [64, 32], "l2": 0.0})
        ('1e-6', '64-32, 0')
    """
    return ", ".join(format_value(value) for value in values.values())


def _describe_dots(ns: Sequence[int]) -> str:
    n = f"n = {ns[0]:,}" if len(ns) == 1 else f"n from {ns[0]:,} to {ns[-1]:,}"
    if ns[-1] <= MAX_DOTS:
        return f"one per replicate ({n})"
    return f"replicates ({n}), at most {MAX_DOTS} of each setting, evenly from lowest to highest"


def subsample(values: Sequence[float], n: int) -> list[float]:
    """At most n of some values, in their order.

    If there are more, those are kept that are evenly spaced by rank, from the lowest to the highest, so their
    distribution stays the same.

    Example:
        >>> subsample([0.3, 0.1, 0.2], 3), subsample([0.5, 0.1, 0.4, 0.2, 0.3], 3)
        ([0.3, 0.1, 0.2], [0.5, 0.1, 0.3])
    """
    if len(values) <= n:
        return list(values)
    ranks = np.linspace(0, len(values) - 1, n).round().astype(int)
    indices = np.sort(np.argsort(np.asarray(values), kind="stable")[ranks])
    return [values[index] for index in indices]


def _csv_cells(estimate: Estimate) -> tuple[object, ...]:
    interval = _t_interval(estimate) or ("", "")
    values = " ".join(map(repr, estimate.values))
    return (estimate.mean, estimate.sd, estimate.n, *interval, values)


def _t_interval(estimate: Estimate) -> Interval | None:
    """Student's interval, which this figure shows; None if all replicates are equal."""
    return estimate.interval if estimate.basis == "replicates" else None


def _describe(labels: Sequence[str], estimates: Estimates, keys: str) -> str:
    parts = []
    for metric, row in estimates.items():
        points = [
            f"{label}: {_describe_estimate(estimate, metric)}"
            for label, estimate in zip(labels, row, strict=True)
            if estimate.n
        ]
        parts.append(f"{get_metric(metric).title} by {keys}: {'; '.join(points)}.")
    return "Error-bar chart. " + " ".join(parts)


def _describe_estimate(estimate: Estimate, metric: str) -> str:
    interval = _t_interval(estimate)
    mean = format_metric(estimate.mean or 0.0, metric)
    return f"{mean} ({format_interval(interval, metric)})" if interval else mean


def x_positions(values: Sequence[Mapping[str, JsonValue]]) -> tuple[Float[np.ndarray, " s"], bool]:
    """Where settings stand on the axis, and whether it is a log scale (positions are powers of ten then).

    Example:
        >>> x_positions([{"l2": 0.001}, {"l2": 0.1}])[1], x_positions([{"k": 1}, {"k": 2}])[1]
        (True, False)
        >>> x_positions([{"optimizer": "sgd"}, {"optimizer": "adam"}])[1]
        False
    """
    numbers = [value for entry in values if len(entry) == 1 for value in entry.values()]
    positive = [
        float(value)
        for value in numbers
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_NUMBER
    ]
    if len(positive) == len(values) and max(positive) / min(positive) > MIN_LOG_RATIO:
        return np.log10(np.array(positive)), True
    return np.arange(len(values), dtype=float), False


def _draw(sheet: "Sheet", values: Sequence[Mapping[str, JsonValue]], estimates: Estimates, keys: str) -> None:
    x, is_log = x_positions(values)
    spacing = float(np.min(np.diff(np.sort(x)))) if len(np.unique(x)) == len(x) else 0.5
    panels = sheet.subplots(len(estimates), 1, sharex=True)
    for axes, (name, row) in zip(panels, estimates.items(), strict=True):
        metric = get_metric(name)
        for position, estimate in zip(x, row, strict=True):
            _draw_estimate(axes, float(position), estimate, spacing)
        set_ylabel_horizontal(axes, metric.title)
        axes.set_xticks(x, [TYPESET.apply(grid_label(entry)) for entry in values])
        axes.grid(visible=False, axis="x")
        axes.set_xlim(x.min() - 0.6 * spacing, x.max() + 0.6 * spacing)
        if metric.is_share:
            as_percent(axes.yaxis)
    panels[-1].set_xlabel(f"{keys} (log scale)" if is_log else keys)
    _add_legend(sheet)


def _draw_estimate(axes: "Axes", x: float, estimate: Estimate, spacing: float) -> None:
    if estimate.mean is None:
        return
    dots = subsample(estimate.values, MAX_DOTS)
    offsets = np.linspace(-0.1, 0.1, len(dots)) if len(dots) > 1 else np.zeros(1)
    # Ordered by replicate, not by value, so that no pattern appears; 7 is coprime to the usual counts.
    order = [(7 * i) % len(dots) for i in range(len(dots))]
    axes.plot(
        x + (offsets[order] - 0.2) * spacing, dots, "o", color=PLACEHOLDER["c1"], alpha=0.6, markersize=3,
        markeredgewidth=0,
    )  # fmt: skip
    if interval := _t_interval(estimate):
        axes.plot([x] * 2, interval, color=PLACEHOLDER["c2"], linewidth=6, solid_capstyle="butt")
    ends = [x - 0.09 * spacing, x + 0.09 * spacing]
    axes.plot(ends, [estimate.mean] * 2, color=PLACEHOLDER["ink"], linewidth=1.4)
    if estimate.sd:
        position, color = x + 0.2 * spacing, PLACEHOLDER["muted"]
        axes.errorbar(position, estimate.mean, yerr=estimate.sd, color=color, linewidth=1, capsize=3)


def _add_legend(sheet: "Sheet") -> None:
    from matplotlib.lines import Line2D

    color = PLACEHOLDER
    handles = [
        Line2D([], [], linestyle="", marker="o", color=color["c1"], markersize=3, label="replicate"),
        Line2D([], [], linewidth=1.4, color=color["ink"], label="mean"),
        Line2D([], [], linewidth=6, color=color["c2"], solid_capstyle="butt", label="95% CI of the mean"),
        Line2D([], [], linewidth=0.9, color=color["muted"], marker="|", markersize=6, label="± 1 SD"),
    ]  # fmt: skip
    sheet.legend(handles=handles, loc="outside upper left", ncols=4)

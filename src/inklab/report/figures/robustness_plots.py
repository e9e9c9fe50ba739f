"""Figures of robustness experiments: recall and calibration against strength, and the corrupted images."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from inklab.format import format_metric, humanize, join_words
from inklab.metrics import get_metric
from inklab.records.components import Pipeline
from inklab.records.estimates import Difference, Estimate
from inklab.records.plan import RobustnessPlan
from inklab.records.results import PipelineComparison, RobustnessResults
from inklab.report.figures.confusion_plot import confusion_figure
from inklab.report.figures.drawing import (
    SERIES,
    Plot,
    Stack,
    add_legend,
    as_percent,
    series_style,
    slug,
    themed,
)
from inklab.report.figures.figure import Figure, interval_cells
from inklab.report.figures.image_plots import ImageGrid, ImageRow, is_ink
from inklab.report.figures.marks import mark
from inklab.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

RECALL = "recall"
MAX_CLASS_PANELS = 20
MAX_STRENGTHS = 11
"""Columns of the strip of corrupted images."""

EXAMPLES = (3, 8)
"""Which of the stored images the strip shows."""

DESCRIBED_STRENGTHS = (0, 0.25, 0.5, 1)
"""The strengths next to these are in the text alternative."""

Curves = Mapping[Pipeline, Sequence[Estimate]]
Images = UInt8[np.ndarray, "s n c h w"]
RecallPerClass = Float[np.ndarray, "s k"]


def robustness_figures(run: Run, plan: RobustnessPlan, results: RobustnessResults) -> list[Figure | None]:
    """Curves, images, curves of each class and confusion matrices, as far as evaluations are done."""
    labels = run.plan.data.labels
    return [
        robustness_curves(plan, results),
        calibration_curves(plan, results),
        corrupted_strip(run, plan),
        class_curves(plan, results, labels),
        confusion_figure(plan, results, labels),
    ]


def recall_curves(results: RobustnessResults) -> dict[Pipeline, tuple[Estimate, ...]]:
    """Mean recall at each strength of every pipeline that is done at least once."""
    return {
        name: pipeline.recall
        for name, pipeline in results.pipelines.items()
        if any(estimate.n for estimate in pipeline.recall)
    }


# ---------------------------------------------------------------- recall against strength


def robustness_curves(plan: RobustnessPlan, results: RobustnessResults) -> Figure | None:
    """Mean recall against strength, one line for each pipeline, with bands; below, the differences."""
    curves = recall_curves(results)
    if not curves:
        return None
    threshold = results.denoising.significant_from if results.denoising else None
    has_line = threshold is not None
    line = " Vertical line: from this strength on, denoising helps significantly." if has_line else ""
    return Figure(
        name=f"{slug(plan.name)}-curves",
        title="Recall against strength of the corruption",
        caption=(
            f"Mean recall over classes, {humanize(results.corruption)}; {_describe_inputs(plan)}. "
            f"{_describe_bands(curves)}{_describe_differences(results)}{line}"
        ),
        alt=_describe_curves("mean recall", results.strengths, curves) + _describe_threshold(threshold),
        drawing=_recall_plot(results, curves),
        csv_header=_csv_header("recall"),
        csv_rows=_csv_rows(results.strengths, curves),
    )


def _csv_header(metric: str) -> tuple[str, ...]:
    return ("pipeline", "strength", metric, "sd", "n", "ci95_low", "ci95_high", "interval_over")


def _csv_rows(strengths: Sequence[float], curves: Curves) -> tuple[tuple[object, ...], ...]:
    return tuple(
        (pipeline, strength, estimate.mean, estimate.sd, estimate.n, *interval_cells(estimate))
        for pipeline, estimates in curves.items()
        for strength, estimate in zip(strengths, estimates, strict=True)
        if estimate.n
    )


def _describe_inputs(plan: RobustnessPlan) -> str:
    if not plan.is_attack:
        return "every pipeline and replicate gets the same corrupted images"
    return (
        "every pipeline and replicate is attacked by its own gradient, through denoiser and classifier; the "
        "strength is the most that a pixel changes"
    )


def _describe_bands(curves: Curves) -> str:
    descriptions = {"replicates": "over replicates (Student's t)", "images": "over test images (Wilson)"}
    parts = []
    for basis, description in descriptions.items():
        ns = {
            pipeline: estimate.n
            for pipeline, estimates in curves.items()
            for estimate in estimates
            if estimate.basis == basis and not estimate.has_zero_width
        }
        if ns:
            pipelines = "" if len(ns) == len(curves) else f" for {join_words(list(ns))}"
            n = " and ".join(f"n = {n:,}" for n in sorted(set(ns.values())))
            parts.append(f"95% intervals {description}{pipelines}, {n}")
    estimates = [estimate for row in curves.values() for estimate in row]
    if any(estimate.has_zero_width and estimate.interval for estimate in estimates):
        parts.append("over test images where all replicates are equal")
    return f"Bands: {'; '.join(parts)}." if parts else "Intervals are not known."


def _describe_differences(results: RobustnessResults) -> str:
    bases = {row.paired_over for row in results.comparisons if row.differences}
    if not bases:
        return ""
    paired = " or ".join(
        "test images" if basis == "images" else basis for basis in sorted(bases, reverse=True)
    )
    return (
        f" Below: difference of each pipeline from the baseline {results.baseline}, paired over {paired}, "
        "with simultaneous 95% intervals (Holm, over all strengths)."
    )


def _describe_curves(label: str, strengths: Sequence[float], curves: Curves) -> str:
    """The text alternative of lines: each pipeline's share at some strengths."""
    indices = sorted({int(np.argmin(np.abs(np.array(strengths) - s))) for s in DESCRIBED_STRENGTHS})
    parts = []
    for pipeline, estimates in curves.items():
        points = [
            f"{format_metric(mean, 'recall')} at {strengths[i]:g}"
            for i in indices
            if (mean := estimates[i].mean) is not None
        ]
        parts.append(f"{pipeline}: {', '.join(points)}")
    return f"Line chart of {label} against strength. {'; '.join(parts)}."


def _describe_threshold(threshold: float | None) -> str:
    return "" if threshold is None else f" Denoising helps significantly from strength {threshold:g}."


def _differences(results: RobustnessResults) -> list[PipelineComparison]:
    return [row for row in results.comparisons if any(entry.difference.n for entry in row.differences)]


def _recall_plot(results: RobustnessResults, curves: Curves) -> Plot:
    """Recall, and below it the differences where there are any."""
    panels = {"recall": partial(_draw_recall, results=results, curves=curves)}
    if _differences(results):
        panels["difference"] = partial(_draw_differences, results=results, curves=curves)

    def arrange(sheet: "Sheet") -> None:
        heights = [2, 1][: len(panels)]
        rows = sheet.subplots(len(panels), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
        for axes, draw in zip(rows, panels.values(), strict=True):
            draw(axes)
            axes.set_xlabel("Strength" if axes is rows[-1] else "")
        add_legend(sheet, rows[0])

    return Plot(arrange, 4.6 if len(panels) > 1 else 3.2, panels, stack=Stack(height=2.4, legend_columns=2))


def _draw_recall(axes: "Axes", results: RobustnessResults, curves: Curves) -> None:
    for index, (pipeline, estimates) in enumerate(curves.items()):
        _draw_line(axes, zip(results.strengths, estimates, strict=True), index, pipeline)
    _format_recall_axes(axes)
    axes.set_title("Mean recall")
    axes.set_xlabel("Strength")
    if (x := _mark_threshold(axes, results.denoising)) is not None:
        text = f"significant\nfrom {x:g}"
        axes.annotate(text, (x, 0.04), xytext=(5, 0), textcoords="offset points", fontsize=8)


def _draw_line(
    axes: "Axes",
    estimates: Iterable[tuple[float, Estimate | Difference]],
    index: int,
    label: str,
    metric: str = RECALL,
) -> None:
    """A line through what is known, by strength, and a band where an interval is known."""
    points = []
    for strength, estimate in estimates:
        if estimate.mean is not None:
            points.append((strength, estimate.mean, *(estimate.interval or (np.nan, np.nan))))
            mark(axes, strength, estimate.mean, f"{label} at {strength:g}: {estimate.format(metric)}")
    x, means, lower, upper = np.array(points).T
    color, line, marker = series_style(index)
    axes.fill_between(x, lower, upper, color=color, alpha=0.2, linewidth=0)
    axes.plot(x, means, color=color, linestyle=line, marker=marker, markersize=3.6, label=label)


def _draw_differences(axes: "Axes", results: RobustnessResults, curves: Curves) -> None:
    styles = {pipeline: index for index, pipeline in enumerate(curves)}
    for comparison in _differences(results):
        differences = ((row.strength, row.difference) for row in comparison.differences)
        style = styles.get(comparison.pipeline, len(SERIES) - 1)
        _draw_line(axes, differences, style, comparison.pipeline)
    axes.axhline(0, color=themed("ink"), linewidth=0.8)
    as_percent(axes.yaxis, symbol="")
    axes.set_xlim(left=0)
    axes.set_title(f"Difference from {results.baseline}, percentage points")
    axes.set_xlabel("Strength")
    _mark_threshold(axes, results.denoising)


def _mark_threshold(axes: "Axes", denoising: PipelineComparison | None) -> float | None:
    """A vertical line where denoising begins to help; where that is."""
    x = denoising.significant_from if denoising else None
    if x is not None:
        axes.axvline(x, color=themed("ink"), linewidth=0.8, linestyle=(0, (2, 2)))
    return x


def _format_recall_axes(axes: "Axes") -> None:
    axes.set_ylim(0, 1.02)
    axes.set_xlim(left=0)
    as_percent(axes.yaxis)


# ---------------------------------------------------------------- calibration against strength


def calibration_curves(plan: RobustnessPlan, results: RobustnessResults) -> Figure | None:
    """Expected calibration error against strength, one line for each pipeline, with bands."""
    curves = {name: results.pipelines[name].ece for name in recall_curves(results)}
    if not curves:
        return None
    title = get_metric("ece").title
    return Figure(
        name=f"{slug(plan.name)}-calibration",
        title=f"{title} against strength of the corruption",
        caption=(
            f"{title} (ECE), {humanize(results.corruption)}: how far the confidence of the predictions is "
            f"from their accuracy, averaged over predictions of similar confidence; lower is better. "
            f"{_describe_bands(curves)}"
        ),
        alt=_describe_curves("expected calibration error", results.strengths, curves),
        drawing=_calibration_plot(title, results.strengths, curves),
        csv_header=_csv_header("ece"),
        csv_rows=_csv_rows(results.strengths, curves),
    )


def _calibration_plot(title: str, strengths: Sequence[float], curves: Curves) -> Plot:
    def draw(axes: "Axes") -> None:
        for index, (pipeline, estimates) in enumerate(curves.items()):
            _draw_line(axes, zip(strengths, estimates, strict=True), index, pipeline, "ece")
        axes.set_ylim(0, min(1.02, axes.get_ylim()[1]))
        axes.set_xlim(left=0)
        as_percent(axes.yaxis)
        axes.set_title(title)
        axes.set_xlabel("Strength")

    return Plot.row({"calibration": draw}, 2.8, legend_columns=4)


# ---------------------------------------------------------------- each class


def class_curves(plan: RobustnessPlan, results: RobustnessResults, labels: Sequence[str]) -> Figure | None:
    """Small multiples: the recall of each class against strength."""
    grids = {
        pipeline: np.array(results.pipelines[pipeline].recall_per_class, float)
        for pipeline in recall_curves(results)
    }
    if not grids:
        return None
    strengths = results.strengths
    first, grid = next(iter(grids.items()))
    row = int(np.argmin(np.abs(np.array(strengths) - 0.5)))
    present = np.flatnonzero(np.isfinite(grid[row]))
    order = present[np.argsort(grid[row][present])]
    worst, best = (
        f"{labels[i]} ({format_metric(float(grid[row][i]), 'recall')})" for i in (order[0], order[-1])
    )
    omitted = (
        f" The first {MAX_CLASS_PANELS} of {len(labels)} classes." if len(labels) > MAX_CLASS_PANELS else ""
    )
    return Figure(
        name=f"{slug(plan.name)}-classes",
        title="Recall of each class",
        caption=f"Recall of each class against strength, mean over replicates; lines as above.{omitted}",
        alt=(
            f"Small line charts, one per class. For {first} at strength {strengths[row]:g}, the lowest "
            f"recall is that of class {worst}, the highest that of class {best}."
        ),
        drawing=_class_plot(strengths, grids, labels[:MAX_CLASS_PANELS]),
        csv_header=("pipeline", "strength", *labels),
        csv_rows=tuple(
            (pipeline, strength, *map(float, recall))
            for pipeline, grid in grids.items()
            for strength, recall in zip(strengths, grid, strict=True)
        ),
    )


def _class_plot(
    strengths: Sequence[float], grids: Mapping[Pipeline, RecallPerClass], labels: Sequence[str]
) -> Plot:
    """A panel for each class, five in a row."""
    panels = {
        label: partial(_draw_class, strengths=strengths, grids=grids, index=k, label=label)
        for k, label in enumerate(labels)
    }
    n_columns = min(5, len(panels))
    n_rows = -(-len(panels) // n_columns)

    def arrange(sheet: "Sheet") -> None:
        cells = sheet.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, draw in zip(cells, panels.values(), strict=False):
            draw(axes)
        for axes in cells[len(panels) :]:
            axes.set_visible(False)
        add_legend(sheet, cells[0])
        sheet.supxlabel("Strength", fontsize=8.5)

    return Plot(arrange, 0.5 + 1.25 * -(-len(panels) // 5), panels, stack=Stack(2, 1.4, 2))


def _draw_class(
    axes: "Axes", strengths: Sequence[float], grids: Mapping[Pipeline, RecallPerClass], index: int, label: str
) -> None:
    for number, (pipeline, grid) in enumerate(grids.items()):
        color, line, _ = series_style(number)
        axes.plot(strengths, grid[:, index], color=color, linestyle=line, linewidth=1.2, label=pipeline)
        for strength, recall in zip(strengths, grid[:, index].tolist(), strict=True):
            if np.isfinite(recall):
                text = f"{label}, {pipeline} at {strength:g}: {format_metric(recall, RECALL)}"
                mark(axes, strength, recall, text)
    _format_recall_axes(axes)
    axes.set_yticks([0, 0.5, 1])
    axes.set_title(label)


# ---------------------------------------------------------------- images


def corrupted_strip(run: Run, plan: RobustnessPlan) -> Figure | None:
    """Test images at rising strength: corrupted, and as each denoiser or filter passes them on.

    Of an attack, the images that were changed against each pipeline.
    """
    group = _stored_images(run, plan)
    if not group:
        return None
    first = next(iter(group.values()))
    n = min(MAX_STRENGTHS, len(plan.strengths))
    indices = np.unique(np.linspace(0, len(plan.strengths) - 1, n).round().astype(int))
    strengths = [plan.strengths[i] for i in indices]
    rows = [
        ImageRow(label, images[indices, example], is_last=label == list(group)[-1])
        for example in [i for i in EXAMPLES if i < first.shape[1]] or [0]
        for label, images in group.items()
    ]
    description = _describe_images(plan, list(group))
    return Figure(
        name=f"{slug(plan.name)}-strip",
        title="Attacked images" if plan.is_attack else "Inputs of the classifier",
        caption=f"Test images at rising strength (above each column), {description}, replicate 0.",
        alt=f"Strips of test images at strengths {strengths[0]:g} to {strengths[-1]:g}, {description}.",
        drawing=ImageGrid(
            rows,
            ink=is_ink(first[0]),
            header=[f"{strength:g}" for strength in strengths],
            label_width=14 + 5 * max(map(len, group)),
        ),
        csv_header=("strength",),
        csv_rows=tuple((strength,) for strength in strengths),
    )


def _describe_images(plan: RobustnessPlan, rows: Sequence[str]) -> str:
    if plan.is_attack:
        return "each row attacked against one pipeline"
    after = f" and after {join_words(rows[1:])}" if rows[1:] else ""
    return f"corrupted{after}; one draw of the noise"


def _stored_images(run: Run, plan: RobustnessPlan) -> dict[str, Images]:
    """Images of replicate 0 by what was done to them; empty if nothing is stored."""
    evaluations = [evaluation for evaluation in plan.evaluations if evaluation.replicate == 0]
    stored = {entry.pipeline: arrays for entry in evaluations if (arrays := run.arrays(entry.id))}
    if plan.is_attack or not stored:
        return {str(pipeline): arrays["corrupted"] for pipeline, arrays in stored.items()}
    images = {"corrupted": next(iter(stored.values()))["corrupted"]}  # the same for every pipeline
    for pipeline, arrays in stored.items():
        if pipeline.denoisers:
            images["+".join(pipeline.denoisers)] = arrays["denoised"]
    return images

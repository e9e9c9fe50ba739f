"""Figures of a robustness experiment: recall against strength, and differences from the baseline."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from inklab.format import format_metric, humanize, join_words
from inklab.records.components import Pipeline
from inklab.records.estimates import Estimate
from inklab.records.plan import RobustnessPlan
from inklab.records.results import PipelineComparison, RobustnessResults
from inklab.report.figures.drawing import Figure, as_percent, plot, set_ylabel_horizontal, slug
from inklab.report.figures.image_grid import ImageRow, draw_grid, is_ink
from inklab.report.figures.palette import LINES, MARKERS, PLACEHOLDER, SERIES
from inklab.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

MAX_CLASSES = 20
MAX_STRENGTHS = 11
"""Columns of the strip of corrupted images."""

EXAMPLES = (3, 8)
"""Which of the stored images the strip shows."""

DESCRIBED_STRENGTHS = (0, 0.25, 0.5, 1)
"""The strengths next to these are in the text alternative."""

Images = UInt8[np.ndarray, "s n c h w"]
RecallPerClass = Float[np.ndarray, "s k"]


def robustness_figures(run: Run, plan: RobustnessPlan, results: RobustnessResults) -> list[Figure | None]:
    """Curves, images and curves of each class, as far as evaluations are done."""
    return [
        robustness_curves(plan, results),
        corrupted_strip(run, plan),
        class_curves(plan, results, run.plan.data.labels),
    ]


def recall_curves(results: RobustnessResults) -> dict[Pipeline, tuple[Estimate, ...]]:
    """Mean recall at each strength of every pipeline that is done at least once."""
    return {
        name: pipeline.recall
        for name, pipeline in results.pipelines.items()
        if any(estimate.n for estimate in pipeline.recall)
    }


# ---------------------------------------------------------------- curves


def robustness_curves(plan: RobustnessPlan, results: RobustnessResults) -> Figure | None:
    """Mean recall against strength, one line for each pipeline, with bands; below, the differences."""
    curves = recall_curves(results)
    if not curves:
        return None
    name, differences = f"{slug(plan.name)}-curves", _differences(results)
    threshold = results.denoising.significant_from if results.denoising else None
    line = (
        " Vertical line: from this strength on, denoising helps significantly."
        if threshold is not None
        else ""
    )
    return Figure(
        name=name,
        title="Recall against strength of the corruption",
        caption=(
            f"Mean recall over classes, {humanize(results.corruption)}; every pipeline and replicate gets "
            f"the same corrupted images. {_describe_bands(curves)}{_describe_differences(results)}{line}"
        ),
        alt=_describe(results.strengths, curves, threshold),
        svg=plot(name, lambda sheet: _draw(sheet, results, curves), 4.6 if differences else 3.2),
        csv_header=("pipeline", "strength", "recall", "sd", "n", "ci95_low", "ci95_high", "interval_over"),
        csv_rows=tuple(
            (pipeline, strength, estimate.mean, estimate.sd, estimate.n,
             *(estimate.interval or ("", "")), estimate.basis or "")
            for pipeline, estimates in curves.items()
            for strength, estimate in zip(results.strengths, estimates, strict=True)
            if estimate.n
        ),
    )  # fmt: skip


def _describe_bands(curves: Mapping[Pipeline, Sequence[Estimate]]) -> str:
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


def _describe(
    strengths: Sequence[float], curves: Mapping[Pipeline, Sequence[Estimate]], threshold: float | None
) -> str:
    indices = sorted({int(np.argmin(np.abs(np.array(strengths) - s))) for s in DESCRIBED_STRENGTHS})
    parts = []
    for pipeline, estimates in curves.items():
        points = [
            f"{format_metric(mean, 'recall')} at {strengths[i]:g}"
            for i in indices
            if (mean := estimates[i].mean) is not None
        ]
        parts.append(f"{pipeline}: {', '.join(points)}")
    end = "" if threshold is None else f" Denoising helps significantly from strength {threshold:g}."
    return f"Line chart of mean recall against strength. {'; '.join(parts)}.{end}"


def _differences(results: RobustnessResults) -> list[PipelineComparison]:
    return [row for row in results.comparisons if any(entry.difference.n for entry in row.differences)]


def _draw(sheet: "Sheet", results: RobustnessResults, curves: Mapping[Pipeline, Sequence[Estimate]]) -> None:
    differences = _differences(results)
    heights = [2, 1] if differences else [1]
    panels = sheet.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    styles = {pipeline: index % len(SERIES) for index, pipeline in enumerate(curves)}
    for pipeline, estimates in curves.items():
        points = [
            (strength, estimate.mean, *(estimate.interval or (np.nan, np.nan)))
            for strength, estimate in zip(results.strengths, estimates, strict=True)
            if estimate.mean is not None
        ]
        _draw_line(panels[0], np.array(points), styles[pipeline], pipeline)
    _format_recall_axes(panels[0])
    set_ylabel_horizontal(panels[0], "Mean recall")
    handles, labels = panels[0].get_legend_handles_labels()
    sheet.legend(handles, labels, loc="outside upper left", ncols=min(4, len(labels)))
    if differences:
        _draw_differences(panels[1], differences, styles)
    _mark_threshold(list(panels), results.denoising)
    panels[-1].set_xlabel("Strength")


def _draw_line(axes: "Axes", points: Float[np.ndarray, "s 4"], style: int, label: str) -> None:
    """A line with a band.

    Args:
        axes: to draw on.
        points: rows of strength, mean, lower and upper bound; NaN for bounds that are not known.
        style: which color, line style and marker.
        label: in the legend.
    """
    x, means, lower, upper = points.T
    color = PLACEHOLDER[SERIES[style]]
    axes.fill_between(x, lower, upper, color=color, alpha=0.2, linewidth=0)
    axes.plot(
        x, means, color=color, linestyle=LINES[style], marker=MARKERS[style], markersize=3.6, label=label
    )


def _draw_differences(
    axes: "Axes", comparisons: Sequence[PipelineComparison], styles: Mapping[Pipeline, int]
) -> None:
    for comparison in comparisons:
        points = [
            (row.strength, row.difference.mean, *(row.difference.interval or (np.nan, np.nan)))
            for row in comparison.differences
            if row.difference.mean is not None
        ]
        style = styles.get(comparison.pipeline, len(SERIES) - 1)
        _draw_line(axes, np.array(points), style, comparison.pipeline)
    axes.axhline(0, color=PLACEHOLDER["ink"], linewidth=0.8)
    as_percent(axes.yaxis, symbol="")
    set_ylabel_horizontal(axes, f"Difference from {comparisons[0].baseline}, percentage points")


def _mark_threshold(panels: Sequence["Axes"], denoising: PipelineComparison | None) -> None:
    if denoising is None or denoising.significant_from is None:
        return
    x = denoising.significant_from
    for axes in panels:
        axes.axvline(x, color=PLACEHOLDER["ink"], linewidth=0.8, linestyle=(0, (2, 2)))
    panels[0].annotate(
        f"significant\nfrom {x:g}", (x, 0.04), xytext=(5, 0), textcoords="offset points", fontsize=8
    )


def _format_recall_axes(axes: "Axes") -> None:
    axes.set_ylim(0, 1.02)
    axes.set_xlim(left=0)
    as_percent(axes.yaxis, 0)


# ---------------------------------------------------------------- each class


def class_curves(plan: RobustnessPlan, results: RobustnessResults, labels: Sequence[str]) -> Figure | None:
    """Small multiples: the recall of each class against strength."""
    grids = {
        pipeline: np.array(results.pipelines[pipeline].recall_per_class, float)
        for pipeline in recall_curves(results)
    }
    if not grids:
        return None
    name, strengths = f"{slug(plan.name)}-classes", results.strengths
    first, grid = next(iter(grids.items()))
    row = int(np.argmin(np.abs(np.array(strengths) - 0.5)))
    present = np.flatnonzero(np.isfinite(grid[row]))
    order = present[np.argsort(grid[row][present])]
    worst, best = (
        f"{labels[i]} ({format_metric(float(grid[row][i]), 'recall')})" for i in (order[0], order[-1])
    )
    omitted = f" The first {MAX_CLASSES} of {len(labels)} classes." if len(labels) > MAX_CLASSES else ""
    n_rows = -(-min(len(labels), MAX_CLASSES) // 5)
    return Figure(
        name=name,
        title="Recall of each class",
        caption=f"Recall of each class against strength, mean over replicates; lines as above.{omitted}",
        alt=(
            f"Small line charts, one per class. For {first} at strength {strengths[row]:g}, the lowest "
            f"recall is that of class {worst}, the highest that of class {best}."
        ),
        svg=plot(name, lambda sheet: _draw_classes(sheet, strengths, grids, labels), 0.5 + 1.25 * n_rows),
        csv_header=("pipeline", "strength", *labels),
        csv_rows=tuple(
            (pipeline, strength, *map(float, recall))
            for pipeline, grid in grids.items()
            for strength, recall in zip(strengths, grid, strict=True)
        ),
    )


def _draw_classes(
    sheet: "Sheet",
    strengths: Sequence[float],
    grids: Mapping[Pipeline, RecallPerClass],
    labels: Sequence[str],
) -> None:
    n = min(len(labels), MAX_CLASSES)
    n_columns = min(5, n)
    panels = sheet.subplots(-(-n // n_columns), n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in panels[n:]:
        axes.set_visible(False)
    for k, axes in enumerate(panels[:n]):
        for index, (pipeline, grid) in enumerate(grids.items()):
            style = index % len(SERIES)
            color = PLACEHOLDER[SERIES[style]]
            axes.plot(
                strengths, grid[:, k], color=color, linestyle=LINES[style], linewidth=1.2, label=pipeline
            )
        _format_recall_axes(axes)
        axes.set_yticks([0, 0.5, 1])
        set_ylabel_horizontal(axes, labels[k])
    handles, names = panels[0].get_legend_handles_labels()
    sheet.legend(handles, names, loc="outside upper left", ncols=min(4, len(names)))
    sheet.supxlabel("Strength", fontsize=8.5)


# ---------------------------------------------------------------- images


def corrupted_strip(run: Run, plan: RobustnessPlan) -> Figure | None:
    """Test images at rising strength: corrupted, and as each denoiser or filter passes them on."""
    corrupted, denoised = _stored_images(run, plan)
    if corrupted is None:
        return None
    n = min(MAX_STRENGTHS, len(plan.strengths))
    indices = np.unique(np.linspace(0, len(plan.strengths) - 1, n).round().astype(int))
    strengths = [plan.strengths[i] for i in indices]
    rows = []
    for example in [i for i in EXAMPLES if i < corrupted.shape[1]] or [0]:
        group = {"corrupted": corrupted, **denoised}
        rows += [
            ImageRow(label, images[indices, example], is_last=label == list(group)[-1])
            for label, images in group.items()
        ]
    after = f" and after {join_words(list(denoised))}" if denoised else ""
    return Figure(
        name=f"{slug(plan.name)}-strip",
        title="Inputs of the classifier",
        caption=(
            f"Test images at rising strength (above each column), corrupted{after}; one draw of the noise, "
            "replicate 0."
        ),
        alt=f"Strips of test images at strengths {strengths[0]:g} to {strengths[-1]:g}, corrupted{after}.",
        svg=draw_grid(
            rows,
            ink=is_ink(corrupted[0]),
            header=[f"{strength:g}" for strength in strengths],
            label_width=14 + 5 * max(map(len, ("corrupted", *denoised))),
        ),
        csv_header=("strength",),
        csv_rows=tuple((strength,) for strength in strengths),
    )


def _stored_images(run: Run, plan: RobustnessPlan) -> tuple[Images | None, dict[str, Images]]:
    """Corrupted images of replicate 0, and denoised ones by the names of what stands before a classifier."""
    corrupted: Images | None = None
    denoised: dict[str, Images] = {}
    for evaluation in plan.evaluations:
        arrays = run.arrays(evaluation.id) if evaluation.replicate == 0 else {}
        if arrays:
            corrupted = arrays["corrupted"] if corrupted is None else corrupted
            if evaluation.pipeline.denoisers:
                denoised["+".join(evaluation.pipeline.denoisers)] = arrays["denoised"]
    return corrupted, denoised

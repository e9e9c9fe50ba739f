"""Figures of evaluations: robustness against corruption, and generated images."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from inklab.format import format_interval, format_metric, format_percent, humanize, join_words, typeset
from inklab.records.components import Pipeline
from inklab.records.estimates import Difference, Estimate
from inklab.records.outcomes import CONFIDENT
from inklab.records.plan import REAL_DATA, GenerationPlan, RobustnessPlan
from inklab.records.results import GenerationResults, PipelineComparison, RobustnessResults
from inklab.report.figures.drawing import (
    SERIES,
    Plot,
    add_legend,
    as_percent,
    series_style,
    slug,
    themed,
)
from inklab.report.figures.figure import Figure
from inklab.report.figures.image_plots import ImageGrid, ImageRow, is_ink
from inklab.results.arrays import Arrays
from inklab.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

MAX_CLASS_PANELS = 20
MAX_STRENGTHS = 11
"""Columns of the strip of corrupted images."""

EXAMPLES = (3, 8)
"""Which of the stored images the strip shows."""

DESCRIBED_STRENGTHS = (0, 0.25, 0.5, 1)
"""The strengths next to these are in the text alternative."""

Images = UInt8[np.ndarray, "s n c h w"]
RecallPerClass = Float[np.ndarray, "s k"]

MAX_MATRIX_CLASSES = 15
"""More do not fit side by side and stay legible."""

MAX_LABEL, MAX_LABEL_ROW = 12, 30
"""Characters of a class's name at a matrix, and of all names in a row."""

MIN_SHARE = 0.005
"""Smaller cells stay empty."""

Matrix = Float[np.ndarray, "k k"]

Matrices = dict[tuple[str, float], Matrix]
"""Pipeline and strength to shares of each row."""

IMAGES_PER_ROW = 12

N_NEIGHBORS = 10

MAX_CLASS_DOTS = 30

LABEL_WIDTH = 68

METRIC = "confident_share"

MIN_CONFIDENT_SHARE = 0.1
"""Samplers with less generate noise, whose nearest neighbors mean nothing."""

ClassShares = Mapping[str, Float[np.ndarray, " k"]]


def robustness_figures(run: Run, plan: RobustnessPlan, results: RobustnessResults) -> list[Figure | None]:
    """Curves, images, curves of each class and confusion matrices, as far as evaluations are done."""
    labels = run.plan.data.labels
    return [
        robustness_curves(plan, results),
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
            f"Mean recall over classes, {humanize(results.corruption)}; every pipeline and replicate gets "
            f"the same corrupted images. {_describe_bands(curves)}{_describe_differences(results)}{line}"
        ),
        alt=_describe_recall(results.strengths, curves, threshold),
        drawing=_recall_plot(results, curves),
        csv_header=("pipeline", "strength", "recall", "sd", "n", "ci95_low", "ci95_high", "interval_over"),
        csv_rows=tuple(
            (pipeline, strength, estimate.mean, estimate.sd, estimate.n, *_interval_cells(estimate))
            for pipeline, estimates in curves.items()
            for strength, estimate in zip(results.strengths, estimates, strict=True)
            if estimate.n
        ),
    )


def _interval_cells(estimate: Estimate) -> tuple[object, ...]:
    return (*(estimate.interval or ("", "")), estimate.basis or "")


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


def _describe_recall(
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


def _recall_plot(results: RobustnessResults, curves: Mapping[Pipeline, Sequence[Estimate]]) -> Plot:
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

    return Plot(arrange, 4.6 if len(panels) > 1 else 3.2, panels)


def _draw_recall(
    axes: "Axes", results: RobustnessResults, curves: Mapping[Pipeline, Sequence[Estimate]]
) -> None:
    for index, (pipeline, estimates) in enumerate(curves.items()):
        _draw_line(axes, zip(results.strengths, estimates, strict=True), index, pipeline)
    _format_recall_axes(axes)
    axes.set_title("Mean recall")
    axes.set_xlabel("Strength")
    if (x := _mark_threshold(axes, results.denoising)) is not None:
        text = f"significant\nfrom {x:g}"
        axes.annotate(text, (x, 0.04), xytext=(5, 0), textcoords="offset points", fontsize=8)


def _draw_line(
    axes: "Axes", estimates: Iterable[tuple[float, Estimate | Difference]], index: int, label: str
) -> None:
    """A line through what is known, by strength, and a band where an interval is known."""
    points = [
        (strength, estimate.mean, *(estimate.interval or (np.nan, np.nan)))
        for strength, estimate in estimates
        if estimate.mean is not None
    ]
    x, means, lower, upper = np.array(points).T
    color, line, marker = series_style(index)
    axes.fill_between(x, lower, upper, color=color, alpha=0.2, linewidth=0)
    axes.plot(x, means, color=color, linestyle=line, marker=marker, markersize=3.6, label=label)


def _draw_differences(
    axes: "Axes", results: RobustnessResults, curves: Mapping[Pipeline, Sequence[Estimate]]
) -> None:
    styles = {pipeline: index for index, pipeline in enumerate(curves)}
    for comparison in _differences(results):
        differences = ((row.strength, row.difference) for row in comparison.differences)
        style = styles.get(comparison.pipeline, len(SERIES) - 1)
        _draw_line(axes, differences, style, comparison.pipeline)
    axes.axhline(0, color=themed("ink"), linewidth=0.8)
    as_percent(axes.yaxis, symbol="")
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

    return Plot(arrange, 0.5 + 1.25 * -(-len(panels) // 5), panels)


def _draw_class(
    axes: "Axes", strengths: Sequence[float], grids: Mapping[Pipeline, RecallPerClass], index: int, label: str
) -> None:
    for number, (pipeline, grid) in enumerate(grids.items()):
        color, line, _ = series_style(number)
        axes.plot(strengths, grid[:, index], color=color, linestyle=line, linewidth=1.2, label=pipeline)
    _format_recall_axes(axes)
    axes.set_yticks([0, 0.5, 1])
    axes.set_title(label)


# ---------------------------------------------------------------- images


def corrupted_strip(run: Run, plan: RobustnessPlan) -> Figure | None:
    """Test images at rising strength: corrupted, and as each denoiser or filter passes them on."""
    corrupted, denoised = _stored_corrupted(run, plan)
    if corrupted is None:
        return None
    n = min(MAX_STRENGTHS, len(plan.strengths))
    indices = np.unique(np.linspace(0, len(plan.strengths) - 1, n).round().astype(int))
    strengths = [plan.strengths[i] for i in indices]
    group = {"corrupted": corrupted, **denoised}
    rows = [
        ImageRow(label, images[indices, example], is_last=label == list(group)[-1])
        for example in [i for i in EXAMPLES if i < corrupted.shape[1]] or [0]
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
        drawing=ImageGrid(
            rows,
            ink=is_ink(corrupted[0]),
            header=[f"{strength:g}" for strength in strengths],
            label_width=14 + 5 * max(map(len, ("corrupted", *denoised))),
        ),
        csv_header=("strength",),
        csv_rows=tuple((strength,) for strength in strengths),
    )


def _stored_corrupted(run: Run, plan: RobustnessPlan) -> tuple[Images | None, dict[str, Images]]:
    """Corrupted images of replicate 0, and denoised ones by the names of what stands before a classifier."""
    evaluations = [evaluation for evaluation in plan.evaluations if evaluation.replicate == 0]
    stored = [(entry.pipeline, arrays) for entry in evaluations if (arrays := run.arrays(entry.id))]
    corrupted = next((arrays["corrupted"] for _, arrays in stored), None)
    denoised = {"+".join(pipe.denoisers): arrays["denoised"] for pipe, arrays in stored if pipe.denoisers}
    return corrupted, denoised


# ---------------------------------------------------------------- confusion matrices


def confusion_figure(
    plan: RobustnessPlan, results: RobustnessResults, labels: Sequence[str]
) -> Figure | None:
    """A row of matrices for each pipeline, a column for each strength, summed over replicates."""
    denoised = [results.denoised_pipeline] if results.denoised_pipeline else []
    compared = [name for name in (results.baseline, *denoised) if name in results.confusion_matrices]
    matrices = {
        (str(name), float(strength)): row_shares(np.array(counts, float))
        for name in compared
        for strength, counts in results.confusion_matrices[name].by_strength.items()
    }
    if not matrices or len(labels) > MAX_MATRIX_CLASSES:
        return None
    pipelines = list(dict.fromkeys(pipeline for pipeline, _ in matrices))
    n = max(len(results.confusion_matrices[pipeline].replicates) for pipeline in compared)
    paired = "; both pipelines get the same corrupted images" if len(pipelines) > 1 else ""
    return Figure(
        name=f"{slug(plan.name)}-confusion",
        title="Confusion matrices",
        caption=(
            "Rows: true class; columns: predicted class. Numbers are percentages of the row, those below "
            f"{format_percent(MIN_SHARE, 1)} are left out; the diagonal is the recall of each class. Summed "
            f"over replicates (n = {n:,}){paired}."
        ),
        alt=_describe_matrices(matrices, labels),
        drawing=Plot(
            lambda sheet: _draw_matrices(sheet, matrices, labels),
            0.3 + (2.75 if _are_wide(labels) else 2.15) * len(pipelines),
            {
                f"{pipeline} at {strength:g}": partial(_draw_matrix, matrix=matrix, labels=labels)
                for (pipeline, strength), matrix in matrices.items()
            },
        ),
        csv_header=("pipeline", "strength", "true", *labels),
        csv_rows=tuple(
            (pipeline, strength, label, *map(float, row))
            for (pipeline, strength), matrix in matrices.items()
            for label, row in zip(labels, matrix, strict=True)
        ),
    )


def row_shares(counts: Matrix) -> Matrix:
    """Each row as shares that sum to 1; zeros for a class without images.

    Example:
        >>> row_shares(np.array([[1.0, 3.0], [0.0, 0.0]])).tolist()
        [[0.25, 0.75], [0.0, 0.0]]
    """
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def _describe_matrices(matrices: Matrices, labels: Sequence[str]) -> str:
    parts = []
    for (pipeline, strength), matrix in matrices.items():
        errors = matrix - np.diag(np.diag(matrix))
        true, predicted = divmod(int(np.argmax(errors)), len(errors))
        recall = format_metric(float(np.diag(matrix).mean()), "recall")
        share = format_metric(float(errors[true, predicted]), "recall")
        parts.append(
            f"{pipeline} at {strength:g}: mean of the diagonal {recall}, most frequent confusion "
            f"{labels[true]} predicted as {labels[predicted]} ({share})"
        )
    return f"Confusion matrices. {'; '.join(parts)}."


def _draw_matrices(sheet: "Sheet", matrices: Matrices, labels: Sequence[str]) -> None:
    pipelines = list(dict.fromkeys(pipeline for pipeline, _ in matrices))
    strengths = sorted({strength for _, strength in matrices})
    panels = sheet.subplots(len(pipelines), len(strengths), squeeze=False)
    for axes, (pipeline, strength) in zip(panels.ravel(), product(pipelines, strengths), strict=True):
        matrix = matrices.get((pipeline, strength))
        if matrix is None:
            axes.set_visible(False)
            continue
        _draw_matrix(axes, matrix, labels)
        title = f"strength {strength:g}"
        axes.set_title(f"{pipeline}, {title}" if strength == strengths[0] else title, fontsize=8, pad=6)


def _are_wide(labels: Sequence[str]) -> bool:
    """Whether labels would overlap below a matrix, so that they are turned."""
    return len(labels) * max(map(len, labels)) > MAX_LABEL_ROW


def _draw_matrix(axes: "Axes", matrix: Matrix, labels: Sequence[str]) -> None:
    from matplotlib.patches import Rectangle

    k = len(matrix)
    for i, j in np.argwhere(matrix >= MIN_SHARE):
        share = float(matrix[i, j])
        color, alpha = themed("c1" if i == j else "c2"), 0.12 + 0.88 * share
        axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=color, alpha=alpha, linewidth=0))
        text_color = themed("ground" if share > 0.55 else "ink")
        text = format_percent(share, 0).removesuffix("%")
        axes.text(j, i, text, ha="center", va="center_baseline", fontsize=5.6, color=text_color)
    axes.set_xlim(-0.5, k - 0.5)
    axes.set_ylim(k - 0.5, -0.5)
    axes.set_aspect("equal")
    names = [label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 1]}…" for label in labels]
    axes.set_xticks(range(k), names, fontsize=6.5, rotation=90 if _are_wide(names) else 0)
    axes.set_yticks(range(k), names, fontsize=6.5)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, color=themed("rule"))


# ---------------------------------------------------------------- generated images


def generation_figures(run: Run, plan: GenerationPlan, results: GenerationResults) -> list[Figure | None]:
    """Images of replicate 0, confident shares, classes and neighbors, as far as evaluations are done."""
    stored = {entry.sampler: run.arrays(entry.id) for entry in plan.evaluations if entry.replicate == 0}
    arrays = {sampler: images for sampler, images in stored.items() if images}  # real data may be among them
    return [
        generated_images(plan, results, arrays),
        confident_shares(plan, results),
        class_shares(plan, results, run.plan.data.labels),
        nearest_neighbors(plan, results, arrays),
    ]


def _shares(results: GenerationResults) -> dict[str, Estimate]:
    """The confident share of each sampler that is done at least once."""
    shares = {name: sampler.confident_share for name, sampler in results.samplers.items()}
    return {name: share for name, share in shares.items() if share.n}


def _format_mean(estimate: Estimate) -> str:
    return typeset(format_metric(estimate.mean or 0.0, METRIC))


def generated_images(
    plan: GenerationPlan, results: GenerationResults, arrays: Mapping[str, Arrays]
) -> Figure | None:
    """Rows of generated images, one sampler after the other; reconstructions of test images below."""
    generated = {sampler: stored["images"] for sampler, stored in arrays.items() if sampler != REAL_DATA}
    if not generated:
        return None
    shares, real = _shares(results), arrays.get(REAL_DATA, {})
    rows = []
    for sampler, images in generated.items():
        label = f"{sampler}\n{_format_mean(shares[sampler])}" if sampler in shares else sampler
        first, second = images[:IMAGES_PER_ROW], images[IMAGES_PER_ROW : 2 * IMAGES_PER_ROW]
        rows.append(ImageRow(label, first, is_last=not len(second)))
        rows += [ImageRow("", second, is_last=True)] if len(second) else []
    if real:
        rows.append(ImageRow("reconstructed\ntest images", real["reconstructions"][:IMAGES_PER_ROW]))
    listed = "; ".join(f"{name} {_format_mean(share)}" for name, share in shares.items()) or "no value yet"
    last = " Last row: the decoder's reconstructions of test images, the best it can do." if real else ""
    return Figure(
        name=f"{slug(plan.name)}-images",
        title="Generated images",
        caption=(
            f"The first {2 * IMAGES_PER_ROW} images of each sampler, not selected, replicate 0. Below each "
            "name: the share of all its images that the classifier is confident about (probability above "
            f"{format_percent(CONFIDENT, 0)}).{last}"
        ),
        alt=f"Rows of generated images. Confident share: {listed}.",
        drawing=ImageGrid(
            rows,
            ink=is_ink(real["images"] if real else next(iter(generated.values()))),
            label_width=LABEL_WIDTH,
        ),
        csv_header=("sampler", METRIC),
        csv_rows=tuple((name, share.mean) for name, share in shares.items()),
    )


def confident_shares(plan: GenerationPlan, results: GenerationResults) -> Figure | None:
    """Bars with intervals: the share of each sampler's images that the classifier is confident about."""
    shares = _shares(results)
    if not shares:
        return None
    real = {
        "reconstructed test images": results.confident_share_reconstructed,
        "real test images": results.confident_share_test,
    }
    bars = shares | {label: estimate for label, estimate in real.items() if estimate.n}
    described = [
        f"{label} {_format_mean(estimate)}"
        + (f" ({format_interval(estimate.interval, METRIC)})" if estimate.interval else "")
        for label, estimate in bars.items()
    ]
    return Figure(
        name=f"{slug(plan.name)}-confident",
        title="Confident predictions on generated images",
        caption=(
            "Share of images that the classifier gives to any class with a probability above "
            f"{format_percent(CONFIDENT, 0)}. {_describe_intervals(list(shares.values()))}"
        ),
        alt=f"Bar chart of confident shares: {'; '.join(described)}.",
        drawing=Plot.row({METRIC: partial(_draw_bars, bars=bars)}, 0.55 + 0.27 * len(bars)),
        csv_header=("sampler", METRIC, "n", "ci95_low", "ci95_high", "interval_over"),
        csv_rows=tuple(
            (label, estimate.mean, estimate.n, *_interval_cells(estimate)) for label, estimate in bars.items()
        ),
    )


def _describe_intervals(shares: Sequence[Estimate]) -> str:
    n = " and ".join(f"n = {n:,}" for n in sorted({share.n for share in shares}))
    bases = {share.basis for share in shares} - {None}
    if not bases:
        return f"Intervals are not known; {n}."
    basis = "over replicates (Student's t)" if "replicates" in bases else "over generated images (Wilson)"
    if len(bases) > 1:
        basis += ", or over images (Wilson) if there is one replicate or all are equal"
    return f"Bars: 95% intervals {basis}; {n}."


def _draw_bars(axes: "Axes", bars: Mapping[str, Estimate]) -> None:
    positions = np.arange(len(bars))[::-1]
    for y, estimate in zip(positions.tolist(), bars.values(), strict=True):
        end = mean = estimate.mean or 0.0
        axes.barh(y, mean, 0.62, color=themed("c1"), alpha=0.8, linewidth=0)
        if estimate.interval:
            color = themed("ink")
            axes.plot(estimate.interval, [y, y], color=color, linewidth=1.1, marker="|", markersize=6)
            end = max(mean, estimate.interval[1])
        text = _format_mean(estimate)
        axes.annotate(text, (end, y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(positions, list(bars))
    axes.set_xlim(0, 1.08)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.grid(visible=False, axis="y")
    as_percent(axes.xaxis)


def class_shares(plan: GenerationPlan, results: GenerationResults, labels: Sequence[str]) -> Figure | None:
    """Dots: shares of the classes among confident predictions, one panel for each sampler."""
    shares = {
        name: np.array(sampler.class_shares, float)
        for name, sampler in results.samplers.items()
        if sum(share or 0.0 for share in sampler.class_shares) > 0
    }
    if not shares or len(labels) > MAX_CLASS_DOTS:
        return None
    top = 1.1 * max(float(np.nanmax(row)) for row in shares.values())
    panels = {
        sampler: partial(_draw_class_dots, row=row, labels=labels, index=index, title=sampler, top=top)
        for index, (sampler, row) in enumerate(shares.items())
    }
    most_common = [
        f"{sampler} {labels[int(np.nanargmax(row))]} ({format_metric(float(np.nanmax(row)), METRIC)})"
        for sampler, row in shares.items()
    ]
    return Figure(
        name=f"{slug(plan.name)}-classes",
        title="Classes of generated images",
        caption=(
            "Share of each class among a sampler's images that the classifier is confident about; dashed "
            "line: equal shares. A sampler with a high confident share but few classes generates only what "
            "is easy. Mean over replicates; samplers without a confident prediction are left out."
        ),
        alt=f"Dot charts of class shares. Most common class: {'; '.join(most_common)}.",
        drawing=Plot(lambda sheet: _arrange_class_dots(sheet, panels), 1.75, panels),
        csv_header=("sampler", *labels),
        csv_rows=tuple((sampler, *map(float, row)) for sampler, row in shares.items()),
    )


def _arrange_class_dots(sheet: "Sheet", panels: Mapping[str, Callable[["Axes"], None]]) -> None:
    row = sheet.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, draw in zip(row, panels.values(), strict=True):
        draw(axes)


def _draw_class_dots(
    axes: "Axes", row: Float[np.ndarray, " k"], labels: Sequence[str], index: int, title: str, top: float
) -> None:
    x, (color, _, marker) = np.arange(len(labels)), series_style(index)
    axes.axhline(1 / len(labels), color=themed("ink"), linewidth=0.7, linestyle=(0, (4, 3)))
    axes.vlines(x, 0, row, color=color, linewidth=1.2, alpha=0.6)
    axes.plot(x, row, marker, color=color, markersize=3.4)
    axes.set_xticks(x, labels, fontsize=6.5 if len(labels) <= 12 else 5)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.set_ylim(0, top)
    as_percent(axes.yaxis)
    axes.set_title(title)


def nearest_neighbors(
    plan: GenerationPlan, results: GenerationResults, arrays: Mapping[str, Arrays]
) -> Figure | None:
    """Generated images above their nearest training images: are they new, or memorized?"""
    noise = {name for name, share in _shares(results).items() if (share.mean or 0.0) < MIN_CONFIDENT_SHARE}
    compared = {sampler: stored for sampler, stored in arrays.items() if sampler not in {REAL_DATA, *noise}}
    if not compared:
        return None
    rows = []
    for sampler, stored in compared.items():
        n = min(N_NEIGHBORS, len(stored["neighbors"]), len(stored["images"]))
        rows.append(ImageRow(sampler, stored["images"][:n]))
        rows.append(ImageRow("nearest", stored["neighbors"][:n], is_last=True))
    samplers = results.samplers.items()
    known = {name: mean for name, entry in samplers if (mean := entry.nn_distance.mean) is not None}
    listed = "; ".join(f"{name} {format_metric(mean, 'nn_distance')}" for name, mean in known.items())
    return Figure(
        name=f"{slug(plan.name)}-neighbors",
        title="New or memorized?",
        caption=(
            f"The first {N_NEIGHBORS} images of a sampler; below each, the nearest training image (Euclidean "
            f"distance over pixels in [0, 1]). Mean distance: {listed or 'no value yet'}."
        ),
        alt=f"Generated images and nearest training images. Mean distance: {listed or 'no value yet'}.",
        drawing=ImageGrid(
            rows, ink=is_ink(next(iter(compared.values()))["neighbors"]), label_width=LABEL_WIDTH
        ),
        csv_header=("sampler", "nn_distance"),
        csv_rows=tuple(known.items()),
    )

"""Figures of generation experiments: new images, how many convince the classifier, and of which classes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from inklab.format import format_interval, format_metric, format_percent, typeset
from inklab.records.estimates import Estimate
from inklab.records.outcomes import CONFIDENT
from inklab.records.plan import REAL_DATA, GenerationPlan
from inklab.records.results import GenerationResults
from inklab.report.figures.drawing import Plot, Stack, as_percent, series_style, slug, themed
from inklab.report.figures.figure import Figure, interval_cells
from inklab.report.figures.image_plots import ImageGrid, ImageRow, is_ink
from inklab.report.figures.marks import mark
from inklab.results.arrays import Arrays
from inklab.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

IMAGES_PER_ROW = 12

N_NEIGHBORS = 10

MAX_CLASS_DOTS = 30

LABEL_WIDTH = 68

METRIC = "confident_share"

MIN_CONFIDENT_SHARE = 0.1
"""Samplers with less generate noise, whose nearest neighbors mean nothing."""


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
        "real test images": results.real_data.confident_share,
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
            (label, estimate.mean, estimate.n, *interval_cells(estimate)) for label, estimate in bars.items()
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
        mark(axes, mean, y, f"{list(bars)[len(bars) - 1 - y]}: {estimate.format(METRIC)}")
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
        drawing=Plot(
            lambda sheet: _arrange_class_dots(sheet, panels), 1.75, panels, stack=Stack(columns=2, height=1.5)
        ),
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
    for position, share in enumerate(row.tolist()):
        mark(axes, position, share, f"{title}, {labels[position]}: {format_metric(share, METRIC)}")
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

"""Figures of a data experiment: how many images each class has, and what they look like."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from inklab.format import format_count, format_percent, join_words
from inklab.metrics import SPLIT_LABELS, Split
from inklab.records.plan import DataInfo, DataPlan
from inklab.report.figures.drawing import Figure, as_percent, plot, set_ylabel_horizontal, slug
from inklab.report.figures.image_grid import ImageRow, draw_grid, is_ink
from inklab.report.figures.palette import PLACEHOLDER
from inklab.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Sheet

PER_CLASS = 10
"""Images drawn of each class."""

MAX_CLASSES = 26
BAR_STYLES = (("c1", 0.95), ("c2", 0.75), ("c6", 0.5))
"""Color and opacity of each split's bars."""


def data_figures(run: Run, plan: DataPlan) -> list[Figure | None]:
    """Class balance and samples, as far as they are known."""
    return [class_balance(plan, run.plan.data), samples(run, plan)]


def class_balance(plan: DataPlan, data: DataInfo) -> Figure:
    """Bars: the share of each class in each split."""
    name = f"{slug(plan.name)}-balance"
    counts = {
        split: getattr(data.counts, split) for split in SPLIT_LABELS if sum(getattr(data.counts, split))
    }
    splits = [
        f"{SPLIT_LABELS[split]} ({format_count(sum(values))} images)" for split, values in counts.items()
    ]
    train, labels = data.counts.train, data.labels
    rarest, commonest = int(np.argmin(train)), int(np.argmax(train))
    shares = [format_percent(train[i] / data.train, 1) for i in (rarest, commonest)]
    return Figure(
        name=name,
        title="Class balance",
        caption=(
            f"Share of each class in the splits: {join_words(splits)}. These are counts, not estimates, so "
            "there are no error bars. Dashed line: equal shares."
        ),
        alt=(
            f"Bar chart of class shares. Of the {format_count(data.train)} training images, class "
            f"{labels[rarest]} is the rarest ({shares[0]}) and {labels[commonest]} the most common "
            f"({shares[1]})."
        ),
        svg=plot(name, lambda sheet: _draw_bars(sheet, labels, counts), 1.9),
        csv_header=("class", *counts),
        csv_rows=tuple(zip(labels, *counts.values(), strict=True)),
    )


def _draw_bars(sheet: "Sheet", labels: Sequence[str], counts: Mapping[Split, tuple[int, ...]]) -> None:
    axes = sheet.subplots()
    x, width = np.arange(len(labels)), 0.8 / len(counts)
    for index, (split, values) in enumerate(counts.items()):
        color, alpha = BAR_STYLES[index]
        centers = x + (index - (len(counts) - 1) / 2) * width
        heights = np.array(values, float) / sum(values)
        label = SPLIT_LABELS[split]
        axes.bar(
            centers, heights, width * 0.9, color=PLACEHOLDER[color], alpha=alpha, label=label, linewidth=0
        )
    axes.axhline(1 / len(labels), color=PLACEHOLDER["ink"], linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xticks(x, labels, rotation=0 if len(labels) <= 15 else 60)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    as_percent(axes.yaxis, 0)
    set_ylabel_horizontal(axes, "Share of images")
    axes.legend(ncols=len(counts), loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2)


def samples(run: Run, plan: DataPlan) -> Figure | None:
    """A grid: some training images of each class, one class per row."""
    images = run.samples()
    if images is None:
        return None
    pixels, labels = images.pixels, images.labels
    rows = [
        ImageRow(run.plan.data.labels[label], pixels[labels == label][:PER_CLASS])
        for label in np.unique(labels)[:MAX_CLASSES]
    ]
    channels, height, width = run.plan.data.shape
    color = "one gray value per pixel" if channels == 1 else f"{channels} channels"
    ink = is_ink(pixels)
    note = " The data has light strokes on a dark ground; here they are drawn as ink on paper." if ink else ""
    longest = max(len(row.label) for row in rows)
    return Figure(
        name=f"{slug(plan.name)}-samples",
        title="Training images",
        caption=(
            f"The first {PER_CLASS} training images of each class, pixel for pixel: {height} × {width}, "
            f"{color}, 0 to 255.{note}"
        ),
        alt=f"Grid of sample images, {len(rows)} classes with up to {PER_CLASS} images each.",
        svg=draw_grid(rows, ink=ink, label_width=24 + 5 * min(longest, 16)),
        csv_header=("class", "images shown"),
        csv_rows=tuple((row.label, len(row.pixels)) for row in rows),
    )

"""Grids of images, pixel by pixel; and the figures of a data experiment."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from inklab.format import format_count, format_percent, join_words
from inklab.metrics import SPLIT_LABELS, Split
from inklab.records.plan import DataInfo, DataPlan
from inklab.report.figures.drawing import (
    PLACEHOLDER,
    Figure,
    as_percent,
    open_svg,
    plot,
    slug,
)
from inklab.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Sheet

FULL_WIDTH = 475.0  # units, as in the plots
MAX_TILE = 40.0  # units per image
LINE_HEIGHT = 11.0  # units per line of small print
GAP = 2  # pixels between two images

PER_CLASS = 10
"""Images drawn of each class."""

MAX_CLASSES = 26

BAR_STYLES = (("c1", 0.95), ("c2", 0.75), ("c6", 0.5))
"""Color and opacity of each split's bars."""


@dataclass(frozen=True)
class ImageRow:
    """One row of images with a name of one or two lines on its left.

    Attributes:
        captions: a short line below each image, or nothing.
        is_last: whether a group of rows ends here, with a wider gap below.
    """

    label: str
    pixels: UInt8[np.ndarray, "m c h w"]
    captions: Sequence[str] = ()
    is_last: bool = False


def is_ink(pixels: UInt8[np.ndarray, "m c h w"]) -> bool:
    """Whether images are light strokes on a dark ground, so that they can be drawn as ink on paper."""
    return pixels.shape[1] == 1 and pixels.size > 0 and float(pixels.mean()) < 100


def to_data_uri(pixels: UInt8[np.ndarray, "m c h w"], gap: int = GAP, *, ink: bool = False) -> str:
    """Gray or color images side by side as one PNG in a data URI, with transparent gaps.

    As ink, values are the opacity of black, so that the page's background shows through.

    Example:
        >>> to_data_uri(np.zeros((2, 1, 4, 4), np.uint8))[:22]
        'data:image/png;base64,'
    """
    from PIL import Image

    m, c, h, w = pixels.shape
    colors = pixels[:, :3] if c >= 3 else pixels[:, :1]
    sheet = np.zeros((h, m * w + (m - 1) * gap, 2 if c < 3 else 4), np.uint8)
    for index, image in enumerate(colors.transpose(0, 2, 3, 1)):
        tile = sheet[:, index * (w + gap) : index * (w + gap) + w]
        if ink and c < 3:
            tile[..., 1] = image[..., 0]
        else:
            tile[..., :-1], tile[..., -1] = image, 255
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def draw_grid(
    rows: Sequence[ImageRow], *, ink: bool, header: Sequence[str] = (), label_width: float | int = 70
) -> str:
    """A drawing of rows of images of one size, with a short line above each column, or nothing.

    Args:
        rows: from top to bottom.
        ink: see `to_data_uri`.
        header: lines above the columns.
        label_width: units kept for the names on the left.
    """
    n_columns = max(len(row.pixels) for row in rows)
    height, width = rows[0].pixels.shape[2:]
    scale = min(MAX_TILE / width, (FULL_WIDTH - label_width) / (n_columns * (width + GAP) - GAP))
    step = (width + GAP) * scale
    first_center = label_width + width * scale / 2
    parts = [_text(first_center + i * step, LINE_HEIGHT - 3, text) for i, text in enumerate(header)]
    y = LINE_HEIGHT + 1 if header else 0.0
    for row in rows:
        parts += _draw_row(row, y, label_width, scale, ink=ink)
        y += height * scale + 3 + (LINE_HEIGHT if row.captions else 0)
        y += 8 if row.is_last and row is not rows[-1] else 0
    total_width = max(label_width + n_columns * step - GAP * scale, FULL_WIDTH)
    return f"{open_svg(f'0 0 {total_width:.1f} {y:.1f}')}{''.join(parts)}</svg>"


def _draw_row(
    row: ImageRow, y: float | int, left: float | int, scale: float | int, *, ink: bool
) -> list[str]:
    n, _, height, width = row.pixels.shape
    parts = []
    if n:
        total_width = (n * (width + GAP) - GAP) * scale
        parts.append(
            f'<image class="{"ink" if ink else "photo"}" x="{left:.1f}" y="{y:.1f}" '
            f'width="{total_width:.1f}" height="{height * scale:.1f}" '
            f'preserveAspectRatio="none" style="image-rendering: pixelated" '
            f'href="{to_data_uri(row.pixels, ink=ink)}"/>'
        )
    lines = row.label.split("\n")
    baseline = y + height * scale / 2 + 3 - (len(lines) - 1) * LINE_HEIGHT / 2
    parts += [
        _text(left - 8, baseline + i * LINE_HEIGHT, line, anchor="end", role="muted" if i else "ink")
        for i, line in enumerate(lines)
    ]
    first_center, step = left + width * scale / 2, (width + GAP) * scale
    below = y + height * scale + LINE_HEIGHT - 2
    return parts + [_text(first_center + i * step, below, text) for i, text in enumerate(row.captions)]


def _text(x: float | int, y: float | int, text: str, *, anchor: str = "middle", role: str = "muted") -> str:
    style = f"font-size: 8px; text-anchor: {anchor}; fill: {PLACEHOLDER[role]}"
    return f'<text x="{x:.1f}" y="{y:.1f}" style="{style}">{escape(text)}</text>'


# ---------------------------------------------------------------- a data experiment


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
    axes.set_title("Share of images")
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

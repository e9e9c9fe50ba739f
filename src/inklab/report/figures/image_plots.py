"""Grids of images, pixel by pixel; and the figures of a data experiment."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8

from inklab.format import format_count, format_percent, join_words
from inklab.metrics import SPLIT_LABELS, Split
from inklab.notebook import png_data_uri
from inklab.records.plan import DataInfo, DataPlan
from inklab.report.figures.drawing import (
    LIGHT,
    NARROW_WIDTH,
    PLACEHOLDER,
    UNITS_PER_INCH,
    Plot,
    as_percent,
    open_svg,
    save_sheet,
    slug,
    themed,
)
from inklab.report.figures.figure import Figure
from inklab.report.figures.marks import mark
from inklab.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FULL_WIDTH = 475.0  # units, as in the plots
MAX_TILE = 40.0  # units per image
LINE_HEIGHT = 11.0  # units per line of small print
GAP = 2  # pixels between two images

MAX_CAPTIONED = 6
"""Images with captions that a row has room for on a phone."""

PER_CLASS = 10
"""Images drawn of each class."""

MAX_CLASSES = 26

BAR_STYLES = (("c1", 0.95), ("c2", 0.75), ("c6", 0.5))
"""Color and opacity of each split's bars."""


@dataclass(frozen=True)
class ImageRow:
    """One row of images with a name of one or two lines on its left.

    Attributes:
        captions: one or two short lines below each image, or nothing.
        is_last: whether a group of rows ends here, with a wider gap below.
    """

    label: str
    pixels: UInt8[np.ndarray, "m c h w"]
    captions: Sequence[str] = ()
    is_last: bool = False


def is_ink(pixels: UInt8[np.ndarray, "m c h w"]) -> bool:
    """Whether images are light strokes on a dark ground, so that they can be drawn as ink on paper."""
    return pixels.shape[1] == 1 and pixels.size > 0 and float(pixels.mean()) < 100


def join_images(
    pixels: UInt8[np.ndarray, "m c h w"], gap: int = GAP, *, ink: bool = False
) -> UInt8[np.ndarray, "h w_all k"]:
    """Gray or color images side by side, with an alpha channel: gaps are transparent.

    As ink, values are the opacity of black, so that the page's background shows through.
    """
    m, c, h, w = pixels.shape
    colors = pixels[:, :3] if c >= 3 else pixels[:, :1]
    sheet = np.zeros((h, m * w + (m - 1) * gap, 2 if c < 3 else 4), np.uint8)
    for index, image in enumerate(colors.transpose(0, 2, 3, 1)):
        tile = sheet[:, index * (w + gap) : index * (w + gap) + w]
        if ink and c < 3:
            tile[..., 1] = image[..., 0]
        else:
            tile[..., :-1], tile[..., -1] = image, 255
    return sheet


def to_data_uri(pixels: UInt8[np.ndarray, "m c h w"], gap: int = GAP, *, ink: bool = False) -> str:
    """Images side by side as one PNG in a data URI; see `join_images`.

    Example:
        >>> to_data_uri(np.zeros((2, 1, 4, 4), np.uint8))[:22]
        'data:image/png;base64,'
    """
    return png_data_uri(join_images(pixels, gap, ink=ink))


class PlacedText(NamedTuple):
    """A short line of a grid, by its baseline, in units."""

    x: float
    y: float
    text: str
    anchor: Literal["middle", "end"] = "middle"
    role: str = "muted"


class PlacedImages(NamedTuple):
    """A row of images of a grid, by its upper left corner, in units."""

    x: float
    y: float
    width: float
    height: float
    pixels: UInt8[np.ndarray, "m c h w"]


@dataclass(frozen=True, eq=False)
class ImageGrid:
    """A drawing of rows of images of one size, with a short line above each column, or nothing.

    Attributes:
        rows: from top to bottom.
        ink: see `join_images`.
        header: lines above the columns.
        label_width: units kept for the names on the left.
    """

    rows: Sequence[ImageRow]
    ink: bool
    header: Sequence[str] = ()
    label_width: float | int = 70

    @property
    def panels(self) -> Mapping[str, Callable[["Axes"], None]]:
        """All of it is one panel."""
        return {"images": self._draw}

    def svg(self, name: str, *, is_narrow: bool = False) -> str:
        """With placeholder colors; it has no ids, so it needs no name. Narrow: for a phone."""
        width, height, placed = self._layout(NARROW_WIDTH * UNITS_PER_INCH if is_narrow else FULL_WIDTH)
        parts = [
            _text_svg(entry) if isinstance(entry, PlacedText) else _images_svg(entry, ink=self.ink)
            for entry in placed
        ]
        return f"{open_svg(f'0 0 {width:.1f} {height:.1f}')}{''.join(parts)}</svg>"

    def render(self, name: str, suffix: str, dpi: int) -> bytes:
        """In the light theme, in a format of matplotlib's such as "png"."""
        width, height, _ = self._layout()
        size, ground = (width / UNITS_PER_INCH, height / UNITS_PER_INCH), LIGHT["ground"]
        options = {"dpi": dpi, "facecolor": ground}
        return save_sheet(
            lambda sheet: self._draw(sheet.add_axes((0, 0, 1, 1))), size, LIGHT, suffix, name=name,
            layout=None, **options,
        )  # fmt: skip

    def _draw(self, axes: "Axes") -> None:
        width, height, placed = self._layout()
        for entry in placed:
            if isinstance(entry, PlacedText):
                align: Literal["center", "right"] = "center" if entry.anchor == "middle" else "right"
                color = themed(entry.role)
                axes.text(entry.x, entry.y, entry.text, ha=align, va="baseline", fontsize=8, color=color)
                continue
            extent = (entry.x, entry.x + entry.width, entry.y + entry.height, entry.y)
            pixels = join_images(entry.pixels, ink=self.ink)
            colors = pixels if pixels.shape[2] == 4 else pixels[..., [0, 0, 0, 1]]
            axes.imshow(colors, extent=extent, interpolation="none")
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.set_axis_off()

    def _layout(self, full_width: float = FULL_WIDTH) -> tuple[float, float, list[PlacedText | PlacedImages]]:
        """Width and height of all of it, and what is where."""
        rows, left = self.rows, float(self.label_width)
        if full_width < FULL_WIDTH:
            rows = [half for row in rows for half in _halve(row)]
        n_columns = max(len(row.pixels) for row in rows)
        height, width = rows[0].pixels.shape[2:]
        scale = min(MAX_TILE / width, (full_width - left) / (n_columns * (width + GAP) - GAP))
        step, first_center = (width + GAP) * scale, left + width * scale / 2
        placed: list[PlacedText | PlacedImages] = [
            PlacedText(first_center + i * step, LINE_HEIGHT - 3, text) for i, text in enumerate(self.header)
        ]
        y = LINE_HEIGHT + 1 if self.header else 0.0
        for row in rows:
            placed += _place_row(row, y, left, scale)
            y += height * scale + 3 + LINE_HEIGHT * _caption_lines(row)
            y += 8 if row.is_last and row is not rows[-1] else 0
        return max(left + n_columns * step - GAP * scale, full_width), y, placed


def _caption_lines(row: ImageRow) -> int:
    return max((caption.count("\n") + 1 for caption in row.captions), default=0)


def _halve(row: ImageRow) -> list[ImageRow]:
    """A row as two on a phone, where captions below ten images would overlap."""
    half = -(-len(row.pixels) // 2)
    if not row.captions or half < MAX_CAPTIONED / 2:
        return [row]
    first = ImageRow(row.label, row.pixels[:half], row.captions[:half])
    return [first, ImageRow("", row.pixels[half:], row.captions[half:], row.is_last)]


def _place_row(row: ImageRow, y: float, left: float, scale: float) -> Iterator[PlacedText | PlacedImages]:
    n, _, height, width = row.pixels.shape
    if n:
        yield PlacedImages(left, y, (n * (width + GAP) - GAP) * scale, height * scale, row.pixels)
    lines = row.label.split("\n")
    baseline = y + height * scale / 2 + 3 - (len(lines) - 1) * LINE_HEIGHT / 2
    for i, line in enumerate(lines):
        yield PlacedText(left - 8, baseline + i * LINE_HEIGHT, line, "end", "muted" if i else "ink")
    for i, text in enumerate(row.captions):
        x = left + width * scale / 2 + i * (width + GAP) * scale
        for k, line in enumerate(text.split("\n")):
            yield PlacedText(x, y + height * scale + (k + 1) * LINE_HEIGHT - 2, line)


def _images_svg(images: PlacedImages, *, ink: bool) -> str:
    return (
        f'<image class="{"ink" if ink else "photo"}" x="{images.x:.1f}" y="{images.y:.1f}" '
        f'width="{images.width:.1f}" height="{images.height:.1f}" '
        f'preserveAspectRatio="none" style="image-rendering: pixelated" '
        f'href="{to_data_uri(images.pixels, ink=ink)}"/>'
    )


def _text_svg(line: PlacedText) -> str:
    style = f"font-size: 8px; text-anchor: {line.anchor}; fill: {PLACEHOLDER[line.role]}"
    return f'<text x="{line.x:.1f}" y="{line.y:.1f}" style="{style}">{escape(line.text)}</text>'


# ---------------------------------------------------------------- a data experiment


def data_figures(run: Run, plan: DataPlan) -> list[Figure | None]:
    """Class balance and samples, as far as they are known."""
    return [class_balance(plan, run.plan.data), samples(run, plan)]


def class_balance(plan: DataPlan, data: DataInfo) -> Figure:
    """Bars: the share of each class in each split."""
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
        name=f"{slug(plan.name)}-balance",
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
        drawing=Plot.row(
            {"balance": partial(_draw_bars, labels=labels, counts=counts)}, 2.1, legend_columns=len(counts)
        ),
        csv_header=("class", *counts),
        csv_rows=tuple(zip(labels, *counts.values(), strict=True)),
    )


def _draw_bars(axes: "Axes", labels: Sequence[str], counts: Mapping[Split, tuple[int, ...]]) -> None:
    x, width = np.arange(len(labels)), 0.8 / len(counts)
    for index, (split, values) in enumerate(counts.items()):
        color, alpha = BAR_STYLES[index]
        centers = x + (index - (len(counts) - 1) / 2) * width
        heights = np.array(values, float) / sum(values)
        label = SPLIT_LABELS[split]
        axes.bar(centers, heights, width * 0.9, color=themed(color), alpha=alpha, label=label, linewidth=0)
        for name, center, height, count in zip(
            labels, centers.tolist(), heights.tolist(), values, strict=True
        ):
            text = f"{name}: {count:,} {label} images, {format_percent(height, 1)}"
            mark(axes, center, height, text)
    axes.axhline(1 / len(labels), color=themed("ink"), linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xticks(x, labels, rotation=0 if len(labels) <= 15 else 60)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    as_percent(axes.yaxis)
    axes.set_title("Share of images")


def samples(run: Run, plan: DataPlan) -> Figure | None:
    """A grid: some training images of each class, one class per row."""
    images = run.images.samples()
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
    note = " The data is light on a dark ground; here it is drawn in the colors of the page." if ink else ""
    longest = max(len(row.label) for row in rows)
    return Figure(
        name=f"{slug(plan.name)}-samples",
        title="Training images",
        caption=(
            f"The first {PER_CLASS} training images of each class, pixel for pixel: {height} × {width}, "
            f"{color}, 0 to 255.{note}"
        ),
        alt=f"Grid of sample images, {len(rows)} classes with up to {PER_CLASS} images each.",
        drawing=ImageGrid(rows, ink=ink, label_width=24 + 5 * min(longest, 16)),
        csv_header=("class", "images shown"),
        csv_rows=tuple((row.label, len(row.pixels)) for row in rows),
    )

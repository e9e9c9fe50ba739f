"""Figures of the data chapter: how many images a class, and what they look like."""

from typing import TYPE_CHECKING

import numpy as np

from inklab.report.figures.drawing import Figure, listing, plot
from inklab.report.figures.image_grid import ImageRow, is_ink, tile_drawing
from inklab.report.figures.numerals import count
from inklab.report.figures.palette import PLACEHOLDER
from inklab.report.figures.result_access import class_names, slug
from inklab.run import Json, RunData

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Sheet

PARTS = ("train", "validation", "test")
PER_CLASS = 10  # samples shown of each class
MAX_CLASSES = 26


def data_figures(run: RunData, chapter: Json) -> list[Figure]:
    """Class balance and samples, as far as they are known."""
    made = [class_balance(run, chapter), samples(run, chapter)]
    return [figure for figure in made if figure is not None]


def class_balance(run: RunData, chapter: Json) -> Figure | None:
    """Bars: images of each class in each part of the data."""
    data = run.plan.get("data") or {}
    told = data.get("counts") or {}
    counts = {part: list(values) for part in PARTS if sum(values := told.get(part) or [])}
    names = class_names(run)
    if not counts or not names:
        return None
    name = f"{slug(chapter['name'])}-balance"
    totals = {part: sum(values) for part, values in counts.items()}
    even = {
        part: f"{100 * min(v) / totals[part]:.1f} to {100 * max(v) / totals[part]:.1f}"
        for part, v in counts.items()
    }
    first = next(iter(counts))
    rare, common = names[int(np.argmin(counts[first]))], names[int(np.argmax(counts[first]))]
    alt = (
        f"Bar chart of class shares. In the {first} part class {rare} is the rarest and {common} the most "
        "common "
        f"({even[first]} % of {count(totals[first])} images)."
    )
    return Figure(
        name=name,
        title="Class balance",
        caption=(
            "Share of each class in "
            + listing(
                [
                    f"{part.replace('train', 'training')} ({count(total)} images)"
                    for part, total in totals.items()
                ]
            )
            + ". Counts, not estimates: no error bars. The dashed line is an even share."
        ),
        alt=alt,
        drawing=plot(name, lambda sheet: _bars(sheet, names, counts), 1.9),
        header=("class", *counts),
        rows=tuple(zip(names, *counts.values(), strict=False)),
    )


def _bars(sheet: "Sheet", names: list[str], counts: dict[str, list[int]]) -> None:
    from inklab.report.figures.drawing import as_percent, set_ylabel_horizontal

    axes = sheet.subplots()
    places, wide = np.arange(len(names)), 0.8 / len(counts)
    looks = [("c1", 0.95), ("c2", 0.75), ("c6", 0.5)]
    for index, (part, values) in enumerate(counts.items()):
        role, alpha = looks[index % 3]
        heights = np.array(values[: len(names)], float) / sum(values)
        at = places + (index - (len(counts) - 1) / 2) * wide
        label = "training" if part == "train" else part
        axes.bar(at, heights, wide * 0.9, color=PLACEHOLDER[role], alpha=alpha, label=label, linewidth=0)
    axes.axhline(1 / len(names), color=PLACEHOLDER["ink"], linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xticks(places, names, rotation=0 if len(names) <= 15 else 60)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    as_percent(axes.yaxis, 0)
    set_ylabel_horizontal(axes, "Share of images")
    axes.legend(ncols=len(counts), loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2)


def samples(run: RunData, chapter: Json) -> Figure | None:
    """A grid: some training images of each class, one class a row."""
    found = run.samples()
    if found is None or not len(found[0]):
        return None
    pixels, labels, names = found
    rows = []
    for label in np.unique(labels)[:MAX_CLASSES]:
        mine = pixels[labels == label][:PER_CLASS]
        rows.append(ImageRow(str(names[label]) if label < len(names) else str(label), mine))
    shape = " × ".join(str(s) for s in pixels.shape[2:])
    color = "one grey value a pixel" if pixels.shape[1] == 1 else f"{pixels.shape[1]} channels"
    ink = is_ink(pixels)
    note = " Light strokes on dark in the data; drawn here as ink on paper." if ink else ""
    longest = max(len(row.label) for row in rows)
    return Figure(
        name=f"{slug(chapter['name'])}-samples",
        title="Training images",
        caption=(
            f"The first {PER_CLASS} training images of each class, pixel for pixel: {shape}, {color}, "
            f"0 to 255.{note}"
        ),
        alt=f"Grid of sample images, {len(rows)} classes with up to {PER_CLASS} images each.",
        drawing=tile_drawing(rows, ink=ink, label_width=24 + 5 * min(longest, 16)),
        header=("class", "images shown"),
        rows=tuple((row.label, len(row.pixels)) for row in rows),
    )

"""Confusion matrices at some strengths, for the classifier alone and behind a denoiser."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from inklab.report.figures.drawing import Figure, plot
from inklab.report.figures.numerals import percent1, replicates
from inklab.report.figures.palette import PLACEHOLDER
from inklab.report.figures.result_access import chapter_results, class_names, slug
from inklab.run import Json, RunData

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

MAX_CLASSES = 15  # more do not fit side by side and stay legible


def confusion_figure(run: RunData, chapter: Json) -> Figure | None:
    """A row of matrices a pipeline, a column a strength: counts of all replicates, as shares of the row."""
    names = class_names(run)
    results = chapter_results(run, chapter["name"])
    counts = results.get("confusions") or {}
    alone = chapter.get("alone")
    behind = [p for p in chapter.get("pipelines") or [] if p != alone and str(p).endswith(f"+{alone}")]
    grids = {
        (str(pipeline), float(strength)): shares_of(np.array(grid, float))
        for pipeline in [alone, *behind[:1]]
        for strength, grid in (counts.get(pipeline) or {}).items()
        if np.shape(grid) == (len(names), len(names))
    }
    if not grids or len(names) > MAX_CLASSES:
        return None
    name = f"{slug(chapter['name'])}-confusion"
    pipelines = list(dict.fromkeys(pipeline for pipeline, _ in grids))
    strengths = sorted({strength for _, strength in grids})
    over = {len((results.get("confusions_over") or {}).get(p) or [0]) for p in pipelines}
    return Figure(
        name=name,
        title="Confusion matrices",
        caption=(
            "Rows: the true class; columns: what the pipeline said. Numbers are percentages of the row, "
            "below "
            "half a percent left out; the diagonal holds the true-positive rates. Summed over replicates "
            f"({replicates(max(over))}); both pipelines saw the same spoilt images."
        ),
        alt=_alt(grids, names),
        drawing=plot(
            name, lambda sheet: _draw(sheet, grids, pipelines, strengths, names), 0.3 + 2.15 * len(pipelines)
        ),
        header=("pipeline", "strength", "true", *names),
        rows=tuple(
            (p, s, names[i], *map(float, row)) for (p, s), grid in grids.items() for i, row in enumerate(grid)
        ),
    )


def shares_of(counts: Float[np.ndarray, "k k"]) -> Float[np.ndarray, "k k"]:
    """Each row as shares that sum to 1; zeros for a class without images.

    Example:
        >>> shares_of(np.array([[1.0, 3.0], [0.0, 0.0]])).tolist()
        [[0.25, 0.75], [0.0, 0.0]]
    """
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def _alt(grids: dict[tuple[str, float], np.ndarray], names: list[str]) -> str:
    parts = []
    for (pipeline, strength), grid in grids.items():
        off = grid - np.diag(np.diag(grid))
        true, said = np.unravel_index(int(np.argmax(off)), off.shape)
        parts.append(
            f"{pipeline} at {strength:g}: mean of the diagonal {percent1(float(np.diag(grid).mean()))}, "
            f"most often {names[true]} taken for {names[said]} ({percent1(float(off[true, said]))})"
        )
    return f"Confusion matrices. {'; '.join(parts)}."


def _draw(
    sheet: "Sheet",
    grids: dict[tuple[str, float], np.ndarray],
    pipelines: list[str],
    strengths: list[float],
    names: list[str],
) -> None:
    panels = sheet.subplots(len(pipelines), len(strengths), squeeze=False)
    for row, pipeline in enumerate(pipelines):
        for column, strength in enumerate(strengths):
            axes = panels[row][column]
            grid = grids.get((pipeline, strength))
            if grid is None:
                axes.set_visible(False)
                continue
            _matrix(axes, grid, names)
            axes.set_title(
                f"{pipeline}, strength {strength:g}" if column == 0 else f"strength {strength:g}", fontsize=8
            )


def _matrix(axes: "Axes", grid: np.ndarray, names: list[str]) -> None:
    from matplotlib.patches import Rectangle

    k = len(grid)
    for i, j in np.argwhere(grid >= 0.005):
        share = float(grid[i, j])
        color = PLACEHOLDER["c1" if i == j else "c2"]
        axes.add_patch(
            Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=color, alpha=0.12 + 0.88 * share, linewidth=0)
        )
        words = PLACEHOLDER["ground" if share > 0.55 else "ink"]
        axes.text(j, i, f"{100 * share:.0f}", ha="center", va="center_baseline", fontsize=5.6, color=words)
    axes.set_xlim(-0.5, k - 0.5)
    axes.set_ylim(k - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.set_xticks(range(k), names, fontsize=6.5)
    axes.set_yticks(range(k), names, fontsize=6.5)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for side in ("left", "bottom", "top", "right"):
        axes.spines[side].set_visible(True)
        axes.spines[side].set_color(PLACEHOLDER["rule"])

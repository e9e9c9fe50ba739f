"""Confusion matrices of a robustness experiment."""

from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from inklab.format import format_metric, format_percent
from inklab.records.plan import RobustnessPlan
from inklab.records.results import RobustnessResults
from inklab.report.figures.drawing import Plot, Stack, slug, themed
from inklab.report.figures.figure import Figure
from inklab.report.figures.marks import mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

MAX_MATRIX_CLASSES = 15
"""More do not fit side by side and stay legible."""

MAX_LABEL, MAX_LABEL_ROW = 12, 30
"""Characters of a class's name at a matrix, and of all names in a row."""

MIN_SHARE = 0.005
"""Smaller cells stay empty."""

Matrix = Float[np.ndarray, "k k"]

Matrices = dict[tuple[str, float], Matrix]
"""Pipeline and strength to shares of each row."""


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
            stack=Stack(columns=1 if _are_wide(labels) else 2, height=2.9 if _are_wide(labels) else 1.75),
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


def opacity(share: float) -> float:
    """Of a cell's color: faint below a half, full from there on, never between.

    At half strength neither ink nor ground would have a contrast of 4.5 with it.

    Example:
        >>> opacity(0.0), opacity(0.4), opacity(0.5)
        (0.1, 0.34, 1.0)
    """
    return 1.0 if share >= 0.5 else round(0.1 + 0.6 * share, 4)


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
    for i, j in np.argwhere(matrix >= MIN_SHARE).tolist():
        share = float(matrix[i, j])
        color, alpha = themed("c1" if i == j else "c2"), opacity(share)
        axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=color, alpha=alpha, linewidth=0))
        text_color = themed("ground" if alpha == 1 else "ink")
        text = format_percent(share, 0).removesuffix("%")
        axes.text(j, i, text, ha="center", va="center_baseline", fontsize=6.5, color=text_color)
        mark(axes, j, i, f"{labels[i]} predicted as {labels[j]}: {format_percent(share, 1)}")
    axes.set_xlim(-0.5, k - 0.5)
    axes.set_ylim(k - 0.5, -0.5)
    axes.set_aspect("equal")
    names = [label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 1]}…" for label in labels]
    axes.set_xticks(range(k), names, fontsize=6.5, rotation=90 if _are_wide(names) else 0)
    axes.set_yticks(range(k), names, fontsize=6.5)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, color=themed("rule"))

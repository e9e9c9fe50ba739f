"""Figures of a run: vector drawings whose colours follow the page, each with its numbers and its words."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from inklab.io.atomic import write_atomic
from inklab.report.figures.data_plots import data_figures
from inklab.report.figures.drawing import Figure
from inklab.report.figures.generation_plots import generation_figures
from inklab.report.figures.robustness_plots import robustness_figures
from inklab.report.figures.training_plots import train_figures
from inklab.run import Json, RunData

__all__ = ["Figure", "Figures", "RunData", "draw_figures", "write_figures"]

Figures: TypeAlias = dict[str, list[Figure]]
"""The figures of each chapter, by its name."""

OF_KIND: Mapping[str, Callable[[RunData, Json], list[Figure]]] = {
    "data": data_figures,
    "train": train_figures,
    "noise": robustness_figures,
    "generator": generation_figures,
}


def draw_figures(run: RunData) -> Figures:
    """Draw every figure that a run's outcomes allow; a chapter that has none yet gets an empty list."""
    chapters = run.plan.get("chapters") or []
    return {
        chapter["name"]: OF_KIND[chapter["kind"]](run, chapter) if chapter.get("kind") in OF_KIND else []
        for chapter in chapters
    }


def write_figures(run: RunData, folder: Path, figures: Figures | None = None) -> list[Path]:
    """Write each figure as `name.svg` and its data as `name.csv`.

    Args:
        run: whose figures.
        folder: where to; made if it is missing.
        figures: those already drawn, so as not to draw them twice.

    Returns:
        The files written, in the order of the chapters.
    """
    written = []
    for chapter in (draw_figures(run) if figures is None else figures).values():
        for figure in chapter:
            for ending, content in ((".svg", figure.for_file()), (".csv", figure.csv())):
                write_atomic(folder / f"{figure.name}{ending}", content)
                written.append(folder / f"{figure.name}{ending}")
    return written

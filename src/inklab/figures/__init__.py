"""Figures of a run: vector drawings whose colours follow the page, each with its numbers and its words."""

from inklab.figures.catalogue import Figures, draw_figures, write_figures
from inklab.figures.drawing import Figure
from inklab.figures.view import RunView

__all__ = ["Figure", "Figures", "RunView", "draw_figures", "write_figures"]

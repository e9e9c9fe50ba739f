"""What a report is made from: the same view of a run that its figures use."""

from inklab.figures.view import Arrays, Json, RunView

__all__ = ["Arrays", "Json", "RunView"]

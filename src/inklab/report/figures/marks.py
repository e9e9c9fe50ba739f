"""Values that a chart answers a pointer or the keyboard with."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from inklab.format import typeset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

MAX_MARKS = 300
"""Marks of one drawing; of more, so many are kept, evenly. A mark takes about 100 bytes."""

RADIUS = 7
"""Of the circle around a mark, in units, in which a pointer finds it without a script."""


class Mark(NamedTuple):
    """A point of a chart in data coordinates, and what it is."""

    axes: "Axes"
    x: float
    y: float
    text: str


_recorded: ContextVar[list[Mark] | None] = ContextVar("recorded", default=None)


def mark(axes: "Axes", x: float | int, y: float | int, text: str) -> None:
    """Say what a point of a chart is. Outside of `recording`, such as on a user's axes, nothing happens."""
    marks = _recorded.get()
    if marks is not None:
        marks.append(Mark(axes, float(x), float(y), text))


@contextmanager
def recording() -> Iterator[list[Mark]]:
    """Collect the marks of what is drawn."""
    marks: list[Mark] = []
    token = _recorded.set(marks)
    try:
        yield marks
    finally:
        _recorded.reset(token)


def marks_svg(marks: list[Mark], sheet: "Sheet", units_per_inch: int) -> str:
    """Invisible circles with a `title`, which browsers show next to the pointer; "" without marks.

    Args:
        marks: in the order in which the keyboard visits them.
        sheet: on which they are, after it was drawn, so that its layout is known.
        units_per_inch: of the drawing.
    """
    step = -(-len(marks) // MAX_MARKS)
    kept = marks[:: max(1, step)]
    if not kept:
        return ""
    scale, height = units_per_inch / sheet.dpi, sheet.get_figheight() * units_per_inch
    circles = []
    for entry in kept:
        x, y = entry.axes.transData.transform((entry.x, entry.y)) * scale
        title = escape(typeset(entry.text))
        circles.append(
            f'<circle cx="{x:.1f}" cy="{height - y:.1f}" r="{RADIUS}"><title>{title}</title></circle>'
        )
    return f'<g class="marks" fill-opacity="0">{"".join(circles)}</g>'

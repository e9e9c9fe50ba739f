"""A figure as an object: it shows itself in a notebook, is saved, drawn onto axes, or read as data."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from inklab.errors import ConfigError, UnknownNameError
from inklab.io.files import write_atomic
from inklab.notebook import Columns, Tabular
from inklab.records.estimates import Estimate
from inklab.report.figures.drawing import (
    LIGHT,
    PLACEHOLDER,
    Drawing,
    for_file,
    for_page,
    import_matplotlib,
    use_palette,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = re.compile(r'<g class="marks".*?</g>')
"""What a chart answers a pointer with; a file has its data beside it."""

COORDINATES = re.compile(r' (?:d|x|y)="[^"]*"')
"""Numbers that a page has in tenths of a unit, 0.14 pixels: it has every figure twice."""

SUFFIXES = ("svg", "png", "pdf")
NOTEBOOK_DPI = 110


@dataclass(frozen=True, eq=False, repr=False)
class Figure(Tabular):
    """A figure of a run. It is drawn when it is first shown or saved.

    In a notebook it shows itself. Drawing never uses pyplot or the backend that a notebook has chosen.

    Attributes:
        name: unique in its run, fit for a file name.
        title: a few words.
        caption: how to read it: what bars and bands mean, and n.
        alt: description for those who cannot see it, computed from the numbers.
        drawing: what is shown.
        csv_header: column names of its data.
        csv_rows: its data, in full precision.

    Example:
        >>> import inklab
        >>> run = inklab.load("latest")  # doctest: +SKIP
        >>> run.figure("cnn-curves").save("curves.pdf")  # doctest: +SKIP
        >>> run.figure("cnn-curves").draw(ax, "accuracy")  # doctest: +SKIP
    """

    name: str
    title: str
    caption: str
    alt: str
    drawing: Drawing
    csv_header: tuple[str, ...] = ()
    csv_rows: tuple[tuple[object, ...], ...] = field(default=())

    def __repr__(self) -> str:
        return f"Figure({self.name!r}: {self.title})"

    # ------------------------------------------------------------ pictures

    @cached_property
    def svg(self) -> str:
        """The drawing, with placeholder colors of the palette."""
        return self.drawing.svg(self.name)

    def for_page(self, *, is_narrow: bool = False) -> str:
        """The SVG as a part of a page: themed by CSS variables, described for screen readers.

        Args:
            is_narrow: arranged for a phone; not cached, as only the report needs it.
        """
        svg = self.drawing.svg(self.name, is_narrow=True) if is_narrow else self.svg
        label = f'role="img" aria-label="{escape(self.alt)}" '
        short = COORDINATES.sub(lambda match: re.sub(r"(\.\d)\d+", r"\1", match[0]), svg)
        return for_page(short.replace("<svg ", f"<svg {label}", 1))

    def for_file(self) -> str:
        """The SVG as a file of its own, in the light theme."""
        head, body = for_file(re.sub(MARKS, "", self.svg)).split(">", 1)
        background = f'<rect width="100%" height="100%" fill="{for_file(PLACEHOLDER["ground"])}"/>'
        text = f"<title>{escape(self.title)}</title><desc>{escape(self.alt)}</desc>"
        return f'{head} xmlns="http://www.w3.org/2000/svg">{text}{background}{body}\n'

    def save(self, path: str | Path, *, dpi: int = 200) -> Path:
        """Write it as a file.

        Args:
            path: ends in ".svg", ".png" or ".pdf".
            dpi: pixels per inch of a PNG; figures are 6.6 inches wide.

        Returns:
            The path.

        Raises:
            ConfigError: the name has another ending.
            WriteError: the disk refuses.
        """
        path = Path(path)
        suffix = path.suffix.lower().removeprefix(".")
        if suffix not in SUFFIXES:
            raise ConfigError(
                f"'{path}' ends in '{path.suffix}', but a figure is saved as .svg, .png or .pdf",
                key=str(path),
            )
        content = self.for_file() if suffix == "svg" else self.drawing.render(self.name, suffix, dpi)
        write_atomic(path, content)
        return path

    def draw(self, axes: "Axes", panel: str | None = None) -> "Axes":
        """Draw it onto axes of your own, in its colors for a light ground; fonts stay yours.

        Args:
            axes: of matplotlib's.
            panel: which of `panels`; can be left out if there is one only.

        Returns:
            The axes.

        Raises:
            ConfigError: it has several panels, and none is named.
            UnknownNameError: it has no such panel.
        """
        names = self.panels
        if panel is None and len(names) > 1:
            raise ConfigError(
                f"'{self.name}' has {len(names)} panels, and each needs axes of its own: "
                f"draw(ax, {names[0]!r}); panels: {', '.join(names)}"
            )
        if panel is not None and panel not in names:
            raise UnknownNameError("panel", panel, names)
        matplotlib = import_matplotlib()
        with use_palette(LIGHT), matplotlib.rc_context({"text.parse_math": False}):  # a class may be "$5"
            self.drawing.panels[panel or names[0]](axes)
            if axes.get_legend() is None and axes.get_legend_handles_labels()[1]:
                axes.legend()
        return axes

    @property
    def panels(self) -> tuple[str, ...]:
        """Names of what can be drawn onto axes of your own."""
        return tuple(self.drawing.panels)

    def _repr_svg_(self) -> str:
        """The SVG for a notebook, which shrinks with a narrow window."""
        return self.for_file().replace('style="', 'style="max-width: 100%; height: auto; ', 1)

    def _repr_png_(self) -> bytes:
        return self.drawing.render(self.name, "png", NOTEBOOK_DPI)

    # ------------------------------------------------------------ data

    @property
    def _columns(self) -> Columns:
        columns: list[Sequence[object]] = list(zip(*self.csv_rows, strict=True))
        return dict(zip(self.csv_header, columns or [()] * len(self.csv_header), strict=True))

    @cached_property
    def csv(self) -> str:
        """Its data as CSV; cached, since the curves of 10,000 trials take half a second."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.csv_header)
        writer.writerows(self.csv_rows)
        return buffer.getvalue()


def interval_cells(estimate: Estimate) -> tuple[object, ...]:
    """The ends of an interval and what it is over, as cells of a figure's data; "" for what is not known."""
    return (*(estimate.interval or ("", "")), estimate.basis or "")

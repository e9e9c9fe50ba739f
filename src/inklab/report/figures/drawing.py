"""How figures are drawn: themes, the style of plots, and what a drawing is."""

import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from inklab.report.figures.marks import marks_svg, recording

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Sheet

THEMES = {
    "ink": ("#22262b", "#e6e3dc"),
    "muted": ("#5b626c", "#a3a7ad"),
    "rule": ("#d8d3c8", "#3b4048"),
    "ground": ("#fdfcf9", "#16181b"),
    "c1": ("#0b5fa5", "#74b7f0"),
    "c2": ("#bf4b09", "#f59a61"),
    "c3": ("#0a7a5c", "#58c9a3"),
    "c4": ("#9c4583", "#dd9bc6"),
    "c5": ("#8a6500", "#dcb84e"),
    "c6": ("#5f6670", "#a9aeb6"),
}
"""Colors by role, light and dark: placeholders in a drawing, CSS variables in a page, light in a file.

Series colors follow Okabe and Ito, darkened or lightened for a contrast of 3:1 with the background. Series
also differ in lightness, marker and line style, never in color alone.
"""

LIGHT = {role: light for role, (light, _) in THEMES.items()}
DARK = {role: dark for role, (_, dark) in THEMES.items()}

PLACEHOLDER = {role: f"#0a0b{index:02x}" for index, role in enumerate(THEMES, start=1)}
"""Colors that no figure uses otherwise."""

SERIES = tuple(THEMES)[4:]
LineStyle = str | tuple[int, tuple[float | int, ...]]
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES: tuple[LineStyle, ...] = (
    "-",
    (0, (5, 1.6)),
    (0, (1.4, 1.4)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (3, 1)),
    (0, (8, 2)),
)

_ROLE_OF = {color: role for role, color in PLACEHOLDER.items()}
_PLACEHOLDERS = re.compile("|".join(_ROLE_OF))

UNITS_PER_INCH = 72  # of a drawing; the report's column has about 1.4 px a unit
WIDTH = 6.6  # inches; 475 units
NARROW_WIDTH = 3.4
"""Inches on a phone: on a screen of 390 px a unit has 1.4 px, so that print of 6.5 units has 9 px."""

FONTS = "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"


_palette: ContextVar[Mapping[str, str]] = ContextVar("palette", default=PLACEHOLDER)


def themed(role: str) -> str:
    """The color of a role in what is being drawn: a placeholder in an SVG, else that of a theme."""
    return _palette.get()[role]


def series_style(index: int) -> tuple[str, LineStyle, str]:
    """Color, line style and marker of a figure's series by its number; after six they repeat."""
    style = index % len(SERIES)
    return themed(SERIES[style]), LINES[style], MARKERS[style]


def for_page(drawing: str) -> str:
    """A drawing whose colors follow the page: placeholders become CSS variables.

    Example:
        >>> for_page(f"fill: {PLACEHOLDER['c1']}")
        'fill: var(--c1)'
    """
    return _PLACEHOLDERS.sub(lambda match: f"var(--{_ROLE_OF[match[0]]})", drawing)


def for_file(drawing: str) -> str:
    """A drawing in the light theme, for use outside the page."""
    return _PLACEHOLDERS.sub(lambda match: LIGHT[_ROLE_OF[match[0]]], drawing)


def variables(theme: dict[str, str]) -> str:
    """A theme as CSS declarations."""
    return " ".join(f"--{role}: {color};" for role, color in theme.items())


@runtime_checkable
class Drawing(Protocol):
    """What a figure shows: as SVG, or drawn by matplotlib, all of it or one of its panels."""

    @property
    def panels(self) -> Mapping[str, Callable[["Axes"], None]]:
        """What can be drawn onto axes of the user's, by name."""

    def svg(self, name: str, *, is_narrow: bool = False) -> str:
        """With placeholder colors; all ids begin with the name. Narrow: arranged for a phone."""

    def render(self, name: str, suffix: str, dpi: int) -> bytes:
        """In the light theme, in a format of matplotlib's such as "png"."""


@dataclass(frozen=True)
class Stack:
    """How a plot is arranged on a phone: its panels below each other, in so many columns.

    Attributes:
        columns: panels beside each other.
        height: of a panel in inches.
        legend_columns: of one legend above all panels; 0 if they have legends of their own, or none.
    """

    columns: int = 1
    height: float | int = 2.1
    legend_columns: int = 0


@dataclass(frozen=True, eq=False)
class Plot:
    """A plot of one or several panels.

    Attributes:
        arrange: draws all of it onto a sheet.
        height: of the sheet in inches.
        panels: what draws each panel onto its axes.
        width: of the sheet in inches.
        stack: its arrangement on a phone.
    """

    arrange: Callable[["Sheet"], None]
    height: float | int
    panels: Mapping[str, Callable[["Axes"], None]]
    width: float | int = WIDTH
    stack: Stack = Stack()

    @classmethod
    def row(
        cls, panels: Mapping[str, Callable[["Axes"], None]], height: float | int, *, legend_columns: int = 0
    ) -> "Plot":
        """Panels side by side, with one legend above all of them if it has columns."""

        def arrange(sheet: "Sheet") -> None:
            row = sheet.subplots(1, len(panels), squeeze=False)[0]
            for axes, draw in zip(row, panels.values(), strict=True):
                draw(axes)
            if legend_columns:
                add_legend(sheet, row[0], legend_columns)

        return cls(arrange, height, panels, stack=Stack(height=height, legend_columns=min(2, legend_columns)))

    def svg(self, name: str, *, is_narrow: bool = False) -> str:
        """As a tidy SVG: text as text, the same bytes every time; its marks come last."""
        sheets: list[Sheet] = []
        arrange, size = (self._arrange_narrow, self._narrow_size) if is_narrow else (self.arrange, self._size)

        def draw(sheet: "Sheet") -> None:
            sheets.append(sheet)
            arrange(sheet)

        name = f"{name}-narrow" if is_narrow else name
        with recording() as marks:
            raw = save_sheet(
                draw, size, PLACEHOLDER, "svg", name=name, layout="constrained", transparent=True
            )
        return (
            tidy(raw.decode(), name).removesuffix("</svg>")
            + marks_svg(marks, sheets[0], UNITS_PER_INCH)
            + "</svg>"
        )

    def render(self, name: str, suffix: str, dpi: int) -> bytes:
        """In the light theme, in a format of matplotlib's such as "png"."""
        return save_sheet(
            self.arrange, self._size, LIGHT, suffix, name=name, layout="constrained", dpi=dpi,
            facecolor=LIGHT["ground"],
        )  # fmt: skip

    @property
    def _size(self) -> tuple[float, float]:
        return float(self.width), float(self.height)

    @property
    def _narrow_size(self) -> tuple[float, float]:
        n_rows = -(-len(self.panels) // self.stack.columns)
        legend = 0.4 if self.stack.legend_columns else 0.0
        return NARROW_WIDTH, n_rows * float(self.stack.height) + legend

    def _arrange_narrow(self, sheet: "Sheet") -> None:
        """Every panel below the one before, in the columns of the stack."""
        n_rows = -(-len(self.panels) // self.stack.columns)
        cells = sheet.subplots(n_rows, self.stack.columns, squeeze=False).ravel()
        for axes, (title, draw) in zip(cells, self.panels.items(), strict=False):
            draw(axes)
            if len(self.panels) > 1 and not axes.get_title(loc="left"):
                axes.set_title(title)
        for axes in cells[len(self.panels) :]:
            axes.set_visible(False)
        if self.stack.legend_columns:
            add_legend(sheet, cells[0], self.stack.legend_columns)


def save_sheet(
    draw: Callable[["Sheet"], None], size: tuple[float, float], palette: Mapping[str, str], suffix: str,
    *, name: str, layout: Literal["constrained"] | None, **options: Any,
) -> bytes:  # fmt: skip
    """What `draw` adds to a sheet of some inches, in a format of matplotlib's; without a date.

    The sheet has no window: what the user or a notebook chose as a backend is neither used nor changed.
    """
    matplotlib = import_matplotlib()
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Sheet

    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    buffer = io.BytesIO()
    with use_palette(palette), matplotlib.rc_context(_style(name)):
        sheet = Sheet(figsize=size, layout=layout)
        FigureCanvasSVG(sheet)  # its text has the same size in every format
        draw(sheet)
        if engine := sheet.get_layout_engine():
            engine.execute(sheet)  # `savefig` would draw all of it once more for that, a fifth of the time
            sheet.set_layout_engine(None)
        sheet.savefig(buffer, format=suffix, metadata=dates.get(suffix), **options)
    return buffer.getvalue()


@contextmanager
def use_palette(palette: Mapping[str, str]) -> Iterator[None]:
    """Draw in the colors of a theme."""
    token = _palette.set(palette)
    try:
        yield
    finally:
        _palette.reset(token)


def import_matplotlib() -> Any:
    """Matplotlib, also where MPLBACKEND names a backend that it does not know."""
    try:
        return import_module("matplotlib")
    except ValueError:
        backend = os.environ.pop("MPLBACKEND", "")
        for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
            del sys.modules[name]  # imported by half
        try:
            return import_module("matplotlib")
        finally:
            os.environ["MPLBACKEND"] = backend


def tidy(svg: str, name: str) -> str:
    """An SVG to be part of a page: no prolog, metadata or style sheet; short numbers; ids of its own."""
    svg = svg[svg.index("<svg") :]
    for junk in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r"<!--.*?-->"):
        svg = re.sub(junk, "", svg, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]+)"', svg)
    size = box[1] if box else "0 0 475 200"
    svg = re.sub(r"<svg[^>]*>", open_svg(size), svg, count=1).replace("xlink:href", "href")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    referenced = {id for pair in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg) for id in pair if id}
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in referenced else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"-?\d+\.\d{3,}", _shorten, tag[0]), svg)
    return re.sub(r">\s+<", "><", re.sub(r"\s+", " ", svg)).strip()


def _shorten(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def open_svg(box: str) -> str:
    """The opening tag of a drawing with this view box, with matplotlib's defaults for line joins."""
    _, _, width, height = box.split()
    style = f"font-family: {FONTS}; stroke-linejoin: round; font-variant-numeric: tabular-nums"
    return f'<svg viewBox="{box}" width="{float(width):g}pt" height="{float(height):g}pt" style="{style}">'


def _style(name: str) -> dict[str, Any]:
    ink, muted = themed("ink"), themed("muted")
    return {
        "svg.hashsalt": name,
        "svg.fonttype": "none",
        "pdf.fonttype": 42,  # journals want fonts embedded as they are
        "font.family": "DejaVu Sans",  # comes with matplotlib, so the layout is the same everywhere
        "font.size": 8.5,
        "text.color": ink,
        "text.parse_math": False,  # a class may be named "$5"
        "axes.edgecolor": muted,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.titlepad": 8,  # the label of the vertical axis stands above it, horizontally
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": themed("rule"),
        "grid.linewidth": 0.6,
        "xtick.color": muted,
        "ytick.color": muted,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "xtick.major.size": 3,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "legend.handlelength": 2.4,
        "lines.linewidth": 1.6,
        "lines.markersize": 4,
    }


def as_percent(axis: "Axis", *, symbol: str = "%") -> None:
    """Label an axis of shares in percent, each tick exactly: 2.5% is not rounded to 2%."""
    axis.set_major_formatter(lambda share, _: f"{round(100 * share, 6):g}{symbol}")


def add_legend(sheet: "Sheet", axes: "Axes", max_columns: int = 4) -> None:
    """Put the legend of one of a figure's axes above all of them."""
    handles, labels = axes.get_legend_handles_labels()
    sheet.legend(handles, labels, loc="outside upper left", ncols=min(max_columns, len(labels)))


def slug(name: str) -> str:
    """A name as part of file names and anchors.

    Example:
        >>> slug("My experiment/1")
        'my-experiment-1'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "experiment"

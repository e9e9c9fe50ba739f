"""A figure: a vector drawing in the colors of a theme, its description in words, and its data."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

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

WIDTH = 6.6  # inches; 475 units of the drawing, so that a unit is about 1.4 px in the report's column

FONTS = "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"


def series_style(index: int) -> tuple[str, LineStyle, str]:
    """Color, line style and marker of a figure's series by its number; after six they repeat."""
    style = index % len(SERIES)
    return PLACEHOLDER[SERIES[style]], LINES[style], MARKERS[style]


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


@dataclass(frozen=True)
class Figure:
    """A figure of the report.

    Attributes:
        name: unique in its run, fit for a file name.
        title: a few words.
        caption: how to read it: what bars and bands mean, and n.
        alt: description for those who cannot see it, computed from the numbers.
        svg: the drawing, with placeholder colors of the palette.
        csv_header: column names of its data.
        csv_rows: its data, in full precision.
    """

    name: str
    title: str
    caption: str
    alt: str
    svg: str
    csv_header: tuple[str, ...] = ()
    csv_rows: tuple[tuple[object, ...], ...] = field(default=(), repr=False)

    def for_page(self) -> str:
        """The SVG as a part of a page: themed by CSS variables, described for screen readers."""
        label = f'role="img" aria-label="{escape(self.alt)}" '
        return for_page(self.svg.replace("<svg ", f"<svg {label}", 1))

    def for_file(self) -> str:
        """The SVG as a file of its own."""
        head, body = for_file(self.svg).split(">", 1)
        background = f'<rect width="100%" height="100%" fill="{for_file(PLACEHOLDER["ground"])}"/>'
        text = f"<title>{escape(self.title)}</title><desc>{escape(self.alt)}</desc>"
        return f'{head} xmlns="http://www.w3.org/2000/svg">{text}{background}{body}\n'

    @cached_property
    def csv(self) -> str:
        """Its data as CSV; cached, since the curves of 10,000 trials take half a second."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.csv_header)
        writer.writerows(self.csv_rows)
        return buffer.getvalue()


def plot(name: str, draw: Callable[["Sheet"], None], height: float | int, width: float | int = WIDTH) -> str:
    """What `draw` adds to a sheet of some inches, as a tidy SVG: text as text, the same bytes every time.

    All ids have the name as their prefix, so that several figures fit on one page.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Sheet

    style: Any = _style(name)  # matplotlib's own type for it is a literal of 300 names
    with matplotlib.rc_context(style):
        sheet = Sheet(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(sheet)
        draw(sheet)
        buffer = io.StringIO()
        sheet.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return tidy(buffer.getvalue(), name)


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
    ink, muted = PLACEHOLDER["ink"], PLACEHOLDER["muted"]
    return {
        "svg.hashsalt": name,
        "svg.fonttype": "none",
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
        "grid.color": PLACEHOLDER["rule"],
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


def as_percent(axis: "Axis", decimals: int | None = None, *, symbol: str = "%") -> None:
    """Label an axis of shares in percent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=decimals, symbol=symbol))


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

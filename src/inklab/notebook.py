"""What notebooks show: columns as rows or a DataFrame, pictures, and small pieces of HTML for objects.

HTML has no scripts, no ids and no style sheet, and no color of its own but a gray that is legible on light
and dark grounds; every text is escaped.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from os import path as os_path
from pathlib import Path
from typing import TYPE_CHECKING

from inklab.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from pandas import DataFrame

Row = dict[str, object]
"""One row of a table, by column name."""

Columns = Mapping[str, Sequence[object]]
"""A table by column; all have the same length."""

MUTED = "color:#767676"
CARD = "margin:0.3em 0 0.8em;line-height:1.45"
CELL = "padding:0.15em 1.2em 0.15em 0;border:none;background:none"
LINE = "border-bottom:1px solid rgba(128,128,128,0.35)"


def as_rows(columns: Columns) -> list[Row]:
    """A table as a list of rows.

    Example:
        >>> as_rows({"epoch": [1, 2], "loss": [0.5, 0.25]})
        [{'epoch': 1, 'loss': 0.5}, {'epoch': 2, 'loss': 0.25}]
    """
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def as_columns(rows: Sequence[Row], first: Iterable[str] = ()) -> Columns:
    """Rows as columns: those named first, then others in the order in which they occur; None where missing.

    Example:
        >>> as_columns([{"a": 1}, {"a": 2, "b": 3}])
        {'a': [1, 2], 'b': [None, 3]}
    """
    names = dict.fromkeys([*first, *(name for row in rows for name in row)])
    return {name: [row.get(name) for row in rows] for name in names}


def as_frame(columns: Columns) -> "DataFrame":
    """A table as a DataFrame.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        from pandas import DataFrame
    except ImportError:
        raise ConfigError(
            "a DataFrame needs pandas, which is not installed: pip install 'inklab[notebook]'; "
            "without it, rows() and .data give lists of dictionaries"
        ) from None
    return DataFrame(dict(columns))


class Tabular(ABC):
    """What has a table behind it: as a list of rows, or as a DataFrame."""

    @property
    @abstractmethod
    def _columns(self) -> Columns:
        """The table."""

    @property
    def data(self) -> list[Row]:
        """Its data as a list of rows by column name."""
        return as_rows(self._columns)

    def to_pandas(self) -> "DataFrame":
        """Its data as a DataFrame.

        Raises:
            ConfigError: pandas is not installed.
        """
        return as_frame(self._columns)


# ---------------------------------------------------------------- HTML


def png_data_uri(pixels: "np.ndarray") -> str:
    """A PNG in a data URI.

    Args:
        pixels: `(h, w)` or `(h, w, 1 to 4)` uint8: gray, gray and alpha, color, color and alpha.

    Example:
        >>> import numpy as np
        >>> png_data_uri(np.zeros((4, 4), np.uint8))[:22]
        'data:image/png;base64,'
    """
    import io
    from base64 import b64encode

    import numpy as np
    from PIL import Image

    file = io.BytesIO()
    picture = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    Image.fromarray(np.ascontiguousarray(picture)).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + b64encode(file.getvalue()).decode("ascii")


def card(title: str, *parts: str, subtitle: str = "") -> str:
    """An object in a notebook: a title, a muted line beside it, and pieces of HTML below.

    Example:
        >>> "&lt;b&gt;" in card("<b>")
        True
    """
    beside = f" <span style='{MUTED}'>{escape(subtitle)}</span>" if subtitle else ""
    return f"<div style='{CARD}'><div><strong>{escape(title)}</strong>{beside}</div>{''.join(parts)}</div>"


def paragraph(text: str, *, muted: bool = False) -> str:
    """A text of its own."""
    return f"<div style='{MUTED if muted else 'margin-top:0.3em'}'>{escape(text)}</div>"


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> str:
    """A table; columns whose number is in `right` are aligned to the right.

    Example:
        >>> html_table(["a"], [["<"]]).count("&lt;")
        1
    """
    aligned = set(right)

    def cells(tag: str, texts: Sequence[str], extra: str = "") -> str:
        sides = ("right" if i in aligned else "left" for i in range(len(texts)))
        return "".join(
            f"<{tag} style='{CELL};text-align:{side};{extra}'>{escape(text)}</{tag}>"
            for side, text in zip(sides, texts, strict=True)
        )

    head = f"<tr>{cells('th', header, f'font-weight:normal;{MUTED};{LINE}')}</tr>"
    body = "".join(f"<tr style='background:none'>{cells('td', row)}</tr>" for row in rows)
    return (
        "<table style='border-collapse:collapse;margin:0.4em 0;font-variant-numeric:tabular-nums'>"
        f"<thead>{head}</thead><tbody>{body}</tbody></table>"
    )


def bullet_list(texts: Iterable[str]) -> str:
    """Texts one below the other."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul style='margin:0.3em 0;padding-left:1.2em'>{items}</ul>" if items else ""


def folded(title: str, html: str) -> str:
    """A piece of HTML that is shown when its title is clicked."""
    return (
        f"<details><summary style='cursor:pointer'>{escape(title)}</summary>{html}</details>" if html else ""
    )


class FilePath(type(Path())):  # type: ignore[misc]  # PosixPath or WindowsPath
    """A path that a notebook shows as a link, relative to the notebook so that its server finds the file.

    Example:
        >>> FilePath("runs/latest/report.html")._repr_html_()
        '<a href="runs/latest/report.html" target="_blank">runs/latest/report.html</a>'
    """

    def _repr_html_(self) -> str:
        name, link = escape(str(self)), escape(Path(os_path.relpath(self)).as_posix())
        return f'<a href="{link}" target="_blank">{name}</a>'

"""What notebooks show: columns as rows or a DataFrame, and small pieces of HTML for objects.

HTML has no scripts, no ids and no style sheet, and no color of its own but a gray that is legible on light
and dark grounds; every text is escaped.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from inklab.errors import ConfigError

if TYPE_CHECKING:
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


# ---------------------------------------------------------------- HTML


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

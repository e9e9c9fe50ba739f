"""Colors by role: placeholders in drawings, CSS variables in a page, the light theme in a file.

Series colors follow Okabe and Ito, darkened or lightened for a contrast of 3:1 with the
background. Series also differ in lightness, marker and line style, never in color alone.
"""

import re

ROLES = ("ink", "muted", "rule", "ground", "c1", "c2", "c3", "c4", "c5", "c6")

LIGHT = {
    "ink": "#22262b",
    "muted": "#5b626c",
    "rule": "#d8d3c8",
    "ground": "#fdfcf9",
    "c1": "#0b5fa5",
    "c2": "#bf4b09",
    "c3": "#0a7a5c",
    "c4": "#9c4583",
    "c5": "#8a6500",
    "c6": "#5f6670",
}

DARK = {
    "ink": "#e6e3dc",
    "muted": "#a3a7ad",
    "rule": "#3b4048",
    "ground": "#16181b",
    "c1": "#74b7f0",
    "c2": "#f59a61",
    "c3": "#58c9a3",
    "c4": "#dd9bc6",
    "c5": "#dcb84e",
    "c6": "#a9aeb6",
}

PLACEHOLDER = {role: f"#0a0b{index:02x}" for index, role in enumerate(ROLES, start=1)}
"""Colors that no figure uses otherwise."""

SERIES = ("c1", "c2", "c3", "c4", "c5", "c6")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", (0, (5, 1.6)), (0, (1.4, 1.4)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)), (0, (8, 2)))

_ROLE_OF = {color: role for role, color in PLACEHOLDER.items()}
_PLACEHOLDERS = re.compile("|".join(_ROLE_OF))


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

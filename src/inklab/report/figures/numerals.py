"""How numbers are written: everywhere the same, never with more digits than they deserve.

Thin no-break spaces hold a number and its unit together, a true minus stands before what is negative.
"""

import re
from collections.abc import Callable
from typing import TypeAlias

from inklab.report.figures.result_access import ScoreView

THIN = "\u202f"
NBSP = "\u00a0"
MINUS = "\u2212"
ABSENT = "\u2014"

Number: TypeAlias = float | int
Writer: TypeAlias = Callable[[Number], str]


def fixed(value: Number, decimals: int) -> str:
    """A number with so many decimals, thousands apart, and a true minus; never minus zero.

    Example:
        >>> fixed(1234.567, 1)
        '1,234.6'
    """
    text = f"{value:,.{decimals}f}"
    if text.startswith("-"):
        text = MINUS + text[1:] if any(c in "123456789" for c in text) else text[1:]
    return text


def count(value: Number) -> str:
    """A whole number.

    Example:
        >>> count(1250926)
        '1,250,926'
    """
    return fixed(value, 0)


def percent(share: Number, decimals: int = 2) -> str:
    """A share in [0, 1] as a percentage.

    Example:
        >>> percent(0.98143).replace(THIN, " ")
        '98.14 %'
    """
    return f"{fixed(100 * share, decimals)}{THIN}%"


def percent1(share: Number) -> str:
    """A share as a percentage with one decimal, where two would be too fine."""
    return percent(share, 1)


def points(share: Number, decimals: int = 2) -> str:
    """A difference of two shares in percentage points, with its sign.

    Example:
        >>> points(0.0021), points(-0.0021) == MINUS + "0.21"
        ('+0.21', True)
    """
    text = fixed(100 * share, decimals)
    return text if text.startswith(MINUS) or not text.strip("0.") else f"+{text}"


def loss(value: Number) -> str:
    """A loss or a cross-entropy.

    Example:
        >>> loss(0.06751)
        '0.0675'
    """
    return fixed(value, 4)


def decibels(value: Number) -> str:
    """A signal-to-noise ratio."""
    return f"{fixed(value, 2)}{THIN}dB"


def format_general(value: Number) -> str:
    """Any other number, with three digits that count.

    Example:
        >>> format_general(12.345), format_general(0.00012), format_general(1234.5)
        ('12.3', '0.00012', '1,234')
    """
    if value and abs(value) < 1:
        return f"{value:.3g}".replace("-", MINUS)
    return fixed(value, max(0, 3 - len(str(int(abs(value))))))


def p_value(p: Number) -> str:
    """A p-value: two digits that count, and a floor below which digits mean nothing.

    Example:
        >>> p_value(0.0314), p_value(1e-9), p_value(1.0)
        ('0.031', '< 0.001', '1')
    """
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def duration_text(seconds: Number) -> str:
    """A time span in the units that one would say.

    Example:
        >>> [duration_text(s).replace(THIN, " ") for s in (0.42, 7.26, 133, 7300)]
        ['0.4 s', '7.3 s', '2 min 13 s', '2 h 2 min']
    """
    if seconds < 59.95:
        return f"{fixed(seconds, 1)}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{THIN}min {rest}{THIN}s"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours}{THIN}h {rest}{THIN}min"


def interval(low: Number, high: Number, write: Writer) -> str:
    """An interval; the unit stands once, after the upper end.

    Example:
        >>> interval(0.9802, 0.9826, percent).replace(THIN, " ")
        '98.02 to 98.26 %'
    """
    if write in (percent, percent1):  # with few replicates Student's t may leave the shares that there are
        low, high = min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)
    return f"{strip_unit(write(low))} to {write(high)}"


def strip_unit(text: str) -> str:
    """A written number without its unit.

    Example:
        >>> strip_unit(percent(0.5)), strip_unit("12")
        ('50.00', '12')
    """
    return text.split(THIN)[0]


def unit_of(text: str) -> str:
    """The unit of a written number, or nothing.

    Example:
        >>> unit_of(percent(0.5)), unit_of("12")
        ('%', '')
    """
    return text.partition(THIN)[2]


def typeset(text: str) -> str:
    """Plain text with the marks of good typography: true minus signs, thin spaces, curly quotes.

    Example:
        >>> typeset("l2 = 1e-05: -1.26 points (95 % CI), it's").replace(THIN, "_").replace(NBSP, "_")
        'l2_=_1e-5: \u22121.26_points (95_%_CI), it\u2019s'
    """
    text = re.sub(r"(?<=\de-)0+(?=\d)", "", text)
    text = re.sub(r"(?<![\w.])-(?=\d)", MINUS, text)
    text = re.sub(r"(?<=\d) (?=%|dB\b)", THIN, text)
    text = re.sub(r"(?<=\d) (?=points\b)|(?<=%) (?=CI\b)", NBSP, text)
    text = re.sub(r"(?<=\w) ([=<]) (?=[\d\u2212])", rf"{NBSP}\1{NBSP}", text)
    return re.sub(r"(?<!\.)\.\.(?!\.)", ".", text).replace("'", "\u2019")


def replicates(n: int) -> str:
    """The n behind a number.

    Example:
        >>> replicates(5).replace(NBSP, " ")
        'n = 5'
    """
    return f"n{NBSP}={NBSP}{n:,}"


def score_text(score: ScoreView | None, write: Writer) -> str:
    """A score in a sentence: mean, interval and n.

    Example:
        >>> text = score_text(ScoreView(0.98, 5, 0.001, (0.979, 0.981)), percent)
        >>> text.replace(THIN, " ").replace(NBSP, " ")
        '98.00 % (95 % CI 97.90 to 98.10 %, n = 5)'
    """
    if score is None:
        return "no number"
    if score.interval is None:
        return f"{write(score.mean)} ({replicates(score.n)})"
    over = " over images" if score.over == "images" else ""
    span = interval(*score.interval, write)
    return f"{write(score.mean)} (95{THIN}%{NBSP}CI{over} {span}, {replicates(score.n)})"


MEASURES: dict[str, tuple[str, Writer]] = {
    "test_accuracy": ("Test accuracy", percent),
    "validation_accuracy": ("Validation accuracy", percent),
    "test_loss": ("Test loss", loss),
    "validation_loss": ("Validation loss", loss),
    "test_bce": ("Test BCE", loss),
    "validation_bce": ("Validation BCE", loss),
    "train_bce": ("Training BCE", loss),
    "test_psnr": ("Test PSNR", decibels),
    "validation_psnr": ("Validation PSNR", decibels),
    "parameters": ("Parameters", count),
}
"""What scores are called and how they are written, in the order of tables."""


def format_metric(name: str) -> tuple[str, Writer]:
    """The title of a score and how to write it; a name not known is taken as it is."""
    if name in MEASURES:
        return MEASURES[name]
    title = name.replace("_", " ").capitalize()
    rate = name.endswith(("accuracy", "tpr", "recall", "recognised", "share"))
    return title, percent if rate else loss if name.endswith(("loss", "bce")) else format_general

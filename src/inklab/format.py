"""Numbers to text, with one wording on every surface: terminal, sentences, report, figures.

Each function makes plain ASCII text, for terminals and files. For the report and figures `typeset` replaces
glyphs only (a true minus, no-break spaces), so both say the same.

    >>> format_metric(0.9714, "test_accuracy"), format_delta(-0.0031, "test_accuracy")
    ('97.14%', '-0.31 points')
"""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TypeVar

from inklab.metrics import Metric, get_metric
from inklab.usercode import is_user_code, short_name

NO_BREAK_SPACE = "\u00a0"
THIN_SPACE = "\u202f"
MINUS = "\u2212"
NOT_AVAILABLE = "\u2014"
"""Stands in a table where there is no number."""

MAX_GROUPED = 1e15
"""Larger numbers are written with an exponent."""

CONTROL_CHARACTERS = dict.fromkeys({*range(32), *range(127, 160), *range(0xD800, 0xE000)} - {9, 10}, "\ufffd")
"""Control characters that terminals interpret, and halves of characters."""

Key = TypeVar("Key", bound=str)


def printable(text: str) -> str:
    r"""Text that a terminal shows as it is, whatever names in files from elsewhere contain.

    Example:
        >>> printable("cat\x1b[2J")
        'cat\ufffd[2J'
    """
    return text.translate(CONTROL_CHARACTERS)


def typeset(text: str) -> str:
    """Plain text with the marks of good typography: true minus signs, no-break spaces, curly apostrophes.

    Applying it twice changes nothing more.

    Example:
        >>> text = typeset("l2 = 1e-5: -1.26 points (95% CI, n = 5), it's")
        >>> text.replace(NO_BREAK_SPACE, "_")
        'l2_=_1e-5: \u22121.26_points (95%_CI, n_=_5), it\u2019s'
        >>> typeset("15.12 dB").replace(THIN_SPACE, "_")
        '15.12_dB'
    """
    text = re.sub(r"(?<![\w.])-(?=\d)", MINUS, text)
    text = re.sub(r"(?<=\d) (?=(?:dB|s|min|h)\b)", THIN_SPACE, text)
    text = re.sub(r"(?<=\d) (?=points\b)|(?<=%) (?=CI\b)", NO_BREAK_SPACE, text)
    text = re.sub(rf"(?<=\w) ([=<]) (?=[\d{MINUS}])", rf"{NO_BREAK_SPACE}\1{NO_BREAK_SPACE}", text)
    return text.replace("'", "\u2019")


# ---------------------------------------------------------------- plain numbers


def format_number(value: float | int, digits: int = 4) -> str:
    """A number with some significant digits, without trailing zeros; thousands are grouped.

    Example:
        >>> [format_number(value) for value in (0.117513, 0.1, 15.123, 12345.6, 3e-5, -1e-300 * 1e-300)]
        ['0.1175', '0.1', '15.12', '12,346', '3e-5', '0']
    """
    return _group(value, f"{value:.{digits}g}")


def _group(value: float | int, text: str) -> str:
    """The text of a number as one types it, or from 1,000 to 1e15 in groups of three digits."""
    if abs(value) < MAX_GROUPED and (abs(value) >= 1000 or "e+" in text):
        return f"{value:,.0f}"
    return _without_minus_zero(_short_exponent(text))


def _short_exponent(text: str) -> str:
    """`1e-06` as one types it: `1e-6`."""
    return re.sub(r"e([+-])0*(\d)", lambda match: f"e{'-' if match[1] == '-' else ''}{match[2]}", text)


def _is_zero(text: str) -> bool:
    return not any(digit in text for digit in "123456789")


def _without_minus_zero(text: str) -> str:
    return text.lstrip("+-") if _is_zero(text) else text


def format_count(value: float | int) -> str:
    """A whole number.

    Example:
        >>> format_count(1250926)
        '1,250,926'
    """
    return _without_minus_zero(f"{value:,.0f}")


def format_percent(share: float | int, decimals: int = 2) -> str:
    """A share as a percentage.

    Example:
        >>> format_percent(0.98143), format_percent(0.5, 0)
        ('98.14%', '50%')
    """
    return _without_minus_zero(f"{100 * share:,.{decimals}f}") + "%"


def format_duration(seconds: float | int) -> str:
    """A time span in the units that one would say.

    Example:
        >>> [format_duration(seconds) for seconds in (0, 0.42, 7.26, 42, 133, 7300)]
        ['0 s', '0.4 s', '7.3 s', '42 s', '2 min 13 s', '2 h 2 min']
    """
    seconds = max(0.0, seconds)
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s" if seconds else "0 s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


# ---------------------------------------------------------------- metrics


def format_metric(value: float | int, metric: Metric | str, *, unit: bool = True) -> str:
    """A value of a metric: shares as percentages with two decimals, losses with four digits.

    Losses keep trailing zeros and have four decimals from 0.01 to 1, so that columns align.

    Example:
        >>> format_metric(0.97842, "test_accuracy"), format_metric(0.117513, "test_bce")
        ('97.84%', '0.1175')
        >>> format_metric(0.089, "test_loss"), format_metric(15.1, "test_psnr")
        ('0.0890', '15.10 dB')
    """
    metric = _resolve(metric)
    return _magnitude(value, metric) + (_unit_suffix(metric) if unit else "")


def format_interval(interval: Sequence[float | int], metric: Metric | str, *, unit: bool = False) -> str:
    """An interval of a metric; the ends are clipped to what it can be, which Student's t may leave.

    Shares are in [0, 100], losses and distances are not below 0.

    Example:
        >>> format_interval((0.9696, 1.0048), "test_accuracy")
        '96.96 to 100.00'
        >>> format_interval((-0.02, 0.1), "test_loss")
        '0 to 0.1000'
        >>> format_interval((14.2, 15.5), "test_psnr", unit=True)
        '14.20 to 15.50 dB'
    """
    metric = _resolve(metric)
    low, high = (min(1.0, max(0.0, end)) for end in interval) if metric.is_share else interval
    if metric.is_nonnegative and high > 0:  # the loss of one's own objective may be negative throughout
        low = max(0.0, low)
    return f"{_magnitude(low, metric)} to {_magnitude(high, metric)}{_unit_suffix(metric) if unit else ''}"


def format_delta(value: float | int, metric: Metric | str, *, signed: bool = True, unit: bool = True) -> str:
    """A difference of two values of a metric, with a plus or minus if signed; of shares in percentage points.

    Example:
        >>> format_delta(0.0031, "recall"), format_delta(0.002, "test_bce", signed=False)
        ('+0.31 points', '0.002')
        >>> format_delta(-0.00001, "recall"), format_delta(0.5, "test_psnr")
        ('0.00 points', '+0.5 dB')
    """
    metric = _resolve(metric)
    text = _magnitude(value, metric) if metric.is_share or metric.is_count else format_number(value, 3)
    plus = "+" if signed and not text.startswith("-") and not _is_zero(text) else ""
    suffix = " points" if metric.is_share else _unit_suffix(metric)
    return f"{plus}{text}{suffix if unit else ''}"


def format_delta_interval(interval: Sequence[float | int], metric: Metric | str) -> str:
    """An interval of a difference, without its unit.

    Example:
        >>> format_delta_interval((0.001, 0.0052), "test_accuracy")
        '+0.10 to +0.52'
    """
    return " to ".join(format_delta(end, metric, unit=False) for end in interval)


def format_p(p: float | int, name: str = "p") -> str:
    """A p value with two digits, and a lowest value below which digits mean nothing; tables need no name.

    Example:
        >>> format_p(0.0314), format_p(1e-9), format_p(0.02, "adjusted p")
        ('p = 0.031', 'p < 0.001', 'adjusted p = 0.02')
        >>> format_p(0.0314, ""), format_p(1e-9, "")
        ('0.031', '< 0.001')
    """
    text = "< 0.001" if p < 0.001 else f"= {p:.2g}"
    return f"{name} {text}" if name else text.removeprefix("= ")


def _resolve(metric: Metric | str) -> Metric:
    return get_metric(metric) if isinstance(metric, str) else metric


def _magnitude(value: float | int, metric: Metric) -> str:
    """A value without its unit."""
    if metric.is_share:
        return _without_minus_zero(f"{100 * value:.2f}")
    if metric.is_count or not value:
        return format_count(value)
    return _group(value, f"{value:.4f}" if 0.01 <= abs(value) < 1 else f"{value:#.4g}".rstrip("."))


def _unit_suffix(metric: Metric) -> str:
    return metric.unit if metric.unit in ("", "%") else f" {metric.unit}"


# ---------------------------------------------------------------- settings


def format_value(value: object) -> str:
    """The value of a setting as one would type it: `1e-6` rather than `1e-06`.

    Example:
        >>> format_value(1e-06), format_value(0.001), format_value([500, 300]), format_value("adam")
        ('1e-6', '1e-3', '500-300', 'adam')
        >>> format_value(0.1), format_value(None), format_value(True), format_value({"shift": 2})
        ('0.1', 'none', 'true', 'shift = 2')
    """
    if isinstance(value, bool) or value is None:
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return "-".join(format_value(entry) for entry in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {format_value(entry)}" for key, entry in value.items())
    return _float_value(value) if isinstance(value, float) else str(value)


def _float_value(value: float | int) -> str:
    text = f"{value:g}" if abs(value) > 0.001 or not value else f"{value:.6e}"
    return _without_minus_zero(_short_exponent(re.sub(r"\.?0*e", "e", text)))


def format_setting(values: Mapping[str, object]) -> str:
    """A point of a grid: what is varied and to which value; empty where nothing is.

    Example:
        >>> format_setting({"l2": 1e-06, "learning_rate": 0.1})
        'l2 = 1e-6, learning_rate = 0.1'
    """
    return format_value(values)


# ---------------------------------------------------------------- words


def pluralize(count: int, noun: str, plural: str = "") -> str:
    """A number of things; the plural is given if it is not the noun with an s.

    Example:
        >>> pluralize(1, "replicate"), pluralize(10_000, "image"), pluralize(2, "class", "classes")
        ('1 replicate', '10,000 images', '2 classes')
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def join_words(words: Sequence[str]) -> str:
    """Words in a row.

    Example:
        >>> join_words([]), join_words(["a"]), join_words(["a", "b", "c"])
        ('', 'a', 'a, b and c')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def capitalize(text: str) -> str:
    """A text with a capital first letter, the rest as it is.

    Example:
        >>> capitalize("no input exceeds ReLU's")
        "No input exceeds ReLU's"
    """
    return text[:1].upper() + text[1:]


INITIALISMS = ("fgsm", "pgd")


def humanize(name: str) -> str:
    """A registered name as a word; of a user's own code the short name.

    Example:
        >>> humanize("salt_and_pepper"), humanize("pgd"), humanize("/home/me/my_noise.py:speckle")
        ('salt-and-pepper', 'PGD', 'my_noise.py:speckle')
    """
    if name in INITIALISMS:
        return name.upper()
    return short_name(name) if is_user_code(name) else name.replace("_", "-")


def format_span(ends: Sequence[float | int]) -> str:
    """The two ends of a range; one number if they are equal.

    Example:
        >>> format_span((0.0, 0.9)), format_span((0.5, 0.5))
        ('0 to 0.9', '0.5')
    """
    return " to ".join(f"{end:g}" for end in dict.fromkeys(ends))


def format_ranges(chosen: Sequence[float | int], candidates: Sequence[float | int]) -> str:
    """Which of a row of candidates were chosen; neighbors are drawn together.

    Example:
        >>> format_ranges([0.1, 0.2, 0.5], [0.0, 0.1, 0.2, 0.3, 0.5])
        '0.1 to 0.2 and 0.5'
    """
    runs = [list(run) for is_chosen, run in groupby(candidates, chosen.__contains__) if is_chosen]
    return join_words([format_span((run[0], run[-1])) for run in runs])


def format_outcomes(outcomes: Mapping[Key, int], noun: str = "trial", *, hide_complete: bool = False) -> str:
    """What became of trials or evaluations; "" if all are done and what is complete is hidden.

    Example:
        >>> format_outcomes({"done": 28, "diverged": 2}), format_outcomes({"waiting": 1})
        ('28 of 30 trials done, 2 diverged', '0 of 1 trial done, 1 waiting')
        >>> format_outcomes({"done": 3}), format_outcomes({"done": 3}, hide_complete=True)
        ('3 of 3 trials done', '')
    """
    others = [f"{count:,} {state}" for state, count in outcomes.items() if state != "done" and count]
    if hide_complete and not others:
        return ""
    total, done = sum(outcomes.values()), sum(n for state, n in outcomes.items() if state == "done")
    return ", ".join([f"{done:,} of {pluralize(total, noun)} done", *others])


def format_study(name: str, profile: str) -> str:
    """A study, and its profile if one was applied.

    Example:
        >>> format_study("digits", "quick"), format_study("mlp", "plain")
        ('study digits, profile quick', 'study mlp')
    """
    return f"study {name}" if profile == "plain" else f"study {name}, profile {profile}"

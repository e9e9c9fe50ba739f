"""Numbers in words: shares in per cent, their differences in points, always with interval and n."""

import re
from collections.abc import Sequence
from typing import Any

from inklab.statistics import ALPHA

Json = dict[str, Any]

SHARES = ("accuracy", "tpr", "recognised", "reconstructed", "recognised_test")
WORDS = {"bce": "BCE", "psnr": "PSNR", "tpr": "mean true-positive rate"}
UNITS = {"psnr": " dB"}


def format_value(value: Any) -> str:
    """A setting's value as one would type it: `1e-6` rather than `1e-06`.

    Example:
        >>> [format_value(each) for each in (1e-06, 0.001, [500, 300], "adam", 0.1, None)]
        ['1e-6', '1e-3', '500-300', 'adam', '0.1', 'none']
    """
    if isinstance(value, list | tuple):
        return "-".join(format_value(v) for v in value)
    if isinstance(value, float):
        text = f"{value:g}" if abs(value) > 0.001 or not value else f"{value:.6e}"
        return re.sub(r"\.?0*e([+-])0*(\d)", lambda m: f"e{'-' if m[1] == '-' else ''}{m[2]}", text)
    return "none" if value is None else str(value)


def is_share(name: str) -> bool:
    """Whether a score is a share in [0, 1], told in per cent."""
    return name.endswith(SHARES)


def metric_label(name: str) -> str:
    """A score's name in plain English.

    Example:
        >>> metric_label("test_accuracy"), metric_label("validation_bce")
        ('test accuracy', 'validation BCE')
    """
    return " ".join(WORDS.get(part, part) for part in name.split("_"))


def number(value: float | int, name: str) -> str:
    """One value of a score: a share in per cent, anything else in four digits.

    Example:
        >>> number(0.97842, "test_accuracy"), number(0.117513, "test_bce"), number(15.123, "test_psnr")
        ('97.84 %', '0.1175', '15.12 dB')
    """
    return f"{100 * value:.2f} %" if is_share(name) else f"{value:.4g}{UNITS.get(name.split('_')[-1], '')}"


def format_interval(interval: Sequence[float | int], name: str) -> str:
    """An interval's ends. Those of a share are told within 0 and 100, whatever few replicates make of t."""
    if is_share(name):
        low, high = (100 * min(1.0, max(0.0, end)) for end in interval)
        return f"{low:.2f} to {high:.2f}"
    return f"{interval[0]:.4g} to {interval[1]:.4g}"


def score_text(score: Json, name: str, images: str = "") -> str:
    """A score with how sure it is.

    Args:
        score: as in `results.json`.
        name: of the score, which decides on the unit.
        images: what a rate was measured on, such as "10,000 test images".

    Example:
        >>> score_text({"mean": 0.5, "n": 2, "ci95": [0.4, 0.6]}, "test_accuracy")
        '50.00 % (95 % CI 40.00 to 60.00 over 2 replicates)'
        >>> score_text({"mean": 0.1, "n": 3, "ci95": [0.1, 0.1], "values": [0.1, 0.1, 0.1]}, "test_loss")
        '0.1 (the same in all 3 replicates)'
    """
    if not score["n"]:
        return "no value yet"
    mean = number(score["mean"], name)
    if score["n"] > 1 and not has_zero_width(score):
        interval, over = format_interval(score["ci95"], name), pluralize(score["n"], "replicate")
        return f"{mean} (95 % CI {interval} over {over})"
    how = "one replicate" if score["n"] == 1 else f"the same in all {pluralize(score['n'], 'replicate')}"
    if score.get("ci95_images"):
        over = f"the {images}" if images else "the images"
        return f"{mean} ({how}; 95 % CI over {over} {format_interval(score['ci95_images'], name)})"
    return f"{mean} ({how})"


def has_zero_width(score: Json) -> bool:
    """Whether several replicates gave the very same score: Student's interval has no width then.

    It would claim to know the mean exactly, which a few equal numbers do not show.
    """
    return score["n"] > 1 and len(set(score.get("values") or ())) == 1


def best_interval(score: Json) -> Sequence[float | int] | None:
    """The interval over replicates where they differ, else the one over images if there is one."""
    return score.get("ci95_images") if score["n"] == 1 or has_zero_width(score) else score["ci95"]


def format_delta(value: float | int, name: str, *, signed: bool = True) -> str:
    """A difference of two scores: shares in percentage points.

    Example:
        >>> format_delta(0.0031, "tpr"), format_delta(-0.0031, "test_accuracy")
        ('+0.31 points', '-0.31 points')
        >>> format_delta(0.002, "test_bce", signed=False)
        '0.002'
    """
    sign = "+" if signed else ""
    return f"{100 * value:{sign}.2f} points" if is_share(name) else f"{value:{sign}.3g}{_unit(name)}"


def format_difference(difference: Json, name: str) -> str:
    """A difference with its interval, n and p (Holm's where it has one)."""
    mean = format_delta(difference["mean"], name)
    if difference["ci95"] is None:
        return f"{mean} ({pluralize(difference['n'], 'pair')}, no interval)"
    scale = 100 if is_share(name) else 1
    form = "+.2f" if is_share(name) else "+.3g"
    # Beside Holm's p stand Holm's bounds: an interval that excludes 0 exactly where p is below 0.05.
    adjusted = difference.get("p_holm") is not None and difference.get("lower") is not None
    ends = (difference["lower"], difference["upper"]) if adjusted else difference["ci95"]
    low, high = (format(scale * end, form) for end in ends)
    return f"{mean} ({'Holm-adjusted' if adjusted else '95 %'} CI {low} to {high}, {p_text(difference)})"


def p_text(difference: Json) -> str:
    """The p value, in words that say whether it is Holm's."""
    p = difference.get("p_holm")
    name, p = ("Holm p", p) if p is not None else ("p", difference["p"])
    return f"{name} < 0.001" if p < 0.001 else f"{name} = {p:.2g}"


def is_significant(difference: Json) -> bool:
    """Whether a difference is shown at 5 %, after Holm where it belongs to a family."""
    p = difference["p_holm"] if difference.get("p_holm") is not None else difference["p"]
    return p is not None and p < ALPHA


def pluralize(n: int, thing: str) -> str:
    """A number of things.

    Example:
        >>> pluralize(1, "replicate"), pluralize(10_000, "image")
        ('1 replicate', '10,000 images')
    """
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def join_words(things: Sequence[str]) -> str:
    """Things in a row.

    Example:
        >>> join_words(["a"]), join_words(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    return " and ".join([", ".join(things[:-1]), things[-1]] if len(things) > 1 else things)


def format_ranges(chosen: Sequence[float | int], all_of: Sequence[float | int]) -> str:
    """Which of a row of values were chosen, neighbours drawn together.

    Example:
        >>> format_ranges([0.1, 0.2, 0.5], [0.0, 0.1, 0.2, 0.3, 0.5])
        '0.1 to 0.2 and 0.5'
    """
    runs: list[list[float]] = []
    last = False
    for value in all_of:
        now = value in chosen
        if now and last:
            runs[-1].append(value)
        elif now:
            runs.append([value])
        last = now
    return join_words([f"{run[0]:g}" if len(run) == 1 else f"{run[0]:g} to {run[-1]:g}" for run in runs])


def format_outcomes(outcomes: dict[str, int], thing: str = "trial") -> str:
    """What became of the trials where not all are done; nothing where all are.

    Example:
        >>> format_outcomes({"done": 28, "diverged": 2})
        '28 of 30 trials done, 2 diverged.'
    """
    rest = [f"{n} {state}" for state, n in outcomes.items() if state != "done"]
    total = sum(outcomes.values())
    return f"{outcomes.get('done', 0)} of {pluralize(total, thing)} done, {', '.join(rest)}." if rest else ""


def _unit(name: str) -> str:
    return UNITS.get(name.split("_")[-1], "")


def humanize(name: str) -> str:
    """A registered name as a word.

    Example:
        >>> humanize("salt_and_pepper")
        'salt-and-pepper'
    """
    return name.replace("_", "-")

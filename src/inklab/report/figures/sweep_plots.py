"""The error-bar figure: a score against a setting, every replicate, mean, interval and spread."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from inklab.report.figures.drawing import Figure, as_percent, plot, set_ylabel_horizontal
from inklab.report.figures.numerals import format_metric, interval, replicates
from inklab.report.figures.palette import PLACEHOLDER
from inklab.report.figures.result_access import ScoreView, chapter_results, is_number, read_score, slug
from inklab.results.phrases import format_value
from inklab.run import Json, RunData

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

MAX_DOTS = 100
"""Replicates drawn of one setting: more dots hide each other, and 20,000 of them make a drawing of 2 MB."""

PAIRS = (
    ("validation_accuracy", "test_accuracy"),
    ("validation_bce", "test_bce"),
    ("validation_loss", "test_loss"),
)


def sweep_figure(run: RunData, chapter: Json) -> Figure | None:
    """Validation and test scores of every setting of a sweep; `None` for a chapter with one setting."""
    settings = chapter_results(run, chapter["name"]).get("settings") or []
    vary = [str(key) for key in chapter.get("vary") or []]
    pair = next((pair for pair in PAIRS if any(read_score(one.get(pair[0])) for one in settings)), None)
    if len(settings) < 2 or not vary or pair is None:
        return None
    values = [one.get(vary[0]) if len(vary) == 1 else [one.get(key) for key in vary] for one in settings]
    scores = {part: [read_score(one.get(part)) for one in settings] for part in pair}
    name = f"{slug(chapter['name'])}-sweep"
    ns = sorted({score.n for found in scores.values() for score in found if score})
    rows = [
        (part, format_value(value), *_row(score))
        for part, found in scores.items()
        for value, score in zip(values, found, strict=True)
    ]
    return Figure(
        name=name,
        title=f"{format_metric(pair[0])[0].split()[1].capitalize()} against {', '.join(vary)}",
        caption=(
            f"Dots: {_dots_words(ns)}, spread sideways to be told apart. Line across: the mean of all. "
            "Thick bar: 95 % confidence interval of the mean (Student's t): how well the mean is known. "
            "Thin bar with caps: mean ± 1 standard "
            "deviation: how much one training differs from the next."
        ),
        alt=_alt(values, scores, vary),
        drawing=plot(name, lambda sheet: _draw(sheet, values, scores, ", ".join(vary)), 4.3),
        header=("score", ", ".join(vary), "mean", "sd", "n", "ci95_low", "ci95_high", "values"),
        rows=tuple(rows),
    )


def _dots_words(ns: list[int]) -> str:
    """Which replicates are drawn, and of how many."""
    n = replicates(ns[0]) if len(ns) == 1 else f"n from {ns[0]} to {ns[-1]}"
    if ns[-1] <= MAX_DOTS:
        return f"one a replicate ({n})"
    return f"replicates ({n}), of each setting at most {MAX_DOTS}, evenly from the lowest to the highest"


def subsample(values: Sequence[float], most: int) -> list[float]:
    """At most so many of some values, in the order in which they stand.

    Where there are more: evenly spaced in their order by size, from the lowest to the highest, so that what
    is left lies as all of them do.

    Example:
        >>> subsample([0.3, 0.1, 0.2], 3), subsample([0.5, 0.1, 0.4, 0.2, 0.3], 3)
        ([0.3, 0.1, 0.2], [0.5, 0.1, 0.3])
    """
    if len(values) <= most:
        return list(values)
    chosen = np.linspace(0, len(values) - 1, most).round().astype(int)
    places = np.sort(np.argsort(np.asarray(values), kind="stable")[chosen])
    return [values[place] for place in places]


def _row(score: ScoreView | None) -> tuple[Any, ...]:
    if score is None:
        return ("", "", 0, "", "", "")
    low, high = _of_the_mean(score) or ("", "")
    return (score.mean, score.sd, score.n, low, high, " ".join(map(repr, score.values)))


def _of_the_mean(score: ScoreView) -> tuple[float, float] | None:
    """Student's interval, which is what this figure shows; none where all replicates gave the same."""
    return score.interval if score.over == "replicates" else None


def _alt(values: list[Any], scores: dict[str, list[ScoreView | None]], vary: list[str]) -> str:
    parts = []
    for part, found in scores.items():
        title, write = format_metric(part)
        said = [
            f"{format_value(value)}: {write(score.mean)}"
            + (f" ({interval(*span, write)})" if (span := _of_the_mean(score)) else "")
            for value, score in zip(values, found, strict=True)
            if score
        ]
        parts.append(f"{title} by {', '.join(vary)}: {'; '.join(said)}.")
    return "Error-bar chart. " + " ".join(parts)


def x_positions(values: list[Any]) -> tuple[np.ndarray, bool]:
    """Where settings stand on the axis, and whether it is a logarithmic one (as powers of ten).

    Positive numbers that span more than a factor of 20 go on a log axis; everything else side by side.

    Example:
        >>> x_positions([0.001, 0.1])[1], x_positions([1, 2])[1], x_positions(["sgd", "adam"])[1]
        (True, False, False)
    """
    if all(is_number(v) and v > 0 for v in values) and max(values) / min(values) > 20:
        return np.log10(np.array(values, float)), True
    return np.arange(len(values), dtype=float), False


def _draw(sheet: "Sheet", values: list[Any], scores: dict[str, list[ScoreView | None]], label: str) -> None:
    places, log = x_positions(values)
    room = float(np.min(np.diff(np.sort(places)))) if len(np.unique(places)) == len(places) else 0.5
    panels = sheet.subplots(len(scores), 1, sharex=True)
    for axes, (part, found) in zip(panels, scores.items(), strict=True):
        title, _ = format_metric(part)
        for place, score in zip(places, found, strict=True):
            if score is not None:
                _one(axes, float(place), score, room)
        set_ylabel_horizontal(axes, title)
        axes.set_xticks(places, [format_value(value) for value in values])
        axes.grid(visible=False, axis="x")
        axes.set_xlim(places.min() - 0.6 * room, places.max() + 0.6 * room)
        if part.endswith("accuracy"):
            as_percent(axes.yaxis)
    panels[-1].set_xlabel(f"{label} (log scale)" if log else label)
    _legend(sheet)


def _one(axes: "Axes", place: float, score: ScoreView, room: float) -> None:
    ink = PLACEHOLDER["ink"]
    shown = subsample(score.values, MAX_DOTS)
    spread = np.linspace(-0.1, 0.1, max(2, len(shown)))
    # by number of the replicate, not by value, so that no pattern appears; 7 is coprime to the usual counts
    order = [(7 * i) % len(shown) for i in range(len(shown))]
    sideways = spread[order] if len(order) > 1 else np.zeros(len(order))
    dots: Any = {"color": PLACEHOLDER["c1"], "alpha": 0.6, "markersize": 3, "markeredgewidth": 0}
    axes.plot(place + (sideways - 0.2) * room, shown, "o", **dots)
    if span := _of_the_mean(score):
        axes.plot([place] * 2, span, color=PLACEHOLDER["c2"], linewidth=6, solid_capstyle="butt")
    axes.plot([place - 0.09 * room, place + 0.09 * room], [score.mean] * 2, color=ink, linewidth=1.4)
    if score.sd:
        axes.errorbar(
            place + 0.2 * room, score.mean, yerr=score.sd, color=PLACEHOLDER["muted"], linewidth=1, capsize=3
        )


def _legend(sheet: "Sheet") -> None:
    from matplotlib.lines import Line2D

    shown = [
        Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            color=PLACEHOLDER["c1"],
            alpha=0.55,
            label="one replicate",
            markersize=3,
        ),
        Line2D([], [], linewidth=1.4, color=PLACEHOLDER["ink"], label="mean"),
        Line2D(
            [], [], linewidth=6, color=PLACEHOLDER["c2"], label="95 % CI of the mean", solid_capstyle="butt"
        ),
        Line2D([], [], linewidth=0.9, color=PLACEHOLDER["muted"], label="± 1 SD", marker="|", markersize=6),
    ]
    sheet.legend(handles=shown, loc="outside upper left", ncols=4)

"""Tables, and those of a training chapter: scores, comparisons, layers, what others measured."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inklab.report.figures.numerals import (
    ABSENT,
    THIN,
    Writer,
    count,
    format_metric,
    interval,
    p_value,
    points,
    score_text,
)
from inklab.report.figures.result_access import (
    ScoreView,
    chapter_results,
    outcomes_of,
    read_score,
    settings_of,
)
from inklab.results.phrases import format_value
from inklab.run import Json, RunData


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        caption: what it shows and how to read it.
        head: one title a column; the first names the rows.
        rows: text, one a column.
        words: columns that hold words rather than numbers, besides the first.
        strong: rows to be stressed.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[int] = frozenset()
    strong: frozenset[int] = frozenset()


def cells(score: ScoreView | None, write: Writer) -> list[str]:
    """A score as four cells: mean, 95 % interval, SD, n."""
    if score is None:
        return [ABSENT] * 4
    span = interval(*score.interval, write) if score.interval else ABSENT
    star = "*" if score.over == "images" else ""
    return [write(score.mean), span + star, write(score.sd) if score.sd is not None else ABSENT, str(score.n)]


def without_units(row: Sequence[str]) -> list[str]:
    """Cells without their units, for columns whose title names it."""
    return [re.sub(rf"{THIN}(%|dB)", "", cell) for cell in row]


def short_cell(score: ScoreView | None, write: Writer, *, below: bool = False) -> str:
    """A score as one cell: mean and interval, starred where all replicates gave the same.

    The interval stands beside the mean, or on a line below it.
    """
    if score is None:
        return ABSENT
    star = "*" if score.equal else ""
    apart = "\n" if below else " "
    between = f"{apart}({interval(*score.interval, write)})" if score.interval else ""
    return write(score.mean) + between + star


def mark_best(scores: Sequence[ScoreView | None]) -> str:
    """The note below a table that says what a star means; nothing without one."""
    over = [score for score in scores if score is not None and score.over == "images"]
    why = ["there is one replicate only"] if any(score.n == 1 for score in over) else []
    why += ["all replicates gave the same"] if any(score.equal for score in over) else []
    note = f" * Over test or validation images (Wilson), for {' or '.join(why)}." if why else ""
    return note + (" No interval where all replicates gave the same number." if _without(scores) else "")


def interval_basis(scores: Sequence[ScoreView | None], images: str = "test images") -> str:
    """The note below a table whose cells are `short_cell`; nothing without a star."""
    if not any(score is not None and score.equal for score in scores):
        return ""
    return f" * All replicates gave the same, so the interval is over {images} (Wilson), if there is one."


def _without(scores: Sequence[ScoreView | None]) -> bool:
    return any(score is not None and score.equal and not score.interval for score in scores)


def train_tables(run: RunData, chapter: Json) -> list[Table]:
    """Every table of a training chapter that has something in it."""
    results = chapter_results(run, chapter["name"])
    several = bool(results.get("settings"))
    scores = (
        [settings_table(chapter, results), *comparisons_tables(chapter, results)]
        if several
        else [scores_table(results)]
    )
    made = [*scores, reference_table(chapter, results), layer_rows(run, chapter)]
    return [table for table in made if table is not None and table.rows]


def scores_table(results: Json) -> Table:
    """All scores of a chapter with one setting."""
    from inklab.report.figures.numerals import MEASURES

    found = {key: read_score(results.get(key)) for key in MEASURES if isinstance(results.get(key), dict)}
    scores = {key: score for key, score in found.items() if score}
    over = ", one replicate." if all(score.n == 1 for score in scores.values()) else "."
    if any(score.over == "replicates" for score in scores.values()):
        over = ". 95 % CI: confidence interval of the mean over replicates (Student’s t)."
    return Table(
        caption=f"Scores after the last epoch{over}{mark_best(list(scores.values()))}",
        head=("ScoreView", "Mean", "95 % CI", "SD", "n"),
        rows=[[format_metric(key)[0], *cells(score, format_metric(key)[1])] for key, score in scores.items()],
    )


def settings_table(chapter: Json, results: Json) -> Table:
    """One row a setting: its trials, validation and test score."""
    keys = (
        ("validation_accuracy", "test_accuracy")
        if _has(results, "test_accuracy")
        else ("validation_bce", "test_bce")
    )
    vary = [str(key) for key in chapter.get("vary") or []]
    rows, strong, scores = [], set(), []
    for index, one in enumerate(results["settings"]):
        pair = [read_score(one.get(key)) for key in keys]
        scores += pair
        text = [
            cell
            for score, key in zip(pair, keys, strict=True)
            for cell in cells(score, format_metric(key)[1])[:3]
        ]
        rows.append(
            [
                ", ".join(format_value(one.get(key)) for key in vary),
                outcomes_text(one.get("outcomes") or {}),
                *without_units(text),
            ]
        )
        if _value(one, vary) == results.get("best"):
            strong.add(index)
    unit = ", %" if keys[0].endswith("accuracy") else ""
    titles = [title for key in keys for title in (format_metric(key)[0] + unit, "95 % CI", "SD")]
    best = f" Stressed: the best by {format_metric(keys[0])[0].lower()}." if strong else ""
    return Table(
        caption=f"Every setting; means over the trials that are done.{best}{mark_best(scores)}",
        head=(", ".join(vary), "Trials", *titles),
        rows=rows,
        words=frozenset({1}),
        strong=frozenset(strong),
    )


def _has(results: Json, key: str) -> bool:
    return any(read_score(one.get(key)) for one in results.get("settings") or [])


def _value(one: Json, vary: list[str]) -> Any:
    return one.get(vary[0]) if len(vary) == 1 else {key: one.get(key) for key in vary}


def comparisons_tables(chapter: Json, results: Json) -> list[Table]:
    """Each setting against the best by validation, paired by replicate, Holm-adjusted."""
    vary = [str(key) for key in chapter.get("vary") or []]
    compared = [one for one in results.get("comparisons") or [] if isinstance(one.get("difference"), dict)]
    if not compared:
        return []
    name = str(compared[0].get("score") or "test_accuracy")
    rate = name.endswith("accuracy")
    write: Writer = points if rate else format_metric(name)[1]
    unit = ", in percentage points" if rate else ""
    rows = []
    for one in compared:
        gap = one["difference"]
        rows.append([", ".join(format_value(one.get(key)) for key in vary), *difference_cells(gap, write)])
    return [
        Table(
            caption=(
                f"{format_metric(name)[0]} of each setting less that of the best "
                f"({plain_value(compared[0].get('against'))}), paired by "
                f"replicate{unit}. p: two-sided t test; Holm: adjusted for all comparisons of the table. "
                "Smallest visible: the "
                "true difference that this experiment would find four times out of five."
            ),
            head=(", ".join(vary), "Difference", "95 % CI", "p", "p (Holm)", "Smallest visible", "n"),
            rows=rows,
        )
    ]


def plain_value(value: Any) -> str:
    """The value of a setting, or of several varied together.

    Example:
        >>> plain_value(1e-5), plain_value({"l2": 1e-5, "rate": 0.1})
        ('1e-5', 'l2 = 1e-5, rate = 0.1')
    """
    return (
        ", ".join(f"{k} = {format_value(v)}" for k, v in value.items())
        if isinstance(value, dict)
        else format_value(value)
    )


def difference_cells(gap: Json, write: Writer) -> list[str]:
    """A paired difference as six cells: mean, interval, p, adjusted p, smallest visible, n."""
    span = gap.get("ci95")
    visible = gap.get("smallest_visible")
    return [
        write(gap["mean"]) if gap.get("mean") is not None else ABSENT,
        interval(span[0], span[1], write) if span else ABSENT,
        p_value(gap["p"]) if gap.get("p") is not None else ABSENT,
        p_value(gap["p_holm"]) if gap.get("p_holm") is not None else ABSENT,
        write(visible).removeprefix("+") if visible is not None else ABSENT,
        str(gap.get("n") or ABSENT),
    ]


def layer_rows(run: RunData, chapter: Json) -> Table | None:
    """The layers of the network, as replicate 0 of the first setting counted them."""
    trials = [trial for one in settings_of(chapter) for trial in one.get("trials") or []]
    layers = next(
        (found["layers"] for trial in trials if (found := run.outcome(trial) or {}).get("layers")), None
    )
    if not layers:
        return None
    rows = [
        [
            str(one.get("layer", "")),
            str(one.get("kind", "")),
            str(one.get("activation") or ABSENT),
            " × ".join(str(size) for size in one.get("output") or []),
            count(one.get("parameters") or 0),
            count(one.get("multiply_adds") or 0),
        ]
        for one in layers
    ]
    sums = [count(sum(one.get(key) or 0 for one in layers)) for key in ("parameters", "multiply_adds")]
    return Table(
        caption="Layers of the network. Output shape and multiply-adds are for one image.",
        head=("Layer", "Kind", "Activation", "Output", "Parameters", "Multiply-adds"),
        rows=[*rows, ["Sum", "", "", "", *sums]],
        words=frozenset({1, 2}),
        strong=frozenset({len(rows)}),
    )


def reference_table(chapter: Json, results: Json) -> Table | None:
    """What others measured beside what was measured here, and what differs."""
    reference = chapter.get("reference") or {}
    others = [one for one in (reference, *(reference.get("also") or [])) if one.get("values")]
    rows = []
    for one in others:
        for key, value in one["values"].items():
            title, write = format_metric(key)
            ours = (
                score_text(score, write)
                if key != "parameters" and (score := read_score(results.get(key)))
                else None
            )
            if key == "parameters" and results.get(key):
                ours = count(results[key])
            theirs = write(value) if isinstance(value, int | float) else str(value)
            rows.append(
                [title, theirs, ours or ABSENT, str(one.get("who") or ""), str(one.get("differs") or "")]
            )
    return Table(
        caption="What others report, beside what was measured here.",
        head=("ScoreView", "Theirs", "Ours", "Who", "What differs"),
        rows=rows,
        words=frozenset({2, 3, 4}),
    )


def remarks(chapter: Json) -> list[str]:
    """What others reported without a number that could stand in a table.

    Example:
        >>> remarks({"reference": {"who": "the source", "values": {}, "differs": "it saw no gain"}})
        ['The source: it saw no gain.']
    """
    reference = chapter.get("reference") or {}
    others = [reference, *(reference.get("also") or [])]
    told = [one for one in others if one.get("differs") and not one.get("values")]
    return [
        f"{sentence_case(str(one.get('who') or 'others'))}: {str(one['differs']).rstrip('.')}."
        for one in told
    ]


def sentence_case(text: str) -> str:
    """A text that begins with a capital.

    Example:
        >>> sentence_case("no input exceeds 0.004")
        'No input exceeds 0.004'
    """
    return text[:1].upper() + text[1:]


def outcomes_text(outcomes: Json) -> str:
    """How many trials came to what.

    Example:
        >>> outcomes_text({"done": 28, "diverged": 2}), outcomes_text({"waiting": 2})
        ('28 of 30, 2 diverged', '0 of 2, 2 waiting')
    """
    total = sum(outcomes.values())
    rest = [f"{n} {state}" for state, n in outcomes.items() if state != "done" and n]
    return ", ".join([f"{outcomes.get('done', 0)} of {total}", *rest]) if total else "none"


def failures(run: RunData, chapter: Json) -> list[str]:
    """Each trial of a chapter that came to nothing, with its reason."""
    told = []
    for setting in settings_of(chapter):
        for outcome in outcomes_of(run, setting.get("trials") or []):
            if outcome.get("state") != "done":
                values = plain_value(setting["values"]) if setting.get("values") else ""
                where = f"{values}, replicate" if values else "Replicate"
                reason = outcome.get("reason") or "no reason is known"
                told.append(f"{where} {outcome.get('replicate')}: {outcome.get('state')}; {reason}.")
    return told

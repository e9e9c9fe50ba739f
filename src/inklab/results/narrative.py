"""Sentences computed from the numbers: what was asked, what came out, how sure."""

from collections.abc import Callable, Sequence
from math import isclose
from typing import Any

import numpy as np

from inklab.results.phrases import (
    best_interval,
    format_delta,
    format_difference,
    format_interval,
    format_outcomes,
    format_ranges,
    format_value,
    has_zero_width,
    humanize,
    is_significant,
    join_words,
    metric_label,
    number,
    pluralize,
    score_text,
)
from inklab.statistics import prediction_interval

Json = dict[str, Any]

Strengths = list[float | int]

SentenceFn = Callable[[Json, Json], list[str]]
"""From a chapter of the plan and the same chapter of the results to sentences."""

REPORTED_METRICS = ("test_accuracy", "test_loss", "test_bce", "test_psnr")
"""The scores of a training that are told, where it has them."""


def findings(results: Json, plan: Json) -> list[str]:
    """One finding a chapter, and last how to read the intervals.

    Args:
        results: as `summarize` makes them; its own findings are not looked at.
        plan: `plan.json`.

    Returns:
        For each chapter with numbers `NAME: QUESTION ANSWER`, in the order of the plan; the answer is short,
        what leads to it stands in the chapter (`sentence`).
    """
    told = []
    for chapter in plan["chapters"]:
        answer = _told(_SHORT, chapter, results["chapters"].get(chapter["name"]) or {})
        if answer:
            question = (chapter.get("question") or "").strip()
            told.append(f"{chapter['name']}: {question + ' ' if question else ''}{answer}")
    how = "Settings were chosen on the validation images; the test images only report. "
    how += "An interval over replicates says what training again would give, one over images what other "
    return [*told, how + "images would; failed trials are counted and never averaged in."]


def sentence(chapter: Json, told: Json | list[str]) -> str:
    """What came out of one chapter, in plain English; empty for a chapter without numbers.

    Args:
        chapter: the chapter of `plan.json`.
        told: the same chapter of `results.json`; the list of findings tells nothing by itself.
    """
    return _told(_LONG, chapter, told)


def _told(tell: dict[str, SentenceFn], chapter: Json, told: Json | list[str]) -> str:
    kind = "sweep" if chapter.get("vary") else chapter["kind"]
    if not isinstance(told, dict) or not told or kind not in tell:
        return ""
    return " ".join(part for part in tell[kind](chapter, told) if part)


def _data(chapter: Json, told: Json) -> list[str]:
    classes = told["classes"]
    parts = [f"{told[part]:,} for {name}" for part, name in _SPLIT.items()]
    shares = [count / max(1, told["train"]) for count in classes["train"]]
    least, most = (f"{100 * end(shares):.1f}" for end in (min, max))
    held = f"each holds {most} %" if least == most else f"a class holds {least} to {most} %"
    balance = f"{held} of the training images"
    sizes = f"{told['source']} has {join_words(parts)}, in {len(classes['labels'])} classes; "
    return [sizes + balance + ".", f"{told['note'].rstrip('.')}." if told.get("note") else ""]


_SPLIT = {"train": "training", "validation": "validation", "test": "testing"}


def _train(chapter: Json, told: Json) -> list[str]:
    scores = _scores(told, told)
    size = f"; {told['parameters']:,} parameters" if told["parameters"] else ""
    first = f"{_capital(scores)}{size}." if scores else ""
    return [format_outcomes(told["outcomes"]), first, *_references(chapter, told), _verdicts(told)]


def _train_shortly(chapter: Json, told: Json) -> list[str]:
    """The first score, the first reference, and the names of the verdicts."""
    scores = next(iter(_score_list(told, told)), "")
    first = f"{_capital(scores)}." if scores else ""
    return [format_outcomes(told["outcomes"]), first, *_references(chapter, told)[:1], _verdicts(told)]


def _settings(chapter: Json, told: Json) -> list[str]:
    """The best setting by validation, and every other one compared with it in pairs."""
    states = format_outcomes(told["outcomes"])
    best = next((each for each in told["settings"] if _names(each, told["vary"]) == told["best"]), None)
    if best is None:
        return [states, "Nothing can be chosen yet: no setting has a validation score."]
    chosen = _named(best, told["vary"])
    by = next(name for name in ("validation_accuracy", "validation_bce") if name in best)
    first = f"By {metric_label(by)} the best is {chosen}: {score_text(best[by], by, _on(told, by))}"
    first += f"; {_scores(best, told)}." if _scores(best, told) else "."
    compared = _compared(told["comparisons"], told["vary"], chosen)
    return [states, first, *compared, *_references(chapter, best | {"test_images": told["test_images"]})]


def _compared(comparisons: Sequence[Json], vary: Sequence[str], chosen: str) -> list[str]:
    """Differences that are shown, one by one; then those that are not, with what would have been seen."""
    told = []
    for each in comparisons:
        if is_significant(each["difference"]):
            change = format_difference(each["difference"], each["score"])
            told.append(
                f"{_named(each, vary)} differs from {chosen} in {metric_label(each['score'])} by {change}."
            )
    unseen = [
        each for each in comparisons if each["difference"]["n"] and not is_significant(each["difference"])
    ]
    if not unseen:
        return told
    names, name = join_words([_named(each, vary) for each in unseen]), unseen[0]["score"]
    visible = [each["difference"]["smallest_visible"] for each in unseen]
    seen = [size for size in visible if size is not None]
    power = "; the spread is unknown, so neither is what would have been seen"
    if len(seen) == len(visible):
        size = format_delta(max(seen), name, signed=False)
        power = f"; a difference of at least {size} would have been seen (with power 0.8)"
    return [*told, f"No difference in {metric_label(name)} is shown between {chosen} and {names}{power}."]


def _noise(chapter: Json, told: Json) -> list[str]:
    alone, strengths = told["pipelines"][told["alone"]]["tpr"], told["strengths"]
    parts = [format_outcomes(told["outcomes"], "evaluation")]
    if not alone or not alone[0]["n"]:
        return parts
    first = f"The {metric_label('tpr')} of {told['alone']} alone is "
    first += f"{score_text(alone[0], 'tpr', pluralize(told['images'], 'test image'))} at strength "
    first += f"{strengths[0]:g} of {humanize(told['corruption'])}, and {number(alone[-1]['mean'], 'tpr')} at "
    parts += [first + f"{strengths[-1]:g}.", _best_by_strength(told)]
    main = told["helps_by"]["pipeline"] if told["helps_by"] else None
    ordered = sorted(told["comparisons"], key=lambda each: each["pipeline"] != main)
    return parts + [_helps(each, strengths, told["images"]) for each in ordered if each["differences"]]


def _helps(comparison: Json, strengths: Sequence[float | int], images: int) -> str:
    """Where a pipeline is better than the classifier alone, by how much at best, its price when clean."""
    rows, name = comparison["differences"], comparison["pipeline"]
    alone, over = f"{comparison['against']} alone", pluralize(len(comparison["replicates"]), "replicate")
    how = f"over {over}" if comparison["over"] == "replicates" else f"over {images:,} test images, {over}"
    if comparison["helps_from"] is None:
        text = f"{name} is not shown to be better than {alone} at any strength ({how})"
    else:
        best = max((row for row in rows if row["strength"] in comparison["helps_at"]), key=_mean)
        start = f"{comparison['helps_from']:g}"
        text = f"{name} is shown to be better than {alone} from strength {start} on ({how}; "
        text += f"Holm-adjusted; at {format_ranges(comparison['helps_at'], strengths)}), most of all at "
        text += f"{best['strength']:g}: "
        text += format_difference(best, "tpr")
        text += _crossing(rows, comparison["helps_from"])
    if set(comparison["hurts_at"]) - {strengths[0]}:
        text += f"; it is worse at {format_ranges(comparison['hurts_at'], strengths)}"
    return f"{text}; at strength {strengths[0]:g} {_cost_when_clean(rows[0])}."


def _crossing(rows: Sequence[Json], helps_from: float | int) -> str:
    """From where on the means are better, if that is before it is shown: few replicates show little."""
    worse = [row["strength"] for row in rows if row["mean"] <= 0 and row["strength"] < helps_from]
    better = [row["strength"] for row in rows if row["strength"] > max(worse, default=-1.0)]
    return f"; the means are better from {better[0]:g} on" if better and better[0] < helps_from else ""


def _noise_shortly(chapter: Json, told: Json) -> list[str]:
    """What the chapter asks: where cleaning helps."""
    main = told["helps_by"]["pipeline"] if told["helps_by"] else None
    chosen = [each for each in told["comparisons"] if each["pipeline"] == main] or told["comparisons"][:1]
    told_of = [_helps(each, told["strengths"], told["images"]) for each in chosen if each["differences"]]
    return [format_outcomes(told["outcomes"], "evaluation"), *told_of, _best_by_strength(told)]


def _best_by_strength(told: Json) -> str:
    """Which pipeline has the highest mean at which strengths, and where it is shown to beat the one alone."""
    curves = {name: each["tpr"] for name, each in told["pipelines"].items() if each["replicates"]}
    if len(curves) < 2:
        return ""
    led, equal_at, chance_at = _led(told, curves)
    parts: list[str] = []
    for name in sorted((name for name in led if led[name]), key=lambda name: -len(led[name])):
        where = f"{format_ranges(led[name], told['strengths'])}{_helps_above(told, name, led[name])}"
        if parts:
            parts.append(f"{name} at {len(led[name])} ({where})")
        else:
            of = pluralize(len(told["strengths"]), "strength")
            parts.append(
                f"{name} has the highest {metric_label('tpr')} at {len(led[name])} of {of} ({where})"
            )
    parts += [f"several are equal at {format_ranges(equal_at, told['strengths'])}"] if equal_at else []
    parts += (
        [f"none is shown to be above chance at {format_ranges(chance_at, told['strengths'])}"]
        if chance_at
        else []
    )
    return f"By the means, {', '.join(parts)}; leads over the second best are not tested."


def _helps_above(told: Json, name: str, led: Sequence[float | int]) -> str:
    """At which of the strengths that it leads a pipeline is shown to beat the classifier alone."""
    if name == told["alone"]:
        return ""
    helps = [at for each in told["comparisons"] if each["pipeline"] == name for at in each["helps_at"]]
    above = [strength for strength in led if strength in helps]
    where = f"at {format_ranges(above, told['strengths'])}" if above else "nowhere"
    return f"; shown to be above {told['alone']} alone {'everywhere there' if above == led else where}"


def _led(told: Json, curves: dict[str, list[Json]]) -> tuple[dict[str, Strengths], Strengths, Strengths]:
    """Pipeline -> strengths at which it alone has the highest mean; where several have; where luck would do.

    Guessing has a mean true-positive rate of 1 / classes: a strength counts for nobody where the interval of
    the best reaches down to that.
    """
    led: dict[str, Strengths] = {name: [] for name in curves}
    equal_at: Strengths = []
    chance_at: Strengths = []
    for place, strength in enumerate(told["strengths"]):
        best = max((each[place] for each in curves.values()), key=_mean)
        first = [name for name, each in curves.items() if isclose(_mean(each[place]), _mean(best))]
        classes = len(told["pipelines"][first[0]]["tpr_per_class"][place])
        if (best_interval(best) or [_mean(best)])[0] <= 1 / classes:
            chance_at.append(strength)
        elif len(first) > 1:
            equal_at.append(strength)
        else:
            led[first[0]].append(strength)
    return led, equal_at, chance_at


def _cost_when_clean(row: Json) -> str:
    change = format_difference(row, "tpr")
    if not is_significant(row):
        return f"no difference is shown: {change}"
    return f"it {'costs' if row['mean'] < 0 else 'gains'} something: {change}"


def _generator(chapter: Json, told: Json) -> list[str]:
    """Which sampler the judge recognises most often, which lies nearest, and the floor."""
    parts = [format_outcomes(told["outcomes"], "evaluation")]
    rated = {name: each for name, each in told["samplers"].items() if each["recognised"]["n"]}
    if rated:
        ranked = sorted(rated, key=lambda name: -float(rated[name]["recognised"]["mean"]))
        first = score_text(rated[ranked[0]]["recognised"], "recognised", pluralize(told["samples"], "sample"))
        rest = [f"{name} {number(rated[name]['recognised']['mean'], 'recognised')}" for name in ranked[1:]]
        others = f"; {join_words(rest)}" if rest else ""
        parts.append(f"Of what {ranked[0]} draws {told['judge']} recognises most: {first}{others}.")
    near = {name: each["frechet"]["mean"] for name, each in rated.items() if each["frechet"]["n"]}
    if near:
        nearest = min(near, key=lambda name: float(near[name]))
        floor = f", beside a floor of {told['floor']['mean']:.4g}" if told["floor"]["n"] else ""
        parts.append(f"The smallest Fréchet distance is that of {nearest}, {near[nearest]:.4g}{floor}.")
    for name, what in _REAL.items():
        if told[name]["n"]:
            on = pluralize(told["test_images"], "test image")
            parts.append(f"Of {what} it recognises {score_text(told[name], name, on)}.")
    return parts


_REAL = {"recognised_test": "the test images themselves", "reconstructed": "their reconstructions"}


def _scores(scores: Json, told: Json) -> str:
    return "; ".join(_score_list(scores, told))


def _score_list(scores: Json, told: Json) -> list[str]:
    return [
        f"{metric_label(name)} {score_text(scores[name], name, _on(told, name))}"
        for name in REPORTED_METRICS
        if name in scores and scores[name]["n"]
    ]


def _references(chapter: Json, told: Json) -> list[str]:
    """What others measured, and on which side of what one run here would give it lies."""
    reference = chapter.get("reference") or {}
    sources = [reference, *reference.get("also", [])]
    texts = []
    for source in sources:
        parts = [_vs_reference(told, name, value) for name, value in (source.get("values") or {}).items()]
        parts = [part for part in parts if part]
        if parts:
            texts.append(f"{_capital(source['who'])}: {'; '.join(parts)}.")
    return texts


def _vs_reference(told: Json, name: str, value: float | int) -> str:
    if name == "parameters" and told.get("parameters"):
        same = "as here" if told["parameters"] == value else f"not {told['parameters']:,}"
        return f"{value:,} parameters, {same}"
    score = told.get(name)
    if not isinstance(score, dict) or not score.get("n"):
        return ""
    text = f"{metric_label(name)} {number(value, name)}"
    # Theirs is one run, so it is held against one more run of ours, not against the interval of our mean.
    interval = prediction_interval(np.array(score["values"], dtype=float))
    if interval is None:
        side = "above" if value > score["mean"] else "below" if value < score["mean"] else "equal to"
        return f"{text}, {side} the one run here"
    if has_zero_width(score):
        side = (
            "above"
            if value > max(score["values"])
            else "below"
            if value < min(score["values"])
            else "equal to"
        )
        return f"{text}, {side} every run here"
    side = "below" if value < interval[0] else "above" if value > interval[1] else "within"
    return f"{text}, {side} what one run here would give ({format_interval(interval, name)})"


def _verdicts(told: Json) -> str:
    """Their names; finding, evidence and advice stand in the report's callout and in `verdict_details`."""
    total = pluralize(sum(told["outcomes"].values()), "trial")
    seen = told.get("verdict_details", [])
    return " ".join(f"Verdict {each['name']} in {each['trials']} of {total}." for each in seen)


def _on(told: Json, name: str) -> str:
    part = name.split("_")[0]
    return pluralize(told[f"{part}_images"], f"{part} image") if told.get(f"{part}_images") else ""


def _names(setting: Json, vary: Sequence[str]) -> Any:
    return setting[vary[0]] if len(vary) == 1 else {key: setting[key] for key in vary}


def _named(setting: Json, vary: Sequence[str]) -> str:
    return ", ".join(f"{key} = {format_value(setting[key])}" for key in vary)


def _mean(row: Json) -> float:
    return float(row["mean"])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_LONG: dict[str, SentenceFn] = {
    "data": _data, "train": _train, "sweep": _settings, "noise": _noise, "generator": _generator
}  # fmt: skip
_SHORT: dict[str, SentenceFn] = _LONG | {"train": _train_shortly, "noise": _noise_shortly}

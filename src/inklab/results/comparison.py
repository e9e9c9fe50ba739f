"""Two settings of a run, compared replicate by replicate: what stands behind `inklab compare RUN A B`."""

import json
import re
from collections.abc import Mapping
from typing import Any

from inklab.errors import ConfigError, UnknownNameError
from inklab.results.experiment_summary import SCORES, Json, counts, less_is_better, paired, target_of
from inklab.results.phrases import (
    format_delta,
    format_difference,
    format_outcomes,
    format_value,
    is_significant,
    metric_label,
    pluralize,
)


def compare_settings(plan: Json, outcomes: Mapping[str, Json], a: str, b: str) -> Json:
    """How much one setting differs from another, in pairs of equal replicates.

    Args:
        plan: `plan.json`.
        outcomes: trial id -> `outcome.json`, as far as there.
        a: a chapter, such as "cnn", or one of its settings, such as "l2-sweep:l2=1e-5".
        b: what to compare it with.

    Returns:
        `{"a", "b", "outcomes": {name: counts}, "replicates": [...], "scores": {name: difference a - b},
        "better": {name: "a" | "b" | None}, "sentence"}`; "better" names the one whose lead is shown at 5 %.

    Raises:
        UnknownNameError: there is no such chapter or setting.
        ConfigError: a chapter trains nothing, has several settings and none is named, or the two are trained
            for different things.
    """
    first, second = find_setting(plan, a), find_setting(plan, b)
    target = target_of(first)
    if target != target_of(second):
        raise ConfigError(
            f"'{a}' gives {target} and '{b}' gives {target_of(second)}: they share no score. "
            "Compare two that give the same."
        )
    scores: Json = {}
    better: dict[str, str | None] = {}
    common: list[int] = []
    for name in sorted(SCORES[target], key=lambda each: not each.startswith("test")):
        difference, replicates = paired(first["trials"], second["trials"], outcomes, name)
        scores[name] = difference.to_json()
        better[name] = _better(scores[name], name)
        common = replicates or common
    told: Json = {"a": a, "b": b, "outcomes": {}, "replicates": common, "scores": scores, "better": better}
    for name, setting in ((a, first), (b, second)):
        told["outcomes"][name] = counts(setting["trials"], outcomes)
    return told | {"sentence": _sentence(told)}


def find_setting(plan: Json, name: str) -> Json:
    """The setting that `chapter` or `chapter:key=value[,key=value]` names.

    Raises:
        UnknownNameError: there is no such chapter or setting.
        ConfigError: the chapter trains nothing, or has several settings and none is named.
    """
    chapter_name, colon, wanted = name.partition(":")
    trained = {each["name"]: each for each in plan["chapters"] if each["kind"] == "train"}
    if chapter_name not in trained:
        kind = next((each["kind"] for each in plan["chapters"] if each["name"] == chapter_name), None)
        if kind is None:
            raise UnknownNameError("chapter", chapter_name, trained)
        raise ConfigError(
            f"'{chapter_name}' is a chapter of kind {kind}, which trains nothing; "
            f"compare two of: {', '.join(trained)}."
        )
    settings = trained[chapter_name]["settings"]
    known = {f"{chapter_name}:{_text(each['values'])}": each for each in settings if each["values"]}
    if colon:
        values = _read(wanted)
        matches = [each for each in settings if each["values"] and _equal(each["values"], values)]
        if not matches:
            raise UnknownNameError("setting", name, known or [chapter_name])
        return dict(matches[0])
    if len(settings) != 1:
        raise ConfigError(f"'{name}' has {len(settings)} settings; name one of: {', '.join(known)}.")
    return dict(settings[0])


def _text(values: Json) -> str:
    return ",".join(f"{key}={_plain(value)}" for key, value in values.items())


def _plain(value: Any) -> str:
    return format_value(value) if isinstance(value, str | float) else json.dumps(value)


def _read(wanted: str) -> dict[str, str]:
    """`a=1,b=[2,3]` as a dictionary of texts; a comma parts only where a name and `=` follow."""
    pairs = (part.partition("=") for part in re.split(r",(?=[\w.\-]+=)", wanted))
    return {key.strip(): value.strip() for key, _, value in pairs}


def _equal(values: Json, wanted: dict[str, str]) -> bool:
    return values.keys() == wanted.keys() and all(_same(values[key], wanted[key]) for key in values)


def _same(value: Any, text: str) -> bool:
    """Equal as JSON, so that 1e-5 and 0.00001 are one value; or as plain text."""
    try:
        return bool(json.loads(text) == value)
    except ValueError:
        return str(value) == text


def _better(difference: Json, name: str) -> str | None:
    if not is_significant(difference) or difference["mean"] == 0:
        return None
    return "a" if (difference["mean"] > 0) != less_is_better(name) else "b"


def _sentence(told: Json) -> str:
    """The comparison in plain English, on the test images' first score and then the validation's."""
    if not told["replicates"]:
        return f"'{told['a']}' and '{told['b']}' have no replicate that both have finished."
    parts = [
        f"{name}: {format_outcomes(states)}"
        for name, states in told["outcomes"].items()
        if format_outcomes(states)
    ]
    for name, difference in told["scores"].items():
        if difference["n"] and not name.endswith(("_loss", "_psnr")):
            parts.append(_line(told, name, difference))
    return " ".join(parts)


def _line(told: Json, name: str, difference: Json) -> str:
    better = told["better"][name]
    mean = format_difference(difference, name)
    pairs = pluralize(difference["n"], "pair")
    if better:
        other = "b" if better == "a" else "a"
        return f"{told[better]} has the better {metric_label(name)} than {told[other]}: {mean} over {pairs}."
    if difference["p"] is None:
        same = "one pair" if difference["n"] == 1 else "pairs that all differ by the same"
        less = f"{told['a']} less {told['b']}, {metric_label(name)}: {mean}"
        return f"{less}; {same} can't be tested, add replicates."
    between = f"between {told['a']} and {told['b']}: {mean} over {pairs}"
    text = f"No difference in {metric_label(name)} is shown {between}"
    visible = difference["smallest_visible"]
    if visible is None:
        return text + "."
    return (
        f"{text}; at least {format_delta(visible, name, signed=False)} would have been seen (with power 0.8)."
    )

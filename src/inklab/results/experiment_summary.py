"""What the outcomes of one chapter amount to: means, intervals, paired comparisons."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from math import isclose
from typing import Any

import numpy as np
from jaxtyping import Integer

from inklab.evaluation.samplers import REAL_DATA_BASELINE
from inklab.statistics import (
    ALPHA,
    Difference,
    Score,
    holm,
    holm_levels,
    paired_difference,
    paired_images_difference,
    score,
)
from inklab.training.objectives import objectives

Json = dict[str, Any]
Records = Mapping[str, Json]
"""Outcomes by id; those that are not there yet are waiting."""

WAITING = "waiting"


def counts(ids: Iterable[str], records: Records) -> dict[str, int]:
    """How many trials (or evaluations) there are in each state, those not there yet as "waiting".

    Example:
        >>> counts(["a", "b", "c"], {"a": {"state": "done"}, "c": {"state": "diverged"}})
        {'done': 1, 'diverged': 1, 'waiting': 1}
    """
    wanted = list(ids)
    return counts_of(wanted, {each: records[each]["state"] for each in wanted if each in records})


def counts_of(ids: Iterable[str], states: Mapping[str, str]) -> dict[str, int]:
    """The same from states by id, for whoever needs no more of an outcome.

    Example:
        >>> counts_of(["a", "b"], {"a": "done"})
        {'done': 1, 'waiting': 1}
    """
    found = Counter(states.get(each, WAITING) for each in ids)
    order = ("done", "diverged", "failed", "lost", WAITING)
    return {state: found[state] for state in order if found[state]}


def finished_outcomes(ids: Iterable[str], records: Records) -> list[Json]:
    """The outcomes that came to something, in the order of `ids`."""
    return [records[each] for each in ids if each in records and records[each]["state"] == "done"]


def aggregate(values: Iterable[float | int | None], images: int | None = None) -> Score:
    """The score of those values that are there; without a single image there is no interval over images."""
    return score([float(value) for value in values if value is not None], images=images or None)


def mean_vectors(vectors: Sequence[Sequence[float | int | None] | None]) -> list[float | None]:
    """Position by position the mean over those vectors that hold a number there.

    Example:
        >>> mean_vectors([[0.2, None], [0.4, None]])
        [0.30000000000000004, None]
    """
    present = [vector for vector in vectors if vector is not None]
    return [aggregate(column).mean for column in zip(*present, strict=True)]


def holm_adjust(differences: Sequence[Difference]) -> list[Json]:
    """A family of comparisons: each with Holm's adjusted p and the bounds at its step of Holm's procedure.

    Comparisons without a p value (one pair, or no spread) are no test and don't count in the family.

    Returns:
        `to_json()` of each with "p_holm", "lower" and "upper": lower > 0 or upper < 0 exactly where p_holm
        is below 0.05.
    """
    tested = [place for place, each in enumerate(differences) if each.p is not None]
    p_values = [float(differences[place].p or 0.0) for place in tested]
    adjusted = dict(zip(tested, zip(holm(p_values), holm_levels(p_values), strict=True), strict=True))
    told = []
    for place, difference in enumerate(differences):
        p_holm, level = adjusted.get(place, (None, ALPHA))
        lower, upper = difference.interval(1 - level) or (None, None)
        told.append(difference.to_json() | {"p_holm": p_holm, "lower": lower, "upper": upper})
    return told


def family_alpha(comparisons: int) -> float:
    """The level of Holm's strictest step, at which `smallest_visible` is asked for a whole family."""
    return ALPHA / max(1, comparisons)


Arrays = Callable[[str], dict[str, np.ndarray]]
"""Evaluation id -> the arrays that it left."""

MIN_REPLICATES = 3  # with two, t needs 12.7 standard errors at 95 %, and 267 at the first of 21 steps of Holm


def summarize_robustness(
    chapter: Json, evaluations: Records, arrays: Arrays, data: Json, denoisers: Sequence[str]
) -> Json:
    """The numbers of a chapter of kind "noise".

    Args:
        chapter: from `plan.json`.
        evaluations: evaluation id -> `outcome.json`.
        arrays: reads the arrays of a finished evaluation.
        data: the plan's "data".
        denoisers: names of what this study trains that gives back an image, and may stand in front.
    """
    read = lru_cache(maxsize=None)(arrays)
    told: Json = {"kind": "noise", "corruption": chapter["corruption"], "strengths": chapter["strengths"]}
    told |= {"images": chapter["images"], "alone": chapter["alone"]}
    told["outcomes"] = counts((each["id"] for each in chapter["evaluations"]), evaluations)
    told["pipelines"] = {
        name: _pipeline(chapter, _finished(chapter, name, evaluations)) for name in chapter["pipelines"]
    }
    told["confusions"], told["confusions_over"] = _confusions(chapter, evaluations, read, len(data["labels"]))
    others = [name for name in chapter["pipelines"] if name != chapter["alone"]]
    told["comparisons"] = [_comparison(chapter, name, evaluations, read) for name in others]
    cleaned = next((n for n in others if _is_cleaned(n, chapter["alone"], denoisers)), None)
    by = next((each for each in told["comparisons"] if each["pipeline"] == cleaned), None)
    return told | {"helps_from": by["helps_from"] if by else None, "helps_by": by}


def _is_cleaned(pipeline: str, alone: str, denoisers: Sequence[str]) -> bool:
    head, plus, tail = pipeline.partition("+")
    return bool(plus) and tail == alone and head in denoisers


def _finished(chapter: Json, pipeline: str, evaluations: Records) -> dict[int, Json]:
    """Replicate -> the pipeline's finished evaluation, in the order of the replicates."""
    planned = [each for each in chapter["evaluations"] if each["pipeline"] == pipeline]
    planned.sort(key=lambda each: int(each["replicate"]))
    return {
        each["replicate"]: found for each in planned for found in finished_outcomes([each["id"]], evaluations)
    }


def _pipeline(chapter: Json, finished: dict[int, Json]) -> Json:
    """Scores strength by strength; `tpr_per_class` is the mean over replicates."""
    told: Json = {"replicates": list(finished), "tpr": [], "tpr_per_class": [], "accuracy": []}
    for place in range(len(chapter["strengths"])):
        for name in ("tpr", "accuracy"):
            values = (each[name][place] for each in finished.values() if each.get(name))
            told[name].append(aggregate(values, chapter["images"]).to_json())
        told["tpr_per_class"].append(
            mean_vectors([each["tpr_per_class"][place] for each in finished.values()])
        )
    return told


def _confusions(chapter: Json, evaluations: Records, read: Arrays, classes: int) -> tuple[Json, Json]:
    """Counts of (true class, said class), summed over replicates, and over which replicates that was."""
    matrices: Json = {}
    over: Json = {}
    for pipeline in chapter["pipelines"]:
        finished = _finished(chapter, pipeline, evaluations)
        found = [read(each["id"]) for each in finished.values()]
        over[pipeline] = list(finished)
        matrices[pipeline] = {}
        for strength in (chapter.get("confusions") or []) if found else []:
            place = _place(strength, chapter["strengths"])
            if place is not None:
                total = sum(confusion(each["labels"], each["predicted"][place], classes) for each in found)
                matrices[pipeline][f"{float(strength):g}"] = np.asarray(total).tolist()
    return matrices, over


def confusion(
    labels: Integer[np.ndarray, " n"], predicted: Integer[np.ndarray, " n"], classes: int
) -> Integer[np.ndarray, "k k"]:
    """How often class `row` was taken for class `column`.

    Example:
        >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    cells = labels.astype(np.int64) * classes + predicted.astype(np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def _place(strength: float | int, strengths: Sequence[float | int]) -> int | None:
    return next((i for i, each in enumerate(strengths) if isclose(each, strength, abs_tol=1e-9)), None)


def _comparison(chapter: Json, pipeline: str, evaluations: Records, read: Arrays) -> Json:
    """One pipeline less the classifier alone, at every strength: one family for Holm.

    Over replicates where there are three pairs or more, else over the test images.
    """
    first = _finished(chapter, pipeline, evaluations)
    second = _finished(chapter, chapter["alone"], evaluations)
    common = [replicate for replicate in first if replicate in second]
    over = "replicates" if len(common) >= MIN_REPLICATES else "images"
    pairs = [(first[replicate], second[replicate]) for replicate in common]
    differences = (
        _over_replicates(chapter, pairs) if over == "replicates" else _over_images(chapter, pairs, read)
    )
    strengths = [float(strength) for strength in chapter["strengths"]]
    rows = [{"strength": s} | row for s, row in zip(strengths, holm_adjust(differences), strict=False)]
    helps = [row["strength"] for row in rows if row["lower"] is not None and row["lower"] > 0]
    hurts = [row["strength"] for row in rows if row["upper"] is not None and row["upper"] < 0]
    told: Json = {"pipeline": pipeline, "against": chapter["alone"], "score": "tpr", "over": over}
    told |= {"replicates": common, "helps_from": min(helps, default=None), "helps_at": helps}
    return told | {"hurts_at": hurts, "differences": rows}


def _over_replicates(chapter: Json, pairs: Sequence[tuple[Json, Json]]) -> list[Difference]:
    alpha = family_alpha(len(chapter["strengths"]))
    return [
        paired_difference(
            [float(a["tpr"][place]) for a, _ in pairs],
            [float(b["tpr"][place]) for _, b in pairs],
            alpha=alpha,
        )
        for place in range(len(chapter["strengths"]))
    ]


def _over_images(chapter: Json, pairs: Sequence[tuple[Json, Json]], read: Arrays) -> list[Difference]:
    """Per image the share of replicates that recognised it, then paired over the images."""
    if not pairs:
        return []
    found = [(read(a["id"]), read(b["id"])) for a, b in pairs]
    labels = found[0][0]["labels"]
    right = [np.mean([side[i]["predicted"] == labels for side in found], axis=0) for i in (0, 1)]
    alpha = family_alpha(len(chapter["strengths"]))
    return [
        paired_images_difference(right[0][place], right[1][place], labels, alpha=alpha)
        for place in range(len(chapter["strengths"]))
    ]


SCORES = {
    "labels": ("test_accuracy", "test_loss", "validation_accuracy", "validation_loss"),
    "images": ("test_bce", "test_psnr", "validation_bce", "validation_psnr"),
}
SELECTION_METRIC = {"labels": "validation_accuracy", "images": "validation_bce"}
"""The score by which the best setting is chosen."""

REPORTS = {"labels": "test_accuracy", "images": "test_bce"}
"""The score on which the others are compared with it: it had no part in the choice."""

LESS_IS_BETTER = ("_loss", "_bce")


def summarize_training(chapter: Json, outcomes: Records, data: Json) -> Json:
    """The numbers of a chapter of kind "train".

    Args:
        chapter: from `plan.json`.
        outcomes: trial id -> `outcome.json`; trials that are missing count as waiting.
        data: the plan's "data", for how many images a rate was measured on.

    Returns:
        For a chapter that varies nothing its one setting's scores; else "settings", "best" and "comparisons".
    """
    told: Json = {"kind": "train", "test_images": data["test"], "validation_images": data["validation"]}
    if not chapter["vary"]:
        return told | one_setting(chapter["settings"][0], outcomes, data)
    settings = [each["values"] | one_setting(each, outcomes, data) for each in chapter["settings"]]
    trials = [trial for each in chapter["settings"] for trial in each["trials"]]
    best = _best(chapter["settings"], settings)
    told |= {"vary": chapter["vary"], "outcomes": counts(trials, outcomes), "settings": settings}
    told |= {"best": None, "comparisons": []}
    if best is None:
        return told
    chosen = value_of(chapter["settings"][best], chapter["vary"])
    return told | {"best": chosen, "comparisons": _comparisons(chapter, best, outcomes)}


def one_setting(setting: Json, outcomes: Records, data: Json) -> Json:
    """Parameters, outcomes, scores and verdicts of one setting's trials."""
    trials = setting["trials"]
    recorded = [outcomes[trial] for trial in trials if trial in outcomes]
    finished = finished_outcomes(trials, outcomes)
    told: Json = {
        "parameters": next((each["parameters"] for each in recorded if each.get("parameters")), None)
    }
    told["outcomes"] = counts(trials, outcomes)
    names = [*SCORES[target_of(setting)], *(name for each in finished for name in each["scores"])]
    for name in dict.fromkeys(names):
        images = data.get(name.split("_")[0]) if name.endswith("_accuracy") else None
        told[name] = aggregate((each["scores"].get(name) for each in finished), images).to_json()
    return told | _verdicts(recorded)


def target_of(setting: Json) -> str:
    """What networks of a setting give: "labels" or "images"."""
    return objectives[setting["settings"]["recipe"]["objective"]].target


def value_of(setting: Json, vary: Sequence[str]) -> Any:
    """What names a setting in its chapter: the value of what is varied, or all of them by name."""
    values = setting["values"]
    return values[vary[0]] if len(vary) == 1 else {key: values[key] for key in vary}


def less_is_better(name: str) -> bool:
    """Whether a smaller value of this score is the better one."""
    return name.endswith(LESS_IS_BETTER)


def paired(
    a: Sequence[str], b: Sequence[str], outcomes: Records, name: str, *, comparisons: int = 1
) -> tuple[Difference, list[int]]:
    """The difference a - b of one score over the replicates that both have finished, and which those are.

    Args:
        a: trial ids, entry k is replicate k.
        b: trial ids, entry k is replicate k.
        outcomes: trial id -> outcome.
        name: of the score.
        comparisons: how many of them make up the family.
    """
    pairs = []
    for replicate, ids in enumerate(zip(a, b, strict=False)):
        scores = [each["scores"].get(name) for each in finished_outcomes(ids, outcomes)]
        if len(scores) == 2 and None not in scores:
            pairs.append((replicate, float(scores[0]), float(scores[1])))
    first, second = [pair[1] for pair in pairs], [pair[2] for pair in pairs]
    difference = paired_difference(first, second, alpha=family_alpha(comparisons))
    return difference, [pair[0] for pair in pairs]


def _best(planned: Sequence[Json], summaries: Sequence[Json]) -> int | None:
    """The setting with the best mean on the validation images; None while nothing is done.

    A setting of which trials diverged is chosen only if there is no other: its mean is that of the survivors.
    """
    candidates = []
    for place, (setting, told) in enumerate(zip(planned, summaries, strict=True)):
        name = SELECTION_METRIC[target_of(setting)]
        mean = told[name]["mean"]
        if mean is not None:
            worse = mean if less_is_better(name) else -mean
            candidates.append(("diverged" in told["outcomes"], worse, place))
    return min(candidates)[2] if candidates else None


def _comparisons(chapter: Json, best: int, outcomes: Records) -> list[Json]:
    settings, vary = chapter["settings"], chapter["vary"]
    target = target_of(settings[best])
    others = [each for place, each in enumerate(settings) if place != best and target_of(each) == target]
    name, trials = REPORTS[target], settings[best]["trials"]
    pairs = [paired(each["trials"], trials, outcomes, name, comparisons=len(others)) for each in others]
    against = value_of(settings[best], vary)
    return [
        each["values"] | {"against": against, "score": name, "difference": difference}
        for each, difference in zip(others, holm_adjust([pair[0] for pair in pairs]), strict=True)
    ]


def _verdicts(recorded: Iterable[Json]) -> Json:
    """The gauges' verdicts by name, and of how many trials each was; nothing when there are none."""
    details: dict[str, Json] = {}
    for outcome in recorded:
        for verdict in outcome.get("verdicts") or []:
            plain = {key: verdict.get(key) for key in ("name", "finding", "advice")}
            details.setdefault(verdict["name"], plain | {"trials": 0})["trials"] += 1
    return {"verdicts": list(details), "verdict_details": list(details.values())} if details else {}


def summarize_generation(chapter: Json, evaluations: Records, data: Json) -> Json:
    """The numbers of a chapter of kind "generator".

    Args:
        chapter: from `plan.json`.
        evaluations: evaluation id -> `outcome.json`.
        data: the plan's "data": the floor's rates are over its test images.
    """
    finished = {
        name: _finished_samples(chapter, name, evaluations)
        for name in [REAL_DATA_BASELINE, *chapter["samplers"]]
    }
    floor, test = finished[REAL_DATA_BASELINE], data["test"]
    told: Json = {"kind": "generator", "decoder": chapter["decoder"], "judge": chapter["judge"]}
    told["outcomes"] = counts((each["id"] for each in chapter["evaluations"]), evaluations)
    told |= {"samples": chapter["samples"], "test_images": test}
    told["floor"] = aggregate(each.get("frechet") for each in floor).to_json()
    told["recognised_test"] = aggregate((each.get("recognised") for each in floor), test).to_json()
    told["reconstructed"] = aggregate((each.get("reconstructed") for each in floor), test).to_json()
    return told | {"samplers": {name: _sampler(chapter, finished[name]) for name in chapter["samplers"]}}


def _finished_samples(chapter: Json, sampler: str, evaluations: Records) -> list[Json]:
    ids = [each["id"] for each in chapter["evaluations"] if each["sampler"] == sampler]
    return finished_outcomes(ids, evaluations)


def _sampler(chapter: Json, finished: Sequence[Json]) -> Json:
    told: Json = {"classes": mean_vectors([each.get("classes") for each in finished])}
    told["recognised"] = aggregate((each["recognised"] for each in finished), chapter["samples"]).to_json()
    for name in ("frechet", "nearest"):
        told[name] = aggregate(each.get(name) for each in finished).to_json()
    return told

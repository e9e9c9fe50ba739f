"""A noise chapter in numbers: true-positive rates of whole pipelines, and from where cleaning helps."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import isclose

import numpy as np
from jaxtyping import Integer

from inklab.statistics import Difference, paired_difference, paired_images_difference
from inklab.study.summaries.tally import (
    Json,
    Records,
    counts,
    done,
    family,
    family_alpha,
    mean_vectors,
    score_of,
)

Arrays = Callable[[str], dict[str, np.ndarray]]
"""Evaluation id -> the arrays that it left."""

FEWEST_REPLICATES = (
    3  # with two, t needs 12.7 standard errors at 95 %, and 267 at the first of 21 steps of Holm
)


def summarise_noise(
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
    return {each["replicate"]: found for each in planned for found in done([each["id"]], evaluations)}


def _pipeline(chapter: Json, finished: dict[int, Json]) -> Json:
    """Scores strength by strength; `tpr_per_class` is the mean over replicates."""
    told: Json = {"replicates": list(finished), "tpr": [], "tpr_per_class": [], "accuracy": []}
    for place in range(len(chapter["strengths"])):
        for name in ("tpr", "accuracy"):
            values = (each[name][place] for each in finished.values() if each.get(name))
            told[name].append(score_of(values, chapter["images"]).to_json())
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
    over = "replicates" if len(common) >= FEWEST_REPLICATES else "images"
    pairs = [(first[replicate], second[replicate]) for replicate in common]
    differences = (
        _over_replicates(chapter, pairs) if over == "replicates" else _over_images(chapter, pairs, read)
    )
    strengths = [float(strength) for strength in chapter["strengths"]]
    rows = [{"strength": s} | row for s, row in zip(strengths, family(differences), strict=False)]
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

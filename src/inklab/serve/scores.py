"""What a study measured of its pipelines, for the page: from results.json alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from inklab.study.results import is_best

Json = dict[str, Any]


def pipeline_accuracy(
    parts: Sequence[str], chapters: Mapping[str, Json], results: Mapping[str, Any]
) -> Json | None:
    """How often a pipeline is right on clean test images; None while it isn't known.

    Args:
        parts: its parts; a classifier alone is scored in its own chapter, others where noise has strength 0.
        chapters: the plan's train chapters by name.
        results: results.json, or nothing.
    """
    told = results.get("chapters", {})
    if len(parts) == 1:
        return _interval(_setting_of(chapters[parts[0]], told.get(parts[0], {})).get("test_accuracy"))
    for chapter in told.values():
        if isinstance(chapter, dict) and chapter.get("kind") == "noise" and 0 in chapter["strengths"]:
            curve = chapter["pipelines"].get("+".join(parts), {}).get("accuracy", [])
            place = chapter["strengths"].index(0)
            if place < len(curve):
                return _interval(curve[place])
    return None


def _setting_of(chapter: Mapping[str, Any], told: Mapping[str, Any]) -> Mapping[str, Any]:
    """A chapter's scores, or those of its best setting."""
    best = told.get("best")
    for setting in told.get("settings", []):
        values = {key: setting.get(key) for key in chapter["vary"]}
        if is_best(values, best):
            return dict(setting)
    return told


def _interval(score: Mapping[str, Any] | None) -> Json | None:
    """A score's mean with 95 %: over replicates where there are several, else over test images."""
    if not score or score.get("mean") is None:
        return None
    low, high = score.get("ci95") or score.get("ci95_images") or (None, None)
    return {"mean": score["mean"], "low": low, "high": high, "n": score["n"]}


def curves(plan: Mapping[str, Any], results: Mapping[str, Any]) -> Json | None:
    """True-positive rates of the first noise chapter that has any: what the page draws behind its slider."""
    for planned in plan["chapters"]:
        chapter = results.get("chapters", {}).get(planned["name"], {})
        if planned["kind"] == "noise" and chapter.get("pipelines"):
            drawn = {
                name: _curve(told["tpr"]) for name, told in chapter["pipelines"].items() if told.get("tpr")
            }
            return {
                "chapter": planned["name"], "corruption": chapter["corruption"],
                "strengths": chapter["strengths"], "pipelines": drawn,
            }  # fmt: skip
    return None


def _curve(scores: Sequence[Mapping[str, Any]]) -> Json:
    """Means, and their bounds if every point has some."""
    points = [_interval(score) or {"mean": None, "low": None, "high": None} for score in scores]
    bounds = {key: [point[key] for point in points] for key in ("low", "high")}
    whole = all(value is not None for values in bounds.values() for value in values)
    return {"tpr": [point["mean"] for point in points], **(bounds if whole else {"low": None, "high": None})}

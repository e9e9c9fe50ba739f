"""The study's results: every number of results.json, computed from the outcomes."""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from inklab.hardware import environment
from inklab.io.documents import read_json, write_json
from inklab.results.experiment_summary import (
    Arrays,
    Json,
    Records,
    summarize_generation,
    summarize_robustness,
    summarize_training,
    target_of,
)
from inklab.results.narrative import findings
from inklab.study.forms.arrays import StoredArrays
from inklab.study.forms.results import check_clock
from inklab.study.run_directory import RunDirectory, Snapshot

FORMAT = 1


def summarize(
    plan: Json,
    outcomes: Mapping[str, Json],
    evaluations: Mapping[str, Json],
    arrays: Arrays,
    *,
    environment: Json,
    seconds: Json | None = None,
) -> Json:
    """Everything that a run has found out so far.

    What is not finished counts as "waiting"; what failed is counted and never averaged in.

    Args:
        plan: `plan.json`.
        outcomes: trial id -> its `outcome.json`, as far as there.
        evaluations: evaluation id -> its `outcome.json`, as far as there.
        arrays: evaluation id -> its arrays; asked only for evaluations that are done.
        environment: versions, processor, threads, precision.
        seconds: `{"total", "chapters"}`; the sums of what trials and evaluations took where left out.

    Returns:
        `results.json`: a JSON value without NaN or infinity, valid under the schema.
    """
    data = _data(plan["data"])
    chapters: Json = {}
    for chapter in plan["chapters"]:
        told = _chapter(chapter, plan, outcomes, evaluations, arrays)
        if told is not None:
            chapters[chapter["name"]] = told
    results: Json = {"format": FORMAT, "study": plan["study"], "title": plan.get("title", plan["study"])}
    results |= {"profile": plan["profile"], "seed": plan["seed"], "data": data, "chapters": chapters}
    results |= {"environment": environment, "seconds": seconds or _seconds(plan, outcomes, evaluations)}
    chapters[_findings_name(plan)] = findings(results, plan)
    return results


def _chapter(
    chapter: Json, plan: Json, outcomes: Records, evaluations: Records, arrays: Arrays
) -> Json | None:
    """One chapter's numbers; None for a kind that has none."""
    data, kind = plan["data"], chapter["kind"]
    if kind == "train":
        return summarize_training(chapter, outcomes, data)
    if kind == "noise":
        return summarize_robustness(chapter, evaluations, arrays, data, _denoisers(plan))
    if kind == "generator":
        return summarize_generation(chapter, evaluations, data)
    return {"kind": "data"} | _data(data) if kind == "data" else None


def _denoisers(plan: Json) -> list[str]:
    """The chapters that train something which gives back an image."""
    trained = [each for each in plan["chapters"] if each["kind"] == "train"]
    return [each["name"] for each in trained if target_of(each["settings"][0]) == "images"]


def _data(data: Json) -> Json:
    told = {key: data[key] for key in ("source", "sha256", "train", "validation", "test")}
    told["classes"] = {"labels": data["labels"]} | data["counts"]
    return told | ({"note": data["note"]} if data.get("note") else {})


def _findings_name(plan: Json) -> str:
    return next((each["name"] for each in plan["chapters"] if each["kind"] == "findings"), "findings")


def trials_of(chapter: Json) -> list[str]:
    """The ids of the trials that a chapter shows, without repetition."""
    return list(dict.fromkeys(t for setting in chapter.get("settings", []) for t in setting["trials"]))


def best_first(chapter: Json, results: Json) -> list[Json]:
    """A train chapter's settings, the one that is best by validation in front; as planned until it is known.

    Args:
        chapter: of the plan.
        results: of the whole run, as far as there.

    Example:
        >>> sweep = {"name": "sweep", "settings": [{"values": {"l2": 0.0}}, {"values": {"l2": 1e-3}}]}
        >>> [each["values"] for each in best_first(sweep, {"chapters": {"sweep": {"best": 1e-3}}})]
        [{'l2': 0.001}, {'l2': 0.0}]
    """
    told = (results.get("chapters") or {}).get(chapter["name"]) or {}
    settings = chapter.get("settings") or []
    return sorted(settings, key=lambda each: not is_best(each.get("values") or {}, told.get("best")))


def is_best(values: Mapping[str, Any], best: Any) -> bool:
    """Whether a setting's values are what results.json calls best: a value where one varies, else a table."""
    return best in (values, *(values.values() if len(values) == 1 else ()))


def evaluations_of(chapter: Json) -> list[str]:
    """The ids of the evaluations that a chapter shows, without repetition."""
    return list(dict.fromkeys(each["id"] for each in chapter.get("evaluations", [])))


def _seconds(plan: Json, outcomes: Records, evaluations: Records) -> Json:
    """What the chapters took; a training that two chapters share counts in both, and once in the total."""
    spent: dict[str, float] = {}
    for records in (outcomes, evaluations):
        spent |= {each: float(record.get("seconds") or 0) for each, record in records.items()}

    def total(ids: Iterable[str]) -> float:
        return sum(spent.get(each, 0.0) for each in ids)

    shown: dict[str, list[str]] = {
        chapter["name"]: trials_of(chapter) + evaluations_of(chapter) for chapter in plan["chapters"]
    }
    chapters: dict[str, Any] = {name: total(ids) for name, ids in shown.items() if ids}
    return {"total": total({each for ids in shown.values() for each in ids}), "chapters": chapters}


def write_results(
    folder: RunDirectory, snapshot: Snapshot | None = None, to: Path | None = None
) -> dict[str, Any]:
    """Compute results.json from what stands in a run folder, and write it.

    Args:
        folder: the run.
        snapshot: what was read of it already, so as not to read it twice.
        to: folder to write it to; the run's own if left out.
    """
    results = results_of(folder, snapshot)
    write_json((to or folder.path) / "results.json", results)
    return results


def results_of(folder: RunDirectory, snapshot: Snapshot | None = None) -> dict[str, Any]:
    """What a run found out so far, computed from its outcomes.

    Args:
        folder: the run.
        snapshot: what was read of it already, so as not to read it twice.

    Raises:
        CorruptFileError: one of its files is damaged; it is named.
    """
    read = snapshot or folder.snapshot()
    how = read.plan["how"]
    ran: Iterable[dict[str, Any]] = (each.get("ran") or {} for each in read.outcomes.values())
    measured = next((each for each in ran if each), environment(how["threads"], version("torch")))
    told = {**measured, **{key: how[key] for key in ("precision", "threads", "workers")}}
    for key in ("members", "lifted", "compiled"):
        told.pop(key, None)
    arrays = StoredArrays(folder.path, read.plan).finished
    results = summarize(read.plan, read.outcomes, read.evaluations, arrays, environment=told)
    clock = folder.path / "clock.json"
    if clock.is_file():
        results["seconds"]["total"] = check_clock(read_json(clock), clock)["seconds"]
    return results

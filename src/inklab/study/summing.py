"""From a run folder to its results.json."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from inklab.files import read_json, write_json
from inklab.study.machine import environment
from inklab.study.results import summarise
from inklab.study.store import RunFolder


def write_results(folder: RunFolder) -> dict[str, Any]:
    """Compute results.json from what stands in a run folder, and write it."""
    results = results_of(folder)
    write_json(folder.path / "results.json", results)
    return results


def results_of(folder: RunFolder) -> dict[str, Any]:
    """What a run found out so far, computed from its outcomes."""
    made = folder.plan()
    outcomes, evaluations = folder.outcomes(made), folder.evaluations(made)
    ran: Iterable[dict[str, Any]] = (each.get("ran") or {} for each in outcomes.values())
    measured = next((each for each in ran if each), environment(made["how"]["threads"], version("torch")))
    told = {**measured, **{key: made["how"][key] for key in ("precision", "threads", "workers")}}
    for key in ("members", "lifted"):
        told.pop(key, None)
    results = summarise(made, outcomes, evaluations, folder.arrays, environment=told)
    clock = folder.path / "clock.json"
    if clock.is_file():
        results["seconds"]["total"] = read_json(clock)["seconds"]
    return results

"""From a run folder to its results.json."""

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from inklab.files import read_json, write_json
from inklab.machine import environment
from inklab.study.forms.arrays import StoredArrays
from inklab.study.forms.results import check_clock
from inklab.study.results import summarise
from inklab.study.store import RunFolder, Snapshot


def write_results(
    folder: RunFolder, snapshot: Snapshot | None = None, to: Path | None = None
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


def results_of(folder: RunFolder, snapshot: Snapshot | None = None) -> dict[str, Any]:
    """What a run found out so far, computed from its outcomes.

    Args:
        folder: the run.
        snapshot: what was read of it already, so as not to read it twice.

    Raises:
        CorruptFile: one of its files is damaged; it is named.
    """
    read = snapshot or folder.snapshot()
    how = read.plan["how"]
    ran: Iterable[dict[str, Any]] = (each.get("ran") or {} for each in read.outcomes.values())
    measured = next((each for each in ran if each), environment(how["threads"], version("torch")))
    told = {**measured, **{key: how[key] for key in ("precision", "threads", "workers")}}
    for key in ("members", "lifted", "compiled"):
        told.pop(key, None)
    arrays = StoredArrays(folder.path, read.plan).finished
    results = summarise(read.plan, read.outcomes, read.evaluations, arrays, environment=told)
    clock = folder.path / "clock.json"
    if clock.is_file():
        results["seconds"]["total"] = check_clock(read_json(clock), clock)["seconds"]
    return results

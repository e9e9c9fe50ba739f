"""How far a run has come: the file that its driver keeps up to date, and what is read from it."""

import math
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from inklab.errors import DataError, WriteError
from inklab.io.documents import read_json, write_json
from inklab.results.experiment_summary import counts_of
from inklab.results.summarize import evaluations_of, trials_of
from inklab.study.executor import Event
from inklab.study.forms.live import check_live
from inklab.study.resources import cost_of, estimate, group_seconds
from inklab.study.run_directory import FINAL, RunDirectory

WRITE_INTERVAL = 1.0  # seconds from a write to one for a further epoch; it costs the driver some milliseconds
MAX_STATUS_BYTES = 4 * 1024**2  # bytes; 100,000 epochs of a job have 2 MB
REMOTE_TIMEOUT = 900.0  # seconds for which a driver on another machine is believed to go on without a sign

LiveEventCallback = Callable[[Event, dict[str, Any]], None]


@dataclass
class StatusFile:
    """A watcher that keeps `work/live.json`, in front of another one.

    Args:
        folder: the run that is driven.
        watcher: told everything first.
    """

    folder: RunDirectory
    watcher: LiveEventCallback
    _jobs: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    _told: dict[str, Any] = field(default_factory=dict, init=False)
    _written: float = field(default=-math.inf, init=False)

    def __post_init__(self) -> None:
        self._told = {
            "format": 1, "process": os.getpid(), "host": socket.gethostname(), "since": time.time(),
            "planned": None, "estimate": None,
        }  # fmt: skip

    def __call__(self, event: Event, job: dict[str, Any]) -> None:
        """Note what happened."""
        self.watcher(event, job)
        if event.kind == "planned":
            self._told |= {"planned": time.time(), "estimate": event.value["seconds"]}
        elif event.kind == "started":
            self._jobs[event.job] = _begun(job)
        elif event.kind == "epoch":
            _add(self._jobs[event.job], *event.value)
        elif event.kind in ("done", "failed", "lost", "retried"):
            self._jobs.pop(event.job, None)
        # Jobs are written at once: one that says nothing until it ends would not be seen at all.
        if event.kind != "epoch" or time.monotonic() - self._written >= WRITE_INTERVAL:
            self._write()

    def _write(self) -> None:
        with suppress(WriteError):
            write_json(self.folder.live, {**self._told, "running": list(self._jobs.values())})
        self._written = time.monotonic()


def _begun(job: dict[str, Any]) -> dict[str, Any]:
    trials = [each["id"] for each in job.get("trials", [])]
    return {
        "job": job["name"], "label": job["label"], "trials": trials, "turn": 0,
        "epochs": None, "epoch": [], "train_loss": [],
    }  # fmt: skip


def _add(job: dict[str, Any], epoch: int, epochs: int, loss: float) -> None:
    """An epoch of a job. Trials that are not trained together begin at 1 again, each in its turn."""
    if job["epoch"] and epoch <= job["epoch"][-1]:
        job |= {"turn": job["turn"] + 1, "epoch": [], "train_loss": []}
    job["epochs"] = epochs
    job["epoch"].append(epoch)
    job["train_loss"].append(loss if math.isfinite(loss) else None)


def read_live(folder: RunDirectory) -> dict[str, Any] | None:
    """What the driver of a run is at; None if none is at work, as far as can be told.

    Args:
        folder: the run.

    Returns:
        `work/live.json`: `since`, `planned` (seconds of the epoch, or None), `estimate` (seconds, or None)
        and `running`, the jobs that are under way.
    """
    try:
        found = check_live(read_json(folder.live, largest=MAX_STATUS_BYTES), folder.live)
        at_work = _driver_is_alive(found, folder.live.stat().st_mtime)
    except (OSError, DataError):  # not there, or damaged: it is for looking on only
        return None
    return found if at_work else None


def _driver_is_alive(found: dict[str, Any], changed: float) -> bool:
    if found["host"] != socket.gethostname():
        return time.time() - changed < REMOTE_TIMEOUT
    try:
        os.kill(found["process"], 0)
    except PermissionError:  # somebody else's, and there
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


Json = dict[str, Any]

MIN_SHARE, MIN_SECONDS = 0.05, 10.0  # of what was to be done: before that, what was estimated is told
MAX_CURVES = 60  # a chapter: more can't be told apart, and a sweep of 10,000 would be 20 MB a look
CURVES = ("epoch", "train_loss", "validation_loss", "validation_accuracy")


class RunMonitor:
    """Looks at a run again and again, and reads what is final only once.

    Nothing is written and no lock is taken.

    Args:
        folder: the run.
    """

    def __init__(self, folder: RunDirectory) -> None:
        self.folder = folder
        self._final: dict[str, Json] = {}

    def look(self) -> Json:
        """How far the run is now; see `progress_of`."""
        plan = self.folder.plan()
        trials = self._outcomes(plan["trials"], self.folder.outcome)
        evaluations = self._outcomes(_evaluations(plan), self.folder.evaluation)
        return _snapshot(plan, trials, evaluations, read_live(self.folder))

    def _outcomes(self, names: Iterable[str], read: Callable[[str], Json | None]) -> dict[str, Json]:
        found = {}
        for name in names:
            outcome = self._final.get(name) or read(name)
            if outcome is not None:
                found[name] = outcome
                if outcome["state"] in FINAL:
                    self._final[name] = outcome
        return found


def progress_of(folder: RunDirectory) -> Json:
    """How far a run is.

    Args:
        folder: the run. Nothing is written and no lock is taken.

    Returns:
        `state`: "running" (a driver is at work), "finished" or "stopped"; `since`: when its driver began, in
        seconds of the epoch, or None; `seconds_left`: None unless it is running and planned; `done` of
        `total` trials and evaluations; `chapters` with their outcomes; what is `running`, with its epoch; and
        `curves`, an entry a trial: whole ones of trials that have ended, and the training loss so far of
        those that are under way.

    Raises:
        CorruptFileError: plan or outcomes are damaged.
    """
    return RunMonitor(folder).look()


def _snapshot(
    plan: Json, trials: Mapping[str, Json], evaluations: Mapping[str, Json], live: Json | None
) -> Json:
    states = {name: str(each["state"]) for name, each in [*trials.items(), *evaluations.items()]}
    waiting = waiting_of(plan, states)
    total, under_way = len(_wanted(plan)), _half_curves(plan, live) if live else {}
    return {
        "state": "running" if live else "stopped" if waiting else "finished",
        **is_running(plan, waiting, live),
        "done": total - len(waiting),
        "total": total,
        "chapters": [_chapter(chapter, states) for chapter in plan["chapters"]],
        "curves": [curve for chapter in plan["chapters"] for curve in _curves(chapter, trials, under_way)],
    }


def waiting_of(plan: Json, states: Mapping[str, str]) -> set[str]:
    """Ids of the plan's trials and evaluations that have no final outcome."""
    return {each for each in _wanted(plan) if states.get(each) not in FINAL}


def _wanted(plan: Json) -> set[str]:
    return {*plan["trials"], *_evaluations(plan)}


def _evaluations(plan: Json) -> set[str]:
    return {each for chapter in plan["chapters"] for each in evaluations_of(chapter)}


def is_running(plan: Json, waiting: set[str], live: Json | None) -> Json:
    """What a run's driver is at.

    Args:
        plan: of the run.
        waiting: ids of trials and evaluations without a final outcome.
        live: as of `read_live`.

    Returns:
        `since`, `seconds_left` and `running`, as of `progress_of`.
    """
    if live is None:
        return {"since": None, "seconds_left": None, "running": []}
    left = _seconds_left(plan, waiting, live) if waiting else None
    return {
        "since": live["since"],
        "seconds_left": left,
        "running": [_running(job) for job in live["running"]],
    }


def _chapter(chapter: Json, states: Mapping[str, str]) -> Json:
    ids = [*trials_of(chapter), *evaluations_of(chapter)]
    return {
        "name": chapter["name"], "title": chapter.get("title") or chapter["name"], "kind": chapter["kind"],
        "outcomes": counts_of(ids, states), "total": len(ids),
    }  # fmt: skip


def _running(job: Json) -> Json:
    return {
        "job": job["job"], "label": job["label"], "epochs": job["epochs"],
        "epoch": job["epoch"][-1] if job["epoch"] else None,
        "loss": job["train_loss"][-1] if job["train_loss"] else None,
    }  # fmt: skip


def _seconds_left(plan: Json, waiting: set[str], live: Json) -> float | None:
    """What is estimated for the rest, at the speed at which what is done was done."""
    if live["planned"] is None:
        return None
    left = max(0.0, estimate(plan, waiting, cost_of(plan["facts"]))["seconds"] - _under_way(plan, live))
    spent, done = time.time() - live["planned"], live["estimate"] - left
    if spent < MIN_SECONDS or done < MIN_SHARE * live["estimate"]:
        return float(left)
    return float(left * spent / done)


def _under_way(plan: Json, live: Json) -> float:
    """Estimated seconds of those epochs that are done of trainings which have not ended."""
    images, cost, seconds = sum(plan["data"]["counts"]["train"]), cost_of(plan["facts"]), 0.0
    for job in live["running"]:
        trials = [trial for trial in job["trials"] if trial in plan["trials"]]
        if trials and job["epoch"] and job["epochs"]:
            whole = group_seconds(plan["trials"][trials[0]]["settings"], len(trials), images, cost)
            apart = 1 if _average_curves(plan, trials) else len(trials)
            seconds += whole * (job["turn"] + job["epoch"][-1] / job["epochs"]) / apart
    return seconds / float(plan["how"]["workers"])


def _average_curves(plan: Json, trials: list[str]) -> bool:
    """Whether these trials are one population."""
    return any(group["lifted"] and trials[0] in group["trials"] for group in plan["groups"])


def _curves(chapter: Json, outcomes: Mapping[str, Json], under_way: Mapping[str, Json]) -> list[Json]:
    """Those of a chapter's trials that there are: of each setting the first replicates."""
    curves: list[Json] = []
    for replicate, setting, trial in _by_replicate(chapter):
        ended = trial in outcomes
        told = outcomes[trial].get("history", {}) if ended else under_way.get(trial)
        if told and len(curves) < MAX_CURVES:
            place = {"trial": trial, "chapter": chapter["name"], "setting": setting["values"]}
            known = {key: told[key] for key in CURVES if key in told}
            curves.append({**place, "replicate": replicate, "finished": ended, **known})
    return curves


def _by_replicate(chapter: Json) -> list[tuple[int, Json, str]]:
    """Replicate, setting and id of each trial of a chapter, replicate 0 of every setting first."""
    settings = chapter.get("settings", [])
    found = [(k, each, trial) for each in settings for k, trial in enumerate(each["trials"])]
    return sorted(found, key=lambda one: one[0])


def _half_curves(plan: Json, live: Json) -> dict[str, Json]:
    """The mean training loss of each job that is under way, by the trial that shows it."""
    found = {}
    for job in live["running"]:
        if job["trials"] and job["epoch"]:
            place = 0 if _average_curves(plan, job["trials"]) else min(job["turn"], len(job["trials"]) - 1)
            told = {"epoch": job["epoch"], "train_loss": job["train_loss"], "validation_loss": []}
            found[job["trials"][place]] = told
    return found

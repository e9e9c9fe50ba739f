"""What a run's driver is at, for whoever looks on: one small file that is gone when nothing runs.

It holds nothing that a number depends on, so a disk that refuses it stops nothing.
"""

import math
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from inklab.errors import DataError, Unwritable
from inklab.files import read_json, write_json
from inklab.study.executor import Event
from inklab.study.forms.live import check_live
from inklab.study.store import RunFolder

EVERY = 1.0  # seconds from a write to one for a further epoch; it costs the driver some milliseconds
LARGEST = 4 * 1024**2  # bytes; 100,000 epochs of a job have 2 MB
ELSEWHERE = 900.0  # seconds for which a driver on another machine is believed to go on without a sign

Watcher = Callable[[Event, dict[str, Any]], None]


@dataclass
class LiveFile:
    """A watcher that keeps `work/live.json`, in front of another one.

    Args:
        folder: the run that is driven.
        watcher: told everything first.
    """

    folder: RunFolder
    watcher: Watcher
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
        if event.kind != "epoch" or time.monotonic() - self._written >= EVERY:
            self._write()

    def _write(self) -> None:
        with suppress(Unwritable):
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


def read_live(folder: RunFolder) -> dict[str, Any] | None:
    """What the driver of a run is at; None if none is at work, as far as can be told.

    Args:
        folder: the run.

    Returns:
        `work/live.json`: `since`, `planned` (seconds of the epoch, or None), `estimate` (seconds, or None)
        and `running`, the jobs that are under way.
    """
    try:
        found = check_live(read_json(folder.live, largest=LARGEST), folder.live)
        at_work = _at_work(found, folder.live.stat().st_mtime)
    except (OSError, DataError):  # not there, or damaged: it is for looking on only
        return None
    return found if at_work else None


def _at_work(found: dict[str, Any], changed: float) -> bool:
    if found["host"] != socket.gethostname():
        return time.time() - changed < ELSEWHERE
    try:
        os.kill(found["process"], 0)
    except PermissionError:  # somebody else's, and there
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True

"""Faults on the way to the disk: a process that is killed there, or a system that refuses.

Every byte that a run keeps takes the three steps `_put`, `_sync` and `_rename` of `inklab.io.files`. Here
they are replaced in whatever process is to meet a fault; a folder's `_sync` counts as a fourth step.
"""

import errno
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
STEPS = ("put", "sync", "rename", "sync folder")
KINDS = ("plan", "images", "checkpoint", "outcome", "pending", "committed", "results", "report")
"""What is written on the way of a run, by where it lies."""


@dataclass(frozen=True)
class Fault:
    """Where the whole process group is killed.

    Attributes:
        kind: one of `KINDS`.
        step: one of `STEPS`.
        when: "before" or "after" the step; "half": with half of the bytes written.
        nth: which time that this process comes there.
        hit: a file that is made when it happens.
    """

    kind: str
    step: str
    when: str
    nth: int
    hit: str

    def variables(self) -> dict[str, str]:
        """What a process needs in its environment to meet it; those that it starts, too."""
        path = os.pathsep.join([str(HERE / "faulty"), str(HERE), os.environ.get("PYTHONPATH", "")])
        return {"INKLAB_TEST_FAULT": json.dumps(asdict(self)), "PYTHONPATH": path}


def kind_of(path: Path) -> str:
    """What a path belongs to."""
    parts, name = path.parts, path.name.lstrip(".")
    if "checkpoints" in parts:
        return "checkpoint"
    if name.startswith("pending_commit.json"):
        return "pending"
    if "data" in parts and "work" in parts:
        return "images"
    if "trials" in parts or "evaluations" in parts:
        return "outcome" if "work" in parts else "committed"
    if name.startswith(("plan.json", "study.json", "samples.safetensors")):
        return "plan"
    if name.startswith(("results.json", "timer.json")):
        return "results"
    return "report" if "figures" in parts or name.startswith("report.html") else ""


Step = Callable[..., None]
Around = Callable[[str, str, Callable[[], None], Callable[[], None]], None]


def wrap(around: Around) -> None:
    """Replace the three steps of `inklab.io.files`.

    Args:
        around: called as `(kind, step, whole, half)` instead of each step; `whole` does it, `half` half.
    """
    from inklab.io import files

    put, sync, rename, last = files._put, files._sync, files._rename, [""]

    def half(draft: Path, raw: bytes) -> None:
        draft.write_bytes(raw[: len(raw) // 2])

    def wrapped_put(draft: Path, raw: bytes) -> None:
        around(kind_of(draft), "put", lambda: put(draft, raw), lambda: half(draft, raw))

    def wrapped_sync(path: Path) -> None:
        if path.is_dir():  # its names were changed by the last rename, or by a folder that was made in it
            around(last[0] or kind_of(path), "sync folder", lambda: sync(path), lambda: None)
        else:
            around(kind_of(path), "sync", lambda: sync(path), lambda: None)

    def wrapped_rename(old: Path, new: Path) -> None:
        last[0] = kind_of(new)
        around(last[0], "rename", lambda: rename(old, new), lambda: None)

    files._put, files._sync, files._rename = wrapped_put, wrapped_sync, wrapped_rename


def install(fault_json: str) -> None:
    """Let this process meet a fault."""
    fault, count = Fault(**json.loads(fault_json)), [0]

    def die() -> None:
        Path(fault.hit).touch()
        os.killpg(os.getpgrp(), signal.SIGKILL)

    def around(kind: str, step: str, whole: Callable[[], None], half: Callable[[], None]) -> None:
        if (kind, step) != (fault.kind, fault.step):
            whole()
            return
        count[0] += 1
        if count[0] != fault.nth:
            whole()
        elif fault.when == "before":
            die()
        else:
            half() if fault.when == "half" else whole()
            die()

    wrap(around)


@contextmanager
def refusing(nth: int, number: int) -> Iterator[list[int]]:
    """Let the n-th write of this process be refused by the system; the list counts the writes.

    A full disk takes half of the bytes first, a failing one fails when it is to make them last, and a missing
    permission is met at the rename.
    """
    from inklab.io import files

    steps, count = (files._put, files._sync, files._rename), [0]
    _refuse(nth, number, count)
    try:
        yield count
    finally:
        files._put, files._sync, files._rename = steps


def install_refusal(refusal_json: str) -> None:
    """Let this process be refused its n-th write: JSON of `[n, errno]`."""
    nth, number = json.loads(refusal_json)
    _refuse(nth, number, [0])


def _refuse(nth: int, number: int, count: list[int]) -> None:
    at = {errno.ENOSPC: "put", errno.EIO: "sync", errno.EACCES: "rename"}[number]

    def around(kind: str, step: str, whole: Callable[[], None], half: Callable[[], None]) -> None:
        count[0] += step == at
        if step == at and count[0] == nth:
            half()
            raise OSError(number, os.strerror(number))
        whole()

    wrap(around)


def every_fault(hits: Path) -> list[Fault]:
    """Before and after each step on the way of each kind, and each file half written."""
    whens = {"put": ("before", "half", "after")}
    return [
        Fault(kind, step, when, 1, str(hits / f"{kind} {step} {when}".replace(" ", "-")))
        for kind in KINDS
        for step in (STEPS if kind != "committed" else STEPS[2:])  # moved into place, as a folder
        for when in whens.get(step, ("before", "after"))
    ]

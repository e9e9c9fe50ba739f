"""The run folder: one small file an outcome, written whole, published once (docs/run-folder.md)."""

import fcntl
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inklab.errors import CorruptFileError, RunError
from inklab.io.atomic import cleanup_drafts, make_dir, replace_dir
from inklab.io.documents import gc_paused, read_json, write_json
from inklab.study.forms.outcomes import check_evaluation, check_trial, refuse_other
from inklab.study.forms.plan import check_plan

FINAL = ("done", "diverged")
"""Outcomes that another attempt would only repeat; failed and lost ones are tried again."""

KINDS = ("trials", "evaluations")
CHECKPOINTS, PUBLISHING = "checkpoints", "publishing.json"
"""In the folder of an attempt: where its trainings stood; what the driver has begun to publish of it."""

MAX_OUTCOME = 16 * 1024**2  # bytes; that of 100,000 epochs, the most that a recipe may have


@dataclass(frozen=True)
class Snapshot:
    """A run as it stood when it was read: whoever needs all of it reads each file once.

    Attributes:
        plan: `plan.json`.
        outcomes: trial id -> outcome, as far as there.
        evaluations: evaluation id -> outcome, as far as there.
    """

    plan: dict[str, Any]
    outcomes: dict[str, dict[str, Any]]
    evaluations: dict[str, dict[str, Any]]


class RunDirectory:
    """A run on disk.

    Args:
        path: the folder; it may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def existing(cls, path: Path) -> "RunDirectory":
        """A folder that is a run.

        Raises:
            RunError: it is not.
        """
        if not (path / "plan.json").is_file():
            raise RunError(f"'{path}' is not a run (it has no plan.json); name a folder such as runs/latest")
        return cls(path)

    @property
    def work(self) -> Path:
        """Where half-done things lie."""
        return self.path / "work"

    @property
    def live(self) -> Path:
        """What a driver says that it is at; there only while one is at work, or was killed."""
        return self.work / "live.json"

    def plan(self) -> dict[str, Any]:
        """What is to be done.

        Raises:
            CorruptFileError: it is damaged.
        """
        path = self.path / "plan.json"
        with gc_paused():
            return check_plan(read_json(path), path)

    def outcome(self, trial: str) -> dict[str, Any] | None:
        """What became of a trial; None if nothing yet.

        Raises:
            CorruptFileError: it is damaged, or another's.
        """
        return self._read("trials", trial)

    def evaluation(self, evaluation: str) -> dict[str, Any] | None:
        """What became of an evaluation; None if nothing yet.

        Raises:
            CorruptFileError: it is damaged, or another's.
        """
        return self._read("evaluations", evaluation)

    def outcomes(self, plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Every outcome of the plan's trials that is there."""
        return self._read_all("trials", plan["trials"])

    def evaluations(self, plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Every outcome of the plan's evaluations that is there.

        Raises:
            CorruptFileError: one is damaged, or computed something else than what was planned.
        """
        planned = _evaluations(plan)
        found = self._read_all("evaluations", planned)
        for name, outcome in found.items():
            path = self._place("evaluations", name)
            refuse_other(outcome, planned[name], len(plan["data"]["labels"]), path)
        return found

    def snapshot(self) -> Snapshot:
        """The plan and every outcome that is there, each file read once."""
        plan = self.plan()
        return Snapshot(plan, self.outcomes(plan), self.evaluations(plan))

    def states(self, plan: Mapping[str, Any]) -> dict[str, str]:
        """The state of every trial and evaluation of the plan that is there, by id; keeps nothing else."""
        wanted = [("trials", each) for each in plan["trials"]]
        wanted += [("evaluations", each) for each in _evaluations(plan)]
        with gc_paused():
            found = ((name, self._read(kind, name)) for kind, name in wanted)
            return {name: str(outcome["state"]) for name, outcome in found if outcome is not None}

    def bundle(self, trial: str) -> Path:
        """Where a trial's bundle lies."""
        return self.path / "trials" / trial / "bundle"

    def publish(self, kind: str, name: str, draft: Path) -> None:
        """Move a finished draft folder into place, whole; what an earlier failed attempt left there goes."""
        replace_dir(draft, self.path / kind / name)

    def commit_all(self, drafts: Iterable[tuple[str, str]], attempt: Path) -> None:
        """Publish what an attempt at a job made, and delete the rest of all attempts at it.

        If this process is killed on the way, the next driver goes on with it (`finish_publishing`).

        Args:
            drafts: `(kind, id)` of each.
            attempt: folder that holds them as `kind/id`.
        """
        write_json(attempt / PUBLISHING, list(drafts))
        self._publish_rest(attempt)

    def recover_commits(self) -> None:
        """Publish the rest of what a killed driver was publishing."""
        for marker in sorted(self.work.glob(f"*/*/{PUBLISHING}")):
            self._publish_rest(marker.parent)

    def _publish_rest(self, attempt: Path) -> None:
        marker = attempt / PUBLISHING
        drafts = read_json(marker)
        if not isinstance(drafts, list) or not all(map(_is_draft, drafts)):
            raise CorruptFileError(f"'{marker}' is damaged; delete it, and what it names is computed again")
        for kind, name in drafts:
            if (attempt / kind / name).is_dir():
                self.publish(kind, name, attempt / kind / name)
        shutil.rmtree(attempt.parent, ignore_errors=True)

    def record(self, kind: str, outcome: Mapping[str, Any]) -> None:
        """Publish an outcome that has nothing but itself, such as a failure."""
        draft = self.work / "records" / kind / str(outcome["id"])
        write_json(draft / "outcome.json", outcome)
        self.publish(kind, str(outcome["id"]), draft)

    def cleanup(self) -> None:
        """Delete what is of no use once nothing runs: the images, drafts, what a killed driver was writing.

        Checkpoints of trainings that have not ended stay, and what was to be published when the disk refused.
        """
        for folder in (self.path, self.path / "figures"):
            cleanup_drafts(folder)
        shutil.rmtree(self.work / "data", ignore_errors=True)
        self.live.unlink(missing_ok=True)
        cleanup_drafts(self.work)
        for draft in self.work.glob("*/*/*"):
            if draft.is_file() and draft.name != PUBLISHING:
                draft.unlink(missing_ok=True)
            elif draft.name != CHECKPOINTS and not (draft.parent / PUBLISHING).exists():
                shutil.rmtree(draft, ignore_errors=True)
        for folder in (*self.work.glob("*/*"), *self.work.glob("*"), self.work):
            with suppress(OSError):  # not empty, or not there
                folder.rmdir()

    def orphaned(self, plan: Mapping[str, Any]) -> int:
        """How many outcomes lie here that the plan does not ask for: of other settings, data or versions.

        They stay, and stand in no number.
        """
        known = {*plan["trials"], *_evaluations(plan)}
        found = (*self.path.glob("trials/*/outcome.json"), *self.path.glob("evaluations/*/outcome.json"))
        return sum(path.parent.name not in known for path in found)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the one driver of this run; the lock is the operating system's, so it can't go stale.

        Raises:
            RunError: another process drives it.
        """
        make_dir(self.path)
        with (self.path / ".lock").open("a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.seek(0)
                raise RunError(
                    f"'{self.path}' is being run by {lock.read().strip() or 'another process'}; wait for "
                    "it, or stop it first"
                ) from None
            lock.truncate(0)
            lock.write(
                f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
            )
            lock.flush()
            yield

    def _read_all(self, kind: str, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        with gc_paused():
            found = ((name, self._read(kind, name)) for name in names)
            return {name: outcome for name, outcome in found if outcome is not None}

    def _read(self, kind: str, name: str) -> dict[str, Any] | None:
        path = self._place(kind, name)
        try:
            found = read_json(path, largest=MAX_OUTCOME)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return check_trial(found, name, path) if kind == "trials" else check_evaluation(found, name, path)

    def _place(self, kind: str, name: str) -> Path:
        return self.path / f"{kind}/{name}/outcome.json"


def _is_draft(pair: object) -> bool:
    """Whether it is `[kind, id]`; a path that leads elsewhere is none."""
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and pair[0] in KINDS
        and re.fullmatch(r"\w+", str(pair[1])) is not None
    )


def _evaluations(plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every evaluation of the plan by id."""
    return {each["id"]: each for chapter in plan["chapters"] for each in chapter.get("evaluations", [])}

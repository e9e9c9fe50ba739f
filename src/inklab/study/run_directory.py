"""The run directory: one small file an outcome, written whole, committed once (docs/run-directory.md)."""

import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from inklab.errors import RunError, WriteError, nearest_name
from inklab.io.files import cleanup_drafts, fingerprint, gc_paused, make_dir, replace_dir
from inklab.records.outcomes import (
    EvaluationOutcome,
    Outcome,
    SecondTest,
    Snapshot,
    TrialOutcome,
    TrialState,
    read_evaluation_outcome,
)
from inklab.records.plan import DataInfo, GenerationEvaluation, Plan, RobustnessEvaluation
from inklab.records.record import PLAN_FILE, TIMER_FILE
from inklab.records.status import Draft, ElapsedTime, PendingCommit

LOCK, LOCK_HOLDER = ".lock", ".lock-holder"
CHECKPOINTS, COMMIT = "checkpoints", "pending_commit.json"
"""In the directory of an attempt: its checkpoints; what the runner has begun to commit of it."""

T = TypeVar("T")
Ended = TypeVar("Ended", bound=Outcome)


class RunDirectory:
    """A run on disk, whose directory need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def existing(cls, path: Path) -> "RunDirectory":
        """A directory that is a run. Raises RunError: it is none."""
        run_directory = cls(path)
        if not run_directory.has_plan:
            raise RunError(
                f"'{path}' is not a run: it has no {PLAN_FILE}. Name a run directory, such as runs/latest."
            )
        return run_directory

    # ------------------------------------------------------------ paths

    @property
    def work(self) -> Path:
        """Directory of everything that is not finished."""
        return self.path / "work"

    @property
    def status_path(self) -> Path:
        """The status file; it exists only while a process drives the run, or if it was killed."""
        return self.work / "status.json"

    @property
    def has_plan(self) -> bool:
        """Whether the run has got as far as a plan."""
        return (self.path / PLAN_FILE).is_file()

    def model_dir(self, trial: str) -> Path:
        """Where a trial's trained model lies."""
        return self.path / "trials" / trial / "model"

    def second_test_path(self, trial: str, dataset: str) -> Path:
        """The file of what a trial's model reaches on a second test set."""
        return self.path / "trials" / trial / "second_tests" / f"{fingerprint(dataset)}.json"

    # ------------------------------------------------------------ reading

    def plan(self) -> Plan:
        """The plan of the run. Raises CorruptFileError: `plan.json` is damaged."""
        with gc_paused():
            return Plan.read(self.path / PLAN_FILE)

    def outcome(self, id: str) -> TrialOutcome | None:
        """What became of a trial; None if nothing yet.

        Raises:
            CorruptFileError: it is damaged, or another trial's.
        """
        with suppress(FileNotFoundError, NotADirectoryError):
            return TrialOutcome.read_planned(self.path / "trials" / id / "outcome.json", id)
        return None

    def evaluation(
        self, planned: RobustnessEvaluation | GenerationEvaluation, n_classes: int
    ) -> EvaluationOutcome | None:
        """What became of an evaluation; None if nothing yet.

        Raises:
            CorruptFileError: it is damaged, or computed something else than what was planned.
        """
        path = self.path / "evaluations" / planned.id / "outcome.json"
        with suppress(FileNotFoundError, NotADirectoryError):
            return read_evaluation_outcome(path, planned, n_classes)
        return None

    def snapshot(self, earlier: Snapshot | None = None) -> Snapshot:
        """The plan and every outcome that is there; final ones of an earlier snapshot are not read again.

        Raises:
            CorruptFileError: one of them is damaged.
        """
        trials = _final(earlier.outcomes) if earlier else {}
        others = _final(earlier.evaluations) if earlier else {}
        with gc_paused():
            plan = self.plan()
            shared: dict[str, TrialOutcome] = {}
            outcomes = {
                id: self._with_second_tests(
                    trials.get(id) or _share_parts(self.outcome(id), shared, planned.config), plan.data
                )
                for id, planned in plan.trials.items()
            }
            n_classes = plan.data.n_classes
            evaluations = {
                id: others.get(id) or self.evaluation(job, n_classes) for id, job in plan.evaluations.items()
            }
            return Snapshot(plan, _without_none(outcomes), _without_none(evaluations))

    def second_test(self, trial: str, dataset: str) -> SecondTest | None:
        """What a trial's model reaches on a second test set; None if that is not computed yet.

        Raises:
            CorruptFileError: it is damaged.
        """
        with suppress(FileNotFoundError, NotADirectoryError):
            return SecondTest.read(self.second_test_path(trial, dataset))
        return None

    def _with_second_tests(self, outcome: TrialOutcome | None, data: DataInfo) -> TrialOutcome | None:
        """An outcome with the metrics of the plan's second test sets among its own."""
        if outcome is None or outcome.metrics is None or not data.test_on:
            return outcome
        metrics = dict(outcome.metrics)
        for name in data.test_on:
            if scores := self.second_test(outcome.id, name):
                metrics |= scores.named_metrics
        return outcome.model_copy(update={"metrics": metrics})

    def states(self, plan: Plan, ids: Iterable[str] | None = None) -> dict[str, TrialState]:
        """The state of each trial and evaluation that has an outcome, of the plan's or of some ids.

        Raises:
            CorruptFileError: an outcome is damaged, or another's.
        """
        states: dict[str, TrialState] = {}
        with gc_paused():
            for id in plan.ids if ids is None else ids:
                planned = plan.evaluations.get(id)
                outcome = self.evaluation(planned, plan.data.n_classes) if planned else self.outcome(id)
                if outcome:
                    states[id] = outcome.state
        return states

    def orphaned(self, plan: Plan) -> int:
        """How many outcomes lie here that the plan does not name: of other settings, data or versions.

        They stay, and are part of no number.
        """
        planned = set(plan.ids)
        paths = (*self.path.glob("trials/*/outcome.json"), *self.path.glob("evaluations/*/outcome.json"))
        return sum(path.parent.name not in planned for path in paths)

    # ------------------------------------------------------------ writing

    def record(self, outcome: TrialOutcome | EvaluationOutcome) -> None:
        """Commit an outcome that has no other files, such as a failure."""
        kind = "trials" if isinstance(outcome, TrialOutcome) else "evaluations"
        draft_dir = self.work / "records" / kind / outcome.id
        outcome.write(draft_dir / "outcome.json")
        replace_dir(draft_dir, self.path / kind / outcome.id)

    def commit_all(self, drafts: Iterable[Draft], attempt_dir: Path) -> None:
        """Move what an attempt at a job has finished into place, and delete the rest of all attempts at it.

        A draft, `attempt_dir/kind/id`, replaces all that an earlier attempt left. If this process is killed
        on the way, the next one completes it (`recover_commits`).
        """
        PendingCommit(drafts=tuple(drafts)).write(attempt_dir / COMMIT)
        self._complete_commit(attempt_dir)

    def recover_commits(self) -> None:
        """Complete what a killed process had begun to commit.

        Raises:
            CorruptFileError: the list of what was to be committed is damaged.
        """
        for marker in sorted(self.work.glob(f"*/*/{COMMIT}")):
            self._complete_commit(marker.parent)

    def _complete_commit(self, attempt_dir: Path) -> None:
        for draft in PendingCommit.read(attempt_dir / COMMIT).drafts:
            draft_dir = attempt_dir / draft.kind / draft.id
            if draft_dir.is_dir():
                replace_dir(draft_dir, self.path / draft.kind / draft.id)
        shutil.rmtree(attempt_dir.parent, ignore_errors=True)

    def add_elapsed(self, seconds: float) -> None:
        """Add a session's wall-clock seconds to those of the run."""
        path = self.path / TIMER_FILE
        earlier = ElapsedTime.read(path).seconds if path.is_file() else 0.0
        ElapsedTime(seconds=earlier + seconds).write(path)

    def cleanup(self) -> None:
        """Delete what is of no use once nothing runs: images, drafts, what a killed process was writing.

        Checkpoints of trainings that have not ended stay, and what was to be committed when the disk refused.
        """
        for directory in (self.path, self.path / "figures", self.work):
            cleanup_drafts(directory)
        shutil.rmtree(self.work / "data", ignore_errors=True)
        self.status_path.unlink(missing_ok=True)
        for path in self.work.glob("*/*/*"):
            if path.is_file() and path.name != COMMIT:
                path.unlink(missing_ok=True)
            elif path.name != CHECKPOINTS and not (path.parent / COMMIT).exists():
                shutil.rmtree(path, ignore_errors=True)
        for directory in (*self.work.glob("*/*"), *self.work.glob("*"), self.work):
            with suppress(OSError):  # not empty, or not there
                directory.rmdir()

    # ------------------------------------------------------------ one process at a time

    def check_writable(self) -> None:
        """Refuse a path that can't become a run directory, before anything is written.

        Raises:
            RunError: a file is in the way, or the directory holds something else.
        """
        path = self.path
        existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
        if not existing.is_dir():
            raise RunError(
                f"'{existing}' is a file, so '{path}' can't be a run directory. Name another with --run-dir."
            )
        is_begun = self.has_plan or (path / LOCK).exists()
        if path.is_dir() and any(path.iterdir()) and not is_begun:
            raise RunError(
                f"'{path}' holds other files and is not a run. Name a new or empty directory with --run-dir."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the one process that drives this run. The lock is the operating system's: it can't go stale.

        Raises:
            RunError: another process drives it.
        """
        from filelock import FileLock, Timeout  # 40 ms, which commands that only read need not spend

        make_dir(self.path)
        holder = self.path / LOCK_HOLDER  # not the lock file itself, which filelock may truncate
        try:
            lock = FileLock(self.path / LOCK, blocking=False).acquire()
        except Timeout:
            name = holder.read_text(encoding="utf-8") if holder.is_file() else "another process"
            raise RunError(f"'{self.path}' is being run by {name}. Wait for it, or stop it first.") from None
        with lock:
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            with suppress(OSError):  # it only improves the error message
                holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}")
            try:
                yield
            finally:
                holder.unlink(missing_ok=True)


def _share_parts(
    outcome: TrialOutcome | None, shared: dict[str, TrialOutcome], config: str
) -> TrialOutcome | None:
    """An outcome whose large parts are objects of the first one with the same configuration, where equal.

    Of 10,000 outcomes, configuration, layers and environment would take two thirds of the memory.
    """
    if outcome is None:
        return None
    first = shared.setdefault(config, outcome)
    parts = {name: getattr(first, name) for name in ("config", "layers", "environment")}
    equal = {name: part for name, part in parts.items() if part == getattr(outcome, name)}
    return outcome.model_copy(update=equal)


def new_attempt_dir(job_dir: Path) -> Path:
    """Make a directory for an attempt at a job, whose attempts all lie in `job_dir`, `work/<job>`.

    No two attempts share one, so a worker that a killed process left behind can't overwrite anything.

    Raises:
        WriteError: the disk refuses.
    """
    try:
        make_dir(job_dir)
        numbers = [int(path.name) for path in job_dir.iterdir() if path.name.isdigit()]
        attempt_dir = job_dir / str(1 + max(numbers, default=0))
        make_dir(attempt_dir)
    except OSError as error:
        raise WriteError(job_dir, error) from error
    return attempt_dir


def _final(outcomes: Mapping[str, Ended]) -> dict[str, Ended]:
    return {id: outcome for id, outcome in outcomes.items() if outcome.state.is_final}


def _without_none(values: Mapping[str, T | None]) -> dict[str, T]:
    return {key: value for key, value in values.items() if value is not None}


# ---------------------------------------------------------------- where runs are


def runs_root() -> Path:
    """Where runs go: `$INKLAB_RUNS_DIR`, else `runs` in the working directory."""
    return Path(os.environ.get("INKLAB_RUNS_DIR") or "runs")


def find_run(name: str) -> Path:
    """The directory of a run, given as a path, "latest", or an id below the runs directory.

    "runs/latest", as pages write it, is understood wherever the runs directory is.

    Raises:
        RunError: there is none.
    """
    root, below = runs_root(), name.removeprefix("runs/")
    candidates = [Path(name), root / below, *sorted(root.glob(f"*/{below}"))]
    for path in candidates:
        if (path / PLAN_FILE).is_file():
            return path.resolve()
    runs = [str(path.parent) for path in sorted(runs_root().glob(f"*/*/{PLAN_FILE}"))]
    if runs:
        advice = f"runs here: {', '.join(runs[-5:])}"
    else:
        advice = f"there is none below '{runs_root()}' yet: start one with inklab run"
    raise RunError(
        f"'{name}' is not a run (it has no {PLAN_FILE}); {advice}",
        key=name,
        suggestion=nearest_name(name, [Path(run).name for run in runs]),
    )


def link_latest(path: Path) -> bool:
    """Let `latest` in the runs directory point at a run in it; False if the file system has no links."""
    root = runs_root().resolve()
    if root not in path.resolve().parents or not (path / PLAN_FILE).is_file():
        return True  # not one of those that `latest` is for
    draft = root / f".latest-{os.getpid()}"
    try:
        draft.symlink_to(os.path.relpath(path.resolve(), root))
        os.replace(draft, root / "latest")
    except OSError:
        draft.unlink(missing_ok=True)
        return False
    return True

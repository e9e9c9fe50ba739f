"""How far a run is: the status file that its process keeps up to date, and the progress read from it."""

import math
import os
import socket
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from itertools import islice, zip_longest

from inklab.errors import DataError, WriteError
from inklab.records.outcomes import History, Snapshot, TrialOutcome, TrialState, count_states
from inklab.records.plan import AnyExperimentPlan, Plan, TrainingPlan
from inklab.records.status import (
    ExperimentProgress,
    JobProgress,
    LearningCurve,
    LiveStatus,
    Progress,
    RunningJob,
)
from inklab.study.jobs import EpochEnded, Event, EventCallback, Planned, Probing, Started, TrainingJob, Warned
from inklab.study.resources import estimate_cost, group_seconds
from inklab.study.run_directory import RunDirectory

WRITE_SECONDS = 1.0
"""From a write to one for a further epoch. A write takes the process that drives the run milliseconds."""

MAX_WRITTEN_JOBS = 100
"""Running jobs in the status file, those that began first; with more, it is not written for each job."""

REMOTE_TIMEOUT_SECONDS = 900.0
"""Without a sign of life that a process on another machine is believed to go on."""

MIN_MEASURED_SHARE, MIN_MEASURED_SECONDS = 0.05, 10.0
"""Of what was to be done: before that, the estimate is not corrected by the speed so far."""

MAX_CURVES = 60
"""Of an experiment: more can't be distinguished, and a sweep of 10,000 trials would be 20 MB a poll."""


# ---------------------------------------------------------------- writing


def _with_epoch(job: RunningJob, event: EpochEnded) -> RunningJob:
    """A job after another epoch. Trials that are trained one after the other begin at 1 again, one by one."""
    index, epoch, train_loss = job.index_in_group, job.epoch, job.train_loss
    if epoch and event.epoch <= epoch[-1]:
        index, epoch, train_loss = index + 1, (), ()
    loss = event.train_loss if math.isfinite(event.train_loss) else None
    update = {
        "index_in_group": index, "epochs": event.epochs,
        "epoch": (*epoch, event.epoch), "train_loss": (*train_loss, loss),
    }  # fmt: skip
    return job.model_copy(update=update)


class StatusFile:
    """An event callback that keeps `work/status.json` up to date, and first passes every event on."""

    def __init__(
        self, run_directory: RunDirectory, on_event: EventCallback, write_seconds: float = WRITE_SECONDS
    ) -> None:
        self._run_directory, self._on_event, self._write_seconds = run_directory, on_event, write_seconds
        self._status = LiveStatus(process=os.getpid(), host=socket.gethostname(), started_at=time.time())
        self._running: dict[str, RunningJob] = {}
        self._written_at = -math.inf

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        self._on_event(event)
        if isinstance(event, Planned):
            update = {"planned_at": time.time(), "estimated_seconds": event.estimate.seconds}
            self._status = self._status.model_copy(update=update)
        elif isinstance(event, Started):
            job = event.job
            trials = job.ids if isinstance(job, TrainingJob) else ()
            self._running[job.name] = RunningJob(job=job.name, label=job.label, trials=trials)
        elif isinstance(event, EpochEnded):
            self._running[event.job.name] = _with_epoch(self._running[event.job.name], event)
        elif not isinstance(event, Probing | Warned):
            self._running.pop(event.job.name, None)
        # Of few jobs each is written at once: one without epochs would not be seen at all.
        is_due = time.monotonic() - self._written_at >= self._write_seconds
        is_news = not isinstance(event, EpochEnded) and len(self._running) <= MAX_WRITTEN_JOBS
        if is_due or is_news:
            self._write()

    def _write(self) -> None:
        running = tuple(islice(self._running.values(), MAX_WRITTEN_JOBS))
        status = self._status.model_copy(update={"running": running})
        with suppress(WriteError):
            status.write(self._run_directory.status_path)
        self._written_at = time.monotonic()


# ---------------------------------------------------------------- reading


def read_status(run_directory: RunDirectory) -> LiveStatus | None:
    """What the process that drives a run is at; None if there is none, as far as can be known."""
    path = run_directory.status_path
    try:
        status = LiveStatus.read(path)
        is_alive = _is_alive(status, path.stat().st_mtime)
    except (OSError, DataError):  # not there, or damaged: nothing depends on it
        return None
    return status if is_alive else None


def _is_alive(status: LiveStatus, changed_at: float) -> bool:
    if status.host != socket.gethostname():
        return time.time() - changed_at < REMOTE_TIMEOUT_SECONDS
    try:
        os.kill(status.process, 0)
    except PermissionError:  # another user's process
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


class RunMonitor:
    """Looks at a run again and again, and reads final outcomes only once. It writes and locks nothing."""

    def __init__(self, run_directory: RunDirectory, max_curves: int = MAX_CURVES) -> None:
        self._run_directory, self._max_curves = run_directory, max_curves
        self._snapshot: Snapshot | None = None

    def poll(self) -> Progress:
        """How far the run is now. Raises CorruptFileError: the plan or an outcome is damaged."""
        self._snapshot = self._run_directory.snapshot(self._snapshot)
        return _progress(self._snapshot, read_status(self._run_directory), self._max_curves)


def _progress(snapshot: Snapshot, status: LiveStatus | None, max_curves: int) -> Progress:
    plan, states = snapshot.plan, snapshot.states
    pending = {id for id in plan.ids if id not in states or not states[id].is_final}
    partial = _partial_histories(plan, status) if status else {}
    return Progress(
        state="running" if status else "stopped" if pending else "finished",
        started_at=status.started_at if status else None,
        seconds_left=_seconds_left(plan, pending, status) if status and pending else None,
        done=len(set(plan.ids)) - len(pending),
        total=len(set(plan.ids)),
        experiments=tuple(_experiment_progress(plan, experiment, states) for experiment in plan.experiments),
        running=tuple(map(_job_progress, status.running)) if status else (),
        curves=tuple(
            curve
            for experiment in plan.training
            for curve in _curves(experiment, snapshot.outcomes, partial, max_curves)
        ),
    )


def _experiment_progress(
    plan: Plan, experiment: AnyExperimentPlan, states: Mapping[str, TrialState]
) -> ExperimentProgress:
    ids = (*plan.trials_of(experiment.name), *plan.evaluations_of(experiment.name))
    return ExperimentProgress(
        name=experiment.name, title=experiment.title or experiment.name, kind=experiment.kind,
        outcomes=count_states(map(states.get, ids)), total=len(ids),
    )  # fmt: skip


def _job_progress(job: RunningJob) -> JobProgress:
    return JobProgress(
        job=job.job, label=job.label, epochs=job.epochs, epoch=job.epoch[-1] if job.epoch else None,
        train_loss=job.train_loss[-1] if job.train_loss else None,
    )  # fmt: skip


def _seconds_left(plan: Plan, pending: Collection[str], status: LiveStatus) -> float | None:
    """The estimate for what is left, corrected by the speed at which the rest was done."""
    if status.planned_at is None or status.estimated_seconds is None:
        return None
    left = max(0.0, estimate_cost(plan, pending).seconds - _trained_seconds(plan, status))
    elapsed, done = time.time() - status.planned_at, status.estimated_seconds - left
    if elapsed < MIN_MEASURED_SECONDS or done < MIN_MEASURED_SHARE * status.estimated_seconds:
        return left
    return left * elapsed / done


def _trained_seconds(plan: Plan, status: LiveStatus) -> float:
    """Estimated seconds of the epochs that are done of trainings which have not ended."""
    seconds = 0.0
    for job in status.running:
        trials = [trial for trial in job.trials if trial in plan.trials]
        if trials and job.epoch and job.epochs:
            group = plan.group_of_trial[trials[0]]
            whole = group_seconds(plan, group, len(trials))
            one_by_one = 1 if group.stacked else len(trials)
            seconds += whole * (job.index_in_group + job.epoch[-1] / job.epochs) / one_by_one
    return seconds / plan.execution.workers


# ---------------------------------------------------------------- learning curves


def _curves(
    experiment: TrainingPlan,
    outcomes: Mapping[str, TrialOutcome],
    partial: Mapping[str, History],
    max_curves: int,
) -> list[LearningCurve]:
    """The curves of an experiment that there are: of each setting the first replicates."""
    curves: list[LearningCurve] = []
    for replicate, trials in enumerate(zip_longest(*(setting.trials for setting in experiment.settings))):
        for setting, trial in zip(experiment.settings, trials, strict=True):
            history = outcomes[trial].history if trial in outcomes else partial.get(trial)
            if history and history.epoch and len(curves) < max_curves:
                curve = LearningCurve(
                    trial=trial, experiment=experiment.name, setting=setting.values, replicate=replicate,
                    finished=trial in outcomes, epoch=history.epoch, train_loss=history.train_loss,
                    validation_loss=history.validation_loss,
                    validation_accuracy=history.validation_accuracy,
                )  # fmt: skip
                curves.append(curve)
    return curves


def _partial_histories(plan: Plan, status: LiveStatus) -> dict[str, History]:
    """The mean training loss of each job that is under way, by the trial that shows it."""
    histories = {}
    for job in status.running:
        if job.trials and job.epoch:
            group = plan.group_of_trial.get(job.trials[0])
            is_stacked = group is not None and group.stacked
            index = 0 if is_stacked else min(job.index_in_group, len(job.trials) - 1)
            histories[job.trials[index]] = History(epoch=job.epoch, train_loss=job.train_loss)
    return histories

"""Which jobs can run: a state machine over a plan and the states of its trials. It reads and runs nothing."""

from collections.abc import Mapping
from typing import NamedTuple

from inklab.records.outcomes import TrialState
from inklab.records.plan import Plan
from inklab.study.jobs import EvaluationJob, Job, TrainingJob
from inklab.study.resources import group_seconds


class BlockedJob(NamedTuple):
    """An evaluation that can't be computed.

    Attributes:
        job: of the evaluation.
        reason: which of its trials did not end well.
    """

    job: EvaluationJob
    reason: str


class Scheduler:
    """Decides what runs next, from what has ended.

    Trials without a final state are trained, longest group first, so that workers end together. An evaluation
    is ready as soon as all trials that it depends on have ended; if not all of them are done, it is blocked.

    Args:
        plan: of the run.
        states: of the trials and evaluations that have an outcome.

    Example:
        while scheduler.pending:
            for job in scheduler.ready():
                scheduler.ended(job, run(job))
    """

    def __init__(self, plan: Plan, states: Mapping[str, TrialState]) -> None:
        self._plan = plan
        self._states = dict(states)
        self._pending = {id for id in plan.ids if id not in states or not states[id].is_final}
        self._issued: set[str] = set()

    @property
    def pending(self) -> frozenset[str]:
        """Ids of the trials and evaluations that have no final state, or have not been tried again yet."""
        return frozenset(self._pending)

    def ready(self) -> list[Job]:
        """The jobs that can start now; each is returned once."""
        jobs: list[Job] = [*self._training_jobs(), *self._evaluation_jobs()]
        new = [job for job in jobs if self._issued.isdisjoint(job.ids)]
        self._issued.update(id for job in new for id in job.ids)
        return new

    def blocked(self) -> list[BlockedJob]:
        """The evaluations that can't be computed, until they are reported by `ended`."""
        blocked = []
        for job in self._evaluation_jobs(blocked=True):
            bad = [
                f"trial {trial} is {self._states[trial]}"
                for trial in job.evaluation.depends_on
                if self._states[trial] is not TrialState.DONE
            ]
            blocked.append(BlockedJob(job, f"it needs trials that are done, but {' and '.join(bad)}"))
        return blocked

    def ended(self, job: Job, states: Mapping[str, TrialState]) -> None:
        """Take note that a job has ended, whatever came of it.

        Args:
            job: that has ended.
            states: of what it computed.
        """
        self._states.update(states)
        self._pending.difference_update(job.ids)

    def _training_jobs(self) -> list[TrainingJob]:
        jobs = []
        for group in self._plan.groups:
            ids = [id for id in group.trials if id in self._pending]
            if ids:
                trials = tuple(map(self._plan.trial, ids))
                seconds = group_seconds(self._plan, group, len(ids))
                jobs.append(TrainingJob(group, trials, self._experiments_of(ids), seconds))
        return sorted(jobs, key=lambda job: -job.seconds)

    def _experiments_of(self, trials: list[str]) -> tuple[str, ...]:
        ids = set(trials)
        return tuple(
            experiment.name
            for experiment in self._plan.training
            if any(not ids.isdisjoint(setting.trials) for setting in experiment.settings)
        )

    def _evaluation_jobs(self, *, blocked: bool = False) -> list[EvaluationJob]:
        """Of the evaluations whose trials have all ended: those that can be computed, or those that can't."""
        return [
            EvaluationJob(evaluation)
            for id, evaluation in self._plan.evaluations.items()
            if id in self._pending
            and self._pending.isdisjoint(evaluation.depends_on)
            and blocked == any(self._states[trial] is not TrialState.DONE for trial in evaluation.depends_on)
        ]

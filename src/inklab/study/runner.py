"""Runs a study: plans it, computes what is missing, commits outcomes, writes results."""

import shutil
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from inklab.data.sources import datasets
from inklab.errors import DataError, RunError
from inklab.records.execution import ExecutionConfig, NetworkTraits
from inklab.records.outcomes import TrialState, WrittenState, failed_evaluation
from inklab.records.plan import Plan
from inklab.records.recipe import TrialConfig
from inklab.records.record import PLAN_FILE, RESULTS_FILE
from inklab.records.results import Results
from inklab.results.summarize import write_results
from inklab.study.executor import Executor, ExecutorFactory
from inklab.study.executors.local_executor import LocalExecutor
from inklab.study.jobs import (
    CheckJob,
    Done,
    EvaluationJob,
    EventCallback,
    Failed,
    Job,
    JobContext,
    Lost,
    Planned,
    PreflightJob,
    Probing,
    TrainingJob,
    ignore_event,
    write_samples,
    write_split_arrays,
)
from inklab.study.load import PreparedStudy, check_names
from inklab.study.planner import NUMERICS, Planner, distinct_configs, plan_study, run_id
from inklab.study.resources import (
    Cost,
    ExecutionOptions,
    choose_execution,
    default_profile,
    estimate_cost,
    group_seconds,
    load_cached_profile,
    load_or_measure_profile,
    resolve_against_plan,
)
from inklab.study.run_directory import RunDirectory
from inklab.study.second_test import evaluate_second_tests
from inklab.study.spec import SavedStudy
from inklab.usercode import pickle_live


class Scheduler:
    """Decides what runs next, from what has ended: a state machine that reads and runs nothing.

    Trials without a final state are trained, longest group first, so that workers end together. An evaluation
    is ready as soon as all trials that it depends on have ended; if not all of them are done, it is blocked.
    What `ready` and `ended` cost depends on what has ended since, not on the size of the plan.

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
        self._trainings: list[Job] = list(self._training_jobs())
        # Of evaluations: how many of its trials have not ended; then, those of which all have.
        self._order = {id: index for index, id in enumerate(plan.evaluations)}
        self._missing: dict[str, int] = {}
        self._dependents: defaultdict[str, list[str]] = defaultdict(list)
        for id, evaluation in plan.evaluations.items():
            if id in self._pending:
                trials = self._pending.intersection(evaluation.depends_on)
                self._missing[id] = len(trials)
                for trial in trials:
                    self._dependents[trial].append(id)
        self._settled = {id: None for id, count in self._missing.items() if count == 0}

    @property
    def pending(self) -> frozenset[str]:
        """Ids of the trials and evaluations that have no final state, or have not been tried again yet."""
        return frozenset(self._pending)

    def ready(self) -> list[Job]:
        """The jobs that can start now; each is returned once."""
        trainings, self._trainings = self._trainings, []
        ready = [id for id in self._settled if not self._bad_trials(id)]
        for id in ready:
            del self._settled[id]
        return [*trainings, *(EvaluationJob(self._plan.evaluations[id]) for id in ready)]

    def blocked(self) -> list[tuple[EvaluationJob, str]]:
        """The evaluations that can't be computed and why, until they are reported by `ended`."""
        return [
            (
                EvaluationJob(self._plan.evaluations[id]),
                f"it needs trials that are done, but {' and '.join(bad)}",
            )
            for id in self._settled
            if (bad := self._bad_trials(id))
        ]

    def ended(self, job: Job, states: Mapping[str, TrialState]) -> None:
        """Take note that a job has ended, and of the states of what it computed."""
        self._states.update(states)
        settled: set[str] = set()
        for id in self._pending.intersection(job.ids):
            self._pending.remove(id)
            self._settled.pop(id, None)
            for evaluation in self._dependents.pop(id, ()):
                self._missing[evaluation] -= 1
                if self._missing[evaluation] == 0:
                    settled.add(evaluation)
        self._settled |= dict.fromkeys(sorted(settled, key=lambda id: self._order[id]))

    def _bad_trials(self, evaluation: str) -> list[str]:
        """The trials that an evaluation needs and that are not done, with their states."""
        trials = dict.fromkeys(self._plan.evaluations[evaluation].depends_on)
        states = {trial: self._states[trial] for trial in trials}
        return [f"trial {trial} is {state}" for trial, state in states.items() if state != TrialState.DONE]

    def _training_jobs(self) -> list[TrainingJob]:
        jobs, experiments = [], self._experiments_by_trial()
        for group in self._plan.groups:
            if ids := [id for id in group.trials if id in self._pending]:
                trials = tuple(map(self._plan.trial, ids))
                seconds = group_seconds(self._plan, group, len(ids))
                indices = sorted({index for id in ids for index in experiments[id]})
                labels = tuple(self._plan.training[index].name for index in indices)
                jobs.append(TrainingJob(group, trials, labels, seconds))
        return sorted(jobs, key=lambda job: -job.seconds)

    def _experiments_by_trial(self) -> Mapping[str, set[int]]:
        """The indices of the training experiments that each trial is part of."""
        indices: defaultdict[str, set[int]] = defaultdict(set)
        for index, experiment in enumerate(self._plan.training):
            for setting in experiment.settings:
                for trial in setting.trials:
                    indices[trial].add(index)
        return indices


def keep_device_checks(
    networks: Mapping[str, NetworkTraits], earlier: Plan | None
) -> dict[str, NetworkTraits]:
    """What preflight checks found out, with the device checks of an earlier session.

    A check that ends otherwise now, as where memory is short, must not move a network to another device.
    """
    kept = {key: traits.device_check for key, traits in earlier.networks.items()} if earlier else {}
    return {
        key: traits.model_copy(update={"device_check": kept[key]}) if kept.get(key) else traits
        for key, traits in networks.items()
    }


@dataclass
class StudyRunner:
    """Runs a study in a directory; what is finished there stays.

    Args:
        study: with its data.
        run_directory: of the run.
        options: how to run the study; anything left open is chosen from this machine's measured speed.
        on_event: called with everything that happens.
        command: the command that reproduces this run; part of the plan and the report.
        executor: makes the executor that runs the jobs.
    """

    study: PreparedStudy
    run_directory: RunDirectory
    options: ExecutionOptions = ExecutionOptions()
    on_event: EventCallback = ignore_event
    command: str = ""
    executor: ExecutorFactory = LocalExecutor

    def check(self) -> None:
        """Find mistakes before anything is written or started.

        Raises:
            ConfigError: the study can't be planned.
            RunError: the directory holds another study, or can't become a run directory.
            DataError: the images have problems that make training pointless, and nobody accepted them.
        """
        earlier = self._earlier_plan()
        # Trials are planned before networks are checked, so mistakes are found without a worker.
        Planner(self.study.spec, self.study.data, self._execution(earlier, measure=False)).experiments()
        self.run_directory.check_writable()
        self._check_same_study(earlier)
        if earlier is None and not self.options.accept_data_problems:  # a run that has begun was accepted
            self._check_images()

    @property
    def has_begun(self) -> bool:
        """Whether an earlier session has planned this run."""
        return self.run_directory.has_plan

    def dry_run(self) -> tuple[Plan, Cost]:
        """The plan and the cost of what is missing; checks networks in this process and writes nothing.

        Raises:
            ConfigError: the study can't be planned.
            RunError: see `check`.
        """
        from inklab.training.device_check import check_network  # torch: a run checks networks in its workers

        self.check()
        check_names(self.study.spec)
        earlier, data = self._earlier_plan(), self.study.data
        execution = self._execution(earlier)
        networks = {
            key: check_network(
                key, config, data.shape, data.n_classes, data.train, execution.device,
                compiled=execution.compile != "no",
            )
            for key, config in self._configs(execution).items()
        }  # fmt: skip
        plan = self._plan(execution, keep_device_checks(networks, earlier), earlier)
        return plan, estimate_cost(plan, self._scheduler(plan).pending)

    def run(self, *, checked: bool = False) -> Results:
        """Compute what is missing.

        Args:
            checked: `check` has just been called; it plans the study, so once is enough.

        Returns:
            The results, which are in the directory, too.

        Raises:
            RunError: another process runs in this directory, or a network fails before training.
            ConfigError: the study can't be planned.
            WriteError: the disk refuses; finished work and checkpoints of the rest are kept.
            KeyboardInterrupt: the user interrupts the run; the same is kept.
        """
        if not checked:
            self.check()
        with self.run_directory.locked():
            earlier = self._earlier_plan()
            execution, started = self._execution(earlier), time.monotonic()
            try:
                self._run_missing(execution, earlier)
                self._run_second_tests()
            except BaseException:
                with suppress(Exception):  # what stopped the run is reported, not what follows from it
                    self._end_session(started)
                raise
            self._end_session(started)
        return Results.read(self.run_directory.path / RESULTS_FILE)

    # ------------------------------------------------------------ how it is run

    def _execution(self, earlier: Plan | None, *, measure: bool = True) -> ExecutionConfig:
        """How this run is carried out: as it was begun, else by what this machine is fast at."""
        if earlier:
            return resolve_against_plan(earlier.execution, self.options)
        if measure:
            profile = load_or_measure_profile(lambda: self.on_event(Probing()))
        else:
            profile = load_cached_profile() or default_profile()
        return choose_execution(profile, self.options)

    def _earlier_plan(self) -> Plan | None:
        return self.run_directory.plan() if self.run_directory.has_plan else None

    def _check_same_study(self, plan: Plan | None) -> None:
        """A directory given with --run-dir must not mix studies."""
        if plan and run_id(plan.study, plan.profile, plan.data.sha256, plan.seed) != self.study.id:
            raise RunError(
                f"'{self.run_directory.path}' holds study '{plan.study}' (profile {plan.profile}, data "
                f"{plan.data.dataset}, seed {plan.seed}). Name another directory with --run-dir."
            )

    def _check_images(self) -> None:
        if problems := self.study.data_report.problems:
            raise DataError(
                f"'{self.study.data.dataset}': {' '.join(problems)} Train all the same with "
                "--accept-data-problems (accept_data_problems=True in Python)."
            )

    # ------------------------------------------------------------ planning

    def _configs(self, execution: ExecutionConfig) -> dict[str, TrialConfig]:
        return distinct_configs(self.study.spec, self.study.data, execution)

    def _plan(
        self, execution: ExecutionConfig, networks: dict[str, NetworkTraits], earlier: Plan | None
    ) -> Plan:
        study = self.study
        command, note = self.command, study.data.note
        if earlier:  # a resume loads the dataset by the name of what was really loaded, which has no note
            command, note = command or earlier.command, note or earlier.data.note
        data = study.data.model_copy(update={"note": note})
        return plan_study(
            study.spec, study.profile, data, execution, networks,
            command=command, data_report=study.data_report,
        )  # fmt: skip

    def _plan_again(self, execution: ExecutionConfig, earlier: Plan | None) -> Plan | None:
        """The plan, if earlier sessions have checked all of its networks; else None."""
        needed = self._configs(execution)
        if earlier is None or not needed.keys() <= earlier.networks.keys():
            return None
        return self._plan(execution, {key: earlier.networks[key] for key in needed}, earlier)

    def _scheduler(self, plan: Plan) -> Scheduler:
        return Scheduler(plan, self.run_directory.states(plan))

    def _preflight(self, executor: Executor, execution: ExecutionConfig) -> dict[str, NetworkTraits]:
        """Have every kind of network checked by a worker, so that this process need not import torch."""
        executor.submit(CheckJob(self.study.spec))
        for key, config in self._configs(execution).items():
            executor.submit(PreflightJob(key, config))
        networks = {}
        for event in executor.events():
            if isinstance(event, Failed | Lost):
                raise RunError(f"before training: {event.reason}")
            if isinstance(event, Done) and isinstance(event.job, PreflightJob) and event.traits:
                networks[event.job.key] = event.traits
        return networks

    # ------------------------------------------------------------ running

    def _run_missing(self, execution: ExecutionConfig, earlier: Plan | None) -> None:
        """Compute what is missing, after what a killed process had begun to commit."""
        self.run_directory.recover_commits()
        plan = self._plan_again(execution, earlier)
        if plan and not self._scheduler(plan).pending:
            self._write_plan(plan)  # its words may have changed
            self.on_event(Planned(estimate_cost(plan, ())))
            shutil.rmtree(self.run_directory.work, ignore_errors=True)
        else:
            self._compute(execution, plan, earlier)

    def _compute(self, execution: ExecutionConfig, plan: Plan | None, earlier: Plan | None) -> None:
        """Run all that is missing, planned again only if a network has changed."""
        self.run_directory.cleanup()
        write_split_arrays(self.run_directory, self.study.split)
        context = self._job_context(execution)
        with self.executor(context, self.run_directory.work, execution.workers) as executor:
            networks = keep_device_checks(self._preflight(executor, execution), earlier)
            if plan is None or plan.networks != networks:
                plan = self._plan(execution, networks, earlier)
            write_samples(self.run_directory, self.study.split.train)
            self._write_plan(plan)
            self._run_jobs(executor, plan, context)

    def _run_jobs(self, executor: Executor, plan: Plan, context: JobContext) -> None:
        scheduler = self._scheduler(plan)
        self.on_event(Planned(estimate_cost(plan, scheduler.pending)))
        self._submit_ready(executor, scheduler)
        for event in executor.events():
            if isinstance(event, Done | Failed | Lost):
                self._commit(event, context)  # before it is reported: what is said to be done is kept
                scheduler.ended(event.job, self.run_directory.states(plan, event.job.ids))
                self._submit_ready(executor, scheduler)
            self.on_event(event)

    def _submit_ready(self, executor: Executor, scheduler: Scheduler) -> None:
        for job, reason in scheduler.blocked():
            self.run_directory.record(failed_evaluation(job.evaluation, reason))
            scheduler.ended(job, {job.evaluation.id: TrialState.FAILED})
            self.on_event(Failed(job, reason))
        for ready in scheduler.ready():
            executor.submit(ready)

    def _commit(self, event: Done | Failed | Lost, context: JobContext) -> None:
        """Commit what a job left, or that it left nothing."""
        if isinstance(event, Done):
            self.run_directory.commit_all(event.drafts, event.attempt_dir)
            return
        state: WrittenState = TrialState.LOST if isinstance(event, Lost) else TrialState.FAILED
        if isinstance(event.job, EvaluationJob):
            self.run_directory.record(failed_evaluation(event.job.evaluation, event.reason, state))
        elif isinstance(event.job, TrainingJob):
            for trial in event.job.trials:
                self.run_directory.record(context.outcome(trial, state, reason=event.reason))

    def _run_second_tests(self) -> None:
        if self.study.test_on:
            snapshot, trusted = self.run_directory.snapshot(), self._trusted_code
            evaluate_second_tests(self.run_directory, snapshot, self.study.test_on, trusted)

    @property
    def _trusted_code(self) -> tuple[str, ...]:
        return tuple(experiment.network.name for experiment in self.study.spec.training.values())

    def _job_context(self, execution: ExecutionConfig) -> JobContext:
        data, spec = self.study.data, self.study.spec
        return JobContext(
            run_path=self.run_directory.path.resolve(), seed=spec.seed, labels=data.labels,
            preprocessing=data.preprocessing, data_sha256=data.sha256, numerics=NUMERICS,
            threads=execution.threads, checkpoint_every=self.options.checkpoint_every,
            device=execution.device, compile=execution.compile != "no",
            trust_code=self._trusted_code,
            live_objects=tuple(pickle_live(spec.live_objects).items()),
        )  # fmt: skip

    # ------------------------------------------------------------ writing

    def _write_plan(self, plan: Plan) -> None:
        spec = self.study.spec
        name = self.study.data.dataset  # what was really loaded, for a resume from anywhere
        if name not in datasets and Path(name).exists():
            name = str(Path(name).resolve())
        data = spec.data.model_copy(update={"dataset": name})
        study = spec.with_absolute_code.model_copy(update={"data": data})
        saved = SavedStudy(profile=self.study.profile, study=study)
        saved.write(self.run_directory.path / "study.json")
        plan.write(self.run_directory.path / PLAN_FILE)

    def _end_session(self, started: float) -> None:
        """Write results, also of an interrupted run, and clean up even if that fails."""
        try:
            if self.run_directory.has_plan:
                self.run_directory.add_elapsed(time.monotonic() - started)
                write_results(self.run_directory.path, self.run_directory.snapshot())
        finally:
            self.run_directory.cleanup()

"""Which jobs are ready, blocked or pending; no job is run here."""

import pytest
from plan_builder import plan_experiments

from inklab.records.outcomes import TrialState
from inklab.study.jobs import EvaluationJob, TrainingJob
from inklab.study.runner import Scheduler

DONE, DIVERGED, FAILED, LOST = TrialState.DONE, TrialState.DIVERGED, TrialState.FAILED, TrialState.LOST
NET = {"network": "mlp", "recipe": {"base": "sgd", "epochs": 2}, "replicates": 2}


@pytest.fixture(scope="module")
def plan():
    """Two trials of a short training, two of a long one, and two evaluations of each."""
    robustness = {"kind": "robustness", "strengths": [0.0], "images": 100}
    return plan_experiments({
        "short": NET,
        "long": {**NET, "network": "cnn", "recipe": {"base": "sgd", "epochs": 90}},
        "on-short": {**robustness, "pipelines": ["short"], "baseline": "short"},
        "on-both": {**robustness, "pipelines": ["long", "median+short"], "baseline": "long"},
    })  # fmt: skip


def training(jobs):
    return [job for job in jobs if isinstance(job, TrainingJob)]


def evaluations(jobs):
    return [job.evaluation for job in jobs if isinstance(job, EvaluationJob)]


def run_all(scheduler, states):
    """Let every job end with the states of its ids, DONE if not given; the jobs in their order."""
    jobs = []
    while ready := scheduler.ready():
        for job in ready:
            scheduler.ended(job, {id: states.get(id, DONE) for id in job.ids})
        jobs += ready
    return jobs


class TestReady:
    def test_at_first_all_trainings_the_longest_first_and_each_once(self, plan):
        scheduler = Scheduler(plan, {})
        jobs = scheduler.ready()
        assert jobs == training(jobs) and {id for job in jobs for id in job.ids} == set(plan.trials)
        seconds = [job.seconds for job in jobs]
        assert seconds == sorted(seconds, reverse=True) and jobs[0].experiments == ("long",)
        assert scheduler.ready() == [] == scheduler.blocked()

    def test_an_evaluation_as_soon_as_its_trials_are_done(self, plan):
        scheduler = Scheduler(plan, {})
        (short,) = [job for job in scheduler.ready() if job.experiments == ("short",)]
        scheduler.ended(short, dict.fromkeys(short.ids, DONE))
        ready = evaluations(scheduler.ready())
        assert [(evaluation.pipeline, evaluation.replicate) for evaluation in ready] == [
            ("short", 0), ("short", 1), ("median+short", 0), ("median+short", 1),
        ]  # fmt: skip

    def test_only_what_is_missing_of_a_group(self, plan):
        first, second = plan.trials_of("short")
        states = {**dict.fromkeys(plan.ids, DONE), second: FAILED}
        (job,) = Scheduler(plan, states).ready()
        assert job.ids == (second,) and set(job.group.trials) == {first, second}
        assert (job.name, job.label) == (f"train {second}", "short: 1 trial")
        assert job.trials == (plan.trial(second),)


class TestPending:
    @pytest.mark.parametrize(
        ("state", "is_pending"), [(DONE, False), (DIVERGED, False), (FAILED, True), (LOST, True)]
    )
    def test_failed_and_lost_ones_are_tried_again(self, plan, state, is_pending):
        trial = plan.trials_of("long")[0]
        scheduler = Scheduler(plan, {**dict.fromkeys(plan.ids, DONE), trial: state})
        assert scheduler.pending == ({trial} if is_pending else set())
        assert bool(scheduler.ready()) == is_pending

    def test_it_shrinks_to_nothing_and_every_id_is_computed_once(self, plan):
        scheduler = Scheduler(plan, {})
        jobs = run_all(scheduler, {})
        assert scheduler.pending == frozenset()
        assert sorted(id for job in jobs for id in job.ids) == sorted(plan.ids)
        assert len({job.name for job in jobs}) == len(jobs)
        again = Scheduler(plan, dict.fromkeys(plan.ids, DONE))
        assert (again.ready(), again.blocked(), again.pending) == ([], [], frozenset())

    def test_what_failed_in_this_run_is_not_tried_again_in_it(self, plan):
        scheduler = Scheduler(plan, {})
        failing = dict.fromkeys(plan.trials, FAILED)
        jobs = run_all(scheduler, failing)
        assert jobs == training(jobs) and set(plan.trials).isdisjoint(scheduler.pending)


class TestBlocked:
    @pytest.mark.parametrize("state", [DIVERGED, FAILED, LOST])
    def test_an_evaluation_whose_trial_did_not_end_well(self, plan, state):
        bad = plan.trials_of("long")[1]
        scheduler = Scheduler(plan, {})
        run_all(scheduler, {bad: state})
        ((job, reason),) = scheduler.blocked()
        assert (job.evaluation.pipeline, job.evaluation.replicate) == ("long", 1)
        assert bad in reason and str(state) in reason
        scheduler.ended(job, {job.evaluation.id: FAILED})
        assert scheduler.blocked() == [] and scheduler.pending == frozenset()

    def test_a_diverged_trial_of_an_earlier_run_blocks_at_once(self, plan):
        bad = plan.trials_of("short")[0]
        scheduler = Scheduler(plan, {**dict.fromkeys(plan.trials, DONE), bad: DIVERGED})
        assert {job.evaluation.replicate for job, _ in scheduler.blocked()} == {0}
        assert len(scheduler.blocked()) == 2 and len(scheduler.ready()) == 4

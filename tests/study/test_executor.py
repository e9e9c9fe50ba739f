"""Workers die, crash and refuse; every job ends once and the others go on. Real processes and trainings."""

import errno
import json
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import replace

import pytest
import toy_run

from inklab.errors import EXIT_INTERRUPTED, WriteError
from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.records.outcomes import TrialOutcome, TrialState
from inklab.records.plan import GroupPlan, Trial
from inklab.records.recipe import Recipe, TrialConfig
from inklab.records.status import Draft
from inklab.study.executor import THREAD_VARIABLES, Executor
from inklab.study.executors.local_executor import LocalExecutor
from inklab.study.jobs import (
    Done,
    EpochEnded,
    Failed,
    JobContext,
    Lost,
    Retried,
    Started,
    TrainingJob,
    write_split_arrays,
)
from inklab.study.planner import NUMERICS
from inklab.study.run_directory import RunDirectory
from inklab.training.checkpoint import list_checkpoints, read_checkpoint


def training(name, network, **recipe):
    """A job of one trial, both called like the trial."""
    config = TrialConfig(
        network=NetworkConfig.of(network),
        normalize=NormalizeConfig(),
        recipe=Recipe(**{"epochs": 2, "batch_size": 64, **recipe}),
        precision="fp32",
    )
    group = GroupPlan(
        trials=(name,), stacked=False, reseed_each_step=False, population_size=1, compiled=False
    )
    return TrainingJob(group, (Trial(name, config, 0),))


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    study, run_directory = toy_run.study(), RunDirectory(tmp_path_factory.mktemp("context"))
    write_split_arrays(run_directory, study.split)
    return JobContext(
        run_path=run_directory.path, seed=study.spec.seed, labels=study.data.labels,
        preprocessing=study.data.preprocessing, data_sha256=study.data.sha256, numerics=NUMERICS, threads=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def events(context, tmp_path_factory):
    """Four jobs on two workers, and a fifth submitted meanwhile: all events."""
    nets = toy_run.write_nets(tmp_path_factory.mktemp("nets"))
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    events = []
    with LocalExecutor(context, context.run_directory.work / "drafts", workers=2) as executor:
        assert isinstance(executor, Executor)
        executor.submit(training("good", "mlp"))
        for event in executor.events():
            events.append(event)
            assert len(multiprocessing.active_children()) == 1, "no more workers than jobs that wait"
        assert {name: os.environ.get(name) for name in THREAD_VARIABLES} == before
        for name in ("Raises", "Missing"):
            executor.submit(training(name, f"{nets}:{name}"))
        executor.submit(training("diverges", "mlp", learning_rate=1e30))
        for event in executor.events():
            events.append(event)
            if isinstance(event, Failed) and event.job.ids == ("Raises",):
                executor.submit(training("later", f"{nets}:Quiet"))
    assert multiprocessing.active_children() == []
    return events


@pytest.fixture(scope="module")
def killed_events(context, tmp_path_factory):
    """All events of two jobs whose workers are killed, once and always, beside a good one."""
    nets = toy_run.write_nets(tmp_path_factory.mktemp("nets"))
    with LocalExecutor(context, tmp_path_factory.mktemp("drafts"), workers=2) as executor:
        for name in ("DiesOnce", "Dies", "Quiet"):
            executor.submit(training(name, f"{nets}:{name}"))
        return list(executor.events())


def of(events, name):
    return [event for event in events if event.job.ids == (name,)]


def end(events, name):
    return of(events, name)[-1]


def kinds(events):
    return [type(event) for event in events]


def outcome_of(done):
    """The outcome in the draft of a training of one trial."""
    (draft,) = done.drafts
    return TrialOutcome.read(done.attempt_dir / draft.kind / draft.id / "outcome.json")


JOBS = ["good", "Raises", "Missing", "diverges", "later"]


def test_every_job_ends_exactly_once(events):
    ends = Counter(event.job.name for event in events if event.is_terminal)
    assert ends == {f"train {name}": 1 for name in JOBS}


def test_no_event_follows_the_end_of_a_job(events):
    assert all(end(events, name).is_terminal for name in JOBS)


def test_jobs_start_in_the_order_in_which_they_were_submitted(events):
    started = dict.fromkeys(event.job.ids[0] for event in events if isinstance(event, Started))
    assert list(started) == JOBS


@pytest.mark.integration
def test_a_job_whose_worker_is_killed_is_tried_again_and_then_lost(killed_events):
    once, always = of(killed_events, "DiesOnce"), of(killed_events, "Dies")
    assert kinds(once) == [Started, Retried, Started, EpochEnded, EpochEnded, Done]
    assert kinds(always) == [Started, Retried, Started, Lost]
    assert "SIGKILL" in once[1].reason and "SIGKILL" in always[-1].reason
    first, again = end(killed_events, "Quiet").attempt_dir, once[-1].attempt_dir
    assert (first.name, again.name) == ("1", "2") and first.parent != again.parent
    assert {outcome_of(end(killed_events, name)).state for name in ("DiesOnce", "Quiet")} == {TrialState.DONE}


def test_an_exception_is_reported_with_its_traceback_and_a_users_mistake_in_one_line(events):
    assert kinds(of(events, "Raises")) == [Started, Failed]
    reason = end(events, "Raises").reason
    assert reason.startswith("Traceback") and "nets.py" in reason
    assert reason.strip().endswith("ValueError: on purpose")
    failed = end(events, "Missing")
    assert isinstance(failed, Failed) and "'Missing'" in failed.reason and "\n" not in failed.reason


@pytest.mark.integration
def test_a_finite_loss_of_thousands_is_no_result(context, tmp_path):
    """It would go into means; ordinary trainings end below the loss of guessing."""
    job = training("huge", "mlp", learning_rate=1e4)
    with LocalExecutor(context, tmp_path / "work", workers=1) as executor:
        executor.submit(job)
        outcome = outcome_of(list(executor.events())[-1])
    assert outcome.state is TrialState.DIVERGED and outcome.metrics is None
    assert outcome.history.train_loss[-1] > 230 and "times that of guessing" in outcome.reason
    assert "learning-rate-too-high" in [diagnosis.name for diagnosis in outcome.diagnoses]


def test_done_means_whole_drafts_and_divergence_is_an_outcome(events, context):
    points = [event for event in of(events, "good") if isinstance(event, EpochEnded)]
    assert [(point.epoch, point.epochs) for point in points] == [(1, 2), (2, 2)]
    assert all(0 < point.train_loss < 5 for point in points)
    for name in ("good", "later"):
        done = end(events, name)
        assert done.drafts == (Draft(kind="trials", id=name),) and done.traits is None
        outcome = outcome_of(done)
        assert (outcome.id, outcome.state, outcome.numerics) == (name, TrialState.DONE, NUMERICS)
        assert outcome.environment.threads == 1 and outcome.environment.members == 1
        assert (done.attempt_dir / "trials" / name / "model" / "weights.safetensors").is_file()
    done = end(events, "diverges")
    outcome = outcome_of(done)
    assert outcome.state is TrialState.DIVERGED and "NaN or infinite in epoch" in outcome.reason
    assert outcome.metrics is None and not (done.attempt_dir / "trials" / "diverges" / "model").exists()
    assert len(repr(context)) < 2_000, "images travel as files, not through pipes"


@pytest.mark.integration
def test_a_job_whose_worker_dies_continues_from_its_checkpoint(context, tmp_path):
    nets, context = toy_run.write_nets(tmp_path), replace(context, checkpoint_every=0.0)
    events = {}
    for name in ("DiesLater", "Quiet"):
        with LocalExecutor(context, tmp_path / "work", workers=1) as executor:
            executor.submit(training(name, f"{nets}:{name}", epochs=6))
            events[name] = list(executor.events())
    dying = events["DiesLater"]
    index, steps = kinds(dying).index(Retried), -(-len(toy_run.study().split.train) // 64)
    epochs = [event.epoch for event in dying if isinstance(event, EpochEnded)]
    assert epochs == [1, 2, 3, 4, 5, 6], "no epoch is trained twice"
    assert kinds(dying[:index]).count(EpochEnded) == 19 // steps and isinstance(dying[-1], Done)
    interrupted, whole = outcome_of(dying[-1]), outcome_of(events["Quiet"][-1])
    assert interrupted.weights_sha256 == whole.weights_sha256 and interrupted.history == whole.history


@pytest.mark.integration
def test_a_worker_that_hangs_is_killed_and_its_job_tried_again(context, tmp_path):
    nets = toy_run.write_nets(tmp_path)
    events = []
    with LocalExecutor(context, tmp_path / "work", workers=1) as executor:
        executor.submit(training("good", "mlp"))
        assert isinstance(list(executor.events())[-1], Done)
        executor.hang_timeout = 8.0  # only now: on a busy machine a worker takes longer to start
        executor.submit(training("HangsOnce", f"{nets}:HangsOnce"))
        for event in executor.events():
            events.append(event)
            if isinstance(event, Retried):
                executor.hang_timeout = 600.0
    assert kinds(events) == [Started, Retried, Started, EpochEnded, EpochEnded, Done]
    assert "8 s" in events[1].reason


@pytest.mark.integration
def test_a_pause_of_everything_is_no_hang(context, tmp_path):
    """As by Ctrl-Z or docker pause: neither side runs for longer than a worker may be silent."""
    with LocalExecutor(context, tmp_path / "work", workers=1) as executor:
        executor.submit(training("good", "mlp"))
        assert isinstance(list(executor.events())[-1], Done)
        executor.hang_timeout = 8.0  # only now: on a busy machine a worker takes longer to start
        (worker,) = multiprocessing.active_children()
        executor.submit(training("paused", "mlp"))
        events = []
        for event in executor.events():
            events.append(event)
            if isinstance(event, Started):
                os.kill(worker.pid, signal.SIGSTOP)
                time.sleep(9.0)
                os.kill(worker.pid, signal.SIGCONT)
    assert kinds(events) == [Started, EpochEnded, EpochEnded, Done]


@pytest.mark.integration
@pytest.mark.parametrize("library", ["torch", "numpy"])  # of a job; of the process that waits for one
def test_an_import_that_fails_in_a_worker_is_named(context, tmp_path, monkeypatch, library):
    (tmp_path / f"{library}.py").write_text("raise ImportError('libfoo.so.1 is missing')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)  # spawned workers get it, too
    with LocalExecutor(context, tmp_path / "work", workers=1) as executor:
        executor.submit(training("any", "mlp"))
        events = list(executor.events())
    assert kinds(events) == [Started, Failed] and events[1].reason.strip().endswith("libfoo.so.1 is missing")


@pytest.mark.integration
def test_what_a_killed_worker_still_writes_is_never_taken(context, tmp_path):
    nets = toy_run.write_nets(tmp_path)
    with LocalExecutor(context, tmp_path / "work", workers=1) as executor:
        executor.submit(training("DiesOnce", f"{nets}:DiesOnce"))
        for event in executor.events():
            if isinstance(event, Retried):  # as if it lived on: a whole draft, in its attempt's directory
                (first,) = (tmp_path / "work").glob("*/1")
                draft_dir = first / "trials" / "DiesOnce"
                draft_dir.mkdir(parents=True)
                (draft_dir / "outcome.json").write_text("{}")
    assert event.attempt_dir.name == "2" and outcome_of(event).state is TrialState.DONE


@pytest.mark.integration
def test_what_the_disk_refuses_ends_the_run_and_blames_no_job(context, tmp_path, monkeypatch):
    from disk_faults import HERE

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE / "faulty"), str(HERE), *sys.path]))
    monkeypatch.setenv("INKLAB_TEST_REFUSAL", json.dumps([1, errno.ENOSPC]))
    events = []
    with pytest.raises(WriteError) as refused:
        with LocalExecutor(context, tmp_path, workers=1) as executor:
            executor.submit(training("good", "mlp"))
            for event in executor.events():
                events.append(event)
    assert kinds(events) == [Started, EpochEnded, EpochEnded]
    assert refused.value.exit_code == EXIT_INTERRUPTED and refused.value.errno == errno.ENOSPC
    assert str(tmp_path) in str(refused.value) and multiprocessing.active_children() == []


@pytest.mark.integration
def test_a_worker_that_died_idle_is_replaced_and_one_that_is_left_in_the_middle_ends(context, tmp_path):
    executor, events = LocalExecutor(context, tmp_path, workers=1), []
    with pytest.raises(KeyboardInterrupt), executor:
        executor.submit(training("short", "mlp", epochs=1))
        assert isinstance(list(executor.events())[-1], Done)
        (idle,) = multiprocessing.active_children()
        idle.kill()
        idle.join()
        executor.submit(training("long", "mlp", epochs=100_000))
        for event in executor.events():
            events.append(event)
            if isinstance(event, EpochEnded):
                raise KeyboardInterrupt
    assert kinds(events) == [Started, EpochEnded]
    assert multiprocessing.active_children() == []
    (kept,) = list_checkpoints(tmp_path.glob("*/*/checkpoints"))
    assert read_checkpoint(kept).progress.trials == ("long",), "it ended with a checkpoint, before its time"

"""Workers die, crash and refuse; every job ends once and the others go on. Real processes and trainings."""

import errno
import json
import multiprocessing
import os
import signal
import sys
import time

import pytest

from inklab.errors import EXIT_INTERRUPTED, ConfigError, UnknownNameError, WriteError
from inklab.records.outcomes import TrialState
from inklab.study.executor import THREAD_VARIABLES, ExecutorOptions, executors
from inklab.study.executors.local_executor import LocalExecutor
from inklab.study.jobs import Done, EpochEnded, Failed, Retried, Started
from inklab.testing import (
    ExecutorFaults,
    ExecutorJobs,
    kinds,
    outcome_of,
    training_job,
    write_context,
    write_networks,
)
from inklab.training.checkpoint import read_checkpoint
from inklab.training.checkpoint_files import list_checkpoints


def make_local(context, work_dir, workers):
    return executors["local"].configure(ExecutorOptions(workers))(context, work_dir, workers)


class TestLocalExecutorJobs(ExecutorJobs):
    def make_executor(self, context, work_dir, workers):
        return make_local(context, work_dir, workers)


@pytest.mark.integration
class TestLocalExecutorFaults(ExecutorFaults):
    def make_executor(self, context, work_dir, workers):
        return make_local(context, work_dir, workers)


class TestByName:
    def test_an_unknown_name_is_answered_with_the_known_ones(self):
        with pytest.raises(UnknownNameError, match="no executor is called 'rya'. Did you mean 'ray'"):
            executors["rya"]

    def test_the_local_one_has_no_address(self):
        with pytest.raises(ConfigError, match="--executor ray"):
            executors["local"].configure(ExecutorOptions(address="10.0.0.1:6379"))

    def test_each_is_described_in_one_sentence(self):
        assert {"local", "ray"} <= set(executors)
        assert all(kind.summary.endswith(".") for kind in executors.all().values())


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return write_context(tmp_path_factory.mktemp("context"))


@pytest.mark.integration
def test_no_more_workers_than_jobs_start_in_their_order_and_leave_the_environment_alone(context, tmp_path):
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    with LocalExecutor(context, tmp_path / "work", workers=2) as executor:
        executor.submit(training_job("first", "mlp", epochs=1))
        for _ in executor.events():
            assert len(multiprocessing.active_children()) == 1, "no more workers than jobs that wait"
        assert {name: os.environ.get(name) for name in THREAD_VARIABLES} == before
        for name in "abcd":
            executor.submit(training_job(name, "mlp", epochs=1))
        started = [event.job.ids[0] for event in executor.events() if isinstance(event, Started)]
    assert started == list("abcd") and multiprocessing.active_children() == []
    assert len(repr(context)) < 2_000, "images travel as files, not through pipes"


@pytest.mark.integration
def test_a_finite_loss_of_thousands_is_no_result(context, tmp_path):
    """It would go into means; ordinary trainings end below the loss of guessing."""
    job = training_job("huge", "mlp", learning_rate=1e3)
    with LocalExecutor(context, tmp_path / "work", workers=1) as executor:
        executor.submit(job)
        outcome = outcome_of(list(executor.events())[-1])
    assert outcome.state is TrialState.DIVERGED and outcome.metrics is None
    assert outcome.history.train_loss[-1] > 230 and "times that of guessing" in outcome.reason
    assert "learning-rate-too-high" in [diagnosis.name for diagnosis in outcome.diagnoses]


@pytest.mark.integration
def test_a_worker_that_hangs_is_killed_and_its_job_tried_again(context, tmp_path):
    nets = write_networks(tmp_path)
    events = []
    with LocalExecutor(context, tmp_path / "work", workers=1) as executor:
        executor.submit(training_job("good", "mlp"))
        assert isinstance(list(executor.events())[-1], Done)
        executor.hang_timeout = 8.0  # only now: on a busy machine a worker takes longer to start
        executor.submit(training_job("HangsOnce", f"{nets}:HangsOnce"))
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
        executor.submit(training_job("good", "mlp"))
        assert isinstance(list(executor.events())[-1], Done)
        executor.hang_timeout = 8.0  # only now: on a busy machine a worker takes longer to start
        (worker,) = multiprocessing.active_children()
        executor.submit(training_job("paused", "mlp"))
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
        executor.submit(training_job("any", "mlp"))
        events = list(executor.events())
    assert kinds(events) == [Started, Failed] and events[1].reason.strip().endswith("libfoo.so.1 is missing")


@pytest.mark.integration
def test_what_a_killed_worker_still_writes_is_never_taken(context, tmp_path):
    nets = write_networks(tmp_path)
    with LocalExecutor(context, tmp_path / "work", workers=1) as executor:
        executor.submit(training_job("DiesOnce", f"{nets}:DiesOnce"))
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
            executor.submit(training_job("good", "mlp"))
            for event in executor.events():
                events.append(event)
    assert kinds(events) == [Started, EpochEnded, EpochEnded]
    assert refused.value.exit_code == EXIT_INTERRUPTED and refused.value.errno == errno.ENOSPC
    assert str(tmp_path) in str(refused.value) and multiprocessing.active_children() == []


@pytest.mark.integration
def test_a_worker_that_died_idle_is_replaced_and_one_that_is_left_in_the_middle_ends(context, tmp_path):
    executor, events = LocalExecutor(context, tmp_path, workers=1), []
    with pytest.raises(KeyboardInterrupt), executor:
        executor.submit(training_job("short", "mlp", epochs=1))
        assert isinstance(list(executor.events())[-1], Done)
        (idle,) = multiprocessing.active_children()
        idle.kill()
        idle.join()
        executor.submit(training_job("long", "mlp", epochs=100_000))
        for event in executor.events():
            events.append(event)
            if isinstance(event, EpochEnded):
                raise KeyboardInterrupt
    assert kinds(events) == [Started, EpochEnded]
    assert multiprocessing.active_children() == []
    (kept,) = list_checkpoints(tmp_path.glob("*/*/checkpoints"))
    assert read_checkpoint(kept).progress.trials == ("long",), "it ended with a checkpoint, before its time"

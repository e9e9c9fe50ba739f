"""The run directory: outcomes appear whole or not at all, one process at a time, and damage is named."""

import gc
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from synthetic_run import synthetic_run

from inklab.errors import CorruptFileError, RunError
from inklab.io.tensor_file import read_arrays, write_arrays
from inklab.records.outcomes import TrialOutcome, TrialState, failed_evaluation
from inklab.records.status import Draft, PendingCommit
from inklab.study.run_directory import CHECKPOINTS, COMMIT, RunDirectory, new_attempt_dir


@pytest.fixture(scope="module")
def whole():
    """A run with every kind of experiment, in memory."""
    return synthetic_run()


@pytest.fixture
def run_directory(tmp_path, whole):
    """A run directory with a plan and no outcome."""
    run_directory = RunDirectory(tmp_path / "run")
    whole.plan.write(run_directory.path / "plan.json")
    return run_directory


@pytest.fixture
def trial(whole):
    """An outcome of a trial that is done."""
    return next(outcome for outcome in whole.outcomes.values() if outcome.is_done)


@pytest.fixture
def evaluation(whole):
    return next(iter(whole.evaluations.values()))


def failed(trial, reason="why"):
    """The outcome of the same trial, had it failed."""
    identity = {name: getattr(trial, name) for name in ("id", "config", "replicate", "seed", "data_sha256")}
    return TrialOutcome(state=TrialState.FAILED, reason=reason, numerics=trial.numerics, **identity)


def write_draft(attempt_dir, trial):
    """A finished draft, as a worker leaves it."""
    trial.write(attempt_dir / "trials" / trial.id / "outcome.json")
    write_arrays(attempt_dir / "trials" / trial.id / "arrays.safetensors", {"a": np.arange(3)})
    return Draft(kind="trials", id=trial.id)


class TestCommit:
    def test_what_is_committed_is_read_back(self, run_directory, trial):
        attempt_dir = new_attempt_dir(run_directory.work / "job")
        draft = write_draft(attempt_dir, trial)
        assert run_directory.outcome(trial.id) is None, "a draft is no outcome"
        run_directory.commit_all([draft], attempt_dir)
        assert run_directory.outcome(trial.id) == trial
        arrays = read_arrays(run_directory.path / "trials" / trial.id / "arrays.safetensors")
        assert arrays["a"].tolist() == [0, 1, 2]
        assert not attempt_dir.parent.exists(), "all attempts at the job are gone"

    def test_a_later_attempt_replaces_all_of_an_earlier_one(self, run_directory, trial):
        run_directory.record(failed(trial, "größer"))
        folder = run_directory.path / "trials" / trial.id
        assert "größer" in (folder / "outcome.json").read_text(encoding="utf-8")
        (folder / "left over").write_text("from the first attempt")
        first, second = (new_attempt_dir(run_directory.work / "job") for _ in range(2))
        assert (first.name, second.name) == ("1", "2") and second.is_dir()
        run_directory.commit_all([write_draft(second, trial)], second)
        assert run_directory.outcome(trial.id) == trial
        assert sorted(os.listdir(folder)) == ["arrays.safetensors", "outcome.json"]

    def test_a_commit_that_was_cut_off_is_completed(self, run_directory, whole):
        first, second = list(whole.outcomes.values())[:2]
        attempt_dir = new_attempt_dir(run_directory.work / "job")
        drafts = (write_draft(attempt_dir, first), write_draft(attempt_dir, second))
        PendingCommit(drafts=drafts).write(attempt_dir / COMMIT)
        (run_directory.path / "trials").mkdir()
        os.replace(attempt_dir / "trials" / first.id, run_directory.path / "trials" / first.id)
        run_directory.recover_commits()
        assert (run_directory.outcome(first.id), run_directory.outcome(second.id)) == (first, second)
        assert not attempt_dir.exists()

    @pytest.mark.parametrize(
        "content",
        [
            '{"drafts": [{"kind": "trials", "id": "../../../../precious"}]}',
            '{"drafts": [{"kind": "../..", "id": "precious"}]}',
            '{"drafts": 7}', '{"drafts": [7]}', "7", "{",
        ],
    )  # fmt: skip
    def test_a_list_of_drafts_can_not_reach_out_of_the_run(self, content, run_directory, tmp_path):
        attempt_dir = new_attempt_dir(run_directory.work / "job")
        (tmp_path / "precious").mkdir()
        (attempt_dir / COMMIT).write_text(content)
        with pytest.raises(CorruptFileError):
            run_directory.recover_commits()
        assert (tmp_path / "precious").is_dir()


class TestReading:
    def test_a_snapshot_has_the_outcomes_of_the_plan_that_are_there(
        self, run_directory, whole, trial, evaluation
    ):
        run_directory.record(trial)
        run_directory.record(evaluation)
        run_directory.record(failed(trial).model_copy(update={"id": "orphan"}))
        snapshot = run_directory.snapshot()
        assert snapshot.outcomes == {trial.id: trial}
        assert snapshot.evaluations == {evaluation.id: evaluation}
        assert snapshot.states == {trial.id: trial.state, evaluation.id: evaluation.state}
        assert run_directory.orphaned(snapshot.plan) == 1 and run_directory.plan() == whole.plan

    def test_states_are_those_of_the_outcomes(self, run_directory, whole, trial, evaluation):
        assert run_directory.outcome(trial.id) is None
        assert run_directory.evaluation(evaluation.evaluation, whole.plan.data.n_classes) is None
        run_directory.record(trial)
        run_directory.record(failed_evaluation(evaluation.evaluation, "why", TrialState.LOST))
        states = {trial.id: TrialState.DONE, evaluation.id: TrialState.LOST}
        assert run_directory.states(whole.plan) == states
        assert run_directory.states(whole.plan, [trial.id]) == {trial.id: TrialState.DONE}
        assert run_directory.states(whole.plan, []) == {}

    def test_an_outcome_of_something_else_is_refused(self, run_directory, whole, trial, evaluation):
        (run_directory.path / "trials").mkdir()
        run_directory.record(trial)
        other = next(id for id in whole.plan.trials if id != trial.id)
        os.rename(run_directory.path / "trials" / trial.id, run_directory.path / "trials" / other)
        changed = evaluation.evaluation.model_copy(update={"replicate": 77})
        run_directory.record(failed_evaluation(changed, "why"))
        with pytest.raises(CorruptFileError):
            run_directory.outcome(other)
        with pytest.raises(CorruptFileError):
            run_directory.evaluation(evaluation.evaluation, whole.plan.data.n_classes)
        with pytest.raises(CorruptFileError):
            run_directory.snapshot()
        assert gc.isenabled()


class TestCleanup:
    def test_checkpoints_and_pending_commits_stay(self, run_directory):
        keep, drop = (new_attempt_dir(run_directory.work / name) for name in ("keep", "drop"))
        (keep / CHECKPOINTS / "000001-000000000").mkdir(parents=True)
        (drop / "trials" / "abc").mkdir(parents=True)
        pending = new_attempt_dir(run_directory.work / "pending")
        (pending / "trials" / "abc").mkdir(parents=True)
        PendingCommit(drafts=(Draft(kind="trials", id="abc"),)).write(pending / COMMIT)
        (run_directory.work / "data").mkdir()
        run_directory.status_path.write_text("{}")
        run_directory.cleanup()
        assert sorted(os.listdir(run_directory.work)) == ["keep", "pending"]
        assert (keep / CHECKPOINTS / "000001-000000000").is_dir() and (pending / "trials" / "abc").is_dir()
        shutil.rmtree(run_directory.work)
        new_attempt_dir(run_directory.work / "job")
        run_directory.cleanup()
        assert not run_directory.work.exists(), "an empty one goes"


def test_only_runs_and_empty_directories_are_writable(tmp_path, run_directory):
    for name in ("file", "precious/thing"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    for name in ("file", "file/below", "precious"):
        with pytest.raises(RunError):
            RunDirectory(tmp_path / name).check_writable()
    with pytest.raises(RunError):
        RunDirectory.existing(tmp_path)
    (tmp_path / "empty").mkdir()
    with RunDirectory(tmp_path / "begun").locked():
        pass
    for path in (tmp_path / "new" / "deep", tmp_path / "empty", tmp_path / "begun", run_directory.path):
        RunDirectory(path).check_writable()


HOLD = """
import sys, time
from pathlib import Path
from inklab.study.run_directory import RunDirectory
with RunDirectory(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


class TestLock:
    def test_a_second_process_is_refused_and_the_first_is_named(self, run_directory):
        with run_directory.locked(), pytest.raises(RunError, match=f"process {os.getpid()} on "):
            with RunDirectory(run_directory.path).locked():
                pytest.fail("two at once")

    def test_it_is_free_again_after_an_error(self, run_directory):
        with pytest.raises(KeyError), run_directory.locked():
            raise KeyError
        with run_directory.locked():
            pass
        assert [path.name for path in run_directory.path.iterdir() if path.name.startswith(".")] == [".lock"]

    def test_it_is_free_again_when_its_holder_is_killed(self, run_directory):
        command = [sys.executable, "-c", HOLD, str(run_directory.path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(RunError, match=f"process {holder.pid} "), run_directory.locked():
                pass
            holder.send_signal(signal.SIGKILL)
        with run_directory.locked():
            pass


def test_elapsed_time_adds_up(run_directory):
    run_directory.add_elapsed(1.5)
    run_directory.add_elapsed(2.0)
    assert '"seconds": 3.5' in (run_directory.path / "timer.json").read_text()

"""The run directory: outcomes appear whole or not at all, one process at a time, and damage is named."""

import gc
import os
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
        run_directory.commit_all([write_draft(attempt_dir, trial)], attempt_dir)
        assert run_directory.outcome(trial.id) == trial
        arrays = read_arrays(run_directory.path / "trials" / trial.id / "arrays.safetensors")
        assert arrays["a"].tolist() == [0, 1, 2]
        assert not attempt_dir.parent.exists(), "all attempts at the job are gone"

    def test_a_draft_is_no_outcome(self, run_directory, trial):
        write_draft(new_attempt_dir(run_directory.work / "job"), trial)
        assert run_directory.outcome(trial.id) is None

    def test_a_later_attempt_replaces_all_of_an_earlier_one(self, run_directory, trial):
        run_directory.record(failed(trial))
        (run_directory.path / "trials" / trial.id / "left over").write_text("from the first attempt")
        attempt_dir = new_attempt_dir(run_directory.work / "job")
        run_directory.commit_all([write_draft(attempt_dir, trial)], attempt_dir)
        assert run_directory.outcome(trial.id) == trial
        files = sorted(os.listdir(run_directory.path / "trials" / trial.id))
        assert files == ["arrays.safetensors", "outcome.json"]

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

    def test_attempts_do_not_share_a_directory(self, run_directory):
        first, second = (new_attempt_dir(run_directory.work / "job") for _ in range(2))
        assert (first.name, second.name) == ("1", "2") and second.is_dir()

    def test_text_is_kept_as_it_is(self, run_directory, trial):
        run_directory.record(failed(trial, "größer"))
        text = (run_directory.path / "trials" / trial.id / "outcome.json").read_text(encoding="utf-8")
        assert "größer" in text


class TestReading:
    def test_the_plan_is_read_back(self, run_directory, whole):
        assert run_directory.plan() == whole.plan

    def test_a_snapshot_has_the_outcomes_of_the_plan_that_are_there(self, run_directory, trial, evaluation):
        run_directory.record(trial)
        run_directory.record(evaluation)
        run_directory.record(failed(trial).model_copy(update={"id": "orphan"}))
        snapshot = run_directory.snapshot()
        assert snapshot.outcomes == {trial.id: trial}
        assert snapshot.evaluations == {evaluation.id: evaluation}
        assert snapshot.states == {trial.id: trial.state, evaluation.id: evaluation.state}
        assert run_directory.orphaned(snapshot.plan) == 1

    def test_states_are_those_of_the_outcomes(self, run_directory, whole, trial, evaluation):
        run_directory.record(trial)
        run_directory.record(failed_evaluation(evaluation.evaluation, "why", TrialState.LOST))
        states = {trial.id: TrialState.DONE, evaluation.id: TrialState.LOST}
        assert run_directory.states(whole.plan) == states
        assert run_directory.states(whole.plan, [trial.id]) == {trial.id: TrialState.DONE}
        assert run_directory.states(whole.plan, []) == {}

    def test_of_what_has_not_ended_there_is_nothing(self, run_directory, whole, trial, evaluation):
        assert run_directory.outcome(trial.id) is None
        assert run_directory.evaluation(evaluation.evaluation, whole.plan.data.n_classes) is None

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

    @pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"id": "abc"}', "[" * 100_000])
    def test_a_damaged_outcome_is_named(self, run_directory, trial, content):
        path = run_directory.path / "trials" / trial.id / "outcome.json"
        path.parent.mkdir(parents=True)
        path.write_text(content, encoding="utf-8")
        with pytest.raises(CorruptFileError) as error:
            run_directory.outcome(trial.id)
        assert str(path) in str(error.value)

    @pytest.mark.parametrize("field", ["format", "experiments", "trials", "execution", "data"])
    def test_a_plan_of_another_form_is_refused(self, run_directory, whole, field):
        (run_directory.path / "plan.json").write_text(
            whole.plan.model_copy(update={field: 3}).model_dump_json(warnings=False)
        )
        with pytest.raises(CorruptFileError) as error:
            run_directory.plan()
        assert f"'{field}'" in str(error.value)

    def test_a_directory_without_a_plan_is_no_run(self, tmp_path):
        with pytest.raises(RunError):
            RunDirectory.existing(tmp_path)


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

    def test_an_empty_work_directory_goes(self, run_directory):
        new_attempt_dir(run_directory.work / "job")
        run_directory.cleanup()
        assert not run_directory.work.exists()


class TestWritable:
    def test_a_file_in_the_way(self, tmp_path):
        (tmp_path / "file").write_text("")
        for path in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(RunError):
                RunDirectory(path).check_writable()

    def test_other_things_in_it(self, tmp_path):
        (tmp_path / "precious").write_text("")
        with pytest.raises(RunError):
            RunDirectory(tmp_path).check_writable()

    def test_new_and_empty_ones_and_runs(self, tmp_path, run_directory):
        (tmp_path / "empty").mkdir()
        for path in (tmp_path / "new" / "deep", tmp_path / "empty", run_directory.path):
            RunDirectory(path).check_writable()

    def test_one_that_was_locked_before_it_had_a_plan(self, tmp_path):
        with RunDirectory(tmp_path / "run").locked():
            pass
        RunDirectory(tmp_path / "run").check_writable()


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

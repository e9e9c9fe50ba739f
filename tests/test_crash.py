"""Stopped by signals and killed in the middle of trainings, a study ends as if nothing had happened.

Proofs of the same at every point, a hundred times: tests/slow.
"""

import os
import signal
import time

import crash_runs
import pytest
import toy_run

from inklab.errors import EXIT_INTERRUPTED
from inklab.records.status import Draft, PendingCommit
from inklab.study.jobs import Started, TrainingJob
from inklab.study.run_directory import COMMIT, RunDirectory, new_attempt_dir

pytestmark = pytest.mark.integration

EPOCHS = 12


def finished(folder):
    """Run or resume to the end; the result."""
    crash_runs.finish(folder, EPOCHS)
    assert crash_runs.leftovers(folder) == []
    return crash_runs.result(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("whole") / "run")


def in_a_training(process, folder, more_than=()):
    """Wait until a checkpoint is there that was not before."""
    while process.poll() is None:
        new = set(folder.glob("work/*/*/checkpoints/*/commit.json")) - set(more_than)
        if new:
            return new
        time.sleep(0.01)
    raise AssertionError(process.communicate()[0])


def test_stopped_twice_and_killed_in_trainings_it_ends_equal(whole, tmp_path):
    folder, words = (
        tmp_path / "run",
        ["run", str(crash_runs.study_file(EPOCHS)), "--run-dir", str(tmp_path / "run")],
    )
    for stop, to in ((signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill), (signal.SIGKILL, os.killpg)):
        left = set(folder.glob("work/*/*/checkpoints/*/commit.json"))
        process = crash_runs.begin(words)
        in_a_training(process, folder, left)
        to(process.pid, stop)
        output = process.communicate()[0]
        assert crash_runs.gone(process.pid), "no worker stays behind"
        assert crash_runs.generations(folder) > 0, "what was trained so far is there"
        if stop != signal.SIGKILL:
            assert process.returncode == EXIT_INTERRUPTED and "Traceback" not in output, output
            assert "interrupted" in output.splitlines()[-1]
        words = ["resume", str(folder)]
    crash_runs.assert_equal(finished(folder), whole)


def test_workers_that_a_killed_runner_left_behind_end_by_themselves(whole, tmp_path):
    folder = tmp_path / "run"
    process = crash_runs.begin(["run", str(crash_runs.study_file(EPOCHS)), "--run-dir", str(folder)])
    in_a_training(process, folder)
    process.kill()
    process.communicate()  # their end of its output closes when they end
    crash_runs.assert_equal(finished(folder), whole)


def test_a_second_ctrl_c_ends_all_at_once(tmp_path):
    nets = toy_run.write_nets(tmp_path)
    study = toy_run.write_study(
        toy_run.home() / "slow.toml",
        f'name = "slow"\n[experiments.slow]\nnetwork = "{nets}:Sleeps"\nreplicates = 1\n',
    )
    process = crash_runs.begin(["run", str(study), "--run-dir", str(tmp_path / "run")])
    while not (tmp_path / "asleep").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None, "it waits for the step to end"
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == EXIT_INTERRUPTED
    assert crash_runs.gone(process.pid)


def test_a_commit_that_a_killed_runner_had_begun_is_completed(tmp_path):
    """Of four members that were trained together, one was committed before the kill."""
    run_directory = RunDirectory(toy_run.copied(tmp_path / "run"))
    path, plan = run_directory.path, run_directory.plan()
    trials = next(group.trials for group in plan.groups if len(group.trials) >= 4)
    attempt_dir = new_attempt_dir(run_directory.work / "0123456789ab")
    (attempt_dir / "trials").mkdir()
    before = toy_run.stamps(path)
    for trial in trials[1:]:
        os.replace(path / "trials" / trial, attempt_dir / "trials" / trial)
    PendingCommit(drafts=tuple(Draft(kind="trials", id=id) for id in trials)).write(attempt_dir / COMMIT)
    events = []
    toy_run.run(path, on_event=events.append)
    after = toy_run.stamps(path)
    assert {name: stamp[0] for name, stamp in after.items()} == {
        name: stamp[0] for name, stamp in before.items()
    }
    assert not [e for e in events if isinstance(e, Started) and isinstance(e.job, TrainingJob)]
    assert toy_run.numbers(path) == toy_run.numbers(toy_run.finished())
    assert not run_directory.work.exists()

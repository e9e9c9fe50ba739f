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
from inklab.study.monitor import RunMonitor
from inklab.study.run_directory import RunDirectory
from inklab.testing import write_networks

pytestmark = pytest.mark.integration

EPOCHS = 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    crash_runs.finish(folder, EPOCHS)
    assert crash_runs.leftovers(folder) == []
    return crash_runs.result(folder)


def checkpoints(folder):
    """The finished checkpoints of a run."""
    return set(folder.glob("work/*/*/checkpoints/*/commit.json"))


def wait_for_a_training(process, folder, earlier=frozenset()):
    """Wait until a checkpoint is there that was not before, and the run can be followed."""
    while process.poll() is None:
        if checkpoints(folder) - earlier:
            assert RunMonitor(RunDirectory(folder)).poll().state == "running"
            return
        time.sleep(0.01)
    raise AssertionError(process.communicate()[0])


def test_stopped_twice_and_killed_in_trainings_it_ends_equal(whole, tmp_path):
    folder = tmp_path / "run"
    words = ["run", str(crash_runs.study_file(EPOCHS)), "--run-dir", str(folder)]
    for stop, send in ((signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill), (signal.SIGKILL, os.killpg)):
        earlier = checkpoints(folder)
        process = crash_runs.begin(words)
        wait_for_a_training(process, folder, earlier)
        send(process.pid, stop)
        output = process.communicate()[0]
        assert crash_runs.gone(process.pid), "no worker stays behind"
        assert checkpoints(folder), "what was trained so far is there"
        if stop != signal.SIGKILL:
            assert process.returncode == EXIT_INTERRUPTED and "Traceback" not in output, output
            assert "interrupted" in output.splitlines()[-1]
        words = ["resume", str(folder)]
    crash_runs.finish_equal(folder, whole, EPOCHS)


@pytest.mark.slow
def test_workers_that_a_killed_runner_left_behind_end_by_themselves(whole, tmp_path):
    folder = tmp_path / "run"
    process = crash_runs.begin(["run", str(crash_runs.study_file(EPOCHS)), "--run-dir", str(folder)])
    wait_for_a_training(process, folder)
    process.kill()
    process.communicate()  # their end of its output closes when they end
    crash_runs.finish_equal(folder, whole, EPOCHS)


def test_a_second_ctrl_c_ends_all_at_once(tmp_path):
    nets = write_networks(tmp_path)
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

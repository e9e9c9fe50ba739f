"""Stopped by signals and killed in the middle of trainings, a study ends as if nothing had happened.

The proofs of the same at every point, a hundred times: tests/prove.
"""

import os
import signal
import time

import crash_runs
import pytest
import toy_run

from inklab.errors import EXIT_INTERRUPTED, CorruptFileError
from inklab.study.run_directory import PUBLISHING, RunDirectory
from inklab.study.runner import StudyRunner

EPOCHS = 12


def finished(folder):
    """Run or resume to the end; what came out."""
    crash_runs.finish(folder, EPOCHS)
    assert crash_runs.leftovers(folder) == []
    return crash_runs.result(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("whole") / "run")


def in_a_training(process, folder, more_than=()):
    """Wait until a checkpoint is there that was not before."""
    while process.poll() is None:
        new = set(folder.glob("work/*/*/checkpoints/*/COMMIT")) - set(more_than)
        if new:
            return new
        time.sleep(0.01)
    raise AssertionError(process.communicate()[0])


def test_stopped_twice_and_killed_in_trainings_it_ends_equal(whole, tmp_path):
    folder, words = (
        tmp_path / "run",
        ["run", str(crash_runs.study_file(EPOCHS)), "--out", str(tmp_path / "run")],
    )
    for stop, to in ((signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill), (signal.SIGKILL, os.killpg)):
        left = set(folder.glob("work/*/*/checkpoints/*/COMMIT"))
        process = crash_runs.begin(words)
        in_a_training(process, folder, left)
        to(process.pid, stop)
        said = process.communicate()[0]
        assert crash_runs.gone(process.pid), "no worker stays behind"
        assert crash_runs.generations(folder) > 0, "what was trained so far is there"
        if stop != signal.SIGKILL:
            assert process.returncode == EXIT_INTERRUPTED and "Traceback" not in said, said
            assert said.splitlines()[-1].startswith("inklab: interrupted; what is finished is kept")
        words = ["resume", str(folder)]
    crash_runs.same(finished(folder), whole)


def test_workers_that_a_killed_driver_left_behind_end_by_themselves(whole, tmp_path):
    folder = tmp_path / "run"
    process = crash_runs.begin(["run", str(crash_runs.study_file(EPOCHS)), "--out", str(folder)])
    in_a_training(process, folder)
    process.kill()
    process.communicate()  # their end of its output closes when they end
    crash_runs.same(finished(folder), whole)


def test_a_second_ctrl_c_ends_all_at_once(tmp_path):
    nets = toy_run.write_nets(tmp_path)
    (tmp_path / "study.toml").write_text(
        f'name = "slow"\ndata = {{ source = "{toy_run.home() / "toy.npz"}" }}\n'
        f'[chapters.slow]\nmodel = "{nets}:Sleeps"\nreplicates = 1\n',
        encoding="utf-8",
    )
    process = crash_runs.begin(["run", str(tmp_path / "study.toml"), "--out", str(tmp_path / "run")])
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


def test_publishing_that_a_killed_driver_had_begun_is_finished(tmp_path):
    """Of four members that were trained together, one was published before the kill."""
    folder = RunDirectory(toy_run.copied(tmp_path / "run"))
    group = next(each["trials"] for each in folder.plan()["groups"] if len(each["trials"]) >= 4)
    attempt = folder.work / "0123456789ab" / "1"
    (attempt / "trials").mkdir(parents=True)
    stamps = toy_run.stamps(folder.path)
    for trial in group[1:]:
        os.replace(folder.path / "trials" / trial, attempt / "trials" / trial)
    (attempt / PUBLISHING).write_text(str([["trials", each] for each in group]).replace("'", '"'))
    told = []
    driver = StudyRunner(toy_run.study(), folder)
    driver.watcher = lambda event, job: told.append(job.get("kind"))
    driver.run()
    after = toy_run.stamps(folder.path)
    assert {name: when[0] for name, when in after.items()} == {name: when[0] for name, when in stamps.items()}
    assert "train" not in told and toy_run.numbers(folder.path) == toy_run.numbers(toy_run.finished())
    assert not folder.work.exists()


def test_a_list_of_things_to_publish_can_not_reach_out_of_the_run(tmp_path):
    folder = RunDirectory(toy_run.copied(tmp_path / "run"))
    attempt = folder.work / "0123456789ab" / "1"
    (attempt / "trials").mkdir(parents=True)
    (tmp_path / "precious").mkdir()
    for told in (
        '[["trials", "../../../../precious"]]',
        '[["../..", "precious"]]',
        "7",
        "[7]",
        '["ab"]',
        "{",
    ):
        (attempt / PUBLISHING).write_text(told)
        with pytest.raises(CorruptFileError):
            folder.recover_commits()
        assert (tmp_path / "precious").is_dir()

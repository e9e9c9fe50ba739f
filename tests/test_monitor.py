"""Looking on: what a driver is at, how far a run is, how long it will take."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import crash_runs
import pytest
import toy_run

from inklab.cli.main import main
from inklab.io.atomic import write_atomic
from inklab.io.documents import write_json
from inklab.study import monitor as live_module
from inklab.study.executor import Event
from inklab.study.monitor import RunMonitor, StatusFile, progress_of, read_live
from inklab.study.run_directory import RunDirectory

GROUP = {"name": "train a", "label": "mlp: 2 trials", "trials": [{"id": "a"}, {"id": "b"}]}


@pytest.fixture
def at_once(monkeypatch):
    """Every event is written."""
    monkeypatch.setattr(live_module, "WRITE_INTERVAL", 0.0)


def told(folder, *events):
    """A live file that heard some events; what it forwarded."""
    heard = []
    file = StatusFile(RunDirectory(folder), lambda event, job: heard.append(event))
    for event in events:
        file(event, GROUP)
    return heard


def planned(seconds):
    return Event("planned", "", {"seconds": seconds, "trials": 2, "evaluations": 0, "populations": 1})


def unfinished(to, *without):
    """A copy of the toy run without some trials."""
    folder = toy_run.copied(to)
    for trial in without:
        shutil.rmtree(folder / "trials" / trial)
    return folder


def group_of(folder, chapter):
    plan = json.loads((folder / "plan.json").read_text())
    first = next(each for each in plan["chapters"] if each["name"] == chapter)["settings"][0]["trials"][0]
    return next(each for each in plan["groups"] if first in each["trials"])


class TestALiveFile:
    def test_says_what_runs_and_passes_everything_on(self, tmp_path, at_once):
        events = [planned(60.0), Event("started", "train a"), Event("epoch", "train a", (1, 4, 0.5))]
        assert told(tmp_path, *events) == events
        found = read_live(RunDirectory(tmp_path))
        assert found["estimate"] == 60.0 and abs(found["planned"] - time.time()) < 60
        job = found["running"][0]
        assert job["trials"] == ["a", "b"] and (job["epoch"], job["epochs"], job["train_loss"]) == (
            [1],
            4,
            [0.5],
        )

    @pytest.mark.parametrize("ending", ["done", "failed", "lost", "retried"])
    def test_forgets_what_has_ended(self, ending, tmp_path, at_once):
        told(tmp_path, Event("started", "train a"), Event(ending, "train a"))
        assert read_live(RunDirectory(tmp_path))["running"] == []

    def test_trials_in_turn_begin_again_at_epoch_one(self, tmp_path, at_once):
        epochs = [
            Event("epoch", "train a", (epoch, 2, loss)) for epoch, loss in ((1, 0.9), (2, 0.8), (1, 0.7))
        ]
        told(tmp_path, Event("started", "train a"), *epochs)
        job = read_live(RunDirectory(tmp_path))["running"][0]
        assert (job["turn"], job["epoch"], job["train_loss"]) == (1, [1], [0.7])

    def test_a_loss_that_is_no_number_is_none(self, tmp_path, at_once):
        told(tmp_path, Event("started", "train a"), Event("epoch", "train a", (1, 2, float("nan"))))
        assert read_live(RunDirectory(tmp_path))["running"][0]["train_loss"] == [None]

    def test_is_not_written_at_every_event(self, tmp_path):
        epochs = [Event("epoch", "train a", (epoch, 99, 0.5)) for epoch in range(1, 99)]
        told(tmp_path, Event("started", "train a"), *epochs)
        assert read_live(RunDirectory(tmp_path))["running"][0]["epoch"] == []

    def test_a_job_that_starts_right_after_another_is_told(self, tmp_path):
        file = StatusFile(RunDirectory(tmp_path), lambda *_: None)
        for name in ("train a", "train b"):
            file(Event("started", name), {**GROUP, "name": name})
        running = read_live(RunDirectory(tmp_path))["running"]
        assert [job["job"] for job in running] == ["train a", "train b"]

    def test_a_disk_that_refuses_stops_nothing(self, tmp_path, at_once):
        (tmp_path / "work").write_text("a file, where a folder should be")
        assert len(told(tmp_path, planned(1.0), Event("started", "train a"))) == 2


class TestWhoIsAtWork:
    def live(self, folder, **changes):
        told(folder, planned(60.0))
        path = RunDirectory(folder).live
        write_json(path, {**json.loads(path.read_text()), **changes})
        return read_live(RunDirectory(folder))

    def test_a_process_that_lives(self, tmp_path):
        assert self.live(tmp_path, process=os.getpid())

    def test_not_one_that_died(self, tmp_path):
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        assert self.live(tmp_path, process=dead.pid) is None

    def test_on_another_machine_one_that_wrote_lately(self, tmp_path):
        assert self.live(tmp_path, host="elsewhere", process=2**30)
        long_ago = time.time() - live_module.REMOTE_TIMEOUT - 60
        os.utime(RunDirectory(tmp_path).live, (long_ago, long_ago))
        assert read_live(RunDirectory(tmp_path)) is None

    @pytest.mark.parametrize(
        "changes",
        [{"process": -1}, {"process": "1"}, {"running": [{}]}, {"since": "now"}, {"format": 2}],
        ids=str,
    )
    def test_not_what_is_damaged(self, changes, tmp_path):
        assert self.live(tmp_path, **changes) is None

    def test_nor_what_is_no_json(self, tmp_path):
        write_atomic(RunDirectory(tmp_path).live, b"\x00{")
        assert read_live(RunDirectory(tmp_path)) is None


class TestProgress:
    def test_of_a_finished_run(self):
        found = progress_of(RunDirectory(toy_run.finished()))
        assert (
            found["state"] == "finished"
            and found["done"] == found["total"] == toy_run.TRIALS + toy_run.EVALUATIONS
        )
        assert found["seconds_left"] is None and found["running"] == []
        sweep = next(each for each in found["chapters"] if each["name"] == "sweep")
        assert sweep["outcomes"] == {"done": 9} and sweep["total"] == 9
        mine = [curve for curve in found["curves"] if curve["chapter"] == "sweep"]
        assert len(mine) == 9 and all(curve["finished"] for curve in mine)
        assert all(len(curve["epoch"]) == len(curve["validation_accuracy"]) == 4 for curve in mine)
        assert [curve["setting"]["l2"] for curve in mine[:3]] == [0.0, 1e-3, 1e-1]

    def test_of_one_that_was_stopped(self, tmp_path):
        trials = group_of(toy_run.finished(), "cnn")["trials"]
        found = progress_of(RunDirectory(unfinished(tmp_path / "run", *trials)))
        assert found["state"] == "stopped" and found["total"] - found["done"] == len(trials)

    def test_of_one_that_runs(self, tmp_path, at_once):
        trials = group_of(toy_run.finished(), "cnn")["trials"]
        folder = unfinished(tmp_path / "run", *trials)
        job = {"name": "train x", "label": "cnn: 2 trials", "trials": [{"id": trial} for trial in trials]}
        file = StatusFile(RunDirectory(folder), lambda *_: None)
        for event in (planned(60.0), Event("started", "train x"), Event("epoch", "train x", (6, 12, 0.25))):
            file(event, job)
        found = progress_of(RunDirectory(folder))
        assert found["state"] == "running"
        assert found["running"] == [
            {"job": "train x", "label": "cnn: 2 trials", "epochs": 12, "epoch": 6, "loss": 0.25}
        ]
        half = [curve for curve in found["curves"] if not curve["finished"]]
        assert [(curve["trial"], curve["train_loss"]) for curve in half] == [(trials[0], [0.25])]
        file(Event("epoch", "train x", (9, 12, 0.2)), job)
        later = progress_of(RunDirectory(folder))
        assert 0 <= later["seconds_left"] < found["seconds_left"]

    def test_the_time_left_follows_the_speed_so_far(self, tmp_path, at_once):
        trials = group_of(toy_run.finished(), "cnn")["trials"]
        folder = unfinished(tmp_path / "run", *trials)
        told(folder, planned(600.0))
        path, left = RunDirectory(folder).live, []
        for spent in (100.0, 1000.0):
            write_json(path, {**json.loads(path.read_text()), "planned": time.time() - spent})
            left.append(progress_of(RunDirectory(folder))["seconds_left"])
        assert left[1] == pytest.approx(10 * left[0], rel=0.01)

    def test_an_onlooker_reads_what_is_final_once_and_sees_what_comes(self, tmp_path):
        trial = group_of(toy_run.finished(), "cnn")["trials"][0]
        folder = unfinished(tmp_path / "run", trial)
        onlooker = RunMonitor(RunDirectory(folder))
        before = onlooker.look()
        kept = next(path for path in folder.glob("trials/*/outcome.json"))
        kept.write_text("damaged since")
        shutil.copytree(toy_run.finished() / "trials" / trial, folder / "trials" / trial)
        assert onlooker.look()["done"] == before["done"] + 1

    def test_a_large_chapter_sends_some_of_its_curves(self, monkeypatch):
        monkeypatch.setattr("inklab.study.monitor.MAX_CURVES", 4)
        mine = [
            each
            for each in progress_of(RunDirectory(toy_run.finished()))["curves"]
            if each["chapter"] == "sweep"
        ]
        assert [each["replicate"] for each in mine] == [0, 0, 0, 1]


def test_a_run_can_be_watched_while_it_goes_on_and_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "run"
    process = crash_runs.begin(["run", str(crash_runs.study_file()), "--out", str(folder)])
    seen = []
    while process.poll() is None:
        if (folder / "plan.json").is_file():
            seen.append(progress_of(RunDirectory(folder)))
        time.sleep(0.1)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    running = [each for each in seen if each["state"] == "running"]
    assert any(job["epoch"] for each in running for job in each["running"])
    assert any(each["seconds_left"] for each in running)
    assert progress_of(RunDirectory(folder))["state"] == "finished"
    assert [each["done"] for each in seen] == sorted(each["done"] for each in seen)
    assert crash_runs.leftovers(folder) == []


def test_status_says_what_runs(tmp_path, capsys):
    folder = unfinished(tmp_path / "run", *group_of(toy_run.finished(), "cnn")["trials"])
    told(Path(folder), planned(60.0), Event("started", "train a"))
    for words in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main(["status", str(folder), *words])
        assert ended.value.code == 0
        said = capsys.readouterr().out
        assert "it is being run, for 0 s now, about" in said if not words else json.loads(said)["since"]

"""The status file, how far a run is, and how long it will take."""

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

from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.records.outcomes import TrialState
from inklab.records.plan import GroupPlan, Trial
from inklab.records.recipe import Recipe, TrialConfig
from inklab.records.status import JobProgress, LiveStatus
from inklab.study.jobs import (
    Done,
    EpochEnded,
    Failed,
    Lost,
    Planned,
    Retried,
    Started,
    TrainingJob,
    ignore_event,
)
from inklab.study.monitor import (
    MAX_WRITTEN_JOBS,
    REMOTE_TIMEOUT_SECONDS,
    RunMonitor,
    StatusFile,
    read_status,
)
from inklab.study.resources import Cost
from inklab.study.run_directory import RunDirectory

CONFIG = TrialConfig(
    network=NetworkConfig.of("mlp"), normalize=NormalizeConfig(), recipe=Recipe(), precision="fp32"
)


def training(*trials, experiment="mlp"):
    """A job that trains some trials."""
    group = GroupPlan(
        trials=trials, stacked=True, reseed_each_step=False, population_size=len(trials), compiled=False
    )
    return TrainingJob(group, tuple(Trial(id, CONFIG, 0) for id in trials), (experiment,))


JOB = training("a", "b")
ENDS = {
    "done": Done(JOB, (), Path()), "failed": Failed(JOB, "why"), "lost": Lost(JOB, "why"),
    "retried": Retried(JOB, "why"),
}  # fmt: skip


def planned(seconds):
    return Planned(Cost(trials=2, evaluations=0, populations=1, seconds=seconds, bytes=0))


def report(path, *events, write_seconds=0.0):
    """Events to a status file; those that it passed on."""
    passed_on = []
    status_file = StatusFile(RunDirectory(path), passed_on.append, write_seconds)
    for event in events:
        status_file(event)
    return passed_on


def progress_of(path):
    return RunMonitor(RunDirectory(path)).poll()


def unfinished(to, *missing):
    """A copy of the toy run without some trials."""
    path = toy_run.copied(to)
    for trial in missing:
        shutil.rmtree(path / "trials" / trial)
    return path


@pytest.fixture(scope="module")
def cnn():
    """Ids of the trials of one group of the toy run, which are trained one by one."""
    plan = RunDirectory(toy_run.finished()).plan()
    first = plan.trials_of("cnn")[0]
    return next(group.trials for group in plan.groups if first in group.trials)


class TestStatusFile:
    def test_of_thousands_of_jobs_the_first_are_in_a_file_that_can_be_read(self, tmp_path):
        """A cluster has more workers than the record of the status has room for."""
        jobs = [training(f"t{number}") for number in range(1_500)]
        report(tmp_path, *map(Started, jobs), write_seconds=3600.0)
        status = read_status(RunDirectory(tmp_path))
        assert [job.job for job in status.running] == [job.name for job in jobs[:MAX_WRITTEN_JOBS]]

    def test_it_says_what_runs_and_passes_everything_on(self, tmp_path):
        events = [planned(60.0), Started(JOB), EpochEnded(JOB, 1, 4, 0.5)]
        assert report(tmp_path, *events) == events
        status = read_status(RunDirectory(tmp_path))
        assert status.estimated_seconds == 60.0 and abs(status.planned_at - time.time()) < 60
        (job,) = status.running
        assert (job.job, job.label, job.trials) == (JOB.name, JOB.label, ("a", "b"))
        assert (job.epoch, job.epochs, job.train_loss) == ((1,), 4, (0.5,))

    @pytest.mark.parametrize("end", ENDS)
    def test_it_forgets_what_has_ended(self, end, tmp_path):
        report(tmp_path, Started(JOB), ENDS[end])
        assert read_status(RunDirectory(tmp_path)).running == ()

    def test_trials_that_are_trained_one_by_one_begin_again_at_epoch_one(self, tmp_path):
        epochs = [EpochEnded(JOB, epoch, 2, loss) for epoch, loss in ((1, 0.9), (2, 0.8), (1, float("nan")))]
        report(tmp_path, Started(JOB), *epochs)
        (job,) = read_status(RunDirectory(tmp_path)).running
        assert (job.index_in_group, job.epoch, job.train_loss) == (1, (1,), (None,)), "NaN is no number"

    def test_it_is_written_at_a_start_but_not_at_every_epoch(self, tmp_path):
        epochs = [EpochEnded(JOB, epoch, 99, 0.5) for epoch in range(1, 99)]
        report(tmp_path, Started(JOB), *epochs, write_seconds=60.0)
        assert read_status(RunDirectory(tmp_path)).running[0].epoch == ()
        report(tmp_path, Started(training("a")), Started(training("b")), write_seconds=60.0)
        assert [job.trials for job in read_status(RunDirectory(tmp_path)).running] == [("a",), ("b",)]

    def test_a_disk_that_refuses_stops_nothing(self, tmp_path):
        (tmp_path / "work").write_text("a file, where a directory should be")
        assert len(report(tmp_path, planned(1.0), Started(JOB))) == 2


class TestReadStatus:
    def status(self, path, **changes):
        """What is read of a status with other values."""
        report(path, planned(60.0))
        run_directory = RunDirectory(path)
        status = LiveStatus.read(run_directory.status_path).model_copy(update=changes)
        run_directory.status_path.write_text(status.model_dump_json(warnings=False))
        return read_status(run_directory)

    def test_there_is_one_of_a_process_that_lives_and_none_of_one_that_died(self, tmp_path):
        assert self.status(tmp_path, process=os.getpid())
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        assert self.status(tmp_path, process=dead.pid) is None

    def test_on_another_machine_one_that_wrote_lately(self, tmp_path):
        assert self.status(tmp_path, host="elsewhere", process=2**30)
        long_ago = time.time() - REMOTE_TIMEOUT_SECONDS - 60
        os.utime(RunDirectory(tmp_path).status_path, (long_ago, long_ago))
        assert read_status(RunDirectory(tmp_path)) is None

    @pytest.mark.parametrize(
        "changes",
        [{"process": -1}, {"process": "1"}, {"running": [{}]}, {"started_at": "now"}, {"format": 1}],
        ids=str,
    )
    def test_none_of_what_is_damaged(self, changes, tmp_path):
        assert self.status(tmp_path, **changes) is None
        RunDirectory(tmp_path).status_path.write_bytes(b"\x00{")
        assert read_status(RunDirectory(tmp_path)) is None


class TestProgress:
    def test_of_a_finished_run(self):
        progress = progress_of(toy_run.finished())
        assert progress.state == "finished"
        assert progress.done == progress.total == toy_run.TRIALS + toy_run.EVALUATIONS
        assert progress.seconds_left is None and progress.running == ()
        sweep = next(experiment for experiment in progress.experiments if experiment.name == "sweep")
        assert sweep.outcomes == {TrialState.DONE: 9} and sweep.total == 9
        curves = [curve for curve in progress.curves if curve.experiment == "sweep"]
        assert len(curves) == 9 and all(curve.finished for curve in curves)
        assert all(len(curve.epoch) == len(curve.validation_accuracy) == 4 for curve in curves)
        assert [curve.setting["l2"] for curve in curves[:3]] == [0.0, 1e-3, 1e-1]
        progress = RunMonitor(RunDirectory(toy_run.finished()), max_curves=4).poll()
        replicates = [curve.replicate for curve in progress.curves if curve.experiment == "sweep"]
        assert replicates == [0, 0, 0, 1], "of a large experiment there are some"

    def test_of_one_that_runs(self, tmp_path, cnn):
        path, job = unfinished(tmp_path / "run", *cnn), training(*cnn, experiment="cnn")
        stopped = progress_of(path)
        assert stopped.state == "stopped" and stopped.total - stopped.done == len(cnn)
        status_file = StatusFile(RunDirectory(path), ignore_event, write_seconds=0.0)
        for event in (planned(60.0), Started(job), EpochEnded(job, 6, 12, 0.25)):
            status_file(event)
        progress = progress_of(path)
        assert progress.state == "running"
        assert progress.running == (
            JobProgress(job=job.name, label=job.label, epochs=12, epoch=6, train_loss=0.25),
        )
        partial = [curve for curve in progress.curves if not curve.finished]
        assert [(curve.trial, curve.train_loss) for curve in partial] == [(cnn[0], (0.25,))]
        status_file(EpochEnded(job, 9, 12, 0.2))
        assert 0 <= progress_of(path).seconds_left < progress.seconds_left

    def test_the_time_left_follows_the_speed_so_far(self, tmp_path, cnn):
        path = unfinished(tmp_path / "run", *cnn)
        report(path, planned(600.0))
        status_path, left = RunDirectory(path).status_path, []
        for elapsed in (100.0, 1000.0):
            status = LiveStatus.read(status_path)
            status.model_copy(update={"planned_at": time.time() - elapsed}).write(status_path)
            left.append(progress_of(path).seconds_left)
        assert left[1] == pytest.approx(10 * left[0], rel=0.01)

    def test_what_is_final_is_read_once_and_what_is_new_is_read(self, tmp_path, cnn):
        path = unfinished(tmp_path / "run", cnn[0])
        monitor = RunMonitor(RunDirectory(path))
        before = monitor.poll()
        next(path.glob("trials/*/outcome.json")).write_text("damaged since")
        shutil.copytree(toy_run.finished() / "trials" / cnn[0], path / "trials" / cnn[0])
        assert monitor.poll().done == before.done + 1


def test_a_run_can_be_followed_and_nothing_is_left_behind(tmp_path):
    path, polls = tmp_path / "run", []
    status_file = StatusFile(RunDirectory(path), ignore_event, write_seconds=0.0)

    def follow(event):
        status_file(event)
        if RunDirectory(path).has_plan:
            polls.append(progress_of(path))

    study = toy_run.write_study(
        toy_run.home() / "small.toml",
        'name = "small"\n[experiments.net]\nnetwork = "mlp"\nrecipe = { epochs = 2 }\nreplicates = 2\n'
        '[experiments.robustness]\nkind = "robustness"\nstrengths = [0]\nimages = 50\n'
        'pipelines = ["net"]\nbaseline = "net"\n',
    )
    toy_run.run(path, path=study, on_event=follow)
    running = [progress for progress in polls if progress.state == "running"]
    assert any(job.epoch for progress in running for job in progress.running)
    assert any(progress.seconds_left for progress in running)
    assert progress_of(path).state == "finished"
    assert [progress.done for progress in polls] == sorted(progress.done for progress in polls)
    assert crash_runs.leftovers(path) == []


def test_status_reports_what_runs(tmp_path, cnn, cli):
    path, job = unfinished(tmp_path / "run", *cnn), training(*cnn, experiment="cnn")
    report(path, planned(60.0), Started(job))
    code, text, _ = cli("status", path)
    assert code == 0 and job.label in text
    code, text, _ = cli("status", path, "--json")
    status = json.loads(text)
    assert code == 0 and status["state"] == "running" and status["started_at"]
    assert [row["label"] for row in status["running"]] == [job.label]

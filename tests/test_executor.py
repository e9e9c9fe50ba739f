"""Workers die, crash and refuse; every job ends once and the others go on. Real processes and trainings."""

import errno
import json
import multiprocessing
import os
import sys
from collections import Counter
from dataclasses import replace

import pytest
import toy_run

from inklab.errors import EXIT_INTERRUPTED, WriteError
from inklab.study.executor import THREAD_VARIABLES, LocalExecutor
from inklab.study.grouping import ExecutionConfig
from inklab.study.job_context import JobContext, write_split_arrays
from inklab.study.planner import NUMERICS
from inklab.study.run_directory import RunDirectory
from inklab.study.runner import StudyRunner
from inklab.training.checkpoint import list_checkpoints, read_checkpoint
from inklab.training.recipe import Recipe


def job(name, model, **recipe):
    """A training as the driver would submit it, with a trial called like itself."""
    settings = {
        "model": {"name": model},
        "scaling": {"mean": 0.0, "spread": 1.0},
        "recipe": Recipe(**{"epochs": 2, "batch": 64, **recipe}).model_dump(mode="json"),
        "precision": "fp32",
    }
    trials = [{"id": name, "settings": settings, "replicate": 0}]
    way = {"lifted": False, "random": False, "slots": 1, "compiled": False}
    return {"name": name, "kind": "train", **way, "trials": trials}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    study, folder = toy_run.study(), RunDirectory(tmp_path_factory.mktemp("bench"))
    write_split_arrays(folder, study.split)
    return StudyRunner(study, folder)._job_context(ExecutionConfig("fp32"))


@pytest.fixture(scope="module")
def happened(bench, tmp_path_factory):
    """Six jobs on two workers, and a seventh submitted meanwhile: all events, and the drafts."""
    nets = toy_run.write_nets(tmp_path_factory.mktemp("nets"))
    work = bench.folder.work / "drafts"
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    events = []
    with LocalExecutor(bench, work, workers=2) as executor:
        assert {name: os.environ.get(name) for name in THREAD_VARIABLES} == before
        for name in ("DiesOnce", "Dies", "Raises", "Missing"):
            executor.submit(job(name, f"{nets}:{name}"))
        executor.submit(job("good", "mlp"))
        executor.submit(job("diverges", "mlp", rate=1e30))
        for event in executor.events():
            events.append(event)
            if event.job == "good" and event.kind == "done":
                executor.submit(job("later", f"{nets}:Quiet"))
    return events


def of(events, name):
    return [event for event in events if event.job == name]


def end(events, name):
    return of(events, name)[-1]


JOBS = {"DiesOnce", "Dies", "Raises", "Missing", "good", "diverges", "later"}


def test_every_job_ends_exactly_once(happened):
    ends = Counter(event.job for event in happened if event.kind in ("done", "failed", "lost"))
    assert ends == dict.fromkeys(JOBS, 1)


def test_nothing_is_heard_of_a_job_after_its_end(happened):
    for name in JOBS:
        assert end(happened, name).kind in ("done", "failed", "lost")


def test_jobs_start_in_the_order_in_which_they_were_submitted(happened):
    started = list(dict.fromkeys(event.job for event in happened if event.kind == "started"))
    assert started == ["DiesOnce", "Dies", "Raises", "Missing", "good", "diverges", "later"]


def test_a_job_whose_worker_is_killed_is_tried_again(happened):
    kinds = [event.kind for event in of(happened, "DiesOnce")]
    assert kinds == ["started", "retried", "started", "epoch", "epoch", "done"]
    assert "SIGKILL" in of(happened, "DiesOnce")[1].value


def test_killed_twice_it_is_lost_and_says_why(happened):
    assert [event.kind for event in of(happened, "Dies")] == ["started", "retried", "started", "lost"]
    assert end(happened, "Dies").value == (
        "its worker process ended with signal SIGKILL (out of memory?), 2 times"
    )


def test_an_exception_is_told_with_its_traceback(happened):
    assert [event.kind for event in of(happened, "Raises")] == ["started", "failed"]
    told = end(happened, "Raises").value
    assert told.startswith("Traceback") and "nets.py" in told
    assert told.strip().endswith("ValueError: on purpose")


def test_a_mistake_of_the_users_is_told_in_one_line(happened):
    told = end(happened, "Missing")
    assert told.kind == "failed" and "has nothing called 'Missing'" in told.value and "\n" not in told.value


def test_progress_is_told_by_epoch(happened):
    points = [event.value for event in of(happened, "good") if event.kind == "epoch"]
    assert [point[:2] for point in points] == [(1, 2), (2, 2)]
    assert all(0 < loss < 5 for _, _, loss in points)


def test_done_means_whole_drafts(happened):
    for name in ("good", "later", "DiesOnce"):
        drafts, folder = end(happened, name).value
        assert drafts == [("trials", name)]
        outcome = json.loads((folder / "trials" / name / "outcome.json").read_text())
        assert outcome["id"] == name and outcome["state"] == "done" and outcome["ran"]["threads"] == 1
        assert (folder / "trials" / name / "bundle" / "weights.safetensors").is_file()


def test_divergence_is_an_outcome_and_no_failure(happened):
    drafts, folder = end(happened, "diverges").value
    outcome = json.loads((folder / "trials" / "diverges" / "outcome.json").read_text())
    assert outcome["state"] == "diverged" and "NaN or infinite in epoch" in outcome["reason"]
    assert outcome["scores"] is None and not (folder / "trials" / "diverges" / "bundle").exists()


def test_attempts_do_not_share_a_draft_folder(happened):
    first = end(happened, "good").value[1]
    again = end(happened, "DiesOnce").value[1]
    assert (first.name, again.name) == ("1", "2") and first.parent != again.parent


def test_no_process_stays(happened):
    assert multiprocessing.active_children() == []


def test_a_job_whose_worker_dies_goes_on_from_its_checkpoint(bench, tmp_path):
    nets = toy_run.write_nets(tmp_path)
    told, bench = {}, replace(bench, checkpoint_every=0.0)
    for name in ("DiesLater", "Quiet"):
        with LocalExecutor(bench, tmp_path / "work", workers=1) as executor:
            executor.submit(job(name, f"{nets}:{name}", epochs=6))
            told[name] = list(executor.events())
    kinds = [event.kind for event in told["DiesLater"]]
    place, steps = kinds.index("retried"), -(-len(toy_run.study().split.train) // 64)
    epochs = [event.value[0] for event in told["DiesLater"] if event.kind == "epoch"]
    assert epochs == [1, 2, 3, 4, 5, 6], "each is told once: what was trained is not trained again"
    assert kinds[:place].count("epoch") == 19 // steps and kinds[-1] == "done"
    found, wanted = (
        json.loads((each[-1].value[1] / "trials" / name / "outcome.json").read_text())
        for name, each in told.items()
    )
    assert found["weights_sha256"] == wanted["weights_sha256"] and found["history"] == wanted["history"]


def test_a_worker_that_hangs_is_given_up_and_its_job_tried_again(bench, tmp_path):
    nets = toy_run.write_nets(tmp_path)
    with LocalExecutor(bench, tmp_path / "work", workers=1, silence=8.0) as executor:
        executor.submit(job("HangsOnce", f"{nets}:HangsOnce"))
        events = list(executor.events())
    assert [event.kind for event in events] == ["started", "retried", "started", "epoch", "epoch", "done"]
    assert events[1].value == "its worker process said nothing for 8 s"


def test_what_a_given_up_worker_still_writes_is_never_taken(bench, tmp_path):
    nets = toy_run.write_nets(tmp_path)
    with LocalExecutor(bench, tmp_path / "work", workers=1) as executor:
        executor.submit(job("DiesOnce", f"{nets}:DiesOnce"))
        for event in executor.events():
            if event.kind == "retried":  # as if it lived on: a whole draft, in the folder of its attempt
                (first,) = (tmp_path / "work").glob("*/1")
                draft = first / "trials" / "DiesOnce"
                draft.mkdir(parents=True)
                (draft / "outcome.json").write_text('{"id": "DiesOnce", "state": "done", "taken": true}')
    _, folder = event.value
    assert folder.name == "2" and "taken" not in (folder / "trials/DiesOnce/outcome.json").read_text()


def test_what_the_disk_refuses_ends_the_run_and_blames_no_job(bench, tmp_path, monkeypatch):
    from disk_faults import HERE

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE / "faulty"), str(HERE), *sys.path]))
    monkeypatch.setenv("INKLAB_TEST_REFUSAL", json.dumps([1, errno.ENOSPC]))
    told = []
    with pytest.raises(WriteError, match="No space left on device; make room") as refused:
        with LocalExecutor(bench, tmp_path, workers=1) as executor:
            executor.submit(job("good", "mlp"))
            for event in executor.events():
                told.append(event.kind)
    assert told == ["started", "epoch", "epoch"] and refused.value.exit_code == EXIT_INTERRUPTED
    assert str(tmp_path) in str(refused.value) and multiprocessing.active_children() == []


def test_a_worker_that_died_idle_is_replaced_and_one_that_is_left_in_the_middle_ends(bench, tmp_path):
    executor, kinds = LocalExecutor(bench, tmp_path, workers=1), []
    with pytest.raises(KeyboardInterrupt), executor:
        executor.submit(job("short", "mlp", epochs=1))
        assert [event.kind for event in executor.events()][-1] == "done"
        (idle,) = multiprocessing.active_children()
        idle.kill()
        idle.join()
        executor.submit(job("long", "mlp", epochs=100_000))
        for event in executor.events():
            kinds.append(event.kind)
            if event.kind == "epoch":
                raise KeyboardInterrupt
    assert kinds == ["started", "epoch"]
    assert multiprocessing.active_children() == []
    (kept,) = list_checkpoints(tmp_path.glob("*/*/checkpoints"))
    assert read_checkpoint(kept).trials == ["long"], "it ended with a checkpoint, long before it was time"


def test_no_more_workers_are_started_than_jobs_wait(bench, tmp_path):
    with LocalExecutor(bench, tmp_path, workers=64) as executor:
        executor.submit(job("only", "mlp", epochs=1))
        assert [event.kind for event in executor.events()][-1] == "done"
        assert len(multiprocessing.active_children()) == 1


def test_a_bench_is_small_enough_to_be_sent(bench):
    assert isinstance(bench, JobContext) and bench.numerics == NUMERICS
    assert len(repr(bench)) < 2_000, "images travel as files, not through pipes"

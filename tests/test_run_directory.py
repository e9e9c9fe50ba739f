"""The run folder: outcomes appear whole or not at all, one driver at a time, and damage is named."""

import gc
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from inklab.errors import CorruptFileError, RunError
from inklab.io.documents import write_json
from inklab.io.tensor_file import read_arrays, write_arrays
from inklab.run import StoredRun
from inklab.study.run_directory import RunDirectory

OUTCOME = {"id": "abc", "state": "done", "scores": {"test_accuracy": 0.5}}
EVALUATION = {"id": "e1", "kind": "generator", "state": "done", "recognised": 0.5}
DATA = {
    "source": "mine", "sha256": "ab" * 32, "shape": [1, 8, 8], "labels": ["a", "b"], "framing": {},
    "train": 4, "validation": 0, "test": 2, "counts": {"train": [2, 2], "validation": [0, 0], "test": [1, 1]},
}  # fmt: skip
PLAN = {
    "format": 1, "study": "s", "profile": "plain", "seed": 0, "data": DATA, "chapters": [], "trials": {},
    "how": {"precision": "fp32", "threads": 1, "workers": 1}, "groups": [],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return RunDirectory(tmp_path / "run")


def drafted(folder, outcome=OUTCOME, name="draft"):
    """A finished draft, as a worker leaves it."""
    write_json(folder.work / name / "outcome.json", outcome)
    write_arrays(folder.work / name / "arrays.safetensors", {"a": np.arange(3)})
    return folder.work / name


class TestPublishing:
    def test_what_is_published_is_read_back(self, folder):
        folder.publish("trials", "abc", drafted(folder))
        assert folder.outcome("abc") == OUTCOME
        assert read_arrays(folder.path / "trials" / "abc" / "arrays.safetensors")["a"].tolist() == [0, 1, 2]
        assert folder.evaluation("abc") is None

    def test_a_draft_is_no_outcome(self, folder):
        drafted(folder)
        assert folder.outcome("abc") is None and folder.outcome("draft") is None

    def test_publishing_moves_the_draft(self, folder):
        draft = drafted(folder)
        folder.publish("trials", "abc", draft)
        assert not draft.exists()

    def test_a_later_attempt_replaces_all_of_an_earlier_one(self, folder):
        folder.record("trials", {"id": "abc", "state": "failed", "reason": "why"})
        (folder.path / "trials" / "abc" / "left over").write_text("from the first attempt")
        folder.publish("trials", "abc", drafted(folder))
        assert folder.outcome("abc") == OUTCOME
        assert sorted(os.listdir(folder.path / "trials" / "abc")) == ["arrays.safetensors", "outcome.json"]

    def test_nan_is_refused_and_nothing_is_written(self, folder):
        with pytest.raises(ValueError, match="JSON"):
            folder.record("trials", {"id": "abc", "state": "done", "loss": float("nan")})
        assert folder.outcome("abc") is None
        assert not [path for path in folder.path.rglob("*") if path.is_file()]

    def test_outcomes_are_those_of_the_plan_that_are_there(self, folder):
        folder.publish("trials", "abc", drafted(folder))
        folder.publish("evaluations", "e1", drafted(folder, EVALUATION))
        folder.publish("trials", "old", drafted(folder, {**OUTCOME, "id": "old"}))
        chapters = [{"name": "data"}, {"evaluations": [{"id": "e1"}, {"id": "e2"}]}]
        plan = {"trials": {"abc": {}, "missing": {}}, "chapters": chapters, "data": {"labels": ["a", "b"]}}
        assert set(folder.outcomes(plan)) == {"abc"} and set(folder.evaluations(plan)) == {"e1"}

    def test_states_are_those_of_the_outcomes(self, folder):
        folder.publish("trials", "abc", drafted(folder))
        folder.record("evaluations", {**EVALUATION, "state": "failed", "reason": "why"})
        plan = {"trials": {"abc": {}, "missing": {}}, "chapters": [{"evaluations": [{"id": "e1"}]}]}
        assert folder.states(plan) == {"abc": "done", "e1": "failed"}

    def test_a_view_shows_the_run_as_it_stood(self, folder):
        write_json(folder.path / "plan.json", {**PLAN, "trials": {"abc": {}, "def": {}}})
        folder.publish("trials", "abc", drafted(folder))
        view = StoredRun(folder)
        assert view.outcome("abc") == OUTCOME and view.outcome("def") is None
        folder.record("trials", {"id": "def", "state": "failed"})
        assert view.outcome("def") is None
        assert StoredRun(folder).outcome("def") == {"id": "def", "state": "failed"}

    def test_reading_leaves_the_collector_as_it_was(self, folder):
        folder.publish("trials", "abc", drafted(folder, {"id": "other", "state": "done"}))
        with pytest.raises(CorruptFileError, match="not an outcome of 'abc'"):
            folder.outcomes({"trials": {"abc": {}}, "chapters": []})
        assert gc.isenabled()


class TestReading:
    @pytest.mark.parametrize(
        "content",
        ["", "{", "[]", "null", '{"id": "abc"}', '{"id": "other", "state": "done"}', "[" * 100_000],
    )
    def test_a_damaged_outcome_is_told_by_its_place(self, folder, content):
        path = folder.path / "trials" / "abc" / "outcome.json"
        path.parent.mkdir(parents=True)
        path.write_text(content, encoding="utf-8")
        with pytest.raises(CorruptFileError, match="outcome.json.*delete"):
            folder.outcome("abc")

    def test_a_sound_plan_is_read(self, folder):
        write_json(folder.path / "plan.json", PLAN)
        assert folder.plan() == PLAN

    @pytest.mark.parametrize(
        "change", [{"format": 2}, {"chapters": {}}, {"trials": None}, {"how": []}, {"data": 3}]
    )
    def test_a_plan_of_another_form_is_told(self, folder, change):
        write_json(folder.path / "plan.json", {**PLAN, **change})
        with pytest.raises(CorruptFileError, match="not a plan of format 1"):
            folder.plan()

    def test_a_folder_without_a_plan_is_no_run(self, tmp_path):
        with pytest.raises(RunError, match="is not a run"):
            RunDirectory.existing(tmp_path)


HOLD = """
import sys, time
from pathlib import Path
from inklab.study.run_directory import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


class TestLock:
    def test_a_second_driver_is_refused_and_told_who_is_first(self, folder):
        with folder.locked(), pytest.raises(RunError, match=f"is being run by process {os.getpid()} on "):
            with RunDirectory(folder.path).locked():
                pytest.fail("two drivers at once")

    def test_it_is_free_again_after_an_error(self, folder):
        with pytest.raises(KeyError), folder.locked():
            raise KeyError
        with folder.locked():
            pass

    def test_it_is_free_again_when_its_holder_is_killed(self, folder):
        holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder.path)], stdout=subprocess.PIPE)
        with holder:
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(RunError, match=f"process {holder.pid} "), folder.locked():
                pass
            holder.send_signal(signal.SIGKILL)
        with folder.locked():
            assert str(os.getpid()) in (folder.path / ".lock").read_text()


def test_json_in_a_run_folder_is_plain(folder):
    folder.record("trials", {"id": "abc", "state": "failed", "reason": "größer"})
    text = (folder.path / "trials" / "abc" / "outcome.json").read_text(encoding="utf-8")
    assert "größer" in text and json.loads(text)["id"] == "abc"

"""A run folder that somebody sent: one line about the file that is wrong, and nothing in it is run."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzed_runs import write_run
from safetensors.numpy import load_file, save_file

from inklab.cli import main
from inklab.errors import EXIT_DATA, EXIT_OK, CorruptFileError
from inklab.run import StoredRun
from inklab.study.forms.arrays import StoredArrays
from inklab.study.run_directory import RunDirectory


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run; every test mends what it spoils."""
    return write_run(tmp_path_factory.mktemp("run"))


@contextmanager
def spoilt(path: Path, place: str, value: Any) -> Iterator[None]:
    """A JSON file with another value at a dotted place; None takes it away."""
    sound = path.read_bytes()
    whole = json.loads(sound)
    *route, last = (int(part) if part.isdigit() else part for part in place.split("."))
    table = whole
    for part in route:
        table = table[part]
    if value is None:
        del table[last]
    else:
        table[last] = value
    path.write_text(json.dumps(whole), encoding="utf-8")
    try:
        yield
    finally:
        path.write_bytes(sound)


def typed(capsys, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([*words])
    told = capsys.readouterr()
    return ended.value.code, told.out, told.err


def refused(capsys, *words: str) -> str:
    """What is said, in one line, with the exit code of wrong data."""
    code, out, err = typed(capsys, *words)
    assert (code, out) == (EXIT_DATA, ""), (code, out, err)
    assert err.startswith("inklab: ") and err.count("\n") == 1 and len(err) < 1_000
    return err


def chapter(run: Path, name: str) -> tuple[int, dict[str, Any]]:
    chapters = RunDirectory(run).plan()["chapters"]
    return next((place, each) for place, each in enumerate(chapters) if each["name"] == name)


PLAN = {
    # a dotted place, what stands there (None: nothing), and what the line must name
    "study": (3, "'study' is 3"),
    "seed": ("0", "'seed' is '0'"),
    "data.sha256": ("abc", "'data.sha256'"),
    "data.shape": ([1, -28, 28], "'data.shape.1' is -28"),
    "data.labels": (["0"], "'data.labels'"),
    "data.counts.test": ([1, 2, 3], "counts.test are not those"),
    "data.source": (None, "'data.source' is missing"),
    "how": ({}, "'how.precision' is missing"),
    "how.threads": (True, "'how.threads' is True"),
    "how.speed": (9, "'how' has 'speed'"),
    "chapters.0.kind": ("video", "'video'"),
    "chapters.0.name": ("../../up", "'chapters.0.data.name'"),
    "chapters.1.name": ("data", "two of its chapters have one name"),
    "chapters.1.settings": ([], "chapters.1.train.settings"),
    "chapters.1.vary": (["l2"], "something else than what varies"),
    "chapters.1.settings.0.trials": (["../../../etc"], "settings.0.trials.0"),
    "chapters.1.settings.0.settings.recipe.objective": ("explode", "networks are trained to classify or"),
    "chapters.1.reference": ({"who": "me", "values": {"a": "b"}}, "reference.values.a"),
    "trials": ({"../x": {}}, "its trial '../x' is none"),
    "trials.abc": (3, "its trial 'abc' is none"),
    "facts.abc": ({"liftable": True}, "its fact 'abc'"),
    "groups": ({}, "'groups'"),
}


@pytest.mark.parametrize("place", PLAN)
def test_a_hostile_plan_is_refused(place, run, capsys):
    value, says = PLAN[place]
    with spoilt(run / "plan.json", place, value):
        for command in ("status", "report"):
            said = refused(capsys, command, str(run))
            assert says in said and "plan.json' is not a plan of format 1" in said


NOISE = {
    "alone": ("nobody", "none of its pipelines"),
    "strengths": ([], "strengths"),
    "images": (0, "images"),
    "evaluations.0.pipeline": ("nobody", "something else"),
    "evaluations.0.strengths": ([0.5], "something else"),
    "evaluations.0.id": ("", "evaluations.0.id"),
}


@pytest.mark.parametrize("place", NOISE)
def test_a_plan_whose_parts_do_not_agree_is_refused(place, run, capsys):
    value, says = NOISE[place]
    with spoilt(run / "plan.json", f"chapters.{chapter(run, 'noise')[0]}.{place}", value):
        assert says in refused(capsys, "status", str(run))


TRIAL = {
    "state": ("excellent", "'state' is 'excellent'"),
    "scores": (None, "it is done, but has no scores"),
    "scores.test_accuracy": (1.5, "an accuracy is no share"),
    "scores.test_loss": ("low", "'scores.test_loss' is 'low'"),
    "scores.validation_loss": (1e200, "'scores.validation_loss'"),
    "history": ([], "'history'"),
    "history.train_loss": (["a"], "'history.train_loss.0' is 'a'"),
    "history.epoch": ([0.5], "'history.epoch.0' is 0.5"),
    "layers": ([1], "'layers.0' is 1"),
    "parameters": ("many", "'parameters' is 'many'"),
    "verdicts": ([{}], "'verdicts.0.name' is missing"),
    "seconds": (-1, "'seconds' is -1"),
    "ran": ([], "'ran'"),
    "id": ("another", "another's"),
}


@pytest.mark.parametrize("place", TRIAL)
def test_a_hostile_outcome_of_a_trial_is_refused(place, run, capsys):
    trial = chapter(run, "mlp-64-64")[1]["settings"][0]["trials"][0]
    value, says = TRIAL[place]
    with spoilt(run / "trials" / trial / "outcome.json", place, value):
        for command in (
            ["status", str(run)],
            ["compare", str(run), "cnn", "mlp-64-64"],
            ["report", str(run)],
        ):
            said = refused(capsys, *command)
            assert says in said and trial in said and "delete that folder" in said


EVALUATIONS = {
    "noise": {
        "kind": ("generator", "recognised"),
        "tpr": ([0.5], "not a rate for each strength"),
        "tpr.0": (1.5, "'tpr.0' is 1.5"),
        "accuracy": (None, "not a rate for each strength"),
        "tpr_per_class.0": ([0.5], "something else"),
        "strengths.1": (0.3, "something else"),
        "pipeline": ("another", "something else"),
    },
    "generator": {
        "recognised": (None, "does not say what was recognised"),
        "classes": ([0.5], "something else"),
        "frechet": ("far", "'frechet' is 'far'"),
        "sampler": ("another", "something else"),
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", EVALUATIONS)
def test_a_hostile_outcome_of_an_evaluation_is_refused(kind, run, capsys):
    evaluation = chapter(run, kind)[1]["evaluations"][-1]["id"]
    for place, (value, says) in EVALUATIONS[kind].items():
        with spoilt(run / "evaluations" / evaluation / "outcome.json", place, value):
            said = refused(capsys, "report", str(run))
            assert says in said and evaluation in said


RESULTS = {
    "format": (2, "'format' is 2"),
    "chapters": ([], "'chapters'"),
    "chapters.mlp-64-64": (3, "'chapters.mlp-64-64"),
    "chapters.mlp-64-64.test_accuracy.mean": ("high", "test_accuracy.mean"),
    "chapters.mlp-64-64.test_accuracy.ci95": ([1], "ci95"),
    "chapters.mlp-64-64.test_accuracy.n": (None, "n' is missing"),
    "chapters.l2-sweep.settings": ({"a": 1}, "settings"),
    "chapters.l2-sweep.vary": (7, "vary"),
}


@pytest.mark.parametrize("place", RESULTS)
def test_hostile_results_are_not_shown(place, run, capsys):
    value, says = RESULTS[place]
    with spoilt(run / "results.json", place, value):
        for words in (["show", str(run)], ["show", str(run), "--json"]):
            said = refused(capsys, *words)
            assert says in said and "writes it anew" in said


def test_a_hostile_clock_is_told(run, capsys):
    for value in ("long", -1, None):
        with spoilt(run / "clock.json", "seconds", value):
            assert "clock.json' is damaged" in refused(capsys, "report", str(run))


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    "change",
    [
        {"predicted": np.full((2, 100), 10, np.uint8)},
        {"predicted": np.full((2, 100), -1, np.int16)},
        {"predicted": np.zeros((3, 100), np.uint8)},
        {"predicted": np.zeros((2, 99), np.uint8)},
        {"predicted": np.zeros((2, 100), np.float32)},
        {"labels": np.zeros((100, 1), np.uint8)},
        {"shown": np.zeros((2, 10, 1, 28, 27), np.uint8)},
        {"seen": np.zeros((2, 9, 1, 28, 28), np.uint8)},
        {"more": np.zeros(3, np.uint8)},
    ],
    ids=range(9),
)
def test_arrays_of_another_form_are_refused(change, run, capsys):
    evaluation = chapter(run, "noise")[1]["evaluations"][0]["id"]
    path = run / "evaluations" / evaluation / "arrays.safetensors"
    sound = path.read_bytes()
    save_file({**load_file(path), **change}, path)
    try:
        assert f"{evaluation}/arrays.safetensors' h" in refused(capsys, "report", str(run))
    finally:
        path.write_bytes(sound)


def test_lost_arrays_of_what_is_done_are_told(run, tmp_path, capsys):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    evaluation = chapter(run, "noise")[1]["evaluations"][0]["id"]
    (copy / "evaluations" / evaluation / "arrays.safetensors").unlink()
    assert f"{evaluation}' has lost its arrays" in refused(capsys, "report", str(copy))


def test_a_confidence_beyond_certainty_is_none(run):
    trial = chapter(run, "cnn")[1]["settings"][0]["trials"][0]
    path = run / "trials" / trial / "predictions.safetensors"
    sound = path.read_bytes()
    for value in (np.nan, 1.5, -0.1):
        save_file({**load_file(path), "confidence": np.full(400, value, np.float32)}, path)
        with pytest.raises(CorruptFileError, match="confidences that are none"):
            StoredArrays(run, RunDirectory(run).plan())(trial)
    path.write_bytes(sound)
    assert len(StoredArrays(run, RunDirectory(run).plan())(trial)["confidence"]) == 400


# ---------------------------------------------------------------- what is sound, and what must not happen


def test_the_sound_run_is_read(run, capsys):
    assert typed(capsys, "status", str(run))[0] == EXIT_OK
    assert typed(capsys, "show", str(run))[0] == EXIT_OK


def test_code_that_a_plan_names_is_not_run(run, tmp_path):
    marker, code = tmp_path / "ran", tmp_path / "source.py"
    code.write_text(f"open({str(marker)!r}, 'w').close()\ndef images(): pass\n", encoding="utf-8")
    with spoilt(run / "plan.json", "data.source", f"{code}:images"):
        assert StoredRun(RunDirectory(run)).test_labels() is None
    assert not marker.exists()


def test_what_a_terminal_would_obey_is_not_printed(run, capsys):
    with spoilt(run / "results.json", "chapters.findings", ["\x1b[2Jgone\x9b\x07"]):
        _, out, _ = typed(capsys, "show", str(run))
    assert "gone" in out and not set("\x1b\x9b\x07") & set(out)

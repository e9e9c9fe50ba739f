"""A run directory from another person: one line names the wrong file and key; nothing is run."""

import json
from contextlib import contextmanager

import pytest
from synthetic_report import digits_plan, write_report_run

from inklab.errors import EXIT_DATA, EXIT_OK
from inklab.run import Run
from inklab.study.run_directory import RunDirectory

OVERRIDES = (
    "robustness.strengths=[0, 0.25]", "robustness.images=100", "robustness.pipelines=['cnn', 'denoiser+cnn']",
    "generation.samplers=['binary', 'mixture']", "l2-sweep.replicates=2", "cnn.replicates=2",
    "denoiser.replicates=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run; every test repairs what it damages."""
    path = tmp_path_factory.mktemp("run") / "run"
    write_report_run(path, digits_plan(overrides=OVERRIDES))
    (path / "timer.json").write_text('{"seconds": 12.5}')
    return path


@contextmanager
def damaged(path, key, value):
    """A JSON file with another value at a dotted key; None removes it."""
    original = path.read_bytes()
    document = json.loads(original)
    *parents, last = (int(part) if part.isdigit() else part for part in key.split("/"))
    table = document
    for part in parents:
        table = table[part]
    if value is None:
        del table[last]
    else:
        table[last] = value
    path.write_text(json.dumps(document), encoding="utf-8")
    try:
        yield
    finally:
        path.write_bytes(original)


def refusal(cli, *words):
    """The one line that a command refuses damaged data with."""
    code, out, err = cli(*words)
    assert (code, out) == (EXIT_DATA, ""), (code, out, err)
    assert err.count("\n") == 1 and len(err) < 1_000
    return err


def check_refused(cli, path, key, value, named, commands):
    """Each command names the file and the key."""
    with damaged(path, key, value):
        for words in commands:
            line = refusal(cli, *words)
            assert str(path) in line and named in line


def test_the_run_is_read_as_it_is(run, cli):
    for command in ("status", "show"):
        assert cli(command, run)[0] == EXIT_OK


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("study", 3, "'study'"),
        ("seed", "0", "'seed'"),
        ("data/sha256", "abc", "'data.sha256'"),
        ("data/shape", [1, -28, 28], "'data.shape.1'"),
        ("data/labels", ["0"], "'data.labels'"),
        ("data/counts/test", [1, 2, 3], "'data.counts'"),
        ("data/dataset", None, "'data.dataset'"),
        ("execution", {}, "'execution.precision'"),
        ("execution/threads", True, "'execution.threads'"),
        ("execution/speed", 9, "'execution.speed'"),
        ("experiments/0/kind", "video", "'experiments.0'"),
        ("experiments/0/name", "../../up", "'experiments.0.data.name'"),
        ("experiments/1/name", "data", "'data'"),
        ("experiments/1/settings", [], "'experiments.1.training.settings'"),
        ("experiments/1/grid", ["l2"], "grid"),
        ("experiments/1/settings/0/trials", ["../../../etc"], "'experiments.1.training.settings.0.trials.0'"),
        ("experiments/1/references", [{"source": "me", "values": {"a": "b"}}], "references.0.values.a"),
        ("trials", {"../x": {}}, "'trials"),
        ("trials/abc", 3, "'trials.abc'"),
        ("networks/abc", {"vmappable": True}, "'networks.abc"),
        ("groups", {}, "'groups'"),
        ("format", 1, "'format'"),
    ],
)
def test_a_plan(run, cli, key, value, named):
    check_refused(cli, run / "plan.json", key, value, named, [["status", run], ["report", run]])


def index_of(run, name):
    """The index of an experiment in the plan."""
    return [experiment.name for experiment in RunDirectory(run).plan().experiments].index(name)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("baseline", "nobody", "nobody"),
        ("strengths", [], "strengths"),
        ("images", 0, "images"),
        ("evaluations/0/pipeline", "nobody", "evaluation of something else"),
        ("evaluations/0/strengths", [0.5], "evaluation of something else"),
        ("evaluations/0/id", "", "evaluations.0.id"),
    ],
)
def test_a_plan_whose_parts_do_not_agree(run, cli, key, value, named):
    key = f"experiments/{index_of(run, 'robustness')}/{key}"
    check_refused(cli, run / "plan.json", key, value, named, [["status", run]])


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("state", "excellent", "'state'"),
        ("metrics", None, "metrics"),
        ("metrics/test_accuracy", 1.5, "test_accuracy"),
        ("metrics/test_loss", "low", "'metrics.test_loss'"),
        ("metrics/validation_loss", 1e200, "'metrics.validation_loss'"),
        ("history", [], "'history'"),
        ("history/train_loss", ["a"], "'history.train_loss.0'"),
        ("history/epoch", [0.5], "'history.epoch.0'"),
        ("layers", [1], "'layers.0'"),
        ("parameters", "many", "'parameters'"),
        ("diagnoses", [{}], "'diagnoses.0.name'"),
        ("seconds", -1, "'seconds'"),
        ("environment", [], "'environment'"),
        ("id", "another", "'another'"),
    ],
)
def test_an_outcome_of_a_trial(run, cli, key, value, named):
    trial = RunDirectory(run).plan().trials_of("mlp-64-64")[0]
    path = run / "trials" / trial / "outcome.json"
    commands = [["status", run], ["compare", run, "cnn", "mlp-64-64"], ["report", run]]
    check_refused(cli, path, key, value, named, commands)


@pytest.mark.parametrize(
    ("experiment", "key", "value", "named"),
    [
        ("robustness", "kind", "generation", "'kind'"),
        ("robustness", "recall", [0.5], "recall"),
        ("robustness", "recall/0", 1.5, "'recall.0'"),
        ("robustness", "accuracy", None, "accuracy"),
        ("robustness", "recall_per_class/0", [0.5], "recall_per_class"),
        ("robustness", "evaluation/strengths/1", 0.3, "something else"),
        ("robustness", "evaluation/pipeline", "another", "something else"),
        ("generation", "confident_share", None, "confident_share"),
        ("generation", "class_shares", [0.5], "classes"),
        ("generation", "frechet_distance", "far", "'frechet_distance'"),
        ("generation", "evaluation/sampler", "another", "something else"),
    ],
)
def test_an_outcome_of_an_evaluation(run, cli, experiment, key, value, named):
    evaluation = RunDirectory(run).plan().evaluations_of(experiment)[-1]
    path = run / "evaluations" / evaluation / "outcome.json"
    check_refused(cli, path, key, value, named, [["report", run]])


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("format", 1, "'format'"),
        ("experiments", [], "'experiments'"),
        ("experiments/mlp-64-64", 3, "'experiments.mlp-64-64"),
        ("experiments/mlp-64-64/settings/0/metrics/test_accuracy/mean", "high", "test_accuracy.mean"),
        ("experiments/mlp-64-64/settings/0/metrics/test_accuracy/ci95", [1], "test_accuracy.ci95"),
        ("experiments/mlp-64-64/settings/0/metrics/test_accuracy/n", None, "test_accuracy.n"),
        ("experiments/l2-sweep/settings", {"a": 1}, "settings"),
        ("experiments/l2-sweep/grid", 7, "grid"),
    ],
)
def test_results(run, cli, key, value, named):
    check_refused(cli, run / "results.json", key, value, named, [["show", run], ["show", run, "--json"]])


@pytest.mark.parametrize("value", ["long", -1, None])
def test_a_timer(run, cli, value):
    check_refused(cli, run / "timer.json", "seconds", value, "'seconds'", [["report", run]])


def test_code_that_a_plan_names_is_not_run(run, tmp_path):
    marker, code = tmp_path / "ran", tmp_path / "dataset.py"
    code.write_text(f"open({str(marker)!r}, 'w').close()\ndef images(): pass\n", encoding="utf-8")
    with damaged(run / "plan.json", "data/dataset", f"{code}:images"):
        assert Run(run).test_labels() is None
    assert not marker.exists()


def test_what_a_terminal_would_obey_is_not_printed(run, cli):
    with damaged(run / "results.json", "findings", ["\x1b[2Jgone\x9b\x07"]):
        _, out, _ = cli("show", run)
    assert "gone" in out and not set("\x1b\x9b\x07") & set(out)

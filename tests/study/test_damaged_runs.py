"""A run directory from another person: one line names the wrong file and key; nothing is run."""

import json
from contextlib import contextmanager

import pytest
from synthetic_report import digits_plan, write_report_run

from inklab.errors import EXIT_DATA, EXIT_OK
from inklab.runs import Run
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


COMMANDS = {
    "plan.json": (["status"], ["report"]),
    "trials": (["status"], ["compare", "cnn", "mlp-64-64"], ["report"]),
    "results.json": (["show"], ["show", "--json"]),
}
"""What reads a file; `report` where nothing else is said."""


def check_refused(cli, run, path, key, value, named):
    """Each command refuses the file in one line that names it and the key."""
    with damaged(path, key, value):
        for command, *words in COMMANDS.get(path.relative_to(run).parts[0], (["report"],)):
            code, out, line = cli(command, run, *words)
            assert (code, out) == (EXIT_DATA, ""), (code, out, line)
            assert line.count("\n") == 1 and len(line) < 1_000 and str(path) in line and named in line


def test_the_run_is_read_as_it_is(run, cli):
    for command in ("status", "show"):
        assert cli(command, run)[0] == EXIT_OK


PLAN = [
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
    ("experiments", 3, "'experiments'"),
    ("data", 3, "'data'"),
]
AGREEMENT = [
    ("baseline", "nobody", "nobody"),
    ("strengths", [], "strengths"),
    ("images", 0, "images"),
    ("evaluations/0/pipeline", "nobody", "evaluation of something else"),
    ("evaluations/0/strengths", [0.5], "evaluation of something else"),
    ("evaluations/0/id", "", "evaluations.0.id"),
]
RESULTS = [
    ("format", 1, "'format'"),
    ("experiments", [], "'experiments'"),
    ("experiments/mlp-64-64", 3, "'experiments.mlp-64-64"),
    ("experiments/mlp-64-64/settings/0/metrics/test_accuracy/mean", "high", "test_accuracy.mean"),
    ("experiments/mlp-64-64/settings/0/metrics/test_accuracy/ci95", [1], "test_accuracy.ci95"),
    ("experiments/mlp-64-64/settings/0/metrics/test_accuracy/n", None, "test_accuracy.n"),
    ("experiments/l2-sweep/settings", {"a": 1}, "settings"),
    ("experiments/l2-sweep/grid", 7, "grid"),
]
TRIAL = [
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
]
EVALUATION = [
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
]


@pytest.mark.parametrize(
    ("file", "key", "value", "named"),
    [
        *(("plan.json", *case) for case in PLAN),
        *(("results.json", *case) for case in RESULTS),
        *(("timer.json", "seconds", value, "'seconds'") for value in ("long", -1, None)),
    ],
)
def test_a_file_of_the_run(run, cli, file, key, value, named):
    check_refused(cli, run, run / file, key, value, named)


@pytest.mark.parametrize(("key", "value", "named"), AGREEMENT)
def test_a_plan_whose_parts_do_not_agree(run, cli, key, value, named):
    names = [experiment.name for experiment in RunDirectory(run).plan().experiments]
    key = f"experiments/{names.index('robustness')}/{key}"
    check_refused(cli, run, run / "plan.json", key, value, named)


@pytest.mark.parametrize(
    ("experiment", "key", "value", "named"), [*(("mlp-64-64", *case) for case in TRIAL), *EVALUATION]
)
def test_an_outcome(run, cli, experiment, key, value, named):
    plan = RunDirectory(run).plan()
    trials, evaluations = plan.trials_of(experiment), plan.evaluations_of(experiment)
    folder = f"trials/{trials[0]}" if trials else f"evaluations/{evaluations[-1]}"
    check_refused(cli, run, run / folder / "outcome.json", key, value, named)


def test_code_that_a_plan_names_is_not_run(run, tmp_path):
    marker, code = tmp_path / "ran", tmp_path / "dataset.py"
    code.write_text(f"open({str(marker)!r}, 'w').close()\ndef images(): pass\n", encoding="utf-8")
    with damaged(run / "plan.json", "data/dataset", f"{code}:images"):
        assert Run(run).images.test_labels() is None
    assert not marker.exists()


def test_what_a_terminal_would_obey_is_not_printed(run, cli):
    with damaged(run / "results.json", "findings", ["\x1b[2Jgone\x9b\x07"]):
        _, out, _ = cli("show", run)
    assert "gone" in out and not set("\x1b\x9b\x07") & set(out)

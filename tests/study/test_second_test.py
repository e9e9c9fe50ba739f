"""Second test sets: refused if they do not fit, computed once, reported beside the test set."""

import re

import numpy as np
import pytest
from inline_executor import InlineExecutor

from inklab.errors import DataError
from inklab.metrics import get_metric
from inklab.model import TrainedModel
from inklab.report.tables import metrics_table
from inklab.runs import Run
from inklab.study.load import prepare_study, read_study
from inklab.study.resources import ExecutionOptions
from inklab.study.run_directory import RunDirectory
from inklab.study.runner import StudyRunner

STUDY = """
name = "two-tests"
[data]
dataset = "small.npz"
validation = 10
[experiments.mlp]
network = { name = "mlp", hidden = [8] }
recipe = { base = "sgd", epochs = 2, batch_size = 16 }
replicates = 2
"""


def write(path, seed, test=30, classes=2, side=12):
    """Images whose class is where they are bright; what differs between seeds is the noise."""
    rng, arrays = np.random.default_rng(seed), {}
    for name, count in (("train", 60), ("test", test)):
        labels = np.arange(count) % classes
        images = rng.integers(0, 120, (count, side, side))
        images[np.arange(count), labels] += 100
        arrays |= {f"x_{name}": images.astype(np.uint8), f"y_{name}": labels}
    np.savez(path, **arrays)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("second")
    write(path / "small.npz", 0)
    write(path / "fresh.npz", 1, test=50)
    write(path / "other.npz", 2, classes=3)
    write(path / "wide.npz", 2, side=14)
    (path / "study.toml").write_text(STUDY)
    return path


def execute(folder, *overrides):
    study = prepare_study(read_study(str(folder / "study.toml"), overrides=overrides))
    options = ExecutionOptions(1, 1, "fp32", "no")
    StudyRunner(study, RunDirectory(folder / "run"), options, executor=InlineExecutor).run()
    return Run(folder / "run")


def test_a_finished_run_is_tested_once_more_without_training(folder, monkeypatch):
    monkeypatch.chdir(folder)
    first = execute(folder)
    files = {path: path.read_bytes() for path in (folder / "run/trials").rglob("*") if path.is_file()}
    run = execute(folder, 'data.test_on=["fresh.npz"]')
    before, setting = first.results.training["mlp"].settings[0], run.results.training["mlp"].settings[0]
    assert all(setting.metrics[name] == estimate for name, estimate in before.metrics.items())
    assert all(path.read_bytes() == content for path, content in files.items()), "nothing was trained again"

    with np.load("fresh.npz") as arrays:
        images, labels = arrays["x_test"], arrays["y_test"]
    models = [TrainedModel.load(run.model_dir("mlp", replicate)) for replicate in (0, 1)]
    accuracies = [(model.predict(images).labels == labels.astype(str)).mean() for model in models]
    estimate = setting.metrics["test_accuracy@fresh.npz"]
    assert estimate.values == pytest.approx(accuracies)
    assert run.results.data.images_of("test_accuracy@fresh.npz") == "50 test images of fresh.npz"
    titles = [row[0] for row in metrics_table(setting, run.results.data).rows]
    assert "Test accuracy on fresh.npz" in titles

    added = {path for path in (folder / "run/trials").rglob("second_tests/*.json")}
    changed = {path: path.stat().st_mtime_ns for path in added}
    execute(folder, 'data.test_on=["fresh.npz"]')
    assert len(added) == 2 and changed == {path: path.stat().st_mtime_ns for path in added}
    assert "test_accuracy@fresh.npz" not in execute(folder).results.training["mlp"].settings[0].metrics


@pytest.mark.parametrize(("name", "part"), [("other.npz", "3 classes"), ("wide.npz", "1 x 14 x 14")])
def test_another_kind_of_images_is_refused_before_training(folder, monkeypatch, name, part):
    monkeypatch.chdir(folder)
    with pytest.raises(DataError, match=re.escape(f"data.test_on = '{name}': ") + f".*{part}"):
        prepare_study(read_study("study.toml", overrides=[f'data.test_on=["{name}"]']))


def test_one_model_has_an_interval_over_the_images_of_the_second_test(folder, monkeypatch):
    monkeypatch.chdir(folder)
    run = execute(folder, 'data.test_on=["fresh.npz"]', "mlp.replicates=1")
    estimate = run.results.training["mlp"].settings[0].metrics["test_accuracy@fresh.npz"]
    assert (estimate.n, estimate.basis) == (1, "images")
    assert get_metric("test_loss@fresh.npz").higher_is_better is False

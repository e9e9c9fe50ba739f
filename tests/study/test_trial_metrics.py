"""Metrics of trials in results, tables, figures and comparisons: those of inklab, and the user's own."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import toy_run

import inklab
from inklab.cli.show_commands import print_results
from inklab.errors import ConfigError
from inklab.metrics import METRICS, get_metric, own_metrics
from inklab.report.figures import draw_figures
from inklab.report.page import build_report
from inklab.results.comparison import compare
from inklab.runs import Run
from inklab.study.spec import TrainingExperiment

FAST = {"workers": 1, "threads": 1, "compile": "no", "precision": "fp32", "progress": False}
DATA = toy_run.images(120, 1)
OWN = """
import inklab

@inklab.metric("sureness", label="mean sureness", is_share=True, higher_is_better=False)
def sureness(probabilities, labels):
    return probabilities.max(axis=1).mean()
"""


@pytest.fixture(autouse=True)
def runs_dir(tmp_path, monkeypatch):
    """An empty runs directory, and no metric that stays."""
    monkeypatch.setenv("INKLAB_RUNS_DIR", str(tmp_path / "runs"))
    with own_metrics.temporary():
        yield tmp_path / "runs"


def train(*metrics, **settings):
    settings = {"recipe": {"epochs": 1}, "name": "own", **settings}
    return inklab.train("mlp", DATA, metrics=metrics, **settings, **FAST)


def outcomes(run):
    return [run.outcomes[id] for id in run.plan.trials]


def mean_label(probabilities, labels):
    return labels.mean()


@pytest.fixture(scope="module")
def skewed(tmp_path_factory):
    """A run on images of which 95 in 100 have one label, which they don't show."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (400, 8, 8), dtype=np.uint8)
    labels = np.where(np.arange(400) % 20 < 19, "common", "rare")
    arrays = (images[:200], labels[:200], images[200:], labels[200:])
    run_dir = tmp_path_factory.mktemp("skewed") / "run"
    return inklab.train("mlp", arrays, recipe={"epochs": 1}, name="skewed", run_dir=run_dir, **FAST)


def test_a_majority_is_stated_beside_the_accuracy(skewed, capsys):
    results = Run(skewed.path).results
    assert results.data.largest_class == ("common", 0.95)
    (finding,) = (text for text in results.findings if "largest class" in text)
    assert "common, would have a test accuracy of 95.00%" in finding and "balanced accuracy is" in finding
    print_results(results)
    assert "share of the largest class (common)" in capsys.readouterr().out
    page = build_report(Run(skewed.path), {}, has_pad=False)
    for title in ("Share of the largest class (common)", "More metrics", "Recall of each class"):
        assert title in page
    recall = results.training["skewed"].settings[0].metrics["test_recall_rare"]
    half_width = (recall.ci95_images[1] - recall.ci95_images[0]) / 2
    assert half_width > 0.1, "an interval over 10 images, not 200"


def test_the_reliability_diagram_has_the_calibration_error(skewed):
    (figure,) = (figure for figure in draw_figures(skewed)["skewed"] if figure.title == "Reliability")
    images, confidence, accuracy = np.array(figure.csv_rows, dtype=float)[:, 2:].T
    assert images.sum() == 200
    error = (images / 200 * np.abs(confidence - accuracy)).sum()
    assert error == pytest.approx(outcomes(skewed)[0].metrics["test_ece"], abs=1e-6)


@pytest.mark.integration
def test_one_of_a_file_is_everywhere(tmp_path, capsys):
    (tmp_path / "own.py").write_text(OWN)
    run = train(f"{tmp_path}/own.py:sureness", replicates=2, grid={"recipe.learning_rate": [0.1, 0.2]})
    values = [outcome.metrics["test_sureness"] for outcome in outcomes(run)]
    assert all(0 < value <= 1 for value in values) and len(set(values)) == 4
    results = Run(run.path).results
    estimate = results.training["own"].settings[0].metrics["test_sureness"]
    assert estimate.values == tuple(values[:2]) and estimate.ci95_images is None
    print_results(results)
    assert "test mean sureness" in capsys.readouterr().out
    assert "Test mean sureness" in build_report(Run(run.path), {}, has_pad=False)
    a, b = run.plan.training[0].setting_names
    difference = compare(run.plan, run.outcomes, a, b).differences["test_sureness"]
    assert difference.mean == pytest.approx((values[0] + values[1] - values[2] - values[3]) / 2)


@pytest.mark.integration
def test_a_function_and_a_registered_name_give_what_a_file_gives_and_change_no_other_number(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    plain, file = train(), train(f"{tmp_path}/own.py:sureness")

    @inklab.metric("sureness", is_share=True)
    def sureness(probabilities, labels):
        return probabilities.max(axis=1).mean()

    by_object, by_name = train(sureness), train("sureness")
    assert by_object.path == by_name.path != file.path
    assert outcomes(by_object)[0].metrics == outcomes(file)[0].metrics
    own = {"test_sureness", "validation_sureness"}
    others = {name: value for name, value in outcomes(file)[0].metrics.items() if name not in own}
    assert others == outcomes(plain)[0].metrics


def test_mistakes_cost_the_metric_and_no_training():
    def broken(probabilities, labels):
        labels[:] = 0  # a copy
        raise KeyError("weights")

    def infinite(probabilities, labels):
        return float("inf")

    @inklab.metric("too_large", is_share=True)
    def too_large(probabilities, labels):
        return 1.5

    (outcome,) = outcomes(train(broken, infinite, too_large, mean_label))
    assert outcome.is_done and outcome.metrics["test_mean_label"] > 0
    assert not {"test_broken", "test_infinite", "test_too_large"} & outcome.metrics.keys()
    (diagnosis,) = (row for row in outcome.diagnoses if row.name == "metric-absent")
    for text in ("'broken' is absent, because it raised KeyError", "returned inf", "no share in [0, 1]"):
        assert text in diagnosis.message


def test_denoisers_have_their_own():
    @inklab.metric("largest_error", tasks=["denoising"])
    def largest_error(outputs, images):
        assert outputs.shape == images.shape and outputs.shape[1:] == (1, *images.shape[2:])
        return abs(outputs - images).max()

    recipe = {"epochs": 1, "objective": "reconstruct"}
    run = inklab.train("unet", DATA, metrics=[largest_error], recipe=recipe, name="own", **FAST)
    (outcome,) = outcomes(run)
    assert 0 < outcome.metrics["test_largest_error"] <= 1 and not outcome.diagnoses
    with pytest.raises(ConfigError, match="the metric 'largest_error' is for denoising"):
        train(largest_error)


@pytest.mark.integration
def test_what_the_page_shows_runs(capsys):
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    exec(block, {"__name__": "__main__"})
    assert 0.3 < float(capsys.readouterr().out.split()[-1]) < 0.95
    assert not [name for name in METRICS if METRICS[name].tasks and f"`{name}`" not in page]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("macro_f1", "'macro_f1' is a metric of inklab"),
        ("sharpnes", "no metric called 'sharpnes' was registered"),
        (3, "3 is of type int"),
    ],
)
def test_what_is_no_metric_is_refused(value, message):
    with pytest.raises(ConfigError, match=message):
        TrainingExperiment(network="mlp", metrics=[value])


@pytest.mark.parametrize("name", ["accuracy", "test_x", "two words", "recall_cat"])
def test_names_that_metrics_cannot_have(name):
    with pytest.raises(ConfigError, match=f"'{name}'"):
        inklab.metric(name)(mean_label)


def test_two_of_one_name_are_refused():
    def same():
        def mean_label(probabilities, labels):
            return 1.0

        return mean_label

    with pytest.raises(ConfigError, match="two metrics are called 'mean_label'"):
        train(mean_label, same())


def test_a_plan_says_what_its_metrics_are(tmp_path):
    run = train(mean_label)
    plan = json.loads((run.path / "plan.json").read_text())
    row = {
        "key": "mean_label",
        "label": "unheard of",
        "unit": "mm",
        "higher_is_better": True,
        "is_share": False,
    }
    plan["experiments"][0]["metrics"] = [row]
    (run.path / "plan.json").write_text(json.dumps(plan))
    assert Run(run.path).plan.training[0].metrics[0].label == "unheard of"
    metric = get_metric("test_mean_label")
    assert (metric.label, metric.unit, metric.is_better(2, 1)) == ("test unheard of", "mm", True)

"""Tidy tables: the numbers are those of the outcomes and results, whichever way they are asked for."""

import sys

import numpy as np
import pandas as pd
import pytest
import toy_run
from sklearn.metrics import accuracy_score
from synthetic_run import synthetic_run

from inklab.errors import ConfigError, UnknownNameError
from inklab.records.outcomes import TrialState
from inklab.results.frames import FRAMES, setting_columns, text_columns
from inklab.runs import Run
from inklab.stats import estimate


@pytest.fixture(scope="module")
def run() -> Run:
    return Run(toy_run.finished())


@pytest.fixture(scope="module")
def trials(run) -> pd.DataFrame:
    return run.to_pandas()


@pytest.mark.parametrize("kind", FRAMES)
def test_rows_are_those_of_the_frame(run, kind):
    frame, rows = run.to_pandas(kind), run.rows(kind)
    assert len(frame) == len(rows) > 0 and list(frame.columns) == list(rows[0])
    pd.testing.assert_frame_equal(frame, pd.DataFrame(rows))
    assert not frame.columns.duplicated().any()


def test_trials_are_rows(run, trials):
    assert len(trials) == len(run.trials) == 2 + 1 + 9 + 2 + 2  # two of mlp are also in the sweep
    assert set(trials["state"]) == {"done"} and trials["trial"].nunique() == toy_run.TRIALS
    for row in trials.itertuples():
        outcome = run.outcomes[row.trial]
        assert (row.replicate, row.parameters) == (outcome.replicate, outcome.parameters)
        assert row.epochs == outcome.history.epoch[-1] and row.seconds == outcome.seconds
        for name, value in outcome.metrics.items():
            assert getattr(row, name) == value, name
    assert trials.query("experiment == 'sweep'")["l2"].unique().tolist() == [0.0, 1e-3, 1e-1]


def test_means_of_trials_are_the_estimates(run, trials):
    estimates = run.to_pandas("estimates")
    means = trials.groupby(["experiment", "setting"])["test_accuracy"].agg(["mean", "std", "count"])
    accuracies = estimates.query("metric == 'test_accuracy'").set_index(["experiment", "setting"])
    for key, row in accuracies.iterrows():
        assert (row["mean"], row["n"]) == (pytest.approx(means["mean"][key]), means["count"][key])
        assert row["sd"] == pytest.approx(means["std"][key], nan_ok=True)
    results = run.results.training["sweep"].settings[1].metrics["test_accuracy"]
    row = accuracies.loc["sweep", "l2 = 1e-3"]
    assert (row["ci95_low"], row["ci95_high"]) == results.ci95
    assert (row["ci95_images_low"], row["ci95_images_high"]) == results.ci95_images


def test_history_has_a_row_for_each_epoch(run):
    history = run.to_pandas("history", "cnn")
    assert len(history) == 2 * 12 and history["epoch"].tolist() == [*range(1, 13)] * 2
    outcome = run.outcomes[run.trial_for("cnn", 1)]
    own = history.query("replicate == 1")
    assert tuple(own["validation_accuracy"]) == outcome.history.validation_accuracy
    assert tuple(own["train_loss"]) == outcome.history.train_loss


def test_robustness_has_a_row_for_each_strength(run):
    frame = run.to_pandas("robustness")
    assert len(frame) == 3 * 2 * 3 and set(frame["pipeline"]) == {"cnn", "denoiser+cnn", "median+cnn"}
    recall = [name for name in frame.columns if name.startswith("recall_")]
    assert len(recall) == 10
    np.testing.assert_allclose(frame["recall"], frame[recall].mean(axis=1))
    results = run.results.experiment("robustness").pipelines["cnn"].recall[1].values
    assert tuple(frame.query("pipeline == 'cnn' and strength == 0.3")["recall"]) == results


def test_predictions_give_the_accuracy(run, trials):
    predictions = run.to_pandas("predictions")
    assert "denoiser" not in set(predictions["experiment"])
    keys = ["experiment", "setting", "replicate"]
    accuracies = trials.set_index(keys)["test_accuracy"]
    for key, group in predictions.groupby(keys):
        assert accuracy_score(group["label"], group["predicted"]) == pytest.approx(accuracies[key], abs=1e-9)
        assert group["index"].tolist() == list(range(toy_run.TEST))
    assert predictions["confidence"].between(0.1, 1).all()


def test_without_the_data_predictions_have_no_labels(tmp_path):
    path = toy_run.copied(tmp_path / "run")
    plan = Run(path).plan
    data = plan.data.model_copy(update={"dataset": str(tmp_path / "gone.npz")})
    plan.model_copy(update={"data": data}).write(path / "plan.json")
    rows = Run(path).rows("predictions", "cnn")
    assert {row["label"] for row in rows} == {None} and len(rows) == 2 * toy_run.TEST


def test_what_is_not_done_is_there_without_numbers(tmp_path):
    draft = synthetic_run()
    draft.fail("cnn-0-1")
    del draft.outcomes["cnn-0-2"]
    run = draft.write(tmp_path)
    rows = run.rows("trials", "cnn")
    assert [row["state"] for row in rows] == ["done", "diverged", "waiting"]
    assert [row["test_accuracy"] is None for row in rows] == [False, True, True]
    assert rows[1]["reason"] == "the loss became NaN in epoch 2"
    assert run.trials[-1].state is TrialState.DONE and run.trials[-1].experiment == "denoiser"
    frame = run.to_pandas("trials", "cnn")
    assert frame["test_accuracy"].dtype == float and frame["test_accuracy"].count() == 1


def test_a_run_in_which_nothing_is_done_has_empty_tables(tmp_path):
    draft = synthetic_run()
    draft.outcomes, draft.evaluations, draft.stored = {}, {}, {}
    run = draft.write(tmp_path, with_results=False)
    for kind in ("history", "estimates", "robustness", "predictions"):
        frame = run.to_pandas(kind)
        assert len(frame) == 0 and "experiment" in frame.columns
    assert repr(run.estimates()).count("no value yet") == 6
    assert "no value yet" not in run._repr_html_()


def test_keys_of_a_grid_do_not_hide_other_columns():
    columns = setting_columns({"epochs": 3, "hidden": [64, 32], "augmentation": {"shift": 2}})
    assert columns == {
        "setting": "epochs = 3, hidden = 64-32, augmentation = shift = 2",
        "setting_epochs": 3, "hidden": (64, 32), "augmentation": "shift = 2",
    }  # fmt: skip
    assert hash(columns["hidden"])  # one can group by it


def test_mistakes(run):
    with pytest.raises(UnknownNameError, match="Did you mean 'history'"):
        run.rows("histroy")
    with pytest.raises(UnknownNameError, match="Did you mean 'cnn'"):
        run.to_pandas("trials", "cn")


def test_without_pandas_there_are_rows(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert len(run.rows("trials")) == 16
    with pytest.raises(ConfigError, match=r"pip install 'inklab\[notebook\]'"):
        run.to_pandas()


class TestTable:
    def test_cells_are_the_estimates(self, run):
        table = run.table("test_accuracy", "test_loss", experiment="sweep")
        assert list(table.columns) == ["experiment", "setting", "Test accuracy (%)", "Test loss", "n"]
        accuracy = run.estimates()["sweep:l2=1e-3"]
        half = 100 * (accuracy.ci95[1] - accuracy.ci95[0]) / 2
        assert table["Test accuracy (%)"][1] == f"{100 * accuracy.mean:.2f} ± {half:.2f}"
        spread = run.table("test_accuracy", experiment="sweep", spread="sd")["Test accuracy (%)"][1]
        assert spread == f"{100 * accuracy.mean:.2f} ± {100 * accuracy.sd:.2f}"

    @pytest.mark.parametrize(
        ("values", "metric", "text"),
        [
            ((0.0980, 0.0980, 0.1049), "test_loss", "0.1003 ± 0.0099"),
            ((2.291, 2.291, 2.2911), "test_loss", "2.2910 ± 0.0001"),
            ((0.5, 0.5), "test_accuracy", "50.00"),
            ((12_345.0, 12_346.0), "flops", "12,346 ± 6.35"),
            ((0.97, 0.98), "test_accuracy", "97.50 ± 6.35"),
        ],
    )
    def test_both_sides_have_the_same_decimals(self, run, values, metric, text):
        setting = run.results.training["cnn"].settings[0]
        setting = setting.model_copy(update={"metrics": {metric: estimate(values)}})
        training = run.results.training["cnn"].model_copy(update={"settings": (setting,)})
        results = run.results.model_copy(update={"experiments": {"cnn": training}})
        assert list(text_columns(results, [metric]).values())[1] == [text]

    def test_one_replicate_has_no_spread_and_defaults_are_what_is_reported(self, run):
        table = run.table().set_index("experiment")
        assert "±" not in table["Test accuracy (%)"]["scaled-twice"]
        assert table["Test BCE"]["denoiser"] and pd.isna(table["Test accuracy (%)"]["denoiser"])

    def test_latex_compiles(self, run):
        text = run.table("test_accuracy", experiment="sweep").to_latex(index=False, escape=True)
        assert r"Test accuracy (\%)" in text and "l2 = 1e-3" in text and text.count(r"\\") == 4

    def test_mistakes(self, run):
        with pytest.raises(UnknownNameError, match="test_accuracy"):
            run.table("test_acuracy")
        with pytest.raises(UnknownNameError, match="Known: ci95, sd"):
            run.table(spread="se")


class TestEstimates:
    def test_names_are_those_that_compare_takes(self, run):
        estimates = run.estimates()
        assert list(estimates) == [
            "mlp", "scaled-twice", "sweep:l2=0", "sweep:l2=1e-3", "sweep:l2=0.1", "cnn"
        ]  # fmt: skip
        first, *others = estimates
        assert all(run.compare(name, first).differences for name in others)
        assert estimates["cnn"] == run.results.training["cnn"].settings[0].metrics["test_accuracy"]
        assert repr(estimates).splitlines()[0].startswith("mlp            ")

    def test_a_metric_of_one_task_leaves_out_the_other(self, run):
        assert list(run.estimates("test_bce")) == ["denoiser"]
        with pytest.raises(UnknownNameError, match="Did you mean 'test_loss'"):
            run.estimates("test_los")

    def test_html_is_a_table(self, run):
        html = run.estimates()._repr_html_()
        assert html.count("<tr") == 7 and "sweep:l2=1e-3" in html and "200 test images" in html

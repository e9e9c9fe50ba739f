"""Errors relative to a baseline's, and their mean: against the formula, published values and scipy."""

from typing import Any

import numpy as np
import pytest
from corruption_runs import MEMBERS, run_with_two_corruptions
from plan_builder import plan_experiments
from scipy import stats
from synthetic_run import PIPELINES, SyntheticRun

from inklab.corruptions.mnist_c import relative_errors
from inklab.errors import ConfigError
from inklab.records.components import Pipeline
from inklab.records.outcomes import TrialState
from inklab.records.plan import CLEAN
from inklab.results.frames import corruption_error_columns
from inklab.results.narrative import sentence
from inklab.study.load import read_study


@pytest.fixture
def run() -> SyntheticRun:
    return run_with_two_corruptions()


def errors_of(run, pipeline):
    """Errors summed over strengths above 0, and on clean images: replicates by corruptions."""
    table = [
        [
            run.evaluations[entry.id].accuracy
            for entry in run.plan.experiment(name).evaluations
            if entry.pipeline == pipeline
        ]
        for name in MEMBERS
    ]
    accuracy = np.array(table).swapaxes(0, 1)
    return (1 - accuracy[..., 1:]).sum(axis=-1), 1 - accuracy[..., 0]


def test_it_is_the_formula_of_hendrycks_and_dietterich(run):
    entry = run.of("errors")
    baseline, clean_baseline = errors_of(run, "cnn")
    strengths = len(entry.strengths[0])
    assert strengths == 5
    for name in PIPELINES:
        errors, clean = errors_of(run, name)
        row = entry.pipelines[name]
        expected = errors / baseline.mean(axis=0)
        added = (errors - strengths * clean) / (baseline - strengths * clean_baseline).mean(axis=0)
        for column, member in enumerate(MEMBERS):
            assert row.corruption_error[member].values == pytest.approx(expected[:, column])
            assert row.relative_corruption_error[member].values == pytest.approx(added[:, column])
            assert row.accuracy[member].values == pytest.approx(1 - errors[:, column] / strengths)
        assert row.mean_corruption_error.values == pytest.approx(expected.mean(axis=1))
        assert row.relative_mean_corruption_error.values == pytest.approx(added.mean(axis=1))
        assert row.mean_accuracy.mean == pytest.approx(1 - errors.mean() / strengths)
    assert entry.pipelines["cnn"].mean_corruption_error.mean == pytest.approx(1)


def test_pipelines_are_compared_in_pairs_of_replicates(run):
    entry = run.of("errors")
    baseline = entry.pipelines["cnn"]
    assert [row.pipeline for row in entry.comparisons] == [name for name in PIPELINES if name != "cnn"]
    for row in entry.comparisons:
        for metric in ("mean_accuracy", "mean_corruption_error"):
            pair = [getattr(part, metric).values for part in (entry.pipelines[row.pipeline], baseline)]
            difference = getattr(row, metric)
            assert difference.p == pytest.approx(stats.ttest_rel(*pair).pvalue)
            assert difference.n == 3 and difference.p_holm >= difference.p


def test_only_replicates_that_are_done_under_every_corruption_count(run):
    failed = next(e for e in run.plan.experiment("blur").evaluations if e.pipeline == "median+cnn")
    run.change_evaluation(failed.id, state=TrialState.FAILED, reason="killed")
    entry = run.of("errors")
    assert entry.pipelines["median+cnn"].replicates == (1, 2)
    assert entry.comparisons[-1].mean_accuracy.n == 2
    assert entry.outcomes[TrialState.FAILED] == 1


def test_there_is_no_mean_where_the_baseline_makes_no_error(run):
    for evaluation in run.plan.experiment("blur").evaluations:
        if evaluation.pipeline == "cnn":
            run.change_evaluation(evaluation.id, accuracy=(1.0,) * len(evaluation.strengths))
    row = run.of("errors").pipelines["median+cnn"]
    assert row.corruption_error["robustness"].n == 3 and row.corruption_error["blur"].n == 0
    assert row.mean_corruption_error.n == row.relative_mean_corruption_error.n == 0
    assert row.mean_accuracy.n == 3


def test_the_table_has_every_replicate_and_its_mean_is_the_mce(run):
    table = corruption_error_columns(run.results)
    entry = run.of("errors")
    assert len(table["replicate"]) == len(MEMBERS) * len(PIPELINES) * 3
    for pipeline, row in entry.pipelines.items():
        own = [
            value
            for name, value in zip(table["pipeline"], table["corruption_error"], strict=True)
            if name == pipeline
        ]
        assert np.mean(own) == pytest.approx(row.mean_corruption_error.mean)


def test_the_sentence_names_the_best_first(run):
    text = sentence(run.plan.experiment("errors"), run.results)
    assert text.startswith("Mean accuracy under 2 corruptions: denoiser+cnn")
    assert "Mean corruption error relative to cnn: denoiser+cnn 0." in text


def test_published_values_have_the_published_means():
    (experiment,) = (
        e for e in read_study("digits-c").spec.experiments.values() if e.kind == "corruption-error"
    )
    names = experiment.experiments
    tables = [
        np.array([[1 - reference.values[name] for name in names]]) for reference in experiment.references
    ]
    clean = [1 - reference.values[CLEAN] for reference in experiment.references]
    means = [100 * (1 - table.mean()) for table in tables]
    assert means == pytest.approx([75.92, 76.53, 89.76], abs=0.01)
    plain = [relative_errors(table, tables[0]).mean() for table in tables]
    assert plain == pytest.approx([1, 0.991, 0.692], abs=1e-3)
    added = [
        relative_errors(table, tables[0], own, clean[0]).mean()
        for table, own in zip(tables, clean, strict=True)
    ]
    assert added == pytest.approx([1, 0.987, 0.638], abs=1e-3)


NET: dict[str, Any] = {"network": "mlp", "recipe": {"base": "sgd", "epochs": 1}, "replicates": 2}
CURVE: dict[str, Any] = {"kind": "robustness", "strengths": [0, 0.2], "confusion_at": []}
STUDY: dict[str, dict[str, Any]] = {
    "a": NET,
    "b": NET,
    "noise": {**CURVE, "pipelines": ["a", "b"], "baseline": "a"},
    "blur": {**CURVE, "corruption": "glass_blur", "pipelines": ["b", "a", "median+a"], "baseline": "a"},
}


def plan_errors(*names: str, **changes):
    return plan_experiments({**STUDY, "all": {"kind": "corruption-error", "experiments": names}, **changes})


def test_pipelines_are_those_that_all_experiments_have():
    planned = plan_errors("noise", "blur").experiment("all")
    assert planned.pipelines == (Pipeline("a"), Pipeline("b")) and planned.baseline == "a"


@pytest.mark.parametrize(
    ("names", "changes", "error", "message"),
    [
        (["noise", "blurr"], {}, ConfigError, "Did you mean 'blur'"),
        (["a"], {}, ConfigError, "robustness experiment"),
        (["noise", "blur"], {"blur": {**STUDY["blur"], "baseline": "b"}}, ConfigError, "one baseline"),
        (["noise"], {"noise": {**STUDY["noise"], "strengths": [0]}}, ConfigError, "no strength above 0"),
        (["noise", "noise"], {}, ConfigError, "twice"),
    ],
)
def test_mistakes_are_named(names, changes, error, message):
    with pytest.raises(error, match=message):
        plan_errors(*names, **changes)


def test_accuracies_of_references_are_those_of_its_experiments():
    reference = {"source": "someone", "dataset": "mnist", "values": {"clean": 0.99, "nois": 0.9}}
    table = {"kind": "corruption-error", "experiments": ["noise"], "references": [reference]}
    with pytest.raises(ConfigError, match="noise"):
        plan_errors("noise", all=table)

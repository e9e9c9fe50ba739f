"""Sentences: each number in them comes from the results, and says how certain it is."""

import re

import numpy as np
import pytest
from synthetic_run import STRENGTHS, SyntheticRun, replace, robustness_id, synthetic_run

from inklab.format import format_delta
from inklab.records.plan import DataInfo, Reference, SplitCounts
from inklab.results.narrative import find_leaders, findings, sentence


@pytest.fixture
def run() -> SyntheticRun:
    return synthetic_run()


def describe(run: SyntheticRun, name: str) -> str:
    return sentence(run.plan.experiment(name), run.results)


def test_every_experiment_has_its_finding_with_its_question(run):
    lines = run.results.findings
    names = [experiment.name for experiment in run.plan.experiments if experiment.kind != "findings"]
    assert [line.partition(":")[0] for line in lines[:-1]] == names
    assert all(f"What of {name}?" in line for name, line in zip(names, lines[:-1], strict=True))
    assert findings(run.results, run.plan) == lines and describe(run, "findings") == ""
    estimate = run.of("mlp-64-64").best.metrics["test_accuracy"]
    assert estimate.format("test_accuracy") in describe(run, "mlp-64-64")
    run.fail("mlp-64-64-0-1")
    assert describe(run, "mlp-64-64").startswith("2 of 3 trials done, 1 diverged. Test accuracy")


def test_one_replicate_has_the_interval_over_images(run):
    estimate = run.of("scaled-twice").best.metrics["test_accuracy"]
    text = describe(run, "scaled-twice")
    assert estimate.format("test_accuracy", images="10,000 test images") in text
    assert "inputs-scaled-twice in 1 of 1 trial" in text


def test_equal_replicates_say_so(run):
    for k in range(3):
        run.change_metrics(f"mlp-64-64-0-{k}", test_accuracy=0.1135)
    text = describe(run, "mlp-64-64")
    assert "11.35% (n = 3, all equal; 95% CI over 10,000 test images" in text
    assert "test accuracy 11.35%, equal to every run here" in text


@pytest.mark.parametrize(
    ("counts", "balance"), [((25, 25, 50), "25.0% to 50.0%"), ((40, 40), "Each class has 50.0%")], ids=str
)
def test_class_balance(run, counts, balance):
    n = len(counts)
    data = DataInfo.model_validate(
        {
            **dict(run.plan.data),
            "labels": [str(k) for k in range(n)],
            "counts": SplitCounts(train=counts, validation=(5,) * n, test=(5,) * n),
            "note": "MNIST is not available.",
        }
    )
    results = replace(run.results, data=replace(run.results.data, **{
        "labels": data.labels, "counts": data.counts, "train": data.train, "validation": data.validation,
        "test": data.test, "note": data.note,
    }))  # fmt: skip
    text = sentence(run.plan.experiment("data"), results)
    assert balance in text and f"in {n} classes" in text and text.endswith("MNIST is not available.")


@pytest.mark.parametrize(("value", "side"), [(0.5, "below"), (0.97, "within"), (0.999, "above")])
def test_a_reference_is_compared_with_one_more_run(run, value, side):
    references = (
        Reference(source="Keras", values={"test_accuracy": value}),
        Reference(source="Hinton", values={"test_loss": 1.0}),
        Reference(source="somebody", notes=("no numbers",)),
    )
    run.change_experiment("mlp-64-64", references=references)
    text = describe(run, "mlp-64-64")
    assert f"Keras: test accuracy {100 * value:.2f}%, {side} the 95% prediction interval" in text
    assert "Hinton: test loss 1.000, above the 95% prediction interval" in text
    assert "omebody" not in text


def test_differences_that_are_not_significant_give_the_minimum_detectable_effect(run):
    for k, bump in enumerate((1, -1, 1, -1, 1, -1)):  # spread without a shift
        best = run.outcomes[f"l2-sweep-1-{k}"].metrics["test_accuracy"]
        run.change_metrics(f"l2-sweep-0-{k}", test_accuracy=best + bump * 0.001)
    unclear, clear = (row.difference for row in run.of("l2-sweep").comparisons)
    text = describe(run, "l2-sweep")
    assert f"l2 = 1e-5 and l2 = 1e-6; minimum detectable effect {100 * unclear.mde:.2f} points" in text
    assert f"l2 = 1e-3 differs from l2 = 1e-5 in test accuracy by {clear.format('test_accuracy')}" in text


def test_a_comparison_says_where_denoising_helps_and_what_it_costs(run):
    comparison, text = run.of("robustness").denoising, describe(run, "robustness")
    assert comparison.better_at[0] == 0.1 and comparison.best.strength == 0.5
    gain, cost = (
        f"({format_delta(difference.mean, 'recall')}, n = 3)"
        for difference in (comparison.best.difference, comparison.cost_when_clean)
    )
    assert f"denoiser+cnn is significantly better than cnn at strength 0.1 to 0.5, most at 0.5 {gain}" in text
    assert f"At strength 0 it is significantly worse {cost}" in text


def test_robustness_is_three_short_sentences(run):
    text = describe(run, "robustness")
    sentences = [part for part in re.split(r"(?<=[.]) (?=[^ ])", text) if part]
    assert len(sentences) == 3 and all(len(part.split()) <= 25 for part in sentences), sentences


def set_recall(run: SyntheticRun, pipeline: str, recall: list[float]) -> None:
    """Give a pipeline this mean recall, nearly the same in its three replicates."""
    luck = np.random.default_rng(sum(pipeline.encode())).normal(0, 1e-4, 3)
    for k in range(3):
        shifted = [value + luck[k] - luck.mean() for value in recall]
        run.change_evaluation(robustness_id(pipeline, k), recall=shifted)


def test_the_leader_of_each_strength(run):
    set_recall(run, "cnn", [0.99, 0.90, 0.80, 0.60, 0.40, 0.20])
    set_recall(run, "denoiser+cnn", [0.95, 0.89, 0.81, 0.70, 0.60, 0.20])
    set_recall(run, "median+cnn", [0.97, 0.90, 0.79, 0.50, 0.30, 0.10])
    assert run.of("robustness").denoising.better_at == (0.2, 0.3, 0.4)
    leaders = find_leaders(run.of("robustness"))
    assert leaders.sole == {"cnn": [0.0], "denoiser+cnn": [0.2, 0.3, 0.4], "median+cnn": []}
    assert (leaders.tied, leaders.chance) == ([0.1], [0.5])  # guessing one of four classes has 0.25
    clause = "denoiser+cnn has the highest mean recall at 3 of 6 strengths (0.2 to 0.4)."
    assert clause in describe(run, "robustness")
    assert any(clause in line for line in run.results.findings)


def test_a_comparison_without_gain_or_of_one_pipeline_says_so(run):
    for k in range(3):
        flat = [0.1 + 0.01 * k] * len(STRENGTHS)
        run.change_evaluation(robustness_id("denoiser+cnn", k), recall=flat, accuracy=flat)
    comparison = run.of("robustness").denoising
    assert (comparison.significant_from, comparison.better_at, comparison.best) == (None, (), None)
    assert "denoiser+cnn is not significantly better than cnn at any strength (n = 3)" in describe(
        run, "robustness"
    )
    for k in range(3):
        for name in ("denoiser+cnn", "median+cnn"):
            del run.evaluations[robustness_id(name, k)]
    text = describe(run, "robustness")
    assert "highest" not in text and "The mean recall of cnn is" in text


def test_samplers_stand_beside_real_images(run):
    entry, text = run.of("generation"), describe(run, "generation")
    best = entry.samplers["perturbed"].confident_share.format("confident_share", images="10,000 samples")
    assert f"perturbed {best}; gaussian 41.00% and binary 0.00%; test images 97.00%" in text
    assert "that of perturbed, 9; test images have 1.2" in text
    coverage = entry.samplers["perturbed"].coverage.format("coverage")
    assert f"Perturbed has the highest coverage, {coverage}; test images have 97.00%." in text
    assert "In 60.00% of pairs its image is nearer to a training image than a test image is" in text


def test_a_run_that_has_only_begun_has_findings_too(run):
    run.outcomes, run.evaluations = {}, {}
    text = "\n".join(run.results.findings)
    assert "0 of 3 trials done, 3 waiting." in text and "Nothing can be chosen yet" in text
    assert "None" not in text and "nan" not in text


def test_of_two_replicates_the_interval_over_images_decides_what_is_above_chance(run):
    """Student's t is 12.7 then: recalls of 0.65 and 0.8 in four classes were not above chance."""
    for pipeline in ("cnn", "denoiser+cnn", "median+cnn"):
        for k, recall in enumerate((0.65, 0.8)):
            run.change_evaluation(robustness_id(pipeline, k), recall=[recall] * len(STRENGTHS))
        del run.evaluations[robustness_id(pipeline, 2)]
    entry = run.of("robustness")
    estimate = entry.pipelines["cnn"].recall[0]
    assert estimate.n == 2 and estimate.interval[0] < 0.25 < estimate.ci95_images[0]
    assert find_leaders(entry).chance == []

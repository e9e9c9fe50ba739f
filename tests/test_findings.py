"""Sentences: each number in them comes from the results, and says how sure it is."""

import numpy as np
import pytest
from synthetic_run import STRENGTHS, Run, synthetic_run

from inklab.results.narrative import findings, sentence
from inklab.results.summarize import summarize


def results_of(run: Run) -> dict:
    return summarize(run.plan, run.outcomes, run.evaluations, run.arrays, environment={})


def told(run: Run, name: str) -> str:
    return sentence(run.chapter(name), results_of(run)["chapters"][name])


def test_every_chapter_has_its_finding_with_its_question():
    run = synthetic_run()
    lines = findings(results_of(run), run.plan)
    names = [each["name"] for each in run.plan["chapters"] if each["kind"] != "findings"]
    assert [line.split(":")[0] for line in lines[:-1]] == names
    assert all(f"What of {name}?" in line for name, line in zip(names, lines, strict=False))
    assert results_of(run)["chapters"]["findings"] == lines


def test_an_accuracy_says_interval_and_replicates():
    run = synthetic_run()
    score = results_of(run)["chapters"]["mlp-64-64"]["test_accuracy"]
    low, high = (f"{100 * end:.2f}" for end in score["ci95"])
    assert f"{100 * score['mean']:.2f} % (95 % CI {low} to {high} over 3 replicates)" in told(
        run, "mlp-64-64"
    )


@pytest.mark.parametrize(
    ("counts", "said"),
    [([25, 25, 50], "a class holds 25.0 to 50.0 % of"), ([40, 40], "in 2 classes; each holds 50.0 % of")],
    ids=str,
)
def test_equal_classes_are_said_to_be_equal(counts, said):
    told = {"train": sum(counts), "validation": 10, "test": 10, "source": "mine", "note": None}
    told["classes"] = {"labels": [str(k) for k in range(len(counts))], "train": counts}
    assert said in sentence({"name": "data", "kind": "data"}, told)


def test_one_replicate_gives_the_interval_over_images():
    run = synthetic_run()
    low, high = results_of(run)["chapters"]["scaled-twice"]["test_accuracy"]["ci95_images"]
    text = told(run, "scaled-twice")
    assert f"(one replicate; 95 % CI over the 10,000 test images {100 * low:.2f} to {100 * high:.2f})" in text
    assert "Verdict inputs-scaled-twice in 1 of 1 trial." in text


@pytest.mark.parametrize(("value", "side"), [(0.5, "below"), (0.97, "within"), (0.999, "above")])
def test_a_reference_lies_on_a_side_of_the_interval(value, side):
    run = synthetic_run()
    run.chapter("mlp-64-64")["reference"] = {
        "who": "Keras", "values": {"test_accuracy": value}, "differs": "one run",
        "also": [{"who": "Hinton", "values": {"test_loss": 1.0}, "differs": ""}],
    }  # fmt: skip
    text = told(run, "mlp-64-64")
    assert f"Keras: test accuracy {100 * value:.2f} %, {side} what one run here would give" in text
    assert "Hinton: test loss 1, above what one run here would give" in text


def test_failures_stand_beside_the_mean():
    run = synthetic_run()
    run.fail("mlp-64-64-0-1")
    assert told(run, "mlp-64-64").startswith("2 of 3 trials done, 1 diverged. Test accuracy")


def test_no_difference_says_what_would_have_been_seen():
    run = synthetic_run()
    for k, bump in enumerate((1, -1, 1, -1, 1, -1)):  # spread without a shift
        best = run.outcomes[f"l2-sweep-1-{k}"]["scores"]["test_accuracy"]
        run.outcomes[f"l2-sweep-0-{k}"]["scores"]["test_accuracy"] = best + bump * 0.001
    rows = results_of(run)["chapters"]["l2-sweep"]["comparisons"]
    size = 100 * rows[0]["difference"]["smallest_visible"]
    text = told(run, "l2-sweep")
    assert "No difference in test accuracy is shown between l2 = 1e-5 and l2 = 1e-6;" in text
    assert f"at least {size:.2f} points would have been seen" in text
    assert "l2 = 1e-3 differs from l2 = 1e-5 in test accuracy by -2.0" in text and "Holm p < 0.001" in text


def test_noise_tells_where_cleaning_helps_and_what_it_costs():
    text = told(synthetic_run(), "noise")
    assert (
        "denoiser+cnn is shown to be better than cnn alone from strength 0.1 on (" in text
        and "most of all at 0.5: +5" in text
    )
    assert "at strength 0 it costs something: -3.21 points" in text


def test_noise_says_so_when_cleaning_does_not_help():
    run = synthetic_run()
    for k in range(3):
        run.evaluations[f"noise-denoiser+cnn-{k}"]["tpr"] = [0.1 + 0.01 * k] * len(STRENGTHS)
    assert "denoiser+cnn is not shown to be better than cnn alone at any strength (" in told(run, "noise")


def curve(run: Run, pipeline: str, tpr: list[float]) -> None:
    """Give a pipeline these mean true-positive rates, nearly the same in its three replicates."""
    luck = np.random.default_rng(sum(pipeline.encode())).normal(0, 1e-4, 3)
    for k in range(3):
        run.evaluations[f"noise-{pipeline}-{k}"]["tpr"] = [each + luck[k] - luck.mean() for each in tpr]


def test_noise_tells_who_leads_where_and_what_of_that_is_shown():
    run = synthetic_run()
    curve(run, "cnn", [0.99, 0.90, 0.80, 0.60, 0.40, 0.20])
    curve(run, "denoiser+cnn", [0.95, 0.89, 0.81, 0.70, 0.60, 0.20])
    curve(run, "median+cnn", [0.97, 0.90, 0.79, 0.50, 0.30, 0.10])
    helps = results_of(run)["chapters"]["noise"]["comparisons"][0]["helps_at"]
    assert helps == [0.2, 0.3, 0.4]
    wanted = (
        "By the means, denoiser+cnn has the highest mean true-positive rate at 3 of 6 strengths (0.2 to 0.4; "
        "shown to be above cnn alone everywhere there), cnn at 1 (0), several are equal at 0.1, none is "
        "shown to be above chance at 0.5; leads over the second best are not tested."
    )  # guessing one of four classes has a rate of 0.25
    assert wanted in told(run, "noise")
    assert any(wanted in line for line in findings(results_of(run), run.plan))


def test_a_lead_that_is_not_shown_is_told_as_such():
    run = synthetic_run()
    for k, luck in enumerate((-0.05, 0.0, 0.06)):
        run.evaluations[f"noise-median+cnn-{k}"]["tpr"] = [0.99 + luck / 100, *[0.9 + luck] * 5]
        run.evaluations[f"noise-denoiser+cnn-{k}"]["tpr"] = [0.9] * 6
        run.evaluations[f"noise-cnn-{k}"]["tpr"] = [0.98, *[0.899] * 5]
    text = told(run, "noise")
    assert "median+cnn has the highest mean true-positive rate at 6 of 6 strengths (0 to 0.5; shown" in text
    assert "shown to be above cnn alone at 0)" in text


def test_one_pipeline_alone_leads_nobody():
    run = synthetic_run()
    for name in [name for name in run.evaluations if name.startswith("noise-") and "+" in name]:
        del run.evaluations[name]
    assert "highest" not in told(run, "noise") and "cnn alone is" in told(run, "noise")


def test_equal_scores_have_the_interval_over_images_and_say_why():
    run = synthetic_run()
    for k in range(3):
        run.outcomes[f"mlp-64-64-0-{k}"]["scores"]["test_accuracy"] = 0.1135
    low, high = results_of(run)["chapters"]["mlp-64-64"]["test_accuracy"]["ci95_images"]
    text = told(run, "mlp-64-64")
    span = f"{100 * low:.2f} to {100 * high:.2f}"
    assert f"11.35 % (the same in all 3 replicates; 95 % CI over the 10,000 test images {span})" in text
    assert "test accuracy 11.35 %, equal to every run here" in text


def test_generator_names_the_best_recognised_sampler_and_the_floor():
    text = told(synthetic_run(), "generator")
    assert "Of what perturbed draws cnn recognises most: 80.00 %" in text
    assert "perturbed, 9, beside a floor of 1.2" in text and "binary 0.00 %" in text


def test_a_run_that_has_only_begun_has_findings_too():
    run = synthetic_run()
    run.outcomes, run.evaluations = {}, {}
    lines = findings(results_of(run), run.plan)
    assert "0 of 3 trials done, 3 waiting." in "".join(lines)
    assert "Nothing can be chosen yet" in "".join(lines)
    assert "None" not in "".join(lines) and "nan" not in "".join(lines)


def test_data_of_another_source_say_why():
    run = synthetic_run()
    run.plan["data"]["note"] = "MNIST could not be fetched, so these are its first 5,000"
    assert "MNIST could not be fetched" in told(run, "data")


def test_a_chapter_without_numbers_is_silent():
    assert sentence({"name": "findings", "kind": "findings"}, {}) == ""

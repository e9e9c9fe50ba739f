"""From outcomes to results.json: what is averaged, what chooses, where cleaning helps, and the schema."""

import copy
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from scipy import stats
from synthetic_run import STRENGTHS, Run, synthetic_run

from inklab.errors import ConfigError, UnknownNameError
from inklab.results.comparison import compare_settings
from inklab.results.experiment_summary import confusion
from inklab.results.summarize import summarize
from inklab.statistics import paired_images_difference

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "results.schema.json").read_text())
CHECK = jsonschema.Draft202012Validator(SCHEMA)


def results_of(run: Run) -> dict:
    told = summarize(run.plan, run.outcomes, run.evaluations, run.arrays, environment={"torch": "2.10"})
    return json.loads(json.dumps(told, allow_nan=False))


@pytest.fixture(scope="module")
def whole() -> dict:
    return results_of(synthetic_run())


class TestTrain:
    def test_scores_are_those_of_the_outcomes(self, whole):
        run, told = synthetic_run(), whole["chapters"]["mlp-64-64"]
        values = [run.outcomes[f"mlp-64-64-0-{k}"]["scores"]["test_accuracy"] for k in range(3)]
        assert told["test_accuracy"]["values"] == values
        assert told["outcomes"] == {"done": 3} and told["parameters"] == 55050
        assert "ci95_images" in told["validation_accuracy"] and "ci95_images" not in told["test_loss"]

    def test_failed_trials_are_counted_and_never_averaged(self):
        run = synthetic_run()
        before = results_of(run)["chapters"]["mlp-64-64"]["test_accuracy"]["values"]
        run.fail("mlp-64-64-0-1")
        told = results_of(run)["chapters"]["mlp-64-64"]
        assert told["outcomes"] == {"done": 2, "diverged": 1}
        assert told["test_accuracy"]["values"] == [before[0], before[2]]

    def test_what_is_missing_waits(self):
        run = synthetic_run()
        del run.outcomes["mlp-64-64-0-2"]
        assert results_of(run)["chapters"]["mlp-64-64"]["outcomes"] == {"done": 2, "waiting": 1}

    def test_verdicts_are_named_with_their_trials(self, whole):
        told = whole["chapters"]["scaled-twice"]
        assert told["verdicts"] == ["inputs-scaled-twice"]
        assert told["verdict_details"][0]["trials"] == 1
        assert "verdicts" not in whole["chapters"]["cnn"]

    def test_denoisers_have_the_scores_of_denoisers(self, whole):
        told = whole["chapters"]["denoiser"]
        assert {"test_bce", "test_psnr", "validation_bce"} <= set(told) and "test_accuracy" not in told


class TestSweep:
    def test_the_best_is_chosen_by_validation_whatever_the_test_says(self):
        run = synthetic_run()
        for k in range(6):
            run.outcomes[f"l2-sweep-2-{k}"]["scores"]["test_accuracy"] = 1.0
        assert results_of(run)["chapters"]["l2-sweep"]["best"] == 1e-5

    def test_others_are_compared_on_the_test_images_in_pairs(self, whole):
        told, run = whole["chapters"]["l2-sweep"], synthetic_run()
        assert [(each["l2"], each["against"]) for each in told["comparisons"]] == [(1e-6, 1e-5), (1e-3, 1e-5)]
        scores = {
            j: [run.outcomes[f"l2-sweep-{j}-{k}"]["scores"]["test_accuracy"] for k in range(6)]
            for j in range(3)
        }
        for place, each in zip((0, 2), told["comparisons"], strict=True):
            expected = stats.ttest_rel(scores[place], scores[1])
            assert each["score"] == "test_accuracy"
            assert each["difference"]["p"] == pytest.approx(expected.pvalue)
            assert each["difference"]["p_holm"] >= each["difference"]["p"]

    def test_pairs_are_those_that_both_have_finished(self):
        run = synthetic_run()
        run.fail("l2-sweep-2-1")
        del run.outcomes["l2-sweep-1-4"]
        others = results_of(run)["chapters"]["l2-sweep"]["comparisons"]
        assert [each["difference"]["n"] for each in others] == [5, 4]

    def test_a_setting_that_diverges_is_not_chosen_for_its_survivors(self):
        run = synthetic_run()
        run.fail("l2-sweep-1-0")
        assert results_of(run)["chapters"]["l2-sweep"]["best"] == 1e-6

    def test_two_varied_keys_are_named(self):
        run = synthetic_run()
        chapter = run.chapter("l2-sweep")
        chapter["vary"] = ["l2", "batch"]
        for place, setting in enumerate(chapter["settings"]):
            setting["values"]["batch"] = 32 * (place + 1)
        told = results_of(run)["chapters"]["l2-sweep"]
        assert told["best"] == {"l2": 1e-5, "batch": 64}
        assert told["comparisons"][0]["against"] == told["best"]

    def test_nothing_is_chosen_without_validation_images(self):
        run = synthetic_run()
        run.plan["data"]["validation"] = 0
        for outcome in run.outcomes.values():
            outcome["scores"] = {k: v for k, v in outcome["scores"].items() if k.startswith("test")}
        told = results_of(run)["chapters"]["l2-sweep"]
        assert (told["best"], told["comparisons"]) == (None, [])


class TestNoise:
    def test_helps_from_the_first_strength_whose_bound_is_above_zero(self, whole):
        told = whole["chapters"]["noise"]
        assert told["helps_from"] == 0.1 and told["helps_by"]["pipeline"] == "denoiser+cnn"
        assert told["helps_by"]["over"] == "replicates"
        for each in told["comparisons"]:
            for row in each["differences"]:
                assert (row["lower"] > 0) == (row["strength"] in each["helps_at"])
                assert (row["lower"] > 0 or row["upper"] < 0) == (row["p_holm"] < 0.05)
        assert told["helps_by"]["hurts_at"] == [0.0]

    def test_a_filter_is_no_trained_denoiser(self):
        run = synthetic_run()
        chapter = run.chapter("noise")
        chapter["pipelines"] = ["cnn", "median+cnn"]
        told = results_of(run)["chapters"]["noise"]
        assert told["helps_from"] is None and told["helps_by"] is None
        assert told["comparisons"][0]["helps_from"] is not None

    def test_few_replicates_are_compared_over_the_images(self):
        run = synthetic_run(replicates=2)
        told = results_of(run)["chapters"]["noise"]["helps_by"]
        assert told["over"] == "images" and told["replicates"] == [0, 1]
        right = [
            np.mean([run.stored[f"noise-{name}-{k}"]["predicted"][2] == labels for k in (0, 1)], axis=0)
            for name in ("denoiser+cnn", "cnn")
            for labels in [run.stored["noise-cnn-0"]["labels"]]
        ]
        expected = paired_images_difference(*right, run.stored["noise-cnn-0"]["labels"])
        assert told["differences"][2]["mean"] == pytest.approx(expected.mean)
        assert told["differences"][2]["p"] == pytest.approx(expected.p)

    def test_no_help_is_null(self):
        run = synthetic_run()
        for k in range(3):
            for name in ("tpr", "accuracy"):
                run.evaluations[f"noise-denoiser+cnn-{k}"][name] = [0.1 + 0.01 * k] * len(STRENGTHS)
        told = results_of(run)["chapters"]["noise"]
        assert told["helps_from"] is None and told["helps_by"]["helps_at"] == []

    def test_confusions_count_every_image_of_every_replicate(self, whole):
        told = whole["chapters"]["noise"]
        assert set(told["confusions"]["cnn"]) == {"0", "0.2"} and told["confusions_over"]["cnn"] == [0, 1, 2]
        matrix = np.array(told["confusions"]["cnn"]["0.2"])
        assert matrix.sum(axis=1).tolist() == [600] * 4
        accuracy = told["pipelines"]["cnn"]["accuracy"][2]["mean"]
        assert np.trace(matrix) / matrix.sum() == pytest.approx(accuracy)

    def test_confusion_rows_are_the_truth(self):
        from sklearn.metrics import confusion_matrix

        rng = np.random.default_rng(0)
        labels, said = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
        assert np.array_equal(confusion(labels, said, 5), confusion_matrix(labels, said))

    def test_failed_evaluations_are_left_out(self):
        run = synthetic_run()
        run.evaluations["noise-cnn-1"] |= {"state": "failed", "tpr": None, "accuracy": None}
        del run.stored["noise-cnn-1"]
        told = results_of(run)["chapters"]["noise"]
        assert told["outcomes"] == {"done": 8, "failed": 1}
        assert told["pipelines"]["cnn"]["replicates"] == [0, 2] == told["helps_by"]["replicates"]


def test_generator_scores_samplers_beside_their_floor(whole):
    told = whole["chapters"]["generator"]
    assert told["samplers"]["gaussian"]["recognised"]["mean"] == 0.41
    assert told["samplers"]["binary"]["classes"] == []
    assert told["floor"]["mean"] == 1.2 and told["reconstructed"]["mean"] == 0.89
    assert "ci95_images" in told["recognised_test"]


def test_seconds_count_a_shared_training_once():
    run = synthetic_run()
    run.chapter("scaled-twice")["settings"][0]["trials"] = ["mlp-64-64-0-0"]
    told = results_of(run)["seconds"]
    assert told["chapters"]["scaled-twice"] == 2.0
    assert told["total"] == pytest.approx(sum(told["chapters"].values()) - 2.0)


class TestSchema:
    @pytest.mark.parametrize("replicates", [1, 2, 3])
    def test_accepts_a_finished_run(self, replicates):
        CHECK.validate(results_of(synthetic_run(replicates)))

    def test_accepts_a_run_that_has_only_begun(self):
        run = synthetic_run()
        run.outcomes, run.evaluations = {}, {}
        told = results_of(run)
        CHECK.validate(told)
        assert told["chapters"]["noise"]["outcomes"] == {"waiting": 9}

    @pytest.mark.parametrize(
        ("where", "value"),
        [
            ("chapters/scaled-twice/test_accuracy/ci95", [0.1, 0.2]),  # an interval from one replicate
            ("chapters/scaled-twice/test_accuracy/sd", 0.0),
            ("chapters/mlp-64-64/test_accuracy/ci95", None),
            ("chapters/mlp-64-64/test_accuracy/mean", 97.1),  # per cent
            ("chapters/mlp-64-64/test_accuracy/values", [0.9, 0.9, 1.1]),
            ("chapters/mlp-64-64/test_accuracy/sd", -0.1),
            ("chapters/mlp-64-64/test_accuracy/std", 0.1),
            ("chapters/mlp-64-64/test_loss/mean", -1.0),
            ("chapters/mlp-64-64/outcomes/crashed", 1),
            ("chapters/l2-sweep/comparisons/0/difference/p", 1.5),
            ("chapters/l2-sweep/comparisons/0/score", "validation_accuracy"),
            ("chapters/noise/pipelines/cnn/tpr/0/mean", 2),
            ("chapters/noise/helps_from", "0.15"),
            ("chapters/generator/samplers/gaussian/recognised/mean", 41.0),
            ("chapters/findings", "all is well"),
            ("chapters/cnn/kind", "training"),
            ("format", 2),
            ("data/sha256", "abc"),
        ],
    )
    def test_refuses_a_wrong_value(self, whole, where, value):
        broken = copy.deepcopy(whole)
        *path, last = where.split("/")
        _at(broken, path)[last] = value
        assert not CHECK.is_valid(broken)

    @pytest.mark.parametrize(
        "where",
        [
            "chapters/mlp-64-64/test_accuracy/mean",
            "chapters/mlp-64-64/test_accuracy/sd",
            "chapters/mlp-64-64/test_accuracy/ci95_images",
            "chapters/mlp-64-64/validation_accuracy",
            "chapters/mlp-64-64/parameters",
            "chapters/denoiser/test_psnr",
            "chapters/l2-sweep/best",
            "chapters/l2-sweep/comparisons/0/difference/smallest_visible",
            "chapters/noise/helps_from",
            "chapters/noise/pipelines/cnn/tpr",
            "chapters/generator/floor",
            "chapters/findings",
            "data/sha256",
            "environment",
            "seconds/total",
        ],
    )
    def test_refuses_what_is_missing(self, whole, where):
        broken = copy.deepcopy(whole)
        *path, last = where.split("/")
        del _at(broken, path)[last]
        assert not CHECK.is_valid(broken)


def _at(value, path):
    for key in path:
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


class TestCompare:
    def test_is_paired_by_replicate(self):
        run = synthetic_run()
        told = compare_settings(run.plan, run.outcomes, "l2-sweep:l2=0.001", "l2-sweep:l2=1e-05")
        a, b = (
            [run.outcomes[f"l2-sweep-{j}-{k}"]["scores"]["test_accuracy"] for k in range(6)] for j in (2, 1)
        )
        assert told["scores"]["test_accuracy"]["p"] == pytest.approx(stats.ttest_rel(a, b).pvalue)
        assert told["better"]["test_accuracy"] == "b" == told["better"]["test_loss"]
        assert told["sentence"].startswith("l2-sweep:l2=1e-05 has the better test accuracy")

    def test_chapters_may_differ_in_replicates(self):
        run = synthetic_run()
        told = compare_settings(run.plan, run.outcomes, "l2-sweep:l2=0.000001", "mlp-64-64")
        assert told["replicates"] == [0, 1, 2] and told["better"]["test_accuracy"] == "a"

    def test_nothing_finished_is_said(self):
        run = synthetic_run()
        told = compare_settings(run.plan, {}, "cnn", "mlp-64-64")
        assert "no replicate that both have finished" in told["sentence"]
        assert told["outcomes"]["cnn"] == {"waiting": 3}

    @pytest.mark.parametrize(
        ("a", "error", "message"),
        [
            ("cn", UnknownNameError, "no chapter is called 'cn'. Did you mean 'cnn'?"),
            ("noise", ConfigError, "kind noise, which trains nothing"),
            ("l2-sweep", ConfigError, "has 3 settings; name one of: l2-sweep:l2=1e-6, l2-sweep:l2=1e-5"),
            ("l2-sweep:l2=1e-4", UnknownNameError, "no setting is called 'l2-sweep:l2=1e-4'. Did you mean"),
            ("cnn:l2=1", UnknownNameError, "no setting is called 'cnn:l2=1'"),
            ("denoiser", ConfigError, "they share no score"),
        ],
    )
    def test_mistakes_are_told(self, a, error, message):
        run = synthetic_run()
        with pytest.raises(error, match=message.replace("?", r"\?")):
            compare_settings(run.plan, run.outcomes, a, "mlp-64-64")

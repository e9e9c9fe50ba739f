"""From outcomes to results.json: what is averaged, what chooses, where denoising helps, and the schema."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from synthetic_run import SyntheticRun, make_plan, replace, robustness_id, synthetic_run

from inklab.errors import ConfigError, CorruptFileError, UnknownNameError
from inklab.records.components import Pipeline
from inklab.records.outcomes import TrialState
from inklab.records.results import Results, results_schema
from inklab.results.comparison import compare
from inklab.results.summarize import confusion_matrix, write_results
from inklab.stats import paired_images_difference

SCHEMA_FILE = Path(__file__).parents[2] / "docs" / "results.schema.json"
SCHEMA = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


@pytest.fixture
def run() -> SyntheticRun:
    return synthetic_run()


@pytest.fixture(scope="module")
def finished() -> SyntheticRun:
    """Not to be changed."""
    return synthetic_run()


@pytest.fixture(scope="module")
def results(finished) -> Results:
    return finished.results


def accuracies(run: SyntheticRun, setting: str, n: int) -> list[float]:
    return [run.outcomes[f"{setting}-{k}"].metrics["test_accuracy"] for k in range(n)]


class TestTraining:
    def test_metrics_are_those_of_the_outcomes(self, finished, results):
        setting = results.training["mlp-64-64"].best
        assert setting.metrics["test_accuracy"].values == tuple(accuracies(finished, "mlp-64-64-0", 3))
        assert setting.outcomes == {TrialState.DONE: 3} and setting.parameters == 55_050
        assert setting.metrics["validation_accuracy"].ci95_images is not None
        assert setting.metrics["test_loss"].ci95_images is None
        for planned in finished.plan.training:
            values = [setting.values for setting in results.training[planned.name].settings]
            assert values == [setting.values for setting in planned.settings]

    def test_failed_trials_are_counted_and_never_averaged_in(self, run):
        before = accuracies(run, "mlp-64-64-0", 3)
        run.fail("mlp-64-64-0-1")
        setting = run.of("mlp-64-64").best
        assert setting.outcomes == {TrialState.DONE: 2, TrialState.DIVERGED: 1}
        named = compare(run.plan, run.outcomes, "mlp-64-64", "cnn").sentence
        assert "mlp-64-64: 2 of 3 trials done, 1 diverged." in named
        assert setting.metrics["test_accuracy"].values == (before[0], before[2])
        del run.outcomes["mlp-64-64-0-1"]
        assert run.of("mlp-64-64").outcomes == {TrialState.DONE: 2, TrialState.WAITING: 1}

    def test_diagnoses_are_counted(self, run):
        diagnosis = run.outcomes["scaled-twice-0-0"].diagnoses[0]
        for k in (0, 2):
            trial = f"mlp-64-64-0-{k}"
            run.outcomes[trial] = replace(run.outcomes[trial], diagnoses=(diagnosis,))
        (row,) = run.of("mlp-64-64").best.diagnoses
        assert (row.name, row.message, row.trials) == (diagnosis.name, diagnosis.message, 2)
        assert run.of("cnn").best.diagnoses == ()

    def test_denoisers_have_the_metrics_of_denoisers(self, results):
        names = results.training["denoiser"].best.metrics.keys()
        assert names == {"test_bce", "test_psnr", "validation_bce", "validation_psnr"}

    def test_a_metric_of_ones_own_is_averaged_too(self, run):
        for k in range(3):
            run.change_metrics(f"cnn-0-{k}", test_top5_accuracy=0.5, sharpness=2.0)
        top5, sharpness = (run.of("cnn").best.metrics[name] for name in ("test_top5_accuracy", "sharpness"))
        assert top5.ci95_images is not None
        assert sharpness.mean == 2.0 and sharpness.ci95_images is None


class TestGrid:
    def test_the_best_is_chosen_by_validation_whatever_the_test_set_says(self, run):
        for k in range(6):
            run.change_metrics(f"l2-sweep-2-{k}", test_accuracy=1.0)
        assert run.of("l2-sweep").best_setting == {"l2": 1e-5}

    def test_others_are_compared_on_the_test_set_in_pairs(self, finished, results):
        comparisons = results.training["l2-sweep"].comparisons
        assert [row.values["l2"] for row in comparisons] == [1e-6, 1e-3]
        best = accuracies(finished, "l2-sweep-1", 6)
        for index, row in zip((0, 2), comparisons, strict=True):
            expected = stats.ttest_rel(accuracies(finished, f"l2-sweep-{index}", 6), best)
            assert (row.metric, row.baseline) == ("test_accuracy", {"l2": 1e-5})
            assert row.difference.p == pytest.approx(expected.pvalue)
            assert row.difference.p_holm >= row.difference.p

    def test_pairs_are_those_that_are_done_in_both(self, run):
        run.fail("l2-sweep-2-1")
        del run.outcomes["l2-sweep-1-4"]
        assert [row.difference.n for row in run.of("l2-sweep").comparisons] == [5, 4]

    def test_a_setting_that_diverges_is_not_chosen_for_its_survivors(self, run):
        run.fail("l2-sweep-1-0")
        assert run.of("l2-sweep").best_setting == {"l2": 1e-6}

    def test_two_keys_may_vary(self, run):
        experiment = run.plan.experiment("l2-sweep")
        settings = tuple(
            replace(setting, values={**setting.values, "batch_size": 32 * (index + 1)})
            for index, setting in enumerate(experiment.settings)
        )
        run.change_experiment("l2-sweep", grid=("l2", "batch_size"), settings=settings)
        entry = run.of("l2-sweep")
        assert entry.best_setting == {"l2": 1e-5, "batch_size": 64} == entry.comparisons[0].baseline

    def test_nothing_is_chosen_without_validation_images(self, run):
        for trial, outcome in run.outcomes.items():
            metrics = {name: value for name, value in outcome.metrics.items() if name.startswith("test")}
            run.outcomes[trial] = replace(outcome, metrics=metrics)
        entry = run.of("l2-sweep")
        assert (entry.best, entry.comparisons) == (None, ())


class TestRobustness:
    def test_significant_are_the_strengths_whose_bounds_exclude_zero(self, results):
        entry = results.experiments["robustness"]
        assert entry.denoised_pipeline == "denoiser+cnn" == entry.denoising.pipeline
        assert entry.denoising.significant_from == 0.1 and entry.denoising.worse_at == (0.0,)
        assert entry.denoising.paired_over == "replicates"
        for comparison in entry.comparisons:
            for row in comparison.differences:
                lower, upper = row.difference.interval
                assert (lower > 0) == (row.strength in comparison.better_at)
                assert (lower > 0 or upper < 0) == row.difference.significant

    def test_accuracy_and_calibration_are_means_over_replicates(self, run):
        entry = run.of("robustness")
        for name, pipeline in entry.pipelines.items():
            rows = [run.evaluations[robustness_id(name, k)] for k in pipeline.replicates]
            for metric in ("accuracy", "ece"):
                for i, estimate in enumerate(getattr(pipeline, metric)):
                    assert estimate.values == tuple(getattr(row, metric)[i] for row in rows)
        assert pipeline.accuracy[0].ci95_images is not None and pipeline.ece[0].ci95_images is None

    def test_a_filter_is_no_trained_denoiser(self, run):
        planned = run.plan.experiment("robustness")
        pipelines = (Pipeline("cnn"), Pipeline("median+cnn"))
        evaluations = [evaluation for evaluation in planned.evaluations if evaluation.pipeline in pipelines]
        run.change_experiment("robustness", pipelines=pipelines, evaluations=evaluations)
        entry = run.of("robustness")
        assert entry.denoised_pipeline is None and entry.denoising is None
        assert entry.comparison("median+cnn").significant_from is not None

    def test_few_replicates_are_compared_over_the_images(self):
        run = synthetic_run(replicates=2)
        comparison = run.of("robustness").denoising
        assert comparison.paired_over == "images" and comparison.replicates == (0, 1)
        labels = run.stored[robustness_id("cnn", 0)]["labels"]
        right = [
            np.mean([run.stored[robustness_id(name, k)]["predicted"][2] == labels for k in (0, 1)], axis=0)
            for name in ("denoiser+cnn", "cnn")
        ]
        expected = paired_images_difference(*right, labels)
        assert comparison.differences[2].difference.mean == pytest.approx(expected.mean)
        assert comparison.differences[2].difference.p == pytest.approx(expected.p)

    def test_confusion_matrices_count_every_image_of_every_replicate(self, results):
        entry = results.experiments["robustness"]
        matrices = entry.confusion_matrices["cnn"]
        assert matrices.by_strength.keys() == {"0", "0.2"} and matrices.replicates == (0, 1, 2)
        matrix = np.array(matrices.by_strength["0.2"])
        assert matrix.sum(axis=1).tolist() == [600] * 4
        assert np.trace(matrix) / matrix.sum() == pytest.approx(entry.pipelines["cnn"].accuracy[2].mean)
        rng = np.random.default_rng(0)
        labels, predicted = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
        expected = metrics.confusion_matrix(labels, predicted)  # its rows are the true classes
        assert np.array_equal(confusion_matrix(labels, predicted, 5), expected)

    def test_failed_evaluations_are_left_out(self, run):
        id = robustness_id("cnn", 1)
        run.change_evaluation(id, state=TrialState.FAILED, recall=(), accuracy=(), recall_per_class=())
        del run.stored[id]
        entry = run.of("robustness")
        assert entry.outcomes == {TrialState.DONE: 8, TrialState.FAILED: 1}
        assert entry.pipelines["cnn"].replicates == (0, 2) == entry.denoising.replicates


def test_samplers_are_scored_beside_real_images(results):
    entry = results.experiments["generation"]
    assert entry.samplers["gaussian"].confident_share.mean == 0.41
    assert entry.samplers["binary"].class_shares == ()
    assert entry.real_data.frechet_distance.mean == 1.2 and entry.confident_share_reconstructed.mean == 0.89
    assert entry.real_data.confident_share.ci95_images is not None


def test_timings_count_a_shared_training_once(run):
    shared = run.plan.experiment("mlp-64-64").settings[0]
    setting = replace(shared, trials=shared.trials[:1])
    experiments = [
        replace(experiment, settings=(setting,)) if experiment.name == "scaled-twice" else experiment
        for experiment in run.plan.experiments
    ]
    run.plan = make_plan(experiments, run.plan.configs)
    timings = run.results.timings
    assert timings.experiments["scaled-twice"] == 2.0
    assert timings.total == pytest.approx(sum(timings.experiments.values()) - 2.0)


def test_results_of_a_directory_are_those_of_its_outcomes(run, tmp_path):
    opened = run.write(tmp_path, with_results=False)
    (tmp_path / "timer.json").write_text('{"seconds": 12.5}', encoding="utf-8")
    written = write_results(tmp_path, opened._snapshot)
    assert written == Results.read(tmp_path / "results.json")
    assert written.experiments == run.results.experiments and written.timings.total == 12.5
    assert (written.environment.precision, written.environment.workers) == ("fp32", 2)


MISSING = object()


class TestSchema:
    def test_the_file_is_that_of_the_records(self):
        assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == results_schema()

    def test_accepts_runs_that_are_finished_or_have_only_begun(self, run):
        for replicates in (1, 2, 3):
            SCHEMA.validate(synthetic_run(replicates).results.to_json())
        run.outcomes, run.evaluations = {}, {}
        SCHEMA.validate(run.results.to_json())
        assert run.of("robustness").outcomes == {TrialState.WAITING: 9}

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("experiments/mlp-64-64/settings/0/metrics/test_accuracy/sd", -0.1),
            ("experiments/mlp-64-64/settings/0/metrics/test_accuracy/std", 0.1),
            ("experiments/mlp-64-64/settings/0/metrics/test_accuracy/ci95_images", [0.9, 97.1]),
            ("experiments/mlp-64-64/outcomes/crashed", 1),
            ("experiments/l2-sweep/comparisons/0/difference/p", 1.5),
            ("experiments/robustness/comparisons/0/metric", "accuracy"),
            ("experiments/robustness/denoised_pipeline", 1),
            ("experiments/robustness/comparisons/0/significant_from", "0.15"),
            ("experiments/cnn/kind", "train"),
            ("findings", "all is well"),
            ("format", 1),
            ("data/sha256", "abc"),
            ("timings/total", -1),
            ("experiments/mlp-64-64/settings", MISSING),
            ("experiments/mlp-64-64/settings/0/metrics/test_accuracy/mean", MISSING),
            ("experiments/mlp-64-64/settings/0/metrics/test_accuracy/values", MISSING),
            ("experiments/mlp-64-64/settings/0/parameters", MISSING),
            ("experiments/l2-sweep/settings/0/outcomes", MISSING),
            ("experiments/l2-sweep/best_setting", MISSING),
            ("experiments/l2-sweep/comparisons/0/difference/mde", MISSING),
            ("experiments/robustness/pipelines", MISSING),
            ("experiments/robustness/pipelines/cnn/recall", MISSING),
            ("experiments/robustness/comparisons/0/better_at", MISSING),
            ("experiments/generation/real_data/coverage", MISSING),
            ("experiments/generation/samplers/binary/frechet_distance", MISSING),
            ("seed", MISSING),
            ("data/sha256", MISSING),
            ("environment", MISSING),
            ("timings/total", MISSING),
        ],
    )
    def test_schema_and_record_refuse_what_is_wrong_or_missing(self, results, path, value):
        broken = results.to_json()
        *parents, last = path.split("/")
        table = broken
        for key in parents:
            table = table[int(key)] if isinstance(table, list) else table[key]
        if value is MISSING:
            del table[last]
        else:
            table[last] = value
        assert not SCHEMA.is_valid(broken)
        with pytest.raises(CorruptFileError):
            Results.parse_json(json.dumps(broken).encode(), "results.json")


class TestCompare:
    def test_is_paired_by_replicate(self, finished):
        comparison = compare(finished.plan, finished.outcomes, "l2-sweep:l2=0.001", "l2-sweep:l2=1e-05")
        a, b = (accuracies(finished, f"l2-sweep-{index}", 6) for index in (2, 1))
        assert comparison.differences["test_accuracy"].p == pytest.approx(stats.ttest_rel(a, b).pvalue)
        assert comparison.better["test_accuracy"] == "b" == comparison.better["test_loss"]
        assert comparison.sentence.startswith("l2-sweep:l2=1e-05 has a significantly better test accuracy")

    def test_experiments_may_differ_in_replicates(self, finished):
        comparison = compare(finished.plan, finished.outcomes, "l2-sweep:l2=0.000001", "mlp-64-64")
        assert comparison.replicates == (0, 1, 2)
        assert comparison.only("test_accuracy").better == {"test_accuracy": "a"}

    def test_without_outcomes_there_are_no_pairs(self, finished):
        comparison = compare(finished.plan, {}, "cnn", "mlp-64-64")
        assert comparison.outcomes["cnn"] == {TrialState.WAITING: 3}
        assert comparison.replicates == () and set(comparison.better.values()) == {None}
        assert comparison.sentence

    @pytest.mark.parametrize(("name", "error"), [("cn", UnknownNameError), ("denoiser", ConfigError)])
    def test_mistakes(self, finished, name, error):
        with pytest.raises(error) as caught:
            compare(finished.plan, finished.outcomes, name, "mlp-64-64")
        assert type(caught.value) is error and name in str(caught.value)

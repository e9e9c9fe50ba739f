"""What other programs read: results.json keeps its schema, and its numbers are those of the files behind."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
import toy_run

from inklab.records.outcomes import TrialOutcome
from inklab.records.plan import REAL_DATA
from inklab.records.results import Results
from inklab.runs import Run

SCHEMA_FILE = Path(__file__).parents[2] / "docs" / "results.schema.json"
SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
TEST_LABELS = toy_run.images(toy_run.TEST, 2)[1]


@pytest.fixture(scope="module")
def folder() -> Path:
    return toy_run.finished()


@pytest.fixture(scope="module")
def run(folder) -> Run:
    return Run(folder)


@pytest.fixture(scope="module")
def results(run) -> Results:
    return run.results


def predictions(run: Run, experiment: str, replicate: int) -> dict[str, np.ndarray]:
    return run.arrays(run.trial_for(experiment, replicate))


def evaluated(run: Run, name: str, replicate: int) -> tuple[Any, dict[str, np.ndarray]]:
    """The outcome and arrays of a pipeline or a sampler."""
    for id, outcome in run.evaluations.items():
        planned = outcome.evaluation
        if name in (getattr(planned, "pipeline", ""), getattr(planned, "sampler", "")):
            if planned.replicate == replicate:
                return outcome, run.arrays(id)
    raise AssertionError(f"no evaluation of {name}")


def test_results_keep_the_schema(folder):
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(results)
    assert list(results["experiments"]) == [
        "images", "mlp", "scaled-twice", "sweep", "cnn", "denoiser", "robustness",
        "corruption-error", "generation",
    ]  # fmt: skip


def test_every_file_of_a_run_is_json(folder):
    def refuse(word):
        raise AssertionError(word)

    files = sorted(folder.rglob("*.json"))
    assert len(files) > toy_run.TRIALS + toy_run.EVALUATIONS
    for path in files:
        json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_show_prints_the_file(folder, cli):
    code, text, _ = cli("show", folder, "--json")
    assert code == 0 and json.loads(text) == json.loads((folder / "results.json").read_text("utf-8"))


@pytest.mark.parametrize("name", ["mlp", "cnn", "scaled-twice"])
def test_accuracies_are_those_of_the_stored_predictions(run, results, name):
    accuracy = results.training[name].best.metrics["test_accuracy"]
    for replicate, value in enumerate(accuracy.values):
        predicted = predictions(run, name, replicate)["predicted"]
        assert predicted.dtype == np.int16 and len(predicted) == toy_run.TEST
        assert value == pytest.approx(np.mean(predicted == TEST_LABELS), abs=1e-12)
    assert accuracy.mean == pytest.approx(np.mean(accuracy.values))


def test_the_best_setting_has_the_highest_validation_accuracy(run, results):
    entry = results.training["sweep"]
    assert [setting.values["l2"] for setting in entry.settings] == [0.0, 1e-3, 1e-1]
    best = max(entry.settings, key=lambda setting: setting.metrics["validation_accuracy"].mean)
    assert entry.best == best and len(entry.comparisons) == 2
    trial = run.plan.experiment("sweep").settings[entry.settings.index(best)].trials[0]
    assert run.trial_for("sweep") == trial


def test_replicates_are_paired_by_their_streams(run):
    # L2 of nothing and nearly nothing: the same start, the same order of images, so nearly the same history
    settings = run.plan.experiment("sweep").settings
    first, second = (run.outcomes[setting.trials[1]].history.train_loss for setting in settings[:2])
    assert first[0] == pytest.approx(second[0], rel=0.02) and first[-1] == pytest.approx(second[-1], rel=0.02)
    other = run.outcomes[settings[0].trials[2]].history.train_loss
    assert other[0] != pytest.approx(first[0], rel=1e-4)


def test_an_outcome_has_everything_that_its_page_promises(folder, run, results):
    id = run.trial_for("cnn", 1)
    outcome = TrialOutcome.read_planned(folder / "trials" / id / "outcome.json", id)
    assert outcome == run.outcomes[id]
    assert (outcome.replicate, outcome.seed, outcome.data_sha256) == (1, 3, results.data.sha256)
    assert sum(layer.parameters for layer in outcome.layers) == outcome.parameters
    assert results.training["cnn"].best.parameters == outcome.parameters
    assert outcome.environment.members is not None and outcome.environment.stacked is not None
    assert {len(column) for column in outcome.history.columns.values()} == {12}
    assert outcome.history.validation_accuracy[-1] == pytest.approx(outcome.metrics["validation_accuracy"])


class TestRobustness:
    def test_recall_is_that_of_the_stored_predictions(self, run, results):
        for pipeline, entry in results.experiments["robustness"].pipelines.items():
            for replicate in (0, 1):
                outcome, arrays = evaluated(run, pipeline, replicate)
                labels = arrays["labels"]
                assert np.array_equal(labels, TEST_LABELS[arrays["indices"]]) and len(labels) == 60
                for position in range(3):
                    is_right = arrays["predicted"][position] == labels
                    recall = [is_right[labels == k].mean() for k in range(10)]
                    assert outcome.recall_per_class[position] == pytest.approx(recall)
                    assert entry.recall[position].values[replicate] == pytest.approx(np.mean(recall))
                    assert outcome.accuracy[position] == pytest.approx(is_right.mean())

    def test_at_strength_zero_the_classifier_predicts_as_for_clean_images(self, run):
        for replicate in (0, 1):
            _, arrays = evaluated(run, "cnn", replicate)
            clean = predictions(run, "cnn", replicate)["predicted"]
            agree = np.mean(arrays["predicted"][0] == clean[arrays["indices"]])
            assert agree >= 0.98  # batches of another size may tip a tie

    def test_every_pipeline_and_replicate_gets_the_same_noise(self, run):
        stored = {
            pipeline: [evaluated(run, pipeline, replicate)[1] for replicate in (0, 1)]
            for pipeline in ("cnn", "denoiser+cnn", "median+cnn")
        }
        first = stored["cnn"][0]
        for arrays in (*stored["cnn"], *stored["denoiser+cnn"], *stored["median+cnn"]):
            assert np.array_equal(arrays["corrupted"], first["corrupted"])
            assert np.array_equal(arrays["indices"], first["indices"])
        assert np.array_equal(first["denoised"], first["corrupted"]), "nothing stands in front of the cnn"
        denoised = stored["denoiser+cnn"][0]
        assert not np.array_equal(denoised["denoised"], denoised["corrupted"])
        replaced = np.mean(first["corrupted"][2] != first["corrupted"][0])
        assert replaced == pytest.approx(0.6, abs=0.06), "the strength is the share of pixels replaced"


class TestGeneration:
    def test_real_images_are_scored_as_in_the_test(self, run, results):
        values = results.experiments["generation"].real_data.confident_share.values
        assert len(values) == 2
        for replicate, value in enumerate(values):
            confidence = predictions(run, "cnn", replicate)["confidence"]
            assert value == pytest.approx(np.mean(confidence > 0.9), abs=0.011)
            assert evaluated(run, REAL_DATA, replicate)[0].confident_share == value

    def test_samples_are_scored_and_stored(self, run, results):
        for sampler in ("binary", "mixture"):
            outcome, arrays = evaluated(run, sampler, 0)
            assert arrays["images"].shape == (100, 1, 12, 12)
            assert arrays["neighbors"].shape == (10, 1, 12, 12)
            entry = results.experiments["generation"].samplers[sampler]
            assert entry.frechet_distance.values[0] == outcome.frechet_distance
            assert outcome.confident_share == pytest.approx(np.mean(arrays["confidence"] > 0.9), abs=0.011)

    def test_neighbors_are_training_images(self, run):
        train = {image.tobytes() for image in toy_run.images(toy_run.TRAIN, 1)[0]}
        _, arrays = evaluated(run, "mixture", 1)
        assert {image.tobytes() for image in arrays["neighbors"]} <= train


def test_the_data_of_a_run_is_that_which_it_was_trained_on(run, results):
    data = results.data
    assert (data.train, data.validation, data.test) == (420, 60, 200)
    assert data.counts.train == (42,) * 10 and data.counts.validation == (6,) * 10
    train, validation = run.images.training_sets()
    assert (len(train), len(validation)) == (420, 60)
    assert np.array_equal(run.images.test_labels(), TEST_LABELS)
    pixels = {image.tobytes() for image in train.pixels}
    assert {image.tobytes() for image in run.images.samples().pixels} <= pixels


def test_models_of_experiments_and_pipelines_are_loaded(run):
    images = torch.from_numpy(run.dataset.test.pixels[:5].astype(np.float32) / 255)
    models = run.pipeline_models("denoiser+cnn", 1)
    assert [model.task for model in models] == ["denoising", "classification"]
    assert models[1].manifest.provenance.trial == run.trial_for("cnn", 1)
    assert len(run.pipeline_models("median+cnn")) == 2
    predicted = predictions(run, "cnn", 0)["predicted"][:5]
    assert run.model("cnn").logits(images).argmax(1).tolist() == predicted.tolist()


def test_the_report_needs_nothing_from_outside(toy_report):
    page = (toy_report.path / "report.html").read_text(encoding="utf-8")
    # The pad's data and two scripts, of the pad and of the charts, which the policy names by their hashes.
    assert page.count("<script") == 3 and "<script src" not in page
    assert "default-src 'none'" in page and "script-src 'sha256-" in page
    assert not [word for word in ('src="http', "url(http", "@import") if word in page]
    for name in ("mlp", "scaled-twice", "sweep", "cnn", "denoiser", "robustness", "generation"):
        assert name in page

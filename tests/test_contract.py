"""What other programs read: results.json keeps its schema, and its numbers are those of the files behind."""

import json
import math
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import toy_run
from safetensors.numpy import load_file

from inklab.cli import main
from inklab.study.run_directory import RunDirectory

DOCS = Path(__file__).parent.parent / "docs"
SCHEMA = json.loads((DOCS / "results.schema.json").read_text(encoding="utf-8"))
TEST_LABELS = toy_run.images(toy_run.TEST, 2)[1]


@pytest.fixture(scope="module")
def folder():
    return toy_run.finished()


@pytest.fixture(scope="module")
def results(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def plan(folder):
    return RunDirectory(folder).plan()


def chapter(plan, name):
    return next(each for each in plan["chapters"] if each["name"] == name)


def trial(folder, plan, name, replicate, setting=0):
    return folder / "trials" / chapter(plan, name)["settings"][setting]["trials"][replicate]


def outcome(place):
    return json.loads((place / "outcome.json").read_text(encoding="utf-8"))


def evaluation(folder, plan, name, **wanted):
    told = next(each for each in chapter(plan, name)["evaluations"] if wanted.items() <= each.items())
    place = folder / "evaluations" / told["id"]
    return outcome(place), load_file(place / "arrays.safetensors")


def test_results_keep_the_schema(results):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(results)
    assert set(results["chapters"]) == {
        "images", "mlp", "scaled-twice", "sweep", "cnn", "denoiser", "noise", "generator", "findings",
    }  # fmt: skip


@pytest.mark.parametrize(
    "spoil",
    [
        lambda told: told.pop("seed"),
        lambda told: told["chapters"].pop("findings"),
        lambda told: told["chapters"]["mlp"].pop("test_accuracy"),
        lambda told: told["chapters"]["mlp"]["test_accuracy"].update(mean=1.2),
        lambda told: told["chapters"]["mlp"]["test_accuracy"].pop("ci95_images"),
        lambda told: told["chapters"]["mlp"]["outcomes"].update(vanished=1),
        lambda told: told["chapters"]["noise"].pop("pipelines"),
        lambda told: told["chapters"]["generator"]["samplers"]["mixture"].pop("frechet"),
        lambda told: told["chapters"]["sweep"]["settings"][0].pop("outcomes"),
    ],
)
def test_the_schema_would_see_a_breach(results, spoil):
    told = json.loads(json.dumps(results))
    spoil(told)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(told)


def test_no_file_of_a_run_holds_what_is_not_json(folder):
    def refuse(word):
        raise AssertionError(word)

    files = sorted(folder.rglob("*.json"))
    assert len(files) > toy_run.TRIALS + toy_run.EVALUATIONS
    for path in files:
        json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_show_prints_the_file(folder, results, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["show", str(folder), "--json"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out) == results


def test_the_data_are_counted(results):
    data = results["data"]
    assert (data["train"], data["validation"], data["test"]) == (420, 60, 200)
    assert data["classes"]["train"] == [42] * 10 and data["classes"]["validation"] == [6] * 10


@pytest.mark.parametrize("name", ["mlp", "cnn", "scaled-twice"])
def test_accuracies_are_those_of_the_stored_predictions(folder, plan, results, name):
    values = results["chapters"][name]["test_accuracy"]["values"]
    for replicate, value in enumerate(values):
        predicted = load_file(trial(folder, plan, name, replicate) / "predictions.safetensors")["predicted"]
        assert predicted.dtype == np.int16 and len(predicted) == toy_run.TEST
        assert value == pytest.approx(np.mean(predicted == TEST_LABELS), abs=1e-12)
    assert results["chapters"][name]["test_accuracy"]["mean"] == pytest.approx(np.mean(values))


def test_a_sweeps_settings_are_told_by_what_varies(results):
    told = results["chapters"]["sweep"]
    assert [each["l2"] for each in told["settings"]] == [0.0, 1e-3, 1e-1] and told["vary"] == ["l2"]
    best = max(told["settings"], key=lambda each: each["validation_accuracy"]["mean"])
    assert told["best"] == best["l2"]
    assert {each["l2"] for each in told["comparisons"]} == {0.0, 1e-3, 1e-1} - {told["best"]}


def test_replicates_are_paired_by_their_streams(folder, plan):
    # L2 of nothing and nearly nothing: the same start, the same order of images, so nearly the same history
    histories = [outcome(trial(folder, plan, "sweep", 1, setting))["history"] for setting in (0, 1)]
    first, second = (
        [each["train_loss"][0] for each in histories],
        [each["train_loss"][-1] for each in histories],
    )
    assert first[0] == pytest.approx(first[1], rel=0.02) and second[0] == pytest.approx(second[1], rel=0.02)
    other = outcome(trial(folder, plan, "sweep", 2, 0))["history"]
    assert other["train_loss"][0] != pytest.approx(first[0], rel=1e-4)


def test_an_outcome_says_everything_that_its_page_promises(folder, plan, results):
    told = outcome(trial(folder, plan, "cnn", 1))
    assert set(told) == {
        "format", "id", "settings", "replicate", "seed", "data_sha256", "numerics", "state", "reason",
        "parameters", "layers", "history", "scores", "verdicts", "weights_sha256", "seconds", "ran",
    }  # fmt: skip
    assert (told["replicate"], told["seed"], told["format"]) == (1, 3, 1)
    assert told["data_sha256"] == results["data"]["sha256"]
    assert sum(layer["parameters"] for layer in told["layers"]) == told["parameters"]
    assert results["chapters"]["cnn"]["parameters"] == told["parameters"]
    assert {"precision", "threads", "members", "lifted", "python", "torch", "numpy", "inklab", "cpu"} <= set(
        told["ran"]
    )
    assert {len(curve) for curve in told["history"].values()} == {12}
    assert told["history"]["validation_accuracy"][-1] == pytest.approx(told["scores"]["validation_accuracy"])


class TestNoise:
    STRENGTHS = (0, 0.3, 0.6)

    def test_rates_are_those_of_the_stored_predictions(self, folder, plan, results):
        for pipeline in ("cnn", "denoiser+cnn", "median+cnn"):
            told = results["chapters"]["noise"]["pipelines"][pipeline]
            for replicate in (0, 1):
                found, arrays = evaluation(folder, plan, "noise", pipeline=pipeline, replicate=replicate)
                labels = arrays["labels"]
                assert np.array_equal(labels, TEST_LABELS[arrays["indices"]]) and len(labels) == 60
                for place in range(3):
                    right = arrays["predicted"][place] == labels
                    rates = [right[labels == k].mean() for k in range(10)]
                    assert found["tpr_per_class"][place] == pytest.approx(rates)
                    assert told["tpr"][place]["values"][replicate] == pytest.approx(np.mean(rates))
                    assert found["accuracy"][place] == pytest.approx(right.mean())

    def test_at_strength_zero_the_classifier_says_what_it_says_of_clean_images(self, folder, plan):
        for replicate in (0, 1):
            _, arrays = evaluation(folder, plan, "noise", pipeline="cnn", replicate=replicate)
            clean = load_file(trial(folder, plan, "cnn", replicate) / "predictions.safetensors")["predicted"]
            agree = np.mean(arrays["predicted"][0] == clean[arrays["indices"]])
            assert agree >= 0.98  # batches of another size may tip a tie

    def test_every_pipeline_and_replicate_sees_the_same_noise(self, folder, plan):
        found = [
            evaluation(folder, plan, "noise", pipeline=pipeline, replicate=replicate)[1]
            for pipeline in ("cnn", "denoiser+cnn", "median+cnn") for replicate in (0, 1)
        ]  # fmt: skip
        for other in found[1:]:
            assert np.array_equal(other["shown"], found[0]["shown"])
            assert np.array_equal(other["indices"], found[0]["indices"])
        assert np.array_equal(found[0]["seen"], found[0]["shown"]), "nothing stands before the cnn alone"
        assert not np.array_equal(found[2]["seen"], found[2]["shown"])
        share = np.mean(found[0]["shown"][2] != found[0]["shown"][0])
        assert share == pytest.approx(0.6, abs=0.06), "the strength is the share of pixels replaced"

    def test_confusions_count_every_image(self, results):
        told = results["chapters"]["noise"]["confusions"]
        assert set(told["cnn"]) == {"0", "0.3"}
        assert np.sum(told["cnn"]["0.3"]) == 120, "60 images, two replicates"


class TestGenerator:
    def test_the_floor_is_what_real_images_score(self, folder, plan, results):
        values = results["chapters"]["generator"]["recognised_test"]["values"]
        for replicate, value in enumerate(values):
            found = load_file(trial(folder, plan, "cnn", replicate) / "predictions.safetensors")
            assert value == pytest.approx(np.mean(found["confidence"] > 0.9), abs=0.011)

    def test_samples_are_scored_and_kept(self, folder, plan, results):
        for sampler in ("binary", "mixture"):
            found, arrays = evaluation(folder, plan, "generator", sampler=sampler, replicate=0)
            assert arrays["images"].shape == (100, 1, 12, 12) and arrays["nearest"].shape == (10, 1, 12, 12)
            assert found["samples"] == 100 and math.isfinite(found["frechet"])
            told = results["chapters"]["generator"]["samplers"][sampler]
            assert told["frechet"]["values"][0] == found["frechet"]
            assert found["recognised"] == pytest.approx(np.mean(arrays["confidence"] > 0.9), abs=0.011)

    def test_nearest_images_are_training_images(self, folder, plan):
        train = {image.tobytes() for image in toy_run.images(toy_run.TRAIN, 1)[0]}
        _, arrays = evaluation(folder, plan, "generator", sampler="mixture", replicate=1)
        assert {image.tobytes() for image in arrays["nearest"]} <= train


def test_findings_speak_of_every_chapter(results):
    findings = results["chapters"]["findings"]
    for name in ("mlp", "sweep", "cnn", "denoiser", "noise", "generator"):
        assert [each for each in findings if each.startswith(f"{name}: ")], name


def test_the_report_needs_nothing_from_outside(folder, tmp_path):
    with pytest.raises(SystemExit):
        main(["report", str(toy_run.copied(tmp_path / "run"))])
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    # The pad's data and its one script, which the policy names by its hash (tests/test_report_pad.py).
    assert page.count("<script") == 2 and "<script src" not in page
    assert "default-src 'none'" in page and "script-src 'sha256-" in page
    assert not [word for word in ('src="http', "url(http", "@import") if word in page]
    for name in ("mlp", "scaled-twice", "sweep", "cnn", "denoiser", "noise", "generator"):
        assert name in page
    assert sorted((tmp_path / "run" / "figures").glob("*.svg")), "figures lie beside the page"
    assert sorted((tmp_path / "run" / "figures").glob("*.csv")), "with their data"

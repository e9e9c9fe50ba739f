"""Every command: what it prints where, in which form, and with which exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toy_run
from PIL import Image
from safetensors.numpy import load_file

import inklab
from inklab.errors import EXIT_DATA, EXIT_OK, EXIT_USAGE
from inklab.metrics import METRICS
from inklab.networks.network import networks
from inklab.records.components import NetworkConfig
from inklab.records.manifest import ModelManifest
from inklab.records.plan import Plan
from inklab.records.results import Results
from inklab.runs import Run
from inklab.study.run_directory import RunDirectory
from inklab.training.objectives import objectives
from inklab.training.recipe_files import RecipeFile, read_recipe_file

TOY = toy_run.home() / "toy.npz"


@pytest.fixture
def succeed(cli):
    """Run a command that must succeed and print nothing on stderr; what it prints."""

    def run(*words):
        code, out, err = cli(*words)
        assert (code, err) == (EXIT_OK, "")
        return out

    return run


@pytest.fixture(scope="module")
def base():
    return toy_run.finished()


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A test image of class 7, as the dataset has it, and its index in the test set."""
    pixels, labels = toy_run.images(toy_run.TEST, 2)
    index = int(np.flatnonzero(labels == 7)[3])
    path = tmp_path_factory.mktemp("pictures") / "seven.png"
    Image.fromarray(pixels[index]).save(path)
    return path, index


def outcomes_of(status):
    """Outcomes by experiment, of what `inklab status --json` printed."""
    return {entry["name"]: entry["outcomes"] for entry in status["experiments"]}


def as_record(record, value):
    """JSON that a command printed, as the record that it is."""
    return record.parse_json(json.dumps(value).encode(), "output")


class TestHelp:
    def test_version(self, succeed):
        assert succeed("--version") == f"inklab {inklab.__version__}\n"

    @pytest.mark.parametrize(
        ("words", "names"),
        [
            *((words, "run|resume|predict|doctor|Start with: inklab run") for words in ("", "--help", "-h")),
            ("data", "fetch|check"),
            ("list", "networks|metrics"),
        ],
    )
    def test_no_words_or_a_group_alone_show_the_commands(self, succeed, words, names):
        out = succeed(*words.split())
        assert all(name in out for name in names.split("|"))

    def test_debug_is_allowed_anywhere(self, cli):
        for words in (["--debug", "show", "nowhere"], ["show", "nowhere", "--debug"]):
            code, out, err = cli(*words)
            assert code == EXIT_USAGE and out == ""
            assert "Traceback" in err and "RunError" in err
            assert err.splitlines()[-1].startswith("error: 'nowhere'")
        assert "Traceback" not in cli("show", "nowhere")[2]


class TestDryRun:
    def test_it_shows_the_plan_and_writes_nothing(self, succeed, tmp_path):
        words = ("run", toy_run.study_file(), "--dry-run", "--run-dir", tmp_path / "run", "--workers", 2)
        out = succeed(*words)
        assert f"{toy_run.TRIALS} trials in 6 groups, {toy_run.EVALUATIONS} evaluations" in out
        assert "420 training, 60 validation, 200 test images" in out
        assert not (tmp_path / "run").exists()

    def test_equal_groups_are_named_once(self, succeed):
        words = ("train", "cnn", "--data", TOY, "--replicates", 4, "--dry-run")
        assert "4 x 1 in turn" in succeed(*words)

    def test_as_json(self, succeed, base):
        out = json.loads(succeed("run", toy_run.study_file(), "--dry-run", "--json", "--run-dir", base))
        plan = as_record(Plan, out["plan"])
        assert plan == RunDirectory(base).plan().model_copy(update={"command": plan.command})
        assert out["run"] == str(base)
        assert (out["cost"]["trials"], out["cost"]["evaluations"]) == (0, 0)

    def test_without_mnist_the_default_study_says_that_it_uses_other_images(self, cli, monkeypatch):
        monkeypatch.setenv("INKLAB_OFFLINE", "1")
        monkeypatch.delenv("INKLAB_DATA_DIR", raising=False)
        code, out, err = cli("run", "--dry-run", "--json")
        assert code == EXIT_OK
        note, few = err.splitlines()
        assert note.startswith("NOTE: ") and "mnist-5k" in note and few.startswith("4,000 ")
        data = as_record(Plan, json.loads(out)["plan"]).data
        assert (data.dataset, data.note) == ("mnist-5k", note.removeprefix("NOTE: "))
        assert (data.counts.train, data.counts.validation, data.counts.test) == (
            (350,) * 10, (50,) * 10, (100,) * 10,
        )  # fmt: skip


class TestReadingARun:
    @pytest.mark.integration
    def test_running_again_prints_the_results_and_where_the_report_is(self, cli, tmp_path):
        folder = toy_run.copied(tmp_path / "run")
        code, out, err = cli("run", toy_run.study_file(), "--run-dir", folder)
        assert code == EXIT_OK
        assert out.strip().endswith(str(folder / "report.html")) and "sweep l2 = 1e-3" in out
        assert f"study toy, data {toy_run.home() / 'toy.npz'}: {folder}" in err
        assert RunDirectory(folder).plan().command == f"inklab run {toy_run.study_file()}"

    @pytest.mark.integration
    def test_resume_as_json_prints_results_json_alone(self, cli, tmp_path):
        folder = toy_run.copied(tmp_path / "run")
        plan = RunDirectory(folder).plan().model_copy(update={"command": "inklab run what I typed"})
        plan.write(folder / "plan.json")
        code, out, _ = cli("resume", folder, "--json")
        assert code == EXIT_OK
        assert as_record(Results, json.loads(out)) == Results.read(folder / "results.json")
        assert RunDirectory(folder).plan() == plan, "it keeps the command that began the run"

    def test_show(self, succeed, base):
        out, results = succeed("show", base), Run(base).results
        assert all(finding in out for finding in results.findings)
        for name in ("cnn", "scaled-twice"):  # two replicates, and one with an interval over images
            metrics = results.training[name].settings[0].metrics
            for metric, images in (("test_accuracy", "200 test"), ("validation_accuracy", "60 validation")):
                assert metrics[metric].format(metric, images=f"{images} images") in out

    def test_status(self, succeed, base):
        rows = {line.split()[0]: line.split()[1:] for line in succeed("status", base).splitlines() if line}
        assert rows["sweep"] == ["9"] and rows["robustness"] == ["6"]
        status = json.loads(succeed("status", base, "--json"))
        assert status["state"] == "finished" and status["study"] == "toy" and status["orphaned"] == 0
        assert outcomes_of(status)["sweep"] == {"done": 9}

    def test_status_counts_what_waits(self, succeed, tmp_path):
        folder = toy_run.begun(tmp_path / "run")
        assert outcomes_of(json.loads(succeed("status", folder, "--json")))["sweep"] == {"waiting": 9}
        results = json.loads(succeed("show", folder, "--json"))
        assert results["experiments"]["cnn"]["outcomes"] == {"waiting": 2}

    def test_compare(self, succeed, base):
        words = ("compare", base, "sweep:l2=0.001", "sweep:l2=0.1")
        comparison = json.loads(succeed(*words, "--json"))
        sweep = Run(base).results.training["sweep"]
        losses = [sweep.setting({"l2": l2}).metrics["test_loss"].values for l2 in (1e-3, 1e-1)]
        expected = np.mean([a - b for a, b in zip(*losses, strict=True)])
        assert comparison["differences"]["test_loss"]["mean"] == pytest.approx(expected)
        assert comparison["replicates"] == [0, 1, 2]
        assert succeed(*words).strip() == comparison["sentence"]

    @pytest.mark.integration
    def test_report_writes_to_the_output_directory(self, succeed, base, tmp_path):
        out = succeed("report", base, "--output", tmp_path)
        assert out.strip() == str(tmp_path / "report.html") and (tmp_path / "figures").is_dir()
        assert Results.read(tmp_path / "results.json") == Results.read(base / "results.json")

    def test_a_run_is_found_by_path_by_id_and_as_the_latest(self, succeed, base, monkeypatch):
        monkeypatch.setenv("INKLAB_RUNS_DIR", str(base.parent.parent))
        monkeypatch.chdir(base.parent)
        link = base.parent.parent / "latest"
        link.symlink_to(base)
        try:
            paths = {
                json.loads(succeed("status", *words, "--json"))["run"] for words in ([base], ["base"], [])
            }
        finally:
            link.unlink()
        assert paths == {str(base)}


class TestPredict:
    def test_it_predicts_what_the_network_predicted_for_that_image(self, succeed, base, picture):
        path, index = picture
        for experiment in ("mlp", "cnn"):
            trial = Run(base).model_dir(experiment).parent
            stored = load_file(trial / "predictions.safetensors")
            (prediction,) = json.loads(succeed("predict", base, path, "--experiment", experiment, "--json"))
            assert prediction["label"] == str(stored["predicted"][index])
            assert prediction["image"] == str(path)
            probabilities = prediction["probabilities"].values()
            assert max(probabilities) == pytest.approx(stored["confidence"][index], abs=0.02)
            assert sum(probabilities) == pytest.approx(1, abs=1e-5)
            scored = Run(base).model(experiment).predict(path)
            assert scored.ood_method.startswith("distance")
            assert prediction["ood_score"] == pytest.approx(scored.ood_scores[0])
            assert succeed("predict", trial, path) == succeed("predict", trial / "model", path)

    def test_it_shows_the_networks_input(self, succeed, base, picture):
        lines = succeed("predict", base, picture[0], picture[0], "--top", 2).splitlines()
        assert len(lines) == 2 * (1 + toy_run.SIDE)
        assert lines[0].startswith(f"{picture[0]}: 7   (7 ") and lines[0].count("%") == 2

    def test_color_and_transparency_are_preprocessed_and_a_setting_may_be_named(
        self, succeed, base, picture, tmp_path
    ):
        paths = [tmp_path / f"{mode}.png" for mode in ("L", "RGB", "RGBA", "P")]
        for path in paths:
            Image.open(picture[0]).convert(path.stem).save(path)
        for words in ([], ["--experiment", "sweep:l2=0.001"]):
            predictions = json.loads(succeed("predict", base, *paths, *words, "--json"))
            assert [prediction["label"] for prediction in predictions] == ["7"] * 4

    def test_a_file_that_cant_be_read_does_not_keep_the_others_from_an_answer(
        self, cli, base, picture, tmp_path
    ):
        (tmp_path / "a.png").write_bytes(b"damaged")
        (tmp_path / "b.png").write_bytes(picture[0].read_bytes())
        code, out, err = cli("predict", base, tmp_path)
        assert code == EXIT_DATA and out.startswith(f"{tmp_path / 'b.png'}: 7")
        assert "NOT READ" in err and "a.png" in err and "Traceback" not in err
        entries = json.loads(cli("predict", base, tmp_path, "--json")[1])
        assert [entry["label"] for entry in entries] == [None, "7"] and "a.png" in entries[0]["error"]


class TestTrain:
    @pytest.mark.integration
    def test_one_network_end_to_end(self, cli, succeed, picture, tmp_path, monkeypatch):
        monkeypatch.setenv("INKLAB_RUNS_DIR", str(tmp_path))
        words = ("train", "mlp", "--data", TOY, "--replicates", 2, "--workers", 1)
        sets = "--set network.hidden=[16] --set recipe.epochs=5 --set recipe.batch_size=32"
        code, out, err = cli(*words, *sets.split())
        assert code == EXIT_OK and "Traceback" not in err
        model = next(line for line in out.splitlines() if line.startswith("model: ")).removeprefix("model: ")
        prediction = json.loads(succeed("predict", model, picture[0], "--json"))[0]
        assert prediction["probabilities"].keys() == set("0123456789")
        assert succeed("predict", "latest", picture[0]) == succeed("predict", model, picture[0])
        assert outcomes_of(json.loads(succeed("status", "--json"))) == {"mlp": {"done": 2}}
        manifest = ModelManifest.read_from(Path(model))
        assert manifest.network == NetworkConfig.of("mlp", hidden=[16])
        assert manifest.labels == tuple("0123456789")

    @pytest.mark.parametrize("network", ["autoencoder", "unet"])
    def test_a_denoiser_is_trained_by_a_denoisers_recipe(self, network, succeed):
        words = ("train", network, "--data", TOY, "--dry-run", "--json")
        plan = as_record(Plan, json.loads(succeed(*words))["plan"])
        assert {config.recipe.objective for config in plan.configs.values()} == {"reconstruct"}

    def test_a_recipe_alone_brings_its_network(self, succeed):
        words = ("train", "--recipe", "mlp-best", "--data", TOY, "--dry-run", "--json")
        plan = as_record(Plan, json.loads(succeed(*words))["plan"])
        (config,) = plan.configs.values()
        file = read_recipe_file("mlp-best")
        assert config.network == file.network and config.recipe == file.recipe
        assert plan.study == "mlp-best"


class TestLists:
    def test_networks(self, succeed):
        assert set(json.loads(succeed("list", "networks", "--json"))) == set(networks)
        assert all(name in succeed("list", "networks") for name in networks)

    def test_the_layers_of_a_network(self, succeed):
        assert succeed("list", "networks", "cnn").splitlines()[-1].split()[:2] == ["all", "1,250,926"]
        rows = json.loads(succeed("list", "networks", "mlp", "--set", "hidden=[500,300]", "--json"))
        assert sum(row["parameters"] for row in rows) == 545_810
        words = ("list", "networks", "mlp", "--shape", "3,8,8", "--classes", 4, "--json")
        assert json.loads(succeed(*words))[-1]["output_shape"] == [4]

    def test_recipes_are_complete(self, succeed):
        listed = json.loads(succeed("list", "recipes", "--json"))
        files = {name: as_record(RecipeFile, file) for name, file in listed.items()}
        assert {file.recipe.objective for file in files.values()} <= set(objectives)
        assert files["cnn-fast"].network.name == "compact" and files["cnn-fast"].version >= 1
        assert all(name in succeed("list", "recipes") for name in files)

    @pytest.mark.parametrize(
        ("kind", "names"),
        [
            ("corruptions", {"salt_and_pepper", "gaussian"}), ("filters", {"median"}),
            ("datasets", {"mnist", "mnist-5k", "fashion-mnist"}),
            ("objectives", {"classify", "reconstruct"}), ("samplers", {"binary", "mixture"}),
            ("metrics", set(METRICS)), ("studies", {"digits", "digits-best", "generator-best"}),
        ],
    )  # fmt: skip
    def test_every_other_kind(self, kind, names, succeed):
        descriptions = json.loads(succeed("list", kind, "--json"))
        assert names <= set(descriptions) and all(descriptions.values())
        out = succeed("list", kind)
        assert all(f"{name} " in out and text in out for name, text in descriptions.items())
        if kind == "corruptions":
            assert "share of pixels replaced" in descriptions["salt_and_pepper"]  # the unit of its strength

    def test_data_fetch_and_check(self, succeed):
        assert "480 training and 200 test images" in succeed("data", "fetch", TOY)
        report = json.loads(succeed("data", "check", TOY, "--json"))
        assert report["counts"]["train"] == [48] * 10
        assert succeed("data", "check", TOY).count("\n") > 12

    def test_doctor(self, cli, monkeypatch):
        monkeypatch.delenv("INKLAB_DATA_DIR", raising=False)
        code, out, _ = cli("doctor", "--json")
        checks = json.loads(out)
        assert (code, checks["ok"], checks["arithmetic"]) == (EXIT_OK, True, "correct")
        assert checks["precision"].split()[0] in ("bf16", "fp32") and checks["inklab"] == inklab.__version__
        assert checks["mnist"].startswith("not available")
        text = cli("doctor")[1]
        assert all(key in text for key in checks if key != "ok")


class TestProcess:
    def test_python_m_inklab_is_inklab(self):
        done = subprocess.run([sys.executable, "-m", "inklab", "--version"], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"inklab {inklab.__version__}\n", "")

    def test_a_reader_that_goes_away_is_no_error(self, base):
        read, write = os.pipe()
        os.close(read)  # as `| head` does once it has enough
        try:
            command = [sys.executable, "-m", "inklab", "show", str(base), "--json"]
            done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
        finally:
            os.close(write)
        assert (done.returncode, done.stderr) == (0, "")

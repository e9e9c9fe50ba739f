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
from inklab.cli.progress_display import duration
from inklab.errors import EXIT_OK, EXIT_USAGE
from inklab.io.documents import read_json
from inklab.networks.network import models
from inklab.study.run_directory import RunDirectory
from inklab.training.objectives import objectives
from inklab.training.recipe import Recipe, read_recipe


@pytest.fixture
def fine(cli):
    """Type a command that must end well and silently; what it prints."""

    def type_(*words):
        code, out, err = cli(*words)
        assert (code, err) == (EXIT_OK, "")
        return out

    return type_


@pytest.fixture(scope="module")
def base():
    return toy_run.finished()


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A test image of class 7, as the source has it, and its place in the test set."""
    pixels, labels = toy_run.images(toy_run.TEST, 2)
    place = int(np.flatnonzero(labels == 7)[3])
    path = tmp_path_factory.mktemp("pictures") / "seven.png"
    Image.fromarray(pixels[place]).save(path)
    return path, place


class TestHelp:
    def test_version(self, fine):
        assert fine("--version") == f"inklab {inklab.__version__}\n"

    @pytest.mark.parametrize("words", [[], ["--help"], ["-h"]], ids=str)
    def test_nothing_typed_shows_the_commands(self, fine, words):
        told = fine(*words)
        assert all(name in told for name in ("run", "resume", "predict", "doctor", "Start with: inklab run"))

    def test_data_alone_shows_its_commands(self, fine):
        told = fine("data")
        assert all(name in told for name in ("list", "get", "check"))

    def test_debug_is_taken_anywhere(self, cli):
        for words in (["--debug", "show", "nowhere"], ["show", "nowhere", "--debug"]):
            code, out, err = cli(*words)
            assert code == EXIT_USAGE and out == ""
            assert "Traceback" in err and "RunError" in err
            assert err.splitlines()[-1].startswith("inklab: 'nowhere' is not a run")
        assert "Traceback" not in cli("show", "nowhere")[2]


class TestDryRun:
    def test_it_says_what_would_be_done_and_writes_nothing(self, fine, tmp_path):
        told = fine("run", toy_run.study_file(), "--dry-run", "--out", tmp_path / "run", "--workers", 2)
        assert f"still to do: {toy_run.TRIALS} trials in 6 groups, {toy_run.EVALUATIONS} evaluations" in told
        assert "420 training, 60 validation, 200 test images" in told and "nothing was written" in told
        assert not (tmp_path / "run").exists()

    def test_groups_that_are_alike_are_said_once(self, fine):
        words = ("train", "cnn", "--data", toy_run.home() / "toy.npz", "--replicates", 4, "--dry-run")
        assert "4 x 1 alone" in fine(*words)

    def test_as_json(self, fine, base):
        told = json.loads(fine("run", toy_run.study_file(), "--dry-run", "--json", "--out", base))
        stored = {key: value for key, value in RunDirectory(base).plan().items() if key != "command"}
        assert stored.items() <= told["plan"].items() and told["folder"] == str(base)
        assert (told["left"]["trials"], told["left"]["evaluations"]) == (0, 0)

    def test_without_mnist_the_default_study_says_loudly_that_it_goes_on_with_other_images(
        self, cli, monkeypatch
    ):
        monkeypatch.setenv("INKLAB_OFFLINE", "1")
        monkeypatch.delenv("INKLAB_DATA_DIR", raising=False)
        code, out, err = cli("run", "--dry-run", "--json")
        assert code == EXIT_OK
        told, few = err.splitlines()
        assert told.startswith("NOTE: These are 5,000 digits of MNIST (mnist-5k), not all 70,000: ")
        assert few.startswith("4,000 training images are few: ")
        data = json.loads(out)["plan"]["data"]
        assert (data["source"], data["note"]) == ("mnist-5k", told.removeprefix("NOTE: "))
        assert data["counts"] == {"train": [350] * 10, "validation": [50] * 10, "test": [100] * 10}


class TestReadingARun:
    def test_run_again_prints_the_results_and_where_the_report_is(self, cli, tmp_path):
        folder = toy_run.copied(tmp_path / "run")
        code, out, err = cli("run", toy_run.study_file(), "--out", folder)
        assert code == EXIT_OK
        assert out.strip().endswith(f"report: {folder / 'report.html'}") and "sweep l2=1e-3" in out
        assert f"study toy, profile plain, data {toy_run.home() / 'toy.npz'}: {folder}" in err
        assert "everything is there already" in err
        command = RunDirectory(folder).plan()["command"]
        assert command == f"inklab run {toy_run.study_file()}"
        assert cli("resume", folder)[0] == EXIT_OK
        assert RunDirectory(folder).plan()["command"] == command, (
            "a resume forgets the command that began the run"
        )

    def test_run_as_json_prints_results_json_alone(self, cli, tmp_path):
        folder = toy_run.copied(tmp_path / "run")
        code, out, _ = cli("resume", folder, "--json")
        assert code == EXIT_OK
        assert json.loads(out) == json.loads((folder / "results.json").read_text(encoding="utf-8"))

    def test_show(self, fine, base):
        told = fine("show", base)
        results = toy_run.numbers(base)["chapters"]
        assert f"{results['cnn']['test_accuracy']['mean']:.2%}".replace("%", " %") in told
        assert all(finding in told for finding in results["findings"])
        assert "one replicate" in told, "scaled-twice has one, so no interval"

    def test_intervals_of_rates_stay_within_bounds(self, fine, base):
        accuracies = [
            line for line in fine("show", base).splitlines() if "_accuracy" in line and " to " in line
        ]
        assert accuracies
        for line in accuracies:
            low, _, high = line.split("%", 1)[1].rsplit(maxsplit=1)[0].partition(" to ")
            assert 0 <= float(low) <= float(high) <= 100, line

    def test_status(self, fine, base):
        rows = {line.split()[0]: line.split()[1:] for line in fine("status", base).splitlines() if line}
        assert rows["sweep"] == ["9"] and rows["noise"] == ["6"]
        told = json.loads(fine("status", base, "--json"))
        assert told["outcomes"]["sweep"] == {"done": 9} and told["study"] == "toy"

    def test_status_counts_what_waits(self, fine, tmp_path):
        folder = toy_run.begun(tmp_path / "run")
        assert json.loads(fine("status", folder, "--json"))["outcomes"]["sweep"] == {"waiting": 9}
        assert json.loads(fine("show", folder, "--json"))["chapters"]["cnn"]["outcomes"] == {"waiting": 2}

    def test_compare(self, fine, base):
        told = json.loads(fine("compare", base, "sweep:l2=0.001", "sweep:l2=0.1", "--json"))
        sweep = {each["l2"]: each for each in toy_run.numbers(base)["chapters"]["sweep"]["settings"]}
        pairs = zip(sweep[1e-3]["test_loss"]["values"], sweep[1e-1]["test_loss"]["values"], strict=True)
        assert told["scores"]["test_loss"]["mean"] == pytest.approx(np.mean([a - b for a, b in pairs]))
        assert told["replicates"] == [0, 1, 2]
        assert fine("compare", base, "sweep:l2=0.001", "sweep:l2=0.1").strip() == told["sentence"]

    def test_a_run_is_found_by_path_by_id_and_as_the_latest(self, fine, base, monkeypatch):
        monkeypatch.setenv("INKLAB_RUNS_DIR", str(base.parent.parent))
        monkeypatch.chdir(base.parent)
        link = base.parent.parent / "latest"
        link.symlink_to(base)
        try:
            told = [json.loads(fine("status", *words, "--json"))["run"] for words in ([base], ["base"], [])]
        finally:
            link.unlink()
        assert set(told) == {str(base)}


class TestPredict:
    def test_it_says_what_the_network_said_of_that_image(self, fine, base, picture):
        path, place = picture
        for chapter in ("mlp", "cnn"):
            planned = next(each for each in RunDirectory(base).plan()["chapters"] if each["name"] == chapter)
            trial = base / "trials" / planned["settings"][0]["trials"][0]
            stored = load_file(trial / "predictions.safetensors")
            (told,) = json.loads(fine("predict", base, path, "--chapter", chapter, "--json"))
            assert told["label"] == str(stored["predicted"][place]) and told["image"] == str(path)
            assert max(told["probabilities"].values()) == pytest.approx(stored["confidence"][place], abs=0.02)
            assert sum(told["probabilities"].values()) == pytest.approx(1, abs=1e-5)
            assert fine("predict", trial, path) == fine("predict", trial / "bundle", path)

    def test_it_shows_what_the_network_saw(self, fine, base, picture):
        lines = fine("predict", base, picture[0], picture[0], "--top", 2).splitlines()
        assert len(lines) == 2 * (1 + toy_run.SIDE)
        assert lines[0].startswith(f"{picture[0]}: 7   (7 ") and lines[0].count("%") == 2

    def test_colour_and_transparency_are_brought_into_the_form_of_the_training_images(
        self, fine, base, picture, tmp_path
    ):
        grey = Image.open(picture[0])
        told = {}
        for mode in ("L", "RGB", "RGBA", "P"):
            grey.convert(mode).save(tmp_path / f"{mode}.png")
            told[mode] = json.loads(fine("predict", base, tmp_path / f"{mode}.png", "--json"))[0]["label"]
        assert set(told.values()) == {"7"}


class TestTrain:
    def test_one_network_end_to_end(self, cli, fine, picture, tmp_path, monkeypatch):
        monkeypatch.setenv("INKLAB_RUNS_DIR", str(tmp_path))
        words = ("train", "mlp", "--data", toy_run.home() / "toy.npz", "--replicates", 2, "--workers", 1)
        sets = ("--set", "model.hidden=[16]", "--set", "recipe.epochs=5", "--set", "recipe.batch=32")
        code, out, err = cli(*words, *sets)
        assert code == EXIT_OK and "Traceback" not in err
        bundle = next(line for line in out.splitlines() if line.startswith("bundle: ")).removeprefix(
            "bundle: "
        )
        assert json.loads(fine("predict", bundle, picture[0], "--json"))[0]["probabilities"].keys() == set(
            "0123456789"
        )
        assert fine("predict", "latest", picture[0]) == fine("predict", bundle, picture[0])
        assert json.loads(fine("status", "--json"))["outcomes"] == {"mlp": {"done": 2}}
        manifest = read_json(Path(bundle, "bundle.json"))
        assert manifest["model"] == {"name": "mlp", "hidden": [16]} and manifest["labels"] == list(
            "0123456789"
        )

    @pytest.mark.parametrize("model", ["autoencoder", "unet"])
    def test_dry_run_of_what_gives_images_takes_their_recipe(self, model, fine):
        told = json.loads(fine("train", model, "--data", toy_run.home() / "toy.npz", "--dry-run", "--json"))
        (settings,) = {json.dumps(each["settings"]) for each in told["plan"]["trials"].values()}
        assert json.loads(settings)["recipe"]["objective"] == "reconstruct"

    def test_a_recipe_alone_brings_its_network_and_says_how_to_have_it_again(self, fine):
        words = ("train", "--recipe", "mlp-best", "--data", toy_run.home() / "toy.npz", "--dry-run", "--json")
        plan = json.loads(fine(*words))["plan"]
        (settings,) = {json.dumps(each["settings"]) for each in plan["trials"].values()}
        file = read_recipe("mlp-best")
        assert json.loads(settings)["model"] == file.network["model"]
        assert json.loads(settings)["recipe"]["objective"] == file.fields["objective"]
        assert plan["study"] == "mlp-best"


class TestLists:
    def test_models(self, fine):
        assert set(json.loads(fine("models", "--json"))) == set(models)
        assert all(name in fine("models") for name in models)

    def test_a_models_layers(self, fine):
        assert fine("models", "cnn").splitlines()[-1].split()[:2] == ["all", "1,250,926"]
        rows = json.loads(fine("models", "mlp", "--set", "hidden=[500,300]", "--json"))
        assert sum(row["parameters"] for row in rows) == 545_810
        small = json.loads(fine("models", "mlp", "--shape", "3,8,8", "--classes", 4, "--json"))
        assert small[-1]["output"] == [4]

    def test_recipes_are_complete_recipes(self, fine):
        told = json.loads(fine("recipes", "--json"))
        assert {Recipe(**each["recipe"]).objective for each in told.values()} <= set(objectives)
        assert told["cnn-fast"]["model"]["name"] == "compact" and told["cnn-fast"]["version"] >= 1
        assert all(name in fine("recipes") for name in told)

    def test_corruptions_say_what_their_strength_counts(self, fine):
        assert "share of pixels replaced" in json.loads(fine("corruptions", "--json"))["salt_and_pepper"]
        assert "salt_and_pepper" in fine("corruptions")

    def test_sources(self, fine):
        assert {"mnist", "mnist-5k", "fashion-mnist"} <= set(json.loads(fine("data", "list", "--json")))
        assert "an .npz file" in fine("data", "list")

    def test_data_get_and_check(self, fine):
        assert "480 training and 200 test images" in fine("data", "get", toy_run.home() / "toy.npz")
        told = json.loads(fine("data", "check", toy_run.home() / "toy.npz", "--json"))
        assert told["counts"]["train"] == [48] * 10
        assert fine("data", "check", toy_run.home() / "toy.npz").count("\n") > 12

    def test_doctor(self, cli, monkeypatch):
        monkeypatch.setenv("INKLAB_OFFLINE", "1")
        code, out, _ = cli("doctor", "--json")
        told = json.loads(out)
        assert (code, told["sound"], told["arithmetic"]) == (EXIT_OK, True, "right")
        assert told["precision"].split()[0] in ("bf16", "fp32") and told["inklab"] == inklab.__version__
        assert "all is well" in cli("doctor")[1]


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


def test_durations_are_told_as_people_tell_them():
    assert [duration(each) for each in (0.4, 59.4, 60, 3599, 3600)] == [
        "0 s",
        "59 s",
        "1 min 0 s",
        "59 min 59 s",
        "1 h 0 min",
    ]

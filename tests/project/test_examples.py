"""The examples work as their pages say.

`make test` runs their studies with little to train, in one process (support/example_runs.py). `make
integration` runs every command of every page in a copy of its folder; trainings get fewer epochs and one
worker (`SMALLER`), all else is run word by word.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inklab.records.outcomes import TrialState
from inklab.run import Run

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = sorted(path.parent.name for path in EXAMPLES.glob("*/README.md"))
SMALLER = {
    ("own_network", "train"): "--set recipe.epochs=1",
    ("own_network", "run"): "--set plain.recipe.epochs=2 --set residual.recipe.epochs=2",
    ("own_corruption", "run"): "--set denoiser.recipe.epochs=2",
    ("own_study", "run"): "--set sweep.recipe.epochs=1",
    ("own_images", "train"): "--set recipe.epochs=8",
}


def commands(page: Path) -> list[str]:
    """The lines of a page's shell blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def run_command(line: str, folder: Path) -> str:
    """Run a command line; what it prints."""
    words = shlex.split(line)
    program = {"inklab": [sys.executable, "-m", "inklab"], "python": [sys.executable]}[words[0]]
    environment = {**os.environ, "INKLAB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("INKLAB_RUNS_DIR", None)
    completed = subprocess.run(
        [*program, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert completed.returncode == 0, f"{line}\n{completed.stdout}\n{completed.stderr}"
    return completed.stdout


def run_example(name: str, tmp_path: Path) -> tuple[Path, list[str]]:
    """Run all commands of an example in a copy of its folder; the folder, and what they printed."""
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__", "runs", "shapes"))
    return folder, [run_command(smaller(name, line), folder) for line in commands(folder / "README.md")]


def smaller(name: str, line: str) -> str:
    """A command line with less to train."""
    extra = SMALLER.get((name, line.split()[1]))
    return f"{line} {extra} --workers 1" if extra else line


def latest(folder: Path) -> Run:
    return Run(folder / "runs" / "latest")


def test_every_example_has_a_page_and_a_test():
    assert FOLDERS == ["own_corruption", "own_images", "own_network", "own_study"]
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(FOLDERS)
    assert all(commands(EXAMPLES / name / "README.md") for name in FOLDERS)


@pytest.fixture(scope="module")
def small_runs(tmp_path_factory) -> tuple[Path, dict[str, list[str]]]:
    """A copy of the examples with small runs, and the outputs of commands by example."""
    folder = tmp_path_factory.mktemp("examples")
    ignored = shutil.ignore_patterns("__pycache__", "runs", "shapes")
    shutil.copytree(EXAMPLES, folder, ignore=ignored, dirs_exist_ok=True)
    script = Path(__file__).parents[1] / "support" / "example_runs.py"
    completed = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, timeout=300
    )
    assert completed.returncode == 0, completed.stderr
    return folder, json.loads(completed.stdout)


class TestSmallRuns:
    def test_own_network(self, small_runs):
        folder, outputs = small_runs
        layers, comparison = outputs["own_network"]
        assert "BatchNorm1d" in layers and "n = 2" in comparison
        run = Run(folder / "own_network" / "runs" / "small")
        plain, residual = (run.results.training[name] for name in ("plain", "residual"))
        assert plain.outcomes == residual.outcomes == {TrialState.DONE: 2}
        assert residual.best.metrics["test_accuracy"].mean > 0.8
        singles = [group for group in run.plan.groups if not group.stacked]
        assert len(singles) == 2  # batch normalization cannot be stacked (docs/networks.md)

    def test_own_corruption(self, small_runs):
        folder, outputs = small_runs
        assert "streaks" in outputs["own_corruption"][0]
        run = Run(folder / "own_corruption" / "runs" / "small")
        robustness = run.results.experiment("robustness")
        assert robustness.outcomes == {TrialState.DONE: 8}
        assert robustness.corruption == "my_noise.py:streaks"
        plain, trained = (
            [estimate.mean for estimate in robustness.pipelines[name].recall]
            for name in ("plain", "trained-on-streaks")
        )
        assert plain[0] > 0.8 > 0.6 > plain[1]  # streaks in two fifths of the columns
        assert trained[1] > plain[1]

    def test_own_study(self, small_runs):
        folder, outputs = small_runs
        dry_run, comparison = outputs["own_study"]
        assert "18 trials" in dry_run and "nothing was written" in dry_run
        assert "hidden=[64],learning_rate=0.3" in comparison and "n = 2" in comparison
        sweep = Run(folder / "own_study" / "runs" / "small").results.training["sweep"]
        assert sweep.grid == ("hidden", "learning_rate") and sweep.outcomes == {TrialState.DONE: 18}
        assert len(sweep.settings) == 9 and sweep.best_setting.keys() == set(sweep.grid)

    def test_own_images(self, small_runs):
        folder, outputs = small_runs
        checked, predicted = outputs["own_images"]
        assert "square" in checked and re.search(r"new-shape\.png.*triangle", predicted)
        best = Run(folder / "own_images" / "runs" / "small").results.training["cnn"].best
        assert best.metrics["test_accuracy"].mean > 0.6  # by chance: 0.33


@pytest.mark.integration
class TestCommands:
    def test_own_network(self, tmp_path):
        folder, (layers, *_, sentence) = run_example("own_network", tmp_path)
        assert "BatchNorm1d" in layers
        run = latest(folder)
        plain, residual = (run.results.training[name] for name in ("plain", "residual"))
        assert plain.outcomes == residual.outcomes == {TrialState.DONE: 5}
        assert residual.best.metrics["test_accuracy"].mean > 0.8
        assert "n = 5" in sentence
        singles = [group for group in run.plan.groups if not group.stacked]
        assert len(singles) == 5  # batch normalization cannot be stacked (docs/networks.md)

    def test_own_corruption(self, tmp_path):
        folder, _ = run_example("own_corruption", tmp_path)
        robustness = latest(folder).results.experiment("robustness")
        assert robustness.outcomes == {TrialState.DONE: 12}
        assert robustness.corruption == "my_noise.py:streaks"
        plain, trained = (
            [estimate.mean for estimate in robustness.pipelines[name].recall]
            for name in ("plain", "trained-on-streaks")
        )
        assert plain[0] > 0.8 > 0.6 > plain[4]  # streaks in two fifths of the columns
        assert trained[4] > plain[4]

    def test_own_study(self, tmp_path):
        folder, (plan, _, _, sentence) = run_example("own_study", tmp_path)
        assert "18 trials" in plan and "nothing was written" in plan
        sweep = latest(folder).results.training["sweep"]
        assert sweep.grid == ("hidden", "learning_rate") and sweep.outcomes == {TrialState.DONE: 27}
        assert len(sweep.settings) == 9 and sweep.best_setting.keys() == set(sweep.grid)
        assert "sweep:hidden=[64],learning_rate=0.3" in sentence and "n = 3" in sentence

    def test_own_images(self, tmp_path):
        folder, (written, checked, _, predicted) = run_example("own_images", tmp_path)
        assert "triangle" in written and "square" in checked
        best = latest(folder).results.training["cnn"].best
        assert best.metrics["test_accuracy"].mean > 0.6  # by chance: 0.33
        assert re.search(r"new-shape\.png.*triangle", predicted)


def write_digits(folder: Path) -> None:
    """IDX files as MNIST has them, of digits that are bright squares at ten positions."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 600), ("t10k", 200)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = rng.integers(0, 64, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(pixels, labels, strict=True):
            image[5 * (label % 5) : 5 * (label % 5) + 6, 14 * (label // 5) : 14 * (label // 5) + 9] = 255
        for name, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            path = folder / "mnist" / f"{part}-{name}-ubyte"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(header + array.tobytes())


@pytest.mark.integration
def test_whole_story(tmp_path, monkeypatch):
    write_digits(tmp_path)
    monkeypatch.setenv("INKLAB_DATA_DIR", str(tmp_path))
    story = run_command(
        f"python {EXAMPLES / 'whole_story.py'} --quick --max-images 500 --output story.png", tmp_path
    )
    assert re.findall(r"^(\d)\. ", story, re.M) == list("1234567")
    assert "500 training and 200 test images" in story
    dense = float(re.search(r"784-64-64-10: ([\d.]+)% correct", story).group(1))
    assert dense > 60  # by chance: 10
    assert np.asarray(Image.open(tmp_path / "story.png")).std() > 30  # not an empty picture


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.toml")), ids=lambda path: path.stem)
def test_study_files_begin_with_a_comment(path):
    assert path.read_text(encoding="utf-8").startswith("# ")

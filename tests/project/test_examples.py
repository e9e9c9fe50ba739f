"""The examples work as their pages say.

Every command of every page runs in a copy of its folder. Trainings get fewer epochs and one worker
(`SMALLER`); all else is run word by word.
"""

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
from inklab.runs import Run

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = sorted(path.parent.name for path in EXAMPLES.glob("*/README.md"))
NOT_COPIED = shutil.ignore_patterns("__pycache__", "runs", "shapes")
SMALLER = {
    ("own_network", "train"): "--set recipe.epochs=1",
    ("own_network", "run"): "--set plain.recipe.epochs=2 --set residual.recipe.epochs=2",
    ("own_corruption", "run"): "--set denoiser.recipe.epochs=2",
    ("own_study", "run"): "--set sweep.recipe.epochs=1",
    ("own_images", "train"): "--set recipe.epochs=8",
}


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def run_command(line: str, folder: Path) -> str:
    words = shlex.split(line)
    program = {"inklab": [sys.executable, "-m", "inklab"], "python": [sys.executable]}[words[0]]
    environment = {**os.environ, "INKLAB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("INKLAB_RUNS_DIR", None)
    completed = subprocess.run(
        [*program, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert completed.returncode == 0, f"{line}\n{completed.stdout}\n{completed.stderr}"
    return completed.stdout


def run_example(name: str, tmp_path: Path) -> tuple[Run, list[str]]:
    """Run all commands of an example in a copy of its folder; the latest run, and what they printed."""
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder, ignore=NOT_COPIED)
    outputs = [run_command(smaller(name, line), folder) for line in commands(folder / "README.md")]
    return Run(folder / "runs" / "latest"), outputs


def smaller(name: str, line: str) -> str:
    extra = SMALLER.get((name, line.split()[1]))
    return f"{line} {extra} --workers 1" if extra else line


def test_every_example_has_a_page_and_a_test():
    assert FOLDERS == ["own_corruption", "own_images", "own_network", "own_study"]
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(FOLDERS)
    assert all(commands(EXAMPLES / name / "README.md") for name in FOLDERS)


def check_own_network(run: Run, replicates: int, layers: str, sentence: str) -> None:
    assert "BatchNorm1d" in layers and f"n = {replicates}" in sentence
    plain, residual = (run.results.training[name] for name in ("plain", "residual"))
    assert plain.outcomes == residual.outcomes == {TrialState.DONE: replicates}
    assert residual.best.metrics["test_accuracy"].mean > 0.8
    singles = [group for group in run.plan.groups if not group.stacked]
    assert len(singles) == replicates  # batch normalization cannot be stacked (docs/networks.md)


def check_own_corruption(run, evaluations, index):
    """`index` is that of the strength at which streaks lie in two fifths of the columns."""
    robustness = run.results.experiment("robustness")
    assert robustness.outcomes == {TrialState.DONE: evaluations}
    assert robustness.corruption == "my_noise.py:streaks"
    plain, trained = (
        [estimate.mean for estimate in robustness.pipelines[name].recall]
        for name in ("plain", "trained-on-streaks")
    )
    assert plain[0] > 0.8 > 0.6 > plain[index] < trained[index]


def check_own_study(run: Run, replicates: int, plan: str, sentence: str) -> None:
    assert "18 trials" in plan and "nothing was written" in plan
    sweep = run.results.training["sweep"]
    assert sweep.grid == ("hidden", "learning_rate") and sweep.outcomes == {TrialState.DONE: 9 * replicates}
    assert len(sweep.settings) == 9 and sweep.best_setting.keys() == set(sweep.grid)
    assert "hidden=[64],learning_rate=0.3" in sentence and f"n = {replicates}" in sentence


def check_own_images(run: Run, checked: str, predicted: str) -> None:
    assert "square" in checked and re.search(r"new-shape\.png.*triangle", predicted)
    assert run.results.training["cnn"].best.metrics["test_accuracy"].mean > 0.6  # by chance: 0.33


@pytest.mark.integration
class TestCommands:
    def test_own_network(self, tmp_path):
        run, (layers, *_, sentence) = run_example("own_network", tmp_path)
        check_own_network(run, 5, layers, sentence)

    def test_own_corruption(self, tmp_path):
        check_own_corruption(run_example("own_corruption", tmp_path)[0], 12, 4)

    def test_own_study(self, tmp_path):
        run, (plan, _, _, sentence) = run_example("own_study", tmp_path)
        check_own_study(run, 3, plan, sentence)

    def test_own_images(self, tmp_path):
        run, (written, checked, _, predicted) = run_example("own_images", tmp_path)
        assert "triangle" in written
        check_own_images(run, checked, predicted)


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

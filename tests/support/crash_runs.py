"""A study to be killed: dense, convolutional with dropout and denoising trials, stacked or not, evaluations.

It is run by the command line in a process group of its own: a kill hits the runner and its workers alike.
"""

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import toy_run

STUDY = """
name = "crash"
title = "To be killed"
seed = 5

[experiments.mlp]
network = { name = "mlp", hidden = [32], dropout = 0.2 }
recipe = { base = "sgd", epochs = EPOCHS, batch_size = 16, momentum = 0.9, schedule = "cosine", l2 = 1e-3 }
replicates = 2

[experiments.cnn]
network = { name = "cnn", channels = [6], pool = 2, dropout = 0.3, hidden = 16 }
recipe = { base = "sgd", epochs = EPOCHS, batch_size = 16 }
replicates = 1

[experiments.denoiser]
network = { name = "autoencoder", hidden = [24], code = 8 }
recipe = { base = "denoise", epochs = EPOCHS, batch_size = 16 }
replicates = 2

[experiments.robustness]
kind = "robustness"
strengths = [0, 0.4]
images = 60
pipelines = ["cnn", "denoiser+cnn"]
baseline = "cnn"

[experiments.generation]
kind = "generation"
decoder = "denoiser"
classifier = "cnn"
samplers = ["mixture"]
samples = 100
mixture_components = 2
max_fit_images = 100
nn_images = 10

[experiments.findings]
kind = "findings"
"""

EPOCHS = 16
TRIALS, EVALUATIONS = 5, 4


@functools.cache
def study_file(epochs: int = EPOCHS, *, generation: bool = True) -> Path:
    """The study as a file, on the toy's images; without its last evaluations it takes half as long."""
    path = toy_run.home() / f"crash-{epochs}-{generation}.toml"
    text = STUDY.replace("EPOCHS", str(epochs))
    if not generation:
        text = text[: text.index("[experiments.generation]")] + text[text.index("[experiments.findings]") :]
    return toy_run.write_study(path, text)


def begin(
    words: list[str], variables: Mapping[str, str] | None = None, every: float = 0.2
) -> subprocess.Popen[str]:
    """Type a command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "inklab", *words, "--workers", "2", "--checkpoint-every", str(every)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, **(variables or {})},
    )  # fmt: skip


def kill(process: subprocess.Popen[str]) -> None:
    """Kill the runner and its workers at once, as a power cut would."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.communicate()


def finish(folder: Path, epochs: int = EPOCHS) -> str:
    """Run what a user types after a crash; its output."""
    begun = (folder / "plan.json").is_file()
    words = ["resume", str(folder)] if begun else ["run", str(study_file(epochs)), "--run-dir", str(folder)]
    process = begin(words)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    return output


def result(folder: Path) -> dict[str, Any]:
    """All that must be equal: numbers, weights, and the report but for how long it took."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    return {
        "numbers": toy_run.numbers(folder),
        "weights": toy_run.weights(folder),
        "outcomes": sorted(toy_run.outcome_paths(folder)),
        "report": page[page.index('<main id="content"') : page.index('id="how-it-was-made"')],
    }


def gone(group: int, seconds: float = 20.0) -> bool:
    """Whether all processes of a group end by themselves within some seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def leftovers(folder: Path) -> list[str]:
    """What should not lie in a finished run: drafts and half-done things."""
    hidden = [path for path in folder.rglob("*") if path.name.startswith(".") and path.name != ".lock"]
    return [str(path) for path in [*hidden, *folder.glob("work")]]


def assert_equal(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare key by key, so that a difference can be read."""
    for key in expected:
        assert actual[key] == expected[key], f"{key}: {str(actual[key])[:300]}"


def finish_equal(folder: Path, expected: dict[str, Any], epochs: int = EPOCHS) -> str:
    """Finish a run, which must end like another and leave nothing behind; its output."""
    output = finish(folder, epochs)
    assert_equal(result(folder), expected)
    assert leftovers(folder) == []
    return output


def trained(folder: Path) -> int:
    """How many trials have ended."""
    return len(list(folder.glob("trials/*/outcome.json")))


def groups(folder: Path) -> list[list[Path]]:
    """The finished generations of each attempt, oldest first."""
    attempts = sorted(folder.glob("work/*/*/checkpoints"))
    return [sorted(path.parent for path in attempt.glob("*/commit.json")) for attempt in attempts]

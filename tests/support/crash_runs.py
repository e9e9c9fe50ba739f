"""A study to be killed: dense, convolutional with dropout and denoising trials, lifted and not, evaluations.

It is run by the command line in a process group of its own, so that a kill hits driver and workers alike.
"""

import functools
import json
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

[chapters.mlp]
model = { name = "mlp", hidden = [32], dropout = 0.2 }
recipe = { base = "sgd", epochs = EPOCHS, batch = 16, momentum = 0.9, schedule = "cosine", l2 = 1e-3 }
replicates = 2

[chapters.cnn]
model = { name = "cnn", channels = [6], pool = 2, dropout = 0.3, hidden = 16 }
recipe = { base = "sgd", epochs = EPOCHS, batch = 16 }
replicates = 1

[chapters.denoiser]
model = { name = "autoencoder", hidden = [24], code = 8 }
recipe = { base = "denoise", epochs = EPOCHS, batch = 16 }
replicates = 2

[chapters.noise]
kind = "noise"
strengths = [0, 0.4]
images = 60
pipelines = ["cnn", "denoiser+cnn"]
alone = "cnn"

[chapters.generator]
kind = "generator"
decoder = "denoiser"
judge = "cnn"
samplers = ["mixture"]
samples = 100
components = 2
fit_images = 100
nearest_images = 10

[chapters.findings]
kind = "findings"
"""

EPOCHS = 16
TRIALS, EVALUATIONS = 5, 4


@functools.cache
def study_file(epochs: int = EPOCHS, *, generator: bool = True) -> Path:
    """The study as a file, on the toy's images; without its last evaluations it takes half as long."""
    path = toy_run.home() / f"crash-{epochs}-{generator}.toml"
    text = STUDY.replace("EPOCHS", str(epochs))
    if not generator:
        text = text[: text.index("[chapters.generator]")] + text[text.index("[chapters.findings]") :]
    path.write_text(f'{text}\n[data]\nsource = "{toy_run.home() / "toy.npz"}"\n', encoding="utf-8")
    return path


def begin(
    words: list[str], surroundings: Mapping[str, str] | None = None, every: float = 0.2
) -> subprocess.Popen[str]:
    """Type a command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "inklab", *words, "--workers", "2", "--checkpoint-every", str(every)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, **(surroundings or {})},
        # A suite that a shell runs in the background ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def kill(process: subprocess.Popen[str]) -> None:
    """Kill driver and workers at once, as a power cut would."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.communicate()


def finish(folder: Path, epochs: int = EPOCHS) -> str:
    """What a user types after a crash; what it said."""
    begun = (folder / "plan.json").is_file()
    words = ["resume", str(folder)] if begun else ["run", str(study_file(epochs)), "--out", str(folder)]
    process = begin(words)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    return said


def result(folder: Path) -> dict[str, Any]:
    """All that must be equal: numbers, weights, and the report but for how long it took."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    return {
        "numbers": toy_run.numbers(folder),
        "weights": toy_run.weights(folder),
        "outcomes": sorted(toy_run.outcomes(folder)),
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
    found = [path for path in folder.rglob("*") if path.name.startswith(".") and path.name != ".lock"]
    return [str(path) for path in [*found, *folder.glob("work")]]


def generations(folder: Path) -> int:
    """How many finished checkpoints lie in a run."""
    return len(list(folder.glob("work/*/*/checkpoints/*/COMMIT")))


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Compare key by key, so that a difference can be read."""
    for key in wanted:
        assert found[key] == wanted[key], f"{key}: {json.dumps(found[key])[:300]}"


def trained(folder: Path) -> int:
    """How many trials have ended."""
    return len(list(folder.glob("trials/*/outcome.json")))


def groups(folder: Path) -> list[list[Path]]:
    """The finished generations of each attempt, oldest first."""
    attempts = sorted(folder.glob("work/*/*/checkpoints"))
    return [sorted(path.parent for path in each.glob("*/COMMIT")) for each in attempts]


def in_each_group(folder: Path) -> list[int]:
    """How many finished generations each attempt has."""
    return [len(each) for each in groups(folder)]

"""A study that takes seconds: ten made-up classes of 12 x 12 pixels, every kind of chapter, a shared run."""

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inklab.io.documents import write_json
from inklab.study.load import LoadedStudy, load_study, read_study
from inklab.study.resources import ExecutionOptions
from inklab.study.run_directory import RunDirectory
from inklab.study.runner import StudyRunner

SIDE, CLASSES = 12, 10
TRAIN, TEST = 480, 200

STUDY = """
name = "toy"
title = "A toy"
seed = 3

[chapters.images]
kind = "data"

[chapters.mlp]
question = "How far does a small net get?"
model = { name = "mlp", hidden = [16] }
recipe = { base = "sgd", epochs = 4, batch = 32 }
replicates = 2

[chapters.scaled-twice]
model = { name = "mlp", hidden = [16] }
scaling = { spread = 255.0 }
recipe = { base = "sgd", epochs = 4, batch = 32 }
replicates = 1

[chapters.sweep]
model = { name = "mlp", hidden = [16] }
recipe = { base = "sgd", epochs = 4, batch = 32 }
vary = { "recipe.l2" = [0.0, 1e-3, 1e-1] }
replicates = 3

[chapters.cnn]
model = { name = "cnn", channels = [6], pool = 2, dropout = 0.2, hidden = 16 }
recipe = { base = "sgd", epochs = 12, batch = 32 }
replicates = 2

[chapters.denoiser]
model = { name = "autoencoder", hidden = [24], code = 8 }
recipe = { base = "denoise", epochs = 12, batch = 32 }
replicates = 2

[chapters.noise]
kind = "noise"
strengths = [0, 0.3, 0.6]
images = 60
confusions = [0, 0.3]
pipelines = ["cnn", "denoiser+cnn", "median+cnn"]
alone = "cnn"

[chapters.generator]
kind = "generator"
decoder = "denoiser"
judge = "cnn"
samplers = ["binary", "mixture"]
samples = 100
components = 3
fit_images = 200
nearest_images = 10

[chapters.findings]
kind = "findings"
"""

TRIALS, EVALUATIONS = 14, 12
"""9 of the sweep (2 are those of mlp), 1 scaled twice, 2 cnn, 2 denoisers; 3 pipelines and 3 samplers x 2."""


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten blurred patterns, one a class, each image with its own noise: a net learns them in a few epochs."""
    coarse = np.random.default_rng(0).uniform(0, 255, size=(CLASSES, SIDE // 3, SIDE // 3))
    patterns = coarse.repeat(3, axis=1).repeat(3, axis=2)
    labels = np.arange(count) % CLASSES
    noisy = patterns[labels] + np.random.default_rng(seed).normal(0, 25, size=(count, SIDE, SIDE))
    return noisy.clip(0, 255).astype(np.uint8), labels.astype(np.int64)


def write_npz(path: Path) -> Path:
    """The made-up images as a source."""
    (train, train_labels), (test, test_labels) = images(TRAIN, 1), images(TEST, 2)
    np.savez(path, train_images=train, train_labels=train_labels, test_images=test, test_labels=test_labels)
    return path


@functools.cache
def home() -> Path:
    """A folder for everything that the tests share, in whatever file they are; gone when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="inklab-toy-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_npz(folder / "toy.npz")
    (folder / "toy.toml").write_text(f'{STUDY}\n[data]\nsource = "{folder / "toy.npz"}"\n', encoding="utf-8")
    return folder


def study_file() -> str:
    """Path of the toy's study file."""
    return str(home() / "toy.toml")


def study(sets: Sequence[str] = ()) -> LoadedStudy:
    """The toy study, with its data."""
    return load_study(*read_study(study_file(), sets=sets))


def drive(folder: Path, *, workers: int = 2, sets: Sequence[str] = (), watcher: Any = lambda *_: None) -> Any:
    """Run the toy study in a folder; its results."""
    return StudyRunner(study(sets), RunDirectory(folder), ExecutionOptions(workers=workers), watcher).run()


@functools.cache
def finished() -> Path:
    """The run that all tests share. Copy it before you change it."""
    folder = home() / "runs" / "toy" / "base"
    drive(folder)
    return folder


def copied(to: Path) -> Path:
    """A copy of the shared run with its times of change."""
    return Path(shutil.copytree(finished(), to, symlinks=True))


def numbers(folder: Path) -> dict[str, Any]:
    """What must be equal wherever and however it was computed: results without times and machine."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return {key: value for key, value in results.items() if key not in ("seconds", "environment")}


def outcomes(folder: Path) -> dict[str, dict[str, Any]]:
    """Every outcome by its place in the folder, such as `trials/<id>`."""
    found = sorted([*folder.glob("trials/*/outcome.json"), *folder.glob("evaluations/*/outcome.json")])
    return {
        str(path.parent.relative_to(folder)): json.loads(path.read_text(encoding="utf-8")) for path in found
    }


def weights(folder: Path) -> dict[str, str]:
    """The SHA-256 of every trial's weights."""
    return {
        name: told["weights_sha256"] for name, told in outcomes(folder).items() if "weights_sha256" in told
    }


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """When each outcome's file was written and which one it is: moves if it is computed again."""
    return {
        name: ((folder / name / "outcome.json").stat().st_mtime_ns, (folder / name).stat().st_mtime_ns)
        for name in outcomes(folder)
    }


def begun(folder: Path, **how: Any) -> Path:
    """A folder whose frozen plan says how to compute, before anything is computed."""
    made = StudyRunner(study(), RunDirectory(folder), ExecutionOptions(workers=1)).dry_run()[0]
    write_json(folder / "plan.json", {**made, "how": {**made["how"], **how}})
    return folder


NETS = '''
"""Networks that make trouble in training only (a rehearsal shows four images), until a file says no."""

import math
import os
import signal
import time
from pathlib import Path

from torch import nn

HERE = Path(__file__).parent


class Quiet(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(nn.Flatten(), nn.Linear(math.prod(shape), classes))

    def forward(self, images):
        if self.training and len(images) > 4 and not (HERE / "healed").exists():
            self.trouble()
        return super().forward(images)

    def trouble(self):
        pass


class Dies(Quiet):
    def trouble(self):
        os.kill(os.getpid(), signal.SIGKILL)


class DiesOnce(Quiet):
    def trouble(self):
        if not (HERE / "died").exists():
            (HERE / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)


class DiesLater(Quiet):
    """Slowly, so that every step can be kept; in the 20th step that a process takes."""

    taken = 0

    def trouble(self):
        time.sleep(0.03)
        DiesLater.taken += 1
        if DiesLater.taken == 20 and not (HERE / "died later").exists():
            (HERE / "died later").touch()
            os.kill(os.getpid(), signal.SIGKILL)


class HangsOnce(Quiet):
    def trouble(self):
        if not (HERE / "hung").exists():
            (HERE / "hung").touch()
            time.sleep(3600)


class Sleeps(Quiet):
    """From its second step on."""

    taken = 0

    def trouble(self):
        Sleeps.taken += 1
        if Sleeps.taken > 1:
            (HERE / "asleep").touch()
            time.sleep(60)


class Raises(Quiet):
    def trouble(self):
        raise ValueError("on purpose")
'''


def write_nets(folder: Path) -> str:
    """A file of networks: `Quiet`, those that die or hang, and `Raises`; a file `healed` beside it helps."""
    (folder / "nets.py").write_text(NETS, encoding="utf-8")
    return str(folder / "nets.py")

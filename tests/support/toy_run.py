"""A study that takes seconds: ten classes of 12 x 12 pixels, every kind of experiment, one shared run."""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from inline_executor import InlineExecutor

from inklab.records.outcomes import Snapshot
from inklab.records.results import Results
from inklab.study.executor import ExecutorFactory
from inklab.study.jobs import EventCallback, ignore_event
from inklab.study.load import PreparedStudy, prepare_study, read_study
from inklab.study.resources import ExecutionOptions
from inklab.study.run_directory import RunDirectory
from inklab.study.runner import StudyRunner

SIDE, CLASSES = 12, 10
TRAIN, TEST = 480, 200

STUDY = """
name = "toy"
title = "A toy"
seed = 3

[experiments.images]
kind = "data"

[experiments.mlp]
question = "How far does a small net get?"
network = { name = "mlp", hidden = [16] }
recipe = { base = "sgd", epochs = 4, batch_size = 32 }
replicates = 2

[experiments.scaled-twice]
network = { name = "mlp", hidden = [16] }
normalize = { std = 255.0 }
recipe = { base = "sgd", epochs = 4, batch_size = 32 }
replicates = 1

[experiments.sweep]
network = { name = "mlp", hidden = [16] }
recipe = { base = "sgd", epochs = 4, batch_size = 32 }
grid = { "recipe.l2" = [0.0, 1e-3, 1e-1] }
replicates = 3

[experiments.cnn]
network = { name = "cnn", channels = [6], pool = 2, dropout = 0.2, hidden = 16 }
recipe = { base = "sgd", epochs = 12, batch_size = 32 }
replicates = 2

[experiments.denoiser]
network = { name = "autoencoder", hidden = [24], code = 8 }
recipe = { base = "denoise", epochs = 12, batch_size = 32 }
replicates = 2

[experiments.robustness]
kind = "robustness"
strengths = [0, 0.3, 0.6]
images = 60
confusion_at = [0, 0.3]
pipelines = ["cnn", "denoiser+cnn", "median+cnn"]
baseline = "cnn"

[experiments.corruption-error]
kind = "corruption-error"
experiments = ["robustness"]

[experiments.generation]
kind = "generation"
decoder = "denoiser"
classifier = "cnn"
samplers = ["binary", "mixture"]
samples = 100
mixture_components = 3
max_fit_images = 200
nn_images = 10

[experiments.findings]
kind = "findings"
"""

TRIALS, EVALUATIONS = 14, 12
"""9 of the sweep (2 are those of mlp), 1 scaled twice, 2 cnn, 2 denoisers; 3 pipelines and 3 samplers x 2."""


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten blurred patterns, one a class, with its own noise: a net learns them in a few epochs."""
    coarse = np.random.default_rng(0).uniform(0, 255, size=(CLASSES, SIDE // 3, SIDE // 3))
    patterns = coarse.repeat(3, axis=1).repeat(3, axis=2)
    labels = np.arange(count) % CLASSES
    noisy = patterns[labels] + np.random.default_rng(seed).normal(0, 25, size=(count, SIDE, SIDE))
    return noisy.clip(0, 255).astype(np.uint8), labels.astype(np.int64)


def write_npz(path: Path) -> Path:
    """The images as a dataset."""
    (train, train_labels), (test, test_labels) = images(TRAIN, 1), images(TEST, 2)
    np.savez(path, train_images=train, train_labels=train_labels, test_images=test, test_labels=test_labels)
    return path


@functools.cache
def home() -> Path:
    """A directory for everything that tests share, in whatever file they are; gone when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="inklab-toy-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_npz(folder / "toy.npz")
    write_study(folder / "toy.toml", STUDY)
    return folder


def write_study(path: Path, experiments: str) -> Path:
    """A study of these experiments on the toy's images."""
    path.write_text(f'{experiments}\n[data]\ndataset = "{path.parent / "toy.npz"}"\n', encoding="utf-8")
    return path


def study_file() -> str:
    """Path of the toy's study file."""
    return str(home() / "toy.toml")


def study(overrides: Sequence[str] = (), path: str | Path = "") -> PreparedStudy:
    """The toy study or another one, with its data."""
    return prepare_study(read_study(str(path or study_file()), overrides=overrides))


def run(
    folder: Path,
    *,
    path: str | Path = "",
    workers: int = 2,
    overrides: Sequence[str] = (),
    on_event: EventCallback = ignore_event,
    executor: ExecutorFactory = InlineExecutor,
) -> Results:
    """Run the toy study, or that of a file, in a directory, planned for some workers; its results."""
    options = ExecutionOptions(workers=workers)
    runner = StudyRunner(study(overrides, path), RunDirectory(folder), options, on_event, executor=executor)
    return runner.run()


@functools.cache
def finished() -> Path:
    """The run that all tests share. Copy it before you change it."""
    folder = home() / "runs" / "toy" / "base"
    run(folder)
    return folder


def copied(to: Path) -> Path:
    """A copy of the shared run with its times of change."""
    return Path(shutil.copytree(finished(), to, symlinks=True))


def results(folder: Path) -> Results:
    """What stands in a run's results."""
    return Results.read(folder / "results.json")


def numbers(folder: Path) -> dict[str, object]:
    """What must be equal wherever and however it was computed: results without times and machine."""
    return results(folder).model_dump(exclude={"timings", "environment"})


def snapshot(folder: Path) -> Snapshot:
    """The plan and all outcomes of a run."""
    return RunDirectory(folder).snapshot()


def outcome_paths(folder: Path) -> dict[str, Path]:
    """Every outcome's directory by its path in the run, such as `trials/<id>`."""
    paths = sorted([*folder.glob("trials/*/outcome.json"), *folder.glob("evaluations/*/outcome.json")])
    return {str(path.parent.relative_to(folder)): path.parent for path in paths}


def weights(folder: Path) -> dict[str, str | None]:
    """The SHA-256 of every trial's weights."""
    return {id: outcome.weights_sha256 for id, outcome in snapshot(folder).outcomes.items()}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """When each outcome's file was written and which one it is: changes if it is computed again."""
    return {
        name: ((path / "outcome.json").stat().st_mtime_ns, path.stat().st_mtime_ns)
        for name, path in outcome_paths(folder).items()
    }


def begun(folder: Path, **execution: object) -> Path:
    """A directory whose frozen plan says how to compute, before anything is computed."""
    plan, _ = StudyRunner(study(), RunDirectory(folder), ExecutionOptions(workers=1)).dry_run()
    update = {"execution": plan.execution.model_copy(update=execution)}
    plan.model_copy(update=update).write(folder / "plan.json")
    return folder

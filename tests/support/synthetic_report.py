"""A run for figures and the report: the built-in study's plan, with invented outcomes and images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from synthetic_run import SyntheticRun, outcome_of, replace, robustness_outcome

from inklab.data.dataset import ImageSet
from inklab.records.components import Preprocessing
from inklab.records.execution import ExecutionConfig, NetworkTraits
from inklab.records.outcomes import Diagnosis, GenerationOutcome, LayerRow, TrialOutcome, TrialState
from inklab.records.plan import (
    REAL_DATA,
    DataInfo,
    GenerationEvaluation,
    Plan,
    RobustnessEvaluation,
    SplitCounts,
)
from inklab.runs import Run
from inklab.study.load import read_study
from inklab.study.planner import distinct_configs, plan_study

LEVELS = {
    "mlp-64-64": 0.972, "mlp-500-300": 0.9812, "l2-sweep": 0.979, "cnn": 0.9915, "noise-trained-cnn": 0.985,
}  # fmt: skip
"""Experiment to its test accuracy."""
HALFWAY = {"cnn": 0.22, "denoiser+cnn": 0.55, "median+cnn": 0.42, "noise-trained-cnn": 0.75}
"""Pipeline to the strength at which it is half-way down."""
CONFIDENT_SHARES = {"binary": 0.001, "uniform": 0.02, "gaussian": 0.41, "mixture": 0.8, "perturbed": 0.9}
CLASS_SHARES = (0.099, 0.112, 0.099, 0.102, 0.097, 0.09, 0.099, 0.104, 0.098, 0.1)
LAYERS = tuple(
    LayerRow(
        name=name, type="Linear", activation=activation, output_shape=(outputs,), parameters=n, macs=macs
    )
    for name, activation, outputs, n, macs in (
        ("hidden.0", "ReLU", 64, 50_240, 50_176),
        ("hidden.1", "ReLU", 64, 4_160, 4_096),
        ("head", "softmax", 10, 650, 640),
    )
)
"""Of mlp-64-64."""


def digits_plan(
    profile: str = "quick", overrides: Sequence[str] = (), note: str | None = None, test: int = 400
) -> Plan:
    """The plan of the built-in study for invented data of ten classes."""
    loaded = read_study("digits", profile=profile, overrides=overrides)
    totals = {"train": 55_000, "validation": 5_000, "test": test}
    counts = {name: _class_counts(total) for name, total in totals.items()}
    data = DataInfo(
        dataset="mnist", sha256="ab" * 32, shape=(1, 28, 28), labels=tuple("0123456789"),
        counts=SplitCounts(**counts), mean=0.1307, std=0.3081, preprocessing=Preprocessing(), note=note,
    )  # fmt: skip
    execution = ExecutionConfig(precision="bf16")
    configs = distinct_configs(loaded.spec, data, execution)
    networks = {
        key: NetworkTraits(
            vmappable=config.network.name == "mlp", has_convolutions=config.network.name == "cnn",
            uses_global_rng=False, parameters=55_050, macs=54_912,
        )
        for key, config in configs.items()
    }  # fmt: skip
    return plan_study(loaded.spec, loaded.profile, data, execution, networks)


def plan_of(names: Sequence[str], overrides: Sequence[str] = (), profile: str = "quick") -> Plan:
    """The plan of some experiments of the digits study, and of those that they depend on."""
    plan = digits_plan(profile, overrides)
    evaluations = [plan.evaluations[id] for name in names for id in plan.evaluations_of(name)]
    needed = {trial for evaluation in evaluations for trial in evaluation.depends_on}
    kept_names = {*names, *(plan.setting_of(trial).experiment.name for trial in needed)}
    experiments = [experiment for experiment in plan.experiments if experiment.name in kept_names]
    trials = {trial: plan.trials[trial] for name in kept_names for trial in plan.trials_of(name)}
    groups = [
        replace(group, trials=[trial for trial in group.trials if trial in trials])
        for group in plan.groups
        if trials.keys() & set(group.trials)
    ]
    return replace(plan, experiments=experiments, trials=trials, groups=groups)


def _class_counts(total: int) -> tuple[int, ...]:
    counts = [int(share * total) for share in CLASS_SHARES[:-1]]
    return (*counts, total - sum(counts))


def write_report_run(
    path: Path, plan: Plan, pixels: np.ndarray | None = None, labels: np.ndarray | None = None
) -> Run:
    return invent_outcomes(plan, pixels, labels).write(path)


def invent_outcomes(
    plan: Plan, pixels: np.ndarray | None = None, labels: np.ndarray | None = None
) -> SyntheticRun:
    """A finished run of a plan; its images are blots unless real ones are given."""
    rng = np.random.default_rng(0)
    if pixels is None or labels is None:
        labels = np.arange(400, dtype=np.int64) % 10
        pixels = _draw_blots(labels, rng)
    run = SyntheticRun(plan, test_set=ImageSet(pixels, labels.astype(np.int64)))
    for trial in plan.trials:
        run.outcomes[trial] = _invent_training(plan, trial, rng)
        is_denoiser = plan.config(trial).recipe.objective == "reconstruct"
        run.stored[trial] = _examples(pixels, rng) if is_denoiser else _predictions(labels, rng)
    for evaluation in plan.evaluations.values():
        if isinstance(evaluation, RobustnessEvaluation):
            _invent_robustness(run, evaluation, run.test_set, rng)
        else:
            _invent_generation(run, evaluation, pixels, rng)
    return run


def _draw_blots(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    pixels = np.zeros((len(labels), 1, 28, 28), np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[0, 4 : 6 + 2 * label, 8:20] = rng.integers(120, 255, (2 + 2 * label, 12))
    return pixels


def _invent_training(plan: Plan, trial: str, rng: np.random.Generator) -> TrialOutcome:
    experiment, setting = plan.setting_of(trial)
    config, replicate = plan.config(trial), plan.trials[trial].replicate
    index = experiment.settings.index(setting)
    gain = (0, 0.0002, 0.0004, 0.0001, -0.012)[index % 5] if len(experiment.settings) > 1 else 0
    level = LEVELS.get(experiment.name, 0.97) + gain + rng.normal(0, 0.0012)
    if experiment.task == "denoising":
        columns, metrics = _denoiser_numbers(config.recipe.epochs, rng)
    elif experiment.name == "scaled-twice":
        columns, metrics = _stuck_numbers(config.recipe.epochs, rng)
    else:
        columns, metrics = _classifier_numbers(config.recipe.epochs, level, rng)
    history = {"epoch": range(1, config.recipe.epochs + 1), **columns}
    diagnoses = [STUCK] if experiment.name == "scaled-twice" else []
    return outcome_of(
        trial, config, replicate, metrics, history={name: tuple(column) for name, column in history.items()},
        diagnoses=diagnoses, layers=LAYERS, seconds=11.0,
    )  # fmt: skip


STUCK = Diagnosis(
    name="inputs-scaled-twice",
    message="no input exceeds 0.0039, and the loss has hardly moved from log 10 = 2.3026",
    advice="divide the images by 255 once; see whether the data were scaled before they came here",
    evidence={"largest_input": 1 / 255, "first_loss": 2.3},
)

Numbers = tuple[dict[str, np.ndarray], dict[str, float]]
"""Columns of a history, and metrics."""


def _classifier_numbers(epochs: int, level: float, rng: np.random.Generator) -> Numbers:
    epoch = np.arange(1, epochs + 1)
    error = (1 - level) + 0.07 * np.exp(-epoch / 2.5) + rng.normal(0, 0.0006, epochs)
    train = np.maximum(1e-4, 0.006 + 0.09 * np.exp(-epoch / 3) + rng.normal(0, 0.0004, epochs))
    columns = {
        "train_loss": 3.4 * train, "validation_loss": 3.5 * error,
        "train_accuracy": 1 - train, "validation_accuracy": 1 - error,
    }  # fmt: skip
    metrics = {
        "test_accuracy": level, "test_loss": 3.4 * (1 - level),
        "validation_accuracy": 1 - error[-1], "validation_loss": 3.5 * error[-1],
    }  # fmt: skip
    return columns, metrics


def _stuck_numbers(epochs: int, rng: np.random.Generator) -> Numbers:
    loss = 2.3006 - 0.002 * np.arange(1, epochs + 1) + rng.normal(0, 0.0001, epochs)
    flat = np.full(epochs, 0.1135)
    columns = {
        "train_loss": loss, "validation_loss": loss, "train_accuracy": flat, "validation_accuracy": flat,
    }  # fmt: skip
    metrics = {"test_accuracy": 0.1135, "test_loss": loss[-1]}
    metrics |= {"validation_accuracy": 0.1135, "validation_loss": loss[-1]}
    return columns, metrics


def _denoiser_numbers(epochs: int, rng: np.random.Generator) -> Numbers:
    loss = 0.117 + 0.1 * np.exp(-np.arange(1, epochs + 1) / 3) + rng.normal(0, 0.0005, epochs)
    metrics = {
        "test_bce": loss[-1] + 0.002, "test_psnr": 16.2, "validation_bce": loss[-1] + 0.002,
        "validation_psnr": 16.1, "train_bce": loss[-1],
    }  # fmt: skip
    return {"train_loss": loss, "validation_loss": loss + 0.002}, metrics


def _predictions(labels: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    is_wrong = rng.random(len(labels)) > 0.97
    predicted = np.where(is_wrong, (labels + 5) % 10, labels).astype(np.int16)
    return {"predicted": predicted, "confidence": rng.uniform(0.5, 1, len(labels)).astype(np.float32)}


def _examples(pixels: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    clean = pixels[:10]
    return {"clean": clean, "inputs": corrupt(clean, 0.4, rng), "outputs": blur(clean)}


def corrupt(images: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    dice = rng.random(images.shape)
    return np.where(dice < strength, np.where(dice < strength / 2, 255, 0), images).astype(np.uint8)


def blur(images: np.ndarray) -> np.ndarray:
    shifted = [np.roll(images.astype(float), (dx, dy), (2, 3)) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    return np.mean(shifted, axis=0).astype(np.uint8)


def _invent_robustness(
    run: SyntheticRun, evaluation: RobustnessEvaluation, test_set: ImageSet, rng: np.random.Generator
) -> None:
    labels = (np.arange(evaluation.images) % 10).astype(np.uint8)
    hard = rng.random(len(labels))
    firsts = [int(np.flatnonzero(test_set.labels == label)[0]) for label in range(10)]
    halfway, luck = HALFWAY.get(evaluation.pipeline, 0.4), rng.normal(0, 0.004)
    top = 0.97 if evaluation.pipeline.denoisers else 0.989
    shares = [0.1 + (top - 0.1 + luck) / (1 + np.exp((s - halfway) / 0.07)) for s in evaluation.strengths]
    is_right = np.stack([hard < share + 0.03 * np.sin(labels) * (share < 0.95) for share in shares])
    pixels = test_set.pixels[firsts]
    corrupted = np.stack([corrupt(pixels, s, np.random.default_rng(1)) for s in evaluation.strengths])
    run.stored[evaluation.id] = {
        "predicted": np.where(is_right, labels, (labels * 3 + 8) % 10).astype(np.uint8),
        "labels": labels, "indices": np.arange(len(labels)),
        "corrupted": corrupted, "denoised": np.stack([blur(images) for images in corrupted]),
    }  # fmt: skip
    run.evaluations[evaluation.id] = robustness_outcome(evaluation, labels, is_right, 10, 20.0)


def _invent_generation(
    run: SyntheticRun, evaluation: GenerationEvaluation, pixels: np.ndarray, rng: np.random.Generator
) -> None:
    common: dict[str, Any] = {"evaluation": evaluation, "state": TrialState.DONE, "seconds": 9.0}
    if evaluation.sampler == REAL_DATA:
        run.stored[evaluation.id] = {"images": pixels[:10], "reconstructions": blur(pixels[:10])}
        run.evaluations[evaluation.id] = GenerationOutcome(
            confident_share=0.985,
            confident_share_reconstructed=0.89,
            frechet_distance=1.3,
            nn_distance=6.1,
            manifold_precision=0.98,
            manifold_recall=0.97,
            density=1.0,
            coverage=0.97,
            **common,
        )
        return
    share = CONFIDENT_SHARES.get(evaluation.sampler, 0.5)
    images = corrupt(blur(rng.permutation(pixels)[:100]), 0.5 * (1 - share), rng)
    run.stored[evaluation.id] = {
        "images": images, "neighbors": pixels[:10],
        "confidence": np.ones(len(images), np.float32), "predicted": np.zeros(len(images), np.uint8),
    }  # fmt: skip
    run.evaluations[evaluation.id] = GenerationOutcome(
        confident_share=share, frechet_distance=10 / (share + 0.01), nn_distance=5.2, nearer_share=0.6,
        manifold_precision=0.9 * share, manifold_recall=0.8 * share, density=share, coverage=0.9 * share,
        class_shares=tuple(rng.dirichlet(np.full(10, 8.0))) if share > 0.01 else None, **common,
    )  # fmt: skip

"""Runs with untrained models for the drawing pad of the report, and what its page computes."""

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from synthetic_run import SyntheticRun, make_plan, outcome_of

from inklab.data.dataset import ImageSet
from inklab.metrics import Task
from inklab.model import TrainedModel
from inklab.networks.layers import Normalize, NormalizedModel, for_inference
from inklab.networks.network import build_network
from inklab.records.components import NetworkConfig, NormalizeConfig, Preprocessing
from inklab.records.plan import DataInfo, Setting, SplitCounts, TrainingPlan
from inklab.records.recipe import CorruptionConfig, Recipe, TrialConfig
from inklab.runs import Run
from inklab.seeding import Seed

DIGITS = tuple("0123456789")
MLP = NetworkConfig.of("mlp", hidden=[64, 64])
DENOISER = NetworkConfig.of("autoencoder", hidden=[128], code=96)
RECIPES = {
    "mlp": Recipe(),
    "autoencoder": Recipe(
        objective="reconstruct", corruption=CorruptionConfig(name="salt_and_pepper", strength=(0.4, 0.4))
    ),
}


def invent_pad_run(
    *networks: NetworkConfig,
    shape: tuple[int, int, int] = (1, 28, 28),
    labels: tuple[str, ...] = DIGITS,
    normalize: NormalizeConfig | None = None,
) -> SyntheticRun:
    """A run with an experiment (e0, e1, ...) for each network, and in it one trial (t0, ...) that is done."""
    experiments, configs, outcomes = [], {}, {}
    for i, network in enumerate(networks):
        config = TrialConfig(
            network=network, normalize=normalize or NormalizeConfig(), recipe=RECIPES[network.name],
            precision="fp32",
        )  # fmt: skip
        configs[f"c{i}"], trial = config, f"t{i}"
        experiments.append(
            TrainingPlan(
                name=f"e{i}", title=f"Experiment {i}", question="?", grid=(), task=_task(network),
                settings=(Setting(values={}, config=f"c{i}", trials=(trial,)),),
            )
        )  # fmt: skip
        outcomes[trial] = outcome_of(trial, config, 0, {"test_accuracy": 0.5})
    counts = SplitCounts(train=(6,) * len(labels), validation=(2,) * len(labels), test=(2,) * len(labels))
    data = DataInfo(
        dataset="mine", sha256="f" * 64, shape=shape, labels=labels, counts=counts, mean=0.5, std=0.5,
        preprocessing=_preprocessing(shape), note=None,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    pixels = (rng.random((60, *shape)) ** 4 * 255).astype(np.uint8)
    test_set = ImageSet(pixels, np.arange(60) % len(labels))
    plan = make_plan(experiments, configs, data)
    return SyntheticRun(plan, outcomes, test_set=test_set)


def write_pad_run(path: Path, run: SyntheticRun) -> Run:
    data = run.plan.data
    for trial in run.plan.trials:
        config = run.plan.config(trial)
        save_model(path / "trials" / trial / "model", config, data.shape, data.labels)
    return run.write(path)


def pad_run(path: Path, *networks: NetworkConfig, **fields: Any) -> Run:
    return write_pad_run(path, invent_pad_run(*networks, **fields))


def save_model(
    path: Path, config: TrialConfig, shape: tuple[int, int, int], labels: tuple[str, ...]
) -> TrainedModel:
    """An untrained network with large weights, so that its probabilities are far from even."""
    net = build_network(config.network, shape, len(labels), Seed(1))
    with torch.no_grad():
        for i, weights in enumerate(net.parameters()):
            noise = torch.randn(weights.shape, generator=(Seed(2) / "bias" / i).generator())
            weights.add_(noise * (0.3 if weights.dim() == 1 else 0.02))
    model = TrainedModel.of(
        for_inference(NormalizedModel(Normalize(config.normalize.mean, config.normalize.std), net)),
        config.network, _task(config.network), labels, _preprocessing(shape),
    )  # fmt: skip
    model.save(path)
    return model


def _task(network: NetworkConfig) -> Task:
    return "denoising" if network.name == "autoencoder" else "classification"


def _preprocessing(shape: tuple[int, int, int]) -> Preprocessing:
    channels, height, width = shape
    if channels != 1:
        return Preprocessing.resize_only(shape)
    return Preprocessing(height=height, width=width, fit_to=min(height, width) * 5 // 7)


def predict_in_page(page, pixels: np.ndarray, **options: float) -> dict[str, np.ndarray]:
    """What the page's networks compute for images, called like from the browser's console."""
    images = [base64.b64encode(image.tobytes()).decode() for image in pixels]
    results = page.evaluate(
        """([images, options]) => images.map(image => {
            const bytes = Uint8Array.from(atob(image), letter => letter.charCodeAt(0));
            return inklab.predict(bytes, options);
        })""",
        [images, options],
    )
    keys = [key for key, value in results[0].items() if value is not None]
    return {key: np.array([result[key] for result in results], float) for key in keys}


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(pixels, np.float32)) / 255


def script_tags(page: str) -> list[str]:
    return re.findall(r"<script[^>]*>", page)

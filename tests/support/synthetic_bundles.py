"""Runs with bundles of untrained networks, for the pad of the report, and what it makes of images."""

import base64
import re
from pathlib import Path

import numpy as np
import torch
from synthetic_report import MadeUp

from inklab.data.preprocessing import Preprocessing
from inklab.model import TrainedModel
from inklab.networks.layers import Normalize, NormalizedModel, for_inference
from inklab.networks.network import build_net
from inklab.run import StoredRun
from inklab.seeding import Seed
from inklab.study.run_directory import RunDirectory

DIGITS = tuple("0123456789")
SMALL = {"name": "mlp", "hidden": [64, 64]}
DENOISER = {"name": "autoencoder", "hidden": [128], "code": 96}


def keep_bundle(folder: Path, model, shape, labels=DIGITS, scaling=(0.0, 1.0)) -> TrainedModel:
    """A bundle of an untrained network with large weights, so that its probabilities are far from even."""
    net = build_net(model, shape, len(labels), Seed(1))
    with torch.no_grad():
        for i, each in enumerate(net.parameters()):
            noise = Seed(2) / "bias" / i
            each.add_(
                torch.randn(each.shape, generator=noise.generator()) * (0.3 if each.dim() == 1 else 0.02)
            )
    target = "images" if model["name"] == "autoencoder" else "labels"
    framing = Preprocessing(height=shape[1], width=shape[2], box=min(shape[1:]) * 5 // 7).to_json()
    bundle = TrainedModel(
        for_inference(NormalizedModel(Normalize(*scaling), net)), model, shape, labels, target, framing
    )
    bundle.save(folder)
    return bundle


def made_up(path: Path, *models, shape=(1, 28, 28), labels=DIGITS, scaling=(0.0, 1.0)) -> MadeUp:
    """A run with one chapter for each model, each done."""
    data = {"source": "mine", "sha256": "f" * 64, "train": 60, "validation": 20, "test": 20, "note": None}
    data |= {"shape": list(shape), "labels": list(labels), "counts": {}}
    plan = {"format": 1, "study": "mine", "title": "Mine", "profile": "plain", "seed": 3, "data": data}
    run = MadeUp(path, plan | {"how": {}, "chapters": [], "trials": {}, "groups": []})
    for i, model in enumerate(models):
        keep_bundle(path / "trials" / f"t{i}" / "bundle", model, shape, labels, scaling)
        objective = "reconstruct" if model["name"] == "autoencoder" else "classify"
        noise = {"name": "salt_and_pepper", "strength": [0.4, 0.4]} if objective == "reconstruct" else None
        recipe = {"objective": objective, "corruption": noise}
        settings = {"model": model, "recipe": recipe, "precision": "fp32"}
        chapter = {"name": f"c{i}", "kind": "train", "title": f"Chapter {i}", "question": "?", "answers": []}
        chapter |= {"vary": [], "settings": [{"values": {}, "settings": settings, "trials": [f"t{i}"]}]}
        run.plan["chapters"].append(chapter)
        run.outcomes[f"t{i}"] = {
            "id": f"t{i}",
            "replicate": 0,
            "state": "done",
            "parameters": 7,
            "seconds": 1.0,
        }
        run.outcomes[f"t{i}"] |= {"reason": None, "scores": {}, "verdicts": [], "history": {}}
    rng = np.random.default_rng(0)
    run.labels = np.arange(60) % len(labels)
    run.pixels = (rng.random((60, *shape)) ** 4 * 255).astype(np.uint8)
    return run


def toy_view(folder: Path) -> StoredRun:
    return StoredRun(RunDirectory(folder))


def judged(page, pixels: np.ndarray, **how) -> dict[str, np.ndarray]:
    """What the page's networks make of images, put in through the console."""
    told = [[base64.b64encode(each.tobytes()).decode() for each in pixels], how]
    found = page.evaluate(
        """([images, how]) => images.map(image => {
            const bytes = Uint8Array.from(atob(image), letter => letter.charCodeAt(0));
            return inklab.judge(bytes, how);
        })""",
        told,
    )
    return {
        key: np.array([each[key] for each in found], float) for key in found[0] if found[0][key] is not None
    }


def tensor(pixels) -> torch.Tensor:
    return torch.from_numpy(np.asarray(pixels, np.float32))


def scripts(page: str) -> list[str]:
    """The tags that begin a script in a page."""
    return re.findall(r"<script[^>]*>", page)

"""A run folder's contents with realistic shapes and made-up numbers, for tests of what reads runs."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Json = dict[str, Any]
CLASSES = 4
STRENGTHS = [0, 0.1, 0.2, 0.3, 0.4, 0.5]
CLEANED = {"cnn": (0.98, 1.5), "denoiser+cnn": (0.95, 0.3), "median+cnn": (0.97, 0.7)}
"""Pipeline -> its accuracy on clean images, and what a strength of 1 takes away."""


@dataclass
class Run:
    plan: Json
    outcomes: dict[str, Json] = field(default_factory=dict)
    evaluations: dict[str, Json] = field(default_factory=dict)
    stored: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def arrays(self, evaluation: str) -> dict[str, np.ndarray]:
        return self.stored[evaluation]

    def chapter(self, name: str) -> Json:
        return next(each for each in self.plan["chapters"] if each["name"] == name)

    def fail(self, trial: str, state: str = "diverged") -> None:
        self.outcomes[trial] |= {"state": state, "scores": None, "reason": "the loss became NaN in epoch 2"}


def synthetic_run(replicates: int = 3, images: int = 800) -> Run:
    """All kinds of chapters of the digits study, every trial done. `replicates`: of cnn and denoiser."""
    data: Json = {"source": "mnist", "sha256": "a" * 64, "train": 55000, "validation": 5000, "test": 10000}
    data |= {"note": None, "shape": [1, 28, 28], "labels": [str(k) for k in range(CLASSES)]}
    data["counts"] = {part: [data[part] // CLASSES] * CLASSES for part in ("train", "validation", "test")}
    head: Json = {"format": 1, "study": "digits", "title": "Digits", "profile": "quick", "seed": 0}
    run = Run(head | {"data": data, "chapters": [], "trials": {}, "groups": []})
    _add(run, "data", "data")
    reference = {
        "who": "the source",
        "values": {"test_accuracy": 0.1135, "parameters": 55050},
        "differs": "one run",
    }
    _train(run, "mlp-64-64", 0.97, 3)["reference"] = reference
    _train(run, "scaled-twice", 0.1135, 1)
    verdict = {"name": "inputs-scaled-twice", "finding": "inputs lie below 0.004", "advice": "scale once"}
    run.outcomes["scaled-twice-0-0"]["verdicts"] = [verdict | {"evidence": {}}]
    _train(run, "l2-sweep", 0.975, 6, vary={"l2": {1e-6: 0.0, 1e-5: 0.0004, 1e-3: -0.02}})
    _train(run, "cnn", 0.99, replicates)
    _train(run, "denoiser", 0.12, replicates, objective="reconstruct")
    _noise(run, replicates, images)
    _generator(run)
    _add(run, "findings", "findings")
    return run


def _add(run: Run, name: str, kind: str, **more: Any) -> Json:
    told = {"name": name, "kind": kind, "title": name, "question": f"What of {name}?", "answers": []}
    run.plan["chapters"].append(told | more)
    return run.plan["chapters"][-1]


def _train(
    run: Run, name: str, level: float, n: int, objective: str = "classify", vary: Json | None = None
) -> Json:
    rng = np.random.default_rng(sum(name.encode()))
    luck = rng.normal(0, 0.0008, n)  # of a replicate, shared by all settings
    settings = []
    for place, (value, gain) in enumerate(next(iter(vary.values())).items() if vary else [(None, 0.0)]):
        recipe = {"objective": objective, "l2": value or 0.0}
        spelt = {"model": {"name": "mlp"}, "recipe": recipe, "precision": "fp32"}
        ids = [f"{name}-{place}-{k}" for k in range(n)]
        settings.append(
            {"values": {next(iter(vary)): value} if vary else {}, "settings": spelt, "trials": ids}
        )
        for k, trial in enumerate(ids):
            mean = level + gain + luck[k] + rng.normal(0, 0.0002)
            run.plan["trials"][trial] = {"settings": spelt, "replicate": k}
            run.outcomes[trial] = _outcome(trial, k, _scores(mean, objective))
    chapter = _add(run, name, "train", vary=list(vary or []), settings=settings)
    return chapter


def _outcome(trial: str, replicate: int, scores: Json) -> Json:
    told = {"format": 1, "id": trial, "replicate": replicate, "state": "done", "reason": None}
    return told | {"parameters": 55050, "scores": scores, "verdicts": [], "seconds": 2.0}


def _scores(mean: float, objective: str) -> Json:
    if objective == "reconstruct":
        return {"test_bce": mean, "test_psnr": 15.0, "validation_bce": mean + 0.001, "validation_psnr": 15.1}
    told = {"test_accuracy": mean, "test_loss": 3 * (1 - mean)}
    return told | {"validation_accuracy": mean + 0.001, "validation_loss": 3 * (1 - mean)}


def _noise(run: Run, replicates: int, images: int) -> None:
    labels = (np.arange(images) % CLASSES).astype(np.uint8)
    planned = []
    for pipeline, (clean, slope) in CLEANED.items():
        for k in range(replicates):
            name = f"noise-{pipeline}-{k}"
            needs = [f"cnn-0-{k}"] + ([f"denoiser-0-{k}"] if "denoiser" in pipeline else [])
            planned.append({"id": name, "pipeline": pipeline, "replicate": k, "needs": needs})
            rng = np.random.default_rng(k)  # the same images are hard for every pipeline
            hard, luck = rng.random(images), rng.normal(0, 0.002)
            right = np.stack([hard < clean + luck - slope * s for s in STRENGTHS])
            predicted = np.where(right, labels, (labels + 1) % CLASSES).astype(np.uint8)
            run.stored[name] = {"predicted": predicted, "labels": labels, "indices": np.arange(images)}
            per_class = [[float(row[labels == c].mean()) for c in range(CLASSES)] for row in right]
            told = {"id": name, "kind": "noise", "state": "done", "seconds": 1.0, "strengths": STRENGTHS}
            told |= {"tpr_per_class": per_class, "tpr": [float(np.mean(row)) for row in per_class]}
            run.evaluations[name] = told | {"accuracy": [float(row.mean()) for row in right]}
    more = {"strengths": STRENGTHS, "images": images, "confusions": [0, 0.2], "pipelines": list(CLEANED)}
    _add(run, "noise", "noise", corruption="salt_and_pepper", alone="cnn", evaluations=planned, **more)


def _generator(run: Run) -> None:
    found = {"binary": (0.0, 90.0), "gaussian": (0.41, 20.0), "perturbed": (0.8, 9.0)}
    planned = [
        {"id": f"g-{name}", "sampler": name, "replicate": 0, "needs": []} for name in [*found, "floor"]
    ]
    for name, (recognised, frechet) in found.items():
        told = {
            "kind": "generator",
            "state": "done",
            "recognised": recognised,
            "frechet": frechet,
            "nearest": 5.0,
        }
        run.evaluations[f"g-{name}"] = told | {"classes": [1 / CLASSES] * CLASSES if recognised else None}
    floor = {"state": "done", "recognised": 0.97, "reconstructed": 0.89, "frechet": 1.2, "seconds": 3.0}
    run.evaluations["g-floor"] = floor
    more: Json = {"decoder": "denoiser", "judge": "cnn", "samples": 10000, "samplers": list(found)}
    _add(run, "generator", "generator", evaluations=planned, **more)

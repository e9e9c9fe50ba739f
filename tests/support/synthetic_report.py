"""A run for figures and the report: the built-in study's plan, with made-up outcomes and pictures."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from inklab.results.narrative import sentence
from inklab.results.summarize import summarize
from inklab.study.grouping import ExecutionConfig, TrainingMode
from inklab.study.load import read_study
from inklab.study.planner import DataIdentity, plan

Json = dict[str, Any]
LEVEL = {
    "mlp-64-64": 0.972,
    "mlp-500-300": 0.9812,
    "l2-sweep": 0.979,
    "cnn": 0.9915,
    "noise-trained-cnn": 0.985,
}
FALL = {"cnn": 0.22, "denoiser+cnn": 0.55, "median+cnn": 0.42, "noise-trained-cnn": 0.75}
"""The strength at which a pipeline is half-way down."""
DRAWN = {"binary": 0.001, "uniform": 0.02, "gaussian": 0.41, "mixture": 0.8, "perturbed": 0.9}


@dataclass
class MadeUp:
    """A `RunView` over dictionaries."""

    path: Path
    plan: Json
    results: Json = field(default_factory=dict)
    sentences: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, Json] = field(default_factory=dict)
    evaluations: dict[str, Json] = field(default_factory=dict)
    stored: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 28, 28), np.uint8))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def outcome(self, trial: str) -> Json | None:
        return self.outcomes.get(trial)

    def evaluation(self, evaluation: str) -> Json | None:
        return self.evaluations.get(evaluation)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        return self.stored.get(name, {})

    def samples(self) -> tuple[np.ndarray, np.ndarray, list[str]] | None:
        names = self.plan["data"]["labels"]
        picks = np.concatenate([np.flatnonzero(self.labels == k)[:10] for k in range(len(names))])
        return (self.pixels[picks], self.labels[picks], names) if len(picks) else None

    def test_images(self, indices: np.ndarray) -> np.ndarray | None:
        return self.pixels[indices] if len(self.pixels) else None

    def test_labels(self) -> np.ndarray | None:
        return self.labels if len(self.labels) else None

    def chapter(self, name: str) -> Json:
        return next(one for one in self.plan["chapters"] if one["name"] == name)

    def summarise(self) -> "MadeUp":
        """Compute results and sentences from the outcomes, as the driver does."""
        facts = {"cpu": "a processor", "python": "3.11.7", "torch": "2.13.0", "inklab": "0.1.0"}
        self.results = summarize(self.plan, self.outcomes, self.evaluations, self.arrays, environment=facts)
        chapters = self.results["chapters"]
        self.sentences = {
            c["name"]: sentence(c, chapters.get(c["name"]) or {}) for c in self.plan["chapters"]
        }
        return self


def digits_plan(
    profile: str = "quick", sets: tuple[str, ...] = (), note: str | None = None, test: int = 10_000
) -> Json:
    """The plan of the built-in study for made-up data of ten classes."""
    spec, name = read_study("digits", profile=profile, sets=sets)
    totals = {"train": 55_000, "validation": 5_000, "test": test}
    shares = np.array([9.9, 11.2, 9.9, 10.2, 9.7, 9.0, 9.9, 10.4, 9.8, 10.0]) / 100
    counts = {part: [int(n) for n in shares * total] for part, total in totals.items()}
    names = tuple(str(k) for k in range(10))
    data = DataIdentity("mnist", "ab" * 32, (1, 28, 28), names, counts, 0.1307, 0.3081, {}, note)
    return plan(
        spec,
        name,
        data,
        ExecutionConfig("bf16"),
        lambda told: TrainingMode(told["model"]["name"] == "mlp", random=False),
    )


def made_up_run(
    path: Path, chosen: Json, pixels: np.ndarray | None = None, labels: np.ndarray | None = None
) -> MadeUp:
    """A finished run of a plan; pictures are blots unless real ones are given."""
    rng = np.random.default_rng(0)
    if pixels is None or labels is None:
        labels = np.arange(400, dtype=np.int64) % 10
        pixels = _blots(labels, rng)
    run = MadeUp(path, chosen, pixels=pixels, labels=labels)
    for chapter in chosen["chapters"]:
        if chapter["kind"] == "train":
            _train(run, chapter, rng)
        elif chapter["kind"] == "noise":
            _noise(run, chapter, rng)
        elif chapter["kind"] == "generator":
            _generator(run, chapter, rng)
    return run.summarise()


def _blots(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    pixels = np.zeros((len(labels), 1, 28, 28), np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[0, 4 : 6 + 2 * label, 8:20] = rng.integers(120, 255, (2 + 2 * label, 12))
    return pixels


def _train(run: MadeUp, chapter: Json, rng: np.random.Generator) -> None:
    name = chapter["name"]
    for place, setting in enumerate(chapter["settings"]):
        gain = [0, 0.0002, 0.0004, 0.0001, -0.012][place % 5] if len(chapter["settings"]) > 1 else 0
        for replicate, trial in enumerate(setting["trials"]):
            settings = setting["settings"]
            told = {"format": 1, "id": trial, "settings": settings, "replicate": replicate, "state": "done"}
            level = LEVEL.get(name, 0.97) + gain + rng.normal(0, 0.0012)
            denoiser = settings["recipe"]["objective"] == "reconstruct"
            made = _denoiser if denoiser else _twice if name == "scaled-twice" else _classifier
            told |= {"reason": None, "seconds": 11.0, "verdicts": [], "parameters": 55_050, "layers": LAYERS}
            run.outcomes[trial] = told | made(settings["recipe"]["epochs"], level, rng)
            if denoiser:
                run.stored[trial] = _examples(run.pixels, rng)
            else:
                run.stored[trial] = _predictions(run.labels, level, rng)


LAYER_NUMBERS = [
    ("hidden.0", "ReLU", 64, 50240, 50176),
    ("hidden.1", "ReLU", 64, 4160, 4096),
    ("head", "softmax", 10, 650, 640),
]
LAYERS = [
    {
        "layer": name,
        "kind": "Linear",
        "activation": bend,
        "output": [units],
        "parameters": p,
        "multiply_adds": m,
    }
    for name, bend, units, p, m in LAYER_NUMBERS
]


def _classifier(epochs: int, level: float, rng: np.random.Generator) -> Json:
    at = np.arange(1, epochs + 1)
    miss = (1 - level) + 0.07 * np.exp(-at / 2.5) + rng.normal(0, 0.0006, epochs)
    train = np.maximum(1e-4, 0.006 + 0.09 * np.exp(-at / 3) + rng.normal(0, 0.0004, epochs))
    history = {
        "epoch": at.tolist(),
        "train_loss": (3.4 * train).tolist(),
        "validation_loss": (3.5 * miss).tolist(),
    }
    history |= {"train_accuracy": (1 - train).tolist(), "validation_accuracy": (1 - miss).tolist()}
    scores = {"test_accuracy": level, "test_loss": 3.4 * (1 - level)}
    scores |= {"validation_accuracy": 1 - miss[-1], "validation_loss": 3.5 * miss[-1]}
    return {"history": history, "scores": scores}


def _twice(epochs: int, level: float, rng: np.random.Generator) -> Json:
    at = np.arange(1, epochs + 1)
    loss = (2.3006 - 0.002 * at + rng.normal(0, 0.0001, epochs)).tolist()
    flat = [0.1135] * epochs
    history = {"epoch": at.tolist(), "train_loss": loss, "validation_loss": loss}
    history |= {"train_accuracy": flat, "validation_accuracy": flat}
    scores = {
        "test_accuracy": 0.1135,
        "test_loss": loss[-1],
        "validation_accuracy": 0.1135,
        "validation_loss": loss[-1],
    }
    verdict = {
        "name": "inputs-scaled-twice",
        "finding": "no input exceeds 0.0039, and the loss has hardly moved from log 10 = 2.3026",
        "advice": "divide the images by 255 once; see whether the data were scaled before they came here",
        "evidence": {"largest_input": 1 / 255, "first_loss": loss[0], "last_loss": loss[-1]},
    }
    return {"history": history, "scores": scores, "verdicts": [verdict]}


def _denoiser(epochs: int, level: float, rng: np.random.Generator) -> Json:
    at = np.arange(1, epochs + 1)
    loss = 0.117 + 0.1 * np.exp(-at / 3) + rng.normal(0, 0.0005, epochs)
    history = {"epoch": at.tolist(), "train_loss": loss.tolist(), "validation_loss": (loss + 0.002).tolist()}
    scores = {"test_bce": loss[-1] + 0.002, "test_psnr": 16.2, "validation_bce": loss[-1] + 0.002}
    return {"history": history, "scores": scores | {"validation_psnr": 16.1, "train_bce": loss[-1]}}


def _examples(pixels: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    clean = pixels[:10]
    return {"clean": clean, "shown": spoil(clean, 0.4, rng), "output": blur(clean)}


def spoil(images: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    dice = rng.random(images.shape)
    return np.where(dice < strength, np.where(dice < strength / 2, 255, 0), images).astype(np.uint8)


def blur(images: np.ndarray) -> np.ndarray:
    near = [np.roll(images.astype(float), (dx, dy), (2, 3)) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    return np.mean(near, axis=0).astype(np.uint8)


def _predictions(labels: np.ndarray, level: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    wrong = rng.random(len(labels)) > level
    predicted = np.where(wrong, (labels + 5) % 10, labels).astype(np.int16)
    return {"predicted": predicted, "confidence": rng.uniform(0.5, 1, len(labels)).astype(np.float32)}


def _noise(run: MadeUp, chapter: Json, rng: np.random.Generator) -> None:
    strengths = chapter["strengths"]
    labels = (np.arange(chapter["images"]) % 10).astype(np.uint8)
    hard = rng.random(len(labels))
    first = [int(np.flatnonzero(run.labels == k)[0]) for k in range(10)]
    for planned in chapter["evaluations"]:
        fall, luck = FALL.get(planned["pipeline"], 0.4), rng.normal(0, 0.004)
        top = 0.97 if planned["pipeline"].startswith("denoiser") else 0.989
        shares = [0.1 + (top - 0.1 + luck) / (1 + np.exp((s - fall) / 0.07)) for s in strengths]
        right = np.stack([hard < share + 0.03 * np.sin(labels) * (share < 0.95) for share in shares])
        predicted = np.where(right, labels, (labels * 3 + 8) % 10).astype(np.uint8)
        per_class = [[float(row[labels == k].mean()) for k in range(10)] for row in right]
        shown = np.stack([spoil(run.pixels[first], s, np.random.default_rng(1)) for s in strengths])
        seen = np.stack([blur(images) for images in shown])
        told = {"predicted": predicted, "labels": labels, "indices": np.arange(len(labels))}
        run.stored[planned["id"]] = told | {"shown": shown, "seen": seen}
        told = {
            **planned,
            "state": "done",
            "reason": None,
            "strengths": strengths,
            "images": len(labels),
            "seconds": 20.0,
        }
        told |= {"tpr": [float(np.mean(row)) for row in per_class], "tpr_per_class": per_class}
        run.evaluations[planned["id"]] = told | {"accuracy": [float(row.mean()) for row in right]}


def _generator(run: MadeUp, chapter: Json, rng: np.random.Generator) -> None:
    for planned in chapter["evaluations"]:
        sampler = planned["sampler"]
        told = {**planned, "state": "done", "reason": None, "seconds": 9.0}
        if sampler == "floor":
            told |= {"frechet": 1.3, "recognised": 0.985, "reconstructed": 0.89}
            run.stored[planned["id"]] = {"images": run.pixels[:10], "reconstructions": blur(run.pixels[:10])}
        else:
            share = DRAWN.get(sampler, 0.5)
            classes = rng.dirichlet(np.full(10, 8.0)).tolist() if share > 0.01 else None
            told |= {"recognised": share, "classes": classes, "frechet": 10 / (share + 0.01), "nearest": 5.2}
            images = rng.permutation(run.pixels)[:100]
            images = spoil(blur(images), 0.5 * (1 - share), rng)
            run.stored[planned["id"]] = {
                "images": images,
                "nearest": run.pixels[:10],
                "confidence": np.ones(100, np.float32),
                "predicted": np.zeros(100, np.uint8),
            }
        run.evaluations[planned["id"]] = told

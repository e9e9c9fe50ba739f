"""The drawing pad of a report, with the networks that its page computes."""

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from safetensors import SafetensorError
from safetensors.numpy import load

from inklab.data.preprocessing import Preprocessing
from inklab.errors import CorruptFileError, InklabError
from inklab.io.atomic import read_bytes_capped
from inklab.io.documents import parse_json, sha256_of
from inklab.io.tensor_file import check_header
from inklab.report.figures.numerals import count, percent
from inklab.report.figures.result_access import is_number, slug
from inklab.results.summarize import best_first
from inklab.run import Json, RunData
from inklab.shapes import Pixels
from inklab.web import MODULES, inlined, source

MAX_MANIFEST = 1024**2  # bytes
LAYER = re.compile(r"net\.(?:[a-z]+\.)*(?:(\d+)\.)?weight")
PARTS = ("hidden", "encoder", "decoder", "output")
"""Of a dense network, in the order in which an image passes through them."""
OUTPUT_ACTIVATION = {"labels": "softmax", "images": "sigmoid"}
"""What makes probabilities, or an image, of the last layer's sums."""


@dataclass(frozen=True)
class DenseLayer:
    """`activation(weights @ inputs + bias)`."""

    weights: Float32[np.ndarray, "outputs inputs"]
    bias: Float32[np.ndarray, " outputs"]
    activation: str

    def to_json(self) -> dict[str, object]:
        """As the page has it: the very floats, as base64 of their bytes, the weights row by row."""
        return {"activation": self.activation, "weights": _packed(self.weights), "bias": _packed(self.bias)}


@dataclass(frozen=True)
class DenseNetwork:
    """A network whose every layer is dense, with its scaling in front.

    Attributes:
        target: "labels" of a classifier, "images" of a denoiser.
        manifest: `bundle.json`.
    """

    target: str
    mean: float
    spread: float
    layers: tuple[DenseLayer, ...]
    manifest: dict[str, Any]

    @property
    def parameters(self) -> int:
        """How many weights and biases."""
        return sum(layer.weights.size + layer.bias.size for layer in self.layers)

    def to_json(self) -> dict[str, object]:
        """As the page has it."""
        return {
            "mean": self.mean,
            "spread": self.spread,
            "layers": [layer.to_json() for layer in self.layers],
        }

    def of(self, pixels: UInt8[np.ndarray, "n c h w"]) -> Float32[np.ndarray, "n outputs"]:
        """What it makes of images: probabilities of each class, or each pixel in [0, 1]."""
        values = (pixels.reshape(len(pixels), -1) / np.float32(255) - self.mean) / self.spread
        with np.errstate(all="ignore"):  # huge weights are somebody's joke, and no reason to warn
            for layer in self.layers:
                values = ACTIVATIONS[layer.activation](values @ layer.weights.T + layer.bias)
        return np.asarray(values, np.float32)


def _softmax(sums: np.ndarray) -> np.ndarray:
    shares = np.exp(sums - sums.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


ACTIVATIONS = {
    "relu": lambda sums: np.maximum(sums, 0),
    "sigmoid": lambda sums: 1 / (1 + np.exp(-np.clip(sums, -80, 80))),
    "softmax": _softmax,
}


def read_dense(bundle: Path, *, largest: int) -> DenseNetwork:
    """The network of a bundle of `mlp` or `autoencoder`, checked against the bundle's SHA-256.

    Args:
        bundle: its folder.
        largest: bytes of weights that are read.

    Raises:
        OSError: there is no bundle.
        InklabError: it is larger, damaged, or not of dense layers.
    """
    path = bundle / "weights.safetensors"
    manifest = parse_json(read_bytes_capped(bundle / "bundle.json", MAX_MANIFEST), str(bundle / "bundle.json"))
    raw = read_bytes_capped(path, largest)
    if not isinstance(manifest, dict) or manifest.get("weights_sha256") != sha256_of(raw):
        raise CorruptFileError(f"'{path}' is damaged: its SHA-256 is not the one in bundle.json")
    try:
        return _network(manifest, dict(load(check_header(raw, str(path)))))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(f"'{bundle}' holds no dense network: {error}") from error


def _network(manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> DenseNetwork:
    sizes = {"images": int(np.prod(manifest["shape"])), "labels": len(manifest["labels"])}
    target = str(manifest["target"])
    mean, spread = (float(arrays.pop(f"scaling.{name}").reshape(())) for name in ("mean", "spread"))
    names = sorted((name for name in arrays if LAYER.fullmatch(name)), key=_place)
    if len(arrays) != 2 * len(names) or any(array.dtype != np.float32 for array in arrays.values()):
        raise ValueError("it has something else than weights and biases in fp32")
    layers = []
    inputs = sizes["images"]
    for name in names:
        weights, bias = arrays[name], arrays[f"{name.removesuffix('weight')}bias"]
        if weights.shape != (len(bias), inputs) or bias.ndim != 1:
            raise ValueError(f"'{name}' is {weights.shape}; {inputs} numbers come to it")
        layers.append(DenseLayer(weights, bias, OUTPUT_ACTIVATION[target] if name == names[-1] else "relu"))
        inputs = len(bias)
    if inputs != sizes[target] or not np.isfinite([mean, spread]).all() or spread == 0:
        raise ValueError(f"it makes {inputs} numbers, not {sizes[target]}, or can't be scaled")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("a weight is no number")
    return DenseNetwork(target, mean, spread, tuple(layers), manifest)


def _place(name: str) -> tuple[int, int]:
    found = LAYER.fullmatch(name)
    assert found
    return PARTS.index(name.split(".")[1]), int(found[1] or 0)


def _packed(array: np.ndarray) -> str:
    return b64encode(array.astype("<f4").tobytes()).decode("ascii")


def data_block(value: object) -> str:
    r"""A value as JSON that may stand in a `<script type="application/json">`: nothing in it can end that.

    Example:
        >>> data_block({"name": "</script>"})
        '{"name":"\\u003c/script>"}'
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


TEMPLATES = Path(__file__).parent / "templates"
MAX_WEIGHT_BYTES = 1_400_000  # bytes of weights; as base64 a third more, and with script and style below 2 MB
MAX_CLASSES = 36  # rows of bars beside the pad
EXAMPLES = 10
FAMILIARITY_QUANTILE = 0.99
"""Share of the run's own samples that count as familiar (`familiar` says in what)."""
MIN_SAMPLES = 50  # fewer say too little about that


@dataclass(frozen=True)
class ModelFacts:
    """A network that the pad has, as the page tells of it."""

    anchor: str
    title: str
    facts: str


@dataclass(frozen=True)
class PadSection:
    """Everything that the page needs for its pad.

    Attributes:
        what: what one draws, such as "digit".
        labels: name of each class.
        doubts: whether it can tell what is foreign to its networks.
        data: the networks and examples, as JSON.
        script: what runs in the page.
        digest: its SHA-256 as a content security policy names it.
    """

    what: str
    labels: list[str]
    classifier: ModelFacts
    denoiser: ModelFacts | None
    doubts: bool
    data: str
    script: str
    digest: str


@dataclass(frozen=True)
class _Candidate:
    network: DenseNetwork
    chapter: Json
    outcome: Json

    def told(self) -> ModelFacts:
        """Whose network it is, how large, and how good."""
        scores = self.outcome.get("scores") or {}
        facts = f"replicate 0, {count(self.network.parameters)} parameters"
        right = scores.get("test_accuracy")
        if right is not None and is_number(right):
            facts += f", {percent(right)} of the test images right"
        name = str(self.chapter["name"])
        return ModelFacts(slug(name), str(self.chapter.get("title") or name), facts)


def build_pad(run: RunData) -> PadSection | None:
    """The pad of a run; nothing where it has no small dense classifier of grey images, or that is damaged."""
    data = run.plan.get("data") or {}
    shape, labels = data.get("shape") or [], [str(label) for label in data.get("labels") or []]
    if len(shape) != 3 or shape[0] != 1 or not 2 <= len(labels) <= MAX_CLASSES:
        return None
    classifier = next(_networks(run, "mlp", "labels", MAX_WEIGHT_BYTES), None)
    if classifier is None:
        return None
    room = MAX_WEIGHT_BYTES - 4 * classifier.network.parameters
    denoiser = next(_networks(run, "autoencoder", "images", room), None)
    facts = _data(run, classifier.network, denoiser.network if denoiser else None)
    script = inlined(*map(source, MODULES), *(_script(name) for name in ("network.js", "trying.js")))
    return PadSection(
        what="digit" if labels == list("0123456789") else "sign",
        labels=labels,
        classifier=classifier.told(),
        denoiser=denoiser.told() if denoiser else None,
        doubts=facts["familiar"] is not None,
        data=data_block(facts),
        script=script,
        digest=f"sha256-{b64encode(sha256(script.encode()).digest()).decode('ascii')}",
    )


def _script(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _networks(run: RunData, model: str, target: str, largest: int) -> Iterator[_Candidate]:
    """Replicate 0 of each chapter that has such a network: sound, without a verdict, and small enough."""
    data = run.plan["data"]
    for chapter in run.plan.get("chapters") or []:
        for setting in best_first(chapter, run.results) if chapter.get("kind") == "train" else ():
            trial = str(next(iter(setting.get("trials") or []), ""))
            outcome = run.outcome(trial) or {}
            if outcome.get("state") != "done" or outcome.get("verdicts") or not _fits(setting, model, target):
                continue
            try:
                found = read_dense(run.path / "trials" / trial / "bundle", largest=largest)
                framing = Preprocessing.from_json(found.manifest.get("framing"))
            except (InklabError, OSError):
                continue  # a report is drawn of what there is
            ours = framing.shape == tuple(data["shape"]) and found.target == target
            if ours and all(found.manifest[key] == data[key] for key in ("shape", "labels")):
                yield _Candidate(found, chapter, outcome)


def _fits(setting: Mapping[str, Json], model: str, target: str) -> bool:
    """Whether it is such a model; a denoiser must have been shown corrupted images."""
    settings = setting["settings"]
    noisy = bool((settings.get("recipe") or {}).get("corruption"))
    return (settings.get("model") or {}).get("name") == model and (noisy or target == "labels")


def _data(run: RunData, classifier: DenseNetwork, denoiser: DenseNetwork | None) -> Json:
    manifest = classifier.manifest
    pixels, labels = _samples(run)
    firsts = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)[:EXAMPLES]]
    return {
        "labels": manifest["labels"],
        "framing": manifest["framing"],
        "classifier": classifier.to_json(),
        "denoiser": denoiser.to_json() if denoiser else None,
        "familiar": familiar(denoiser, pixels) if denoiser else None,
        "examples": [
            {"label": manifest["labels"][labels[i]], "image": b64encode(pixels[i].tobytes()).decode("ascii")}
            for i in firsts
        ],
    }


def _samples(run: RunData) -> tuple[Pixels, np.ndarray]:
    found = run.samples()
    shape = run.plan["data"]["shape"]
    if found is None or list(found[0].shape[1:]) != shape:
        return np.zeros((0, *shape), np.uint8), np.zeros(0, np.int64)
    known = found[1] < len(run.plan["data"]["labels"])
    return found[0][known], found[1][known]


def familiar(denoiser: DenseNetwork, pixels: Pixels) -> float | None:
    """How far a picture may depart from what the denoiser makes of it, to count as of a kind that it knows.

    A denoiser gives back what is like its training images, and bends everything else towards them. So the
    sum of squared differences between a picture without noise and its cleaned one tells how foreign it is:
    99 % of the run's samples lie below what is returned. Measured for the digits study in its quick profile:
    it is exceeded by 2 % of MNIST's test digits, 70 % of random scribbles, 57 % of triangles, stars, hearts
    and the like. By the classifier's own largest probability or energy at as few false alarms, 4 to 12 % of
    the scribbles would be found out: it is sure of nonsense.

    Args:
        denoiser: which it is.
        pixels: `(n, 1, h, w)` bytes, the run's samples: training images.

    Returns:
        The sum of squares in [0, pixels an image], or nothing for fewer than fifty samples.
    """
    if len(pixels) < MIN_SAMPLES:
        return None
    departure = denoiser.of(pixels) - pixels.reshape(len(pixels), -1) / np.float32(255)
    limit = np.quantile(np.square(departure).sum(axis=1), FAMILIARITY_QUANTILE)
    return float(f"{limit:.4g}") if np.isfinite(limit) else None  # so far every machine's last bits agree

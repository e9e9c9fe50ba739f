"""The drawing pad of a report, with the trained networks that its page runs."""

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.numpy import load

from inklab.data.dataset import ImageSet
from inklab.errors import CorruptFileError, InklabError
from inklab.format import format_metric, pluralize
from inklab.io.files import read_bytes_capped, sha256_of
from inklab.io.tensor_file import check_header
from inklab.metrics import Task
from inklab.records.manifest import MANIFEST, WEIGHTS, ModelManifest
from inklab.records.outcomes import TrialOutcome
from inklab.records.plan import TrainingPlan
from inklab.report.figures.drawing import slug
from inklab.runs import Run
from inklab.web import MODULES, inline_modules, source

TEMPLATES = Path(__file__).parent / "templates"
WEIGHT_NAME = re.compile(r"net\.(?:[a-z]+\.)*(?:(\d+)\.)?weight")
PARTS = ("hidden", "encoder", "decoder", "output")
"""Of a dense network, in the order in which an image passes them."""

Activation = Literal["relu", "softmax", "sigmoid"]
OUTPUT_ACTIVATION: dict[Task, Activation] = {"classification": "softmax", "denoising": "sigmoid"}
NETWORKS: dict[Task, str] = {"classification": "mlp", "denoising": "autoencoder"}
"""The networks with dense layers only."""

MAX_WEIGHT_BYTES = 1_400_000
"""Bytes of weights; base64 adds a third, and with script and style the pad stays below 2 MB."""

MAX_CLASSES = 36
"""Rows of bars beside the pad."""

MAX_EXAMPLES = 10
MIN_SAMPLES = 50
"""Fewer samples do not give a threshold of the reconstruction error."""

OOD_QUANTILE = 0.99
"""Share of the run's own samples below the threshold of the reconstruction error (`ood_threshold`)."""


# ---------------------------------------------------------------- dense networks


@dataclass(frozen=True)
class DenseLayer:
    """`activation(weights @ inputs + bias)`."""

    weights: Float32[np.ndarray, "outputs inputs"]
    bias: Float32[np.ndarray, " outputs"]
    activation: Activation

    def to_json(self) -> JsonValue:
        """As the page has it: base64 of the floats, the weights row by row."""
        weights, bias = (encode_base64(array.astype("<f4").tobytes()) for array in (self.weights, self.bias))
        return {"activation": self.activation, "weights": weights, "bias": bias}


@dataclass(frozen=True)
class DenseNetwork:
    """A network with dense layers only; `mean` is subtracted from the pixels, `std` divides them."""

    mean: float
    std: float
    layers: tuple[DenseLayer, ...]
    manifest: ModelManifest

    @property
    def parameters(self) -> int:
        """How many weights and biases."""
        return sum(layer.weights.size + layer.bias.size for layer in self.layers)

    def to_json(self) -> JsonValue:
        """As the page has it."""
        return {"mean": self.mean, "std": self.std, "layers": [layer.to_json() for layer in self.layers]}

    def forward(self, pixels: UInt8[np.ndarray, "n c h w"]) -> Float32[np.ndarray, "n outputs"]:
        """Probabilities of each class, or denoised pixels in [0, 1]."""
        values = (pixels.reshape(len(pixels), -1) / np.float32(255) - self.mean) / self.std
        with np.errstate(all="ignore"):  # weights come from a file; huge ones are no reason to warn
            for layer in self.layers:
                values = _activate(values @ layer.weights.T + layer.bias, layer.activation)
        return np.asarray(values, np.float32)


def _activate(sums: np.ndarray, activation: Activation) -> np.ndarray:
    if activation == "relu":
        return np.asarray(np.maximum(sums, 0))
    if activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-np.clip(sums, -80, 80))))
    exponentials = np.exp(sums - sums.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def read_dense(directory: Path, *, max_bytes: int) -> DenseNetwork:
    """The network of a trained model in a directory, if all its layers are dense.

    Raises:
        OSError: there is no trained model.
        InklabError: it is too large, damaged, or has other layers.
    """
    path = directory / WEIGHTS
    manifest = ModelManifest.read(directory / MANIFEST)
    raw = read_bytes_capped(path, max_bytes)
    if manifest.weights_sha256 != sha256_of(raw):
        raise CorruptFileError(f"'{path}' is damaged: its SHA-256 is not the one in {MANIFEST}")
    try:
        return _build_network(manifest, dict(load(check_header(raw, str(path)))))
    except (SafetensorError, ValueError, KeyError) as error:
        raise CorruptFileError(f"'{directory}' has no dense network: {error}") from error


def _build_network(manifest: ModelManifest, arrays: dict[str, np.ndarray]) -> DenseNetwork:
    mean, std = (float(arrays.pop(f"normalize.{name}").reshape(())) for name in ("mean", "std"))
    names = sorted((name for name in arrays if WEIGHT_NAME.fullmatch(name)), key=_layer_order)
    if len(arrays) != 2 * len(names) or any(array.dtype != np.float32 for array in arrays.values()):
        raise ValueError("it has tensors other than weights and biases in fp32")
    if not np.isfinite([mean, std]).all() or not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("a weight is not finite")
    layers = []
    width = int(np.prod(manifest.shape))
    for name in names:
        weights, bias = arrays[name], arrays[f"{name.removesuffix('weight')}bias"]
        if bias.ndim != 1 or weights.shape != (len(bias), width):
            raise ValueError(f"'{name}' has the shape {weights.shape}, but its layer has {width} inputs")
        activation = OUTPUT_ACTIVATION[manifest.task] if name == names[-1] else "relu"
        layers.append(DenseLayer(weights, bias, activation))
        width = len(bias)
    n_outputs = int(np.prod(manifest.output_shape))
    if width != n_outputs or std == 0:
        raise ValueError(f"it has {width} outputs instead of {n_outputs}, or its std is 0")
    return DenseNetwork(mean, std, tuple(layers), manifest)


def _layer_order(name: str) -> tuple[int, int]:
    match = WEIGHT_NAME.fullmatch(name)
    return PARTS.index(name.split(".")[1]), int((match and match[1]) or 0)


def encode_base64(raw: bytes) -> str:
    """Bytes as ASCII text."""
    return b64encode(raw).decode("ascii")


def script_hash(script: str) -> str:
    """The hash of a script as a content security policy names it.

    Example:
        >>> script_hash("")[:20]
        'sha256-47DEQpj8HBSa+'
    """
    return f"sha256-{encode_base64(sha256(script.encode()).digest())}"


# ---------------------------------------------------------------- the section of the page


class ModelFacts(NamedTuple):
    """A network of the pad as the page describes it: its experiment's section; replicate, size, accuracy."""

    anchor: str
    title: str
    facts: str


@dataclass(frozen=True)
class PadSection:
    """Everything that the page needs for its drawing pad.

    Attributes:
        subject: what one draws, such as "digit".
        denoiser: in front of the classifier; None if there is none.
        detects_ood: whether drawings unlike the training images are recognized.
        data: networks and examples, as JSON.
        sha256: SHA-256 of the script, as a content security policy names it.
    """

    subject: str
    labels: tuple[str, ...]
    classifier: ModelFacts
    denoiser: ModelFacts | None
    detects_ood: bool
    data: str
    script: str
    sha256: str


class _Candidate(NamedTuple):
    network: DenseNetwork
    experiment: TrainingPlan
    outcome: TrialOutcome

    def describe(self) -> ModelFacts:
        """Whose network it is, how large, and how good."""
        facts = [f"replicate {self.outcome.replicate}", pluralize(self.network.parameters, "parameter")]
        accuracy = (self.outcome.metrics or {}).get("test_accuracy")
        if accuracy is not None:
            facts.append(f"test accuracy {format_metric(accuracy, 'test_accuracy')}")
        name = self.experiment.name
        return ModelFacts(slug(name), self.experiment.title or name, ", ".join(facts))


def build_pad(run: Run) -> PadSection | None:
    """The pad of a run; None unless it has a small dense classifier of gray images."""
    data = run.plan.data
    if data.shape[0] != 1 or data.n_classes > MAX_CLASSES:
        return None
    classifier = next(_find_networks(run, "classification", MAX_WEIGHT_BYTES), None)
    if classifier is None:
        return None
    remaining = MAX_WEIGHT_BYTES - 4 * classifier.network.parameters
    denoiser = next(_find_networks(run, "denoising", remaining), None)
    images = run.images.samples()
    threshold = ood_threshold(denoiser.network, images.pixels) if denoiser and images else None
    templates = [(TEMPLATES / name).read_text(encoding="utf-8") for name in ("network.js", "pad-demo.js")]
    script = inline_modules(*map(source, MODULES), *templates)
    return PadSection(
        subject="digit" if data.labels == tuple("0123456789") else "picture",
        labels=data.labels,
        classifier=classifier.describe(),
        denoiser=denoiser.describe() if denoiser else None,
        detects_ood=threshold is not None,
        data=to_script_json(
            {
                "labels": list(data.labels),
                "preprocessing": classifier.network.manifest.preprocessing.to_json(),
                "classifier": classifier.network.to_json(),
                "denoiser": denoiser.network.to_json() if denoiser else None,
                "ood_threshold": threshold,
                "examples": _encode_examples(images, data.labels) if images else [],
            }
        ),
        script=script,
        sha256=script_hash(script),
    )


def _find_networks(run: Run, task: Task, max_bytes: int) -> Iterator[_Candidate]:
    """The networks of a task that the page can run: done, without a diagnosis, small enough."""
    for experiment in run.plan.training:
        if experiment.task != task:
            continue
        try:
            outcome = run.outcomes[run.trial_for(experiment.name)]
            config = outcome.config
            copies = task == "denoising" and config.recipe.corruption is None  # what such a denoiser learns
            if outcome.diagnoses or config.network.name != NETWORKS[task] or copies:
                continue
            network = read_dense(run.model_dir(experiment.name), max_bytes=max_bytes)
        except (InklabError, OSError):
            continue  # a report shows what there is
        data, manifest = run.plan.data, network.manifest
        has_data_format = manifest.preprocessing.shape == manifest.shape == data.shape
        if manifest.task == task and manifest.labels == data.labels and has_data_format:
            yield _Candidate(network, experiment, outcome)


def _encode_examples(images: ImageSet, labels: tuple[str, ...]) -> list[JsonValue]:
    """The first sample of each class."""
    firsts = [int(np.argmax(images.labels == label)) for label in np.unique(images.labels)[:MAX_EXAMPLES]]
    return [
        {"label": labels[images.labels[i]], "image": encode_base64(images.pixels[i].tobytes())}
        for i in firsts
    ]


def to_script_json(value: object) -> str:
    r"""A value as JSON inside `<script type="application/json">`: nothing in it can end the script.

    Example:
        >>> to_script_json({"name": "</script>"})
        '{"name":"\\u003c/script>"}'
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def ood_threshold(denoiser: DenseNetwork, pixels: UInt8[np.ndarray, "n 1 h w"]) -> float | None:
    """The reconstruction error above which a drawing counts as out of distribution.

    A denoiser returns what is like its training images, and changes everything else. So the sum of squared
    differences between a clean image and the denoiser's output measures how unusual the image is: 99% of the
    run's samples are below the threshold. Measured for the digits study in its quick profile: 2% of MNIST's
    test digits are above it, 70% of random scribbles, and 57% of triangles, stars, hearts and the like. The
    classifier's largest probability or its energy would detect only 4 to 12% of the scribbles at as few false
    alarms, because it is confident about nonsense.

    Returns:
        A sum of squares in [0, pixels per image]; None for fewer than `MIN_SAMPLES` samples.
    """
    if len(pixels) < MIN_SAMPLES:
        return None
    differences = denoiser.forward(pixels) - pixels.reshape(len(pixels), -1) / np.float32(255)
    threshold = np.quantile(np.square(differences).sum(axis=1), OOD_QUANTILE)
    # Four digits agree on all machines.
    return float(f"{threshold:.4g}") if np.isfinite(threshold) else None

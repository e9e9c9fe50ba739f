"""Dense networks out of their bundles, small enough for a page. NumPy only: a report needs no torch."""

import json
import re
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from safetensors import SafetensorError
from safetensors.numpy import load

from inklab.arrayfile import checked
from inklab.errors import CorruptFile
from inklab.files import parse_json, read_at_most, sha256_of

LARGEST_MANIFEST = 1024**2  # bytes
LAYER = re.compile(r"net\.(?:[a-z]+\.)*(?:(\d+)\.)?weight")
PARTS = ("hidden", "encoder", "decoder", "output")
"""Of a dense network, in the order in which an image passes through them."""
LAST = {"labels": "softmax", "images": "sigmoid"}
"""What makes probabilities, or an image, of the last layer's sums."""


@dataclass(frozen=True)
class Layer:
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
    layers: tuple[Layer, ...]
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
    manifest = parse_json(read_at_most(bundle / "bundle.json", LARGEST_MANIFEST), str(bundle / "bundle.json"))
    raw = read_at_most(path, largest)
    if not isinstance(manifest, dict) or manifest.get("weights_sha256") != sha256_of(raw):
        raise CorruptFile(f"'{path}' is damaged: its SHA-256 is not the one in bundle.json")
    try:
        return _network(manifest, dict(load(checked(raw, str(path)))))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CorruptFile(f"'{bundle}' holds no dense network: {error}") from error


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
        layers.append(Layer(weights, bias, LAST[target] if name == names[-1] else "relu"))
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

"""Bundles of untrained networks, and graphs that nobody sound wrote, for tests of the export."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from inklab.data.preprocessing import Preprocessing
from inklab.export.onnx_metadata import IR, OPSET, export_metadata
from inklab.model import TrainedModel
from inklab.networks.layers import Normalize, NormalizedModel, for_inference
from inklab.networks.network import build_net
from inklab.seeding import Seed

SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [16, 12]}, "cnn": {"channels": [4, 6], "pool": 2, "hidden": 16},
    "autoencoder": {"hidden": [24], "code": 8}, "compact": {"channels": [4, 6], "first": 2},
    "unet": {"channels": [4, 8], "depth": 1},
}  # fmt: skip
"""Settings that make registered models small; one that is not here has its usual ones."""

OWN = '''
"""Networks of a user's own."""

import torch
from torch import nn


class Normed(nn.Module):
    """Convolutions with norms, a way around them, and a size that is read off the batch."""

    def __init__(self, shape, classes):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(shape[0], 6, 3, bias=False), nn.BatchNorm2d(6), nn.GELU())
        self.second = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Dropout(0.5))
        self.last = nn.Linear(6, classes)

    def forward(self, images):
        features = self.first(images)
        features = torch.relu(features + self.second(features))
        return self.last(features.view(images.size(0), 6, -1).mean(dim=2))


class Choosy(nn.Module):
    """What it computes depends on what it sees, which no graph can say."""

    def __init__(self, shape, classes):
        super().__init__()
        self.last = nn.Linear(shape[0] * shape[1] * shape[2], classes)

    def forward(self, images):
        if images.mean() > 0.5:
            images = 1 - images
        return self.last(images.flatten(1))

'''


def bundle(
    name: str, shape: tuple[int, int, int] = (1, 12, 12), classes: int = 5, **settings: Any
) -> TrainedModel:
    """A bundle of an untrained network; its norms have seen some noise, so that they do something."""
    model = {"name": name, **(settings or SMALL.get(name, {}))}
    net = NormalizedModel(Normalize(0.2, 0.4), build_net(model, shape, classes, Seed(0)))
    noise = torch.rand(32, *shape, generator=Seed(1).generator())
    with torch.no_grad():
        for part in net.parameters():  # biases begin as zero, and what is zero needs no place in a graph
            part += 0.01 * torch.randn(part.shape, generator=Seed(2).generator())
        target = "images" if net(noise).shape == noise.shape else "labels"
    labels = tuple(f"class {k}" for k in range(classes))
    made_by = {"id": "abc", "replicate": 0, "data_sha256": "0" * 64}
    scores = {"test_accuracy": 0.5} if target == "labels" else {"test_bce": 0.3}
    framing = Preprocessing.plain(shape).to_json()
    return TrainedModel(for_inference(net), model, shape, labels, target, framing, made_by, scores)


def write_own(folder: Path) -> str:
    """A file of a user's networks."""
    (folder / "own.py").write_text(OWN, encoding="utf-8")
    return str(folder / "own.py")


def real(shape: tuple[int, int, int] = (1, 12, 12), count: int = 12) -> np.ndarray:
    """Images as bytes."""
    return np.random.default_rng(3).integers(0, 256, (count, *shape)).astype(np.uint8)


# ---------------------------------------------------------------- graphs of others

SIDE, CLASSES = 6, 3


def graph(
    nodes: Sequence[onnx.NodeProto], weights: dict[str, np.ndarray] | None = None, **changes: Any
) -> bytes:
    """A model with our metadata, inputs and outputs, of any nodes from `images` to `probabilities`.

    What `nodes` don't make of `logits` is made of the images' first row.
    """
    made = {name for node in nodes for name in node.output}
    rest = [] if "logits" in made else [helper.make_node("Flatten", ["images"], ["flat"])]
    rest += [] if "logits" in made else [helper.make_node("MatMul", ["flat", "w"], ["logits"])]
    rest += [] if "probabilities" in made else [helper.make_node("Softmax", ["logits"], ["probabilities"])]
    arrays = {"w": np.eye(SIDE * SIDE, CLASSES, dtype=np.float32), **(weights or {})}
    model = helper.make_model(
        helper.make_graph(
            [*nodes, *rest],
            "evil",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", CLASSES])
                for name in ("logits", "probabilities")
            ],
            [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
        ),
        ir_version=IR,
        opset_imports=[
            helper.make_opsetid(domain, version) for domain, version in changes.get("opsets", [("", OPSET)])
        ],
    )
    helper.set_model_props(model, entries() | changes.get("entries", {}))
    return model.SerializeToString()


def entries() -> dict[str, str]:
    """Sound metadata of a classifier of `SIDE x SIDE` pixels and `CLASSES` classes."""
    about = {
        "labels": list("abc"), "shape": [1, SIDE, SIDE], "data_sha256": None,
        "framing": Preprocessing.plain((1, SIDE, SIDE)).to_json(), "parts": [{"name": "evil", "scores": {}}],
    }  # fmt: skip
    return export_metadata("classifier", about, {"images": 1, "largest": {}})

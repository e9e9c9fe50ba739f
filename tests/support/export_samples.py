"""Untrained models, and graphs by others, for tests of the export."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from inklab.export.graphs import network_graph
from inklab.export.onnx_export import ExportedModel, export_model, with_metadata
from inklab.export.onnx_file import IR, OPSET, GraphMetadata, GraphPart
from inklab.model import TrainedModel
from inklab.networks.layers import Normalize, NormalizedModel, for_inference
from inklab.networks.network import build_network
from inklab.records.components import NetworkConfig, Preprocessing
from inklab.records.manifest import Provenance
from inklab.records.record import Shape
from inklab.seeding import Seed

SMALL: dict[str, dict[str, object]] = {
    "mlp": {"hidden": [16, 12]}, "cnn": {"channels": [4, 6], "pool": 2, "hidden": 16},
    "autoencoder": {"hidden": [24], "code": 8}, "compact": {"channels": [4, 6], "stem_kernel": 2},
    "unet": {"channels": [4, 8], "depth": 1},
}  # fmt: skip
"""Arguments that make registered networks small; one that is not here has its defaults."""

OWN = '''
"""Networks of a user's own."""

import torch
from torch import nn


class Normed(nn.Module):
    """Convolutions with norms, a residual connection, and a size that is read off the batch."""

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
    """What it computes depends on the values of its input, which no graph can express."""

    def __init__(self, shape, classes):
        super().__init__()
        self.last = nn.Linear(shape[0] * shape[1] * shape[2], classes)

    def forward(self, images):
        if images.mean() > 0.5:
            images = 1 - images
        return self.last(images.flatten(1))

'''


def untrained_model(
    name: str, shape: tuple[int, int, int] = (1, 12, 12), n_classes: int = 5, **kwargs: object
) -> TrainedModel:
    """A model of an untrained network; its norms have seen some noise, so that they have an effect."""
    network = NetworkConfig.of(name, **(kwargs or SMALL.get(name, {})))
    net = NormalizedModel(Normalize(0.2, 0.4), build_network(network, shape, n_classes, Seed(0)))
    noise = torch.rand(32, *shape, generator=Seed(1).generator())
    with torch.no_grad():
        for parameter in net.parameters():  # biases begin as zero, and a converter may drop zeros
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=Seed(2).generator()))
        is_denoiser = net(noise).shape == noise.shape
    return TrainedModel.of(
        for_inference(net), network, "denoising" if is_denoiser else "classification",
        tuple(f"class {k}" for k in range(n_classes)), Preprocessing.resize_only(shape),
        provenance=Provenance(trial="abc", replicate=0, data_sha256="0" * 64),
        metrics={"test_bce": 0.3} if is_denoiser else {"test_accuracy": 0.5},
    )  # fmt: skip


def exported_network(name: str, shape: Shape = (1, 12, 12)) -> ExportedModel:
    """An untrained registered network, exported once in a process and compared on random images."""
    return _export(name, shape)


@cache
def _export(name: str, shape: Shape) -> ExportedModel:
    return export_model(network_graph(untrained_model(name, shape)), random_images(shape))


def write_own(folder: Path) -> str:
    (folder / "own.py").write_text(OWN, encoding="utf-8")
    return str(folder / "own.py")


def random_images(shape: tuple[int, int, int] = (1, 12, 12), count: int = 12) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, *shape)).astype(np.uint8)


SIDE, N_CLASSES = 12, 3

METADATA = GraphMetadata(
    kind="classifier", labels=tuple("abc"), shape=(1, SIDE, SIDE),
    preprocessing=Preprocessing.resize_only((1, SIDE, SIDE)), parts=(GraphPart(name="net"),),
    data_sha256=None,
)  # fmt: skip


def foreign_graph(
    nodes: Sequence[onnx.NodeProto] = (), weights: dict[str, np.ndarray] | None = None
) -> bytes:
    """A classifier without metadata, of any nodes from `images` to `probabilities`.

    What `nodes` don't make of `logits` is made of the images.
    """
    outputs = {name for node in nodes for name in node.output}
    rest = []
    if "logits" not in outputs:
        rest = [helper.make_node("Flatten", ["images"], ["flat"])]
        rest += [helper.make_node("MatMul", ["flat", "w"], ["logits"])]
    if "probabilities" not in outputs:
        rest += [helper.make_node("Softmax", ["logits"], ["probabilities"])]
    arrays = {"w": np.eye(SIDE * SIDE, N_CLASSES, dtype=np.float32), **(weights or {})}
    stored = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    shapes = {"images": (1, SIDE, SIDE), "logits": (N_CLASSES,), "probabilities": (N_CLASSES,)}
    images, *ends = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
        for name, shape in shapes.items()
    )
    graph = helper.make_graph([*nodes, *rest], "foreign", [images], ends, stored)
    model = helper.make_model(graph, ir_version=IR, opset_imports=[helper.make_opsetid("", OPSET)])
    return bytes(model.SerializeToString())


def graph(
    nodes: Sequence[onnx.NodeProto] = (), weights: dict[str, np.ndarray] | None = None, **metadata: object
) -> bytes:
    """The same with metadata and a digest of inklab's; anyone who writes a file can write both."""
    return with_metadata(foreign_graph(nodes, weights), METADATA.model_copy(update=metadata))

"""A network as the bytes of an ONNX file that was compared with the original."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8

import inklab
from inklab.errors import ModelMismatchError
from inklab.export.graphs import Exportable
from inklab.export.onnx_file import (
    DIGEST_KEY,
    IR,
    OPSET,
    GraphMetadata,
    ParityReport,
    Session,
    require_packages,
)
from inklab.export.verify import compare_outputs
from inklab.io.files import gc_paused, sha256_of

if TYPE_CHECKING:
    import onnx

BATCH = "batch"
N_TRACED = 3
"""Images that the network is traced with; a single one would be taken for a fixed size."""


@dataclass(frozen=True)
class ExportedModel:
    """A file that computes the same as the graph it was made from; `Session(raw)` runs its bytes."""

    graph: Exportable
    raw: bytes
    parity: ParityReport

    @cached_property
    def sha256(self) -> str:
        """Of the file."""
        return sha256_of(self.raw)


def export_model(graph: Exportable, images: UInt8[np.ndarray, "n c h w"] | None = None) -> ExportedModel:
    """Convert a network, compare it with the original, also on real images if any are at hand; add metadata.

    Raises:
        InklabError: onnx, onnxscript or onnxruntime is not installed.
        ModelMismatchError: it can't be converted, or does not compute the same.
    """
    bare = to_onnx(graph)
    parity = compare_outputs(graph, Session(bare), images)
    metadata = graph.metadata.model_copy(update={"parity": parity})
    return ExportedModel(graph, with_metadata(bare, metadata), parity)


def to_onnx(graph: Exportable) -> bytes:
    """Convert a network. The result is valid ONNX, but not compared yet: see `compare_outputs`.

    The same network gives the same bytes. It takes about a second, a third of which torch spends on reading
    its own table of operators.

    Raises:
        InklabError: onnx or onnxscript is not installed.
        ModelMismatchError: torch can't express it in ONNX, or only for a fixed number of images.
    """
    require_packages("onnx", "onnxscript")
    model = _convert(graph)
    _strip(model)
    _set_shapes(model, graph)
    return _to_bytes(_check(model, graph))


def with_metadata(raw: bytes, metadata: GraphMetadata) -> bytes:
    """The same graph with metadata, and with the SHA-256 of all of it."""
    import onnx

    model = onnx.load_model_from_string(raw)
    onnx.helper.set_model_props(model, metadata.to_entries())
    model.metadata_props.add(key=DIGEST_KEY, value=sha256_of(_to_bytes(model)))
    return _to_bytes(model)


def _to_bytes(model: "onnx.ModelProto") -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


def _convert(graph: Exportable) -> "onnx.ModelProto":
    example = torch.full((N_TRACED, *graph.input_shape), 0.5)
    try:
        with _quiet(), torch.no_grad(), gc_paused():  # collecting garbage takes a fifth of the time
            program = torch.onnx.export(
                graph.net.eval(), (example,), dynamo=True, verbose=False, opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim(BATCH)},), input_names=[graph.input_name],
                output_names=list(graph.output_shapes),
            )  # fmt: skip
    except Exception as error:  # torch or a user's network may raise anything
        raise ModelMismatchError(
            f"'{graph.name}' can't be converted to ONNX: {_root_cause(error)}"
        ) from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch logs and warns about in every export."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)  # "torchvision is not installed", four times an export
    try:
        with warnings.catch_warnings():
            # torch 2.13 copies its own trees by a class that it has deprecated.
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
            yield
    finally:
        log.setLevel(before)


def _root_cause(error: BaseException) -> str:
    """The first error: torch wraps it several times and adds pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:300]}" if lines else type(error).__name__


def _strip(model: "onnx.ModelProto") -> None:
    """Remove what depends on the machine that traced it: files, stack traces, names of torch."""
    graph = model.graph
    del graph.value_info[:]
    for item in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        del item.metadata_props[:]
        item.doc_string = ""
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        attribute.doc_string = ""
    model.domain = ""
    model.ClearField("model_version")
    graph.name, model.producer_name, model.producer_version = "inklab", "inklab", inklab.__version__


def _set_shapes(model: "onnx.ModelProto", graph: Exportable) -> None:
    """Name the free dimension of inputs and outputs, and write the sizes of the others."""
    shapes = {graph.input_name: graph.input_shape, **graph.output_shapes}
    for value in (*model.graph.input, *model.graph.output):
        shape = value.type.tensor_type.shape
        if value in model.graph.input and not shape.dim[0].dim_param:
            raise ModelMismatchError(
                f"'{graph.name}' can't be converted to ONNX: it works for batches of "
                f"{shape.dim[0].dim_value} images only"
            )
        del shape.dim[:]
        shape.dim.add().dim_param = BATCH
        for size in shapes[value.name]:
            shape.dim.add().dim_value = size


def _check(model: "onnx.ModelProto", graph: Exportable) -> "onnx.ModelProto":
    """The model with the shapes of everything in between, if it is valid and in one file."""
    import onnx

    opsets = {opset.domain: opset.version for opset in model.opset_import}
    if opsets != {"": OPSET} or model.functions or model.ir_version != IR:
        raise ModelMismatchError(
            f"'{graph.name}' can't be converted to plain ONNX: it needs {opsets} in format "
            f"{model.ir_version} instead of opset {OPSET} in format {IR}"
        )
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(inferred, full_check=True)
    except Exception as error:  # onnx has a dozen kinds
        raise ModelMismatchError(
            f"'{graph.name}' can't be converted to valid ONNX: {_root_cause(error)}"
        ) from error
    assert not any(tensor.external_data for tensor in inferred.graph.initializer)
    return inferred

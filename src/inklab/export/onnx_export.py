"""A network as the bytes of an ONNX file that was compared with the original."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8

import inklab
from inklab.errors import CorruptFileError, ModelMismatchError
from inklab.export.graphs import Exportable
from inklab.export.onnx_file import parts_of
from inklab.export.onnx_metadata import IR, OPSET, export_metadata
from inklab.export.onnx_runtime import Session, need
from inklab.export.verify import ParityReport, compare_outputs
from inklab.io.documents import gc_paused

if TYPE_CHECKING:
    import onnx

BATCH = "batch"
EXAMPLES = 3  # images that the network is traced with; one would be taken for a fixed size


def to_onnx(wanted: Exportable) -> bytes:
    """Convert a network. What comes out is checked to be sound ONNX, but not compared: see `compare_outputs`.

    The same network gives the same bytes. It costs about a second, of which a third is torch reading its
    own table of operators.

    Args:
        wanted: what to convert.

    Raises:
        InklabError: onnx or onnxscript is not installed.
        ModelMismatchError: torch can't express it in ONNX, or only for a fixed number of images.
    """
    need("onnx", "onnxscript")
    model = _converted(wanted)
    _strip(model)
    _name_sides(model, wanted)
    return bytes(_checked(model, wanted).SerializeToString(deterministic=True))


def with_metadata(raw: bytes, entries: Mapping[str, str]) -> bytes:
    """The same graph with some metadata."""
    import onnx

    model = onnx.load_model_from_string(raw)
    onnx.helper.set_model_props(model, dict(entries))
    return bytes(model.SerializeToString(deterministic=True))


def _converted(wanted: Exportable) -> "onnx.ModelProto":
    example = torch.full((EXAMPLES, *wanted.takes), 0.5)
    try:
        with _quiet(), torch.no_grad(), gc_paused():  # looking for garbage takes a fifth of the time
            program = torch.onnx.export(
                wanted.net.eval(), (example,), dynamo=True, verbose=False, opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim(BATCH)},), input_names=[wanted.given],
                output_names=list(wanted.gives),
            )  # fmt: skip
    except Exception as error:  # whatever torch or a network of one's own raises is told in one line
        raise ModelMismatchError(f"'{wanted.name}' can't be converted to ONNX: {_reason(error)}") from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says to everybody who exports, in its log and as warnings."""
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


def _reason(error: BaseException) -> str:
    """What went wrong first: torch wraps it several times and adds pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:300]}" if lines else type(error).__name__


def _strip(model: "onnx.ModelProto") -> None:
    """Remove what says where and how it was traced: files, stack traces, names of torch."""
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for each in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del each.metadata_props[:]
        each.doc_string = ""
    for node in graph.node:
        for attribute in node.attribute:
            attribute.doc_string = ""
    model.doc_string = graph.doc_string = model.domain = ""
    model.ClearField("model_version")
    graph.name, model.producer_name, model.producer_version = "inklab", "inklab", inklab.__version__


def _name_sides(model: "onnx.ModelProto", wanted: Exportable) -> None:
    """Give the free side its name, and say what the others are."""
    sides = {wanted.given: wanted.takes, **wanted.gives}
    for value in (*model.graph.input, *model.graph.output):
        shape = value.type.tensor_type.shape
        if value in model.graph.input and not shape.dim[0].dim_param:
            raise ModelMismatchError(
                f"'{wanted.name}' can't be converted to ONNX: it works for {shape.dim[0].dim_value} images "
                "at once only"
            )
        del shape.dim[:]
        shape.dim.add().dim_param = BATCH
        for length in sides[value.name]:
            shape.dim.add().dim_value = length


def _checked(model: "onnx.ModelProto", wanted: Exportable) -> "onnx.ModelProto":
    """The model with the shapes of everything in between, if it is sound and all in one."""
    import onnx

    domains: Any = {each.domain: each.version for each in model.opset_import}
    if domains != {"": OPSET} or model.functions or model.ir_version != IR:
        raise ModelMismatchError(
            f"'{wanted.name}' can't be converted to plain ONNX: it needs {domains} in format "
            f"{model.ir_version} instead of opset {OPSET} in format {IR}"
        )
    try:
        told = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(told, full_check=True)
    except Exception as error:  # onnx has a dozen kinds
        raise ModelMismatchError(
            f"'{wanted.name}' can't be converted to sound ONNX: {_reason(error)}"
        ) from error
    assert not [each for each in told.graph.initializer if each.external_data]
    return told


@dataclass(frozen=True)
class ExportedModel:
    """A file that computes the same as what it was made from.

    Attributes:
        wanted: what it was made from.
        raw: the file's bytes; `Session(raw)` runs them.
        parity: how near it came to the original.
        remark: why `inklab predict` would not read it back, if it wouldn't.
    """

    wanted: Exportable
    raw: bytes
    parity: ParityReport
    remark: str | None


def export_model(wanted: Exportable, real: UInt8[np.ndarray, "n c h w"] | None = None) -> ExportedModel:
    """Convert a network, compare it with the original, and put into the file what it says of itself.

    Args:
        wanted: what to export.
        real: images to compare on beside the extreme ones, if there are any at hand.

    Raises:
        InklabError: onnx, onnxscript or onnxruntime is not installed.
        ModelMismatchError: it can't be converted, or doesn't compute the same.
    """
    need("onnx", "onnxscript", "onnxruntime")
    bare = to_onnx(wanted)
    parity = compare_outputs(wanted, Session(bare), real)
    raw = with_metadata(bare, export_metadata(wanted.kind, wanted.about, parity.to_json()))
    return ExportedModel(wanted, raw, parity, _remark(raw))


def _remark(raw: bytes) -> str | None:
    """Networks of one's own may have steps that are not run when they come from outside."""
    try:
        parts_of(raw, Path("it"))
    except CorruptFileError as error:
        return str(error).partition("; ")[0]
    return None

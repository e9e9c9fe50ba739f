"""What each step of a graph makes, found out step by step, so that nothing large is ever made on the way.

onnx can infer a whole graph at once, but believes it while it does: doubling a list of sides forty times, or
adding sixty-four sides a step, takes all memory before an answer can be looked at.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

MAX_DIMENSIONS = 8  # of an array
MAX_WHOLE = 1024  # whole numbers in one array of them that are looked at: sides, axes, places
FLOAT, INT32, INT64 = 1, 6, 7  # of TensorProto.DataType
NUMBERS = {FLOAT: 4, INT32: 4, INT64: 8, 9: 1, 11: 8}
"""Bytes of each type that arrays may have; 9 is bool, 11 is fp64."""

Sides = tuple[int, ...]


class UnsupportedGraphError(ValueError):
    """A graph that is not run; the message says why, as the rest of a sentence about its file."""


@dataclass(frozen=True)
class GraphNode:
    """One step of a graph with what it reads and makes.

    Attributes:
        node: the step.
        read: the sides of each of its inputs.
        made: the sides of each of its outputs.
        whole: how many whole numbers are among what it makes.
    """

    node: "onnx.NodeProto"
    read: tuple[Sides, ...]
    made: tuple[Sides, ...]
    whole: int


def trace_costs(model: "onnx.ModelProto") -> Iterator[GraphNode]:
    """Every step with all sizes known, in the order of the graph.

    Args:
        model: with a fixed number of images; its parts are known to be allowed.

    Raises:
        UnsupportedGraphError: a size can't be known before it runs, or is impossible.
    """
    graph = model.graph
    types: dict[str, onnx.TypeProto] = {each.name: each.type for each in graph.input}
    known: dict[str, onnx.TensorProto] = {}
    for weights in graph.initializer:
        types[weights.name] = _type_of(weights)
        if weights.data_type in (INT32, INT64) and math.prod(weights.dims) <= MAX_WHOLE:
            known[weights.name] = weights
    versions = {each.domain: each.version for each in model.opset_import}
    for node in graph.node:
        if any(name not in types for name in node.input if name):
            raise UnsupportedGraphError(f"uses in the step {node.op_type!r:.40} what is made nowhere before")
        read = tuple(_sides(types[name], node) for name in node.input if name)
        outputs = [name for name in node.output if name]
        found = _inferred(node, types, known, versions)
        made = tuple(_sides(found.get(name), node) for name in outputs)
        types.update(found)
        whole = [
            math.prod(sides) for name, sides in zip(outputs, made, strict=True) if _is_whole(found[name])
        ]
        if whole and sum(whole) <= MAX_WHOLE and len(whole) == len(outputs) == 1:
            known.update(_computed(node, types, known))
        yield GraphNode(node, read, made, sum(whole))


def _inferred(
    node: "onnx.NodeProto", types: Mapping[str, Any], known: Mapping[str, Any], versions: Mapping[str, int]
) -> "dict[str, onnx.TypeProto]":
    import onnx

    given = {name: types[name] for name in node.input if name}
    data = {name: known[name] for name in given if name in known}
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in versions.items()]
    try:
        schema = onnx.defs.get_schema(node.op_type, versions.get("", versions.get("ai.onnx", 0)), "")
        return dict(onnx.shape_inference.infer_node_outputs(schema, node, given, data, opset_imports=imports))
    except Exception as error:  # onnx has a dozen kinds
        told = " ".join(str(error).split())[:200]
        raise UnsupportedGraphError(f"has an impossible step {node.op_type!r:.40}: {told}") from error


def _computed(
    node: "onnx.NodeProto", types: Mapping[str, Any], known: Mapping[str, Any]
) -> "dict[str, onnx.TensorProto]":
    """The few whole numbers that a step makes, where they follow from the graph alone: sides and places."""
    from onnx import numpy_helper

    name = next(each for each in node.output if each)
    if node.op_type == "Shape":
        attributes = {each.name: each.i for each in node.attribute}
        sides = _sides(types[node.input[0]], node)
        cut = sides[attributes.get("start", 0) : attributes.get("end")]
        return {name: numpy_helper.from_array(np.array(cut, np.int64), name)}
    if any(each not in known for each in node.input if each):
        return {}
    from onnx.reference import ReferenceEvaluator

    given = {each: numpy_helper.to_array(known[each]) for each in node.input if each}
    try:
        (value,) = ReferenceEvaluator(node).run(None, given)
        return {name: numpy_helper.from_array(np.asarray(value), name)}
    except Exception as error:  # whatever NumPy says to such numbers
        raise UnsupportedGraphError(
            f"has an impossible step {node.op_type!r:.40}: {type(error).__name__}"
        ) from error


def _type_of(weights: "onnx.TensorProto") -> "onnx.TypeProto":
    import onnx

    return onnx.helper.make_tensor_type_proto(weights.data_type, list(weights.dims))


def _is_whole(kind: "onnx.TypeProto") -> bool:
    return kind.tensor_type.elem_type in (INT32, INT64)


def _sides(kind: "onnx.TypeProto | None", node: "onnx.NodeProto") -> Sides:
    """The sides of an array, if they are known and possible."""
    array = kind.tensor_type if kind is not None and kind.HasField("tensor_type") else None
    if array is None or not array.HasField("shape"):
        raise UnsupportedGraphError(f"makes something of unknown size in the step {node.op_type!r:.40}")
    if array.elem_type not in NUMBERS:
        raise UnsupportedGraphError(f"makes something else than numbers in the step {node.op_type!r:.40}")
    sides = array.shape.dim
    if len(sides) > MAX_DIMENSIONS or any(
        not side.HasField("dim_value") or side.dim_value < 0 for side in sides
    ):
        raise UnsupportedGraphError(f"makes something of unknown size in the step {node.op_type!r:.40}")
    return tuple(side.dim_value for side in sides)

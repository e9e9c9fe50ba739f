"""Whether a graph from outside may be run: of what it is made, how much memory and work one image costs.

A few hundred bytes can ask for a terabyte (`Expand`, `Tile`, a product of a column and a row) or never end
(`Loop`). So there is a list of what a graph may be made of, all sizes must be known before anything runs, for
one image, and they are added up.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from inklab.export.onnx_cost import (
    INT32,
    INT64,
    MAX_DIMENSIONS,
    MAX_WHOLE,
    NUMBERS,
    GraphNode,
    Sides,
    UnsupportedGraphError,
    trace_costs,
)
from inklab.export.onnx_metadata import IR, OPSET

if TYPE_CHECKING:
    import onnx

MAX_NODES = 2_000
MAX_VALUES = 2**26  # numbers that all steps together make of one image: 256 MiB in fp32, if none were freed
MAX_WORK = 2**35  # multiply-adds for one image, some seconds; the study's cnn takes 2**24
MAX_WHOLE_ALL = 2**18  # whole numbers that all steps make
WINDOWS = 2**8  # weight of a value in the copy of all windows that some kernels of convolutions make first

POINTWISE = """
    Abs Acos Add And Asin Atan Cast Ceil Celu Clip Concat Constant Cos Cosh Div Dropout Elu Equal Erf Exp
    Flatten Floor Gather Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity
    InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Max Mean Min Mish Mul
    Neg Not Or PRelu Pad Pow Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    Relu Reshape Round Selu Shape Sigmoid Sign Sin Sinh Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub
    Sum Tan Tanh ThresholdedRelu Transpose Unsqueeze Where Xor BatchNormalization DepthToSpace SpaceToDepth
    Expand Tile ConstantOfShape GlobalAveragePool GlobalMaxPool CumSum
""".split()
"""Steps that take about as long as what they read and write is large."""

POOLS = ("MaxPool", "AveragePool", "LpPool")
PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose")
KNOWN = frozenset([*POINTWISE, *POOLS, *PRODUCTS])


def check_sandboxable(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The same graph for exactly one image, with all sizes known, if it may be run.

    Args:
        model: as parsed; nothing of it is trusted.

    Raises:
        UnsupportedGraphError: it is made of something else than known steps with weights of its own, is
            unsound, or costs
            too much.
    """
    import onnx

    _refuse_parts(model)
    for weights in model.graph.initializer:
        _refuse_weights(weights)
    pinned = _pinned(model)
    try:
        onnx.checker.check_model(pinned)
    except Exception as error:  # onnx has a dozen kinds
        raise UnsupportedGraphError(f"is unsound: {' '.join(str(error).split())[:200]}") from error
    made = _refuse_costs(trace_costs(pinned))
    for value in pinned.graph.output:
        sides = tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
        if made.get(value.name) != sides:
            raise UnsupportedGraphError(
                f"promises {value.name!r:.40} {sides}, but makes {made.get(value.name)}"
            )
    return pinned


def _refuse_parts(model: "onnx.ModelProto") -> None:
    """Refuse what our files never have: functions, other operators, graphs in graphs, files beside it."""
    graph = model.graph
    if model.functions or model.training_info or graph.sparse_initializer or graph.quantization_annotation:
        raise UnsupportedGraphError("has functions, training steps or sparse weights")
    if any(each.domain not in ("", "ai.onnx") for each in (*model.opset_import, *graph.node)):
        raise UnsupportedGraphError("needs operators of others")
    opset = {each.domain: each.version for each in model.opset_import}
    if opset not in ({"": OPSET}, {"ai.onnx": OPSET}) or model.ir_version > IR:
        raise UnsupportedGraphError(
            f"is written in {opset!r:.40}, format {model.ir_version}; read are opset {OPSET}, format {IR}"
        )
    if len(graph.node) > MAX_NODES:
        raise UnsupportedGraphError(f"has {len(graph.node):,} steps; at most {MAX_NODES:,} are run")
    strange = sorted({node.op_type for node in graph.node} - KNOWN)
    if strange:
        raise UnsupportedGraphError(f"has the step {strange[0]!r:.40}, which is not run")
    for node in graph.node:
        for attribute in node.attribute:
            _refuse_attribute(attribute)


def _refuse_attribute(attribute: "onnx.AttributeProto") -> None:
    if attribute.HasField("g") or attribute.graphs or attribute.ref_attr_name:
        raise UnsupportedGraphError("has a graph within its graph")
    if attribute.HasField("sparse_tensor") or attribute.sparse_tensors or attribute.tensors:
        raise UnsupportedGraphError("has sparse weights")
    if attribute.HasField("t"):
        _refuse_weights(attribute.t)


def _refuse_weights(weights: "onnx.TensorProto") -> None:
    """Refuse weights in other files, and those whose bytes are not those of their sides."""
    if weights.external_data or weights.data_location:
        raise UnsupportedGraphError("has weights in another file")
    if weights.data_type not in NUMBERS or weights.HasField("segment"):
        raise UnsupportedGraphError(f"has weights of a type that is not read ({weights.data_type})")
    if len(weights.dims) > MAX_DIMENSIONS or any(side < 0 for side in weights.dims):
        raise UnsupportedGraphError("has weights of an impossible shape")
    if weights.data_type in (INT32, INT64) and math.prod(weights.dims) > MAX_WHOLE:
        raise UnsupportedGraphError(f"has an array of more than {MAX_WHOLE:,} whole numbers")
    if len(weights.raw_data) != math.prod(weights.dims) * NUMBERS[weights.data_type]:
        raise UnsupportedGraphError(
            f"has weights whose bytes are not those of their sides ({weights.name!r:.40})"
        )


def _pinned(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """A copy for one image, without what it says itself of shapes in between."""
    import onnx

    pinned = onnx.ModelProto()
    pinned.CopyFrom(model)
    del pinned.metadata_props[:], pinned.graph.value_info[:]
    for value in (*pinned.graph.input, *pinned.graph.output):
        sides = value.type.tensor_type.shape.dim
        if sides:
            sides[0].dim_value = 1
    return pinned


def _refuse_costs(graph: Iterable[GraphNode]) -> dict[str, Sides]:
    """Refuse what costs too much; the sides of all that is made."""
    values, whole, work = 0, 0, 0
    made: dict[str, Sides] = {}
    for step in graph:
        made.update(zip(filter(None, step.node.output), step.made, strict=True))
        values += sum(map(math.prod, step.made))
        whole += step.whole
        work += _work(step)
        if values > MAX_VALUES or whole > MAX_WHOLE_ALL or work > MAX_WORK:
            raise UnsupportedGraphError(
                f"makes more than {MAX_VALUES:,} numbers or {MAX_WORK:,} products of one image"
            )
    return made


def _work(step: GraphNode) -> int:
    """Multiply-adds of a step, and at least what it reads and writes."""
    kind, read, made = step.node.op_type, step.read, step.made
    moved = sum(map(math.prod, (*read, *made)))
    if not read or not made:
        return moved
    if kind in ("MatMul", "Gemm"):  # the side that is summed over is one of the first factor's last two
        return moved + math.prod(made[0]) * max(read[0][-2:], default=1)
    if kind in POOLS:
        return moved + math.prod(made[0]) * _kernel(step.node)
    if kind in ("Conv", "ConvTranspose") and len(read) > 1:
        sides, window = made[0] if kind == "Conv" else read[0], math.prod(read[1][1:])
        return moved + (math.prod(sides) + WINDOWS * math.prod(sides[2:])) * window
    return moved


def _kernel(node: "onnx.NodeProto") -> int:
    sizes: Iterable[Any] = (each.ints for each in node.attribute if each.name == "kernel_shape")
    return abs(math.prod(map(int, next(iter(sizes), [1]))))

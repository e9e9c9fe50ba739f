"""A file from anywhere: what is foreign or hostile is refused in one line, before it costs anything."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_samples import CLASSES, SIDE, bundle, entries, graph, real
from hypothesis import given, settings
from hypothesis import strategies as st
from malicious_files import CHANGES, QUICKLY, Document, Tally, little_memory, peak_bytes, put, spoilt
from onnx import helper, numpy_helper

from inklab.errors import CorruptFileError, DataError
from inklab.export import onnx_file, onnx_policy
from inklab.export.graphs import network
from inklab.export.onnx_export import export_model
from inklab.export.onnx_file import parse_onnx, read_onnx
from inklab.export.onnx_metadata import OPSET
from inklab.export.protobuf_wire import bytes_besides_weights

PATH = Path("a.onnx")
IMAGES = real((1, SIDE, SIDE), 4)


# ---------------------------------------------------------------- hostile graphs


def refused(raw: bytes, match: str, kind: type[Exception] = CorruptFileError) -> None:
    before = peak_bytes()
    with little_memory(1 << 30), pytest.raises(kind, match=match) as caught:
        parse_onnx(raw, PATH).probabilities(IMAGES)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert peak_bytes() - before < 512 * 1024**2


def test_the_graph_that_hostile_ones_are_made_of_is_sound():
    assert parse_onnx(graph([]), PATH).probabilities(IMAGES).shape == (4, CLASSES)


def constant(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


BODY = helper.make_graph(
    [helper.make_node("Identity", ["c"], ["d"])], "b",
    [helper.make_tensor_value_info("n", 7, []), helper.make_tensor_value_info("c", 9, [])],
    [helper.make_tensor_value_info("d", 9, [])],
)  # fmt: skip
node = helper.make_node
DOUBLED = [node("Concat", [f"s{k}", f"s{k}"], [f"s{k + 1}"], axis=0) for k in range(40)]
SQUARED = [node("MatMul", [f"m{k}", f"m{k}"], [f"m{k + 1}"]) for k in range(4)]
MUCH = "makes more than"
HOSTILE = {
    "a constant of 10**12": ([node("ConstantOfShape", ["s"], ["big"])], {"s": constant(10**6, 10**6)}, MUCH),
    "a constant of 2**62 squared": (
        [node("ConstantOfShape", ["s"], ["big"])],
        {"s": constant(2**62, 2**62)},
        MUCH,
    ),
    "expanded": ([node("Expand", ["images", "s"], ["big"])], {"s": constant(10**7, 1, SIDE, SIDE)}, MUCH),
    "tiled": ([node("Tile", ["images", "s"], ["big"])], {"s": constant(10**4, 10**4, 1, 1)}, MUCH),
    "padded": (
        [node("Pad", ["images", "s"], ["big"])],
        {"s": constant(0, 0, 0, 0, 0, 0, 10**6, 10**6)},
        MUCH,
    ),
    "a column times a row": (
        [
            node("Reshape", ["v", "s"], ["column"]),
            node("Reshape", ["v", "t"], ["row"]),
            node("MatMul", ["column", "row"], ["big"]),
        ],
        {"v": np.ones(20_000, np.float32), "s": constant(20_000, 1), "t": constant(1, 20_000)},
        MUCH,
    ),
    "broadcast": (
        [node("Reshape", ["v", "s"], ["column"]), node("Add", ["column", "v"], ["big"])],
        {"v": np.ones(20_000, np.float32), "s": constant(20_000, 1)},
        MUCH,
    ),
    "doubled forty times": ([node("Flatten", ["images"], ["s0"]), *DOUBLED], {}, MUCH),
    "sides doubled forty times": (
        [node("Shape", ["images"], ["s0"]), *DOUBLED, node("ConstantOfShape", ["s40"], ["big"])],
        {},
        MUCH,
    ),
    "sixty-four sides": (
        [node("Unsqueeze", ["images", "s"], ["deep"])],
        {"s": np.arange(64, dtype=np.int64)},
        "unknown size",
    ),
    "hours of work": (
        [node("Expand", ["one", "s"], ["m0"]), *SQUARED],
        {"one": np.ones(1, np.float32), "s": constant(3000, 3000)},
        MUCH,
    ),
    "a wide convolution": (
        [node("Expand", ["one", "s"], ["picture"]), node("Conv", ["picture", "k"], ["big"])],
        {
            "one": np.ones((1, 1, 1, 1), np.float32),
            "s": constant(1, 1, 4000, 4000),
            "k": np.ones((1, 1, 100, 100), np.float32),
        },
        MUCH,
    ),
    "a size that is data": (
        [
            node("Cast", ["images"], ["whole"], to=7),
            node("Flatten", ["whole"], ["f"]),
            node("Reshape", ["f", "m"], ["s"]),
            node("ConstantOfShape", ["s"], ["big"]),
        ],
        {"m": constant(-1)},
        "unknown size",
    ),
    "where something is": ([node("NonZero", ["images"], ["places"])], {}, "'NonZero', which is not run"),
    "a loop": (
        [node("Loop", ["n", "c"], ["d"], body=BODY)],
        {"n": constant(2**62)[0], "c": np.array(True)},
        "'Loop', which is not run",
    ),
    "a choice": (
        [node("If", ["c"], ["d"], then_branch=BODY, else_branch=BODY)],
        {"c": np.array(True)},
        "'If', which is not run",
    ),
    "a hidden graph": ([node("Relu", ["images"], ["r"], body=BODY)], {}, "a graph within its graph"),
    "chance": (
        [node("RandomNormal", [], ["r"], shape=[10**6, 10**6])],
        {},
        "'RandomNormal', which is not run",
    ),
    "texts": ([node("Cast", ["images"], ["t"], to=8)], {}, "something else than numbers"),
    "an operator of others": (
        [node("Relu", ["images"], ["r"], domain="com.microsoft")],
        {},
        "operators of others",
    ),
    "many steps": ([node("Relu", ["images"], [f"r{k}"]) for k in range(2001)], {}, "2,0.. steps"),
    "a step that reads nothing": ([node("Relu", ["nothing"], ["r"])], {}, "unsound"),
    "many whole numbers": (
        [node("Gather", ["w", "s"], ["r"])],
        {"s": np.zeros(5000, np.int64)},
        "whole numbers",
    ),
    "weights of another type": ([], {"h": np.ones(3, np.float16)}, "a type that is not read"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_graph_costs_nothing(name):
    nodes, weights, says = HOSTILE[name]
    refused(graph(nodes, weights), says)


def changed(change) -> bytes:
    model = onnx.load_model_from_string(graph([]))
    change(model)
    return model.SerializeToString().replace(b"na-me", b"na\xffme")


def outside(model):
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def named(model):
    model.graph.initializer[0].external_data.add(key="location", value="../../secret")


def function(model):
    model.functions.add(name="Relu", domain="")


CHANGED = {
    "weights elsewhere": (outside, "weights in another file"),
    "a name of another file": (named, "weights in another file"),
    "fewer bytes": (
        lambda m: setattr(m.graph.initializer[0], "raw_data", b"\0" * 8),
        "bytes are not those of their sides",
    ),
    "huge sides": (lambda m: m.graph.initializer[0].dims.append(2**40), "bytes are not those of their sides"),
    "negative sides": (lambda m: m.graph.initializer[0].dims.append(-1), "impossible shape"),
    "a function": (function, "functions"),
    "another input": (lambda m: setattr(m.graph.input[0], "name", "x"), "takes 'x'"),
    "a larger input": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 10**9),
        "takes 'images'",
    ),
    "an input of bytes": (
        lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 2),
        "takes 'images'",
    ),
    "a missing output": (lambda m: m.graph.output.pop(), "but gives 'logits'"),
    "an output of another size": (
        lambda m: m.graph.node[0].CopyFrom(helper.make_node("Flatten", ["images"], ["flat"], axis=3)),
        "impossible step|promises 'logits'",
    ),
    "a name that is no text": (lambda m: setattr(m.graph.node[0], "name", "na-me"), "a name is not UTF-8"),
    "another opset": (lambda m: setattr(m.opset_import[0], "version", 10**9), "written in"),
    "no opset": (lambda m: m.ClearField("opset_import"), "written in"),
    "weights that are no numbers": (
        lambda m: m.graph.initializer[0].CopyFrom(
            numpy_helper.from_array(np.full((36, 3), np.nan, np.float32), "w")
        ),
        "its probabilities are none",
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_file_is_refused(name):
    change, says = CHANGED[name]
    refused(changed(change), says)


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("format", "2", "'format'"), ("format", "{", "not readable JSON"), ("kind", '"dog"', "'kind'"),
        ("kind", '"denoiser"', "said to be a denoiser, but gives 'logits'"),
        ("kind", '"decoder"', "a decoder says how long its codes are"),
        ("labels", "[]", "'labels'"), ("labels", "[1, 2, 3]", "'labels"),
        ("labels", '["a"]', "gives 'logits'"),
        ("labels", json.dumps(["x"] * 20_000), "'labels'"), ("shape", "[1, 6]", "'shape'"),
        ("shape", "[1, 6, 1000000000]", "'shape"),
        ("shape", "[1, 5, 5]", "framing makes images of another shape"),
        ("framing", "{}", "framing"), ("framing", '{"height": -3}', "framing"), ("parts", "[]", "'parts'"),
        ("parts", '[{"name": 3}]', "'parts"), ("parts", '[{"name": "a", "scores": {"x": NaN}}]', "NaN"),
        ("parity", "null", "'parity'"), ("code", "[]", "'code'"), ("labels", "[" * 5000, "not readable JSON"),
    ],
)  # fmt: skip
def test_metadata_that_is_none_is_refused(key, text, says):
    refused(graph([], entries={key: text}), says)


@pytest.mark.parametrize("key", sorted(entries()))
def test_missing_metadata_is_named(key):
    model = onnx.load_model_from_string(graph([]))
    helper.set_model_props(model, {name: text for name, text in entries().items() if name != key})
    refused(model.SerializeToString(), f"its metadata lacks {key};")


def test_much_metadata_is_refused():
    refused(graph([], entries={f"k{k}": "0" for k in range(101)}), "entries of metadata")


# ---------------------------------------------------------------- before anything is parsed


def test_objects_are_not_made_of_every_two_bytes(monkeypatch):
    """A megabyte of empty nodes would become a hundred of objects."""
    nodes = b"\x0a\x00" * 600_000
    body = bytes([7 << 3 | 2]) + varint(len(nodes)) + nodes
    monkeypatch.setattr(onnx_file, "MAX_BESIDES", 10_000)
    refused(body, "too many parts")
    refused(
        graph([], {"x": np.ones(9000, np.float32)}, entries={"more": "0" * 10_000}), "more than 10,000 bytes"
    )
    assert parse_onnx(graph([], {"x": np.ones(9000, np.float32)}), PATH).labels
    assert bytes_besides_weights(graph([]), 10**6) < 10_000


def varint(value: int) -> bytes:
    parts = []
    while value >= 128:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def test_a_large_file_is_not_read(monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_file, "MAX_FILE", 500)
    with pytest.raises(CorruptFileError, match="at most 500 are read"):
        read_onnx(put(tmp_path / "a.onnx", graph([])))


def test_what_is_no_file_is_not_read(tmp_path):
    (tmp_path / "endless.onnx").symlink_to("/dev/zero")
    for path in (tmp_path / "endless.onnx", tmp_path):
        with pytest.raises(DataError, match=path.name):
            read_onnx(path)


def test_all_that_is_allowed_is_known_to_onnx():
    for name in onnx_policy.KNOWN:
        assert onnx.defs.get_schema(name, OPSET).domain == ""


# ---------------------------------------------------------------- a few hundred spoilt files


@pytest.fixture(scope="module")
def sound() -> bytes:
    return export_model(network(bundle("cnn", (1, SIDE, SIDE), CLASSES, channels=[2], pool=2, hidden=3))).raw


def by_bytes(raw: bytes, changes) -> None:
    parse_onnx(spoilt(raw, changes), PATH).probabilities(IMAGES)


def by_metadata(raw: bytes, changes) -> None:
    model = onnx.load_model_from_string(raw)
    told = {each.key: each.value for each in model.metadata_props}
    key = sorted(told)[changes[0][1] % len(told)]
    value = Document(json.loads(told[key])).changed(changes) if changes[0][2] % 3 else changes[0][2]
    helper.set_model_props(model, {**told, key: json.dumps(value)})
    parse_onnx(model.SerializeToString(), PATH).probabilities(IMAGES)


KINDS = sorted(onnx_policy.KNOWN)


def by_graph(raw: bytes, changes) -> None:
    """Changes that are protobuf, and so reach what looks at the graph."""
    model = onnx.load_model_from_string(raw)
    for kind, place, value in changes:
        step = model.graph.node[place % len(model.graph.node)]
        weights = model.graph.initializer[place % len(model.graph.initializer)]
        if kind % 5 == 0:
            step.op_type = KINDS[value % len(KINDS)]
        elif kind % 5 == 1 and step.attribute:
            attribute = step.attribute[value % len(step.attribute)]
            attribute.CopyFrom(helper.make_attribute(attribute.name, [value % 7 - 2] * (kind % 6 + 1)))
        elif kind % 5 == 2 and step.input:
            step.input[value % len(step.input)] = model.graph.node[value % len(model.graph.node)].output[0]
        elif kind % 5 == 3:
            raw, number = weights.raw_data, value * 2654435761 % 2**32
            at = value % len(raw) // 4 * 4
            weights.raw_data = raw[:at] + number.to_bytes(4, "little") + raw[at + 4 :]
        elif weights.dims:
            weights.dims[value % len(weights.dims)] = value % 2**20
    parse_onnx(model.SerializeToString(), PATH).probabilities(IMAGES)


@pytest.mark.parametrize("how", [by_bytes, by_metadata, by_graph], ids=lambda how: how.__name__)
def test_only_our_own_errors_escape(how, sound):
    tally = Tally(patience=5.0)

    @settings(QUICKLY, max_examples=20, derandomize=True)
    @given(st.lists(CHANGES, min_size=8, max_size=8))
    def each(cases):
        for changes in cases:
            tally.case("onnx", lambda changes: how(sound, changes), changes)

    with little_memory(1 << 30):
        each()
    assert tally.cases >= 100 and tally.refused.total() > 20, tally.told()


def test_what_is_spoilt_was_sound(sound):
    assert CLASSES == parse_onnx(sound, PATH).probabilities(IMAGES).shape[1]

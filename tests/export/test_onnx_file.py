"""ONNX files from anywhere: damage is detected, limits hold, files by others run at the user's own risk."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from export_samples import (
    METADATA,
    N_CLASSES,
    SIDE,
    exported_network,
    foreign_graph,
    graph,
    random_images,
    untrained_model,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from malicious_files import CHANGES, QUICKLY, Tally, corrupt
from onnx import helper
from PIL import Image

from inklab.errors import CorruptFileError, DataError, InklabError, ModelMismatchError
from inklab.export import onnx_file
from inklab.export.onnx_export import with_metadata
from inklab.export.onnx_file import parse_onnx, predict_file, read_onnx
from inklab.predictions import to_bytes
from inklab.records.components import Preprocessing

PATH = Path("a.onnx")
IMAGES = random_images((1, SIDE, SIDE), 4)


@pytest.fixture(scope="module")
def exported() -> bytes:
    return exported_network("cnn").raw


@pytest.fixture
def picture(tmp_path) -> Path:
    Image.fromarray(IMAGES[0, 0]).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def assert_refused(raw: bytes, kind: type[InklabError] = CorruptFileError) -> str:
    with pytest.raises(kind) as caught:
        parse_onnx(raw, PATH).probabilities(IMAGES)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    return str(caught.value)


def edited(raw: bytes, change) -> bytes:
    model = onnx.load_model_from_string(raw)
    change(model)
    return model.SerializeToString(deterministic=True)


def test_a_file_computes_the_probabilities_of_its_model(exported):
    model, read = untrained_model("cnn"), parse_onnx(exported, PATH)
    assert (read.labels, read.shape) == (model.labels, (1, 12, 12))
    images = random_images(count=40)
    expected = model.probabilities(torch.from_numpy(images).float() / 255)
    np.testing.assert_allclose(read.probabilities(images), expected, atol=1e-5)


def test_a_file_by_others_is_run_with_numbered_labels(tmp_path, picture):
    path = tmp_path / "foreign.onnx"
    path.write_bytes(foreign_graph())
    result = predict_file(path, [picture])
    (prediction,) = result.predictions
    assert result.note and list(prediction.probabilities) == ["0", "1", "2"]
    powers = np.exp(IMAGES[0].reshape(-1)[:N_CLASSES] / 255)  # its logits are the first pixels
    np.testing.assert_allclose(list(prediction.probabilities.values()), powers / powers.sum(), atol=1e-5)
    assert np.array_equal(to_bytes(result.predictions.inputs.images), IMAGES[:1])


def test_the_same_predictions_in_processes_of_their_own(tmp_path, picture, exported, monkeypatch):
    path = tmp_path / "a.onnx"
    path.write_bytes(exported)
    monkeypatch.setattr(onnx_file, "MAX_LOT", 2)
    pictures = [picture, tmp_path / "nowhere.png", picture]
    lots = predict_file(path, pictures)
    assert lots == read_onnx(path).predict(pictures)
    assert [row.error is None for row in lots.predictions] == [True, False, True]


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model.graph.node[0], "name", "other"),
        lambda model: setattr(model.graph.initializer[0], "raw_data", b"\0" * 8),
        lambda model: setattr(model.metadata_props[0], "value", '"other"'),
        lambda model: model.metadata_props.pop(0),
        lambda model: model.metadata_props.add(key="note", value='"other"'),
    ],
    ids=["name", "weights", "metadata", "missing metadata", "more metadata"],
)
def test_any_change_of_an_exported_file_is_detected(change, exported):
    assert "SHA-256" in assert_refused(edited(exported, change))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "denoiser"), ("kind", "encoder"), ("shape", (1, 5, 5)), ("labels", ("a",)), ("labels", ()),
        ("format", 1), ("parts", ()), ("code_size", 3),
        ("preprocessing", Preprocessing.resize_only((1, 5, 5))),
    ],
    ids=str,
)  # fmt: skip
def test_metadata_that_contradicts_the_graph_or_itself_is_refused(field, value):
    """A digest is no signature: anyone who writes a file can also write its digest."""
    assert_refused(graph(**{field: value}))


def test_what_is_no_network_is_refused(exported):
    for raw in (b"", b"I am no network", b"\x0a\x00" * 1000, exported[:-50]):
        assert_refused(raw)
    assert_refused(exported.replace(b"inklab", b"ink\xff\xff\xff"))  # a name that is no text
    assert_refused(edited(foreign_graph(), add_much_metadata))
    assert_refused(graph([helper.make_node("Identity", ["logits"], ["probabilities"])]))
    assert_refused(graph(weights={"w": np.full((SIDE * SIDE, N_CLASSES), np.nan, np.float32)}))


def add_much_metadata(model):
    for k in range(101):
        model.metadata_props.add(key=f"k{k}", value="0")


def external(tensor: onnx.TensorProto) -> None:
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def external_in_a_branch(model: onnx.ModelProto) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(np.ones(3), "v"))
    branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("c", 1, [3])])
    external(branch.node[0].attribute[0].t)
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))


@pytest.mark.parametrize(
    "change",
    [lambda model: external(model.graph.initializer[0]), external_in_a_branch],
    ids=["weights", "branch"],
)
def test_weights_in_other_files_are_not_read(change):
    assert "another file" in assert_refused(with_metadata(edited(foreign_graph(), change), METADATA))


def test_only_a_plain_and_small_file_is_read(monkeypatch, tmp_path):
    (tmp_path / "endless.onnx").symlink_to("/dev/zero")
    for path in (tmp_path / "endless.onnx", tmp_path, tmp_path / "nothing.onnx"):
        with pytest.raises(DataError) as caught:
            read_onnx(path)
        assert path.name in str(caught.value)
    monkeypatch.setattr(onnx_file, "MAX_FILE_BYTES", 500)
    (tmp_path / "a.onnx").write_bytes(graph())
    with pytest.raises(CorruptFileError):
        read_onnx(tmp_path / "a.onnx")


def node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, outputs, **attributes)


BODY = helper.make_graph(
    [node("Identity", ["c"], ["d"]), node("Add", ["v"] * 2, ["w2"])], "body",
    [
        helper.make_tensor_value_info("n", 7, []), helper.make_tensor_value_info("c", 9, []),
        helper.make_tensor_value_info("v", 1, [1]),
    ],
    [helper.make_tensor_value_info("d", 9, []), helper.make_tensor_value_info("w2", 1, [1])],
)  # fmt: skip
SUM = [node("ReduceMax", ["big"], ["most"], keepdims=0), node("Flatten", ["images"], ["flat"])]
SUM += [node("MatMul", ["flat", "w"], ["raw"]), node("Add", ["raw", "most"], ["logits"])]
MALICIOUS = {
    "a terabyte": (
        [node("ConstantOfShape", ["s"], ["big"]), *SUM], {"s": np.array([10**6, 10**6], np.int64)},
    ),
    "a loop without end": (
        [node("Loop", ["n", "c", "one"], ["big"], body=BODY), *SUM],
        {"n": np.array(2**62), "c": np.array(True), "one": np.ones(1, np.float32)},
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a terabyte", graph),
        ("a terabyte", foreign_graph),
        pytest.param("a loop without end", graph, marks=pytest.mark.integration),
    ],
)
def test_a_malicious_graph_is_stopped(name, make, tmp_path, picture, monkeypatch):
    """Whether or not it has metadata that looks like inklab's."""
    monkeypatch.setattr(onnx_file, "TIMEOUT_SECONDS", 8)
    (tmp_path / "a.onnx").write_bytes(make(*MALICIOUS[name]))
    with pytest.raises(DataError) as caught:
        predict_file(tmp_path / "a.onnx", [picture])
    assert "a.onnx" in str(caught.value)


def test_a_graph_that_takes_no_images_is_refused():
    graph_of_one = helper.make_graph(
        [node("Relu", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", 1, [1])], [helper.make_tensor_value_info("y", 1, [1])],
    )  # fmt: skip
    model = helper.make_model(graph_of_one, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    assert_refused(model.SerializeToString(), ModelMismatchError)


def test_errors_of_the_other_process_keep_their_class(tmp_path, picture, exported):
    (tmp_path / "a.onnx").write_bytes(exported[:-50])
    with pytest.raises(DataError) as caught:
        predict_file(tmp_path / "a.onnx", [picture])
    assert "a.onnx" in str(caught.value)
    (tmp_path / "denoiser.onnx").write_bytes(exported_network("autoencoder").raw)
    with pytest.raises(InklabError) as caught:
        predict_file(tmp_path / "denoiser.onnx", [picture])
    assert not isinstance(caught.value, DataError)


def test_only_our_own_errors_escape(exported):
    tally = Tally(max_seconds=5.0)

    def read(changes):
        return parse_onnx(corrupt(exported, changes), PATH).probabilities(IMAGES)

    @settings(QUICKLY, max_examples=20, derandomize=True)
    @given(st.lists(CHANGES, min_size=8, max_size=8))
    def run(cases):
        for changes in cases:
            tally.case("onnx", read, changes)

    run()
    assert read([]).shape == (4, 5)
    assert tally.cases >= 100 and tally.refused.total() > 20, tally.table()

"""An exported network computes what the original does; one that does not is refused."""

import json
from dataclasses import replace
from pathlib import Path

import export_samples
import numpy as np
import onnx
import pytest
import torch
from export_samples import exported_network, random_images, untrained_model
from onnx import numpy_helper

import inklab
from inklab.corruptions.filters import filters
from inklab.errors import InklabError, ModelMismatchError
from inklab.export.graphs import (
    Exportable,
    NamedPart,
    decoder_graph,
    encoder_graph,
    network_graph,
    pipeline_graph,
)
from inklab.export.onnx_export import ExportedModel, export_model, to_onnx
from inklab.export.onnx_file import IR, OPSET, GraphMetadata, Session, parse_onnx
from inklab.export.verify import BATCH_SIZES, TOLERANCE, compare_outputs, comparison_inputs, extreme_images
from inklab.io.files import sha256_of
from inklab.model import TrainedModel
from inklab.networks.network import networks
from inklab.records.components import NormalizeConfig

GRAY, COLOR = (1, 12, 12), (3, 9, 11)
REGISTERED = [name for name, entry in networks.all().items() if entry.fn.__module__.startswith("inklab.")]
assert len(REGISTERED) >= 5


def export(graph: Exportable) -> ExportedModel:
    return export_model(graph, random_images(graph.metadata.shape))


@pytest.fixture(scope="module")
def mlp() -> ExportedModel:
    return exported_network("mlp")


@pytest.fixture(scope="module")
def denoiser() -> TrainedModel:
    return untrained_model("autoencoder")


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> str:
    return export_samples.write_own(tmp_path_factory.mktemp("own"))


def onnx_model(exported: ExportedModel) -> onnx.ModelProto:
    return onnx.load_model_from_string(exported.raw)


def metadata_of(exported: ExportedModel) -> GraphMetadata:
    return parse_onnx(exported.raw, Path("a.onnx")).metadata


def random_floats(count: int, shape: tuple[int, int, int] = GRAY) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((count, *shape), np.float32))


def expected_outputs(model: TrainedModel, images: torch.Tensor) -> dict[str, torch.Tensor]:
    if model.task == "denoising":
        return {"denoised": model.denoise(images)}
    return {"logits": model.logits(images), "probabilities": model.probabilities(images)}


def assert_same(inputs: np.ndarray, exported: ExportedModel, expected: dict[str, torch.Tensor]) -> None:
    outputs = Session(exported.raw)(inputs)
    assert outputs.keys() == expected.keys()
    for name, values in expected.items():
        assert outputs[name].dtype == np.float32
        np.testing.assert_allclose(outputs[name], values.numpy(), atol=2e-5, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("shape", [GRAY, pytest.param(COLOR, marks=pytest.mark.integration)], ids=str)
@pytest.mark.parametrize("name", REGISTERED)
def test_a_registered_network_computes_the_same(name, shape):
    model, exported = untrained_model(name, shape), exported_network(name, shape)
    assert exported.parity.real_images == 12 and exported.parity.images > 40
    assert max(exported.parity.max_relative.values()) <= TOLERANCE / 5, "so that the tolerance has a margin"
    images = random_floats(33, shape)
    expected = expected_outputs(model, images)
    for count in (1, 2, 7, 33):
        first = {key: values[:count] for key, values in expected.items()}
        assert_same(images[:count].numpy(), exported, first)


def test_a_pipeline_is_the_denoiser_and_then_the_classifier(denoiser):
    classifier = untrained_model("cnn")
    parts = NamedPart("denoiser", denoiser), NamedPart("cnn", classifier)
    exported = export(pipeline_graph(parts[:1], parts[1]))
    images = random_floats(9)
    denoised = denoiser.denoise(images)
    expected = {"denoised": denoised, **expected_outputs(classifier, denoised)}
    assert_same(images.numpy(), exported, expected)
    assert [part.name for part in metadata_of(exported).parts] == ["denoiser", "cnn"]


def test_a_filter_may_be_part_of_a_pipeline():
    parts = NamedPart("median", filters["median"]), NamedPart("mlp", untrained_model("mlp", COLOR))
    exported = export(pipeline_graph(parts[:1], parts[1]))
    images = torch.from_numpy(np.random.default_rng(0).random((300, *COLOR), np.float32))
    denoised = filters["median"](images)  # in two blocks
    np.testing.assert_array_equal(Session(exported.raw)(images.numpy())["denoised"], denoised.numpy())


def test_the_halves_of_an_autoencoder(denoiser):
    encoder, decoder = export(encoder_graph(denoiser, "ae")), export(decoder_graph(denoiser, "ae"))
    images = random_floats(5)
    codes = Session(encoder.raw)(images.numpy())["codes"]
    assert codes.shape == (5, 8)
    with torch.inference_mode():
        expected = denoiser.net.net.encoder(denoiser.net.normalize(images))
    np.testing.assert_allclose(codes, expected, atol=2e-5)
    decoded = Session(decoder.raw)(codes)["images"]
    np.testing.assert_allclose(decoded, denoiser.denoise(images), atol=2e-5)
    assert (metadata_of(decoder).code_size, metadata_of(encoder).code_size) == (8, None)


@pytest.mark.integration
def test_a_users_network_with_norms(own):
    model = untrained_model(f"{own}:Normed", COLOR)
    exported = export(network_graph(model, "own"))
    images = random_floats(33, COLOR)
    assert_same(images.numpy(), exported, expected_outputs(model, images))
    assert metadata_of(exported).parts[0].source_sha256 == sha256_of(Path(own).read_bytes())


@pytest.mark.parametrize("name", REGISTERED)
def test_the_weights_are_the_models_bits(name):
    initializers = onnx_model(exported_network(name)).graph.initializer
    stored = {array.tobytes() for array in map(numpy_helper.to_array, initializers)}
    state = untrained_model(name).net.state_dict()
    assert len(state) > 5
    assert not [key for key, value in state.items() if value.contiguous().numpy().tobytes() not in stored]


def test_one_plain_file(mlp):
    model = onnx_model(mlp)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    assert (model.ir_version, model.producer_name, model.producer_version) == (
        IR, "inklab", inklab.__version__,
    )  # fmt: skip
    assert not model.functions and not [tensor for tensor in model.graph.initializer if tensor.external_data]
    onnx.checker.check_model(model, full_check=True)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert b".py" not in mlp.raw and b"Traceback" not in mlp.raw  # nothing about this machine
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(entries["labels"]) == list(untrained_model("mlp").labels)  # JSON for other programs


def test_metadata_describes_the_model(mlp, tmp_path):
    model, metadata = untrained_model("mlp"), metadata_of(mlp)
    assert (metadata.format, metadata.kind, metadata.inklab) == (2, "classifier", inklab.__version__)
    assert (metadata.labels, metadata.shape) == (model.labels, GRAY)
    assert (metadata.preprocessing, metadata.data_sha256) == (model.preprocessing, "0" * 64)
    (part,) = metadata.parts
    assert (part.name, part.network, part.metrics) == ("mlp", model.manifest.network, model.manifest.metrics)
    assert part.normalize == NormalizeConfig(mean=float(np.float32(0.2)), std=float(np.float32(0.4)))
    assert part.provenance == model.manifest.provenance and part.weights_sha256 == model.save(tmp_path)
    parity = metadata.parity
    assert (parity.batch_sizes, parity.tolerance) == (BATCH_SIZES, TOLERANCE)
    assert parity.images == mlp.parity.images and set(parity.max_difference) == {"logits", "probabilities"}


@pytest.mark.integration
def test_the_same_model_gives_the_same_bytes(mlp, tmp_path):
    untrained_model("mlp").save(tmp_path)
    assert export(network_graph(TrainedModel.load(tmp_path))).raw == mlp.raw


def tampered(raw: bytes, weight: str, change: float) -> bytes:
    model = onnx.load_model_from_string(raw)
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == weight]
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] += np.float32(change)
    tensor.CopyFrom(numpy_helper.from_array(values, weight))
    return model.SerializeToString()


def assert_mismatch(graph: Exportable, infer) -> ModelMismatchError:
    with pytest.raises(ModelMismatchError) as caught:
        compare_outputs(graph, infer, random_images())
    return caught.value


@pytest.mark.parametrize(
    ("weight", "change"),
    [
        ("normalize.mean", 1e-3), ("net.hidden.0.weight", 1e-3), ("net.hidden.2.bias", 1e-3),
        ("net.output.bias", 1e-3), ("net.output.bias", float("nan")),
    ],
)  # fmt: skip
def test_a_graph_with_one_other_weight_is_refused(weight, change, mlp):
    error = assert_mismatch(mlp.graph, Session(tampered(mlp.raw, f"classifier.{weight}", change)))
    assert error.key in (["logits"] if np.isnan(change) else ["logits", "probabilities"])


def test_a_graph_that_is_correct_for_one_image_only_is_refused(mlp):
    session, sizes = Session(mlp.raw), []

    def first_only(images):
        sizes.append(len(images))
        return {name: values[:1].repeat(len(images), axis=0) for name, values in session(images).items()}

    assert_mismatch(mlp.graph, first_only)
    assert sizes[-1] == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda outputs: {"logits": outputs["logits"]},
        lambda outputs: {name: values[:, :3] for name, values in outputs.items()},
        lambda outputs: {**outputs, "logits": outputs["logits"][:, ::-1]},
    ],
    ids=["missing", "narrow", "swapped"],
)
def test_other_outputs_are_refused(change, mlp):
    session = Session(mlp.raw)
    assert_mismatch(mlp.graph, lambda images: change(session(images)))


@pytest.mark.parametrize(("gap", "passes"), [(7e-5, False), (3e-5, True)])
def test_another_class_is_refused_unless_two_are_as_good_as_equal(gap, passes, mlp):
    """Every logit is within the tolerance, but the two largest have changed places."""

    def constant(first, second, to_array):
        return lambda images: {"logits": to_array(len(images) * [[first, second, 0, 0, 0]])}

    graph = replace(mlp.graph, reference=constant(1.0, 1 - gap, torch.tensor))
    swapped = constant(1 - 0.6 * gap, 1 - 0.4 * gap, lambda rows: np.array(rows, np.float32))
    if passes:
        assert compare_outputs(graph, swapped, random_images()).max_difference["logits"] <= TOLERANCE
    else:
        assert assert_mismatch(graph, swapped).key == "logits"


def test_extreme_images_are_in_range_and_all_different():
    kinds = extreme_images(1, 12, 12)
    images = np.concatenate(list(kinds.values()))
    assert images.dtype == np.float32 and 0 <= images.min() and images.max() <= 1
    assert len({image.tobytes() for image in images}) == len(images) and len(kinds) >= 7
    graph = network_graph(untrained_model("mlp"))
    first, again = (comparison_inputs(graph, random_images()) for _ in range(2))
    assert all(np.array_equal(first[kind], again[kind]) for kind in first)


def test_a_network_that_no_graph_can_express_is_refused_in_one_line(own):
    with pytest.raises(ModelMismatchError) as caught:
        export_model(network_graph(untrained_model(f"{own}:Choosy")), random_images())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_halves_need_an_autoencoder_and_parts_must_fit(denoiser):
    for half in (encoder_graph, decoder_graph):
        with pytest.raises(ModelMismatchError) as caught:
            half(untrained_model("mlp"))
        assert caught.value.key == "mlp"
    mlp, first = NamedPart("mlp", untrained_model("mlp")), NamedPart("denoiser", denoiser)
    color = NamedPart("color", untrained_model("mlp", COLOR))
    for pair in ((first, color), (mlp, mlp), (mlp, first), (first, NamedPart("median", filters["median"]))):
        with pytest.raises(ModelMismatchError):
            pipeline_graph([pair[0]], pair[1])
    with pytest.raises(ModelMismatchError):  # it computes something else than it says
        update = {"labels": ("a", "b"), "task": "classification"}
        network_graph(replace(denoiser, manifest=denoiser.manifest.model_copy(update=update)))


@pytest.mark.integration
def test_torch_prints_nothing(capfd):
    with pytest.raises(InklabError):  # a valid export is silent in all other tests: warnings are errors there
        export_model(network_graph(untrained_model("mlp", hidden=[-1])), random_images())
    assert capfd.readouterr() == ("", "")
    to_onnx(network_graph(untrained_model("mlp", hidden=[3])))
    assert capfd.readouterr() == ("", "")

"""An exported network computes what the original does; one that doesn't is refused."""

import json
from dataclasses import replace

import export_samples
import numpy as np
import onnx
import pytest
import torch
from export_samples import bundle, real
from onnx import numpy_helper

import inklab
from inklab.corruptions.filters import filters
from inklab.errors import InklabError, ModelMismatchError
from inklab.export.graphs import decoder, encoder, network, pipeline
from inklab.export.onnx_export import ExportedModel, export_model, to_onnx
from inklab.export.onnx_metadata import IR, OPSET
from inklab.export.onnx_policy import KNOWN
from inklab.export.onnx_runtime import Session
from inklab.export.verify import BATCHES, TOLERANCE, compare_outputs, extreme_images, inputs_for
from inklab.model import TrainedModel
from inklab.networks.network import models

GREY, COLOUR = (1, 12, 12), (3, 9, 11)
REGISTERED = [name for name, each in models.all().items() if each.build.__module__.startswith("inklab.")]


@pytest.fixture(scope="module")
def done():
    """Exports that tests share, by what was exported; each is made once."""
    kept: dict[str, ExportedModel] = {}

    def get(name, make):
        if name not in kept:
            wanted = make()
            kept[name] = export_model(wanted, real(tuple(wanted.about["shape"])))
        return kept[name]

    return get


@pytest.fixture(scope="module")
def mlp(done) -> ExportedModel:
    return done("small", lambda: network(bundle("mlp"), "small"))


@pytest.fixture(scope="module")
def denoiser() -> TrainedModel:
    return bundle("autoencoder")


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> str:
    return export_samples.write_own(tmp_path_factory.mktemp("own"))


def model_of(exported: ExportedModel) -> onnx.ModelProto:
    return onnx.load_model_from_string(exported.raw)


def entries_of(exported: ExportedModel) -> dict:
    return {each.key: json.loads(each.value) for each in model_of(exported).metadata_props}


def assert_same(given: np.ndarray, exported: ExportedModel, right: dict[str, torch.Tensor]) -> None:
    found = Session(exported.raw)(given)
    assert found.keys() == right.keys()
    for name, wants in right.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], wants.numpy(), atol=2e-5, rtol=1e-5, err_msg=name)


# ---------------------------------------------------------------- it computes the same


def test_everything_registered_is_tried():
    assert len(REGISTERED) >= 5


@pytest.mark.parametrize("shape", [GREY, COLOUR], ids=str)
@pytest.mark.parametrize("name", REGISTERED)
def test_a_registered_model_computes_the_same(name, shape, done):
    made = bundle(name, shape)
    exported = done(f"{name} {shape}", lambda: network(made))
    assert exported.parity.real == 12 and exported.parity.images > 40 and exported.remark is None
    assert max(exported.parity.relative.values()) <= TOLERANCE / 5, "so that the tolerance is no close call"
    images = np.random.default_rng(0).random((33, *shape), np.float32)
    with torch.inference_mode():
        if made.target == "images":
            right = {"cleaned": made.cleaned(torch.from_numpy(images))}
        else:
            right = {"logits": made.net(torch.from_numpy(images))}
            right |= {"probabilities": made.probabilities(torch.from_numpy(images))}
    for count in (1, 2, 7, 33):
        assert_same(images[:count], exported, {key: each[:count] for key, each in right.items()})


def test_a_pipeline_is_the_denoiser_and_then_the_classifier(denoiser, done):
    cleaner, judge = denoiser, bundle("cnn")
    exported = done("pipeline", lambda: pipeline([(cleaner, "denoiser")], (judge, "cnn")))
    images = torch.from_numpy(np.random.default_rng(0).random((9, *GREY), np.float32))
    cleaned = cleaner.cleaned(images)
    with torch.inference_mode():
        logits = judge.net(cleaned)
    right = {"cleaned": cleaned, "logits": logits, "probabilities": judge.probabilities(cleaned)}
    assert_same(images.numpy(), exported, right)
    assert [each["name"] for each in entries_of(exported)["parts"]] == ["denoiser", "cnn"]


@pytest.mark.parametrize("shape", [GREY, COLOUR], ids=str)
def test_a_filter_may_stand_in_a_pipeline(shape, done):
    judge = bundle("mlp", shape)
    exported = done(f"median {shape}", lambda: pipeline([(filters["median"], "median")], (judge, "mlp")))
    images = torch.from_numpy(np.random.default_rng(0).random((300, *shape), np.float32))
    cleaned = filters["median"](images)  # in two blocks
    np.testing.assert_array_equal(Session(exported.raw)(images.numpy())["cleaned"], cleaned.numpy())
    assert exported.remark is None


def test_the_halves_of_an_autoencoder(denoiser, done):
    first, second = (
        done(each.__name__, lambda each=each: each(denoiser, "ae")) for each in (encoder, decoder)
    )
    images = np.random.default_rng(0).random((5, *GREY), np.float32)
    codes = Session(first.raw)(images)["codes"]
    assert codes.shape == (5, 8)
    with torch.inference_mode():
        right = denoiser.net.net.encoder(denoiser.net.scaling(torch.from_numpy(images)))
    np.testing.assert_allclose(codes, right, atol=2e-5)
    made = Session(second.raw)(codes)["images"]
    np.testing.assert_allclose(made, denoiser.cleaned(torch.from_numpy(images)), atol=2e-5)
    assert entries_of(second)["code"] == 8 and "code" not in entries_of(first)


def test_a_network_of_ones_own_with_norms(own, done):
    made = bundle(f"{own}:Normed", COLOUR)
    exported = done("own", lambda: network(made, "own"))
    images = torch.from_numpy(np.random.default_rng(0).random((33, *COLOUR), np.float32))
    with torch.inference_mode():
        right = {"logits": made.net(images), "probabilities": made.probabilities(images)}
    assert_same(images.numpy(), exported, right)
    assert exported.remark is None and len(entries_of(exported)["parts"][0]["source_sha256"]) == 64


# ---------------------------------------------------------------- what is in the file


@pytest.mark.parametrize("name", REGISTERED)
def test_the_weights_are_the_bundles_bits(name, done):
    exported = done(f"{name} {GREY}", lambda: network(bundle(name)))
    found = {each.tobytes() for each in map(numpy_helper.to_array, model_of(exported).graph.initializer)}
    state = bundle(name).net.state_dict()
    assert len(state) > 5
    assert not [key for key, value in state.items() if value.contiguous().numpy().tobytes() not in found]


def test_one_plain_file(mlp):
    model = model_of(mlp)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", OPSET)]
    assert (model.ir_version, model.producer_name, model.producer_version) == (
        IR,
        "inklab",
        inklab.__version__,
    )
    assert not model.functions and not [each for each in model.graph.initializer if each.external_data]
    assert {node.op_type for node in model.graph.node} <= KNOWN
    onnx.checker.check_model(model, full_check=True)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_nothing_tells_of_this_machine(mlp):
    model = model_of(mlp)
    assert b".py" not in mlp.raw and b"Traceback" not in mlp.raw
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_metadata_says_what_it_is(mlp):
    made, told = bundle("mlp"), entries_of(mlp)
    assert told["format"] == 1 and told["kind"] == "classifier" and told["inklab"] == inklab.__version__
    assert (told["labels"], told["shape"], told["framing"]) == (list(made.labels), [1, 12, 12], made.framing)
    assert told["data_sha256"] == "0" * 64
    (part,) = told["parts"]
    assert part["name"] == "small" and part["model"] == made.model and part["scores"] == made.scores
    assert part["scaling"] == {"mean": float(np.float32(0.2)), "spread": float(np.float32(0.4))}
    assert part["made_by"] == made.made_by
    parity = told["parity"]
    assert parity["batches"] == list(BATCHES) and parity["tolerance"] == TOLERANCE
    assert parity["images"] == mlp.parity.images and set(parity["largest"]) == {"logits", "probabilities"}


def test_the_weights_digest_is_that_of_the_bundles_file(mlp, tmp_path):
    assert entries_of(mlp)["parts"][0]["weights_sha256"] == bundle("mlp").save(tmp_path)


def test_the_same_bundle_gives_the_same_bytes(mlp, tmp_path):
    bundle("mlp").save(tmp_path)
    assert export_model(network(TrainedModel.load(tmp_path), "small"), real()).raw == mlp.raw


# ---------------------------------------------------------------- the comparison


def tampered(raw: bytes, weight: str, change: float = 1e-3) -> bytes:
    model = onnx.load_model_from_string(raw)
    (tensor,) = [each for each in model.graph.initializer if each.name == weight]
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] += np.float32(change)
    tensor.CopyFrom(numpy_helper.from_array(values, weight))
    return model.SerializeToString()


@pytest.mark.parametrize(
    "weight",
    ["scaling.mean", "net.hidden.0.weight", "net.hidden.2.bias", "net.output.bias"],
)
def test_a_graph_with_one_other_weight_is_refused(weight, mlp):
    says = r"the exported 'small' does not compute the same: on .* in batches of \d its \w+ differ by up to"
    with pytest.raises(ModelMismatchError, match=says) as caught:
        compare_outputs(mlp.wanted, Session(tampered(mlp.raw, f"classifier.{weight}")), real())
    assert "allowed: 5e-05" in str(caught.value) and "nothing was written" in str(caught.value)


def test_a_graph_that_gives_no_numbers_is_refused(mlp):
    raw = tampered(mlp.raw, "classifier.net.output.bias", float("nan"))
    with pytest.raises(ModelMismatchError, match="its logits are no numbers"):
        compare_outputs(mlp.wanted, Session(raw), real())


def test_a_graph_that_is_right_for_one_image_only_is_refused(mlp):
    session = Session(mlp.raw)

    def first_only(images):
        return {name: each[:1].repeat(len(images), axis=0) for name, each in session(images).items()}

    with pytest.raises(ModelMismatchError, match="in batches of 2"):
        compare_outputs(mlp.wanted, first_only, real())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda made: {"logits": made["logits"]}, r"it gives \{'logits': \(1, 5\)\}, not"),
        (lambda made: {name: each[:, :3] for name, each in made.items()}, r"\(1, 3\)"),
        (lambda made: {**made, "logits": made["logits"][:, ::-1]}, "logits differ by"),
    ],
    ids=["missing", "narrow", "swapped"],
)  # fmt: skip
def test_other_outputs_are_refused(change, says, mlp):
    session = Session(mlp.raw)
    with pytest.raises(ModelMismatchError, match=says):
        compare_outputs(mlp.wanted, lambda images: change(session(images)), real())


@pytest.mark.parametrize(("apart", "passes"), [(7e-5, False), (3e-5, True)])
def test_another_class_is_refused_unless_two_are_as_good_as_equal(apart, passes, mlp):
    """Every logit is within the tolerance, but the two best have changed places."""

    def saying(first, second, kind):
        return lambda images: {"logits": kind(len(images) * [[first, second, 0, 0, 0]])}

    wanted = replace(mlp.wanted, original=saying(1.0, 1 - apart, torch.tensor))
    swapped = saying(1 - 0.6 * apart, 1 - 0.4 * apart, lambda rows: np.array(rows, np.float32))
    if passes:
        assert compare_outputs(wanted, swapped, real()).largest["logits"] <= TOLERANCE
    else:
        with pytest.raises(ModelMismatchError, match="says another class, 7e-05 apart in the logits"):
            compare_outputs(wanted, swapped, real())


def test_extreme_images_are_in_range_and_all_different():
    kinds = extreme_images(1, 12, 12)
    images = np.concatenate(list(kinds.values()))
    assert images.dtype == np.float32 and 0 <= images.min() and images.max() <= 1
    assert len({image.tobytes() for image in images}) == len(images) and len(kinds) >= 7
    first, again = (inputs_for(network(bundle("mlp")), real()) for _ in range(2))
    assert all(np.array_equal(first[kind], again[kind]) for kind in first)


# ---------------------------------------------------------------- what can't be exported


def test_a_network_that_no_graph_can_express_is_told_in_one_line(own):
    with pytest.raises(ModelMismatchError, match="Choosy' can't be converted to ONNX") as caught:
        export_model(network(bundle(f"{own}:Choosy")), real())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_halves_need_an_autoencoder():
    for half in (encoder, decoder):
        with pytest.raises(ModelMismatchError, match="'mlp' has no encoder module"):
            half(bundle("mlp"))


def test_parts_of_a_pipeline_must_fit(denoiser):
    with pytest.raises(ModelMismatchError, match="'den' and 'mlp' were trained on images of another form"):
        pipeline([(denoiser, "den")], (bundle("mlp", COLOUR), "mlp"))
    with pytest.raises(ModelMismatchError, match="holds a classifier"):
        pipeline([(bundle("mlp"), "one")], (bundle("mlp"), "two"))


def test_a_bundle_that_makes_something_else_is_refused(denoiser):
    with pytest.raises(ModelMismatchError, match="makes .* of an image"):
        network(TrainedModel(denoiser.net, denoiser.model, GREY, ("a", "b"), "labels", denoiser.framing))


def test_torch_says_nothing(capfd):
    with pytest.raises(InklabError):  # a sound export is silent in all other tests: warnings are errors there
        export_model(network(bundle("mlp", hidden=[-1])), real())
    assert capfd.readouterr() == ("", "")
    to_onnx(network(bundle("mlp", hidden=[3])))
    assert capfd.readouterr() == ("", "")


def test_what_is_not_installed_is_told(monkeypatch):
    from inklab.export import onnx_runtime

    monkeypatch.setattr(onnx_runtime, "_is_there", lambda name: name == "onnx")
    with pytest.raises(
        InklabError,
        match=r"needs onnxscript and onnxruntime, which aren't installed: pip install 'inklab\[onnx\]'",
    ):
        export_model(network(bundle("mlp")), real())

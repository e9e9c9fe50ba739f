"""Bundles: what is loaded computes what was saved; what is damaged or hostile is refused in one line."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from synthetic_training import (
    SMALL_AUTOENCODER,
    SMALL_CNN,
    SMALL_COMPACT,
    SMALL_MLP,
    SMALL_UNET,
    settings,
    train_one,
)

from inklab.errors import ConfigError, CorruptFileError, DataError, InklabError, ModelMismatchError
from inklab.io.documents import read_json, sha256_of, write_json
from inklab.model import MANIFEST, WEIGHTS, TrainedModel

SHAPE = (1, 12, 12)
FRAMING = {"channels": 1, "height": 12, "width": 12, "light_on_dark": True, "centre": "mass"}
OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(144, classes))

    def forward(self, images):
        return self.layers(images)
"""


def made(model: dict, data, target: str = "labels", **recipe) -> TrainedModel:
    objective = "classify" if target == "labels" else "reconstruct"
    trained = train_one(settings(model, objective=objective, **recipe), data, lifted=model["name"] != "cnn")
    scores = {"test_accuracy": 0.1 + 0.2}
    return TrainedModel(trained.net, model, SHAPE, data.labels, target, FRAMING, {"replicate": 0}, scores)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """A sound bundle. Copy it before you change it."""
    folder = tmp_path_factory.mktemp("whole")
    made(SMALL_MLP, data, mean=0.2, spread=0.4).save(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    for name in (MANIFEST, WEIGHTS):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    return tmp_path


def edit(folder: Path, **changes: object) -> None:
    manifest = {**read_json(folder / MANIFEST), **changes}
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def put_weights(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Other weights, with a manifest that vouches for them: what an attacker would do."""
    save_file(tensors, folder / WEIGHTS)
    edit(folder, weights_sha256=sha256_of((folder / WEIGHTS).read_bytes()))


def refused(folder: Path, kind: type[InklabError], match: str) -> None:
    with pytest.raises(kind, match=match) as caught:
        TrainedModel.load(folder)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- what is loaded is what was saved


@pytest.mark.parametrize(
    ("model", "target"),
    [
        (SMALL_MLP, "labels"),
        (SMALL_CNN, "labels"),
        (SMALL_COMPACT, "labels"),
        (SMALL_AUTOENCODER, "images"),
        (SMALL_UNET, "images"),
    ],
    ids=["mlp", "cnn", "compact", "autoencoder", "unet"],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_loaded_bundle_computes_what_was_saved(model, target, precision, data, tmp_path):
    trained = train_one(
        settings(model, precision, objective="classify" if target == "labels" else "reconstruct"),
        data,
        lifted=False,
    )
    bundle = TrainedModel(trained.net, model, SHAPE, data.labels, target, FRAMING)
    digest = bundle.save(tmp_path)
    loaded = TrainedModel.load(tmp_path)
    shown = data.test.images(torch.arange(20))
    with torch.inference_mode():
        assert torch.equal(loaded.net(shown), trained.net(shown))
        assert torch.equal(loaded.net(shown[:1]), trained.net(shown[:1]))
    assert not loaded.net.training
    assert {value.dtype for value in loaded.net.state_dict().values()} == {torch.float32}
    assert digest == sha256_of((tmp_path / WEIGHTS).read_bytes())


def test_everything_else_comes_back_too(whole, data):
    loaded = TrainedModel.load(whole)
    assert (loaded.model, loaded.shape, loaded.labels, loaded.target) == (
        SMALL_MLP,
        SHAPE,
        data.labels,
        "labels",
    )
    assert (loaded.framing, loaded.made_by, loaded.scores) == (
        FRAMING, {"replicate": 0}, {"test_accuracy": 0.1 + 0.2},
    )  # fmt: skip


def test_saving_what_was_loaded_writes_the_same_bytes(whole, tmp_path):
    TrainedModel.load(whole).save(tmp_path)
    for name in (MANIFEST, WEIGHTS):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_scaling_is_inside(whole, data):
    """The bundle takes images in [0, 1]; scaled outside as well, it says something else."""
    loaded, shown = TrainedModel.load(whole), data.test.images(torch.arange(20))
    assert float(loaded.net.scaling.mean) == pytest.approx(0.2)
    inside = loaded.net.net((shown - loaded.net.scaling.mean) / loaded.net.scaling.spread)
    torch.testing.assert_close(inside.softmax(1), loaded.probabilities(shown))
    assert not torch.allclose(loaded.net.net(shown).softmax(1), loaded.probabilities(shown), atol=1e-2)


def test_probabilities_are_rows_that_sum_to_one(whole, data):
    rows = TrainedModel.load(whole).probabilities(data.test.images(torch.arange(20)))
    assert rows.shape == (20, 10) and bool((rows >= 0).all())
    torch.testing.assert_close(rows.sum(1), torch.ones(20))


def test_a_denoiser_gives_images_and_a_classifier_does_not(whole, data, tmp_path):
    made(SMALL_AUTOENCODER, data, "images").save(tmp_path)
    denoiser, shown = TrainedModel.load(tmp_path), data.test.images(torch.arange(5))
    cleaned = denoiser.cleaned(shown)
    assert cleaned.shape == shown.shape and 0 <= float(cleaned.min()) <= float(cleaned.max()) <= 1
    with pytest.raises(ModelMismatchError, match="holds a denoiser"):
        denoiser.probabilities(shown)
    with pytest.raises(ModelMismatchError, match="holds a classifier"):
        TrainedModel.load(whole).cleaned(shown)


# ---------------------------------------------------------------- damage


def test_an_empty_folder_is_no_bundle(tmp_path):
    for place in (tmp_path, tmp_path / "nothing"):
        refused(place, DataError, "there is no bundle in .*bundle.json is missing")


def test_missing_weights_are_told(folder):
    (folder / WEIGHTS).unlink()
    refused(folder, CorruptFileError, "weights.safetensors' is missing")


@pytest.mark.parametrize("place", [0, 5, 200, -1])
def test_one_changed_byte_of_the_weights_is_seen(place, folder):
    raw = bytearray((folder / WEIGHTS).read_bytes())
    raw[place] ^= 1
    (folder / WEIGHTS).write_bytes(raw)
    refused(folder, CorruptFileError, "SHA-256")


def test_weights_cut_short_are_seen(folder):
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(raw[: len(raw) // 2])
    refused(folder, CorruptFileError, "SHA-256")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'"format"', b"{}", b'{"format": 2}', b"[" * 100_000]
)
def test_a_manifest_that_is_none_is_refused(content, folder):
    (folder / MANIFEST).write_bytes(content)
    refused(folder, CorruptFileError, "bundle.json' is not")


WRONG_TYPES = {
    "model": ["mlp", {}, {"name": 3}, None],
    "shape": [
        [28, 28],
        [1, 0, 12],
        [1, -1, 12],
        [1, 12, 12.0],
        [True, 12, 12],
        "1,12,12",
        [1, 12, 10**9],
        None,
    ],
    "labels": ["0123456789", [], list(range(10)), None],
    "target": ["pixels", 1, None],
    "scaling": [[0, 1], None, {}, {"mean": 0.0, "spread": 1.0}],
    "framing": [[], None],
    "made_by": ["me", None],
    "scores": [[], None, {"test_loss": 10**400}, {"test_loss": "0"}],
    "weights_sha256": [None, 12],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in WRONG_TYPES.items() for value in values], ids=str
)
def test_wrong_values_are_named(key, value, folder):
    edit(folder, **{key: value})
    refused(folder, CorruptFileError, key)


@pytest.mark.parametrize("key", sorted(WRONG_TYPES))
def test_missing_keys_are_named(key, folder):
    manifest = read_json(folder / MANIFEST)
    del manifest[key]
    write_json(folder / MANIFEST, manifest)
    refused(folder, CorruptFileError, key)


# ---------------------------------------------------------------- hostility


def test_a_score_may_be_a_whole_number(folder):
    """JSON writers of others leave out the point; found by the hundred thousand spoilt files."""
    edit(folder, scores={"test_loss": 0})
    assert TrainedModel.load(folder).scores == {"test_loss": 0.0}


def test_a_pickle_is_not_opened(folder, tmp_path):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (marker.write_text, ("ran",))

    for raw in (pickle.dumps(Evil()), torch_file({"a": torch.zeros(1)}, tmp_path)):
        (folder / WEIGHTS).write_bytes(raw)
        edit(folder, weights_sha256=sha256_of(raw))
        refused(folder, CorruptFileError, "not a safetensors file")
    assert not marker.exists()


def torch_file(value: object, folder: Path) -> bytes:
    torch.save(value, folder / "weights.pt")
    return (folder / "weights.pt").read_bytes()


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}},
    ],
    ids=["huge", "negative", "unknown type", "backwards"],
)
def test_hostile_headers_of_weights_are_refused(header, folder):
    text = json.dumps(header).encode()
    raw = len(text).to_bytes(8, "little") + text + b"\0" * 4
    (folder / WEIGHTS).write_bytes(raw)
    edit(folder, weights_sha256=sha256_of(raw))
    refused(folder, CorruptFileError, "not a safetensors file")


def test_weights_that_do_not_fit_are_refused(folder):
    tensors = load_file(folder / WEIGHTS)
    wrong = [
        {key: value for key, value in tensors.items() if key != "net.output.bias"},
        tensors | {"net.extra": torch.zeros(3)},
        tensors | {"net.output.bias": torch.zeros(11)},
    ]
    for each in wrong:
        put_weights(folder, each)
        refused(folder, ModelMismatchError, r"do not fit the network: 'net\.(output.bias|extra)'")


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [4, 4096, 4096]},
        {"model": {"name": "mlp", "hidden": [2**31, 2**31]}},
        {"model": {"name": "mlp", "hidden": [10**9]}},
        {"model": {"name": "cnn", "channels": [10**6, 10**6]}},
        {"model": {"name": "autoencoder", "code": 10**10}},
        {"model": {"name": "compact", "channels": [10**6, 10**6, 10**6]}},
        {"model": {"name": "compact", "first": 10**9}},
        {"model": {"name": "unet", "channels": [10**6, 10**6]}},
        {"model": {"name": "unet", "channels": [4], "depth": 10**9}},
        {"model": {"name": "unet", "channels": [4], "fold": 10**9}},
        {"model": {"name": "unet", "channels": [4] * 1000}},
        {"labels": [str(k) for k in range(200_000)]},
    ],
    ids=[
        "shape",
        "layers",
        "layer",
        "channels",
        "code",
        "maps",
        "kernel",
        "scales",
        "depth",
        "fold",
        "deep",
        "labels",
    ],
)
def test_a_hostile_size_costs_no_memory(change, folder):
    """Each of these would take from gigabytes to exabytes if it were built."""
    edit(folder, **change)
    before = peak_memory()
    refused(folder, ModelMismatchError, "do not fit the network|can't be built|too small for|depth lie in")
    assert peak_memory() - before < 512 * 1024**2


def peak_memory() -> int:
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def test_an_unknown_model_or_setting_is_refused(folder):
    for model in ({"name": "os.system"}, {"name": "mlp", "hiden": [3]}):
        edit(folder, model=model)
        refused(folder, ConfigError, "no model is called|has no setting 'hiden'")


# ---------------------------------------------------------------- a user's own source


@pytest.fixture
def own(tmp_path, data) -> tuple[Path, Path]:
    """A user's file and a bundle made with it."""
    source, folder = tmp_path / "own.py", tmp_path / "bundle"
    source.write_text(OWN, encoding="utf-8")
    made({"name": f"{source}:Net"}, data).save(folder)
    return source, folder


def test_a_bundle_of_a_users_network_is_loaded_while_its_source_is_the_same(own, data):
    shown = data.test.images(torch.arange(4))
    loaded = TrainedModel.load(own[1], trusted=[f"{own[0]}:Net"])
    assert loaded.probabilities(shown).shape == (4, 10)
    assert len(read_json(own[1] / MANIFEST)["source_sha256"]) == 64


def test_code_that_nobody_named_is_not_run(own):
    with pytest.raises(ConfigError, match=r"runs the code '.*own.py:Net' .* add --code .*own.py:Net"):
        TrainedModel.load(own[1])


def test_a_changed_source_is_refused_without_running_it(own, tmp_path):
    source, folder = own
    marker = tmp_path / "ran"
    source.write_text(OWN + f"\nopen({str(marker)!r}, 'w').close()\n", encoding="utf-8")
    refused(folder, CorruptFileError, "own.py:Net' has changed since")
    assert not marker.exists()


def test_a_source_that_is_gone_is_told(own):
    source, folder = own
    source.unlink()
    refused(folder, ConfigError, "there is no file")


@pytest.mark.parametrize("digest", [None, "", "0" * 64])
def test_a_manifest_that_hides_its_source_is_refused(digest, own):
    edit(own[1], source_sha256=digest)
    refused(own[1], CorruptFileError, "has changed since")


def test_a_manifest_never_holds_what_is_not_json(whole):
    text = (whole / MANIFEST).read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["scaling"] == {
        "mean": float(np.float32(0.2)), "spread": float(np.float32(0.4)),
    }  # fmt: skip

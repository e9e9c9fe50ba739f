"""Trained models: what is loaded computes what was saved; damaged and malicious files are refused."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from malicious_files import limited_memory, peak_bytes
from safetensors.torch import load_file, save_file
from source_tree import run_python
from synthetic_training import (
    SMALL_AUTOENCODER,
    SMALL_CNN,
    SMALL_COMPACT,
    SMALL_MLP,
    SMALL_UNET,
    train_one,
    trial_config,
)

import inklab
from inklab.errors import ConfigError, CorruptFileError, DataError, InklabError, ModelMismatchError
from inklab.export import hub_folder
from inklab.io.files import sha256_of, write_json
from inklab.metrics import Task
from inklab.model import MANIFEST, WEIGHTS, TrainedModel
from inklab.records.components import NetworkConfig, NormalizeConfig, Preprocessing
from inklab.records.manifest import ModelManifest, Provenance, find_model_dir

SHAPE = (1, 12, 12)
PREPROCESSING = Preprocessing(height=12, width=12, fit_to=9)
OBJECTIVES: dict[Task, str] = {"classification": "classify", "denoising": "reconstruct"}
OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(144, classes))

    def forward(self, images):
        return self.layers(images)
"""


def trained_model(
    network: NetworkConfig,
    data,
    task: Task = "classification",
    precision: str = "fp32",
    normalize: NormalizeConfig | None = None,
) -> TrainedModel:
    config = trial_config(network, precision, normalize=normalize, objective=OBJECTIVES[task])
    net = train_one(config, data, stacked=network.name == "mlp").net
    return TrainedModel.of(
        net, network, task, data.labels, PREPROCESSING,
        provenance=Provenance(replicate=0), metrics={"test_accuracy": 0.1 + 0.2},
    )  # fmt: skip


@pytest.fixture(scope="module")
def saved(data, tmp_path_factory) -> Path:
    """A saved model. Copy it before you change it."""
    folder = tmp_path_factory.mktemp("saved")
    trained_model(SMALL_MLP, data, normalize=NormalizeConfig(mean=0.2, std=0.4)).save(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    for name in (MANIFEST, WEIGHTS):
        (tmp_path / name).write_bytes((saved / name).read_bytes())
    return tmp_path


def edit(folder: Path, **changes: object) -> None:
    manifest = {**json.loads((folder / MANIFEST).read_bytes()), **changes}
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def replace_weights(folder: Path, raw: bytes) -> None:
    """Other weights, with a manifest that vouches for them: what an attacker would do."""
    (folder / WEIGHTS).write_bytes(raw)
    edit(folder, weights_sha256=sha256_of(raw))


def assert_refused(folder: Path, kind: type[InklabError]) -> InklabError:
    with pytest.raises(kind) as caught:
        TrainedModel.load(folder)
    assert type(caught.value) is kind and "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("network", "task"),
    [
        *((network, "classification") for network in (SMALL_MLP, SMALL_CNN, SMALL_COMPACT)),
        *((network, "denoising") for network in (SMALL_AUTOENCODER, SMALL_UNET)),
    ],
    ids=["mlp", "cnn", "compact", "autoencoder", "unet"],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_loaded_model_computes_what_was_saved(network, task, precision, data, tmp_path):
    model = trained_model(network, data, task, precision)
    digest = model.save(tmp_path)
    loaded = TrainedModel.load(tmp_path)
    images = data.test.images(torch.arange(20))
    with torch.inference_mode():
        for batch in (images, images[:1]):
            assert torch.equal(loaded.net(batch), model.net(batch))
    assert torch.equal(loaded.logits(images), model.logits(images))
    assert not loaded.net.training
    assert {value.dtype for value in loaded.net.state_dict().values()} == {torch.float32}
    assert digest == sha256_of((tmp_path / WEIGHTS).read_bytes()) == loaded.manifest.weights_sha256


def test_everything_else_is_loaded_too_and_saved_again_as_the_same_bytes(saved, data, tmp_path):
    loaded = TrainedModel.load(str(saved))
    assert (loaded.manifest.network, loaded.shape, loaded.labels, loaded.task) == (
        SMALL_MLP, SHAPE, data.labels, "classification",
    )  # fmt: skip
    assert (loaded.preprocessing, loaded.manifest.provenance) == (PREPROCESSING, Provenance(replicate=0))
    assert loaded.manifest.metrics == {"test_accuracy": 0.1 + 0.2} and loaded.name == "mlp"
    assert loaded.manifest.normalize == NormalizeConfig(
        mean=float(np.float32(0.2)), std=float(np.float32(0.4))
    )
    loaded.save(str(tmp_path))
    for name in (MANIFEST, WEIGHTS):
        assert (tmp_path / name).read_bytes() == (saved / name).read_bytes()


def test_normalization_is_part_of_the_model(saved, data):
    """It takes images in [0, 1]; if they are normalized outside as well, it computes something else."""
    loaded, images = TrainedModel.load(saved), data.test.images(torch.arange(20))
    assert float(loaded.net.normalize.mean) == pytest.approx(0.2)
    inside = loaded.net.net((images - loaded.net.normalize.mean) / loaded.net.normalize.std)
    rows = loaded.probabilities(images)
    torch.testing.assert_close(inside.softmax(1), rows)
    assert not torch.allclose(loaded.net.net(images).softmax(1), rows, atol=1e-2)
    assert rows.shape == (20, 10) and bool((rows >= 0).all())
    torch.testing.assert_close(rows.sum(1), torch.ones(20))


def test_a_denoiser_gives_images_a_classifier_does_not_and_the_shape_must_fit(saved, data, tmp_path):
    trained_model(SMALL_AUTOENCODER, data, "denoising").save(tmp_path)
    denoiser, images = TrainedModel.load(tmp_path), data.test.images(torch.arange(5))
    denoised = denoiser.denoise(images)
    assert denoised.shape == images.shape and 0 <= float(denoised.min()) <= float(denoised.max()) <= 1
    with pytest.raises(ModelMismatchError):
        denoiser.probabilities(images)
    loaded = TrainedModel.load(saved)
    with pytest.raises(ModelMismatchError):
        loaded.denoise(images)
    wrong = TrainedModel(loaded.net, loaded.manifest.model_copy(update={"labels": ("a", "b")}))
    with pytest.raises(ModelMismatchError):
        wrong.logits(images)


def test_a_model_is_found_in_its_own_directory_and_in_a_trials(saved, tmp_path):
    trial = tmp_path / "trial"
    TrainedModel.load(saved).save(trial / "model")
    assert find_model_dir(saved) == saved
    assert find_model_dir(trial) == find_model_dir(trial / "model") == trial / "model"
    assert find_model_dir(tmp_path) is None


def test_an_empty_directory_is_no_model(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        assert_refused(path, DataError)


@pytest.mark.parametrize("position", [0, 5, 200, -1])
def test_changed_truncated_and_missing_weights_are_detected(position, folder):
    path, raw = folder / WEIGHTS, bytearray((folder / WEIGHTS).read_bytes())
    raw[position] ^= 1
    for damaged in (raw, raw[: len(raw) // 2]):
        path.write_bytes(damaged)
        assert "SHA-256" in str(assert_refused(folder, CorruptFileError))
    path.unlink()
    assert WEIGHTS in str(assert_refused(folder, CorruptFileError))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'"format"', b"{}", b'{"format": 1}', b"[" * 100_000]
)
def test_a_manifest_that_is_none_is_refused(content, folder):
    (folder / MANIFEST).write_bytes(content)
    assert MANIFEST in str(assert_refused(folder, CorruptFileError))


def test_a_long_manifest_is_not_read(folder):
    (folder / MANIFEST).write_text(" " * (4 * 1024**2 + 1), encoding="utf-8")
    assert "4,194,304" in str(assert_refused(folder, CorruptFileError))


WRONG_VALUES: dict[str, Any] = {
    "network": ["mlp", {}, {"name": 3}, None],
    "shape": [
        [28, 28], [1, 0, 12], [1, -1, 12], [1, 12, 12.0], [True, 12, 12], "1,12,12", [1, 12, 10**9], None,
    ],
    "labels": ["0123456789", [], list(range(10)), None, [str(k) for k in range(200_000)]],
    "task": ["pixels", 1, None, ["classification"]],
    "normalize": [[0, 1], None, {"mean": 0, "std": 0}, {"mean": 0.0, "std": 1.0}, {"mean": "0", "std": 1}],
    "preprocessing": [[], None, {"height": -3}],
    "provenance": ["me", None, [[]]],
    "metrics": [[], None, {"test_loss": 10**400}, {"test_loss": "0"}],
    "weights_sha256": [None, 12, ""],
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key, values in WRONG_VALUES.items() for value in values],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_value_is_named(key, value, folder):
    edit(folder, **{key: value})
    assert f"'{key}" in str(assert_refused(folder, CorruptFileError))


@pytest.mark.parametrize("key", ["network", "shape", "labels", "task", "normalize", "weights_sha256"])
def test_a_missing_key_is_named(key, folder):
    manifest = json.loads((folder / MANIFEST).read_bytes())
    del manifest[key]
    write_json(folder / MANIFEST, manifest)
    assert f"'{key}'" in str(assert_refused(folder, CorruptFileError))


def test_the_shape_is_that_of_the_preprocessing_and_a_metric_may_be_a_whole_number(folder):
    edit(folder, metrics={"test_loss": 0})  # other JSON writers leave out the point
    assert TrainedModel.load(folder).manifest.metrics == {"test_loss": 0.0}
    edit(folder, preprocessing=Preprocessing().to_json())
    assert "(1, 28, 28)" in str(assert_refused(folder, CorruptFileError))


def test_a_pickle_and_a_malicious_header_are_not_opened(folder, tmp_path):
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (marker.write_text, ("ran",))

    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pt")
    header = b'{"a": {"dtype": "F32", "shape": [1099511627776], "data_offsets": [0, 4398046511104]}}'
    huge = len(header).to_bytes(8, "little") + header
    for raw in (pickle.dumps(Evil()), (tmp_path / "weights.pt").read_bytes(), huge):
        replace_weights(folder, raw)
        assert_refused(folder, CorruptFileError)
    assert not marker.exists()


def test_weights_that_do_not_fit_are_refused(folder):
    tensors = load_file(folder / WEIGHTS)
    wrong = {
        "net.output.bias": [
            {name: value for name, value in tensors.items() if name != "net.output.bias"},
            tensors | {"net.output.bias": torch.zeros(11)},
        ],
        "net.extra": [tensors | {"net.extra": torch.zeros(3)}],
    }
    for key, variants in wrong.items():
        for variant in variants:
            save_file(variant, folder / WEIGHTS)
            replace_weights(folder, (folder / WEIGHTS).read_bytes())
            assert assert_refused(folder, ModelMismatchError).key == key


BIG = {"shape": [1, 4096, 4096], "preprocessing": Preprocessing(height=4096, width=4096).to_json()}


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {"name": "mlp", "hidden": [2**31, 2**31]}},
        {"network": {"name": "mlp", "hidden": [10**9]}},
        {"network": {"name": "cnn", "channels": [10**6, 10**6]}},
        {"network": {"name": "autoencoder", "code": 10**10}},
        {"network": {"name": "compact", "channels": [10**6, 10**6, 10**6]}},
        {"network": {"name": "compact", "stem_kernel": 10**9}},
        {"network": {"name": "unet", "channels": [10**6, 10**6]}},
        {"network": {"name": "unet", "channels": [4], "depth": 10**9}},
        {"network": {"name": "unet", "channels": [4], "space_to_depth": 10**9}},
        {"network": {"name": "unet", "channels": [4] * 1000}},
        {"network": {"name": "mlp", "hidden": [4096]}, **BIG},
    ],
    ids=str,
)
def test_a_malicious_size_costs_no_memory(changes, folder):
    """Each of these would take from gigabytes to exabytes if it were built."""
    edit(folder, **changes)
    before = peak_bytes()
    assert_refused(folder, ModelMismatchError)
    assert peak_bytes() - before < 512 * 1024**2


@pytest.mark.parametrize(
    "network",
    [
        *({"name": "mlp", "hidden": hidden} for hidden in ([1] * 100_000, [10**30], "many", {"a": [5]})),
        {"name": "mlp", "hidden": [5], "dropout": "much"},
        *({"name": name} for name in ("~nobody/net.py:Net", "a" * 300 + ".py:Net", "\0.py:Net")),
    ],
    ids=range(8),
)
def test_malicious_networks_are_refused(network, folder):
    edit(folder, network=network)
    with limited_memory(1 << 30), pytest.raises(InklabError) as caught:
        TrainedModel.load(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    ("network", "suggestion"),
    [({"name": "os.system"}, None), ({"name": "mpl"}, "mlp"), ({"name": "mlp", "hiden": [3]}, "hidden")],
)
def test_an_unknown_network_or_argument_is_refused(network, suggestion, folder):
    edit(folder, network=network)
    with pytest.raises(ConfigError) as caught:
        TrainedModel.load(folder)
    assert (caught.value.suggestion or None) == suggestion


@pytest.fixture
def own(tmp_path, data) -> tuple[Path, Path]:
    """A user's file, and a model that was made with it."""
    source, folder = tmp_path / "own.py", tmp_path / "model"
    source.write_text(OWN, encoding="utf-8")
    trained_model(NetworkConfig.of(f"{source}:Net"), data).save(folder)
    return source, folder


def test_a_model_of_a_users_network_is_loaded_while_its_file_is_the_same(own, data, tmp_path):
    source, folder = own
    loaded = TrainedModel.load(folder, trust_code=[f"{source}:Net"])
    assert loaded.probabilities(data.test.images(torch.arange(4))).shape == (4, 10)
    assert ModelManifest.read_from(folder).source_sha256 == sha256_of(source.read_bytes())
    marker = tmp_path / "ran"
    source.write_text(OWN + f"\nopen({str(marker)!r}, 'w').close()\n", encoding="utf-8")
    assert_refused(folder, CorruptFileError)
    assert not marker.exists(), "a changed file is not run"


def test_code_that_the_user_did_not_name_is_not_run_and_a_missing_file_is_refused(own):
    source, folder = own
    assert assert_refused(folder, ConfigError).key == f"{source}:Net"
    source.unlink()
    assert_refused(folder, ConfigError)


@pytest.mark.parametrize("digest", [None, "0" * 64])
def test_a_manifest_that_hides_its_file_is_refused(digest, own):
    edit(own[1], source_sha256=digest)
    assert_refused(own[1], CorruptFileError)


class TestHalves:
    @pytest.mark.parametrize("count", [1, 7, 300])
    def test_decoding_codes_is_denoising_to_the_bit(self, count, data):
        model = trained_model(SMALL_AUTOENCODER, data, "denoising")
        pixels = np.resize(data.test.pixels.numpy(), (count, *SHAPE))
        for images in (pixels, torch.from_numpy(pixels), torch.from_numpy(pixels).float() / 255):
            codes = model.encode(images)
            assert type(codes) is type(images) and codes.shape == (count, model.halves.code_size)
            assert np.array_equal(model.decode(codes), model.denoise(images))

    def test_others_are_refused(self, data):
        for network, task in ((SMALL_MLP, "classification"), (SMALL_UNET, "denoising")):
            with pytest.raises(ModelMismatchError, match="two halves"):
                trained_model(network, data, task).encode(data.test.pixels)
        model = trained_model(SMALL_AUTOENCODER, data, "denoising")
        size = model.halves.code_size
        assert model.decode(np.zeros(size)).shape == (1, *SHAPE)
        with pytest.raises(DataError, match=f"needed are numbers \\(n, {size}\\)"):
            model.decode(np.zeros((2, size + 1)))
        with pytest.raises(DataError, match="not finite"):
            model.decode(np.full((2, size), np.nan))


def test_a_summary_counts_and_shows_the_layers(data):
    summary = trained_model(SMALL_MLP, data, normalize=NormalizeConfig(mean=0.2, std=0.4)).summary()
    assert sum(row["parameters"] for row in summary.data) == summary.parameters > 0
    for text in (repr(summary), summary._repr_html_()):
        assert f"{summary.parameters:,} in total" in text and "(x - 0.2) / 0.4" in text
        assert all(row["name"] in text for row in summary.data)


class TestFolder:
    @pytest.mark.parametrize(("network", "task"), [(SMALL_MLP, "classification"), (SMALL_UNET, "denoising")])
    def test_it_loads_to_the_same_bits_and_its_example_runs(self, network, task, data, tmp_path, monkeypatch):
        model = trained_model(network, data, task)
        monkeypatch.setattr(hub_folder, "_can_export", lambda: False)
        assert model.to_folder(tmp_path / "net") == model.to_folder(tmp_path / "net") == tmp_path / "net"
        loaded = inklab.load(tmp_path / "net")
        use = "predict_proba" if task == "classification" else "denoise"
        images = data.test.pixels[:9]
        assert np.array_equal(getattr(loaded, use)(images), getattr(model, use)(images))
        monkeypatch.chdir(tmp_path / "net")
        example = (tmp_path / "net" / "README.md").read_text().split("```python\n")[1].split("```")[0]
        exec(compile(example, "README.md", "exec"), {})

    def test_it_has_the_code_of_the_users_network(self, data, tmp_path, monkeypatch):
        monkeypatch.setattr(hub_folder, "_can_export", lambda: False)
        home, folder = tmp_path / "home", tmp_path / "hub"
        (home / "blocks").mkdir(parents=True)
        (home / "net.py").write_text("from blocks.head import SIZE\n" + OWN, encoding="utf-8")
        (home / "blocks" / "head.py").write_text("SIZE = 10\n", encoding="utf-8")
        (home / "diary.py").write_text("", encoding="utf-8")
        model = trained_model(NetworkConfig.of(f"{home / 'net.py'}:Net"), data)
        assert model.to_folder(folder) == model.to_folder(folder)
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert files == {"README.md", "model.json", "weights.safetensors", "net.py", "blocks/head.py"}
        assert not any(str(home) in (folder / name).read_text() for name in ("README.md", "model.json"))
        shutil.rmtree(home)
        loaded = inklab.load(folder, trust_code=[f"{folder}/net.py:Net"])
        assert torch.equal(loaded.net(torch.zeros(1, *model.shape)), model.net(torch.zeros(1, *model.shape)))
        with pytest.raises(ConfigError, match=rf"add --trust-code {folder}/net.py:Net"):
            inklab.load(folder)
        monkeypatch.chdir(folder)
        example = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
        exec(compile(example, "README.md", "exec"), {})
        monkeypatch.chdir(tmp_path)
        elsewhere = example.replace('folder = "."', 'folder = "hub"')
        assert elsewhere != example and run_python(elsewhere)

    def test_the_front_matter_is_what_the_hub_reads(self, data, tmp_path, monkeypatch):
        yaml = pytest.importorskip("yaml")
        monkeypatch.setattr(hub_folder, "_can_export", lambda: False)
        card = (trained_model(SMALL_MLP, data).to_folder(tmp_path / "net") / "README.md").read_text()
        matter = yaml.safe_load(card.split("---\n")[1])
        assert card.startswith("---\n") and "license" not in matter and matter["library_name"] == "inklab"
        assert matter["pipeline_tag"] == "image-classification" and "mlp" in matter["tags"]
        (result,) = matter["model-index"][0]["results"]
        assert result["metrics"] == [{"type": "accuracy", "name": "test accuracy", "value": 0.1 + 0.2}]

    def test_a_folder_of_something_else_is_not_written_to(self, data, tmp_path):
        for name in ("notes.txt", "README.md"):
            (tmp_path / name).write_text("mine")
            with pytest.raises(ConfigError, match=name):
                trained_model(SMALL_MLP, data).to_folder(tmp_path)
            (tmp_path / name).unlink()

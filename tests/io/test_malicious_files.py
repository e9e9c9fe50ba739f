"""Readers refuse malicious files: in one line, without running them, in little time and memory.

A few hundred corrupted files of every kind, and malicious ones by name. `make test-slow` reads 100,000.
"""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from fuzzed_files import TABLES, readers, valid_model
from fuzzed_runs import PATTERNS, RunReader, write_run
from hypothesis import given, settings
from hypothesis import strategies as st
from malicious_files import CHANGES, QUICKLY, Tally, limited_memory

from inklab.data.formats import read_npz
from inklab.data.preprocessing import open_image
from inklab.data.sources import load_dataset
from inklab.errors import ConfigError, CorruptFileError, DataError, InklabError, ModelMismatchError
from inklab.io.files import parse_json, parse_toml, read_toml
from inklab.model import MANIFEST, TrainedModel
from inklab.records.manifest import ModelManifest
from inklab.study.load import parse_study, read_study

FILES = (
    "idx", "npz", "npy in npz", "picture", "png", "json", "safetensors", "safetensors header", "study file",
    "study tables", "model manifest", "model weights",
)  # fmt: skip


@pytest.fixture(scope="module")
def all_readers(tmp_path_factory) -> dict[str, Callable]:
    run_reader = RunReader(write_run(tmp_path_factory.mktemp("run")))
    return readers(tmp_path_factory.mktemp("files")) | {kind: partial(run_reader, kind) for kind in PATTERNS}


@pytest.mark.parametrize("name", [*FILES, *PATTERNS])
def test_only_our_own_errors_escape(name, all_readers):
    tally = Tally(max_seconds=5.0)  # `make test-slow` allows one second; here other processes may be busy

    @settings(QUICKLY, max_examples=3, derandomize=True)
    @given(st.lists(CHANGES, min_size=8, max_size=8))
    def corrupt_and_read(cases):
        for changes in cases:
            tally.case(name, all_readers[name], changes)

    with limited_memory(1 << 30):
        corrupt_and_read()
    assert tally.cases >= 16


# ---------------------------------------------------------------- any file


def irregular_files(folder: Path) -> list[Path]:
    os.mkfifo(folder / "pipe")
    (folder / "directory").mkdir()
    (folder / "endless").symlink_to("/dev/zero")
    return [folder / "pipe", folder / "directory", folder / "endless"]


def test_what_never_ends_is_not_read(tmp_path):
    for path in irregular_files(tmp_path):
        for read in (ModelManifest.read, open_image, read_npz):
            with pytest.raises(DataError, match=path.name):
                read(path)
        with pytest.raises(ConfigError, match=path.name):
            read_toml(path)
        with pytest.raises(InklabError, match=path.name):
            load_dataset(str(path.rename(path.with_name(f"{path.name}-images-idx3-ubyte"))))


@pytest.mark.parametrize(
    "text",
    ["[NaN]", "[-Infinity]", '["\\ud800"]', "[" * 300 + "]" * 300, "[" * 100_000, "1" * 5000],
    ids=range(6),
)
def test_json_that_could_not_be_written_again_is_refused(text):
    with pytest.raises(CorruptFileError, match=r"'a\.json'") as caught:
        parse_json(text.encode(), "a.json")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_brackets_in_a_string_are_not_nesting():
    assert parse_json(json.dumps("[" * 1000).encode(), "a.json") == "[" * 1000


# ---------------------------------------------------------------- studies


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 5000, "a = 1" + "0" * 5000, 'a = "' + "\\" * 100_001], ids=range(3)
)
def test_malicious_toml_is_refused_at_once(text):
    with pytest.raises(ConfigError) as caught:
        parse_toml(text, "'a.toml'")
    assert "'a.toml'" in str(caught.value) and len(str(caught.value)) < 500


def test_a_study_file_beyond_the_limit_is_not_read(tmp_path):
    (tmp_path / "a.toml").write_text("#" * (256 * 1024 + 1), encoding="utf-8")
    with pytest.raises(ConfigError, match="262,144"):
        read_study(str(tmp_path / "a.toml"))


ABSURD = {
    "a grid without end": {"grid": {f"network.x{k}": list(range(99)) for k in range(9)}},
    "too many keys": {"grid": {f"network.x{k}": [1] for k in range(21)}},
    "a learning rate without bounds": {"recipe": {"learning_rate": 1e39}},
    "infinite noise": {"recipe": {"corruption": {"name": "shot", "strength": [0.0, float("inf")]}}},
    "a number of thousands of digits": {"recipe": {"epochs": 1 << 99_999}},
}


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_studies_are_refused(name):
    experiment = {"network": {"name": "mlp"}, "replicates": 1, **ABSURD[name]}
    with pytest.raises(ConfigError) as caught:
        parse_study({"name": "s", "experiments": {"net": experiment}}, "s")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_ten_thousand_mistakes_are_one_readable_line():
    experiment = {"network": "mlp", **{f"x{'y' * 500}{k}": 1 for k in range(10_000)}}
    with pytest.raises(ConfigError) as caught:
        parse_study({"name": "s", "experiments": {"net": experiment}}, "s")
    assert len(str(caught.value)) < 4_000


def test_the_valid_tables_are_a_study():
    assert parse_study(json.loads(json.dumps(TABLES)), "s").name == "small"


# ---------------------------------------------------------------- directories, models


def test_a_class_name_that_is_not_printable_is_refused(tmp_path):
    for name in (b"a\xff", b"a\nb", b"a\x1b[2J"):
        folder = os.path.join(os.fsencode(tmp_path), b"%d" % len(list(tmp_path.iterdir())))
        os.makedirs(os.path.join(folder, name))
        with pytest.raises(DataError):
            load_dataset(os.fsdecode(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {"name": "mlp", "hidden": [1] * 100_000}},
        {"network": {"name": "mlp", "hidden": [10**30]}},
        {"network": {"name": "mlp", "hidden": "many"}},
        {"network": {"name": "mlp", "hidden": {"a": [5]}}},
        {"network": {"name": "mlp", "hidden": [5], "dropout": "much"}},
        {"network": {"name": "~nobody/net.py:Net"}},
        {"network": {"name": "a" * 300 + ".py:Net"}},
        {"network": {"name": "\0.py:Net"}},
        {"metrics": {"test_accuracy": "high"}},
        {"normalize": {"mean": "0.1", "std": 0.5}},
        {"task": ["classification"]},
        {"provenance": [[]]},
    ],
    ids=range(12),
)
def test_malicious_manifests_are_refused(changes, tmp_path):
    manifest = json.loads((valid_model(tmp_path) / MANIFEST).read_text(encoding="utf-8"))
    assert TrainedModel.load(tmp_path).labels == ("a", "b", "c")
    (tmp_path / MANIFEST).write_text(json.dumps({**manifest, **changes}), encoding="utf-8")
    with limited_memory(1 << 30), pytest.raises(InklabError) as caught:
        TrainedModel.load(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1_000


def test_a_network_whose_output_does_not_fit_its_task_is_refused(tmp_path):
    manifest = json.loads((valid_model(tmp_path) / MANIFEST).read_text(encoding="utf-8"))
    (tmp_path / MANIFEST).write_text(json.dumps({**manifest, "task": "denoising"}), encoding="utf-8")
    with pytest.raises(ModelMismatchError):
        TrainedModel.load(tmp_path).denoise(torch.zeros(2, 1, 6, 7))


def test_a_long_manifest_is_not_read(tmp_path):
    path = valid_model(tmp_path) / MANIFEST
    path.write_text(" " * (4 * 1024**2 + 1), encoding="utf-8")
    with pytest.raises(CorruptFileError, match="4,194,304"):
        TrainedModel.load(tmp_path)

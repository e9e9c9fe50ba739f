"""Readers refuse malicious files: in one line, without running them, in little time and memory.

A few hundred corrupted files of every kind, and malicious ones by name. `make test-slow` reads 100,000.
"""

import json
import os
from pathlib import Path

import pytest
from fuzzed_runs import PATTERNS, all_readers
from malicious_files import Tally, corrupt_and_read, limited_memory

from inklab.data.formats import read_npz
from inklab.data.preprocessing import open_image
from inklab.data.sources import load_dataset
from inklab.errors import ConfigError, DataError, InklabError
from inklab.io.files import parse_json, parse_toml, read_toml
from inklab.records.manifest import ModelManifest
from inklab.study.load import parse_study, read_study

FILES = (
    "idx", "npz", "npy in npz", "picture", "png", "json", "safetensors", "safetensors header", "study file",
    "study tables", "model manifest", "model weights",
)  # fmt: skip


@pytest.fixture(scope="module")
def every_reader(tmp_path_factory):
    return all_readers(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize("name", [*FILES, *PATTERNS])
def test_only_our_own_errors_escape(name, every_reader):
    tally = Tally(max_seconds=5.0)  # `make test-slow` allows one second; here other processes may be busy
    with limited_memory(1 << 30):
        corrupt_and_read(name, every_reader[name], tally, examples=3, batch=8, derandomize=True)
    assert tally.cases >= 16


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


def test_brackets_in_a_string_are_not_nesting():
    assert parse_json(json.dumps("[" * 1000).encode(), "a.json") == "[" * 1000


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


ABSURD = [
    {"grid": {f"network.x{k}": list(range(99)) for k in range(9)}},
    {"grid": {f"network.x{k}": [1] for k in range(21)}},
    {"recipe": {"learning_rate": 1e39}},
    {"recipe": {"corruption": {"name": "shot", "strength": [0.0, float("inf")]}}},
    {"recipe": {"epochs": 1 << 99_999}},
    {f"x{'y' * 500}{k}": 1 for k in range(10_000)},
]


@pytest.mark.parametrize("wrong", ABSURD, ids=range(6))
def test_absurd_studies_are_refused_in_one_readable_line(wrong):
    experiment = {"network": {"name": "mlp"}, "replicates": 1, **wrong}
    with pytest.raises(ConfigError) as caught:
        parse_study({"name": "s", "experiments": {"net": experiment}}, "s")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < (4_000 if len(wrong) > 1 else 500)


def test_a_class_name_that_is_not_printable_is_refused(tmp_path):
    for name in (b"a\xff", b"a\nb", b"a\x1b[2J"):
        folder = os.path.join(os.fsencode(tmp_path), b"%d" % len(list(tmp_path.iterdir())))
        os.makedirs(os.path.join(folder, name))
        with pytest.raises(DataError):
            load_dataset(os.fsdecode(folder))

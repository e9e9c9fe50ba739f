"""Readers refuse what is foreign: in one line, without running it, in little time and memory.

A few hundred spoilt files of every kind, and hostile ones by name. `make prove` reads a hundred thousand.
"""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzed_files import TABLES, readers, sound_bundle
from fuzzed_runs import PATTERNS, Reading, write_run
from hypothesis import given, settings
from hypothesis import strategies as st
from malicious_files import CHANGES, QUICKLY, Tally, little_memory

from inklab.data.image_file import open_image
from inklab.data.npz import read_npz
from inklab.data.sources import load
from inklab.errors import ConfigError, CorruptFileError, DataError, InklabError, ModelMismatchError
from inklab.io import documents
from inklab.io.documents import parse_json, parse_toml, read_json, read_toml
from inklab.model import MANIFEST, TrainedModel
from inklab.study.load import parse_study, read_study

FILES = (
    "idx", "npz", "npy in npz", "picture", "png", "json", "safetensors", "safetensors header", "study file",
    "study tables", "bundle manifest", "bundle weights",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run that tests may spoil, if they mend it."""
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def everything(run, tmp_path_factory) -> dict[str, Callable]:
    reading = Reading(run)
    return readers(tmp_path_factory.mktemp("files")) | {kind: partial(reading, kind) for kind in PATTERNS}


@pytest.mark.parametrize("name", [*FILES, *PATTERNS])
def test_only_our_own_errors_escape(name, everything):
    tally = Tally(patience=5.0)  # the proof holds them to one second; here others may be working

    @settings(QUICKLY, max_examples=3, derandomize=True)
    @given(st.lists(CHANGES, min_size=8, max_size=8))
    def each(cases):
        for changes in cases:
            tally.case(name, everything[name], changes)

    with little_memory(1 << 30):
        each()
    assert tally.cases >= 16


# ---------------------------------------------------------------- any file


def no_plain_files(folder: Path) -> list[Path]:
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "endless").symlink_to("/dev/zero")
    return [folder / "pipe", folder / "folder", folder / "endless"]


def test_what_never_ends_is_not_read(tmp_path):
    for path in no_plain_files(tmp_path):
        for read in (read_json, open_image, read_npz):
            with pytest.raises(DataError, match=path.name):
                read(path)
        with pytest.raises(ConfigError, match=path.name):
            read_toml(path)
        with pytest.raises(InklabError, match=path.name):
            load(str(path.rename(path.with_name(f"{path.name}-images-idx3-ubyte"))))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[NaN]", "NaN"), ("[-Infinity]", "-Infinity"), ("[1e999]", "too large"),
        ('["\\ud800"]', "surrogate"), ("[" * 65 + "]" * 65, "more than 64"),
        ('{"a":' * 65 + "1" + "}" * 65, "more than 64"),
        ("[" * 100_000, "recursion"), ("1" * 5000, "digits"),
    ],
)  # fmt: skip
def test_json_that_could_not_be_written_again_is_refused(text, says):
    with pytest.raises(CorruptFileError, match=f"'a.json' is not readable JSON .*{says}") as caught:
        parse_json(text.encode(), "a.json")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_json_of_the_largest_depth_is_read():
    assert parse_json(("[" * 64 + "]" * 64).encode(), "a.json")
    assert parse_json(json.dumps("[" * 1000).encode(), "a.json") == "[" * 1000


def test_json_of_millions_of_lists_is_not_parsed(monkeypatch):
    monkeypatch.setattr(documents, "MAX_BRACKETS", 10)
    with pytest.raises(CorruptFileError, match="it has 12 brackets; at most 10"):
        parse_json(json.dumps([[]] * 11).encode(), "a.json")


# ---------------------------------------------------------------- studies


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = " + "[" * 5000, "is not TOML: .*recursion"),
        (".".join("a" * 30_000) + " = 1", "more than 32 parts"),
        (".".join(['"a\\"b"'] * 33) + " = 1", "more than 32 parts"),
        (" . ".join(["''"] * 33) + " = 1", "more than 32 parts"),
        ("[" + ".".join("a" * 33) + "]", "more than 32 parts"),
        ("a = " + "{ b = [" * 33 + "]}" * 33, "more than 64"),
        ("a = 1" + "0" * 5000, "digits"),
        ('a = "' + "\\" * 100_001, "is not TOML"),
    ],
    ids=range(8),
)
def test_hostile_toml_is_refused_at_once(text, says):
    with pytest.raises(ConfigError, match=says) as caught:
        parse_toml(text, "'a.toml'")
    assert len(str(caught.value)) < 500


def test_toml_that_only_looks_hostile_is_read():
    text = f'a = "{"two words. " * 500}"\n' + ".".join("b" * 32) + " = 0.5\n" + f"c = [{'0.1, ' * 500}]"
    assert set(parse_toml(text, "'a.toml'")) == {"a", "b", "c"}


def test_a_study_file_beyond_the_limit_is_not_read(tmp_path):
    (tmp_path / "a.toml").write_text("#" * (256 * 1024 + 1), encoding="utf-8")
    with pytest.raises(ConfigError, match="at most 262,144 are read"):
        read_study(str(tmp_path / "a.toml"))


LARGEST_FP32 = {
    "a grid without end": ({"vary": {f"model.x{k}": list(range(99)) for k in range(9)}}, "trainings; at"),
    "too many keys": ({"vary": {f"model.x{k}": [1] for k in range(21)}}, "at most 20"),
    "a rate without bounds": ({"recipe": {"rate": 1e39}}, "less than or equal"),
    "infinite noise": (
        {"recipe": {"corruption": {"name": "shot", "strength": [0.0, float("inf")]}}}, "finite",
    ),
    "a number of thousands of digits": ({"recipe": {"epochs": 1 << 99_999}}, "digits"),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGEST_FP32)
def test_absurd_studies_are_refused(name):
    changes, says = LARGEST_FP32[name]
    chapter: dict[str, Any] = {"model": {"name": "mlp"}, "replicates": 1, **changes}
    with pytest.raises(ConfigError, match=says) as caught:
        parse_study({"name": "s", "chapters": {"net": chapter}}, "s")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_ten_thousand_mistakes_are_told_in_a_line_that_one_can_read():
    chapter = {"model": "mlp", **{f"x{'y' * 500}{k}": 1 for k in range(10_000)}}
    with pytest.raises(ConfigError, match="and 9,990 more") as caught:
        parse_study({"name": "s", "chapters": {"net": chapter}}, "s")
    assert len(str(caught.value)) < 4_000


def test_the_findings_have_their_place_to_themselves():
    with pytest.raises(ConfigError, match="call this chapter otherwise"):
        parse_study({"name": "s", "chapters": {"findings": {"model": "mlp"}}}, "s")


def test_the_sound_tables_are_a_study():
    assert parse_study(json.loads(json.dumps(TABLES)), "s").name == "small"


# ---------------------------------------------------------------- archives, folders, bundles


def test_an_archive_with_a_directory_of_millions_is_not_opened(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 3, 3), np.uint8))
    raw = (tmp_path / "a.npz").read_bytes()
    end = raw.rindex(b"PK\5\6")
    for hostile in (
        raw[: end + 12] + (2**30).to_bytes(4, "little") + raw[end + 16 :],
        raw[:end] + b"PK\6\7" + b"\0" * 16 + raw[end:],
        raw[: end + 12] + b"\xff" * 4 + raw[end + 16 : end + 20] + b"\3\0abc",
    ):
        (tmp_path / "a.npz").write_bytes(hostile)
        with pytest.raises(CorruptFileError, match="directory that is too large"):
            read_npz(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(raw[: end + 20] + b"\3\0abc")  # a remark, as zip tools leave it
    assert set(read_npz(tmp_path / "a.npz")) == {"images"}


def test_a_class_that_cannot_be_written_as_text_is_told(tmp_path):
    for name in (b"a\xff", b"a\nb", b"a\x1b[2J"):
        folder = os.path.join(os.fsencode(tmp_path), b"%d" % len(list(tmp_path.iterdir())))
        os.makedirs(os.path.join(folder, name))
        with pytest.raises(DataError, match="can't be written as text"):
            load(os.fsdecode(folder))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {"name": "mlp", "hidden": [1] * 100_000}}, "settings that no network has"),
        ({"model": {"name": "mlp", "hidden": [10**30]}}, "settings that no network has"),
        ({"model": {"name": "mlp", "hidden": "many"}}, "can't be built"),
        ({"model": {"name": "mlp", "hidden": {"a": [5]}}}, "can't be built|do not fit"),
        ({"model": {"name": "mlp", "hidden": [5], "dropout": "much"}}, "can't be built"),
        ({"model": {"name": "~nobody/net.py:Net"}}, "there is no file"),
        ({"model": {"name": "a" * 300 + ".py:Net"}}, "there is no file"),
        ({"model": {"name": "\0.py:Net"}}, "there is no file"),
        ({"scores": {"test_accuracy": "high"}}, "damaged: scores"),
        ({"scaling": {"mean": "0.1", "spread": 0.5}}, "damaged: scaling"),
        ({"target": ["labels"]}, "damaged: target"),
        ({"made_by": [[]]}, "damaged: made_by"),
    ],
    ids=range(12),
)
def test_hostile_manifests_are_refused(changes, says, tmp_path):
    sound = json.loads((sound_bundle(tmp_path) / MANIFEST).read_text(encoding="utf-8"))
    assert TrainedModel.load(tmp_path).labels == ("a", "b", "c")
    (tmp_path / MANIFEST).write_text(json.dumps({**sound, **changes}), encoding="utf-8")
    with little_memory(1 << 30), pytest.raises(InklabError, match=says) as caught:
        TrainedModel.load(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1_000


def test_a_network_that_makes_something_else_than_it_says_is_told(tmp_path):
    sound = json.loads((sound_bundle(tmp_path) / MANIFEST).read_text(encoding="utf-8"))
    (tmp_path / MANIFEST).write_text(json.dumps({**sound, "target": "images"}), encoding="utf-8")
    with pytest.raises(ModelMismatchError, match=r"makes \(3,\) of an image, but as images"):
        TrainedModel.load(tmp_path).cleaned(torch.zeros(2, 1, 6, 7))


def test_a_long_manifest_is_not_read(tmp_path):
    path = sound_bundle(tmp_path) / MANIFEST
    path.write_text(" " * (4 * 1024**2 + 1), encoding="utf-8")
    with pytest.raises(CorruptFileError, match="at most 4,194,304 are read"):
        TrainedModel.load(tmp_path)

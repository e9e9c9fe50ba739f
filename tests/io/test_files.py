"""Files are written whole or not at all, and read within limits."""

import hashlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inklab.errors import ConfigError, CorruptFileError, WriteError
from inklab.io.files import (
    cache_dir,
    cached,
    fingerprint,
    parse_json,
    parse_toml,
    sha256_of,
    write_atomic,
    write_json,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_text_and_bytes_are_written_and_directories_made(tmp_path):
    write_atomic(tmp_path / "a" / "b" / "text", "käse\n")
    write_atomic(tmp_path / "a" / "bytes", b"\x00\xff")
    assert (tmp_path / "a/b/text").read_bytes() == "käse\n".encode()
    assert (tmp_path / "a/bytes").read_bytes() == b"\x00\xff"


def test_an_old_file_is_replaced_and_no_draft_stays(tmp_path):
    """A rename, not an overwrite: a concurrent reader sees the whole old file."""
    write_atomic(tmp_path / "file", "old " * 1000)
    with (tmp_path / "file").open() as reader:
        write_atomic(tmp_path / "file", "new")
        assert reader.read() == "old " * 1000
    assert (tmp_path / "file").read_text() == "new" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_when_writing_fails_the_old_file_stays_and_no_draft(step, tmp_path, monkeypatch):
    write_atomic(tmp_path / "file", "old")

    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, disk_full)
    with pytest.raises(WriteError):
        write_atomic(tmp_path / "file", "new")
    monkeypatch.undo()
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_the_bytes_reach_the_disk_before_the_name(tmp_path, monkeypatch):
    """fsync of the file, rename, fsync of the directory: otherwise a power loss leaves an empty file."""
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, real=real, name=name: (done.append(name), real(*args))[1])
    write_atomic(tmp_path / "file", "text")
    assert done == ["fsync", "replace", "fsync"]


@given(value=JSON)
def test_json_comes_back_as_it_went(value, tmp_path_factory):
    path = tmp_path_factory.mktemp("json") / "value.json"
    write_json(path, value)
    back = parse_json(path.read_bytes(), "value.json")
    assert back == value and json.dumps(back) == json.dumps(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [1.0, -float("inf")]}])
def test_what_is_not_json_is_neither_written_nor_has_it_a_fingerprint(value, tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "value.json", value)
    assert os.listdir(tmp_path) == []
    with pytest.raises(ValueError):
        fingerprint(value)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"{'a': 1}", b"\xff\xfe\x00", b"[1,]", b"[NaN]", b"[-Infinity]", b'["\\ud800"]', b"{} {}",
        b"[" * 300 + b"]" * 300, b"[" * 200_000, b"1" * 5000,
    ],
    ids=range(12),
)  # fmt: skip
def test_damaged_json_is_refused_in_one_line(raw):
    with pytest.raises(CorruptFileError) as caught:
        parse_json(raw, "value.json")
    message = str(caught.value)
    assert "value.json" in message and "\n" not in message and len(message) < 500


@pytest.mark.parametrize("part", ["a", '"a b"', "'a.b'", '"\\""'])
def test_a_key_of_very_many_parts_is_refused_at_once(part):
    deep = {"a": 1, "a b": 1, "a.b": 1, '"': 1}
    table = parse_toml(".".join([part] * 100) + " = 1", "a study")
    for _ in range(100):
        ((key, table),) = table.items()
        assert key in deep
    with pytest.raises(ConfigError):
        parse_toml(" . ".join([part] * 30_000) + " = 1", "a study")
    numbers = ", ".join(["0.5"] * 1000)
    assert len(parse_toml(f"strengths = [{numbers}]", "a study")["strengths"]) == 1000


@given(st.lists(st.binary(), max_size=4))
def test_a_digest_is_that_of_the_whole(parts):
    assert sha256_of(*parts) == hashlib.sha256(b"".join(parts)).hexdigest()
    assert sha256_of(*map(memoryview, parts)) == sha256_of(*parts)


@given(JSON)
def test_equal_values_have_equal_fingerprints(value):
    digest = fingerprint(value)
    assert len(digest) == 12 and set(digest) <= set("0123456789abcdef")
    assert fingerprint(json.loads(json.dumps(value))) == digest
    assert fingerprint([value]) != digest


def test_order_of_keys_does_not_matter_and_order_of_lists_does():
    assert fingerprint({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint({"b": {"d": 3, "c": 2}, "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])
    assert fingerprint({"a": None}) != fingerprint({})
    assert fingerprint({"a": 1}) == "015abd7f5cc5"  # ids of stored outcomes depend on it


class TestCache:
    @pytest.mark.parametrize(
        "damage", [lambda raw: raw[:-1], lambda raw: raw + b"x", lambda raw: b"", lambda raw: b"0" + raw[1:]]
    )
    def test_content_is_made_once_and_again_if_damaged(self, damage, tmp_path):
        path = tmp_path / "damaged"
        cached(path, lambda: b"content")
        assert cached(path, lambda: b"not again") == b"content"
        path.write_bytes(damage(path.read_bytes()))
        assert cached(path, lambda: b"again") == b"again"
        assert cached(path, lambda: b"not again") == b"again"

    def test_a_cache_that_can_not_be_written_stops_nothing(self, monkeypatch, tmp_path):
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert cached(cache_dir("onnx") / "refused", lambda: b"content") == b"content"


@pytest.fixture
def homeless(tmp_path, monkeypatch):
    """No home is known, and the directory for temporary files is empty; returns it."""
    import pwd
    import tempfile

    def unknown(*_: object) -> None:
        raise KeyError("getpwuid(): uid not found")

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


class TestCacheWithoutHome:
    def test_it_is_a_directory_of_this_user_alone(self, homeless):
        path = cache_dir("machine")
        assert path.is_relative_to(homeless) and path.parent.stat().st_mode & 0o077 == 0
        write_atomic(path / "kept.json", "{}")
        assert (cache_dir("machine") / "kept.json").is_file()

    @pytest.mark.parametrize("kind", ["open to others", "a link", "a file"])
    def test_what_others_may_have_put_there_is_not_used(self, kind, homeless):
        name = cache_dir("programs").parent.name
        (homeless / name).rmdir()
        match kind:
            case "open to others":
                (homeless / name).mkdir()
                (homeless / name).chmod(0o777)
            case "a link":
                (homeless / "elsewhere").mkdir(mode=0o700)
                (homeless / name).symlink_to(homeless / "elsewhere")
            case _:
                (homeless / name).write_text("")
        with pytest.raises(WriteError):
            write_atomic(cache_dir("programs") / "program", "x")

    @pytest.mark.parametrize("home", ["missing", "file/cache"])
    def test_a_home_that_can_not_be_written_to_is_none(self, home, homeless, monkeypatch):
        (homeless / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(homeless / home))
        is_usual = cache_dir("data") == homeless / home / "inklab" / "data"
        assert is_usual == (home == "missing")  # that can be made

"""Arrays in files: they come back as they were; a header that lies is refused before a library sees it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpies
from safetensors.numpy import save

from inklab.errors import CorruptFileError
from inklab.io import tensor_file
from inklab.io.tensor_file import check_header, read_arrays, write_arrays

ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def file_of(header: object, data: bytes = b"\0" * 8) -> bytes:
    """A safetensors file with that header, whatever it says; text stands as it is."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return len(text).to_bytes(8, "little") + text + data


def refused(raw: bytes, says: str) -> None:
    with pytest.raises(CorruptFileError, match=says) as caught:
        check_header(raw, "a file")
    told = str(caught.value)
    assert told.startswith("'a file' is not a safetensors file: ") and "\n" not in told and len(told) < 500


class TestFiles:
    def test_arrays_come_back_with_type_shape_and_values(self, tmp_path):
        arrays = {
            "bytes": np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 4),
            "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
            "counts": np.array([], dtype=np.int64),
        }
        write_arrays(tmp_path / "a.safetensors", arrays)
        read = read_arrays(tmp_path / "a.safetensors")
        assert set(read) == set(arrays)
        for name, array in arrays.items():
            assert read[name].dtype == array.dtype and np.array_equal(read[name], array)

    @pytest.mark.parametrize(
        "content", [b"", b"{}", b"\xff" * 100, b"\x80\x04]\x94.", b"\x10" + b"\0" * 7 + b"{" * 16]
    )
    def test_what_is_no_safetensors_file_is_told(self, tmp_path, content):
        (tmp_path / "a.safetensors").write_bytes(content)
        with pytest.raises(CorruptFileError, match="a.safetensors"):
            read_arrays(tmp_path / "a.safetensors")

    def test_a_file_that_was_cut_short_is_told(self, tmp_path):
        write_arrays(tmp_path / "a.safetensors", {"a": np.arange(100)})
        whole = (tmp_path / "a.safetensors").read_bytes()
        for length in (7, 20, len(whole) - 1):
            (tmp_path / "a.safetensors").write_bytes(whole[:length])
            with pytest.raises(CorruptFileError):
                read_arrays(tmp_path / "a.safetensors")

    def test_a_file_beyond_the_limit_is_not_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tensor_file, "MAX_FILE_BYTES", 10)
        (tmp_path / "a.safetensors").write_bytes(b"\0" * 11)
        with pytest.raises(CorruptFileError, match="has 11 bytes; at most 10"):
            read_arrays(tmp_path / "a.safetensors")

    def test_a_type_that_numpy_lacks_is_told(self, tmp_path):
        entry = {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}
        (tmp_path / "a.safetensors").write_bytes(file_of({"a": entry}))
        with pytest.raises(CorruptFileError, match="BF16"):
            read_arrays(tmp_path / "a.safetensors")


TYPES = st.sampled_from(["bool", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"])
ARRAYS = numpies.arrays(TYPES, numpies.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("abc./é-0", min_size=1, max_size=9), ARRAYS, max_size=4))
def test_whatever_the_library_writes_is_sound(arrays):
    raw = save(arrays, metadata={"by": "somebody"})
    assert check_header(raw, "a file") is raw


HOSTILE = {
    "empty": (b"", "cut short"),
    "seven bytes": (b"\0" * 7, "cut short"),
    "a length beyond all files": (b"\xff" * 8 + b"{}", "cut short"),
    "a length beyond this file": (file_of({"a": ONE})[:20], "cut short"),
    "a long header": (file_of(" " * 2**20 + "{}"), "1,048,578 bytes"),
    "no JSON": (file_of("{"), "Expecting"),
    "no UTF-8": ((2).to_bytes(8, "little") + b"\xff\xfe", "utf-8"),
    "deep": (file_of("[" * 500_000), "recursion"),
    "a list": (file_of([]), "no table"),
    "a name twice": (file_of('{"a": 1, "a": 2}'), "twice"),
    "remarks": (file_of({"__metadata__": {"a": 1}}, b""), "no table of texts"),
    "too many": (file_of({str(k): 0 for k in range(10_001)}), "10,001 arrays"),
    "a long name": (file_of({"a" * 513: ONE}), "name is not one"),
    "a name that rings": (file_of({"a\u0007": ONE}), "name is not one"),
    "no entry": (file_of({"a": 3}), "needs dtype"),
    "more in an entry": (file_of({"a": {**ONE, "b": 1}}), "nothing else"),
    "less in an entry": (file_of({"a": {"dtype": "F32"}}), "needs dtype"),
    "an unknown type": (file_of({"a": {**ONE, "dtype": "F99"}}), "the type 'F99'"),
    "a type that is none": (file_of({"a": {**ONE, "dtype": ["F32"]}}), "the type"),
    "a negative side": (file_of({"a": {**ONE, "shape": [-2]}}), "the shape"),
    "a side that is no whole number": (file_of({"a": {**ONE, "shape": [2.0]}}), "the shape"),
    "a truth value": (file_of({"a": {**ONE, "shape": [True, 2]}}), "the shape"),
    "many sides": (file_of({"a": {**ONE, "shape": [1] * 16 + [2]}}), "the shape"),
    "nothing, but huge": (
        file_of({"a": {**ONE, "shape": [0, 2**39, 4], "data_offsets": [0, 0]}}), "the shape",
    ),
    "a huge shape": (file_of({"a": {**ONE, "shape": [2**20, 2**20]}}), "has 8 bytes, not those"),
    "a side of a thousand digits": (file_of('{"a": {"dtype": "F32", "shape": [1' + "0" * 5000), "digits"),
    "too few bytes": (file_of({"a": {**ONE, "shape": [3]}}), "has 8 bytes, not those of F32"),
    "backwards": (file_of({"a": {**ONE, "data_offsets": [8, 0]}}), "has -8 bytes"),
    "three places": (file_of({"a": {**ONE, "data_offsets": [0, 8, 8]}}), "lies at"),
    "outside": (file_of({"a": {**ONE, "data_offsets": [8, 16]}}), "overlap or leave a gap"),
    "beyond the end": (file_of({"a": ONE}, b"\0" * 7), "take 8 bytes, but 7 follow"),
    "hidden bytes": (file_of({"a": ONE}, b"\0" * 9), "take 8 bytes, but 9 follow"),
    "an overlap": (file_of({"a": ONE, "b": ONE}), "overlap"),
    "half an overlap": (
        file_of({"a": ONE, "b": {**ONE, "data_offsets": [4, 12]}}, b"\0" * 12), "a gap at byte 4",
    ),
    "a gap": (
        file_of({"a": ONE, "b": {**ONE, "data_offsets": [12, 20]}}, b"\0" * 20), "leave a gap at byte 8",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused(name):
    refused(*HOSTILE[name])


def test_a_sound_header_passes_whatever_its_order():
    entries = {"b": {**ONE, "data_offsets": [8, 16]}, "empty": {**ONE, "shape": [0], "data_offsets": [8, 8]}}
    raw = file_of({**entries, "a": ONE, "__metadata__": {"by": "me"}}, b"\0" * 16)
    assert check_header(raw, "a file") is raw

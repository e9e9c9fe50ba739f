"""Arrays in files: they are read as they were written; false headers are refused."""

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
    """A safetensors file with that header; text is written unchanged."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return len(text).to_bytes(8, "little") + text + data


class TestFiles:
    def test_arrays_come_back_with_type_shape_and_values(self, tmp_path):
        arrays = {
            "bytes": np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 4),
            "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
            "counts": np.array([], dtype=np.int64),
        }
        write_arrays(tmp_path / "a.safetensors", arrays)
        read = read_arrays(tmp_path / "a.safetensors")
        assert set(read) == set(arrays)
        for name, array in arrays.items():
            assert read[name].dtype == array.dtype and np.array_equal(read[name], array)

    def test_a_truncated_file_is_refused(self, tmp_path):
        write_arrays(tmp_path / "a.safetensors", {"a": np.arange(100)})
        whole = (tmp_path / "a.safetensors").read_bytes()
        for length in (7, 20, len(whole) - 1):
            (tmp_path / "a.safetensors").write_bytes(whole[:length])
            with pytest.raises(CorruptFileError):
                read_arrays(tmp_path / "a.safetensors")

    def test_a_file_beyond_the_limit_is_not_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tensor_file, "MAX_FILE_BYTES", 10)
        (tmp_path / "a.safetensors").write_bytes(b"\0" * 11)
        with pytest.raises(CorruptFileError):
            read_arrays(tmp_path / "a.safetensors")


TYPES = st.sampled_from(["bool", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"])
ARRAYS = numpies.arrays(TYPES, numpies.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("abc./é-0", min_size=1, max_size=9), ARRAYS, max_size=4))
def test_whatever_the_library_writes_is_accepted(arrays):
    raw = save(arrays, metadata={"by": "somebody"})
    assert check_header(raw, "a file") is raw


MALICIOUS = {
    "empty": b"",
    "seven bytes": b"\0" * 7,
    "a length beyond all files": b"\xff" * 8 + b"{}",
    "a length beyond this file": file_of({"a": ONE})[:20],
    "a long header": file_of(" " * 2**20 + "{}"),
    "no JSON": file_of("{"),
    "no UTF-8": (2).to_bytes(8, "little") + b"\xff\xfe",
    "deep": file_of("[" * 500_000),
    "a list": file_of([]),
    "a name twice": file_of('{"a": 1, "a": 2}'),
    "too many": file_of({str(k): ONE for k in range(10_001)}),
    "a control character in a name": file_of({"a\u0007": ONE}),
    "no entry": file_of({"a": 3}),
    "a text as shape": file_of({"a": {**ONE, "shape": "2"}}),
    "many sides": file_of({"a": {**ONE, "shape": [1] * 16 + [2]}}),
    "nothing, but huge": file_of({"a": {**ONE, "shape": [0, 2**39, 4], "data_offsets": [0, 0]}}),
    "a huge shape": file_of({"a": {**ONE, "shape": [2**20, 2**20]}}),
    "a side of a thousand digits": file_of('{"a": {"dtype": "F32", "shape": [1' + "0" * 5000),
}

LEFT_TO_THE_LIBRARY = [
    file_of({"__metadata__": {"a": 1}}, b""),
    file_of({"a": {"dtype": "F32", "shape": [2]}}),
    *(file_of({"a": {**ONE, "dtype": dtype}}) for dtype in ("F99", "BF16")),
    *(file_of({"a": {**ONE, "shape": shape}}) for shape in ([-2], [2.0], [True, 2], [3])),
    *(file_of({"a": {**ONE, "data_offsets": offsets}}) for offsets in ([8, 0], [0, 8, 8], [8, 16])),
    file_of({"a": ONE}, b"\0" * 7),
    file_of({"a": ONE}, b"\0" * 9),
    file_of({"a": ONE, "b": ONE}),
    file_of({"a": ONE, "b": {**ONE, "data_offsets": [4, 12]}}, b"\0" * 12),
    file_of({"a": ONE, "b": {**ONE, "data_offsets": [12, 20]}}, b"\0" * 20),
]
OTHER_FORMATS = [b"{}", b"\xff" * 100, b"\x80\x04]\x94.", b"\x10" + b"\0" * 7 + b"{" * 16]


@pytest.mark.parametrize("name", MALICIOUS)
def test_a_malicious_header_is_refused_before_the_library_reads_it(name):
    with pytest.raises(CorruptFileError) as caught:
        check_header(MALICIOUS[name], "a file")
    message = str(caught.value)
    assert "'a file'" in message and "\n" not in message and len(message) < 500


@pytest.mark.parametrize("content", [*MALICIOUS.values(), *LEFT_TO_THE_LIBRARY, *OTHER_FORMATS], ids=len)
def test_a_malicious_file_is_not_read(content, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CorruptFileError, match="a.safetensors"):
        read_arrays(tmp_path / "a.safetensors")


def test_a_message_is_short_whatever_the_file_says(tmp_path):
    """The library repeats the wrong value, however long it is."""
    (tmp_path / "a.safetensors").write_bytes(file_of({"a": {**ONE, "dtype": "x" * 100_000}}))
    with pytest.raises(CorruptFileError) as caught:
        read_arrays(tmp_path / "a.safetensors")
    assert "xxx ... xxx" in str(caught.value) and len(str(caught.value)) < 3_000


def test_a_valid_header_is_accepted_in_any_order():
    entries = {"b": {**ONE, "data_offsets": [8, 16]}, "empty": {**ONE, "shape": [0], "data_offsets": [8, 8]}}
    raw = file_of({**entries, "a": ONE, "__metadata__": {"by": "me"}}, b"\0" * 16)
    assert check_header(raw, "a file") is raw

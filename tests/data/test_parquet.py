"""Parquet files: pictures and numbers in columns are the same dataset as the arrays."""

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from inklab import datasets
from inklab.data import pictures as stored
from inklab.errors import CorruptFileError, DataError

N = 24
X = np.random.default_rng(0).integers(0, 256, (N, 8, 8), np.uint8)
Y = np.arange(N) % 3
EXPECTED = datasets.from_arrays(X, Y).sha256


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


FILES = [png(pixels) for pixels in X]
HUB = {
    "image": {"_type": "Image"},
    "label": {"_type": "ClassLabel", "names": ["zero", "one", "two", "never"]},
}


def save(path, columns, features=None, rows=slice(None), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({name: pa.array(list(values)[rows]) for name, values in columns.items()})
    if features:
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    parquet.write_table(table, path, **options)
    return path


def hub(path, rows=slice(None), **options):
    """As Hugging Face's library writes a dataset of pictures."""
    entries = [{"bytes": content, "path": None} for content in FILES]
    return save(path, {"image": entries, "label": Y.tolist()}, HUB, rows, **options)


PIXELS = {f"pixel{k}": column for k, column in enumerate(X.reshape(N, 64).T.tolist())}


@pytest.mark.parametrize(
    "columns",
    [
        {"image": FILES, "label": Y.tolist()},
        {"img": [{"bytes": content} for content in FILES], "class": Y.tolist()},
        {"pixels": X.tolist(), "target": Y.tolist()},
        {"pixels": X.reshape(N, 64).tolist(), "label": Y.tolist()},
        {"pixels": (X / 255).tolist(), "label": Y.tolist()},
        {"label": Y.tolist(), **PIXELS},
        {"id": list(range(N)), "label": Y.tolist(), **PIXELS},
    ],
    ids=range(7),
)
def test_every_usual_column_is_the_array(tmp_path, columns):
    path = save(tmp_path / "a.parquet", columns, row_group_size=7)
    dataset = datasets.load(path)
    assert dataset.sha256 == EXPECTED
    assert (dataset.note == "Not used: id.") is ("id" in columns)


def test_the_names_of_classes_and_sets_of_hugging_face(tmp_path):
    hub(tmp_path / "data/train-00000-of-00002-0a1b2c.parquet", slice(0, 10))
    hub(tmp_path / "data/train-00001-of-00002-0a1b2c.parquet", slice(10, N))
    hub(tmp_path / "data/validation-00000-of-00001.parquet", slice(0, 9))
    hub(tmp_path / "data/test-00000-of-00001.parquet", slice(0, 6))
    names = {0: "zero", 1: "one", 2: "two"}
    same = datasets.from_arrays(X, Y, (X[:6], Y[:6]), validation=(X[:9], Y[:9]), labels=names)
    assert datasets.load(tmp_path).sha256 == same.sha256
    shard = tmp_path / "data/train-00001-of-00002-0a1b2c.parquet"
    assert datasets.load(shard).sha256 == same.sha256, "a shard is a part of its set"
    by_directories = tmp_path / "converted/default"
    for name, rows in (("train", slice(None)), ("valid", slice(0, 9)), ("test", slice(0, 6))):
        hub(by_directories / name / "0000.parquet", rows)
    assert datasets.from_parquet(by_directories.parent).sha256 == same.sha256
    chosen = datasets.from_parquet(by_directories, test=by_directories / "valid/0000.parquet")
    assert len(chosen.test) == 9
    with pytest.raises(DataError, match="several datasets; name one of them"):
        datasets.load(tmp_path)


def test_paths_start_at_the_file(tmp_path):
    (tmp_path / "pictures").mkdir()
    for index, content in enumerate(FILES):
        (tmp_path / f"pictures/{index}.png").write_bytes(content)
    names = [f"pictures/{index}.png" for index in range(N)]
    path = save(tmp_path / "a.parquet", {"file": names, "label": Y.tolist()})
    assert datasets.load(path).sha256 == EXPECTED


def test_many_pictures_are_decoded_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(stored, "MIN_CACHED_PICTURES", N)
    path = hub(tmp_path / "a.parquet")
    first = datasets.load(path)
    with monkeypatch.context() as patch:
        patch.setattr(stored, "preprocess_pictures", lambda *_: pytest.fail("decoded again"))
        assert datasets.load(path).sha256 == first.sha256
    hub(path, slice(0, 12))
    assert len(datasets.load(path).train) == 10, "another file"


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"image": FILES}, "no column called label"),
        ({"label": Y.tolist(), "name": ["none.png"] * N}, "none.png' can't be read"),
        ({"label": Y.tolist()}, "no column of pictures or numbers"),
        ({"image": [*FILES[1:], None], "label": Y.tolist()}, "row 23 has no picture"),
        ({"image": [*FILES[1:], b"no"], "label": Y.tolist()}, "row 23 is not a"),
        ({"pixels": [[[1]], *[[[1, 2]]] * (N - 1)], "label": Y.tolist()}, "rows of different lengths"),
        ({"pixels": [None, *X[1:].tolist()], "label": Y.tolist()}, "rows of different lengths"),
        ({"pixels": X.tolist(), "label": [None, *Y[1:].tolist()]}, "1 label is missing"),
        ({"image": [], "label": []}, "no rows"),
    ],
    ids=range(9),
)
def test_others_are_refused(tmp_path, columns, problem):
    path = save(tmp_path / "a.parquet", columns)
    with pytest.raises(DataError, match=problem):
        datasets.load(path)


def test_damaged_and_wrong_files_are_refused(tmp_path, monkeypatch):
    path = hub(tmp_path / "a.parquet")
    raw = path.read_bytes()
    for broken in (b"", b"PAR1", raw[:-40], raw[:60] + b"\xff" * 60 + raw[120:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="a.parquet"):
            datasets.load(path)
    path.write_bytes(raw)
    with pytest.raises(DataError, match="no column 'labl'. Did you mean 'label'"):
        datasets.from_parquet(path, label="labl")
    monkeypatch.setattr("inklab.data.parquet_files.MAX_COLUMN_BYTES", 100)
    with pytest.raises(CorruptFileError, match="at most 100 are read"):
        datasets.load(path)
    hub(tmp_path / "only/test.parquet")
    with pytest.raises(DataError, match="no training images"):
        datasets.load(tmp_path / "only")

"""Every reader as a function of changes: a sound file is spoilt by them, and read.

Each raises only errors of `inklab.errors`, whatever the changes are; tests hold them to that.
"""

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from malicious_files import Change, Document, idx, put, spoilt
from PIL import Image
from plan_builder import HOW, MNIST, dense
from safetensors.numpy import save
from safetensors.torch import load as load_tensors

from inklab.data.idx import parse_idx, unpack
from inklab.data.image_file import open_image
from inklab.data.npz import load_npz
from inklab.data.preprocessing import Preprocessing, frame
from inklab.io.documents import parse_json, sha256_of
from inklab.io.tensor_file import check_header, read_arrays
from inklab.model import MANIFEST, WEIGHTS, TrainedModel
from inklab.networks.layers import Normalize, NormalizedModel
from inklab.networks.network import build_net
from inklab.seeding import Seed
from inklab.study.load import parse_study, read_study
from inklab.study.planner import plan

Changes = Sequence[Change]
Reader = Callable[[Changes], object]

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 6, 7), np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 3

STUDY = """
name = "small"
seed = 3
[data]
source = "mnist"
[chapters.net]
question = "How far?"
model = { name = "mlp", hidden = [16, 8] }
scaling = { spread = 255.0 }
recipe = { base = "sgd", epochs = 4, corruption = { name = "shot", strength = [0.0, 0.9] } }
vary = { "recipe.l2" = [0.0, 1e-3], "model.dropout" = [0.0, 0.5] }
replicates = 2
references = [{ who = "they", values = { test_accuracy = 0.98 }, epochs = 3 }]
[chapters.cnn]
model = { name = "cnn", channels = [6] }
replicates = 1
[chapters.noise]
kind = "noise"
strengths = [0, 0.3, 0.6]
images = 60
pipelines = ["cnn", "median+cnn"]
alone = "cnn"
[chapters.findings]
kind = "findings"
[profiles.quick]
"net.recipe.epochs" = 2
[small]
below = 100
epochs_times = 2
"""
TABLES = {
    "name": "small",
    "chapters": {
        "net": {
            "model": {"name": "mlp", "hidden": [16, 8], "dropout": 0.1},
            "scaling": {"mean": 0.1, "spread": 2.0},
            "recipe": {"base": "sgd", "corruption": {"name": "shot", "strength": [0, 0.9]}},
            "vary": {"recipe.l2": [0.0, 1e-3], "model.hidden": [[3], [4]]},
            "references": [{"who": "they", "values": {"test_loss": 0.1}}],
        },
        "code": {"model": {"name": "autoencoder", "code": 4}, "recipe": "denoise", "replicates": 1},
        "cnn": {"model": "cnn", "replicates": 1},
        "noise": {"kind": "noise", "strengths": [0, 0.5], "pipelines": ["cnn", "code+cnn"], "alone": "cnn"},
        "generator": {"kind": "generator", "decoder": "code", "judge": "cnn", "samples": 100},
    },
}  # fmt: skip


def readers(folder: Path) -> dict[str, Reader]:
    """Every reader of single files, by name.

    Args:
        folder: an empty one to write into.
    """
    return {
        "idx": _idx(),
        "npz": _npz(folder),
        "npy in npz": _npy(folder),
        "picture": _picture(),
        "png": _png(),
        "json": _json(),
        "safetensors": _safetensors(folder),
        "safetensors header": _safetensors_header(),
        "study file": _study_file(folder),
        "study tables": _study_tables(),
        "bundle manifest": _manifest(folder / "manifest"),
        "bundle weights": _weights(folder / "weights"),
    }


def _one_of(sound: Sequence[bytes], changes: Changes) -> bytes:
    return spoilt(sound[changes[0][1] % len(sound)], changes)


def _idx() -> Reader:
    plain = [idx(IMAGES.shape, IMAGES.tobytes()), idx(LABELS.shape, LABELS.tobytes())]
    sound = [*plain, *(gzip.compress(raw) for raw in plain)]
    return lambda changes: parse_idx(unpack(io.BytesIO(_one_of(sound, changes)), "a.idx"), "a.idx")


def _saved(save: Callable[..., None], **arrays: Any) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def _npz(folder: Path) -> Reader:
    sound = [_saved(save, images=IMAGES, labels=LABELS) for save in (np.savez, np.savez_compressed)]
    return lambda changes: load_npz(put(folder / "a.npz", _one_of(sound, changes)), seed=0, source="a.npz")


def _npy(folder: Path) -> Reader:
    """Changes behind the archive's checksum."""
    sound = {"images": _saved(_one_array, array=IMAGES), "labels": _saved(_one_array, array=LABELS)}

    def read(changes: Changes) -> object:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for place, (name, raw) in enumerate(sound.items()):
                changed = spoilt(raw, changes) if place == changes[0][0] % 2 else raw
                archive.writestr(f"{name}.npy", changed)
        return load_npz(put(folder / "a.npz", file.getvalue()), seed=0, source="a.npz")

    return read


def _one_array(file: io.BytesIO, array: np.ndarray) -> None:
    np.save(file, array)


def _picture() -> Reader:
    sound = []
    for mode, kind in (("L", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("I;16", "PNG"), ("RGB", "JPEG"),
                       ("L", "JPEG"), ("RGB", "BMP"), ("1", "BMP"), ("RGB", "WEBP")):  # fmt: skip
        file = io.BytesIO()
        _drawn(mode).save(file, kind)
        sound.append(file.getvalue())
    return lambda changes: frame(open_image(_one_of(sound, changes)), Preprocessing())


def _drawn(mode: str) -> Image.Image:
    grey = np.full((17, 14), 240, np.uint8)
    grey[4:13, 5:9] = 20
    picture = Image.fromarray(grey)
    return Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else picture.convert(mode)


def _png() -> Reader:
    """Changes within the chunks of a PNG, with the checksums that belong to them."""
    file = io.BytesIO()
    _drawn("RGBA").save(file, "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")
    raw, chunks = file.getvalue(), []
    at = 8
    while at < len(raw):
        (length,) = struct.unpack(">I", raw[at : at + 4])
        chunks.append((raw[at + 4 : at + 8], raw[at + 8 : at + 8 + length]))
        at += 12 + length

    def read(changes: Changes) -> object:
        chosen = changes[0][1] % len(chunks)
        parts = [raw[:8]]
        for place, (kind, content) in enumerate(chunks):
            told = spoilt(content, changes) if place == chosen else content
            parts.append(struct.pack(">I", len(told)) + kind + told)
            parts.append(struct.pack(">I", zlib.crc32(kind + told)))
        return frame(open_image(b"".join(parts)), Preprocessing())

    return read


def _json() -> Reader:
    sound = [json.dumps(TABLES, indent=1).encode(), b'{"a": [1, 2.5, null, true, "\\u00e9"]}']
    return lambda changes: json.dumps(
        parse_json(_one_of(sound, changes), "a.json"), indent=1, allow_nan=False, ensure_ascii=False
    ).encode()


def _stored() -> dict[str, np.ndarray]:
    small = {"some": np.arange(6, dtype=np.float32).reshape(2, 3), "none": np.zeros((0, 4), np.int64)}
    return {**small, "one": np.array(3, np.uint8), "said": np.arange(5, dtype=np.int16)}


def _safetensors(folder: Path) -> Reader:
    sound = [save(_stored()), save({"a": np.zeros(4, np.float64)}, metadata={"by": "me"})]

    def read(changes: Changes) -> object:
        return read_arrays(put(folder / "a.safetensors", _one_of(sound, changes)))

    return read


def _safetensors_header() -> Reader:
    """Changes within the header, whose length is told rightly. What passes, torch must be able to load."""
    raw = save(_stored())
    length = int.from_bytes(raw[:8], "little")
    header, rest = Document(json.loads(raw[8 : 8 + length])), raw[8 + length :]

    def read(changes: Changes) -> object:
        told = json.dumps(header.changed(changes)).encode()
        told += b" " * (-len(told) % 8)
        return load_tensors(check_header(len(told).to_bytes(8, "little") + told + rest, "a file"))

    return read


def _study_file(folder: Path) -> Reader:
    sound = [STUDY.encode()]

    def read(changes: Changes) -> object:
        path = put(folder / "study.toml", _one_of(sound, changes))
        spec, profile = read_study(str(path), train_images=60)
        return json.dumps(plan(spec, profile, MNIST, HOW, dense), allow_nan=False)

    return read


def _study_tables() -> Reader:
    tables = Document(TABLES)

    def read(changes: Changes) -> object:
        changed = tables.changed(changes)
        spec = parse_study(changed if isinstance(changed, dict) else {"name": changed}, "a study")
        return json.dumps(plan(spec, "plain", MNIST, HOW, dense), allow_nan=False)

    return read


def sound_bundle(folder: Path) -> Path:
    """A bundle of an untrained network for three classes, written into a folder."""
    model, framing = {"name": "mlp", "hidden": [5], "dropout": 0.1}, Preprocessing.plain((1, 6, 7)).to_json()
    net = NormalizedModel(Normalize(0.1, 0.5), build_net(model, (1, 6, 7), 3, Seed(0)))
    told = {"made_by": {"id": "abc", "replicate": 0}, "scores": {"test_loss": 0.5}}
    TrainedModel(net, model, (1, 6, 7), ("a", "b", "c"), "labels", framing, **told).save(folder)
    return folder


def _manifest(folder: Path) -> Reader:
    path = sound_bundle(folder) / MANIFEST
    text = path.read_bytes()
    manifest = Document(json.loads(text))

    def read(changes: Changes) -> object:
        values = changes[0][2] % 4
        put(path, json.dumps(manifest.changed(changes)).encode() if values else spoilt(text, changes))
        return TrainedModel.load(folder)

    return read


def _weights(folder: Path) -> Reader:
    """Changed weights, with a manifest that vouches for them."""
    sound_bundle(folder)
    raw, manifest = (folder / WEIGHTS).read_bytes(), json.loads((folder / MANIFEST).read_bytes())

    def read(changes: Changes) -> object:
        changed = spoilt(raw, changes)
        told = {**manifest, "weights_sha256": sha256_of(changed)}
        put(folder / WEIGHTS, changed)
        put(folder / MANIFEST, json.dumps(told).encode())
        return TrainedModel.load(folder)

    return read

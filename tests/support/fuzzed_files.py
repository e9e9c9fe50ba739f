"""Every reader as a function of changes: a valid file is changed by them, and read.

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
from malicious_files import Change, Document, corrupt, idx, put
from PIL import Image
from plan_builder import plan_spec
from safetensors import SafetensorError
from safetensors.numpy import save
from safetensors.torch import load as load_tensors

from inklab.data.formats import load_npz, parse_idx, unpack
from inklab.data.preprocessing import open_image, preprocess_picture
from inklab.errors import CorruptFileError
from inklab.io.files import parse_json, sha256_of
from inklab.io.tensor_file import check_header, read_arrays
from inklab.model import MANIFEST, WEIGHTS, TrainedModel
from inklab.networks.layers import Normalize, NormalizedModel
from inklab.networks.network import build_network
from inklab.records.components import NetworkConfig, Preprocessing
from inklab.records.manifest import Provenance
from inklab.seeding import Seed
from inklab.study.load import parse_study, read_study

Changes = Sequence[Change]
Reader = Callable[[Changes], object]

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 6, 7), np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 3

STUDY = """
name = "small"
seed = 3
[data]
dataset = "mnist"
[experiments.net]
question = "How far?"
network = { name = "mlp", hidden = [16, 8] }
normalize = { std = 255.0 }
recipe = { base = "sgd", epochs = 4, corruption = { name = "shot", strength = [0.0, 0.9] } }
grid = { "recipe.l2" = [0.0, 1e-3], "network.dropout" = [0.0, 0.5] }
replicates = 2
references = [{ source = "they", dataset = "mnist", values = { test_accuracy = 0.98 }, epochs = 3 }]
[experiments.cnn]
network = { name = "cnn", channels = [6] }
replicates = 1
[experiments.robustness]
kind = "robustness"
strengths = [0, 0.3, 0.6]
images = 60
pipelines = ["cnn", "median+cnn"]
baseline = "cnn"
[experiments.findings]
kind = "findings"
[profiles.quick]
"net.recipe.epochs" = 2
[small_data]
fewer_than = 100
epochs_factor = 2
"""
TABLES = {
    "name": "small",
    "experiments": {
        "net": {
            "network": {"name": "mlp", "hidden": [16, 8], "dropout": 0.1},
            "normalize": {"mean": 0.1, "std": 2.0},
            "recipe": {"base": "sgd", "corruption": {"name": "shot", "strength": [0, 0.9]}},
            "grid": {"recipe.l2": [0.0, 1e-3], "network.hidden": [[3], [4]]},
            "references": [{"source": "they", "dataset": "mnist", "values": {"test_loss": 0.1}}],
        },
        "code": {"network": {"name": "autoencoder", "code": 4}, "recipe": "denoise", "replicates": 1},
        "cnn": {"network": "cnn", "replicates": 1},
        "robustness": {
            "kind": "robustness", "strengths": [0, 0.5], "pipelines": ["cnn", "code+cnn"], "baseline": "cnn",
        },
        "generation": {"kind": "generation", "decoder": "code", "classifier": "cnn", "samples": 100},
    },
}  # fmt: skip


def readers(folder: Path) -> dict[str, Reader]:
    """Every reader of single files, by name; they write into an empty folder."""
    return {
        "idx": _idx(), "npz": _npz(folder), "npy in npz": _npy(folder), "picture": _picture(),
        "png": _png(), "json": _json(), "safetensors": _safetensors(folder),
        "safetensors header": _safetensors_header(), "study file": _study_file(folder),
        "study tables": _study_tables(), "model manifest": _manifest(folder / "manifest"),
        "model weights": _weights(folder / "weights"),
    }  # fmt: skip


def _one_of(valid: Sequence[bytes], changes: Changes) -> bytes:
    return corrupt(valid[changes[0][1] % len(valid)], changes)


def _idx() -> Reader:
    plain = [idx(IMAGES), idx(LABELS)]
    valid = [*plain, *(gzip.compress(raw) for raw in plain)]
    return lambda changes: parse_idx(unpack(io.BytesIO(_one_of(valid, changes)), "a.idx"), "a.idx")


def _saved(save: Callable[..., None], **arrays: Any) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def _npz(folder: Path) -> Reader:
    valid = [_saved(save, images=IMAGES, labels=LABELS) for save in (np.savez, np.savez_compressed)]
    return lambda changes: load_npz(put(folder / "a.npz", _one_of(valid, changes)), seed=0)


def _npy(folder: Path) -> Reader:
    """Changes behind the archive's checksum."""
    valid = {"images": _saved(np.save, arr=IMAGES), "labels": _saved(np.save, arr=LABELS)}

    def read(changes: Changes) -> object:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for index, (name, raw) in enumerate(valid.items()):
                changed = corrupt(raw, changes) if index == changes[0][0] % 2 else raw
                archive.writestr(f"{name}.npy", changed)
        return load_npz(put(folder / "a.npz", file.getvalue()), seed=0)

    return read


def _picture() -> Reader:
    kinds = {"PNG": "L RGBA P I;16", "JPEG": "RGB L", "BMP": "RGB 1", "WEBP": "RGB"}
    pairs = [(kind, mode) for kind, modes in kinds.items() for mode in modes.split()]
    valid = [_saved(_drawn(mode).save, format=kind) for kind, mode in pairs]
    return lambda changes: preprocess_picture(open_image(_one_of(valid, changes)), Preprocessing())


def _drawn(mode: str) -> Image.Image:
    gray = np.full((17, 14), 240, np.uint8)
    gray[4:13, 5:9] = 20
    picture = Image.fromarray(gray)
    return Image.fromarray(gray.astype(np.uint16) * 257) if mode == "I;16" else picture.convert(mode)


def _png() -> Reader:
    """Changes within the chunks of a PNG, with the checksums that belong to them."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    raw = _saved(_drawn("RGBA").save, format="PNG", exif=exif)
    chunks, at = [], 8
    while at < len(raw):
        (length,) = struct.unpack(">I", raw[at : at + 4])
        chunks.append((raw[at + 4 : at + 8], raw[at + 8 : at + 8 + length]))
        at += 12 + length

    def read(changes: Changes) -> object:
        chosen = changes[0][1] % len(chunks)
        parts = [raw[:8]]
        for index, (kind, content) in enumerate(chunks):
            changed = corrupt(content, changes) if index == chosen else content
            parts += [struct.pack(">I", len(changed)), kind, changed]
            parts.append(struct.pack(">I", zlib.crc32(kind + changed)))
        return preprocess_picture(open_image(b"".join(parts)), Preprocessing())

    return read


def _json() -> Reader:
    valid = [json.dumps(TABLES, indent=1).encode(), b'{"a": [1, 2.5, null, true, "\\u00e9"]}']
    return lambda changes: json.dumps(
        parse_json(_one_of(valid, changes), "a.json"), indent=1, allow_nan=False, ensure_ascii=False
    ).encode()


def _stored() -> dict[str, np.ndarray]:
    return {
        "some": np.arange(6, dtype=np.float32).reshape(2, 3), "none": np.zeros((0, 4), np.int64),
        "one": np.array(3, np.uint8), "said": np.arange(5, dtype=np.int16),
    }  # fmt: skip


def _safetensors(folder: Path) -> Reader:
    valid = [save(_stored()), save({"a": np.zeros(4, np.float64)}, metadata={"by": "me"})]

    def read(changes: Changes) -> object:
        return read_arrays(put(folder / "a.safetensors", _one_of(valid, changes)))

    return read


def _safetensors_header() -> Reader:
    """Changes within the header, with its right length. torch must be able to load or refuse what passes."""
    raw = save(_stored())
    length = int.from_bytes(raw[:8], "little")
    header, rest = Document(json.loads(raw[8 : 8 + length])), raw[8 + length :]

    def read(changes: Changes) -> object:
        changed_header = json.dumps(header.changed(changes)).encode()
        changed_header += b" " * (-len(changed_header) % 8)
        raw = check_header(len(changed_header).to_bytes(8, "little") + changed_header + rest, "a file")
        try:
            return load_tensors(raw)
        except (SafetensorError, ValueError, KeyError) as error:
            raise CorruptFileError(str(error)) from error

    return read


def _study_file(folder: Path) -> Reader:
    valid = [STUDY.encode()]

    def read(changes: Changes) -> object:
        path = put(folder / "study.toml", _one_of(valid, changes))
        loaded = read_study(str(path)).for_images(60)
        return plan_spec(loaded.spec, loaded.profile).model_dump_json()

    return read


def _study_tables() -> Reader:
    tables = Document(TABLES)

    def read(changes: Changes) -> object:
        changed = tables.changed(changes)
        spec = parse_study(changed if isinstance(changed, dict) else {"name": changed}, "a study")
        return plan_spec(spec).model_dump_json()

    return read


def valid_model(folder: Path) -> Path:
    """An untrained network for three classes, saved into a directory."""
    network = NetworkConfig.of("mlp", hidden=[5], dropout=0.1)
    TrainedModel.of(
        NormalizedModel(Normalize(0.1, 0.5), build_network(network, (1, 6, 7), 3, Seed(0))),
        network, "classification", ("a", "b", "c"), Preprocessing.resize_only((1, 6, 7)),
        provenance=Provenance(trial="abc", replicate=0),
        metrics={"test_loss": 0.5},
    ).save(folder)  # fmt: skip
    return folder


def _manifest(folder: Path) -> Reader:
    path = valid_model(folder) / MANIFEST
    text = path.read_bytes()
    manifest = Document(json.loads(text))

    def read(changes: Changes) -> object:
        values = changes[0][2] % 4
        put(path, json.dumps(manifest.changed(changes)).encode() if values else corrupt(text, changes))
        return TrainedModel.load(folder)

    return read


def _weights(folder: Path) -> Reader:
    """Changed weights, with a manifest that vouches for them."""
    valid_model(folder)
    raw, manifest = (folder / WEIGHTS).read_bytes(), json.loads((folder / MANIFEST).read_bytes())

    def read(changes: Changes) -> object:
        changed = corrupt(raw, changes)
        changed_header = {**manifest, "weights_sha256": sha256_of(changed)}
        put(folder / WEIGHTS, changed)
        put(folder / MANIFEST, json.dumps(changed_header).encode())
        return TrainedModel.load(folder)

    return read

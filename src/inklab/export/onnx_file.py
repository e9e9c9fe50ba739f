"""An ONNX file from anywhere, read and run without torch.

A graph may never end or need any amount of memory (a few hundred bytes can ask for a terabyte). So
`predict_file` reads and runs it in a process of its own, with limits of memory and time. That protects
against accidents; it is not a sandbox, since onnxruntime itself is trusted.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8

from inklab.errors import EXIT_DATA, CorruptFileError, DataError, InklabError, ModelMismatchError
from inklab.export.onnx_metadata import DIGEST_KEY, OUTPUT_NAMES, GraphMetadata
from inklab.export.onnx_runtime import Session, require_packages
from inklab.io.files import read_bytes_capped, sha256_of
from inklab.records.components import Preprocessing
from inklab.records.record import MIB, Record

if TYPE_CHECKING:
    import onnx

MAX_FILE_BYTES = 512 * MIB
"""The largest network of the digits study has 24 MiB."""

MAX_ENTRIES = 100
"""Of metadata."""

MAX_MEMORY_BYTES = 4096 * MIB
"""Of address space; onnxruntime and NumPy alone take about 1 GiB of it."""

CPU_SECONDS = 60
TIMEOUT_SECONDS = 90

ROUNDING = 1e-3
"""By which the sum of probabilities may differ from 1."""

OWN_RISK = "was not written by inklab: it is run at your own risk"


class PicturePrediction(Record):
    """Class probabilities of one picture.

    Attributes:
        image: path of the picture.
        label: the most probable class.
        probabilities: by class.
        input: the image that the network was given: channels, rows, values in [0, 255].
    """

    image: str
    label: str
    probabilities: dict[str, float]
    input: tuple[tuple[tuple[int, ...], ...], ...]

    @classmethod
    def of(
        cls, path: Path, pixels: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]
    ) -> "PicturePrediction":
        """The prediction for a preprocessed picture.

        Args:
            path: of the picture.
            pixels: `(c, h, w)` bytes.
            probabilities: one for each class.
            labels: names of the classes.
        """
        shares = dict(zip(labels, map(float, probabilities), strict=True))
        return cls(
            image=str(path),
            label=max(shares, key=lambda name: shares[name]),
            probabilities=shares,
            input=pixels.tolist(),
        )


class FilePredictions(Record):
    """What an ONNX file predicts.

    Attributes:
        note: what the user must know about the file.
        predictions: one for each picture.
    """

    note: str | None = None
    predictions: tuple[PicturePrediction, ...]


@dataclass(frozen=True)
class OnnxNetwork:
    """A classifier or pipeline in an ONNX file.

    Attributes:
        path: of the file.
        session: the graph.
        metadata: of a file that inklab wrote; None for any other.
    """

    path: Path
    session: Session
    metadata: GraphMetadata | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its images."""
        if self.metadata is not None:
            return self.metadata.shape
        (sizes,) = self.session.inputs.values()
        channels, height, width = sizes[1:]
        return channels, height, width

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes an image; of a file by others it is resized as a whole."""
        return self.metadata.preprocessing if self.metadata else Preprocessing.resize_only(self.shape)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """A name for each class; None in a file by others."""
        return self.metadata.labels if self.metadata else None

    def probabilities(self, pixels: UInt8[np.ndarray, "n c h w"]) -> Float32[np.ndarray, "n k"]:
        """Class probabilities of images: rows that sum to 1. Of a file by others its first output is used.

        Raises:
            ModelMismatchError: it is no classifier.
            CorruptFileError: what it computes are no probabilities.
        """
        if self.metadata and "probabilities" not in self.session.outputs:
            raise ModelMismatchError(
                f"'{self.path}' is a graph of kind {self.metadata.kind}, not a classifier"
            )
        output = "probabilities" if self.metadata else self.session.output_names[0]
        images = pixels.astype(np.float32) / 255
        try:
            rows = np.concatenate([self.session(image[None])[output] for image in images])
        except CorruptFileError as error:
            raise CorruptFileError(f"'{self.path}' can't be run: {error}") from error
        rows = rows if self.metadata else _to_probabilities(rows)
        n_classes = len(self.labels) if self.labels else rows.shape[-1]
        is_valid = rows.shape == (len(pixels), n_classes) and (rows >= 0).all()  # NaN is not
        if not (is_valid and np.allclose(rows.sum(axis=1), 1, atol=ROUNDING)):
            raise CorruptFileError(
                f"'{self.path}' does not compute class probabilities; export it again with inklab export"
            )
        return rows

    def predict(self, pictures: Sequence[Path]) -> FilePredictions:
        """Classify pictures.

        Raises:
            DataError: a picture can't be read.
            InklabError: see `probabilities`.
        """
        from inklab.data.preprocessing import open_image, preprocess_picture

        images = [preprocess_picture(open_image(path), self.preprocessing) for path in pictures]
        rows = self.probabilities(np.stack(images))
        labels = self.labels or tuple(map(str, range(rows.shape[1])))
        return FilePredictions(
            note=None if self.metadata else f"'{self.path}' {OWN_RISK}",
            predictions=tuple(
                PicturePrediction.of(path, image, row, labels)
                for path, image, row in zip(pictures, images, rows, strict=True)
            ),
        )


def _to_probabilities(rows: np.ndarray) -> np.ndarray:
    """Rows that sum to 1 as they are; others are taken for logits."""
    if rows.ndim != 2 or ((rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=ROUNDING)):
        return rows
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    probabilities: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


# ---------------------------------------------------------------- reading


def read_onnx(path: Path) -> OnnxNetwork:
    """Read a file in this process. Use `predict_file` for a file that you don't trust.

    Raises:
        InklabError: onnx or onnxruntime is not installed.
        DataError: there is no such file, or it can't be read.
        CorruptFileError: it is damaged, too large, or needs other files.
        ModelMismatchError: it was not written by inklab and does not take images.
    """
    require_packages("onnx", "onnxruntime")
    try:
        raw = read_bytes_capped(path, MAX_FILE_BYTES)
    except OSError as error:
        raise DataError(f"'{path}' can't be read: {error.strerror or error}") from error
    return parse_onnx(raw, path)


def parse_onnx(raw: bytes, path: Path) -> OnnxNetwork:
    """The network in the bytes of a file; `path` is for messages.

    Raises:
        InklabError: as `read_onnx`.
    """
    model = _parse(raw, path)
    if any(tensor.external_data or tensor.data_location for tensor in _tensors(model)):
        raise CorruptFileError(f"'{path}' has weights in another file, which is not read; put them into it")
    metadata = _read_metadata(model, path)
    try:
        session = Session(raw)
    except CorruptFileError as error:
        raise CorruptFileError(f"'{path}' can't be run: {error}; restore it from a copy") from error
    network = OnnxNetwork(path, session, metadata)
    _check_interface(network)
    return network


def _parse(raw: bytes, path: Path) -> "onnx.ModelProto":
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(raw)  # external weights are not loaded
    except (ValueError, DecodeError) as error:
        raise CorruptFileError(f"'{path}' is not an ONNX file: {error}; restore it from a copy") from error
    if not model.graph.node:
        raise CorruptFileError(f"'{path}' is not an ONNX file: it has no graph; restore it from a copy")
    return model


def _tensors(model: "onnx.ModelProto") -> "Iterator[onnx.TensorProto]":
    """Every tensor of a model, also in graphs within graphs and in functions."""
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        for graph in graphs:
            yield from graph.initializer
            nodes += graph.node
        attributes = [attribute for node in nodes for attribute in node.attribute]
        for attribute in attributes:
            yield from (attribute.t, *attribute.tensors)
        graphs = [
            graph for attribute in attributes for graph in (attribute.g, *attribute.graphs) if graph.node
        ]
        nodes = []


def _read_metadata(model: "onnx.ModelProto", path: Path) -> GraphMetadata | None:
    """What a file says about itself, if inklab wrote it and nothing has changed since."""
    if len(model.metadata_props) > MAX_ENTRIES:
        raise CorruptFileError(
            f"'{path}' has {len(model.metadata_props):,} entries of metadata; at most {MAX_ENTRIES} are read"
        )
    entries = {entry.key: entry.value for entry in model.metadata_props}
    if not all(
        isinstance(text, str) for text in (*entries, *entries.values())
    ):  # protobuf: bytes if no UTF-8
        raise CorruptFileError(f"'{path}' is not an ONNX file: its metadata is not UTF-8")
    if "inklab" not in entries:
        return None
    digest = entries.pop(DIGEST_KEY, None)
    bare = type(model)()
    bare.CopyFrom(model)
    del bare.metadata_props[:]
    for entry in model.metadata_props:
        if entry.key != DIGEST_KEY:
            bare.metadata_props.add(key=entry.key, value=entry.value)
    if digest != sha256_of(bare.SerializeToString(deterministic=True)):
        raise CorruptFileError(
            f"'{path}' is damaged or was changed: its SHA-256 is not the one in its metadata; "
            f"{GraphMetadata.repair_advice}"
        )
    return GraphMetadata.from_entries(entries, path)


def _check_interface(network: OnnxNetwork) -> None:
    """Refuse a graph whose inputs or outputs differ from its metadata, or that does not take images."""
    session, metadata, path = network.session, network.metadata, network.path
    shapes = list(session.inputs.values())
    if metadata is None:
        if len(shapes) != 1 or len(shapes[0]) != 4 or not all(isinstance(n, int) for n in shapes[0][1:]):
            raise ModelMismatchError(
                f"'{path}' {OWN_RISK}, but it takes {shapes}; needed is one input "
                "(batch, channels, height, width)"
            )
        return
    input_shape = (metadata.code_size,) if metadata.kind == "decoder" else metadata.shape
    if [shape[1:] for shape in shapes] != [input_shape] or session.output_names != OUTPUT_NAMES[
        metadata.kind
    ]:
        raise CorruptFileError(
            f"'{path}' is damaged: its metadata describes a {metadata.kind} of {metadata.shape}, but it "
            f"takes {session.inputs} and gives {session.outputs}; {GraphMetadata.repair_advice}"
        )


# ---------------------------------------------------------------- in a process of its own


def predict_file(path: Path, pictures: Sequence[Path]) -> FilePredictions:
    """Classify pictures by an ONNX file, in a process with limits of memory and time.

    Args:
        path: of the file.
        pictures: image files.

    Raises:
        InklabError: as `read_onnx` and `OnnxNetwork.predict`.
        CorruptFileError: it takes more memory or time than is allowed.
    """
    require_packages("onnx", "onnxruntime")
    command = [sys.executable, "-m", "inklab.export.onnx_file", str(path), *map(str, pictures)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise CorruptFileError(f"'{path}' took more than {TIMEOUT_SECONDS} s and was stopped") from None
    if done.returncode == 0:
        return FilePredictions.parse_json(done.stdout, f"the output of '{path}'")
    if not done.stdout:
        raise CorruptFileError(
            f"'{path}' was stopped: it needs more than {MAX_MEMORY_BYTES // MIB:,} MiB of memory or "
            f"{CPU_SECONDS} s of computing, or onnxruntime crashed"
        )
    message = done.stdout.decode("utf-8", "replace")
    raise (DataError if done.returncode == EXIT_DATA else InklabError)(message)


def _limit_resources() -> None:
    try:
        import resource
    except ImportError:  # Windows has none; the limit of time remains
        return
    for kind, limit in ((resource.RLIMIT_AS, MAX_MEMORY_BYTES), (resource.RLIMIT_CPU, CPU_SECONDS)):
        try:
            resource.setrlimit(kind, (limit, limit))
        except (OSError, ValueError):  # macOS refuses to limit address space
            continue


def _main(path: str, *pictures: str) -> int:
    """Print predictions as JSON, or an error as text; nothing after a crash."""
    _limit_resources()
    try:
        predictions = read_onnx(Path(path)).predict([Path(picture) for picture in pictures])
    except InklabError as error:
        sys.stdout.write(str(error))
        return error.exit_code
    json.dump(predictions.to_json(), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))

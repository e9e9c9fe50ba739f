"""An ONNX file from anywhere: what it says about itself, and how it is read and run without torch.

A graph may never end or need any amount of memory (a few hundred bytes can ask for a terabyte). So
`predict_file` reads and runs it in a process of its own, with limits of memory and time. That protects
against accidents; it is not a sandbox, since onnxruntime itself is trusted.
"""

import json
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

import numpy as np
from jaxtyping import Float32, UInt8
from pydantic import Field, model_validator

import inklab
from inklab.errors import EXIT_DATA, CorruptFileError, DataError, InklabError, ModelMismatchError
from inklab.format import join_words
from inklab.io.files import parse_json, read_bytes_capped, sha256_of
from inklab.metrics import Task
from inklab.predictions import Inputs, Predictions, find_pictures, to_bytes
from inklab.records.components import NetworkConfig, NormalizeConfig, Preprocessing, PreprocessingWord
from inklab.records.manifest import Provenance
from inklab.records.record import (
    MAX_ENTRIES,
    MIB,
    Count,
    Counts,
    FailFast,
    Names,
    NonNegative,
    Numbers,
    Record,
    Sha256,
    Shape,
)

if TYPE_CHECKING:
    import onnx
    from google.protobuf.message import Message

OPSET, IR = 18, 10
"""What `torch.onnx` writes without translating; onnxruntime reads it since 1.18, also in browsers."""

DIGEST_KEY = "sha256"
"""Entry with the SHA-256 of the whole file as it is without this entry."""

MAX_CODE_SIZE = 2**20
MAX_PARTS = 16

GraphKind = Literal["classifier", "denoiser", "pipeline", "encoder", "decoder"]

CLASSIFIER_OUTPUTS = ("logits", "probabilities")
OUTPUT_NAMES: dict[GraphKind, tuple[str, ...]] = {
    "classifier": CLASSIFIER_OUTPUTS,
    "pipeline": ("denoised", *CLASSIFIER_OUTPUTS),
    "denoiser": ("denoised",),
    "encoder": ("codes",),
    "decoder": ("images",),
}
"""The outputs of each kind of graph, in their order."""

MAX_FILE_BYTES = 512 * MIB
"""The largest network of the digits study has 24 MiB."""

MAX_METADATA = 100
"""Entries of a file."""

MAX_MEMORY_BYTES = 4096 * MIB
"""Of address space; onnxruntime and NumPy alone take about 1 GiB of it."""

MAX_LOT = 200
"""Pictures of one process: reading a large one takes a tenth of a second."""

CPU_SECONDS = 60
TIMEOUT_SECONDS = 90

ROUNDING = 1e-3
"""By which the sum of probabilities may differ from 1."""

OWN_RISK = "was not written by inklab: it is run at your own risk"

FATAL = 4
"""Severity of what onnxruntime still prints."""

Outputs = dict[str, np.ndarray]
Shapes = dict[str, tuple[Any, ...]]
"""Sizes by name; a free one is a text or None."""


# ---------------------------------------------------------------- what a file says about itself


class GraphPart(Record):
    """A trained network or a filter in a graph.

    Attributes:
        name: its experiment, or the filter's name.
        filter: what the filter does; None for a network, which has what follows.
        source_sha256: SHA-256 of the user's file behind the network.
    """

    name: Annotated[str, Field(max_length=512)]
    filter: str | None = None
    network: NetworkConfig | None = None
    task: Task | None = None
    normalize: NormalizeConfig | None = None
    metrics: Numbers = {}
    provenance: Provenance | None = None
    weights_sha256: Sha256 | None = None
    source_sha256: Sha256 | None = None


class ParityReport(Record):
    """How near a graph comes to the original.

    Attributes:
        images: different inputs that were compared, each in batches of every size.
        real_images: how many of them were real images, or their codes.
        max_difference: largest absolute difference by output.
        max_relative: the same in the unit of `tolerance`.
    """

    images: Count
    real_images: Count
    kinds: Names
    batch_sizes: Counts
    max_difference: Numbers
    max_relative: Numbers
    tolerance: NonNegative


class GraphMetadata(Record):
    """What an exported file says about itself.

    Attributes:
        shape: channels, height, width of its images.
        preprocessing: how any picture becomes such an image.
        parts: in the order in which an image passes them.
        data_sha256: SHA-256 of the dataset that its last part was trained on.
        inklab: version that exported it.
        code_size: of a decoder, units of a code.
        parity: the comparison with the original; None before it.
    """

    repair_advice: ClassVar[str] = "export it again with inklab export"

    format: Literal[2] = 2
    kind: GraphKind
    labels: Annotated[tuple[str, ...], FailFast, Field(min_length=1, max_length=MAX_ENTRIES)]
    shape: Shape
    preprocessing: Preprocessing
    parts: Annotated[tuple[GraphPart, ...], FailFast, Field(min_length=1, max_length=MAX_PARTS)]
    data_sha256: Sha256 | None
    inklab: str = inklab.__version__
    code_size: Annotated[int, Field(ge=1, le=MAX_CODE_SIZE)] | None = None
    parity: ParityReport | None = None

    @model_validator(mode="after")
    def _check_consistent(self) -> "GraphMetadata":
        if (self.code_size is not None) != (self.kind == "decoder"):
            raise ValueError("code_size is given exactly for a decoder")
        if self.preprocessing.shape != self.shape:
            raise ValueError(f"images are {self.shape}, but preprocessing makes {self.preprocessing.shape}")
        return self

    @property
    def name(self) -> str:
        """The names of its parts, joined by a plus."""
        return "+".join(part.name for part in self.parts)

    def to_entries(self) -> dict[str, str]:
        """A JSON text for each field, in the order of their names."""
        return {
            key: json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True)
            for key, value in sorted(self.to_json().items())
        }

    @classmethod
    def from_entries(cls, entries: Mapping[str, str], path: Path) -> "GraphMetadata":
        """What a file says about itself, from a JSON text for each field; `path` is for messages.

        Raises:
            CorruptFileError: an entry is missing, unknown, no JSON, or outside its range.
        """
        for key, text in entries.items():
            parse_json(text.encode(), f"{path}: {key}")
        members = ", ".join(f"{json.dumps(key)}: {text}" for key, text in entries.items())
        return cls.parse_json(f"{{{members}}}".encode(), f"the metadata of '{path}'")


# ---------------------------------------------------------------- running a graph


def require_packages(*packages: str, extra: str = "onnx") -> None:
    """Check that some packages, which an extra of inklab installs, are there. Nothing is imported.

    Raises:
        InklabError: one is not installed; the message says what to type.

    Example:
        >>> require_packages("json")
        >>> require_packages("json", "tomlkit_")
        Traceback (most recent call last):
        inklab.errors.InklabError: this needs tomlkit_, which is not installed: pip install 'inklab[onnx]'
    """
    missing = [name for name in packages if not _is_installed(name)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise InklabError(
            f"this needs {join_words(missing)}, which {verb} not installed: pip install 'inklab[{extra}]'"
        )


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # an import hook refuses it
        return False


class Session:
    """A graph that is ready to run. Several threads may call it at once.

    Args:
        raw: the bytes of an ONNX model.
        name: what messages call it.
        threads: of each call.

    Raises:
        InklabError: onnxruntime is not installed.
        CorruptFileError: onnxruntime does not accept the model.
    """

    def __init__(self, raw: bytes, *, name: str = "this graph", threads: int = 1) -> None:
        require_packages("onnxruntime")
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # sends on some systems only; nowhere from here
        onnxruntime.set_default_logger_severity(FATAL)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = FATAL
        options.add_session_config_entry("session.load_model_format", "ONNX")  # not its own format
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads sleep
        try:
            self._session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common class
            raise CorruptFileError(
                f"onnxruntime can't run {name}: {_one_line(error)}; restore it from a copy"
            ) from error
        self._name = name
        self.inputs: Shapes = {value.name: tuple(value.shape) for value in self._session.get_inputs()}
        self.outputs: Shapes = {value.name: tuple(value.shape) for value in self._session.get_outputs()}

    @property
    def input_name(self) -> str:
        """Of its first input."""
        return next(iter(self.inputs))

    @property
    def output_names(self) -> tuple[str, ...]:
        """Of all outputs, in their order."""
        return tuple(self.outputs)

    def __call__(self, inputs: np.ndarray) -> Outputs:
        """Run the graph.

        Args:
            inputs: `(b, ...)`; converted to float32.

        Returns:
            Arrays `(b, ...)` by the name of each output.

        Raises:
            CorruptFileError: the graph fails on them.
        """
        feed = {self.input_name: np.ascontiguousarray(inputs, np.float32)}
        try:
            return dict(zip(self.output_names, self._session.run(None, feed), strict=True))
        except Exception as error:
            raise CorruptFileError(f"onnxruntime fails in {self._name}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


# ---------------------------------------------------------------- a file and its predictions


class FilePredictions(Record):
    """What an ONNX file predicts for pictures, as one process hands it to another.

    Attributes:
        note: what the user must know about the file.
        labels: a name for each class.
        preprocessing: how pictures were made images.
        sources: path of every picture.
        errors: why a picture can't be read, or None.
        pixels: base64 of the bytes of the images that could be read, one after the other.
        answers: their class probabilities.
    """

    note: str | None
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    sources: tuple[str, ...]
    errors: tuple[str | None, ...]
    pixels: tuple[str, ...]
    answers: tuple[tuple[float, ...], ...]

    @classmethod
    def join(cls, parts: "Sequence[FilePredictions]") -> "FilePredictions":
        """Of several lots of pictures."""
        answered = next((part for part in parts if part.answers), parts[0])
        joined = {
            name: tuple(chain.from_iterable(getattr(part, name) for part in parts))
            for name in ("sources", "errors", "pixels", "answers")
        }
        return answered.model_copy(update=joined)

    @property
    def predictions(self) -> Predictions:
        """The same as a model in Python answers; OOD scores are of the largest probability."""
        raw = b"".join(map(b64decode, self.pixels))
        pixels = np.frombuffer(raw, np.uint8).reshape(-1, *self.preprocessing.shape)
        inputs = Inputs(pixels, self.sources, self.errors, self.preprocessing)
        answers = np.array(self.answers, np.float32).reshape(-1, len(self.labels))
        return Predictions(inputs, answers, self.labels)


@dataclass(frozen=True)
class OnnxNetwork:
    """A classifier or pipeline in an ONNX file; `metadata` is None for one that inklab did not write."""

    path: Path
    session: Session
    metadata: GraphMetadata | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its images."""
        if self.metadata is not None:
            return self.metadata.shape
        ((_, channels, height, width),) = self.session.inputs.values()
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
        if not len(pixels):
            return np.zeros((0, len(self.labels or ("0",))), np.float32)
        images = pixels.astype(np.float32) / 255
        rows = np.concatenate([self.session(image[None])[output] for image in images])
        rows = rows if self.metadata else _to_probabilities(rows)
        n_classes = len(self.labels) if self.labels else rows.shape[-1]
        if rows.shape != (len(pixels), n_classes) or not _are_probabilities(rows):
            raise CorruptFileError(
                f"'{self.path}' does not compute class probabilities; export it again with inklab export"
            )
        return rows

    def predict(
        self, pictures: Sequence[Path], preprocessing: PreprocessingWord | None = None
    ) -> FilePredictions:
        """Classify pictures, preprocessed as the file says, or in another way.

        Raises:
            InklabError: see `probabilities`.
        """
        chosen = Preprocessing.of(preprocessing, self.shape) if preprocessing else self.preprocessing
        inputs = Inputs.of(list(pictures), chosen)
        pixels = to_bytes(inputs.images)
        rows = self.probabilities(pixels)
        return FilePredictions(
            note=None if self.metadata else f"'{self.path}' {OWN_RISK}",
            labels=self.labels or tuple(map(str, range(rows.shape[1]))),
            preprocessing=chosen,
            sources=tuple(map(str, pictures)),
            errors=inputs.errors,
            pixels=tuple(b64encode(image.tobytes()).decode() for image in pixels),
            answers=tuple(map(tuple, rows.tolist())),
        )


def _are_probabilities(rows: np.ndarray) -> bool:
    return bool((rows >= 0).all()) and np.allclose(rows.sum(axis=1), 1, atol=ROUNDING)  # NaN is not


def _to_probabilities(rows: np.ndarray) -> np.ndarray:
    """Rows that sum to 1 as they are; others are taken for logits."""
    if rows.ndim != 2 or _are_probabilities(rows):
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
    network = OnnxNetwork(path, Session(raw, name=f"'{path}'"), metadata)
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


def _tensors(message: "Message") -> "Iterator[onnx.TensorProto]":
    """Every tensor in a model, also in graphs within graphs and in functions."""
    from google.protobuf.message import Message

    if message.DESCRIPTOR.name == "TensorProto":
        yield cast("onnx.TensorProto", message)
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _tensors(part)


def _read_metadata(model: "onnx.ModelProto", path: Path) -> GraphMetadata | None:
    """What a file says about itself, if inklab wrote it and nothing has changed since."""
    if len(model.metadata_props) > MAX_METADATA:
        raise CorruptFileError(
            f"'{path}' has {len(model.metadata_props):,} entries of metadata; at most {MAX_METADATA} are read"
        )
    entries = {entry.key: entry.value for entry in model.metadata_props}
    texts = (*entries, *entries.values())
    if not all(isinstance(text, str) for text in texts):  # protobuf gives bytes if it is not UTF-8
        raise CorruptFileError(f"'{path}' is not an ONNX file: its metadata is not UTF-8")
    if "inklab" not in entries:
        return None
    digest = entries.pop(DIGEST_KEY, None)
    without_digest = [entry for entry in model.metadata_props if entry.key != DIGEST_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(without_digest)
    if digest != sha256_of(model.SerializeToString(deterministic=True)):
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
    outputs = OUTPUT_NAMES[metadata.kind]
    if [shape[1:] for shape in shapes] != [input_shape] or session.output_names != outputs:
        raise CorruptFileError(
            f"'{path}' is damaged: its metadata describes a {metadata.kind} of {metadata.shape}, but it "
            f"takes {session.inputs} and gives {session.outputs}; {GraphMetadata.repair_advice}"
        )


# ---------------------------------------------------------------- in a process of its own


def predict_file(
    path: Path, pictures: Sequence[Path], preprocessing: PreprocessingWord | None = None
) -> FilePredictions:
    """Classify pictures, also all in folders, by an ONNX file, in processes with limits of memory and time.

    Raises:
        InklabError: as `read_onnx` and `OnnxNetwork.predict`.
        DataError: there are no pictures.
        CorruptFileError: it takes more memory or time than is allowed.
    """
    require_packages("onnx", "onnxruntime")
    files = find_pictures(list(pictures))
    lots = [files[start : start + MAX_LOT] for start in range(0, len(files), MAX_LOT)]
    return FilePredictions.join([_predict_lot(path, lot, preprocessing) for lot in lots])


def _predict_lot(
    path: Path, pictures: Sequence[Path], preprocessing: PreprocessingWord | None
) -> FilePredictions:
    command = [sys.executable, "-m", "inklab.export.onnx_file", str(path), preprocessing or ""]
    command += map(str, pictures)
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


def _main(path: str, preprocessing: PreprocessingWord | Literal[""], *pictures: str) -> int:
    """Print predictions as JSON, or an error as text; nothing after a crash."""
    _limit_resources()
    try:
        predictions = read_onnx(Path(path)).predict(list(map(Path, pictures)), preprocessing or None)
    except InklabError as error:
        sys.stdout.write(str(error))
        return error.exit_code
    json.dump(predictions.to_json(), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], cast(PreprocessingWord, sys.argv[2]), *sys.argv[3:]))

"""An exported file from anywhere, read and asked without torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8

from inklab.errors import CorruptFileError, DataError, ModelMismatchError
from inklab.export.onnx_cost import FLOAT, UnsupportedGraphError
from inklab.export.onnx_metadata import parse_metadata
from inklab.export.onnx_policy import check_sandboxable
from inklab.export.onnx_runtime import Session, need
from inklab.export.protobuf_wire import bytes_besides_weights
from inklab.io.atomic import read_bytes_capped

if TYPE_CHECKING:
    import onnx

MAX_FILE = 512 * 1024**2  # bytes; the study's largest network has 6 million
MAX_BESIDES = 1024**2  # bytes besides weights: graph and metadata; the study's have 20,000
MAX_ENTRIES = 100  # of metadata
ROUNDING = 1e-3  # by which probabilities may miss a sum of 1

SAYS = ("logits", "probabilities")
GIVES = {
    "classifier": SAYS, "pipeline": ("cleaned", *SAYS), "denoiser": ("cleaned",), "encoder": ("codes",),
    "decoder": ("images",),
}  # fmt: skip
"""The outputs of each kind, in their order."""


@dataclass(frozen=True)
class OnnxNetwork:
    """A file's network. It is asked one image at a time: for that its costs are known and capped.

    Attributes:
        path: where it was read.
        about: what it says of itself, as in `metadata.py`.
        session: the graph for one image.
    """

    path: Path
    about: Mapping[str, Any]
    session: Session

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each class."""
        return tuple(self.about["labels"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its images."""
        channels, height, width = self.about["shape"]
        return channels, height, width

    def probabilities(self, pixels: UInt8[np.ndarray, "n c h w"]) -> Float32[np.ndarray, "n k"]:
        """What a classifier or a pipeline makes of images, as bytes: rows that sum to 1.

        Raises:
            ModelMismatchError: it is neither.
            CorruptFileError: what comes out are no probabilities.
        """
        if "probabilities" not in self.session.gives:
            raise ModelMismatchError(f"'{self.path}' holds {_kind(self.about['kind'])}; it gives no classes")
        images = pixels.astype(np.float32) / 255
        rows = [self.session(image[None])["probabilities"] for image in images]
        said = np.concatenate(rows) if rows else np.zeros((0, len(self.labels)), np.float32)
        sound = said.shape == (len(pixels), len(self.labels)) and (said >= 0).all()  # NaN is not
        if not (sound and np.allclose(said.sum(axis=1), 1, atol=ROUNDING)):
            raise CorruptFileError(
                f"'{self.path}' is damaged: its probabilities are none; restore it from a copy"
            )
        return said


def read_onnx(path: Path) -> OnnxNetwork:
    """Read a file that `inklab export` wrote. It is not believed: what could cost much is refused first.

    Args:
        path: the file.

    Raises:
        InklabError: onnx or onnxruntime is not installed.
        DataError: there is no such file, or it can't be read.
        CorruptFileError: it is damaged, hostile, too large, or ONNX of somebody else.
    """
    need("onnx", "onnxruntime")
    try:
        raw = read_bytes_capped(path, MAX_FILE)
    except OSError as error:
        raise DataError(f"'{path}' can't be read: {error.strerror or error}") from error
    return parse_onnx(raw, path)


def parse_onnx(raw: bytes, path: Path) -> OnnxNetwork:
    """The network in the bytes of a file; `path` is for messages.

    Raises:
        CorruptFileError: as `read_onnx`.
    """
    about, one = parts_of(raw, path)
    try:
        session = Session(one.SerializeToString())
    except CorruptFileError as error:
        raise CorruptFileError(f"'{path}' is damaged: {error}; restore it from a copy") from error
    return OnnxNetwork(path, about, session)


def parts_of(raw: bytes, path: Path) -> tuple[Mapping[str, Any], "onnx.ModelProto"]:
    """What a file says of itself, and its graph for one image. Nothing is run.

    Raises:
        CorruptFileError: as `read_onnx`.
    """
    model = _parsed(raw, path)
    if len(model.metadata_props) > MAX_ENTRIES:
        raise CorruptFileError(f"'{path}' has {len(model.metadata_props):,} entries of metadata")
    about = parse_metadata({each.key: each.value for each in model.metadata_props}, path)
    try:
        _refuse_other_sides(model, about)
        return about, check_sandboxable(model)
    except UnsupportedGraphError as error:
        raise CorruptFileError(f"'{path}' {error}; make one with inklab export") from error


def _parsed(raw: bytes, path: Path) -> "onnx.ModelProto":
    import onnx
    from google.protobuf.message import DecodeError

    try:
        bytes_besides_weights(raw, MAX_BESIDES)
        model = onnx.load_model_from_string(raw)  # weights in other files are not looked for
    except (ValueError, DecodeError) as error:
        raise CorruptFileError(
            f"'{path}' is not a sound ONNX file: {error}; restore it from a copy"
        ) from error
    if not all(isinstance(text, str) for text in _texts(model)):  # protobuf hands out such texts as bytes
        raise CorruptFileError(
            f"'{path}' is not a sound ONNX file: a name is not UTF-8; restore it from a copy"
        )
    if not model.graph.node:
        raise CorruptFileError(f"'{path}' is not a sound ONNX file: it is empty; restore it from a copy")
    return model


def _texts(model: "onnx.ModelProto") -> Iterator[str | bytes]:
    """Every text of a model that is looked at."""
    graph = model.graph
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    for node in graph.node:
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for named in (*graph.initializer, *graph.input, *graph.output):
        yield named.name
    for opset in model.opset_import:
        yield opset.domain


def _refuse_other_sides(model: "onnx.ModelProto", about: Mapping[str, Any]) -> None:
    """Refuse a graph with other inputs or outputs than its metadata promises."""
    kind, image = about["kind"], list(about["shape"])
    given = {"codes": [about["code"]]} if kind == "decoder" else {"images": image}
    classes = [len(about["labels"])]
    sizes = {"logits": classes, "probabilities": classes, "cleaned": image, "images": image}
    inputs = {each.name for each in model.graph.initializer}
    found = {each.name: _sides(each) for each in model.graph.input if each.name not in inputs}
    if found != given:
        raise UnsupportedGraphError(f"takes {_told(found)}, not {_told(given)}")
    made = {each.name: _sides(each) for each in model.graph.output}
    if tuple(made) != GIVES[kind] or any(sizes.get(name, sides) != sides for name, sides in made.items()):
        raise UnsupportedGraphError(f"is said to be {_kind(kind)}, but gives {_told(made)}")


def _sides(value: "onnx.ValueInfoProto") -> list[int]:
    """The sides of one input or output, without that of the images; an impossible one if it has none."""
    kind = value.type.tensor_type
    return [side.dim_value for side in kind.shape.dim][1:] if kind.elem_type == FLOAT else [-1]


def _told(sides: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"{name[:20]!r} {tuple(each)}" for name, each in list(sides.items())[:4]) or "nothing"


def _kind(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeio" else f"a {kind}"

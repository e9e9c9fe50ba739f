"""What an exported file says of itself: JSON texts under fixed keys of ONNX's `metadata_props`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

import inklab
from inklab.data.preprocessing import Preprocessing
from inklab.errors import ConfigError, CorruptFileError
from inklab.io.documents import parse_json
from inklab.study.forms.form import Count, FailFast, Json, Numbers, Record, Table, fitting

FORMAT = 1
OPSET, IR = 18, 10
"""What `torch.onnx` writes without translating; read by onnxruntime since 1.18 and its kin in browsers."""

KEYS = ("format", "kind", "labels", "shape", "framing", "parts", "data_sha256", "inklab", "parity")
MAX_LABELS, MAX_PARTS = 10_000, 16
ADVICE = "export it again with inklab export"


def export_metadata(kind: str, about: Mapping[str, Any], parity: Mapping[str, Any]) -> dict[str, str]:
    """The entries of a file, in the order of their keys.

    Args:
        kind: of what is exported.
        about: as in `Exportable`.
        parity: what the comparison with the original found.
    """
    told = {"format": FORMAT, "kind": kind, "inklab": inklab.__version__, **about, "parity": parity}
    return {
        key: json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True)
        for key, value in sorted(told.items())
    }


def parse_metadata(entries: Mapping[str, str], path: Path) -> Json:
    """What a file says of itself, if it is one of ours.

    Args:
        entries: key to JSON text.
        path: where it was read, for messages.

    Raises:
        CorruptFileError: an entry is missing or can't be what stands there.
    """
    missing = [key for key in KEYS if key not in entries]
    if missing:
        raise CorruptFileError(
            f"'{path}' is ONNX, but not of inklab: its metadata lacks {', '.join(missing)}; make one with "
            "inklab export"
        )
    told = {key: parse_json(text.encode(), f"{path}: {key}") for key, text in entries.items()}
    fitting(_Metadata, told, path, "has metadata that is none of inklab's", ADVICE)
    if told["kind"] != "decoder":
        try:
            framing = Preprocessing.from_json(told["framing"])
        except ConfigError as error:
            raise CorruptFileError(f"'{path}' is damaged: {error}; {ADVICE}") from error
        if list(framing.shape) != told["shape"]:
            raise CorruptFileError(
                f"'{path}' is damaged: its framing makes images of another shape; {ADVICE}"
            )
    return told


class _PartMetadata(Record):
    name: Annotated[str, Field(max_length=512)]
    scores: Numbers = {}


class _Parity(Record):
    images: Count = 0
    largest: Numbers = {}


class _Metadata(Record):
    format: Literal[1]
    kind: Literal["classifier", "denoiser", "pipeline", "encoder", "decoder"]
    labels: Annotated[list[str], FailFast, Field(min_length=1, max_length=MAX_LABELS)]
    shape: Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=3, max_length=3)]
    framing: Table
    parts: Annotated[list[_PartMetadata], FailFast, Field(min_length=1, max_length=MAX_PARTS)]
    data_sha256: str | None
    inklab: str
    parity: _Parity
    code: Annotated[int, Field(ge=1, le=2**20)] | None = None

    @model_validator(mode="after")
    def _agrees(self) -> "_Metadata":
        if (self.code is not None) != (self.kind == "decoder"):
            raise ValueError("a decoder says how long its codes are, and nothing else does")
        return self

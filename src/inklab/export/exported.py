"""A network as the bytes of a file that was compared with the original: the whole way, in memory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from inklab.errors import CorruptFile
from inklab.export.compare import Parity, compare
from inklab.export.convert import to_onnx, with_metadata
from inklab.export.extra import need
from inklab.export.metadata import metadata
from inklab.export.networks import Exportable
from inklab.export.reading import parts_of
from inklab.export.session import Session


@dataclass(frozen=True)
class Exported:
    """A file that computes the same as what it was made from.

    Attributes:
        wanted: what it was made from.
        raw: the file's bytes; `Session(raw)` runs them.
        parity: how near it came to the original.
        remark: why `inklab predict` would not read it back, if it wouldn't.
    """

    wanted: Exportable
    raw: bytes
    parity: Parity
    remark: str | None


def export(wanted: Exportable, real: UInt8[np.ndarray, "n c h w"] | None = None) -> Exported:
    """Convert a network, compare it with the original, and put into the file what it says of itself.

    Args:
        wanted: what to export.
        real: images to compare on beside the extreme ones, if there are any at hand.

    Raises:
        InklabError: onnx, onnxscript or onnxruntime is not installed.
        ModelMismatch: it can't be converted, or doesn't compute the same.
    """
    need("onnx", "onnxscript", "onnxruntime")
    bare = to_onnx(wanted)
    parity = compare(wanted, Session(bare), real)
    raw = with_metadata(bare, metadata(wanted.kind, wanted.about, parity.to_json()))
    return Exported(wanted, raw, parity, _remark(raw))


def _remark(raw: bytes) -> str | None:
    """Networks of one's own may have steps that are not run when they come from outside."""
    try:
        parts_of(raw, Path("it"))
    except CorruptFile as error:
        return str(error).partition("; ")[0]
    return None

"""What an exported file says about itself: one JSON text for each field in ONNX's `metadata_props`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

import inklab
from inklab.errors import CorruptFileError
from inklab.io.files import parse_json
from inklab.metrics import Task
from inklab.records.components import NetworkConfig, NormalizeConfig, Preprocessing
from inklab.records.manifest import Provenance
from inklab.records.record import (
    MAX_ENTRIES,
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


class GraphPart(Record):
    """A trained network or a filter in a graph.

    Attributes:
        name: its experiment, or the filter's name.
        filter: what the filter does; None for a network, which has all the following.
        network: that it is built from.
        task: of the network.
        normalize: in front of the network.
        metrics: of this network, by name.
        provenance: where it comes from.
        weights_sha256: of its weights as safetensors: that of `weights.safetensors`.
        source_sha256: of the user's file behind the network.
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
        kinds: of inputs.
        batch_sizes: that were compared.
        max_difference: largest absolute difference by output.
        max_relative: the same in the unit of `tolerance`.
        tolerance: that was allowed.
    """

    images: Count
    real_images: Count
    kinds: Names
    batch_sizes: Counts
    max_difference: Numbers
    max_relative: Numbers
    tolerance: NonNegative

    def rounded(self) -> "ParityReport":
        """Differences with two digits: their other ones depend on the machine and mean nothing."""
        return self.model_copy(
            update={
                "max_difference": _two_digits(self.max_difference),
                "max_relative": _two_digits(self.max_relative),
            }
        )


def _two_digits(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.1e}") for name, value in values.items()}


class GraphMetadata(Record):
    """What an exported file says about itself.

    Attributes:
        format: 2.
        kind: of graph.
        labels: a name for each class.
        shape: channels, height, width of its images.
        preprocessing: how any picture becomes such an image.
        parts: in the order in which an image passes them.
        data_sha256: of the data set that its last part was trained on.
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
        """What a file says about itself.

        Args:
            entries: field to JSON text.
            path: of the file, for messages.

        Raises:
            CorruptFileError: an entry is missing, unknown, no JSON, or outside its range.
        """
        name = f"the metadata of '{path}'"
        fields = {key: parse_json(text.encode(), f"{path}: {key}") for key, text in entries.items()}
        try:
            raw = json.dumps(fields).encode()
        except ValueError as error:
            raise CorruptFileError(f"{name} is damaged: {error}; {cls.repair_advice}") from None
        return cls.parse_json(raw, name)

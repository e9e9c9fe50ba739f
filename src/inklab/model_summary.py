"""What a trained model is at a glance: layers, parameters, normalization, origin and metrics."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from inklab.format import format_count, format_metric
from inklab.metrics import CLASS_RECALL, get_metric
from inklab.notebook import Columns, Tabular, card, folded, html_table, paragraph
from inklab.records.manifest import ModelManifest
from inklab.records.outcomes import LayerRow
from inklab.records.plan import Plan
from inklab.usercode import short_name

HEADER = ("layer", "type", "output", "parameters", "multiply-adds")
NUMERIC = (3, 4)  # columns that are aligned to the right


@dataclass(frozen=True)
class ModelSummary(Tabular):
    """A trained model at a glance. `print` shows it as text, a notebook as a table; `data` has the layers.

    Attributes:
        manifest: of the model.
        layers: in the order in which an image passes them; one that is used twice is there twice.
        parameters: how many numbers the network has.
        plan: of the run that trained it, if that is at hand.
    """

    manifest: ModelManifest
    layers: tuple[LayerRow, ...]
    parameters: int
    plan: Plan | None = None

    @property
    def title(self) -> str:
        """Its network and task."""
        manifest = self.manifest
        size = " x ".join(map(str, manifest.shape))
        classes = f" into {len(manifest.labels)} classes" if manifest.task == "classification" else ""
        return f"{short_name(manifest.network.name)}: {manifest.task} of {size} images{classes}"

    @cached_property
    def facts(self) -> dict[str, str]:
        """Total of parameters, normalization, training origin, and metrics."""
        normalize = self.manifest.normalize
        multiply_adds = sum(row.macs or 0 for row in self.layers)
        facts = {
            "parameters": f"{self.parameters:,} in total",
            "multiply-adds": f"{format_count(multiply_adds)} for an image",
            "normalization": f"(x - {normalize.mean:g}) / {normalize.std:g} of pixels in [0, 1]",
            "origin": ", ".join(self._origin()) or "unknown: no run trained it",
            "weights": f"SHA-256 {self.manifest.weights_sha256[:16]}",
        }
        if metrics := ", ".join(self._metrics()):
            facts["metrics"] = metrics
        return facts

    def _origin(self) -> Iterator[str]:
        origin = self.manifest.provenance
        if self.plan is not None:
            yield f"study {self.plan.study}"
            yield f"data {self.plan.data.dataset}"
        elif origin.data_sha256 is not None:
            yield f"data with SHA-256 {origin.data_sha256[:16]}"
        if origin.trial is not None:
            yield f"trial {origin.trial}"
        if origin.replicate is not None:
            yield f"replicate {origin.replicate}"
        if origin.seed is not None:
            yield f"seed {origin.seed}"

    def _metrics(self) -> Iterator[str]:
        for name, value in self.manifest.metrics.items():
            if name.startswith("test_") and not name.startswith(f"test_{CLASS_RECALL}"):
                yield f"{get_metric(name).label} {format_metric(value, name)}"

    @property
    def _columns(self) -> Columns:
        return {name: [getattr(row, name) for row in self.layers] for name in LayerRow.model_fields}

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                row.name,
                row.type + (f", {row.activation}" if row.activation else ""),
                " x ".join(map(str, row.output_shape)),
                f"{row.parameters:,}",
                f"{row.macs:,}" if row.macs is not None else "unknown",
            )
            for row in self.layers
        ]

    def __repr__(self) -> str:
        rows = [HEADER, *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if index in NUMERIC else cell.ljust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([self.title, *lines, *(f"{name}: {text}" for name, text in self.facts.items())])

    def _repr_html_(self) -> str:
        facts = (paragraph(f"{name}: {text}") for name, text in self.facts.items())
        table = html_table(HEADER, self._rows(), right=NUMERIC)
        return card(self.title, *facts, folded(f"{len(self.layers)} layers", table))

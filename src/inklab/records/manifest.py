"""`model.json` beside `weights.safetensors`: what a trained model is."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from inklab.errors import DataError
from inklab.metrics import Task
from inklab.records.components import NetworkConfig, NormalizeConfig, Preprocessing
from inklab.records.outcomes import Environment
from inklab.records.record import (
    MAX_ENTRIES,
    MIB,
    Count,
    FailFast,
    Id,
    Numbers,
    Record,
    RootSeed,
    Sha256,
    Shape,
)

MANIFEST, WEIGHTS = "model.json", "weights.safetensors"


class Provenance(Record):
    """Where a trained model comes from; all None for one that no run has trained.

    Attributes:
        trial: id of the trial that trained it.
        replicate: which repetition.
        seed: root of all randomness.
        data_sha256: of the content of the dataset that it was trained on.
        environment: what its training ran on.
    """

    trial: Id | None = None
    replicate: Count | None = None
    seed: RootSeed | None = None
    data_sha256: Sha256 | None = None
    environment: Environment | None = None


class ModelManifest(Record):
    """Everything that using a trained network needs, besides its weights (`model.json`).

    Attributes:
        network: that it is built from.
        shape: channels, height, width of its images.
        labels: a name for each class.
        task: "classification": it maps images to logits of classes; "denoising": of pixels.
        normalize: the module in front of the network.
        preprocessing: how any picture becomes an image of its training data.
        provenance: where it comes from.
        metrics: metric values by name; accuracies are shares in [0, 1].
        source_sha256: of the user's file behind the network; None for a network of inklab's.
        weights_sha256: of `weights.safetensors`.

    Example:
        >>> manifest = ModelManifest(
        ...     network=NetworkConfig(name="mlp"), shape=(1, 28, 28), labels=("0", "1"),
        ...     task="classification",
        ...     normalize=NormalizeConfig(), preprocessing=Preprocessing(), weights_sha256="0" * 64,
        ... )
        >>> manifest.output_shape
        (2,)
    """

    max_bytes: ClassVar[int] = 4 * MIB
    repair_advice: ClassVar[str] = "restore it from a copy, or train again"

    format: Literal[2] = 2
    network: NetworkConfig
    shape: Shape
    labels: Annotated[tuple[str, ...], FailFast, Field(min_length=1, max_length=MAX_ENTRIES)]
    task: Task
    normalize: NormalizeConfig
    preprocessing: Preprocessing
    provenance: Provenance = Provenance()
    metrics: Numbers = {}
    source_sha256: Sha256 | None = None
    weights_sha256: Sha256

    @model_validator(mode="after")
    def _check_shape(self) -> "ModelManifest":
        if self.preprocessing.shape != self.shape:
            raise ValueError(f"images are {self.shape}, but preprocessing makes {self.preprocessing.shape}")
        return self

    @classmethod
    def read_from(cls, folder: Path) -> "ModelManifest":
        """Read the manifest in a directory, without the weights.

        Raises:
            DataError: there is none.
            CorruptFileError: it is damaged.
        """
        if not (folder / MANIFEST).is_file():
            raise DataError(
                f"there is no trained model in '{folder}' ({MANIFEST} is missing); name a directory such as "
                "runs/.../trials/<id>/model"
            )
        return cls.read(folder / MANIFEST)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """What the network makes of one image: a logit for each class, or for each pixel."""
        return output_shape(self.task, len(self.labels), self.shape)


def output_shape(task: Task, n_classes: int, shape: Shape) -> tuple[int, ...]:
    """The shape that a task needs of a network's output for an image: a logit for each class, or each pixel.

    Example:
        >>> output_shape("classification", 10, (1, 28, 28)), output_shape("denoising", 10, (1, 28, 28))
        ((10,), (1, 28, 28))
    """
    return (n_classes,) if task == "classification" else shape


def find_model_dir(path: Path) -> Path | None:
    """The directory of the trained model at a path, which may be a trial's; None if there is none."""
    return next((folder for folder in (path, path / "model") if (folder / MANIFEST).is_file()), None)

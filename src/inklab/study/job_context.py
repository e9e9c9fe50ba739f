"""What every job of a run needs, and where the driver leaves the images for the workers. Imports no torch."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inklab.data.dataset import Split
from inklab.io.atomic import write_atomic
from inklab.study.run_directory import RunDirectory

SPLITS = ("train", "validation", "test")
ARRAYS = ("pixels", "labels")


@dataclass(frozen=True)
class JobContext:
    """What every job of a run needs.

    Attributes:
        run: path of the run folder.
        seed: the study's root seed.
        labels: class names.
        framing: JSON of how pictures are brought into the data's form.
        data_sha256: identity of the data.
        numerics: version of whatever may move a number.
        threads: for each worker.
        codes: code of the user's own that their study names, and that may therefore be run.
        checkpoint_every: seconds; None leaves it to the cost of a checkpoint.
    """

    run: str
    seed: int
    labels: tuple[str, ...]
    framing: str
    data_sha256: str
    numerics: int
    threads: int
    codes: tuple[str, ...] = ()
    checkpoint_every: float | None = None

    @property
    def folder(self) -> RunDirectory:
        """The run folder."""
        return RunDirectory(Path(self.run))


def array_path(folder: RunDirectory, part: str, what: str) -> Path:
    """Where "pixels" and "labels" of a part of the split lie while a run is driven."""
    return folder.work / "data" / f"{part}_{what}.npy"


def write_split_arrays(folder: RunDirectory, split: Split) -> None:
    """Leave the images for the workers: read once by the driver, checked once, the same for all."""
    for part in SPLITS:
        images = getattr(split, part)
        for what in ARRAYS:
            raw = io.BytesIO()
            np.save(raw, getattr(images, what), allow_pickle=False)
            write_atomic(array_path(folder, part, what), raw.getvalue())

"""What every job of a run needs, and where the driver leaves the images for the workers. Imports no torch."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inklab.data.dataset import Split
from inklab.io.atomic import write_whole
from inklab.study.run_directory import RunFolder

PARTS = ("train", "validation", "test")
WHATS = ("pixels", "labels")


@dataclass(frozen=True)
class Bench:
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
    def folder(self) -> RunFolder:
        """The run folder."""
        return RunFolder(Path(self.run))


def data_file(folder: RunFolder, part: str, what: str) -> Path:
    """Where "pixels" and "labels" of a part of the split lie while a run is driven."""
    return folder.work / "data" / f"{part}_{what}.npy"


def lay_out(folder: RunFolder, split: Split) -> None:
    """Leave the images for the workers: read once by the driver, checked once, the same for all."""
    for part in PARTS:
        images = getattr(split, part)
        for what in WHATS:
            raw = io.BytesIO()
            np.save(raw, getattr(images, what), allow_pickle=False)
            write_whole(data_file(folder, part, what), raw.getvalue())

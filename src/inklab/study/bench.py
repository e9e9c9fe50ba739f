"""What every job of a run needs, and where the driver leaves the images for the workers. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inklab.data.split import Split
from inklab.study.store import RunFolder

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
    """

    run: str
    seed: int
    labels: tuple[str, ...]
    framing: str
    data_sha256: str
    numerics: int
    threads: int
    codes: tuple[str, ...] = ()

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
            path = data_file(folder, part, what)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, getattr(images, what), allow_pickle=False)

"""What every benchmark needs to know: where files lie, and the options of the command line."""

from dataclasses import dataclass
from pathlib import Path

from inklab.errors import InklabError

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "benchmarks"
WORK = HOME / ".work"
RESULTS = HOME / "results"


class BenchmarkError(InklabError):
    """A measurement could not be made."""


@dataclass(frozen=True)
class Options:
    """Options of `python -m benchmarks`.

    Attributes:
        command: the command line, as stored with the results.
        output: folder of the results.
        rounds: interleaved pairs of each comparison.
        replicates: of bf16, time-to-accuracy and diagnosis.
        epochs: of bf16.
        images: fewer images, for a trial run; None for all.
        members: fewer members, for a trial run; None for all.
        run: a finished run directory, of serving and best.
        kinds: of trainings, of diagnosis; () for all.
        networks: of diagnosis; () for all.
        data: of diagnosis; () for all.
        device: of gpu.
        small: few images and replicates, of gpu.
        full: where the full profile of the study is run; None for the quick one.
    """

    command: str
    output: Path = RESULTS
    rounds: int = 5
    replicates: int = 30
    epochs: int = 3
    images: int | None = None
    members: int | None = None
    kinds: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    run: Path | None = None
    full: Path | None = None
    device: str = "auto"
    small: bool = False

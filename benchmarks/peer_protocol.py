"""How the benchmarks talk to a peer: one JSON object per line on stdin, one answer per line on stdout.

    {"command": "prepare", "workload": "cnn", "data": FOLDER, ...}   load, build, warm up
        -> {"versions": {...}, "description": "..."}
    {"command": "measure"}                                           one timed unit
        -> {"seconds": 5.1, "images": 60000, "loss": 0.3}
    {"command": "quit"}

A peer that waits for its next line sleeps, so the others have the machine. An answer `{"error": "..."}` ends
the measurement. Imports the standard library only: peers run in an environment of their own.
"""

import json
import math
import os
import sys
import traceback
from dataclasses import asdict, dataclass
from typing import Protocol


@dataclass(frozen=True)
class PrepareRequest:
    """What a peer is asked to prepare.

    Attributes:
        workload: its name.
        data: folder of the cached arrays.
        images: of a unit.
        members: networks per worker; None for those of the workload.
        workers: parallel processes; of inklab only.
        precision: of training; of inklab only.
    """

    workload: str
    data: str
    images: int
    members: int | None = None
    workers: int = 1
    precision: str = "fp32"


@dataclass(frozen=True)
class PeerInfo:
    """What a peer reports once it is prepared.

    Attributes:
        versions: of the libraries that compute.
        description: library, precision and threads in one phrase.
    """

    versions: dict[str, str]
    description: str


@dataclass(frozen=True)
class UnitTiming:
    """One measured unit.

    Attributes:
        seconds: that it took.
        images: trained on, summed over members.
        loss: of training, at the end; finite.
    """

    seconds: float
    images: int
    loss: float


class Peer(Protocol):
    """What a peer has to be able to do."""

    def prepare(self, request: PrepareRequest) -> PeerInfo:
        """Load the data, build, and warm up on other work, compilation included."""
        ...

    def measure(self) -> UnitTiming:
        """Do one unit and time it."""
        ...


def serve(peer: Peer) -> None:
    """Answer requests until one says quit or stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    for line in sys.stdin:
        request = json.loads(line)
        command = request.pop("command")
        if command == "quit":
            return
        answers.write(json.dumps(_answer(peer, command, request)) + "\n")
        answers.flush()


def _answer(peer: Peer, command: str, fields: dict[str, object]) -> dict[str, object]:
    try:
        if command == "prepare":
            return asdict(peer.prepare(PrepareRequest(**fields)))  # type: ignore[arg-type]
        timing = peer.measure()
        if not math.isfinite(timing.loss):
            return {"error": f"its loss became {timing.loss}: it does not do the work"}
        return asdict(timing)
    except Exception as error:
        traceback.print_exc()  # to stderr, which is kept as a log
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}

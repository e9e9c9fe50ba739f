"""Machines of a cluster: what numbers depend on besides the plan of a run, and the ends of logs."""

import os
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from inklab import __version__
from inklab.hardware import cpu_name, cpuinfo_field, preferred_dtype
from inklab.io.files import sha256_of
from inklab.study.planner import NUMERICS

LOG_BYTES, LOG_LINES = 2000, 5  # of the end of a log that a message has room for
RAY_MARKS = (":job_id:", ":task_name:", ":actor_name:")  # lines that Ray itself writes into logs of workers


@dataclass(frozen=True)
class NodeFacts:
    """What the numbers of a run depend on besides its plan; equal on every node that is used.

    Attributes:
        inklab: version of the package.
        numerics: version of the computation.
        torch: version.
        processor: name.
        precision: "bf16" if the processor has instructions for it, else "fp32".
        instructions: hash of the processor's instruction sets.
    """

    inklab: str
    numerics: int
    torch: str
    processor: str
    precision: str
    instructions: str

    @classmethod
    def current(cls) -> "NodeFacts":
        """Those of this machine."""
        instructions = sha256_of(cpuinfo_field("flags").encode())[:12]
        return cls(__version__, NUMERICS, version("torch"), cpu_name(), preferred_dtype(), instructions)

    def differences(self, expected: "NodeFacts") -> str:
        """What differs from what a run expects, in one line; "" if nothing does."""
        names = ("inklab", "numerics", "torch", "processor", "precision", "instructions")
        pairs = ((name, getattr(self, name), getattr(expected, name)) for name in names)
        return ", ".join(_difference(name, own, other) for name, own, other in pairs if own != other)


def _difference(name: str, own: object, expected: object) -> str:
    if name == "precision":
        return "its processor has no bf16" if own == "fp32" else "its processor has bf16"
    return f"{name} {own}, not {expected}"


def log_tail(path: str) -> str:
    """The last lines of a log of this machine, as one line; "" if it is empty or can't be read."""
    with suppress(OSError), Path(path).open("rb") as log:
        log.seek(0, os.SEEK_END)
        log.seek(max(0, log.tell() - LOG_BYTES))
        lines = map(str.strip, log.read().decode("utf-8", errors="replace").splitlines())
        return " | ".join([line for line in lines if line and not line.startswith(RAY_MARKS)][-LOG_LINES:])
    return ""

"""Facts about this machine, found out once and kept in the user's cache. Imports no torch."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from inklab.errors import CorruptFile
from inklab.files import cache_folder, fingerprint, read_json, write_json
from inklab.machine import cores, cpu_name, fast_precision, processor

PATIENCE = 120  # seconds for everything; what is not known by then is taken to be slow
COMPILERS = ("c++", "g++", "clang++")
PROBE = 2  # raised when the probe asks something else


@dataclass(frozen=True)
class MachineFacts:
    """What was measured on this machine.

    Attributes:
        bf16: how many times as fast as in fp32 a matrix product is in bf16.
        compile_seconds: what compiling a small step takes; None if it can't be done.
        side_by_side: how much more as many one-thread processes as there are cores get done than one process
            with as many threads.
        why_not: why nothing can be compiled.
    """

    bf16: float
    compile_seconds: float | None
    side_by_side: float
    why_not: str = ""


def assumed() -> MachineFacts:
    """What is taken to be so before anything was measured: bf16 by the processor's word, no compiler."""
    return MachineFacts(2.0 if fast_precision() == "bf16" else 0.0, None, 1.0, "it was not tried")


def known_facts() -> MachineFacts | None:
    """What was found out before on a machine like this one, with the same torch and compiler."""
    with suppress(OSError, CorruptFile, TypeError, ValueError):
        return MachineFacts(**read_json(facts_file()))
    return None


def machine_facts(note: Callable[[], None] = lambda: None) -> MachineFacts:
    """What is known, or else found out now, in a process of its own: about 40 s, once a machine.

    What is found while others keep over half of the cores busy serves this run and is not kept.

    Args:
        note: called before the machine is looked at.
    """
    known = known_facts()
    if known:
        return known
    note()
    busy = os.getloadavg()[0] > cores() / 2
    found = MachineFacts(**{**asdict(assumed()), "why_not": "the look at it failed", **_probed()})
    if found.compile_seconds is not None:
        found = replace(found, why_not="")
    if not busy:
        with suppress(OSError):  # no place to keep it: the next run looks again
            write_json(facts_file(), asdict(found))
    return found


def facts_file() -> Path:
    """Where they are kept; the name holds everything that they depend on."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    told = [PROBE, cpu_name(), processor("flags"), cores(), version("torch"), sys.version, compiler]
    return cache_folder("machine") / f"{fingerprint(told)}.json"


def _probed() -> dict[str, Any]:
    command = [sys.executable, "-m", "inklab.train.probe"]
    # A session of its own, so that a compiler that hangs ends with it.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    ) as process:
        try:
            said = process.communicate(timeout=PATIENCE)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said = process.communicate()[0]
            said += f'\n{{"why_not": "it took more than {PATIENCE} s"}}'
    found: dict[str, Any] = {}
    for line in said.splitlines():
        with suppress(json.JSONDecodeError, TypeError):  # a library's remark on stdout
            found |= json.loads(line)
    return {key: value for key, value in found.items() if key in MachineFacts.__dataclass_fields__}

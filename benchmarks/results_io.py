"""Results: one raw file a measurement, and one summary of all claims."""

import sys
import time
from pathlib import Path
from typing import Any

from inklab.hardware import cores
from inklab.io.documents import read_json, write_json
from inklab.records.outcomes import Environment

Json = dict[str, Any]
SUMMARY = "summary.json"


def note(line: str) -> None:
    """Progress, for whoever waits."""
    print(line, file=sys.stderr, flush=True)


def day() -> str:
    """Today, in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def machine(command: str) -> Json:
    """What a measurement was made on, when, and by what command."""
    environment = Environment.current(threads=cores()).model_dump(mode="json", exclude_none=True)
    return {"machine": environment, "date": day(), "command": command}


def store(out: Path, raw: Json, claims: Json | None = None) -> None:
    """Write a measurement's raw file and merge its claims into the summary; others' claims stay."""
    write_json(out / f"{raw['name']}.json", {"format": 1, **raw})
    if claims:
        write_json(out / SUMMARY, dict(sorted({**summary(out), **claims}.items())))


def summary(out: Path) -> Json:
    """All claims so far."""
    path = out / SUMMARY
    return read_json(path) if path.is_file() else {}


def raw(out: Path, name: str) -> Json | None:
    """A measurement's raw file, if it was made."""
    path = out / f"{name}.json"
    return read_json(path) if path.is_file() else None

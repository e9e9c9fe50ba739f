"""Reads and writes results: one file per measurement, and one summary of all claims."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from benchmarks.records import Claim, Measurement
from inklab.hardware import cores
from inklab.io.files import write_json
from inklab.records.outcomes import Environment
from inklab.records.record import Record

SUMMARY = "summary.json"

R = TypeVar("R", bound=Record)


def log_progress(line: str) -> None:
    """Print progress to stderr."""
    print(line, file=sys.stderr, flush=True)


def today() -> str:
    """Today, in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def describe_measurement(command: str) -> Measurement:
    """The environment, date and command of a measurement that ends now."""
    return Measurement(environment=Environment.current(threads=cores()), date=today(), command=command)


def write_results(
    folder: Path, name: str, results: Record, claims: Mapping[str, Claim] | None = None
) -> None:
    """Write a measurement's file and merge its claims into the summary; all other claims stay.

    Args:
        folder: of the results.
        name: of the file, without its extension.
        results: of the measurement.
        claims: that follow from it.
    """
    write_json(folder / f"{name}.json", results.model_dump(mode="json", exclude_none=True))
    if claims:
        summary = dict(sorted({**read_summary(folder), **claims}.items()))
        rows = {key: claim.model_dump(mode="json", exclude_none=True) for key, claim in summary.items()}
        write_json(folder / SUMMARY, rows)


def read_summary(folder: Path) -> dict[str, Claim]:
    """All claims so far."""
    path = folder / SUMMARY
    rows = json.loads(path.read_bytes()) if path.is_file() else {}
    return {name: Claim.parse(row, f"'{path}'") for name, row in rows.items()}


def read_results(folder: Path, name: str, record: type[R]) -> R | None:
    """The results of a measurement; None if it has not been made."""
    path = folder / f"{name}.json"
    return record.read(path) if path.is_file() else None

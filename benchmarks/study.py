"""What a user waits for: whole runs of the digits study with their peak memory, and two short commands.

A run's memory is that of the driver and all workers together, looked at twice a second.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.driver import ROOT, BenchmarkError, environment
from benchmarks.storing import Json, machine, note, raw, store
from inklab.io.documents import read_json

BARS = {"quick": 90.0, "full": 120 * 60.0, "version": 0.25, "help": 0.4, "peak_bytes": 3 * 2**30}
"""Seconds; bytes of the full run."""
SHORT = ("version", "help")
LOOKS = 0.5  # seconds between two looks at a run's memory
PROC = Path("/proc")


def study(out: Path, command: str, rounds: int, full: Path | None) -> list[str]:
    """Time whole quick runs and the short commands; or one full run, into a folder that is kept.

    Args:
        out: folder of the results.
        command: what was typed.
        rounds: how often each is done; the full run once.
        full: the full run's folder; what stands in it is not done again, and not timed.

    Raises:
        BenchmarkError: a command failed.
    """
    found: Json = {**(raw(out, "study") or {"runs": {}, "commands": {}}), "name": "study", "bars": BARS}
    if full:
        command = command.replace(str(full), "DIR")
        found["runs"]["full"] = [_run("full", full)]
    else:
        found["runs"]["quick"] = [_quick() for _ in range(rounds)]
        found["commands"] = {
            name: [_seconds(f"--{name}") for _ in range(rounds)] for name in ("version", "help")
        }
    store(out, found | machine(command))
    return _lines(found)


def _quick() -> Json:
    with TemporaryDirectory() as folder:
        return _run("quick", Path(folder) / "run")


def _run(profile: str, folder: Path) -> Json:
    """One whole run: seconds from the first letter to the report, peak bytes, seconds of each experiment."""
    words = [
        sys.executable,
        "-m",
        "inklab",
        "run",
        "--profile",
        profile,
        "--data",
        "mnist",
        "--run-dir",
        str(folder),
    ]
    began = time.perf_counter()
    with subprocess.Popen(
        words, cwd=ROOT, env=environment({}), stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        watch = _Watch(process.pid)
        watch.start()
        code = process.wait()
    seconds = time.perf_counter() - began
    watch.join()
    if code:
        raise BenchmarkError(f"inklab run --profile {profile} ended with exit code {code}")
    results = read_json(folder / "results.json")
    note(f"{profile}: {seconds:.0f} s, peak {watch.peak / 2**20:.0f} MiB")
    return {"seconds": seconds, "peak_bytes": watch.peak, "experiments": results["timings"]["experiments"]}


class _Watch(threading.Thread):
    """Adds up the memory of a session's processes until they have ended."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.session, self.peak = session, 0

    def run(self) -> None:
        while (now := _resident(self.session)) is not None:
            self.peak = max(self.peak, now)
            time.sleep(LOOKS)


def _resident(session: int) -> int | None:
    """Bytes that a session's processes hold; None if there are none."""
    page, found, seen = os.sysconf("SC_PAGE_SIZE"), 0, False
    for place in PROC.iterdir():
        if place.name.isdigit():
            try:
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] != "Z":
                    found, seen = found + int(fields[21]) * page, True
            except (OSError, IndexError, ValueError):  # it ended meanwhile
                continue
    return found if seen else None


def _seconds(*words: str) -> float:
    began = time.perf_counter()
    code = subprocess.run(
        [str(Path(sys.executable).with_name("inklab")), *words],
        stdout=subprocess.DEVNULL,
        env=environment({}),
    ).returncode
    if code:
        raise BenchmarkError(f"inklab {' '.join(words)} ended with exit code {code}")
    return time.perf_counter() - began


def _lines(found: Json) -> list[str]:
    lines = []
    for profile, runs in found["runs"].items():
        seconds, peak = median(run["seconds"] for run in runs), max(run["peak_bytes"] for run in runs)
        lines.append(f"{profile}: {seconds:.0f} s (n = {len(runs)}), peak {peak / 2**30:.2f} GiB")
    for name, seconds in found["commands"].items():
        lines.append(f"inklab --{name}: {median(seconds):.2f} s (n = {len(seconds)})")
    return lines

"""What a user waits for: complete runs of the digits study with their peak memory, and two short commands.

A run's memory is that of the runner and all workers together, sampled twice a second.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.options import ROOT, BenchmarkError, Options
from benchmarks.peer_client import process_environment
from benchmarks.records import StudyResults, StudyRun
from benchmarks.results_io import describe_measurement, log_progress, read_results, write_results
from inklab.records.results import Results

TARGETS = {"quick": 90.0, "full": 120 * 60.0, "version": 0.25, "help": 0.4, "peak_bytes": 3.0 * 2**30}
"""Seconds; bytes of the full run."""
SHORT_COMMANDS = ("version", "help")
SAMPLE_SECONDS = 0.5
PROC = Path("/proc")


def measure_study(options: Options) -> list[str]:
    """Time complete quick runs and the short commands; or one full run, in the folder `options.full`.

    A full run that exists there is continued, so its time is that of the rest.

    Returns:
        A line per profile and command.

    Raises:
        BenchmarkError: a command failed.
    """
    previous = read_results(options.output, "study", StudyResults)
    runs = dict(previous.runs) if previous else {}
    commands = dict(previous.commands) if previous else {}
    if options.full:
        runs["full"] = (time_run("full", options.full),)
    else:
        runs["quick"] = tuple(_time_quick_run() for _ in range(options.rounds))
        commands = {
            name: tuple(_time_command(f"--{name}") for _ in range(options.rounds)) for name in SHORT_COMMANDS
        }
    command = options.command.replace(str(options.full), "DIR")
    results = StudyResults(
        runs=runs, commands=commands, targets=TARGETS, measurement=describe_measurement(command)
    )
    write_results(options.output, "study", results)
    return _format_results(results)


def _time_quick_run() -> StudyRun:
    with TemporaryDirectory() as folder:
        return time_run("quick", Path(folder) / "run")


def time_run(profile: str, folder: Path) -> StudyRun:
    """Do one complete run and time it."""
    words = [sys.executable, "-m", "inklab", "run", "--profile", profile, "--data", "mnist", "--run-dir"]
    start = time.perf_counter()
    with subprocess.Popen(
        [*words, str(folder)],
        cwd=ROOT,
        env=process_environment(),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        sampler = _MemorySampler(process.pid)
        sampler.start()
        code = process.wait()
    seconds = time.perf_counter() - start
    sampler.join()
    if code:
        raise BenchmarkError(f"inklab run --profile {profile} ended with exit code {code}")
    results = Results.read(folder / "results.json")
    log_progress(f"{profile}: {seconds:.0f} s, peak {sampler.peak / 2**20:.0f} MiB")
    return StudyRun(seconds=seconds, peak_bytes=sampler.peak, experiments=results.timings.experiments)


class _MemorySampler(threading.Thread):
    """Records the peak memory of a session's processes until they have ended."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.session, self.peak = session, 0

    def run(self) -> None:
        while (resident := _resident_bytes(self.session)) is not None:
            self.peak = max(self.peak, resident)
            time.sleep(SAMPLE_SECONDS)


def _resident_bytes(session: int) -> int | None:
    """Resident memory of a session's processes; None if there are none."""
    sizes = []
    for process in PROC.iterdir():
        if process.name.isdigit():
            try:
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] != "Z":
                    sizes.append(int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))
            except (OSError, IndexError, ValueError):  # it ended meanwhile
                continue
    return sum(sizes) if sizes else None


def _time_command(*words: str) -> float:
    start = time.perf_counter()
    command = [str(Path(sys.executable).with_name("inklab")), *words]
    code = subprocess.run(command, stdout=subprocess.DEVNULL, env=process_environment()).returncode
    if code:
        raise BenchmarkError(f"inklab {' '.join(words)} ended with exit code {code}")
    return time.perf_counter() - start


def _format_results(results: StudyResults) -> list[str]:
    lines = []
    for profile, runs in results.runs.items():
        seconds, peak = median(run.seconds for run in runs), max(run.peak_bytes for run in runs)
        lines.append(f"{profile}: {seconds:.0f} s (n = {len(runs)}), peak {peak / 2**30:.2f} GiB")
    for name, times in results.commands.items():
        lines.append(f"inklab --{name}: {median(times):.2f} s (n = {len(times)})")
    return lines

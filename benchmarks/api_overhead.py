"""What the Python API costs compared with the command line: the same small study, run by either.

Both are processes that a user would start, `inklab run` and a script that calls `inklab.run`, and both end
with the written report. Importing and starting Python count. Settings that inklab would choose by
measuring the machine are given, so that both train the same programs.
"""

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.options import BenchmarkError, Options
from benchmarks.peer_client import process_environment
from benchmarks.ratios import median_ratio
from benchmarks.records import ApiOverheadPair, ApiOverheadResults
from benchmarks.results_io import describe_measurement, log_progress, write_results
from inklab.hardware import cores
from inklab.records.outcomes import History
from inklab.runs import Run

TARGET = 1.02  # seconds of the script divided by those of the command
REPLICATES = 6
THREADS = 1  # of each worker
STUDY = """
name = "api-overhead"
title = "The same study from the command line and from Python"
data = { dataset = "mnist-5k" }

[experiments.narrow]
network = { name = "mlp", hidden = [100] }
recipe = { base = "sgd", epochs = EPOCHS }
replicates = REPLICATES

[experiments.wide]
network = { name = "mlp", hidden = [500, 300] }
recipe = { base = "sgd", epochs = EPOCHS }
replicates = REPLICATES

[experiments.noise]
kind = "robustness"
corruption = "salt_and_pepper"
strengths = [0, 0.1, 0.2, 0.3, 0.4]
pipelines = ["narrow", "wide"]
baseline = "narrow"
"""
EPOCHS = 20  # a run of some twenty seconds
SCRIPT = """
import sys
import inklab

study, folder, workers, threads = sys.argv[1:]
run = inklab.run(
    study, run_dir=folder, workers=int(workers), threads=int(threads), precision="fp32", compile="no"
)
print(run.report())
"""

TrialNumbers = tuple[str, dict[str, float] | None, History, str | None]
"""State, metrics, learning curves, and the SHA-256 of the weights."""


def measure_api_overhead(options: Options) -> list[str]:
    """Run the study `options.rounds` times by each, alternating, each time in a new run directory.

    Returns:
        One line.

    Raises:
        BenchmarkError: a run failed, or the two have different numbers.
    """
    with TemporaryDirectory() as folder:
        root = Path(folder)
        study = write_study(root, replicates=options.members or REPLICATES)
        time_pair(study, root / "warm-up", workers=cores())  # compiles bytecode, fills the file cache
        pairs = []
        for number in range(options.rounds):
            reverse = number % 2 == 1
            pairs.append(time_pair(study, root / str(number), workers=cores(), reverse=reverse))
            log_progress(f"api: command {pairs[-1].command:.2f} s, script {pairs[-1].script:.2f} s")
        trials = len(trial_numbers(root / "warm-up" / "command"))
    results = ApiOverheadResults(
        target=TARGET,
        workers=cores(),
        threads=THREADS,
        trials=trials,
        pairs=tuple(pairs),
        ratio=median_ratio([pair.script / pair.command for pair in pairs]),
        measurement=describe_measurement(options.command),
    )
    write_results(options.output, "api", results)
    ratio = results.ratio
    return [f"script / command: {ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f}, n = {ratio.n})"]


def write_study(folder: Path, *, replicates: int, epochs: int = EPOCHS) -> Path:
    """Write the study's file."""
    path = folder / "study.toml"
    path.write_text(STUDY.replace("REPLICATES", str(replicates)).replace("EPOCHS", str(epochs)), "utf-8")
    return path


def time_pair(study: Path, folder: Path, *, workers: int, reverse: bool = False) -> ApiOverheadPair:
    """Run a study by the command line and by a script, one after the other.

    Args:
        study: its TOML file.
        folder: gets the run directories `command` and `script`.
        workers: processes of each run.
        reverse: whether the script is first.

    Raises:
        BenchmarkError: one failed, or they have different numbers.
    """
    folder.mkdir()
    script = folder / "run_study.py"
    script.write_text(SCRIPT, "utf-8")
    runs = {name: folder / name for name in ("command", "script")}
    options = ["--workers", str(workers), "--threads", str(THREADS), "--precision", "fp32", "--compile", "no"]
    words = {
        "command": ["-m", "inklab", "run", str(study), "--run-dir", str(runs["command"]), *options],
        "script": [str(script), str(study), str(runs["script"]), str(workers), str(THREADS)],
    }
    seconds = {name: _time_process(words[name], folder) for name in sorted(words, reverse=reverse)}
    check_equal_numbers(trial_numbers(runs["command"]), trial_numbers(runs["script"]))
    return ApiOverheadPair(**seconds)


def _time_process(words: list[str], folder: Path) -> float:
    """Seconds of a Python process."""
    start = time.perf_counter()
    process = subprocess.run(
        [sys.executable, *words], cwd=folder, env=process_environment(), capture_output=True, text=True
    )
    seconds = time.perf_counter() - start
    if process.returncode:
        reason = process.stderr.strip().splitlines()[-1:] or ["it printed nothing"]
        raise BenchmarkError(f"'{' '.join(words[:4])} ...' ended with code {process.returncode}: {reason[0]}")
    return seconds


def trial_numbers(run: Path) -> dict[str, TrialNumbers]:
    """What each trial of a run computed, by its id; not how long it took."""
    outcomes = Run(run).outcomes
    return {
        id: (outcome.state, outcome.metrics, outcome.history, outcome.weights_sha256)
        for id, outcome in outcomes.items()
    }


def check_equal_numbers(command: dict[str, TrialNumbers], script: dict[str, TrialNumbers]) -> None:
    """Refuse to compare the times of different computations.

    Raises:
        BenchmarkError: a trial is missing or has other numbers.
    """
    for id in sorted(command.keys() | script.keys()):
        if command.get(id) != script.get(id):
            raise BenchmarkError(f"trial '{id}' has other numbers from the command line than from Python")

"""What 10,000 stored outcomes cost compared with 100: `inklab status`, `report`, `show --json`.

A synthetic run of a sweep over five values of L2, with histories of ten epochs, as a study of that size has
them; outcomes only, since none of these commands reads a model. Every command is a process of its own, as a
user starts it, so starting Python and imports count on both sides. The two runs alternate.
"""

import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.options import Options
from benchmarks.records import CommandTimes, LargeRunResults, LargeRunTimes
from benchmarks.results_io import today
from benchmarks.results_io import write_results as write_measurement
from inklab.hardware import cores, cpu_name
from inklab.records.components import Preprocessing
from inklab.records.execution import ExecutionConfig, NetworkTraits
from inklab.records.outcomes import Environment, History, LayerRow, TrialOutcome, TrialState
from inklab.records.plan import DataInfo, SplitCounts, Trial
from inklab.results.summarize import write_results
from inklab.study.load import read_study
from inklab.study.planner import NUMERICS, distinct_configs, plan_study
from inklab.study.run_directory import RunDirectory

FEW, MANY = 100, 10_000
TARGET = 2.0  # seconds that MANY may take more than FEW
TARGET_COMMANDS = ("status", "report")
COMMANDS = {"status": ["status"], "report": ["report"], "show": ["show", "--json"]}

VALUES = (1e-6, 5e-6, 1e-5, 1e-4, 1e-3)
EPOCHS = 10
GAIN = {1e-5: 0.0004, 1e-4: 0.0003, 1e-3: -0.012}  # of test accuracy, so that the comparisons have work to do
STUDY = f"""
name = "many-outcomes"
title = "Many outcomes"

[experiments.l2-sweep]
title = "Does L2 help?"
question = "Which strength of L2 is best?"
network = {{ name = "mlp", hidden = [500, 300] }}
recipe = {{ base = "sgd", epochs = {EPOCHS}, l2_params = ["hidden.*.weight"] }}
grid = {{ "recipe.l2" = {list(VALUES)} }}
replicates = REPLICATES

[experiments.findings]
kind = "findings"
title = "Findings"
"""

LAYERS = tuple(
    LayerRow(
        name=name, type=kind, activation=activation, output_shape=(width,), parameters=parameters, macs=macs
    )
    for name, kind, activation, width, parameters, macs in (
        ("flatten", "Flatten", None, 784, 0, 0),
        ("hidden.0", "Linear", "ReLU", 500, 392_500, 392_000),
        ("hidden.2", "Linear", "ReLU", 300, 150_300, 150_000),
        ("output", "Linear", None, 10, 3_010, 3_000),
    )
)
ENVIRONMENT = Environment(
    inklab="0.2.0", python="3.11.7", torch="2.13.0", numpy="2.3.0", platform="Linux", cpu="synthetic",
    cores=2, threads=1, precision="bf16", members=8, stacked=True, compiled=True,
)  # fmt: skip
DATA = DataInfo(
    dataset="mnist",
    sha256="ab" * 32,
    shape=(1, 28, 28),
    labels=tuple("0123456789"),
    counts=SplitCounts(train=(5_500,) * 10, validation=(500,) * 10, test=(1_000,) * 10),
    mean=0.1307,
    std=0.3081,
    preprocessing=Preprocessing(),
)
TRAITS = NetworkTraits(
    vmappable=True, has_convolutions=False, uses_global_rng=False, parameters=545_810, macs=545_000
)


def measure_large_runs(options: Options) -> list[str]:
    """Measure every command on both runs.

    Returns:
        A line per command.
    """
    with TemporaryDirectory() as folder:
        folders = {"few": Path(folder) / "few", "many": Path(folder) / "many"}
        for run, outcomes in zip(folders.values(), (FEW, MANY), strict=True):
            make_run(run, outcomes // len(VALUES))
        seconds = _time_commands(folders, options.rounds)
    results = LargeRunResults(
        few=FEW,
        many=MANY,
        epochs=EPOCHS,
        n=options.rounds,
        target=TARGET,
        target_commands=TARGET_COMMANDS,
        commands={name: _summarize_times(name, sides) for name, sides in seconds.items()},
        environment=_environment(),
        command=options.command,
        date=today(),
    )
    write_measurement(options.output, "large-runs", results)
    return [
        f"{name:8} {row.few.median:6.2f} s {row.many.median:6.2f} s {row.difference:+6.2f} s"
        for name, row in results.commands.items()
    ]


def make_run(folder: Path, replicates: int) -> None:
    """Write a finished run: `replicates` trials of each value of L2."""
    study_file = folder / "study.toml"
    study_file.parent.mkdir(parents=True)
    study_file.write_text(STUDY.replace("REPLICATES", str(replicates)), encoding="utf-8")
    loaded, execution = read_study(str(study_file)), ExecutionConfig(precision="bf16")
    networks = dict.fromkeys(distinct_configs(loaded.spec, DATA, execution), TRAITS)
    plan = plan_study(loaded.spec, loaded.profile, DATA, execution, networks)
    plan.write(folder / "plan.json")
    rng = np.random.default_rng(0)
    effects = rng.normal(0, 0.0008, replicates)  # of a replicate, shared by all settings: they are paired
    for id in plan.trials:
        # Not write_atomic: that waits for the disk, 10,000 times.
        path = folder / "trials" / id / "outcome.json"
        path.parent.mkdir(parents=True)
        path.write_text(
            _make_outcome(plan.trial(id), effects, rng).model_dump_json(indent=1), encoding="utf-8"
        )
    # A finished run has its results.json: `inklab show` reads it.
    write_results(folder, RunDirectory(folder).snapshot())


def _make_outcome(trial: Trial, effects: np.ndarray, rng: np.random.Generator) -> TrialOutcome:
    l2 = trial.config.recipe.l2
    accuracy = 0.98 + GAIN.get(l2, 0.0) + effects[trial.replicate] + rng.normal(0, 0.0006)
    epoch = np.arange(1, EPOCHS + 1)
    error = (1 - accuracy) + 0.07 * np.exp(-epoch / 2.5) + rng.normal(0, 0.0006, EPOCHS)
    train_error = np.maximum(1e-4, 0.006 + 0.09 * np.exp(-epoch / 3) + rng.normal(0, 0.0004, EPOCHS))
    history = History(
        epoch=tuple(range(1, EPOCHS + 1)),
        train_loss=(3.4 * train_error).tolist(),
        train_accuracy=(1 - train_error).tolist(),
        validation_loss=(3.5 * error).tolist(),
        validation_accuracy=(1 - error).tolist(),
    )
    return TrialOutcome(
        **trial._asdict(),
        seed=0,
        data_sha256=DATA.sha256,
        numerics=NUMERICS,
        state=TrialState.DONE,
        parameters=545_810,
        layers=LAYERS,
        history=history,
        metrics={
            "test_accuracy": accuracy,
            "test_loss": 3.4 * (1 - accuracy),
            "validation_accuracy": float(1 - error[-1]),
            "validation_loss": float(3.5 * error[-1]),
        },
        weights_sha256="cd" * 32,
        seconds=9.1,
        environment=ENVIRONMENT,
    )


def _time_commands(folders: dict[str, Path], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Every measured second by command and run; a first round does not count."""
    seconds: dict[str, dict[str, list[float]]] = {name: {run: [] for run in folders} for name in COMMANDS}
    for number in range(rounds + 1):
        for name, (command, *options) in COMMANDS.items():
            for run, folder in folders.items():
                spent = _time_command([sys.executable, "-m", "inklab", command, str(folder), *options])
                if number:  # the first brings files and bytecode into memory
                    seconds[name][run].append(spent)
    return seconds


def _time_command(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _summarize_times(name: str, seconds: dict[str, list[float]]) -> LargeRunTimes:
    times = {
        run: CommandTimes(median=median(values), seconds=tuple(values)) for run, values in seconds.items()
    }
    differences = [many - few for few, many in zip(seconds["few"], seconds["many"], strict=True)]
    command, *options = COMMANDS[name]
    return LargeRunTimes(
        few=times["few"],
        many=times["many"],
        difference=times["many"].median - times["few"].median,
        low=min(differences),
        high=max(differences),
        n=len(differences),
        command=" ".join(["inklab", command, "RUN", *options]),
    )


def _environment() -> dict[str, str | int]:
    packages = {name: version(name) for name in ("inklab", "matplotlib", "numpy", "scipy")}
    system = {"platform": platform.platform(), "python": platform.python_version()}
    return {"processor": cpu_name(), "cores": cores(), **system, **packages}

"""What 10,000 stored outcomes cost whoever reads a run, beside 100: `inklab status`, `report`, `show --json`.

An invented run of a sweep over five values of L2, with histories of ten epochs, as a study of that size has
it; outcomes only, since nothing here reads a model. Every command is a process of its own, as a user starts
it, so starting Python and importing count on both sides. The two runs take turns.

    python benchmarks/outcomes.py [--rounds 5]
"""

import argparse
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from inklab.hardware import cores, cpu_name
from inklab.io.files import write_json
from inklab.records.components import Preprocessing
from inklab.records.outcomes import Environment, History, LayerRow, TrialOutcome, TrialState
from inklab.records.plan import DataInfo, ExecutionConfig, NetworkTraits, SplitCounts, Trial
from inklab.results.summarize import write_results
from inklab.study.load import read_study
from inklab.study.planner import NUMERICS, distinct_configs, plan_study
from inklab.study.run_directory import RunDirectory

Json = dict[str, Any]

FEW, MANY = 100, 10_000
BAR = 2.0  # seconds that MANY may take more than FEW, each command
HELD_TO_IT = ("status", "report")
COMMANDS = {"status": ["status"], "report": ["report"], "show": ["show", "--json"]}
RESULTS = Path(__file__).parent / "results"

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
title = "What was found"
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
    inklab="0.2.0", python="3.11.7", torch="2.13.0", numpy="2.3.0", platform="Linux", cpu="invented",
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write `benchmarks/results/outcomes.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each command is run on each side")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the results")
    options = parser.parse_args(arguments)
    measured = measure(options.rounds)
    for name, row in measured["commands"].items():
        print(f"{name:8} {row['few']['median']:6.2f} s {row['many']['median']:6.2f} s {row['added']:+6.2f} s")
    write_json(options.out / "outcomes.json", measured)
    print(f"written: {options.out / 'outcomes.json'}")
    return 0


def measure(rounds: int) -> Json:
    """Every measured second, medians, and what MANY outcomes add to what FEW take."""
    with TemporaryDirectory() as place:
        folders = {"few": Path(place) / "few", "many": Path(place) / "many"}
        for folder, outcomes in zip(folders.values(), (FEW, MANY), strict=True):
            make_run(folder, outcomes // len(VALUES))
        seconds = _seconds(folders, rounds)
    commands = {name: _summed(sides) | {"command": _typed(name)} for name, sides in seconds.items()}
    told: Json = {
        "format": 1,
        "name": "outcomes",
        "outcomes": {"few": FEW, "many": MANY},
        "epochs": EPOCHS,
        "unit": "seconds",
    }
    told |= {
        "n": rounds,
        "bar": BAR,
        "held_to_it": list(HELD_TO_IT),
        "commands": commands,
        "machine": _machine(),
    }
    return told | {"command": "python benchmarks/outcomes.py", "date": time.strftime("%Y-%m-%d")}


def make_run(folder: Path, replicates: int) -> None:
    """Write a finished run: `replicates` trials of each value of L2."""
    file = folder / "study.toml"
    file.parent.mkdir(parents=True)
    file.write_text(STUDY.replace("REPLICATES", str(replicates)), encoding="utf-8")
    loaded, execution = read_study(str(file)), ExecutionConfig(precision="bf16")
    networks = dict.fromkeys(distinct_configs(loaded.spec, DATA, execution), TRAITS)
    plan = plan_study(loaded.spec, loaded.profile, DATA, execution, networks)
    plan.write(folder / "plan.json")
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 0.0008, replicates)  # of a replicate, shared by all settings: they are paired
    for id in plan.trials:
        # Plain writing: write_atomic waits for the disk, which 10,000 outcomes of one sitting need not.
        path = folder / "trials" / id / "outcome.json"
        path.parent.mkdir(parents=True)
        path.write_text(_outcome(plan.trial(id), luck, rng).model_dump_json(indent=1), encoding="utf-8")
    # A finished run has its results.json: `inklab show` reads it.
    write_results(folder, RunDirectory(folder).snapshot())


def _outcome(trial: Trial, luck: np.ndarray, rng: np.random.Generator) -> TrialOutcome:
    l2 = trial.config.recipe.l2
    level = 0.98 + GAIN.get(l2, 0.0) + luck[trial.replicate] + rng.normal(0, 0.0006)
    at = np.arange(1, EPOCHS + 1)
    miss = (1 - level) + 0.07 * np.exp(-at / 2.5) + rng.normal(0, 0.0006, EPOCHS)
    train = np.maximum(1e-4, 0.006 + 0.09 * np.exp(-at / 3) + rng.normal(0, 0.0004, EPOCHS))
    history = History(
        epoch=at.tolist(),
        train_loss=(3.4 * train).tolist(),
        train_accuracy=(1 - train).tolist(),
        validation_loss=(3.5 * miss).tolist(),
        validation_accuracy=(1 - miss).tolist(),
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
            "test_accuracy": level,
            "test_loss": 3.4 * (1 - level),
            "validation_accuracy": history.validation_accuracy[-1],
            "validation_loss": history.validation_loss[-1],
        },
        weights_sha256="cd" * 32,
        seconds=9.1,
        environment=ENVIRONMENT,
    )


def _seconds(folders: dict[str, Path], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Of each command and side, every measured second; one turn before does not count."""
    found: dict[str, dict[str, list[float]]] = {name: {side: [] for side in folders} for name in COMMANDS}
    for turn in range(rounds + 1):
        for name, (verb, *rest) in COMMANDS.items():
            for side, folder in folders.items():
                spent = _run([sys.executable, "-m", "inklab", verb, str(folder), *rest])
                if turn:  # the first brings files and bytecode into memory
                    found[name][side].append(spent)
    return found


def _run(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _summed(sides: dict[str, list[float]]) -> Json:
    gaps = [many - few for few, many in zip(sides["few"], sides["many"], strict=True)]
    told: Json = {side: {"median": median(values), "seconds": values} for side, values in sides.items()}
    added = median(sides["many"]) - median(sides["few"])
    return told | {"added": added, "low": min(gaps), "high": max(gaps), "n": len(gaps)}


def _typed(name: str) -> str:
    verb, *rest = COMMANDS[name]
    return " ".join(["inklab", verb, "RUN", *rest])


def _machine() -> Json:
    told = {"processor": cpu_name(), "cores": cores(), "platform": platform.platform()}
    packages = ("inklab", "matplotlib", "numpy", "scipy")
    return told | {"python": platform.python_version()} | {name: version(name) for name in packages}


if __name__ == "__main__":
    sys.exit(main())

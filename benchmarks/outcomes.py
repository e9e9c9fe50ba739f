"""What 10,000 stored outcomes cost whoever reads a run, beside 100: `inklab status`, `report`, `show --json`.

A made-up run of a sweep over five values of L2, with histories of ten epochs, as a study of that size leaves
it; outcomes only, since nothing here reads a bundle. Every command is a process of its own, as a user starts
it, so starting Python and importing count on both sides. The two runs take turns.

    python benchmarks/outcomes.py [--rounds 5]
"""

import argparse
import json
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
from inklab.io.documents import write_json
from inklab.results.summarize import write_results
from inklab.study.grouping import ExecutionConfig, TrainingMode
from inklab.study.load import read_study
from inklab.study.planner import DataIdentity, plan
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

[chapters.l2-sweep]
kind = "train"
title = "Does L2 help?"
question = "Which strength of L2 is best?"
model = {{ name = "mlp", hidden = [500, 300] }}
recipe = {{ base = "sgd", epochs = {EPOCHS}, l2_on = ["hidden.*.weight"] }}
vary = {{ "recipe.l2" = {list(VALUES)} }}
replicates = REPLICATES

[chapters.findings]
kind = "findings"
title = "What was found"
"""

LAYERS = [
    ("flatten", "Flatten", None, 784, 0, 0),
    ("hidden.0", "Linear", "ReLU", 500, 392_500, 392_000),
    ("hidden.2", "Linear", "ReLU", 300, 150_300, 150_000),
    ("output", "Linear", None, 10, 3_010, 3_000),
]
RAN = {"precision": "bf16", "threads": 1, "members": 8, "lifted": True, "python": "3.11.7", "torch": "2.13.0"}
RAN |= {"numpy": "2.3.0", "inklab": "0.1.0", "platform": "Linux", "cpu": "made up"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write `benchmarks/results/outcomes.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each command is run on each side")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the results")
    asked = parser.parse_args(arguments)
    told = measure(asked.rounds)
    for name, row in told["commands"].items():
        print(f"{name:8} {row['few']['median']:6.2f} s {row['many']['median']:6.2f} s {row['added']:+6.2f} s")
    write_json(asked.out / "outcomes.json", told)
    print(f"written: {asked.out / 'outcomes.json'}")
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
    """Write the folder of a finished run: `replicates` trials of each value of L2."""
    file = folder / "study.toml"
    file.parent.mkdir(parents=True)
    file.write_text(STUDY.replace("REPLICATES", str(replicates)), encoding="utf-8")
    spec, profile = read_study(str(file))
    totals = {"train": 55_000, "validation": 5_000, "test": 10_000}
    counts = {part: [total // 10] * 10 for part, total in totals.items()}
    names = tuple(str(k) for k in range(10))
    data = DataIdentity("mnist", "ab" * 32, (1, 28, 28), names, counts, 0.1307, 0.3081, {})
    made = plan(
        spec,
        profile,
        data,
        ExecutionConfig("bf16"),
        lambda _settings: TrainingMode(lifted=True, random=False),
    )
    write_json(folder / "plan.json", made)
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 0.0008, replicates)  # of a replicate, shared by all settings: they are paired
    for trial, told in made["trials"].items():
        # Plain writing: write_whole waits for the disk, which 10,000 outcomes of one sitting need not.
        path = folder / "trials" / trial / "outcome.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(_outcome(trial, told, luck, rng), indent=1), encoding="utf-8")
    write_results(RunDirectory(folder))  # a finished run has its results.json: `inklab show` reads it


def _outcome(trial: str, told: Json, luck: np.ndarray, rng: np.random.Generator) -> Json:
    replicate, settings = told["replicate"], told["settings"]
    level = 0.98 + GAIN.get(settings["recipe"]["l2"], 0.0) + luck[replicate] + rng.normal(0, 0.0006)
    at = np.arange(1, EPOCHS + 1)
    miss = (1 - level) + 0.07 * np.exp(-at / 2.5) + rng.normal(0, 0.0006, EPOCHS)
    train = np.maximum(1e-4, 0.006 + 0.09 * np.exp(-at / 3) + rng.normal(0, 0.0004, EPOCHS))
    curves = {"train_loss": 3.4 * train, "validation_loss": 3.5 * miss}
    curves |= {"train_accuracy": 1 - train, "validation_accuracy": 1 - miss}
    history = {"epoch": at.tolist()} | {name: values.tolist() for name, values in curves.items()}
    scores = {"test_accuracy": level, "test_loss": 3.4 * (1 - level)}
    scores |= {f"validation_{name}": float(curves[f"validation_{name}"][-1]) for name in ("accuracy", "loss")}
    layers = [dict(zip(_LAYER, layer[:3] + ([layer[3]],) + layer[4:], strict=True)) for layer in LAYERS]
    head: Json = {"format": 1, "id": trial, **told, "seed": 0, "data_sha256": "ab" * 32, "numerics": 1}
    head |= {"state": "done", "reason": None, "parameters": 545_810, "layers": layers, "history": history}
    return head | {"scores": scores, "verdicts": [], "weights_sha256": "cd" * 32, "seconds": 9.1, "ran": RAN}


_LAYER = ("layer", "kind", "activation", "output", "parameters", "multiply_adds")


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

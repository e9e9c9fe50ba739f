"""`python -m benchmarks NAME`: measure, store the results, print what came out."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

from benchmarks.options import RESULTS, Options
from inklab.errors import InklabError


def _compare(name: str, options: Options) -> list[str]:
    from benchmarks.compare import compare

    return compare(name, options)


def _call(function: str, options: Options) -> list[str]:
    """Import a benchmark only when it is needed: most of them import torch."""
    module, _, name = function.partition(":")
    lines: list[str] = getattr(import_module(f"benchmarks.{module}"), name)(options)
    return lines


BENCHMARKS: dict[str, Callable[[Options], list[str]]] = {
    **{name: partial(_compare, name) for name in ("l2-sweep", "cnn", "denoiser")},
    "parity": partial(_call, "parity:measure_parity"),
    "scaling": partial(_call, "scaling:measure_scaling"),
    "bf16": partial(_call, "bf16:measure_bf16"),
    "checkpoints": partial(_call, "checkpoints:measure_checkpoints"),
    "large-runs": partial(_call, "large_runs:measure_large_runs"),
    "many-jobs": partial(_call, "many_jobs:measure_many_jobs"),
    "study": partial(_call, "study:measure_study"),
    "predict": partial(_call, "prediction:measure_prediction"),
    "api": partial(_call, "api_overhead:measure_api_overhead"),
    "serving": partial(_call, "serving:measure_serving"),
    "time-to-accuracy": partial(_call, "accuracy:measure_time_to_accuracy"),
    "diagnosis": partial(_call, "diagnosis:measure_diagnosis"),
    "diagnosis-cost": partial(_call, "diagnosis_cost:measure_diagnosis_cost"),
    "gpu": partial(_call, "gpu:measure_gpu"),
    "best": partial(_call, "best:store_best"),
}


def main(arguments: list[str]) -> int:
    """Run benchmarks; 0 if all of them succeeded."""
    options = _parser().parse_args(arguments)
    name = vars(options).pop("name")
    rest = [word for word in arguments if word != name]
    names = list(BENCHMARKS) if name == "all" else [name]
    # All of them, also if an earlier one failed.
    succeeded = [_run(benchmark, rest, options) for benchmark in names]
    return 0 if all(succeeded) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=[*BENCHMARKS, "all"])
    parser.add_argument(
        "--rounds", type=int, default=5, help="interleaved pairs (5; fewer only for a trial run)"
    )
    parser.add_argument(
        "--replicates", type=int, default=30, help="of bf16, time-to-accuracy, diagnosis (30)"
    )
    for key in ("kinds", "networks", "data"):
        parser.add_argument(
            f"--{key}", type=lambda words: tuple(words.split(",")), default=(), metavar="A,B",
            help=f"{key} of diagnosis (all)",
        )  # fmt: skip
    parser.add_argument("--epochs", type=int, default=3, help="of bf16 (3)")
    parser.add_argument(
        "--full", type=Path, metavar="DIR", help="study: run the full profile there, once, instead of quick"
    )
    parser.add_argument("--run", type=Path, metavar="RUN", help="serving, best: a finished run directory")
    parser.add_argument("--device", default="auto", help="gpu: auto, cuda:1, mps; cpu for a trial run (auto)")
    parser.add_argument(
        "--small", action="store_true", help="gpu: few images and replicates, for a trial run"
    )
    parser.add_argument("--images", type=int, help="fewer images, for a trial run")
    parser.add_argument("--members", type=int, help="fewer members, for a trial run")
    parser.add_argument(
        "-o", "--output", type=Path, default=RESULTS, help="folder of the results (benchmarks/results)"
    )
    return parser


def _run(name: str, rest: list[str], options: argparse.Namespace) -> bool:
    """Run one benchmark and print its lines; an error does not stop the others."""
    command = " ".join([".venv/bin/python -m benchmarks", name, *rest])
    try:
        for line in BENCHMARKS[name](Options(command=command, **vars(options))):
            print(line, flush=True)
    except InklabError as error:
        print(f"error: {name}: {error}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m benchmarks WHAT`: measure, store, say what came out."""

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.driver import HOME, RESULTS, ROOT, BenchmarkError
from inklab.errors import InklabError

COMPARISONS = ("l2-sweep", "cnn", "denoiser")


def _compare(name: str) -> Callable[[argparse.Namespace, str], list[str]]:
    def run(asked: argparse.Namespace, command: str) -> list[str]:
        from benchmarks.compare import Asked, compare

        return compare(name, Asked(asked.rounds, asked.out, asked.images, asked.members, command))

    return run


def _parity(asked: argparse.Namespace, command: str) -> list[str]:
    from benchmarks.parity import parity

    return parity(asked.out, command)


def _growth(asked: argparse.Namespace, command: str) -> list[str]:
    from benchmarks.growth import growth

    return growth(asked.out, command, asked.images)


def _bf16(asked: argparse.Namespace, command: str) -> list[str]:
    from benchmarks.bf16 import bf16

    return bf16(asked.out, command, asked.replicates, asked.epochs, asked.images)


def _checkpoints(asked: argparse.Namespace, command: str) -> list[str]:
    from benchmarks.checkpoints import checkpoints

    return checkpoints(asked.out, command, asked.rounds)


def _outcomes(asked: argparse.Namespace, command: str) -> list[str]:
    """A script of its own, since it starts inklab's commands as a user does."""
    script = [sys.executable, str(HOME / "outcomes.py"), "--rounds", str(asked.rounds)]
    if subprocess.run(script, cwd=ROOT).returncode:
        raise BenchmarkError("benchmarks/outcomes.py failed; what it said is above")
    return []


def _study(asked: argparse.Namespace, command: str) -> list[str]:
    from benchmarks.study import study

    return study(asked.out, command, asked.rounds, asked.full)


def _serving(asked: argparse.Namespace, command: str) -> list[str]:
    from benchmarks.serving import serving

    return serving(asked.out, command, asked.rounds, asked.run)


def _accuracy(asked: argparse.Namespace, command: str) -> list[str]:
    from benchmarks.accuracy import time_to_accuracy

    return time_to_accuracy(asked.out, command, asked.replicates, asked.images)


def _best(asked: argparse.Namespace, command: str) -> list[str]:
    from benchmarks.best import best

    return best(asked.out, command, asked.run)


WHAT: dict[str, Callable[[argparse.Namespace, str], list[str]]] = {
    **{name: _compare(name) for name in COMPARISONS},
    "parity": _parity,
    "growth": _growth,
    "bf16": _bf16,
    "checkpoints": _checkpoints,
    "outcomes": _outcomes,
    "study": _study,
    "serving": _serving,
    "time-to-accuracy": _accuracy,
    "best": _best,
}


def main(arguments: list[str]) -> int:
    """Do what was asked; 0 if all of it was measured."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("what", choices=[*WHAT, "all"])
    parser.add_argument(
        "--rounds", type=int, default=5, help="interleaved pairs (5; fewer only to try it out)"
    )
    parser.add_argument("--replicates", type=int, default=30, help="of bf16 and of time-to-accuracy (30)")
    parser.add_argument("--epochs", type=int, default=3, help="of bf16 against fp32 (3)")
    parser.add_argument(
        "--full", type=Path, metavar="DIR", help="study: run the full profile there, once, instead of quick"
    )
    parser.add_argument(
        "--run", type=Path, metavar="RUN", help="serving, best: the finished run that is meant"
    )
    parser.add_argument("--images", type=int, help="fewer images, to try it out")
    parser.add_argument("--members", type=int, help="fewer members, to try it out")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder of the results (benchmarks/results)"
    )
    asked = parser.parse_args(arguments)
    rest = [each for each in arguments if each != asked.what]
    done = [_did(name, asked, rest) for name in (WHAT if asked.what == "all" else [asked.what])]
    return 0 if all(done) else 1


def _did(name: str, asked: argparse.Namespace, rest: list[str]) -> bool:
    """Do one thing and print what came out; whatever goes wrong costs the others nothing."""
    try:
        for line in WHAT[name](asked, " ".join([".venv/bin/python -m benchmarks", name, *rest])):
            print(line, flush=True)
    except InklabError as error:
        print(f"error: {name}: {error}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

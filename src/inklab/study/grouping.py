"""How a run is carried out, and which trials are trained together. Numbers depend on neither."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from inklab.io.documents import fingerprint
from inklab.training.recipe import VECTOR_SETTINGS

CACHE_BYTES = 12_000_000  # bytes of weights, gradients and the optimiser's memory that a population may have
BYTES_SGD, BYTES_ADAM = 8, 16  # a parameter: fp32 master, bf16 copy, bf16 gradient; Adam's two moments


@dataclass(frozen=True)
class ExecutionConfig:
    """How a run is carried out; decided once, frozen in plan.json, obeyed by every resume.

    Attributes:
        precision: of networks whose study says "auto".
        threads: for each trial; convolutions differ in their last bits between one thread and two.
        workers: processes side by side. Numbers do not depend on it.
        members: most trials in one population. Numbers do not depend on it.
        compile: "no", "yes", or "auto": programs of trials that last long enough to repay it.
        why: what each choice rests on.
    """

    precision: str
    threads: int = 1
    workers: int = 2
    members: int = 8
    compile: str = "no"
    why: Mapping[str, str] = field(default_factory=dict)


class TrainingMode(NamedTuple):
    """How trials of some settings are trained.

    Attributes:
        lifted: stacked, all members in one program.
        random: the network draws from the global generator.
        members: most that fit well into one population.
        compiled: the program is compiled.
    """

    lifted: bool
    random: bool
    members: int = 8
    compiled: bool = False


ModeOf = Callable[[dict[str, Any]], TrainingMode]
"""Of a trial's settings, the way it is trained. It must not depend on how many there are, or a run that is
extended would be another than one that was begun larger."""


def group_trials(
    trials: Mapping[str, dict[str, Any]], how: ExecutionConfig, lifting: ModeOf
) -> list[dict[str, Any]]:
    """Which trials are trained in one program.

    Trials that differ in replicate, rate, L2 and momentum only are lifted into populations of at most
    `how.members`, spread over the workers; what can't be lifted, or doesn't gain, is trained alone. Lifted
    groups of one program have as many slots, also the last one: then they run the same compiled code.

    Args:
        trials: id to `{"settings", "replicate"}`.
        how: gives the most members and the workers.
        lifting: what a rehearsal found out about settings.

    Returns:
        `{"trials": ids, "lifted", "random", "slots", "compiled"}` each; every trial stands in one of them.
    """
    alike: dict[str, list[str]] = {}
    for trial, told in trials.items():
        alike.setdefault(_program(told["settings"]), []).append(trial)
    found = []
    for members in alike.values():
        way = lifting(trials[members[0]]["settings"])
        size = _population(len(members), min(how.members, way.members), how.workers) if way.lifted else 1
        chunks = [members[start : start + size] for start in range(0, len(members), size)]
        found += [
            {
                "trials": chunk, "lifted": way.lifted, "random": way.random,
                "slots": max(size, 2) if way.lifted else 1, "compiled": way.compiled,
            }
            for chunk in chunks
        ]  # fmt: skip
    return found


def max_population(parameters: int, optimiser: str) -> int:
    """How many members of a network a population should have: as many as stay in a core's share of the cache.

    Compiled, two members of the 500-300 net take 0.49 s each an epoch and eight 0.56: the weights of more go
    through memory in each step. Below two, nothing is gained; above eight, little.

    Example:
        >>> [max_population(count, "sgd") for count in (55_050, 226_416, 545_810)]
        [8, 6, 2]
    """
    each = parameters * (BYTES_ADAM if optimiser == "adam" else BYTES_SGD)
    return min(max(CACHE_BYTES // each, 2), 8)


def _population(count: int, most: int, workers: int) -> int:
    """Members of a population: as few populations as fit, but one a worker if that leaves two in each."""
    programs = max(math.ceil(count / most), min(workers, count // 2), 1)
    return math.ceil(count / programs)


def _program(settings: dict[str, Any]) -> str:
    """What trials of one program have in common."""
    told, recipe = dict(settings), dict(settings["recipe"])
    del told["recipe"]
    # Momentum of zero keeps no velocity: another program, and the other one would cost memory.
    moving = recipe["momentum"] > 0
    return fingerprint([told, {key: recipe[key] for key in set(recipe) - set(VECTOR_SETTINGS)}, moving])

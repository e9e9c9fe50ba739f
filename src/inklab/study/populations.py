"""How a run is carried out, and which trials are trained together. Numbers depend on neither."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from inklab.files import fingerprint
from inklab.train.recipe import VECTOR_SETTINGS


@dataclass(frozen=True)
class How:
    """How a run is carried out; decided once, frozen in plan.json, obeyed by every resume.

    Attributes:
        precision: of networks whose study says "auto".
        threads: for each trial; convolutions differ in their last bits between one thread and two.
        workers: processes side by side. Numbers do not depend on it.
        members: most trials in one population. Numbers do not depend on it.
    """

    precision: str
    threads: int = 1
    workers: int = 2
    members: int = 8


Lifting = Callable[[dict[str, Any]], tuple[bool, bool]]
"""Of a trial's settings: is it trained lifted, and does its network draw from the global generator?"""


def groups(trials: Mapping[str, dict[str, Any]], how: How, lifting: Lifting) -> list[dict[str, Any]]:
    """Which trials are trained in one program.

    Trials that differ in replicate, rate, L2 and momentum only are lifted into populations of at most
    `how.members`, spread over the workers; what can't be lifted, or doesn't gain, is trained alone.

    Args:
        trials: id to `{"settings", "replicate"}`.
        how: gives the most members and the workers.
        lifting: what a rehearsal found out about settings.

    Returns:
        `{"trials": ids, "lifted", "random"}` each; every trial stands in one of them.
    """
    alike: dict[str, list[str]] = {}
    for trial, told in trials.items():
        alike.setdefault(_program(told["settings"]), []).append(trial)
    found = []
    for members in alike.values():
        lifted, random = lifting(trials[members[0]]["settings"])
        size = _population(len(members), how) if lifted else 1
        chunks = [members[start : start + size] for start in range(0, len(members), size)]
        found += [{"trials": chunk, "lifted": lifted, "random": random} for chunk in chunks]
    return found


def _population(count: int, how: How) -> int:
    """Members of a population: as few populations as fit, but one a worker if that leaves two in each."""
    programs = max(math.ceil(count / how.members), min(how.workers, count // 2), 1)
    return math.ceil(count / programs)


def _program(settings: dict[str, Any]) -> str:
    """What trials of one program have in common."""
    told, recipe = dict(settings), dict(settings["recipe"])
    del told["recipe"]
    # Momentum of zero keeps no velocity: another program, and the other one would cost memory.
    moving = recipe["momentum"] > 0
    return fingerprint([told, {key: recipe[key] for key in set(recipe) - set(VECTOR_SETTINGS)}, moving])

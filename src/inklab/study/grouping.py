"""Which trials are trained in one program. Numbers do not depend on it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from inklab.io.files import fingerprint
from inklab.records.plan import ExecutionConfig, GroupPlan, NetworkTraits, PlannedTrial
from inklab.records.recipe import VECTOR_SETTINGS, TrialConfig
from inklab.study.resources import pays_to_compile

CACHE_BYTES = 12_000_000
"""Bytes of weights, gradients and the optimizer's state that a population may have."""

BYTES_SGD, BYTES_ADAM = 8, 16
"""A parameter: fp32 master, bf16 copy, bf16 gradient; Adam's two moments."""

MAX_POPULATION = 8


@dataclass(frozen=True)
class TrainingMode:
    """How trials of some configuration are trained.

    Attributes:
        stacked: all members in one vectorized program.
        reseed_each_step: the network draws from the global generator.
        max_population: most members that fit well into one population.
        compiled: the program is compiled.
        network: key of the preflight check that this rests on; "" for none.
    """

    stacked: bool
    reseed_each_step: bool
    max_population: int = MAX_POPULATION
    compiled: bool = False
    network: str = ""


ModeOf = Callable[[TrialConfig], TrainingMode]
"""From a trial's configuration to how it is trained. It must not depend on how many trials there are, or a
run that is extended would differ from one that was begun larger."""


def training_mode(
    config: TrialConfig, traits: NetworkTraits, execution: ExecutionConfig, n_images: int, network: str = ""
) -> TrainingMode:
    """How trials of a configuration are trained.

    Args:
        config: of the trials.
        traits: what the preflight check found out about their network.
        execution: how the run is carried out.
        n_images: training images.
        network: key of the preflight check.
    """
    is_long = execution.compile == "yes" or pays_to_compile(config, traits, n_images)
    return TrainingMode(
        stacked=traits.vmappable and not traits.has_convolutions,
        reseed_each_step=traits.uses_global_rng,
        max_population=max_population(traits.parameters, config.recipe.optimizer),
        compiled=execution.compile != "no" and is_long and not traits.uses_global_rng,
        network=network,
    )


def group_trials(
    trials: Mapping[str, PlannedTrial],
    configs: Mapping[str, TrialConfig],
    execution: ExecutionConfig,
    mode_of: ModeOf,
) -> tuple[GroupPlan, ...]:
    """Which trials are trained in one program.

    Trials that differ only in replicate, learning rate, L2 and momentum are stacked into populations of at
    most `execution.max_population`, spread over the workers; what can't be stacked, or doesn't gain, is
    trained one by one. Groups of one program have the same population size, also the last and smaller one:
    then they run the same compiled code.

    Args:
        trials: by id.
        configs: by key.
        execution: gives the largest population and the workers.
        mode_of: how trials of a configuration are trained.

    Returns:
        Groups; every trial is in one of them.
    """
    programs = {key: _program(config) for key, config in configs.items()}
    by_program: dict[str, list[str]] = {}
    for id, trial in trials.items():
        by_program.setdefault(programs[trial.config], []).append(id)
    groups: list[GroupPlan] = []
    for ids in by_program.values():
        mode = mode_of(configs[trials[ids[0]].config])
        largest = min(execution.max_population, mode.max_population)
        size = _population_size(len(ids), largest, execution.workers) if mode.stacked else 1
        groups += [
            GroupPlan(
                trials=tuple(ids[start : start + size]),
                stacked=mode.stacked,
                reseed_each_step=mode.reseed_each_step,
                population_size=max(size, 2) if mode.stacked else 1,
                compiled=mode.compiled,
                network=mode.network,
            )
            for start in range(0, len(ids), size)
        ]
    return tuple(groups)


def max_population(parameters: int, optimizer: str) -> int:
    """How many members of a network a population should have: as many as fit in a core's share of the cache.

    Compiled, two members of the 500-300 net take 0.49 s each an epoch and eight 0.56: the weights of more go
    through memory in each step. Below two, nothing is gained; above eight, little.

    Example:
        >>> [max_population(count, "sgd") for count in (55_050, 226_416, 545_810)]
        [8, 6, 2]
    """
    member_bytes = parameters * (BYTES_ADAM if optimizer == "adam" else BYTES_SGD)
    return min(max(CACHE_BYTES // member_bytes, 2), MAX_POPULATION)


def _population_size(n_trials: int, largest: int, workers: int) -> int:
    """Members of a population: as few populations as fit, but one a worker if that leaves two in each."""
    n_populations = max(math.ceil(n_trials / largest), min(workers, n_trials // 2), 1)
    return math.ceil(n_trials / n_populations)


def _program(config: TrialConfig) -> str:
    """What the configurations of one program's trials have in common."""
    common = config.model_dump(mode="json", exclude={"recipe": set(VECTOR_SETTINGS)})
    # Momentum of zero keeps no velocity: another program, as in one with velocity it would cost memory.
    return fingerprint([common, config.recipe.momentum > 0])

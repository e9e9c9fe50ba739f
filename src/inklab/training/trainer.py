"""The training loop: epochs of steps over a population, with learning curves and divergence as an outcome."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from inklab.networks.layers import Normalize, NormalizedModel, key_names
from inklab.networks.network import Shape, build_net
from inklab.seeding import Seed
from inklab.training.batches import BatchLoader, TrainingData
from inklab.training.checkpoint import (
    Checkpoint,
    CheckpointManager,
    numeric_environment,
    state_of,
    state_tensors,
)
from inklab.training.compiled import CompiledStep
from inklab.training.evaluate import EpochMetrics
from inklab.training.objectives import Objective, objectives
from inklab.training.optimizers import HyperParams, Tensors, make_optimizer
from inklab.training.population import member, single_member, stack_states, weight_decay_names
from inklab.training.recipe import Recipe
from inklab.training.step import TrainStep

History = dict[str, list[float | int]]
"""An entry an epoch: `epoch` itself (from 1), losses, accuracies; finite, whatever happens."""

MIN_SLOTS = 2  # a lone member in a batched product takes another kernel, which differs in the last bits


@dataclass(frozen=True)
class Trial:
    """One training: resolved settings (see docs/run-folder.md) and a replicate."""

    id: str
    settings: dict[str, Any]
    replicate: int

    @property
    def recipe(self) -> Recipe:
        """Its recipe, checked."""
        return Recipe.model_validate(self.settings["recipe"])


@dataclass(frozen=True)
class TrainingResult:
    """What came of a trial: the network in evaluation mode, its history, and why it ended if it diverged."""

    trial: Trial
    net: NormalizedModel
    history: History
    diverged: str | None
    seconds: float
    compiled: bool


@dataclass(frozen=True)
class PopulationJob:
    """Trials that are trained in one program, and how.

    Attributes:
        trials: they differ in replicate, rate, L2 and momentum only.
        lifted: stacked, all members at once; otherwise one after the other.
        random: the network draws from torch's global generator, which is then set each step.
        seed: the study's root seed.
        slots: members of a lifted program; those that trials leave empty are filled with copies, so that a
            smaller group runs the program that was compiled for a larger one.
        compiled: whether its program is to be compiled; if that fails, it runs uncompiled, and says so.
    """

    trials: Sequence[Trial]
    lifted: bool
    random: bool
    seed: int
    slots: int = MIN_SLOTS
    compiled: bool = False


OnEpoch = Callable[[int, int, float], None]
"""Told (epoch from 1, epochs, mean training loss) after each epoch."""


def build_normalized(settings: dict[str, Any], shape: Shape, classes: int, seed: Seed) -> NormalizedModel:
    """The network of some settings with its scaling in front, weights drawn from `seed`, in training mode."""
    return NormalizedModel(
        Normalize(**settings["scaling"]), build_net(settings["model"], shape, classes, seed)
    ).train()


def train_population(
    group: PopulationJob,
    data: TrainingData,
    on_epoch: OnEpoch = lambda *_: None,
    keeper: CheckpointManager | None = None,
) -> list[TrainingResult]:
    """Train every trial of a group.

    What a trial ends in depends on its settings, its replicate, the root seed and the data, to the bit;
    not on its company, nor on how often it was interrupted.

    Args:
        group: what to train.
        data: all images, resident as tensors.
        on_epoch: told about progress.
        keeper: writes checkpoints, and knows those to go on from; without one, there are none.

    Returns:
        One result a trial, in their order.

    Raises:
        TrainingInterrupted: the keeper was asked to stop.
        WriteError: a checkpoint can't be written.
    """
    if group.lifted or len(group.trials) == 1:
        return PopulationTrainer(group, group.trials, data, keeper).run(on_epoch)
    lone = [(trial, keeper.for_group(trial.id) if keeper else None) for trial in group.trials]
    return [PopulationTrainer(group, [trial], data, kept).run(on_epoch)[0] for trial, kept in lone]


@dataclass
class PopulationTrainer:
    """A population on its way: one program, its state and its curves."""

    group: PopulationJob
    trials: Sequence[Trial]
    data: TrainingData
    keeper: CheckpointManager | None
    epoch: int = field(default=0, init=False)
    losses: list[Tensor] = field(default_factory=list, init=False)  # of the steps of this epoch
    histories: list[History] = field(init=False)
    diverged: list[str | None] = field(init=False)

    def __post_init__(self) -> None:
        self.began = time.perf_counter()
        self.recipe = self.trials[0].recipe
        self.objective: Objective = objectives[self.recipe.objective]
        slots = max(self.group.slots, MIN_SLOTS) if self.group.lifted else 1
        padding = max(0, slots - len(self.trials))
        self.slots = [*self.trials, *[self.trials[-1]] * padding]
        self.recipes = [slot.recipe for slot in self.slots]
        self.seeds = [Seed(self.group.seed) / "replicate" / trial.replicate for trial in self.slots]
        nets = [
            build_normalized(trial.settings, self.data.shape, len(self.data.labels), seed / "weights")
            for trial, seed in zip(self.slots, self.seeds, strict=True)
        ]
        self.template: nn.Module = nets[0]
        self.keys = key_names(self.template)
        self.batches = BatchLoader(self.data, self.recipe, self.seeds, lifted=self.group.lifted)
        self.factor = math.nan
        self.histories = [{} for _ in self.trials]
        self.diverged = [None for _ in self.trials]
        self.maker = self._maker()
        params, buffers = stack_states(nets) if self.group.lifted else single_member(nets[0])
        self.program = CompiledStep(self.maker.step(), self.maker.init_state(params, buffers))
        if self.group.compiled:
            batch, keys = next(self.batches.epoch(0)), self._keys()
            with suppress(Exception):  # whatever a compiler raises; `compiled` says whether it could
                self.program.compile(batch, keys, self._hyper(), self._cache_key())
        if self.keeper:
            self._restore(self.keeper)

    def _maker(self) -> TrainStep:
        precision = self.trials[0].settings["precision"]
        return TrainStep(
            self.template,
            self.objective,
            make_optimizer(self.recipe.optimiser, max(recipe.momentum for recipe in self.recipes), precision),
            weight_decay_names(self.template, self.recipe.l2_on)
            if any(recipe.l2 for recipe in self.recipes)
            else frozenset(),
            lifted=self.group.lifted,
            precision=precision,
        )

    def run(self, on_epoch: OnEpoch) -> list[TrainingResult]:
        """All epochs that are left, unless every member diverges first."""
        curves = EpochMetrics(
            self.objective,
            self.data,
            self.recipe,
            Seed(self.group.seed),
            self.trials[0].settings["precision"],
        )
        while self.epoch < self.recipe.epochs and not all(self.diverged):
            for batch in self.batches.epoch(self.epoch, taken=len(self.losses)):
                with self._randomness():
                    self.losses.append(self.program(batch, self._keys(), self._hyper()))
                if self.keeper:
                    self.keeper.maybe_save(self._checkpoint)
            losses = torch.stack(self.losses).reshape(len(self.losses), -1).double()[:, : len(self.trials)]
            self._record_epoch(losses, curves)
            self.epoch, self.losses = self.epoch + 1, []
            on_epoch(self.epoch, self.recipe.epochs, float(losses.mean()))
        return [self._result(index) for index in range(len(self.trials))]

    @property
    def _global_step(self) -> int:
        """Steps taken."""
        return self.epoch * self._steps_an_epoch() + len(self.losses)

    def _checkpoint(self) -> Checkpoint:
        tensors = {**state_tensors(self.program.state), "losses": torch.stack(self.losses)}
        if self.group.lifted:  # without those that only fill the program's slots
            count = len(self.trials)
            tensors = {name: value[:count] for name, value in tensors.items() if name != "losses"}
            tensors["losses"] = torch.stack(self.losses)[:, :count]
        return Checkpoint(
            [trial.id for trial in self.trials], numeric_environment(compiled=self.program.compiled),
            self.epoch, self.histories, self.diverged, time.perf_counter() - self.began, tensors,
        )  # fmt: skip

    def _restore(self, keeper: CheckpointManager) -> None:
        """Begin where an earlier attempt left a checkpoint, if there is one."""
        ids = [trial.id for trial in self.trials]
        found = keeper.latest(ids, numeric_environment(compiled=self.program.compiled))
        if found is None:
            return
        slots = [found.trials.index(slot.id) for slot in self.slots] if self.group.lifted else None
        state = state_of(self.program.state, found.tensors, slots)
        self.program.set_state(state._replace(working=self.maker.working(state.params)))
        losses = found.tensors["losses"]
        self.epoch, self.losses = found.epoch, list(losses if slots is None else losses[:, slots])
        members = [found.trials.index(trial) for trial in ids]
        self.histories = [found.histories[place] for place in members]
        self.diverged = [found.diverged[place] for place in members]
        self.began -= found.seconds

    def _cache_key(self) -> str:
        """What decides about the program, shapes aside: all settings but what goes in as tensors."""
        told = self.trials[0].settings
        recipe = (self.recipe.objective, self.recipe.optimiser, self.recipe.l2_on, self.recipe.corruption)
        decayed, moving = (any(getattr(r, key) for r in self.recipes) for key in ("l2", "momentum"))
        return repr((told["model"], recipe, told["precision"], self.group.lifted, decayed, moving))

    def _randomness(self) -> Any:
        if not self.group.random:
            return nullcontext()
        return (self.seeds[0] / "module" / self.epoch / len(self.losses)).as_global()

    def _keys(self) -> Tensors:
        """A key for each dropout layer and member at this step: two halves of a 62-bit number."""
        place = (self.epoch, len(self.losses))
        rows = {
            name: [
                _split_int64((seed / "dropout" / name / place[0] / place[1]).number) for seed in self.seeds
            ]
            for name in self.keys
        }
        return {
            name: torch.tensor(row if self.group.lifted else row[0], dtype=torch.int32)
            for name, row in rows.items()
        }

    def _hyper(self) -> HyperParams:
        factor = rate_factor(
            self.recipe.schedule,
            self._global_step,
            self.recipe.epochs * self._steps_an_epoch(),
            self.recipe.warmup,
        )
        if factor != self.factor:  # making tensors is what a small step spends its time on
            self.factor = factor
            told = [(recipe.rate * factor, recipe.l2, recipe.momentum) for recipe in self.recipes]
            rows = torch.tensor(told if self.group.lifted else told[0]).movedim(-1, 0).contiguous()
            self.hyper = HyperParams(rows[0], rows[1], rows[2], taken=torch.zeros(()))
        return self.hyper._replace(taken=torch.tensor(self._global_step, dtype=torch.float64))

    def _steps_an_epoch(self) -> int:
        return -(-len(self.data.train.labels) // self.recipe.batch)

    def _record_epoch(self, losses: Tensor, curves: EpochMetrics) -> None:
        """Extend each member's history, or say that it diverged."""
        for index, history in enumerate(self.histories):
            if self.diverged[index]:
                continue
            if not bool(torch.isfinite(losses[:, index]).all()):
                first = int((~torch.isfinite(losses[:, index])).nonzero()[0])
                self.diverged[index] = (
                    f"the loss became NaN or infinite in epoch {self.epoch + 1}, step {first + 1}"
                )
                continue
            net = self._net(index)
            point = {"epoch": self.epoch + 1, "train_loss": float(losses[:, index].mean())}
            point |= curves.after_epoch(net)
            if not _is_finite(net, point, self.data):  # the last step did it, after its loss was taken
                self.diverged[index] = f"the loss became NaN or infinite after epoch {self.epoch + 1}"
                continue
            for name, value in point.items():
                history.setdefault(name, []).append(value)

    def _net(self, index: int) -> NormalizedModel:
        state = self.program.state
        net = member(self.template, state.params, state.buffers, index if self.group.lifted else None)
        assert isinstance(net, NormalizedModel)
        return net

    def _result(self, index: int) -> TrainingResult:
        seconds = (time.perf_counter() - self.began) / len(self.trials)
        return TrainingResult(
            self.trials[index], self._net(index), self.histories[index], self.diverged[index], seconds,
            self.program.compiled,
        )  # fmt: skip


def rate_factor(schedule: str, step: int, steps: int, warmup: float = 0.0) -> float:
    """What the rate is multiplied with at a step counting from 0.

    Args:
        schedule: "constant", "cosine" or "linear".
        step: from 0.
        steps: of the whole training.
        warmup: share of them in which the rate rises in a straight line, to 1 at the last of these.

    Example:
        >>> rate_factor("cosine", 0, 10), rate_factor("cosine", 5, 10), rate_factor("constant", 9, 10)
        (1.0, 0.5, 1.0)
        >>> [rate_factor("linear", step, 8, warmup=0.5) for step in range(8)]
        [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    gone = (step - rising) / (steps - rising)
    factors = {"constant": 1.0, "cosine": (1 + math.cos(math.pi * gone)) / 2, "linear": 1 - gone}
    return round(factors[schedule], 15)


def _is_finite(net: nn.Module, point: Mapping[str, float | int], data: TrainingData) -> bool:
    some = torch.arange(len(data.train.labels))[:10]  # there may be no validation images, and so no loss
    with torch.inference_mode():
        finite = torch.isfinite(net(data.train.images(some))).all()
    return bool(finite) and all(map(math.isfinite, point.values()))


def _split_int64(number: int) -> tuple[int, int]:
    return number & 0x7FFFFFFF, (number >> 31) & 0x7FFFFFFF

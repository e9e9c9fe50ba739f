"""The training loop: epochs of steps over a population, learning curves, and divergence as an outcome."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from inklab.networks.layers import NormalizedModel
from inklab.records.outcomes import History
from inklab.records.plan import Trial
from inklab.seeding import Seed
from inklab.training.batches import TrainingData
from inklab.training.checkpoint import (
    Checkpoint,
    CheckpointManager,
    MemberProgress,
    NumericEnvironment,
    TrainingProgress,
    restore_state,
    state_tensors,
)
from inklab.training.compiled import CompiledStep, CompileError
from inklab.training.evaluate import EpochMetrics
from inklab.training.population import Population, PopulationSpec
from inklab.training.step import State

OnEpoch = Callable[[int, int, float], None]
"""Called with (epoch from 1, epochs, mean training loss) after each epoch."""


def train_population(
    spec: PopulationSpec,
    data: TrainingData,
    on_epoch: OnEpoch = lambda *_: None,
    checkpoints: CheckpointManager | None = None,
) -> list["TrainingResult"]:
    """Train every trial of a population.

    The result of a trial depends on its configuration, its replicate, the root seed and the data, to the bit;
    not on the other trials, nor on interruptions.

    Checkpoints are saved through `checkpoints`, and the latest one is restored.

    Returns:
        One result for each trial, in their order.

    Raises:
        TrainingInterrupted: a stop was requested through `checkpoints`.
        WriteError: a checkpoint can't be written.
    """
    if len(spec.trials) > 1 and not spec.stacked:
        return [
            result
            for trial in spec.trials
            for result in train_population(
                replace(spec, trials=[trial]), data, on_epoch, checkpoints and checkpoints.subfolder(trial.id)
            )
        ]

    population = Population.build(spec, data)
    progress = PopulationProgress(population)
    compiled_step = CompiledStep(population.step, population.init_state)
    if spec.compiled:
        progress.compile_error = _compile(compiled_step, population)
    if checkpoints:
        _restore(progress, compiled_step, checkpoints)

    recipe, precision = population.recipe, population.config.precision
    metrics = EpochMetrics(population.step.objective, data, recipe, Seed(spec.seed), precision)
    while progress.epoch < recipe.epochs and not all(member.divergence for member in progress.members):
        epoch = progress.epoch
        for batch in population.batches.epoch(epoch, skip=progress.steps_done):
            dropout_keys = population.dropout_keys(epoch, progress.steps_done)
            hyper = population.schedule.at(progress.global_step)
            with population.global_rng(epoch, progress.steps_done):
                losses = compiled_step(batch, dropout_keys, hyper)
            progress.losses.append(losses)  # on the device: reading them here would wait for it
            if checkpoints:
                checkpoints.maybe_save(lambda: _checkpoint(progress, compiled_step))
        mean_loss = _end_epoch(progress, compiled_step.state, metrics, data)
        on_epoch(progress.epoch, recipe.epochs, mean_loss)
    return progress.results(compiled_step)


@dataclass(frozen=True)
class TrainingResult:
    """The result of training a trial.

    Attributes:
        trial: the trained trial.
        net: the trained network, in evaluation mode.
        history: learning curves; finite in any case.
        divergence: why training ended early, if it diverged.
        seconds: the trial's share of the population's training time.
        compiled: whether the training step ran compiled.
        compile_error: why the step could not be compiled, if that was attempted.
    """

    trial: Trial
    net: NormalizedModel
    history: History
    divergence: str | None
    seconds: float
    compiled: bool
    compile_error: str | None = None


@dataclass
class PopulationProgress:
    """How far the training of a population has come.

    Attributes:
        population: the population in training.
        epoch: number of finished epochs.
        losses: losses of the finished steps of the current epoch; `(members,)` or 0-dimensional each.
        members: divergence and learning curves of each trial.
        compile_error: why the step could not be compiled; None if it was, or if that was not attempted.
        start: clock reading when training began.
    """

    population: Population
    epoch: int = 0
    losses: list[Tensor] = field(default_factory=list)
    members: list[MemberProgress] = field(init=False)
    compile_error: str | None = None
    start: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        trials = self.population.spec.trials
        self.members = [MemberProgress(trial=trial.id, history=History()) for trial in trials]

    @property
    def steps_done(self) -> int:
        """Number of finished steps of the current epoch."""
        return len(self.losses)

    @property
    def global_step(self) -> int:
        """Number of finished steps of all epochs."""
        return self.epoch * len(self.population.batches) + self.steps_done

    @property
    def seconds(self) -> float:
        """Time spent."""
        return time.perf_counter() - self.start

    def results(self, compiled_step: CompiledStep) -> list[TrainingResult]:
        """The result of each trial."""
        trials, seconds = self.population.spec.trials, self.seconds / self.population.n_trials
        return [
            TrainingResult(
                trial, self.population.member_net(compiled_step.state, index), member.history,
                member.divergence, seconds, compiled_step.compiled, self.compile_error,
            )
            for index, (trial, member) in enumerate(zip(trials, self.members, strict=True))
        ]  # fmt: skip


def _compile(compiled_step: CompiledStep, population: Population) -> str | None:
    """Compile the step for full batches; why that failed, if it did."""
    batch = next(population.batches.epoch(0))
    try:
        compiled_step.compile(
            batch, population.dropout_keys(0, 0), population.schedule.at(0), population.cache_key
        )
    except CompileError as error:
        return str(error)
    return None


def _restore(
    progress: PopulationProgress, compiled_step: CompiledStep, checkpoints: CheckpointManager
) -> None:
    """Continue from the checkpoint of an earlier attempt, if there is one."""
    population = progress.population
    trials = [trial.id for trial in population.spec.trials]
    environment = NumericEnvironment.current(compiled=compiled_step.compiled)
    checkpoint = checkpoints.latest(trials, environment)
    if checkpoint is None:
        return
    rows = checkpoint.rows(member.id for member in population.spec.members)
    is_stacked = population.spec.stacked
    state = restore_state(compiled_step.state, checkpoint.tensors, rows if is_stacked else None)
    compiled_step.set_state(state._replace(compute_params=population.step.compute_params(state.params)))
    losses, saved = checkpoint.tensors["losses"], checkpoint.progress
    progress.epoch, progress.losses = saved.epoch, list(losses[:, rows] if is_stacked else losses)
    progress.members = [saved.members[row] for row in checkpoint.rows(trials)]
    progress.start -= saved.seconds


def _checkpoint(progress: PopulationProgress, compiled_step: CompiledStep) -> Checkpoint:
    """The state of the training, without the copies that only fill the program."""
    population = progress.population
    tensors, losses = state_tensors(compiled_step.state), torch.stack(progress.losses)
    if population.spec.stacked:
        tensors = {name: value[: population.n_trials] for name, value in tensors.items()}
        losses = losses[:, : population.n_trials]
    saved = TrainingProgress(
        members=tuple(progress.members),
        environment=NumericEnvironment.current(compiled=compiled_step.compiled),
        epoch=progress.epoch,
        step=progress.steps_done,
        seconds=progress.seconds,
    )
    return Checkpoint(saved, {**tensors, "losses": losses})


# ---------------------------------------------------------------- the end of an epoch


def _end_epoch(
    progress: PopulationProgress, state: State, metrics: EpochMetrics, data: TrainingData
) -> float:
    """Evaluate each member that has not diverged; the mean training loss of all of them."""
    population = progress.population
    losses = torch.stack(progress.losses).reshape(progress.steps_done, -1).double()[:, : population.n_trials]
    progress.members = [
        member
        if member.divergence
        else _after_epoch(member, population.member_net(state, index), losses[:, index], metrics, data)
        for index, member in enumerate(progress.members)
    ]
    progress.epoch, progress.losses = progress.epoch + 1, []
    return float(losses.mean())


def _after_epoch(
    member: MemberProgress, net: NormalizedModel, losses: Tensor, metrics: EpochMetrics, data: TrainingData
) -> MemberProgress:
    """A member with the metrics of an epoch, or with the reason why it diverged; `losses` are `(steps,)`."""
    epoch = len(member.history.epoch) + 1
    is_finite = torch.isfinite(losses)
    if not bool(is_finite.all()):
        step = int((~is_finite).nonzero()[0]) + 1
        return member.diverge(f"the loss became NaN or infinite in epoch {epoch}, step {step}")
    point = {"epoch": epoch, "train_loss": float(losses.mean())} | metrics.after_epoch(net)
    if not _is_finite(net, point, data):  # because of the last step, after its loss was computed
        return member.diverge(f"the loss became NaN or infinite after epoch {epoch}")
    return member.model_copy(update={"history": member.history.append(point)})


def _is_finite(net: NormalizedModel, point: Mapping[str, float | int], data: TrainingData) -> bool:
    first = torch.arange(len(data.train))[:10]  # there may be no validation images, and so no loss
    with torch.inference_mode():
        finite = torch.isfinite(net(data.train.images(first))).all()
    return bool(finite) and all(map(math.isfinite, point.values()))

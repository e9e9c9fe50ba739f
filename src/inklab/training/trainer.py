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
from inklab.training.population import Population, PopulationJob
from inklab.training.step import State

OnEpoch = Callable[[int, int, float], None]
"""Called with (epoch from 1, epochs, mean training loss) after each epoch."""


def train_population(
    job: PopulationJob,
    data: TrainingData,
    on_epoch: OnEpoch = lambda *_: None,
    checkpoints: CheckpointManager | None = None,
) -> list["TrainingResult"]:
    """Train every trial of a job.

    The result of a trial depends on its configuration, its replicate, the root seed and the data, to the bit;
    not on the other trials, nor on interruptions.

    Args:
        job: what to train.
        data: all images.
        on_epoch: called after each epoch.
        checkpoints: where they are written, and where earlier ones lie to continue from; None for none.

    Returns:
        One result for each trial, in their order.

    Raises:
        TrainingInterrupted: a stop was requested through `checkpoints`.
        WriteError: a checkpoint can't be written.
    """
    if len(job.trials) > 1 and not job.stacked:
        return _train_one_by_one(job, data, on_epoch, checkpoints)

    population = Population.build(job, data)
    progress = PopulationProgress(population)
    step = CompiledStep(population.step, population.init_state)
    if job.compiled:
        progress.compile_error = _compile(step, population)
    if checkpoints:
        _restore(progress, step, checkpoints)

    recipe, precision = population.recipe, population.config.precision
    metrics = EpochMetrics(population.step.objective, data, recipe, Seed(job.seed), precision)
    while progress.epoch < recipe.epochs and not all(member.divergence for member in progress.members):
        epoch = progress.epoch
        for batch in population.batches.epoch(epoch, skip=progress.step):
            dropout_keys = population.dropout_keys(epoch, progress.step)
            hyper = population.schedule.at(progress.global_step)
            with population.global_rng(epoch, progress.step):
                losses = step(batch, dropout_keys, hyper)
            progress.losses.append(losses)  # on the device: reading them here would wait for it
            if checkpoints:
                checkpoints.maybe_save(lambda: _checkpoint(progress, step))
        mean_loss = _end_epoch(progress, step.state, metrics, data)
        on_epoch(progress.epoch, recipe.epochs, mean_loss)
    return progress.results(step)


def _train_one_by_one(
    job: PopulationJob, data: TrainingData, on_epoch: OnEpoch, checkpoints: CheckpointManager | None
) -> list["TrainingResult"]:
    def train(trial: Trial) -> TrainingResult:
        own = checkpoints.subfolder(trial.id) if checkpoints else None
        return train_population(replace(job, trials=[trial]), data, on_epoch, own)[0]

    return [train(trial) for trial in job.trials]


@dataclass(frozen=True)
class TrainingResult:
    """The result of training a trial.

    Attributes:
        trial: that was trained.
        net: in evaluation mode.
        history: learning curves; finite in any case.
        divergence: why training ended early, if it diverged.
        seconds: its share of the population's time.
        compiled: whether its step ran compiled.
        compile_error: why it did not, if that was attempted.
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
        population: that is trained.
        epoch: finished epochs.
        losses: of the steps of the epoch that is under way; `(members,)` or 0-dimensional each.
        members: divergence and learning curves of each trial.
        compile_error: why its step could not be compiled.
        start: of the clock that measures the time spent.
    """

    population: Population
    epoch: int = 0
    losses: list[Tensor] = field(default_factory=list)
    members: list[MemberProgress] = field(init=False)
    compile_error: str | None = None
    start: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        trials = self.population.job.trials
        self.members = [MemberProgress(trial=trial.id, history=History()) for trial in trials]

    @property
    def step(self) -> int:
        """Finished steps of the epoch that is under way."""
        return len(self.losses)

    @property
    def global_step(self) -> int:
        """Finished steps of all epochs."""
        return self.epoch * len(self.population.batches) + self.step

    @property
    def seconds(self) -> float:
        """Time spent."""
        return time.perf_counter() - self.start

    def results(self, step: CompiledStep) -> list[TrainingResult]:
        """The result of each trial."""
        trials, seconds = self.population.job.trials, self.seconds / self.population.n_trials
        return [
            TrainingResult(
                trial, self.population.member_net(step.state, index), member.history, member.divergence,
                seconds, step.compiled, self.compile_error,
            )
            for index, (trial, member) in enumerate(zip(trials, self.members, strict=True))
        ]  # fmt: skip


def _compile(step: CompiledStep, population: Population) -> str | None:
    """Compile the step for full batches; why that failed, if it did."""
    batch = next(population.batches.epoch(0))
    try:
        step.compile(batch, population.dropout_keys(0, 0), population.schedule.at(0), population.cache_key)
    except CompileError as error:
        return str(error)
    return None


def _restore(progress: PopulationProgress, step: CompiledStep, checkpoints: CheckpointManager) -> None:
    """Continue from the checkpoint of an earlier attempt, if there is one."""
    population = progress.population
    trials = [trial.id for trial in population.job.trials]
    environment = NumericEnvironment.current(compiled=step.compiled)
    checkpoint = checkpoints.latest(trials, environment)
    if checkpoint is None:
        return
    rows = checkpoint.rows(member.id for member in population.job.members)
    is_stacked = population.job.stacked
    state = restore_state(step.state, checkpoint.tensors, rows if is_stacked else None)
    step.set_state(state._replace(compute_params=population.step.compute_params(state.params)))
    losses, saved = checkpoint.tensors["losses"], checkpoint.progress
    progress.epoch, progress.losses = saved.epoch, list(losses[:, rows] if is_stacked else losses)
    progress.members = [saved.members[row] for row in checkpoint.rows(trials)]
    progress.start -= saved.seconds


def _checkpoint(progress: PopulationProgress, step: CompiledStep) -> Checkpoint:
    """The state of the training, without the copies that only fill the program."""
    population = progress.population
    tensors, losses = state_tensors(step.state), torch.stack(progress.losses)
    if population.job.stacked:
        tensors = {name: value[: population.n_trials] for name, value in tensors.items()}
        losses = losses[:, : population.n_trials]
    saved = TrainingProgress(
        members=tuple(progress.members),
        environment=NumericEnvironment.current(compiled=step.compiled),
        epoch=progress.epoch,
        step=progress.step,
        seconds=progress.seconds,
    )
    return Checkpoint(saved, {**tensors, "losses": losses})


# ---------------------------------------------------------------- the end of an epoch


def _end_epoch(
    progress: PopulationProgress, state: State, metrics: EpochMetrics, data: TrainingData
) -> float:
    """Evaluate each member that has not diverged; the mean training loss of all of them."""
    population = progress.population
    losses = torch.stack(progress.losses).reshape(progress.step, -1).double()[:, : population.n_trials]
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
    """A member with the metrics of an epoch, or with the reason why it diverged.

    Args:
        member: before.
        net: at the end of the epoch.
        losses: `(steps,)` of the member in this epoch.
        metrics: evaluates the network.
        data: all images.
    """
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

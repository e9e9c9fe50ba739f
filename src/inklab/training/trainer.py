"""The training loop: epochs of steps over a population, learning curves, and divergence as an outcome."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from inklab.networks.layers import NormalizedModel
from inklab.records.outcomes import History
from inklab.records.plan import Trial
from inklab.records.recipe import EarlyStopping
from inklab.seeding import Seed
from inklab.training.accelerators import device_name, prepare
from inklab.training.batches import TrainingData
from inklab.training.checkpoint import (
    KEPT,
    Checkpoint,
    CheckpointManager,
    MemberProgress,
    NumericEnvironment,
    TrainingProgress,
    restore_kept,
    restore_state,
    state_tensors,
)
from inklab.training.compiled import CompiledStep, CompileError
from inklab.training.evaluate import EpochMetrics
from inklab.training.optimizers import Tensors
from inklab.training.population import Population, PopulationSpec
from inklab.training.step import State

OnEpoch = Callable[[int, int, float], None]
"""Called with (epoch from 1, epochs, mean training loss) after each epoch."""

OnMember = Callable[[Trial, NormalizedModel, History], None]
"""Called after each epoch of a trial with its network, a copy, and its learning curves so far."""


def train_population(
    spec: PopulationSpec,
    data: TrainingData,
    on_epoch: OnEpoch = lambda *_: None,
    checkpoints: CheckpointManager | None = None,
    on_member: OnMember = lambda *_: None,
) -> list["TrainingResult"]:
    """Train every trial of a population.

    The result of a trial depends on its configuration, its replicate, the root seed, the data and the device,
    to the bit; not on the other trials, nor on interruptions. On a GPU that is so as far as `device_check.py`
    finds it there. Everything lies on the device; the host waits for it once an epoch, and for checkpoints.

    With early stopping, a trial that stops keeps its weights while the others go on.

    Checkpoints are saved through `checkpoints`, and the latest one is restored. `on_member` may look at each
    trial's network after each epoch.

    Returns:
        One result for each trial, in their order; its network lies on the device.

    Raises:
        TrainingInterrupted: a stop was requested through `checkpoints`.
        WriteError: a checkpoint can't be written.
    """
    if len(spec.trials) > 1 and not spec.stacked:
        return [
            result
            for trial in spec.trials
            for result in train_population(
                replace(spec, trials=[trial]),
                data,
                on_epoch,
                checkpoints and checkpoints.subfolder(trial.id),
                on_member,
            )
        ]

    data = data.to(prepare(spec.device))
    population = Population.build(spec, data)
    progress = PopulationProgress(population)
    compiled_step = CompiledStep(population.step, population.init_state)
    if spec.compiled:
        progress.compile_error = _compile(compiled_step, population)
    if checkpoints:
        _restore(progress, compiled_step, checkpoints)

    recipe, precision = population.recipe, population.config.precision
    metrics = EpochMetrics(population.step.objective, data, recipe, Seed(spec.seed), precision)
    while progress.epoch < recipe.epochs and progress.active:
        epoch = progress.epoch
        for batch in population.batches.epoch(epoch, skip=progress.steps_done):
            dropout_keys = population.dropout_keys(epoch, progress.steps_done)
            hyper = population.schedule.at(progress.global_step)
            with population.global_rng(epoch, progress.steps_done):
                losses = compiled_step(batch, dropout_keys, hyper)
            progress.losses.append(losses)  # on the device: reading them here would wait for it
            if checkpoints:
                checkpoints.maybe_save(lambda: _checkpoint(progress, compiled_step))
        mean_loss = _end_epoch(progress, compiled_step.state, metrics, data, on_member)
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
        kept: with early stopping, the tensors of each trial's network that its result has: those of its best
            epoch so far, or of its last; they lead with trials if these are stacked.
        compile_error: why the step could not be compiled; None if it was, or if that was not attempted.
        start: clock reading when training began.
    """

    population: Population
    epoch: int = 0
    losses: list[Tensor] = field(default_factory=list)
    members: list[MemberProgress] = field(init=False)
    kept: Tensors = field(init=False)
    compile_error: str | None = None
    start: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        trials = self.population.spec.trials
        self.members = [MemberProgress(trial=trial.id, history=History()) for trial in trials]
        initial = self._trial_tensors(self.population.init_state) if self.early_stopping else {}
        self.kept = {name: value.clone() for name, value in initial.items()}

    @property
    def early_stopping(self) -> EarlyStopping | None:
        """When trials stop before the last epoch; the same for all of them."""
        return self.population.recipe.early_stopping

    @property
    def active(self) -> list[int]:
        """The trials whose training has not ended, by index."""
        return [index for index, member in enumerate(self.members) if not self._has_ended(member)]

    def _has_ended(self, member: MemberProgress) -> bool:
        values = self.watched(member)
        return bool(member.divergence or (self.early_stopping and self.early_stopping.is_over(values)))

    def watched(self, member: MemberProgress) -> Sequence[float]:
        """The values of the metric that decides when a member stops; () without early stopping."""
        rule = self.early_stopping
        return member.history.values(rule.metric) if rule else ()

    def _trial_tensors(self, state: State) -> Tensors:
        tensors = self.population.net_tensors(state)
        if not self.population.spec.stacked:
            return tensors
        return {name: value[: self.population.n_trials] for name, value in tensors.items()}

    def keep(self, state: State, index: int) -> None:
        """Let the network of a trial be the one of this state."""
        for name, value in self._trial_tensors(state).items():
            if self.population.spec.stacked:
                self.kept[name][index] = value[index]
            else:
                self.kept[name].copy_(value)

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
                trial, self._result_net(compiled_step.state, index), member.history,
                member.divergence, seconds, compiled_step.compiled, self.compile_error,
            )
            for index, (trial, member) in enumerate(zip(trials, self.members, strict=True))
        ]  # fmt: skip

    def _result_net(self, state: State, index: int) -> NormalizedModel:
        # One that diverged is as it is: its best weights are no result.
        if self.kept and not self.members[index].divergence:
            return self.population.net_with(self.kept, index)
        return self.population.member_net(state, index)


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
    environment = _environment(population, compiled_step)
    checkpoint = checkpoints.latest(trials, environment)
    if checkpoint is None:
        return
    rows = checkpoint.rows(member.id for member in population.spec.members)
    is_stacked = population.spec.stacked
    state = restore_state(compiled_step.state, checkpoint.tensors, rows if is_stacked else None)
    compiled_step.set_state(state._replace(compute_params=population.step.compute_params(state.params)))
    losses, saved = checkpoint.tensors["losses"].to(population.spec.torch_device), checkpoint.progress
    progress.epoch, progress.losses = saved.epoch, list(losses[:, rows] if is_stacked else losses)
    trial_rows = checkpoint.rows(trials)
    progress.members = [saved.members[row] for row in trial_rows]
    progress.kept = restore_kept(progress.kept, checkpoint.tensors, trial_rows if is_stacked else None)
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
        environment=_environment(population, compiled_step),
        epoch=progress.epoch,
        step=progress.steps_done,
        seconds=progress.seconds,
    )
    kept = {f"{KEPT}/{name}": value for name, value in progress.kept.items()}
    return Checkpoint(saved, {**tensors, **kept, "losses": losses})


def _environment(population: Population, compiled_step: CompiledStep) -> NumericEnvironment:
    name = device_name(population.spec.torch_device)
    return NumericEnvironment.current(compiled=compiled_step.compiled, device=name)


# ---------------------------------------------------------------- the end of an epoch


def _end_epoch(
    progress: PopulationProgress,
    state: State,
    metrics: EpochMetrics,
    data: TrainingData,
    on_member: OnMember,
) -> float:
    """Evaluate each member whose training has not ended; the mean training loss of all but stopped ones."""
    population, members, rule = progress.population, progress.members, progress.early_stopping
    on_host = torch.stack(progress.losses).cpu()  # the one read of an epoch that waits for the device
    losses = on_host.reshape(progress.steps_done, -1).double()[:, : population.n_trials]
    active = progress.active
    not_stopped = [index for index, member in enumerate(members) if index in active or member.divergence]
    for index in active:
        net = population.member_net(state, index)
        member = members[index] = _after_epoch(members[index], net, losses[:, index], metrics, data)
        values = progress.watched(member)
        if rule and not (rule.restore_best and rule.best_epoch(values) < len(values)):
            progress.keep(state, index)
        if not member.divergence:
            on_member(population.spec.trials[index], net, member.history)
    progress.epoch, progress.losses = progress.epoch + 1, []
    return float(losses[:, not_stopped].mean())


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
    # Training images, since there may be no validation images, and so no loss of them.
    first = torch.arange(min(10, len(data.train)), device=data.train.device)
    with torch.inference_mode():
        finite = torch.isfinite(net(data.train.images(first))).all()
    return bool(finite) and all(map(math.isfinite, point.values()))

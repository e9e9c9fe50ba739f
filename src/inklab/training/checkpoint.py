"""Checkpoints: the state of a training on disk, such that any crash leaves a complete one behind.

A checkpoint is a directory: `state.safetensors`, `state.json`, and `commit.json`, which holds the SHA-256 of
both and is written last. Two are kept, so that a damaged one costs little. They hold counters and no states
of generators: every draw is a function of a path of names (`seeding.py`).
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from inklab.errors import CorruptFileError, DataError
from inklab.hardware import cpu_name, cpuinfo_field
from inklab.io.files import json_text, read_bytes_capped, sha256_of, write_atomic
from inklab.io.tensor_file import MAX_FILE_BYTES, check_header
from inklab.records.execution import CPU
from inklab.records.outcomes import History
from inklab.records.record import Count, FailFast, Id, NonNegative, PositiveCount, Record, Sha256
from inklab.training.checkpoint_files import (
    COMMIT_FILE,
    STATE_FILE,
    TENSORS_FILE,
    list_checkpoints,
    prune_checkpoints,
)
from inklab.training.optimizers import Tensors
from inklab.training.step import State

KEPT = "kept"
"""Group of the tensors that results of trials with early stopping have."""

CHECKPOINT_INTERVAL_SECONDS = 30.0
"""Of training that a crash may cost."""

MAX_TIME_SHARE = 0.01
"""Of the time of training: where a checkpoint takes longer than 0.3 s, there are fewer."""

POLL_INTERVAL_SECONDS = 0.02
"""Between two questions whether to stop; each asks the runner, which takes 10 us."""


class TrainingInterrupted(Exception):  # noqa: N818 - an outcome like KeyboardInterrupt, not an error
    """A training was stopped on request, and has left a checkpoint."""


class NumericEnvironment(Record):
    """What bits depend on besides a trial's id. Training never continues from a checkpoint of another one.

    Attributes:
        torch: version.
        cpu: hash of the processor's name and instruction sets.
        threads: number of threads that compute.
        compiled: whether the step is compiled.
        device: "cpu", or the name of the GPU.
    """

    torch: str
    cpu: str
    threads: PositiveCount
    compiled: bool
    device: str = CPU

    @classmethod
    def current(cls, *, compiled: bool, device: str = CPU) -> "NumericEnvironment":
        """The environment of this process."""
        cpu = sha256_of(f"{cpu_name()} {cpuinfo_field('flags')}".encode())[:12]
        return cls(
            torch=str(torch.__version__), cpu=cpu, threads=torch.get_num_threads(), compiled=compiled,
            device=device,
        )  # fmt: skip

    def differences(self, current: "NumericEnvironment") -> str:
        """What differs now, as text; "" if nothing does."""
        pairs = ((name, value, getattr(current, name)) for name, value in self)
        return ", ".join(f"{name} {value}, now {now}" for name, value, now in pairs if value != now)


class MemberProgress(Record):
    """How far a trial has come.

    Attributes:
        trial: its id.
        history: learning curves so far.
        divergence: why it ended, if it diverged.
    """

    trial: Id
    history: History
    divergence: str | None = None

    def diverge(self, reason: str) -> "MemberProgress":
        """The same member, whose training ends."""
        return self.model_copy(update={"divergence": reason})


class TrainingProgress(Record):
    """How far a training has come (`state.json`).

    Attributes:
        format: 2.
        members: the trials that are trained together; tensors lead with them if they are stacked.
        environment: what the numbers depend on besides the trials.
        epoch: finished epochs.
        step: finished steps of the epoch that is under way.
        seconds: spent so far.
    """

    format: Literal[2] = 2
    members: Annotated[tuple[MemberProgress, ...], FailFast, Field(min_length=1)]
    environment: NumericEnvironment
    epoch: Count
    step: Count
    seconds: NonNegative

    @property
    def trials(self) -> tuple[str, ...]:
        """Ids of the members."""
        return tuple(member.trial for member in self.members)


class CheckpointCommit(Record):
    """Marks a checkpoint as complete (`commit.json`)."""

    tensors_sha256: Sha256
    state_sha256: Sha256


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training.

    Attributes:
        progress: counters and learning curves.
        tensors: weights, buffers, the optimizer's state and averaged weights, named as by `state_tensors`;
            with early stopping, those that results have, as "kept/..."; and "losses" of the steps taken in
            the epoch that is under way: `(steps, members)`, or `(steps,)`.
    """

    progress: TrainingProgress
    tensors: Tensors

    def rows(self, trials: Iterable[str]) -> list[int]:
        """The index of each of some trials among the members."""
        return [self.progress.trials.index(trial) for trial in trials]


# ---------------------------------------------------------------- states as named tensors


def state_tensors(state: State) -> Tensors:
    """The tensors of a state by name, without those that are computed from others."""
    groups = {"params": state.params, "buffers": state.buffers, "average": state.average}
    groups |= {f"optimizer/{key}": tensors for key, tensors in state.optimizer_state.items()}
    return {f"{group}/{name}": value for group, tensors in groups.items() for name, value in tensors.items()}


def restore_state(like: State, tensors: Tensors, rows: Sequence[int] | None) -> State:
    """The state that tensors describe, without `compute_params`.

    `like` gives names, shapes and memory layout. `rows` has each member's index in the tensors; None if they
    are not stacked.

    Raises:
        CorruptFileError: they are not the tensors of such a state.
    """

    def copy(group: str, old: Tensors) -> Tensors:
        return _restore_group(group, old, tensors, rows)

    optimizer_state = {key: copy(f"optimizer/{key}", old) for key, old in like.optimizer_state.items()}
    params, buffers = copy("params", like.params), copy("buffers", like.buffers)
    return State(params, {}, buffers, optimizer_state, copy("average", like.average))


def restore_kept(like: Tensors, tensors: Tensors, rows: Sequence[int] | None) -> Tensors:
    """The tensors that results have, as `restore_state`; `rows` are those of the trials.

    Raises:
        CorruptFileError: as of `restore_state`.
    """
    return _restore_group(KEPT, like, tensors, rows)


def _restore_group(group: str, like: Tensors, tensors: Tensors, rows: Sequence[int] | None) -> Tensors:
    def copy_tensor(name: str, old: Tensor) -> Tensor:
        value = tensors.get(name)
        if value is not None and rows is not None:
            value = value[list(rows)]
        if value is None or value.shape != old.shape or value.dtype != old.dtype:
            raise CorruptFileError(f"a checkpoint has no '{name}' of the shape {tuple(old.shape)}")
        return torch.empty_like(old).copy_(value)

    return {name: copy_tensor(f"{group}/{name}", tensor) for name, tensor in like.items()}


# ---------------------------------------------------------------- where: files


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint and delete all but the last two.

    Returns:
        Its directory, named by epochs and steps.

    Raises:
        WriteError: the disk refuses; the older checkpoints are still there.
    """
    progress = checkpoint.progress
    path = folder / f"{progress.epoch:06d}-{progress.step:09d}"
    (path / COMMIT_FILE).unlink(missing_ok=True)  # the same one again: incomplete until it is written
    tensors = save_tensors({name: value.detach().contiguous() for name, value in checkpoint.tensors.items()})
    state = json_text(progress.to_json()).encode()
    write_atomic(path / TENSORS_FILE, tensors)
    write_atomic(path / STATE_FILE, state)
    commit = CheckpointCommit(tensors_sha256=sha256_of(tensors), state_sha256=sha256_of(state))
    commit.write(path / COMMIT_FILE)
    prune_checkpoints(folder)
    return path


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a complete checkpoint, checking every byte.

    Raises:
        CorruptFileError: it is damaged.
        DataError: the system doesn't let it be read.
    """
    try:
        commit = CheckpointCommit.read(path / COMMIT_FILE)
        hashes = {TENSORS_FILE: commit.tensors_sha256, STATE_FILE: commit.state_sha256}
        tensors, state = (read_bytes_capped(path / name, MAX_FILE_BYTES) for name in hashes)
    except OSError as error:
        raise CorruptFileError(f"'{error.filename}' can't be read: {error.strerror}") from error
    for raw, (name, sha256) in zip((tensors, state), hashes.items(), strict=True):
        if sha256_of(raw) != sha256:
            raise CorruptFileError(f"'{path / name}' is damaged: its SHA-256 is not the one in {COMMIT_FILE}")
    progress = TrainingProgress.parse_json(state, f"'{path / STATE_FILE}'")
    return Checkpoint(progress, load_tensors(check_header(tensors, str(path / TENSORS_FILE))))


# ---------------------------------------------------------------- when and where


@dataclass
class CheckpointManager:
    """The checkpoints of one training: of this attempt, and of earlier ones to continue from.

    Args:
        folder: of this attempt.
        earlier_attempts: folders of earlier attempts.
        on_warning: called with what could not be used, in one line.
        interval: seconds between two checkpoints; by default 30, or more to keep below 1% of the time.
        should_stop: whether the training is to end; asked between steps.
        poll_interval: least seconds between two such questions.
        on_write: called with the directory of each checkpoint that is written.
    """

    folder: Path
    earlier_attempts: Sequence[Path] = ()
    on_warning: Callable[[str], None] = lambda message: None
    interval: float | None = None
    should_stop: Callable[[], bool] = lambda: False
    poll_interval: float = POLL_INTERVAL_SECONDS
    on_write: Callable[[Path], None] = lambda path: None

    def __post_init__(self) -> None:
        self._next_poll = 0.0
        self._schedule_save(0.0)

    def _schedule_save(self, seconds: float) -> None:
        """Set the time of the next checkpoint, given the seconds that one takes."""
        interval = self.interval
        if interval is None:
            interval = max(CHECKPOINT_INTERVAL_SECONDS, seconds / MAX_TIME_SHARE)
        self._next_save = time.monotonic() + interval

    def subfolder(self, name: str) -> "CheckpointManager":
        """The manager for one of several trainings, whose checkpoints are kept apart."""
        earlier = [folder / name for folder in self.earlier_attempts]
        return replace(self, folder=self.folder / name, earlier_attempts=earlier)

    def maybe_save(self, make_checkpoint: Callable[[], Checkpoint]) -> None:
        """Write a checkpoint if it is time; called after every step.

        Raises:
            TrainingInterrupted: the training was asked to stop; the checkpoint is written.
            WriteError: the disk refuses.
        """
        start = time.monotonic()
        if start < self._next_poll:
            return
        self._next_poll = start + self.poll_interval
        stopping = self.should_stop()
        if stopping or start >= self._next_save:
            self.write(make_checkpoint())
            self._schedule_save(time.monotonic() - start)
        if stopping:
            raise TrainingInterrupted

    def write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; with two of this attempt, those of earlier attempts are deleted.

        Raises:
            WriteError: the disk refuses.
        """
        path = write_checkpoint(self.folder, checkpoint)
        if prune_checkpoints(self.folder, self.earlier_attempts):
            self.earlier_attempts = ()
        self.on_write(path)

    def latest(self, trials: Sequence[str], environment: NumericEnvironment) -> Checkpoint | None:
        """The checkpoint to continue from: the furthest complete one that holds these trials.

        Those that are damaged, or from another environment, are skipped with one warning.
        """
        problems: list[str] = []
        candidates = list_checkpoints(self.earlier_attempts)
        for path in sorted(candidates, key=lambda path: path.name, reverse=True):
            try:
                checkpoint = read_checkpoint(path)
            except DataError as error:
                problems.append(str(error))
                continue
            if not set(trials) <= set(checkpoint.progress.trials):
                continue
            differences = checkpoint.progress.environment.differences(environment)
            if not differences:
                self._warn(problems, f"training continues from epoch {checkpoint.progress.epoch + 1}")
                return checkpoint
            problems.append(f"'{path}' was computed with {differences}, which may give other bits")
        self._warn(problems, "training starts again")
        return None

    def _warn(self, problems: Sequence[str], consequence: str) -> None:
        if problems:
            self.on_warning(f"{'; '.join(problems)}: {consequence}")

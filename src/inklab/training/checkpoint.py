"""Checkpoints: where a training stands, kept so that any crash leaves a whole one behind.

A generation is a folder: `state.safetensors`, `state.json`, and `COMMIT`, which holds the SHA-256 of both and
is written last. Two generations are kept, so that one that is damaged costs little. There are counters in it
and no states of generators: every draw is a function of names and places (`seeding.py`).
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from inklab.errors import CorruptFileError, DataError
from inklab.hardware import cpu_name, cpuinfo_field
from inklab.io.atomic import write_atomic
from inklab.io.documents import json_text, parse_json, read_json, sha256_of, write_json
from inklab.io.tensor_file import check_header, read_capped
from inklab.training.optimizers import Tensors
from inklab.training.step import State

FORMAT = 1
TENSORS_FILE, STATE_FILE, COMMIT_FILE = "state.safetensors", "state.json", "COMMIT"
KEPT_CHECKPOINTS = 2
CHECKPOINT_INTERVAL = 30.0  # seconds of training that a crash may cost
MAX_TIME_SHARE = 0.01  # of the time: where a checkpoint takes longer than 0.3 s, they are made less often
POLL_INTERVAL = (
    0.02  # seconds between two looks at the clock's business; a look asks the driver, which costs 10 us
)


class TrainingInterrupted(Exception):
    """A training was asked to stop, and has left a checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stands.

    Attributes:
        trials: ids of its members; tensors lead with them if the training is lifted.
        made_with: what bits depend on besides the trials: torch, processor, threads, whether compiled.
        epoch: epochs that are finished.
        histories: learning curves so far, one a member.
        diverged: why a member ended, or None.
        seconds: spent so far.
        tensors: masters, buffers and the optimiser's memory, as `state_tensors` names them, and "losses" of
            the steps taken in the epoch that is under way: `(steps, members)`, or `(steps,)`.
    """

    trials: Sequence[str]
    made_with: dict[str, Any]
    epoch: int
    histories: Sequence[dict[str, list[float | int]]]
    diverged: Sequence[str | None]
    seconds: float
    tensors: Tensors

    @property
    def progress(self) -> tuple[int, int]:
        """Epochs, and steps in the epoch that is under way."""
        return self.epoch, len(self.tensors["losses"])


def numeric_environment(*, compiled: bool) -> dict[str, Any]:
    """What bits depend on besides a trial's id. A checkpoint made with something else is not gone on from."""
    return {
        "torch": torch.__version__,
        "processor": sha256_of(f"{cpu_name()} {cpuinfo_field('flags')}".encode())[:12],
        "threads": torch.get_num_threads(),
        "compiled": compiled,
    }


def state_tensors(state: State) -> Tensors:
    """A state's tensors by name, but those that are computed from others."""
    memory = {f"memory/{key}/{name}": t for key, each in state.memory.items() for name, t in each.items()}
    named = {f"params/{name}": t for name, t in state.params.items()}
    return {**named, **{f"buffers/{name}": t for name, t in state.buffers.items()}, **memory}


def state_of(like: State, tensors: Tensors, places: Sequence[int] | None) -> State:
    """The state that tensors describe, laid out in memory like another; `working` is still to be computed.

    Args:
        like: gives names, shapes and layout.
        tensors: as of `state_tensors`.
        places: of each slot among the members that the tensors lead with; None if not lifted.

    Raises:
        CorruptFileError: they are not those of such a state.
    """

    def laid_out(name: str, old: Tensor) -> Tensor:
        value = tensors.get(name)
        if value is not None and places is not None:
            value = value[list(places)]
        if value is None or value.shape != old.shape or value.dtype != old.dtype:
            raise CorruptFileError(f"a checkpoint has no '{name}' of the shape {tuple(old.shape)}")
        return torch.empty_like(old).copy_(value)

    return State(
        {name: laid_out(f"params/{name}", old) for name, old in like.params.items()},
        {},
        {name: laid_out(f"buffers/{name}", old) for name, old in like.buffers.items()},
        {
            key: {name: laid_out(f"memory/{key}/{name}", old) for name, old in each.items()}
            for key, each in like.memory.items()
        },
    )


@dataclass
class CheckpointManager:
    """Decides when a training is checkpointed, and where.

    Args:
        folder: for this training's generations.
        before: generations of earlier attempts, which it may go on from.
        every: seconds between two checkpoints; by default 30, or more to keep below 1 % of the time.
        asked_to_stop: whether the training is to end; asked after steps, at most every `POLL_INTERVAL`
            seconds.
        warn: told what could not be gone on from.
    """

    folder: Path
    before: Sequence[Path] = ()
    every: float | None = None
    asked_to_stop: Callable[[], bool] = lambda: False
    warn: Callable[[str], None] = lambda text: None
    look: float = POLL_INTERVAL
    _due: float = field(default=0.0, init=False)
    _next_look: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._due = time.monotonic() + (CHECKPOINT_INTERVAL if self.every is None else self.every)

    def maybe_save(self, standing: Callable[[], Checkpoint]) -> None:
        """Write a checkpoint if it is time; called after every step.

        Args:
            standing: tells where the training stands.

        Raises:
            TrainingInterrupted: it was asked to stop; the checkpoint is written.
            WriteError: the disk refuses.
        """
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + self.look
        stopping = self.asked_to_stop()
        if stopping or now >= self._due:
            write_checkpoint(self.folder, standing())
            spent = time.monotonic() - now
            pause = max(CHECKPOINT_INTERVAL, spent / MAX_TIME_SHARE) if self.every is None else self.every
            self._due = time.monotonic() + pause
            self._forget_earlier_attempts()
        if stopping:
            raise TrainingInterrupted

    def _forget_earlier_attempts(self) -> None:
        """Keep the disk from filling with every stop: two generations of this attempt serve as well."""
        if len(list_checkpoints([self.folder])) == KEPT_CHECKPOINTS:
            for generation in list_checkpoints(self.before):
                _delete(generation)
            self.before = ()

    def for_group(self, name: str) -> "CheckpointManager":
        """A keeper for one of several trainings, which keep their generations apart."""
        return replace(self, folder=self.folder / name, before=[each / name for each in self.before])

    def latest(self, trials: Sequence[str], made: dict[str, Any]) -> Checkpoint | None:
        """The checkpoint to go on from: the furthest whole one that holds these trials, if there is any.

        What is damaged, or was made with something else, is told once and left aside.
        """
        troubles: list[str] = []
        for generation in sorted(list_checkpoints(self.before), key=lambda each: each.name, reverse=True):
            try:
                found = read_checkpoint(generation)
            except DataError as error:
                troubles.append(str(error))
                continue
            if not set(trials) <= set(found.trials):
                continue
            if found.made_with == made:
                self._warn(troubles, f"training goes on from epoch {found.epoch + 1}")
                return found
            troubles.append(_environment_mismatch(generation, found.made_with, made))
        self._warn(troubles, "training begins anew")
        return None

    def _warn(self, troubles: Sequence[str], so: str) -> None:
        if troubles:
            self.warn(f"{'; '.join(troubles)}: {so}")


def _environment_mismatch(generation: Path, then: dict[str, Any], now: dict[str, Any]) -> str:
    differing = [f"{key} {then.get(key)}, now {now[key]}" for key in now if then.get(key) != now[key]]
    return f"'{generation}' was made with {', '.join(differing)}, which may give other bits"


def list_checkpoints(folders: Iterable[Path]) -> list[Path]:
    """The finished generations in some folders; one without COMMIT was never finished."""
    return sorted(path.parent for folder in folders for path in folder.glob(f"*/{COMMIT_FILE}"))


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a generation and delete those that are two older.

    Returns:
        Its folder, named by epochs and steps so that names sort by progress.

    Raises:
        WriteError: the disk refuses; the older generations are still there.
    """
    epoch, step = checkpoint.progress
    generation = folder / f"{epoch:06d}-{step:09d}"
    told = {
        "format": FORMAT, "trials": list(checkpoint.trials), "made_with": checkpoint.made_with,
        "epoch": epoch, "step": step, "histories": list(checkpoint.histories),
        "diverged": list(checkpoint.diverged), "seconds": checkpoint.seconds,
    }  # fmt: skip
    (generation / COMMIT_FILE).unlink(missing_ok=True)  # the same place again: not finished until it is
    tensors = {name: value.detach().contiguous() for name, value in checkpoint.tensors.items()}
    contents = {TENSORS_FILE: save_tensors(tensors), STATE_FILE: json_text(told).encode()}
    for name, raw in contents.items():
        write_atomic(generation / name, raw)
    write_json(generation / COMMIT_FILE, {name: sha256_of(raw) for name, raw in contents.items()})
    for old in list_checkpoints([folder])[:-KEPT_CHECKPOINTS]:
        _delete(old)
    return generation


def _delete(generation: Path) -> None:
    """Delete a generation; what is left of one if that is cut off does not look finished."""
    (generation / COMMIT_FILE).unlink(missing_ok=True)
    rmtree(generation, ignore_errors=True)


def read_checkpoint(generation: Path) -> Checkpoint:
    """Read a finished generation, checking every byte.

    Raises:
        CorruptFileError: it is damaged.
        DataError: the system doesn't let it be read.
    """
    try:
        hashes = read_json(generation / COMMIT_FILE)
        contents = {name: read_capped(generation / name) for name in (TENSORS_FILE, STATE_FILE)}
    except OSError as error:
        raise CorruptFileError(f"'{error.filename}' can't be read: {error.strerror}") from error
    for name, raw in contents.items():
        if not isinstance(hashes, dict) or hashes.get(name) != sha256_of(raw):
            raise CorruptFileError(
                f"'{generation / name}' is damaged: its SHA-256 is not the one in {COMMIT_FILE}"
            )
    told = parse_json(contents[STATE_FILE], str(generation / STATE_FILE))
    if not (isinstance(told, dict) and told.get("format") == FORMAT and _has(told, FIELDS)):
        raise CorruptFileError(f"'{generation / STATE_FILE}' is not a checkpoint of format {FORMAT}")
    tensors = load_tensors(check_header(contents[TENSORS_FILE], str(generation / TENSORS_FILE)))
    return Checkpoint(**{name: told[name] for name in FIELDS}, tensors=tensors)


FIELDS = {
    "trials": list, "made_with": dict, "epoch": int, "histories": list, "diverged": list, "seconds": float,
}  # fmt: skip


def _has(told: dict[str, Any], fields: dict[str, type]) -> bool:
    return all(isinstance(told.get(name), kind) for name, kind in fields.items())

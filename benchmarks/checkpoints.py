"""What checkpoints cost: the same training with one each second and with none, in turns; and one alone.

One a second is thirty times as often as by default, so that what it costs can be told from the machine's own
ups and downs; the default costs a thirtieth of it.
"""

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from benchmarks.driver import WORK
from benchmarks.images import lay_out
from benchmarks.storing import Json, machine, note, store
from benchmarks.training import data_of, group_of, train
from benchmarks.works import WORKS
from inklab.hardware import disable_malloc_trim, preferred_dtype
from inklab.training.batches import TrainingData
from inklab.training.checkpoint import (
    CHECKPOINT_INTERVAL_SECONDS,
    COMMIT_FILE,
    Checkpoint,
    CheckpointManager,
    CheckpointStore,
    SavePolicy,
    read_checkpoint,
    write_checkpoint,
)
from inklab.training.population import PopulationJob

OFTEN = 1.0  # seconds between two checkpoints
EPOCHS = {"l2-sweep": 8, "cnn": 1, "denoiser": 4}  # some ten seconds each
WRITES = 20
BAR = 0.02  # of training time, at the default interval


def checkpoints(out: Path, command: str, rounds: int) -> list[str]:
    """Measure every work of the study.

    Args:
        out: folder of the results.
        command: what was typed.
        rounds: pairs of each work.
    """
    torch.set_num_threads(1)
    disable_malloc_trim()  # as a run's workers do
    folder, found = lay_out(WORK / "data"), {}
    for name, epochs in EPOCHS.items():
        note(f"checkpoints: {name}")
        work = WORKS[name]
        data, group = (
            data_of(work, str(folder), work.images),
            group_of(work, preferred_dtype(), 0, work.together, epochs=epochs),
        )
        found[name] = _measured(group, data, rounds)
    raw = {
        "name": "checkpoints",
        "every": OFTEN,
        "default": CHECKPOINT_INTERVAL_SECONDS,
        "bar": BAR,
        "works": found,
    }
    store(out, raw | machine(command))
    return [_line(name, told) for name, told in found.items()]


def _measured(group: PopulationJob, data: TrainingData, rounds: int) -> Json:
    pairs = []
    with TemporaryDirectory(dir=WORK) as place:  # beside the project: /tmp may be memory
        train(group, data)  # compiles, and warms up
        for turn in range(rounds):
            kept = Path(place) / str(turn)
            row = {}
            for side in ("with", "without") if turn % 2 else ("without", "with"):
                often = CheckpointManager(CheckpointStore(kept), SavePolicy(OFTEN))
                began = time.perf_counter()
                train(group, data, often if side == "with" else None)
                row[side] = time.perf_counter() - began
            pairs.append(row)
        newest = sorted(kept.rglob(COMMIT_FILE))[-1].parent
        one = read_checkpoint(newest)
        writes = [_write(Path(place) / f"write-{number}", one) for number in range(WRITES)]
        size = sum(path.stat().st_size for path in newest.iterdir())
    slower = [row["with"] / row["without"] - 1 for row in pairs]
    return {
        "pairs": pairs, "write_seconds": writes, "bytes": size,
        "slower": median(slower), "share": median(slower) * OFTEN / CHECKPOINT_INTERVAL_SECONDS,
        "expected": median(writes) / (median(writes) + CHECKPOINT_INTERVAL_SECONDS),
    }  # fmt: skip


def _write(folder: Path, checkpoint: Checkpoint) -> float:
    began = time.perf_counter()
    write_checkpoint(folder, checkpoint)
    return time.perf_counter() - began


def _line(name: str, told: Json) -> str:
    return (
        f"{name}: {told['bytes'] / 1e6:.1f} MB, {median(told['write_seconds']) * 1e3:.0f} ms each; one a "
        f"second slows by {told['slower']:.2%}, the default by {told['share']:.3%} (expected "
        f"{told['expected']:.3%})"
    )

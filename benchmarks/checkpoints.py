"""What checkpoints cost: the same training with one each second and with none, alternating; and one write.

One per second is thirty times as often as by default, so that the cost is larger than the machine's own
variation; the default costs a thirtieth of it.
"""

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from benchmarks.dataset_cache import cache_dataset
from benchmarks.options import WORK, BenchmarkError, Options
from benchmarks.records import CheckpointCost, CheckpointPair, CheckpointResults
from benchmarks.results_io import describe_measurement, log_progress, write_results
from benchmarks.training import make_population, read_training_data, train
from benchmarks.workloads import WORKLOADS
from inklab.hardware import disable_malloc_trim, preferred_dtype
from inklab.training.batches import TrainingData
from inklab.training.checkpoint import (
    CHECKPOINT_INTERVAL_SECONDS,
    Checkpoint,
    CheckpointManager,
    read_checkpoint,
    write_checkpoint,
)
from inklab.training.checkpoint_files import COMMIT_FILE
from inklab.training.population import PopulationSpec

INTERVAL_SECONDS = 1.0
EPOCHS = {"l2-sweep": 8, "cnn": 1, "denoiser": 4}  # some ten seconds each
WRITES = 20
TARGET = 0.02  # of training time, at the default interval


def measure_checkpoints(options: Options) -> list[str]:
    """Measure every workload of the study, `options.rounds` pairs each.

    Returns:
        A line per workload.
    """
    torch.set_num_threads(1)
    disable_malloc_trim()  # as a run's workers do
    folder = cache_dataset()
    costs = {}
    for name, epochs in EPOCHS.items():
        log_progress(f"checkpoints: {name}")
        workload = WORKLOADS[name].reduced(options.images, options.members)
        data = read_training_data(workload, str(folder), workload.images)
        job = make_population(workload, preferred_dtype(), 0, workload.population, epochs=epochs)
        costs[name] = measure_cost(job, data, options.rounds)
    results = CheckpointResults(
        interval_seconds=INTERVAL_SECONDS,
        default_interval_seconds=CHECKPOINT_INTERVAL_SECONDS,
        target=TARGET,
        workloads=costs,
        measurement=describe_measurement(options.command),
    )
    write_results(options.output, "checkpoints", results)
    return [_format_cost(name, cost) for name, cost in costs.items()]


def measure_cost(job: PopulationSpec, data: TrainingData, rounds: int) -> CheckpointCost:
    """Measure one workload."""
    with TemporaryDirectory(dir=WORK) as folder:  # in the checkout: /tmp may be memory
        train(job, data)  # compiles, and warms up
        stores = [Path(folder) / str(number) for number in range(rounds)]
        pairs = tuple(
            _train_pair(job, data, store, reverse=number % 2 == 1) for number, store in enumerate(stores)
        )
        written = sorted(stores[-1].rglob(COMMIT_FILE))
        if not written:
            raise BenchmarkError(
                f"training took less than {INTERVAL_SECONDS:g} s, so no checkpoint was written"
            )
        newest = written[-1].parent
        checkpoint = read_checkpoint(newest)
        writes = tuple(_time_write(Path(folder) / f"write-{number}", checkpoint) for number in range(WRITES))
        size = sum(path.stat().st_size for path in newest.iterdir())
    slowdown = median(pair.with_checkpoints / pair.without - 1 for pair in pairs)
    return CheckpointCost(
        pairs=pairs,
        write_seconds=writes,
        bytes=size,
        slowdown=slowdown,
        default_slowdown=slowdown * INTERVAL_SECONDS / CHECKPOINT_INTERVAL_SECONDS,
        expected_slowdown=median(writes) / (median(writes) + CHECKPOINT_INTERVAL_SECONDS),
    )


def _train_pair(job: PopulationSpec, data: TrainingData, store: Path, *, reverse: bool) -> CheckpointPair:
    seconds = {}
    for name in ("with", "without") if reverse else ("without", "with"):
        manager = CheckpointManager(store, interval=INTERVAL_SECONDS)
        start = time.perf_counter()
        train(job, data, manager if name == "with" else None)
        seconds[name] = time.perf_counter() - start
    return CheckpointPair(with_checkpoints=seconds["with"], without=seconds["without"])


def _time_write(folder: Path, checkpoint: Checkpoint) -> float:
    start = time.perf_counter()
    write_checkpoint(folder, checkpoint)
    return time.perf_counter() - start


def _format_cost(name: str, cost: CheckpointCost) -> str:
    return (
        f"{name}: {cost.bytes / 1e6:.1f} MB, {median(cost.write_seconds) * 1e3:.0f} ms each; one per second "
        f"slows training by {cost.slowdown:.2%}, the default by {cost.default_slowdown:.3%} (expected "
        f"{cost.expected_slowdown:.3%})"
    )

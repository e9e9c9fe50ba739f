"""Does bf16 change results? The same replicates trained in fp32 and in bf16, and their paired differences.

A replicate has the same initial weights, batches and order in both precisions, so its two scores are a pair.
Scores are of the network as it is used: fp32 weights, the 10,000 images of the test set.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.dataset_cache import cache_dataset
from benchmarks.options import BenchmarkError, Options
from benchmarks.parallel import Workers
from benchmarks.records import PrecisionResults
from benchmarks.results_io import describe_measurement, log_progress, write_results
from benchmarks.workloads import EPOCH_IMAGES, WORKLOADS
from inklab.hardware import cores, preferred_dtype
from inklab.records.estimates import Difference
from inklab.stats import paired_difference

PRECISIONS = ("fp32", "bf16")
METRICS = ("test_accuracy", "test_loss")
L2 = 1e-5
POPULATION = 2
MIN_REPLICATES = 2


@dataclass(frozen=True)
class PrecisionRequest:
    """What the workers train.

    Attributes:
        data: folder of the cached arrays.
        replicates: of all workers together.
        epochs: of each.
        images: of an epoch.
        workers: parallel processes.
        precision: of training.
    """

    data: str
    replicates: int
    epochs: int
    images: int
    workers: int
    precision: str


@dataclass(frozen=True)
class ReplicateScores:
    """Scores of one replicate.

    Attributes:
        replicate: its number.
        metrics: by name.
    """

    replicate: int
    metrics: dict[str, float]


def measure_bf16(options: Options) -> list[str]:
    """Train every replicate twice and compare.

    Returns:
        A line per metric: the mean difference, bf16 minus fp32, with its interval.

    Raises:
        BenchmarkError: the processor has no bf16, and emulating it takes hours; or fewer than two replicates.
        DataError: MNIST is not available.
    """
    if preferred_dtype() != "bf16":
        raise BenchmarkError("this processor has no bf16 (avx512_bf16 or amx_bf16); use one that has")
    if options.replicates < MIN_REPLICATES:
        raise BenchmarkError(
            f"--replicates is {options.replicates}, but an interval needs at least {MIN_REPLICATES}"
        )
    images = options.images or EPOCH_IMAGES
    request = PrecisionRequest(
        str(cache_dataset()), options.replicates, options.epochs, images, cores(), "fp32"
    )
    scores = {name: _train_replicates(replace(request, precision=name)) for name in PRECISIONS}
    differences = {name: paired_difference(scores["bf16"][name], scores["fp32"][name]) for name in METRICS}
    results = PrecisionResults(
        epochs=options.epochs,
        images=images,
        scores=scores,
        differences=differences,
        measurement=describe_measurement(options.command),
    )
    write_results(options.output, "bf16", results)
    return [_format_difference(name, difference) for name, difference in differences.items()]


def _train_replicates(request: PrecisionRequest) -> dict[str, tuple[float, ...]]:
    """Every metric, one value per replicate, in their order."""
    log_progress(f"bf16: {request.replicates} replicates of {request.epochs} epochs in {request.precision}")
    workers = Workers(request.workers, precision_worker, request)
    try:
        _, parts = workers.run_unit()
    finally:
        workers.close()
    rows = sorted((row for part in parts for row in part), key=lambda row: row.replicate)
    return {name: tuple(row.metrics[name] for row in rows) for name in METRICS}


def _format_difference(name: str, difference: Difference) -> str:
    low, high = difference.ci95 or (float("nan"), float("nan"))
    return (
        f"bf16 minus fp32, {name}: {difference.mean or 0.0:+.5f} "
        f"(95% CI {low:+.5f} to {high:+.5f}, n = {difference.n})"
    )


def precision_worker(
    request: PrecisionRequest, index: int
) -> tuple[Callable[[], object], Callable[[], list[ReplicateScores]]]:
    """What one of the parallel processes does: its share of the replicates, in populations."""
    from benchmarks.training import make_config, make_job, read_training_data, train
    from inklab.evaluation.scores import classification_scores
    from inklab.records.plan import Trial

    workload = WORKLOADS["l2-sweep"]
    data = read_training_data(workload, request.data, request.images)
    test, labels = (np.load(Path(request.data) / f"{name}.npy") for name in ("test", "test_labels"))
    config = make_config(workload, request.precision, epochs=request.epochs, l2=L2)
    mine = list(range(index, request.replicates, request.workers))
    populations = [mine[start : start + POPULATION] for start in range(0, len(mine), POPULATION)]

    def run() -> list[ReplicateScores]:
        rows = []
        for replicates in populations:
            trials = [Trial(f"bf16-{replicate}", config, replicate) for replicate in replicates]
            for result in train(make_job(trials, stacked=True), data):
                scores = classification_scores(result.net, test[:, None], labels)
                metrics = {"test_accuracy": scores.accuracy, "test_loss": scores.loss}
                rows.append(ReplicateScores(result.trial.replicate, metrics))
        return rows

    return lambda: None, run

"""Does bf16 do harm? The same replicates trained in fp32 and in bf16, and their differences in pairs.

A replicate has the same initial weights, batches and order in both precisions, so its two scores are a pair.
Scores are of the network as it is used: fp32 weights, the test set's 10,000 images.
"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.driver import WORK, BenchmarkError
from benchmarks.images import lay_out
from benchmarks.sidebyside import Workers
from benchmarks.storing import Json, machine, note, store
from benchmarks.works import EPOCH, WORKS
from inklab.hardware import cores, preferred_dtype
from inklab.statistics import paired_difference

PRECISIONS = ("fp32", "bf16")
SCORES = ("test_accuracy", "test_loss")
L2 = 1e-5
MEMBERS = 2


def bf16(out: Path, command: str, replicates: int, epochs: int, images: int | None) -> list[str]:
    """Train every replicate twice and compare.

    Returns:
        A line a score: the mean difference, bf16 less fp32, with its interval.

    Raises:
        BenchmarkError: the processor has no bf16, and emulating it takes hours; or fewer than two replicates.
        DataError: MNIST can't be had.
    """
    if preferred_dtype() != "bf16":
        raise BenchmarkError(
            "this processor has no bf16 (avx512_bf16 or amx_bf16); run it where there is one"
        )
    if replicates < 2:
        raise BenchmarkError(f"{replicates} replicates make no interval; at least 2, 30 for the claim")
    folder = lay_out(WORK / "data")
    request = {
        "work": "l2-sweep", "data": str(folder), "replicates": replicates, "epochs": epochs,
        "images": images or EPOCH, "workers": cores(),
    }  # fmt: skip
    scores: dict[str, dict[str, list[float]]] = {}
    for precision in PRECISIONS:
        note(f"bf16: {replicates} replicates of {epochs} epochs in {precision}")
        workers = Workers(cores(), worker, {**request, "precision": precision})
        try:
            _, parts = workers.unit()
        finally:
            workers.close()
        each = sorted((row for part in parts for row in part), key=lambda row: row["replicate"])
        scores[precision] = {name: [row[name] for row in each] for name in SCORES}
    gaps = {name: _gap(scores, name) for name in SCORES}
    raw = {"name": "bf16", "epochs": epochs, "images": images or EPOCH, "scores": scores, "differences": gaps}
    store(out, raw | machine(command))
    return [_line(name, gap) for name, gap in gaps.items()]


def _gap(scores: dict[str, dict[str, list[float]]], name: str) -> Json:
    return paired_difference(scores["bf16"][name], scores["fp32"][name]).to_json()


def _line(name: str, gap: Json) -> str:
    low, high = gap["ci95"]
    return (
        f"bf16 less fp32, {name}: {gap['mean']:+.5f} (95 % {low:+.5f} to {high:+.5f}, n = {gap['n']} pairs)"
    )


def worker(request: dict[str, Any], number: int) -> tuple[Any, Any]:
    """One of the processes side by side: every so-many-th replicate, in populations."""
    from benchmarks.training import config_of, data_of
    from inklab.records.plan import Trial
    from inklab.training.population import PopulationJob

    work = WORKS[request["work"]]
    data = data_of(work, request["data"], request["images"])
    test = _test_images(request["data"])
    more = {"objective": "benchmark-classify", "epochs": request["epochs"], "l2": L2}
    mine = list(range(number, request["replicates"], request["workers"]))
    groups = [mine[start : start + MEMBERS] for start in range(0, len(mine), MEMBERS)]

    def unit() -> list[Json]:
        found = []
        for replicates in groups:
            config = config_of(work, request["precision"], **more)
            trials = [Trial(f"bf16-{replicate}", config, replicate) for replicate in replicates]
            group = PopulationJob(
                trials, stacked=True, reseed_each_step=False, seed=0, population_size=MEMBERS, compiled=True
            )
            found += _scored(group, data, test)
        return found

    return lambda: None, unit


def _test_images(folder: str) -> Any:
    import torch

    pixels, labels = (
        np.load(Path(folder) / f"{name}.npy", allow_pickle=False) for name in ("test", "test_labels")
    )
    return torch.from_numpy(pixels[:, None]), torch.from_numpy(labels)


def _scored(group: Any, data: Any, test: Any) -> list[Json]:
    from benchmarks.training import train
    from inklab.evaluation.scores import classification_scores

    found = []
    for each in train(group, data):
        scores = classification_scores(each.net, *test)
        told = {"test_accuracy": scores.accuracy, "test_loss": scores.loss}
        found.append({"replicate": each.trial.replicate, **told})
    return found

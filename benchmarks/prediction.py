"""What `TrainedModel.predict` costs: the latency of one image, and many images against a bare torch loop.

The bare loop has the same network object in fp32 and the same batches, in `inference_mode`. Both sides get
uint8 images as an array and end with probabilities and the most probable classes. Normalization in front of
the network is inklab's alone: it leaves these images as they are, so a bare loop would not have it.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from benchmarks.options import BenchmarkError, Options
from benchmarks.ratios import median_ratio
from benchmarks.records import (
    CallTimes,
    PredictionPair,
    PredictionResults,
    PredictionTargets,
    PredictionTimes,
)
from benchmarks.results_io import describe_measurement, log_progress, write_results
from inklab.data.sources import load_dataset
from inklab.hardware import cores
from inklab.model import BATCH, TrainedModel
from inklab.networks.layers import Normalize, NormalizedModel
from inklab.networks.network import build_network
from inklab.records.components import Preprocessing
from inklab.seeding import Seed

KINDS = ("mlp", "cnn")
THREADS = (1, 2)
CALLS = 2_000  # with one image each
WARM_UP_CALLS = 20
PASSES = {"mlp": 5, "cnn": 1}  # over all images, in a timed unit: some seconds
PAIRS_PER_ROUND = 2  # inklab first, then the bare loop first
TARGETS = PredictionTargets(one_image_ms=1.0, ratio=1.10)

Pixels = UInt8[np.ndarray, "n 1 h w"]


def measure_prediction(options: Options) -> list[str]:
    """Measure a dense and a convolutional network on the test images of MNIST, with one and two threads.

    Returns:
        A line per network and number of threads.

    Raises:
        DataError: MNIST is not available.
        BenchmarkError: inklab and the bare loop compute different numbers.
    """
    images = load_dataset("mnist").test.pixels[: options.images]
    times = []
    for kind in KINDS:
        model = make_model(kind)
        for threads in THREADS:
            if threads <= cores():
                torch.set_num_threads(threads)
                times.append(measure_model(model, images, options.rounds, passes=PASSES[kind]))
                log_progress(_format_times(times[-1]))
    results = PredictionResults(
        images=len(images),
        batch_size=BATCH,
        targets=TARGETS,
        times=tuple(times),
        measurement=describe_measurement(options.command),
    )
    write_results(options.output, "predict", results)
    return [_format_times(row) for row in times]


def make_model(kind: str) -> TrainedModel:
    """A network of the study, saved and loaded as a user's would be. Its weights don't change its speed."""
    from benchmarks.training import CLASSES, NETWORKS  # registers an objective

    preprocessing = Preprocessing()
    net = build_network(NETWORKS[kind], preprocessing.shape, len(CLASSES), Seed(0))
    model = TrainedModel.of(
        NormalizedModel(Normalize(), net), NETWORKS[kind], "classification", CLASSES, preprocessing
    )
    with TemporaryDirectory() as folder:
        model.save(Path(folder))
        return TrainedModel.load(Path(folder))


def measure_model(
    model: TrainedModel, images: Pixels, rounds: int, *, calls: int = CALLS, passes: int = 1
) -> PredictionTimes:
    """Measure one network with the current number of threads.

    Args:
        model: inklab's side; its `net.net` is the network of the bare loop.
        images: of its training format.
        rounds: each measures two pairs, one in either order.
        calls: with one image each.
        passes: over all images, in each timed unit.

    Raises:
        BenchmarkError: the two sides compute different numbers.
    """
    sides = {
        "inklab": lambda part: model.predict(part).labels,
        "bare": lambda part: bare_loop(model.net.net, part),
    }
    _check_equal(model, images)
    one_image = {name: time_calls(side, images, calls) for name, side in sides.items()}
    pairs = []
    for number in range(rounds * PAIRS_PER_ROUND):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        pairs.append(PredictionPair(**{name: _time_passes(sides[name], images, passes) for name in order}))
    return PredictionTimes(
        network=model.name,
        threads=torch.get_num_threads(),
        one_image=one_image["inklab"],
        bare_one_image=one_image["bare"],
        passes=passes,
        pairs=tuple(pairs),
        ratio=median_ratio([pair.inklab / pair.bare for pair in pairs]),
    )


def bare_loop(net: nn.Module, images: Pixels) -> tuple[Tensor, Int64[np.ndarray, " n"]]:
    """Probabilities and the most probable classes, as a plain torch program computes them."""
    rows = []
    with torch.inference_mode():
        for batch in torch.from_numpy(images).split(BATCH):
            rows.append(torch.softmax(net(batch.float() / 255), dim=1))
        probabilities = torch.cat(rows)
        return probabilities, probabilities.argmax(1).numpy()


def _check_equal(model: TrainedModel, images: Pixels) -> None:
    """Both sides compute the same work; also the warm-up."""
    predictions = model.predict(images)
    probabilities, classes = bare_loop(model.net.net, images)
    expected = np.array(model.labels, object)[classes]
    if not (
        np.array_equal(predictions.probabilities, probabilities.numpy())
        and np.array_equal(predictions.labels, expected)
    ):
        raise BenchmarkError(f"'{model.name}': predict and the bare loop compute different numbers")


def time_calls(side: Callable[[Pixels], Any], images: Pixels, calls: int) -> CallTimes:
    """Milliseconds of calls with one image each, images in turn, after some that do not count."""
    seconds = []
    for number in range(-WARM_UP_CALLS, calls):
        image = images[number % len(images)][None]
        start = time.perf_counter()
        side(image)
        seconds.append(time.perf_counter() - start)
    counted = 1e3 * np.array(seconds[WARM_UP_CALLS:])
    return CallTimes(n=calls, median_ms=float(np.median(counted)), p95_ms=float(np.quantile(counted, 0.95)))


def _time_passes(side: Callable[[Pixels], Any], images: Pixels, passes: int) -> float:
    start = time.perf_counter()
    for _ in range(passes):
        side(images)
    return (time.perf_counter() - start) / passes


def _format_times(row: PredictionTimes) -> str:
    latency, ratio, plural = row.one_image, row.ratio, "s" if row.threads > 1 else ""
    return (
        f"{row.network}, {row.threads} thread{plural}: one image {latency.median_ms:.3f} ms (p95 "
        f"{latency.p95_ms:.3f}, bare {row.bare_one_image.median_ms:.3f}); all images "
        f"{median(pair.inklab for pair in row.pairs):.3f} s, {ratio.value:.3f} times the bare loop "
        f"({ratio.low:.3f} to {ratio.high:.3f}, n = {ratio.n})"
    )

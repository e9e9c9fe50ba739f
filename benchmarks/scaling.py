"""How cost scales: time per member-epoch and peak memory against members of a population and images.

Each point is a process of its own with one thread, so that its peak memory is its own. It warms up on other
replicates before it is timed.
"""

import resource
import sys
import time
from pathlib import Path

from benchmarks.dataset_cache import cache_dataset
from benchmarks.options import Options
from benchmarks.peer_client import PROJECT_PYTHON, run_module
from benchmarks.records import ScalingPoint, ScalingResults
from benchmarks.results_io import describe_measurement, log_progress, write_results
from benchmarks.workloads import EPOCH_IMAGES, WORKLOADS

MEMBERS = (1, 2, 4, 8, 16, 32, 64)
IMAGES = (5_000, 10_000, 20_000, 40_000, 60_000)
MEMBER_IMAGES = 327_680
"""Images times members of a point of the first curve, as far as there are as many images: 2,560 steps of one
member, 40 of 64 members, so that all take about the same time."""
FIXED_MEMBERS = 8  # of the second curve
KIB = 1024


def measure_scaling(options: Options) -> list[str]:
    """Measure both curves; `options.images` limits the images of every point.

    Returns:
        A line per point.

    Raises:
        BenchmarkError: a point's process failed.
        DataError: MNIST is not available.
    """
    folder = cache_dataset()
    batch_size = WORKLOADS["l2-sweep"].batch_size
    member_images = options.images or MEMBER_IMAGES
    by_members = tuple(
        _start_point(
            folder,
            members,
            min(EPOCH_IMAGES, max(batch_size, member_images // members // batch_size * batch_size)),
        )
        for members in MEMBERS
    )
    limit = options.images or EPOCH_IMAGES
    counts = [count for count in IMAGES if count <= limit] or [limit]
    by_images = tuple(_start_point(folder, FIXED_MEMBERS, count) for count in counts)
    results = ScalingResults(
        workload="l2-sweep",
        by_members=by_members,
        by_images=by_images,
        measurement=describe_measurement(options.command),
    )
    write_results(options.output, "scaling", results)
    return [_format_point(point) for point in by_members + by_images]


def _start_point(folder: Path, members: int, images: int) -> ScalingPoint:
    arguments = [str(folder), str(members), str(images)]
    output = run_module("benchmarks.scaling", arguments, {"OMP_NUM_THREADS": "1"}, PROJECT_PYTHON)
    point = ScalingPoint.parse_json(output.strip().splitlines()[-1].encode(), "the measured point")
    log_progress(f"scaling: {_format_point(point)}")
    return point


def measure_point(folder: str, members: int, images: int) -> ScalingPoint:
    """Measure one point in this process.

    Building the networks and returning them is paid once per training, not per epoch. So a short training is
    timed as well, and subtracted for `member_epoch_seconds`.
    """
    from benchmarks.training import WARM_UP_REPLICATE, make_population, read_training_data, train
    from inklab.hardware import preferred_dtype
    from inklab.training.batches import TrainingData

    workload = WORKLOADS["l2-sweep"].reduced(images, members)
    precision = preferred_dtype()

    def time_training(data: TrainingData) -> float:
        job = make_population(workload, precision, 0, members)
        start = time.perf_counter()
        train(job, data)
        return time.perf_counter() - start

    short_data = read_training_data(workload, folder, workload.warm_up_images)
    data = read_training_data(workload, folder, images)
    train(make_population(workload, precision, WARM_UP_REPLICATE, members), short_data)
    short_seconds, seconds = time_training(short_data), time_training(data)
    image_seconds = (seconds - short_seconds) / max(images - len(short_data.train.labels), 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else KIB)
    return ScalingPoint(
        members=members,
        images=images,
        precision=precision,
        seconds=seconds,
        member_seconds=seconds / members,
        member_epoch_seconds=max(image_seconds, 0.0) / members * EPOCH_IMAGES,
        peak_bytes=peak,
    )


def _format_point(point: ScalingPoint) -> str:
    return (
        f"{point.members} members, {point.images:,} images: {point.member_epoch_seconds:.2f} s per "
        f"member-epoch, peak {point.peak_bytes / 2**20:.0f} MiB"
    )


def main(folder: str, members: str, images: str) -> None:
    """Print one point as JSON."""
    import torch

    from inklab.hardware import disable_malloc_trim

    torch.set_num_threads(1)
    disable_malloc_trim()
    print(measure_point(folder, int(members), int(images)).model_dump_json())


if __name__ == "__main__":
    main(*sys.argv[1:])

"""How cost grows: time a member-epoch and peak memory against members of a population, and against images.

Each point is a process of its own, one thread, so that its peak memory is its alone; it warms up on other
replicates before it is timed.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.driver import ROOT, WORK, BenchmarkError, environment
from benchmarks.images import lay_out
from benchmarks.storing import Json, machine, note, store
from benchmarks.works import EPOCH, WORKS, smaller, warm_up_images

MEMBERS = (1, 2, 4, 8, 16, 32, 64)
IMAGES = (5_000, 10_000, 20_000, 40_000, 60_000)
PASSES = 327_680
"""Images times members of a point of the first curve, where there are as many: 2,560 steps of one member,
40 of 64 members, so that all take about as long."""
KEPT = 8  # members while images grow
TIME_LIMIT = 600
KIB = 1024


def growth(out: Path, command: str, images: int | None) -> list[str]:
    """Measure both curves.

    Args:
        out: folder of the results.
        command: what was typed.
        images: image passes of every point, to try it out; None for all.

    Returns:
        A line a point.

    Raises:
        BenchmarkError: a point's process failed.
        DataError: MNIST can't be had.
    """
    folder = lay_out(WORK / "data")
    batch = WORKS["l2-sweep"].batch
    passes = images or PASSES
    by_members = [
        _point(folder, members, min(EPOCH, max(batch, passes // members // batch * batch)))
        for members in MEMBERS
    ]
    counts = [count for count in IMAGES if not images or count <= images] or [IMAGES[0]]
    by_images = [_point(folder, KEPT, count) for count in counts]
    raw = {"name": "growth", "work": "l2-sweep", "members": by_members, "images": by_images}
    store(out, raw | machine(command))
    return [_line(point) for point in by_members + by_images]


def _point(folder: Path, members: int, images: int) -> Json:
    command = [sys.executable, "-m", "benchmarks.growth", str(folder), str(members), str(images)]
    env = environment({"OMP_NUM_THREADS": "1"})
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TIME_LIMIT)
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BenchmarkError(f"growth with {members} members and {images} images failed: {last}")
    point: Json = json.loads(ran.stdout.strip().splitlines()[-1])
    note(f"growth: {_line(point)}")
    return point


def measure(folder: str, members: int, images: int) -> Json:
    """One point, in this process.

    Building the networks and handing them back is paid once a training, not an epoch, so a short training is
    timed as well and taken off.

    Returns:
        `seconds` of the unit; `member_seconds`: a member's share of it; `member_epoch_seconds`: what a member
        takes for 60,000 more images; `peak_bytes` of the process.
    """
    from benchmarks.training import data_of, group_of, train
    from inklab.hardware import preferred_dtype

    work = smaller(WORKS["l2-sweep"], images, members)
    precision = preferred_dtype()
    short, data = data_of(work, folder, warm_up_images(work)), data_of(work, folder, images)
    train(group_of(work, precision, 1_000, members), short)
    few, seconds = (_seconds(train, group_of(work, precision, 0, members), part) for part in (short, data))
    more = (seconds - few) / max(images - len(short.train.labels), 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else KIB)
    return {
        "members": members, "images": images, "precision": precision, "seconds": seconds,
        "member_seconds": seconds / members, "member_epoch_seconds": max(more, 0.0) / members * EPOCH,
        "peak_bytes": peak,
    }  # fmt: skip


def _seconds(train: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    train(*arguments)
    return time.perf_counter() - began


def _line(point: dict[str, Any]) -> str:
    return (
        f"{point['members']} members, {point['images']:,} images: {point['member_epoch_seconds']:.2f} s a "
        f"member-epoch, peak {point['peak_bytes'] / 2**20:.0f} MiB"
    )


def main(folder: str, members: str, images: str) -> None:
    """One point on stdout."""
    import torch

    from inklab.hardware import disable_malloc_trim

    torch.set_num_threads(1)
    disable_malloc_trim()
    print(json.dumps(measure(folder, int(members), int(images))))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Killed anywhere, any number of times, a study ends in the numbers of one that was never touched.

About 40 minutes on two cores. `INKLAB_SLOW_ROUNDS`, `INKLAB_SLOW_SEED`: how many random kills, and which.
"""

import os
import random
import shutil
import signal
import time

import crash_runs
import disk_faults
import pytest

pytestmark = pytest.mark.slow
ROUNDS = int(os.environ.get("INKLAB_SLOW_ROUNDS", "100"))
SEED = int(os.environ.get("INKLAB_SLOW_SEED", "1"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The study, run without a crash: its result, and how long it took."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    began = time.monotonic()
    crash_runs.finish(folder)
    assert len(crash_runs.result(folder)["outcomes"]) == crash_runs.TRIALS + crash_runs.EVALUATIONS
    return crash_runs.result(folder), time.monotonic() - began


def test_killed_at_random_moments_it_ends_equal(whole, tmp_path, announce):
    expected, seconds = whole
    rng, kills = random.Random(SEED), {"before": 0, "training": 0, "evaluating": 0, "after": 0, "resumed": 0}
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        words = ["run", str(crash_runs.study_file()), "--run-dir", str(folder)]
        for _ in range(rng.choice((1, 1, 2, 3))):
            process = crash_runs.begin(words)
            # Half of the time goes into starting; a resume has less to do.
            time.sleep(rng.uniform(0.1, 1.0) * seconds)
            crash_runs.kill(process)
            kills["resumed"] += any(crash_runs.groups(folder))
            kills[_phase(folder)] += 1
            if (folder / "plan.json").is_file():
                words = ["resume", str(folder)]
        crash_runs.finish_equal(folder, expected)
        shutil.rmtree(folder)
    announce(f"{ROUNDS} rounds equal; kills: {kills}")
    assert kills["training"] and kills["evaluating"] and kills["resumed"]


def _phase(folder):
    """What a killed run was at."""
    if not (folder / "plan.json").is_file():
        return "before"
    if (folder / "report.html").is_file():
        return "after"
    return "training" if crash_runs.trained(folder) < crash_runs.TRIALS else "evaluating"


def test_killed_at_every_point_on_the_way_to_the_disk_it_ends_equal(whole, tmp_path, announce):
    expected, points = whole[0], disk_faults.every_fault(tmp_path)
    for fault in points:
        folder = tmp_path / "run"
        words = ["run", str(crash_runs.study_file()), "--run-dir", str(folder)]
        process = crash_runs.begin(words, fault.variables())
        output = process.communicate()[0]
        assert os.path.exists(fault.hit), f"{fault} was not met: {output}"
        assert process.returncode == -signal.SIGKILL
        crash_runs.finish_equal(folder, expected)
        shutil.rmtree(folder)
    announce(f"{len(points)} points, each hit once, all equal")
    assert len(points) >= 60


def damaged(raw, kind):
    """Bytes with damage of a kind."""
    index = {"header": 2, "middle": len(raw) // 2, "end": len(raw) - 1}.get(kind)
    return b"" if index is None else raw[:index] + bytes([raw[index] ^ 0x10]) + raw[index + 1 :]


@pytest.mark.parametrize("both", [False, True], ids=["the newest", "both"])
@pytest.mark.parametrize("kind", ["empty", "header", "middle", "end"])
def test_damaged_checkpoints_cost_time_and_nothing_else(both, kind, whole, tmp_path):
    folder = tmp_path / "run"
    process = crash_runs.begin(["run", str(crash_runs.study_file()), "--run-dir", str(folder)])
    while process.poll() is None and max(map(len, crash_runs.groups(folder)), default=0) < 2:
        time.sleep(0.02)
    crash_runs.kill(process)
    groups = [generations for generations in crash_runs.groups(folder) if len(generations) == 2]
    assert groups, "no group had two generations"
    for generation in groups[0][0 if both else 1 :]:
        for path in generation.iterdir():
            path.write_bytes(damaged(path.read_bytes(), kind))
    output = crash_runs.finish_equal(folder, whole[0])
    warned = [line for line in output.splitlines() if "starts again" in line or "continues from" in line]
    assert len(warned) == 1 and ("starts again" in warned[0]) == both, output

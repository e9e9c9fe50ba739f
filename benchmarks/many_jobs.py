"""What the process that drives a run can keep up with: large studies, empty jobs, and a simulated cluster.

The scheduler, the plan, the records and the attempt queue are the real ones. Workers are simulated: a job
takes as long as the trials or the evaluation of it took in the published run of `digits`, and each start
costs the driver what an empty job costs here. Each part is measured once.
"""

import heapq
import resource
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.large_runs import DATA, TRAITS, VALUES
from benchmarks.options import ROOT, Options
from inklab.records.execution import ExecutionConfig
from inklab.records.outcomes import TrialState
from inklab.records.plan import Plan
from inklab.records.results import Results
from inklab.study.executor import AttemptQueue
from inklab.study.jobs import EvaluationJob, Job, TrainingJob
from inklab.study.load import ConfiguredStudy, parse_study, read_study
from inklab.study.planner import distinct_configs, plan_study
from inklab.study.runner import Scheduler

NODES, WORKERS_PER_NODE = 1_000, 16
REPLICATES = 10_000  # of each setting that is trained
EMPTY_JOBS = 20_000
STUDY_SIZES = (5_000, 10_000, 20_000, 100_000)  # trials

CNN_TRAITS = TRAITS.model_copy(update={"has_convolutions": True, "macs": 5_000_000})
"""Of a network that is trained alone, and longer than the others."""


def measure_many_jobs(options: Options) -> list[str]:
    """Measure each part once.

    Returns:
        A line per part.
    """
    large = list(map(_measure_study, STUDY_SIZES))
    queue, seconds_per_start = _measure_queue()
    return [*large, queue, *_simulate_digits(seconds_per_start)]


# ---------------------------------------------------------------- empty jobs


def _measure_queue() -> tuple[str, float]:
    """Take jobs that do nothing through the attempt queue: each gets its directory, durably."""
    plan = _plan_digits(replicates=EMPTY_JOBS // 25)
    jobs: list[Job] = list(Scheduler(plan, {}).ready())
    while len(jobs) < EMPTY_JOBS:
        jobs += jobs[: EMPTY_JOBS - len(jobs)]
    with TemporaryDirectory() as folder:
        queue = AttemptQueue(Path(folder))
        tracemalloc.start()
        started = time.perf_counter()
        for job in jobs:
            queue.add(job)
        while queue.waiting:
            queue.begin()
        seconds = time.perf_counter() - started
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    rate = len(jobs) / seconds
    return f"{len(jobs):,} empty jobs: {rate:,.0f} a second, {peak / 2**20:.1f} MiB", seconds / len(jobs)


# ---------------------------------------------------------------- a simulated cluster


@dataclass(frozen=True)
class Utilization:
    """How busy the workers of a simulated cluster are.

    Attributes:
        jobs: that ran.
        hours: until the last one ended.
        full_hours: until a worker finds no job for the first time; then the tail begins.
        until_tail: share of the workers' time before the tail in which they are busy.
        overall: the same, of the whole run.
    """

    jobs: int
    hours: float
    full_hours: float
    until_tail: float
    overall: float


def _simulate_digits(seconds_per_start: float) -> list[str]:
    plan, seconds = _plan_digits(REPLICATES), _measured_seconds()
    lines = []
    for label, start in (("starts cost nothing", 0.0), ("each start costs as above", seconds_per_start)):
        result = simulate(plan, lambda job: _job_seconds(job, plan, seconds), NODES * WORKERS_PER_NODE, start)
        lines.append(
            f"{NODES:,} nodes x {WORKERS_PER_NODE}, {label}: {result.jobs:,} jobs in {result.hours:.2f} h; "
            f"{result.until_tail:.1%} busy until the tail, which begins after {result.full_hours:.2f} h; "
            f"{result.overall:.1%} overall"
        )
    return lines


def simulate(
    plan: Plan, job_seconds: Callable[[Job], float], workers: int, seconds_per_start: float = 0.0
) -> Utilization:
    """Run a plan on simulated workers with the real scheduler.

    Args:
        plan: of the run.
        job_seconds: how long a worker takes for a job.
        workers: how many jobs run side by side.
        seconds_per_start: that the driver takes to start a job; it starts one after the other.
    """
    scheduler = Scheduler(plan, {})
    waiting: deque[Job] = deque(scheduler.ready())
    running: list[tuple[float, int, Job]] = []
    starts, ends = [], []
    now = driver_free = 0.0
    tail: float | None = None
    while waiting or running:
        while waiting and len(running) < workers:
            job, driver_free = waiting.popleft(), max(now, driver_free) + seconds_per_start
            starts.append(driver_free)
            ends.append(driver_free + job_seconds(job))
            heapq.heappush(running, (ends[-1], len(ends), job))
        now, _, job = heapq.heappop(running)
        scheduler.ended(job, dict.fromkeys(job.ids, TrialState.DONE))
        waiting.extend(scheduler.ready())
        if not waiting and tail is None:
            tail = now
    begun, ended = np.array(starts), np.array(ends)
    end = ended.max()
    before_tail = (np.minimum(ended, tail) - np.minimum(begun, tail)).sum()
    return Utilization(
        jobs=len(begun), hours=end / 3600, full_hours=tail / 3600,
        until_tail=before_tail / (workers * tail), overall=(ended - begun).sum() / (workers * end),
    )  # fmt: skip


def _plan_digits(replicates: int) -> Plan:
    names = read_study("digits", profile="full").spec.training
    changes = [f"{name}.replicates={replicates}" for name in names]
    return _plan(read_study("digits", profile="full", overrides=changes))


def _plan(loaded: ConfiguredStudy) -> Plan:
    execution = ExecutionConfig(precision="bf16", workers=NODES * WORKERS_PER_NODE)
    configs = distinct_configs(loaded.spec, DATA, execution)
    networks = {
        key: CNN_TRAITS if config.network.name == "cnn" else TRAITS for key, config in configs.items()
    }
    return plan_study(loaded.spec, loaded.profile, DATA, execution, networks)


def _measured_seconds() -> dict[str, float]:
    """Seconds of a trial or an evaluation of each experiment in the published run."""
    measured = Results.read(ROOT / "docs" / "results" / "results.json").timings.experiments
    plan = _plan(read_study("digits", profile="full"))
    counts = {name: len(plan.trials_of(name)) + len(plan.evaluations_of(name)) for name in measured}
    return {name: seconds / counts[name] for name, seconds in measured.items()}


def _job_seconds(job: Job, plan: Plan, seconds: Mapping[str, float]) -> float:
    if isinstance(job, TrainingJob):
        return seconds[job.experiments[0]] * len(job.trials)
    assert isinstance(job, EvaluationJob)
    return seconds[job.evaluation.kind]


# ---------------------------------------------------------------- large studies


def _measure_study(trials: int) -> str:
    """Plan a sweep, write and read the plan, and let all of its jobs end."""
    spec = parse_study({"name": "large", "experiments": _sweep(trials)}, "large")
    laps = [time.perf_counter()]
    plan = _plan(ConfiguredStudy(spec, "plain"))
    laps.append(time.perf_counter())
    with TemporaryDirectory() as folder:
        plan.write(Path(folder) / "plan.json")
        plan = Plan.read(Path(folder) / "plan.json")
    laps.append(time.perf_counter())
    result = simulate(plan, lambda job: 1.0, 100)
    laps.append(time.perf_counter())
    planning, files, scheduling = np.diff(laps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10  # of the process so far
    return (
        f"{trials:,} trials: planned in {planning:.1f} s, written and read in {files:.1f} s, "
        f"{result.jobs:,} jobs scheduled in {scheduling:.1f} s, {peak:,} MiB"
    )


def _sweep(trials: int) -> dict[str, object]:
    """Two sweeps over L2, the trials of a classifier, and two evaluations of each of these."""
    replicates, recipe = trials // 10, {"base": "sgd", "epochs": 10}
    nets = {name: {"name": "mlp", "hidden": [width]} for name, width in (("a", 64), ("b", 128), ("c", 32))}
    common = {"recipe": recipe, "replicates": replicates}
    return {
        "a": {"network": nets["a"], "grid": {"recipe.l2": list(VALUES)}, **common},
        "b": {"network": nets["b"], "grid": {"recipe.l2": list(VALUES[1:])}, **common},
        "c": {"network": nets["c"], **common},
        "noise": {
            "kind": "robustness", "strengths": [0, 0.3], "images": 100, "pipelines": ["c", "median+c"],
            "baseline": "c",
        },
    }  # fmt: skip

"""What a run may use: what the machine is fast at, what a job costs, and what follows from both."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from inklab.errors import CorruptFileError, RunError
from inklab.hardware import cores, cpu_name, cpuinfo_field, free_memory, preferred_dtype
from inklab.io.files import cache_dir, fingerprint
from inklab.records.components import ATTACKS
from inklab.records.execution import ExecutionConfig, NetworkTraits
from inklab.records.plan import GenerationEvaluation, GroupPlan, Plan, RobustnessEvaluation
from inklab.records.recipe import Precision, TrialConfig
from inklab.records.record import Count, NonNegative, Record
from inklab.study.devices import (
    AUTO,
    REQUESTED,
    Accelerators,
    accelerators_of_machine,
    check_same_device,
    choose_device,
)
from inklab.training.objectives import STEP_PASSES, objectives

if TYPE_CHECKING:
    from inklab.study.executor import ExecutorFactory

BENCHMARK_SECONDS = 120.0  # for the whole benchmark; what is not known by then is taken to be slow
BUSY_SECONDS = 3600.0  # that a benchmark serves which did not come to its end on a busy machine
BENCHMARK_VERSION = 3  # raised when the benchmark measures something else

BENCHMARK_COMMAND = (sys.executable, "-m", "inklab.training.throughput")
COMPILERS = ("c++", "g++", "clang++")

WORKER_BYTES = 1 << 30  # torch, the images, a cnn in training: 0.9 GB measured
MIN_BF16_SPEEDUP = 1.1  # of a matrix product in bf16; below, bf16 is not worth its three digits

MIN_PARALLEL_SPEEDUP = 0.85
"""Of convolutions in processes side by side: dense networks gain from that in any case."""

# ---------------------------------------------------------------- what the machine is fast at


class MachineProfile(Record):
    """What was measured on this machine.

    Attributes:
        bf16_speedup: of a matrix product in bf16 over fp32.
        compile_seconds: that compiling a small step takes; None if nothing can be compiled.
        parallel_speedup: work done by as many one-thread processes as there are cores, over that of one
            process with as many threads.
        compile_error: why nothing can be compiled.
    """

    bf16_speedup: NonNegative
    compile_seconds: NonNegative | None
    parallel_speedup: NonNegative
    compile_error: str = ""


def default_profile() -> MachineProfile:
    """What is assumed before anything was measured: bf16 by the processor's flags, no compiler."""
    return MachineProfile(
        bf16_speedup=2.0 if preferred_dtype() == "bf16" else 0.0,
        compile_seconds=None,
        parallel_speedup=1.0,
        compile_error="it was not tried",
    )


def machine_identity() -> tuple[str | int | None, ...]:
    """Everything that a profile depends on: processor, cores, torch, Python, compiler."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    flags = cpuinfo_field("flags")
    return BENCHMARK_VERSION, cpu_name(), flags, cores(), version("torch"), sys.version, compiler


def profile_path(identity: Sequence[str | int | None] | None = None) -> Path:
    """The file that keeps the profile of a machine, of this one if none is given."""
    return cache_dir("machine") / f"{fingerprint(list(identity or machine_identity()))}.json"


def load_cached_profile(path: Path | None = None) -> MachineProfile | None:
    """The profile that was measured before on a machine like this one; None if there is none."""
    with suppress(OSError, CorruptFileError):
        return MachineProfile.read(path or profile_path())
    return None


def run_benchmark(
    command: Sequence[str] = BENCHMARK_COMMAND, timeout: float = BENCHMARK_SECONDS
) -> dict[str, object]:
    """Measure this machine in a process of its own, which prints one JSON object a line.

    Returns:
        Fields of `MachineProfile`, as far as they were printed before the timeout.
    """
    # A session of its own, so that a compiler that hangs ends with it.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    ) as process:
        try:
            output = process.communicate(timeout=timeout)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output = process.communicate()[0]
            output += f'\n{{"compile_error": "it took more than {timeout:g} s"}}'
    measured: dict[str, object] = {}
    for line in output.splitlines():
        with suppress(ValueError, TypeError):  # a library may print to stdout, too
            measured |= json.loads(line)
    return {key: value for key, value in measured.items() if key in MachineProfile.model_fields}


def load_or_measure_profile(
    on_measure: Callable[[], None] = lambda: None,
    *,
    run_benchmark: Callable[[], dict[str, object]] = run_benchmark,
    load_average: Callable[[], tuple[float, float, float]] = os.getloadavg,
) -> MachineProfile:
    """The profile of this machine, measured now if it is not cached: about 40 s, once a machine.

    What is measured while others keep over half of the cores busy serves only until they no longer do. A
    benchmark that did not come to its end serves this run only, or for an hour while the machine is busy: it
    takes two minutes, and a loaded machine must not be believed to be slow, or unable to compile, for good.

    Args:
        on_measure: called before the measurement.
        run_benchmark: returns the fields that were measured.
        load_average: processes that want to run, over 1, 5 and 15 minutes.
    """
    if cached := load_cached_profile():
        return cached
    is_busy = load_average()[0] > cores() / 2
    path = profile_path().with_suffix(".busy.json") if is_busy else profile_path()
    if is_busy and (measured_busy := _load_busy_profile(path)):
        return measured_busy
    on_measure()
    assumed = {**default_profile().to_json(), "compile_error": "the benchmark failed"}
    measured = run_benchmark()
    profile = MachineProfile.parse(assumed | measured, "benchmark")
    if profile.compile_seconds is not None:
        profile = profile.model_copy(update={"compile_error": ""})
    if is_busy or "compile_seconds" in measured:  # the last thing that it prints, None if it can't
        with suppress(OSError):  # an unwritable cache: the next run measures again
            profile.write(path)
    return profile


def _load_busy_profile(path: Path) -> MachineProfile | None:
    """What was measured while the machine was busy; for an hour only, if it could not compile then."""
    profile = load_cached_profile(path)
    if profile and profile.compile_error and time.time() - path.stat().st_mtime > BUSY_SECONDS:
        return None
    return profile


# ---------------------------------------------------------------- how a run is carried out


@dataclass(frozen=True)
class ExecutionOptions:
    """What the user requests of how a run is carried out; None and "auto" leave it to the machine.

    Attributes:
        workers: processes side by side.
        threads: for each trial.
        precision: of networks whose study says "auto".
        compile: whether training steps are compiled.
        checkpoint_every: seconds between checkpoints; None for the default.
        accept_data_problems: whether a run begins although the check of its images found problems.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        executor: a registered name, or a factory of your own.
        ray_address: of a Ray cluster.
        slurm: settings of SLURM for each worker, by name.
    """

    workers: int | None = None
    threads: int | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto", "yes", "no"] = "auto"
    checkpoint_every: float | None = None
    accept_data_problems: bool = False
    device: str = AUTO
    executor: "str | ExecutorFactory" = "local"
    ray_address: str | None = None
    slurm: tuple[tuple[str, str], ...] = ()


def choose_execution(
    profile: MachineProfile,
    options: ExecutionOptions,
    *,
    n_cores: int = 0,
    memory: int = 0,
    accelerators: Accelerators | None = None,
) -> ExecutionConfig:
    """Decide how a run is carried out.

    Args:
        profile: of this machine.
        options: what the user requests.
        n_cores: of this machine, if 0.
        memory: free bytes; of this machine, if 0.
        accelerators: GPUs; of this machine, if None.

    Raises:
        ConfigError: the device that is requested does not exist here.
    """
    n_cores, memory = n_cores or cores(), memory or free_memory()
    device = choose_device(options.device, accelerators or accelerators_of_machine(options.device))
    on_gpu = not device.is_cpu
    precision, precision_reason = _choose_precision(profile, options, on_gpu=on_gpu)
    threads, threads_reason = _choose_threads(profile, options, n_cores, on_gpu=on_gpu)
    workers, workers_reason = _choose_workers(options, n_cores // threads, memory, on_gpu=on_gpu)
    compile_, compile_reason = _choose_compile(profile, options)
    return ExecutionConfig(
        precision=precision, threads=threads, workers=workers, compile=compile_, device=device,
        reasons={
            "precision": precision_reason, "threads": threads_reason,
            "workers": workers_reason, "compile": compile_reason,
        },
    )  # fmt: skip


def _choose_precision(
    profile: MachineProfile, options: ExecutionOptions, *, on_gpu: bool
) -> tuple[Precision, str]:
    if options.precision != "auto":
        return options.precision, REQUESTED
    if on_gpu:  # and what fails the check there is trained on a processor that may have no bf16
        return "fp32", "on a GPU the speed of bf16 has not been measured"
    return (
        "bf16" if profile.bf16_speedup >= MIN_BF16_SPEEDUP else "fp32",
        f"a matrix product in bf16 is {profile.bf16_speedup:.2g} times as fast as in fp32 here",
    )


def _choose_threads(
    profile: MachineProfile, options: ExecutionOptions, n_cores: int, *, on_gpu: bool
) -> tuple[int, str]:
    if options.threads:
        return options.threads, REQUESTED
    if on_gpu:
        return n_cores // (options.workers or 1) or 1, "the GPU's worker has all cores for the rest"
    if n_cores == 1:
        return 1, "one core"
    speedup = profile.parallel_speedup
    measured = f"{n_cores} processes side by side do {speedup:.2g} times as much work as one"
    if speedup >= MIN_PARALLEL_SPEEDUP:
        return 1, measured
    if options.workers and options.workers < n_cores:
        return n_cores // options.workers, measured
    return n_cores, measured


def _choose_workers(
    options: ExecutionOptions, max_workers: int, memory: int, *, on_gpu: bool
) -> tuple[int, str]:
    if options.workers:
        return options.workers, REQUESTED
    if on_gpu:
        return 1, "one for the GPU"
    fitting = max(1, memory // WORKER_BYTES)
    if fitting < max_workers:
        return fitting, f"{memory / 2**30:.1f} GiB of memory are free, and each worker takes about 1"
    return max(1, max_workers), "one for every so many cores as it has threads"


def _choose_compile(
    profile: MachineProfile, options: ExecutionOptions
) -> tuple[Literal["auto", "yes", "no"], str]:
    if options.compile != "auto":
        return options.compile, REQUESTED
    if profile.compile_seconds is None:
        return "no", f"steps are not compiled: {profile.compile_error}"
    seconds = profile.compile_seconds
    return "auto", f"a small step was compiled in {seconds:.0f} s; steps of long trainings are compiled"


def resolve_against_plan(planned: ExecutionConfig, options: ExecutionOptions) -> ExecutionConfig:
    """How a run that was begun is carried out: as its plan says. Only workers may change: no number moves.

    Raises:
        RunError: something is requested that would give other numbers, or the device is not here.
    """
    check_same_device(planned.device, options.device)
    for key in ("precision", "threads", "compile"):
        requested, begun = getattr(options, key), getattr(planned, key)
        if requested not in (None, "auto", begun):
            raise RunError(
                f"this run was begun with {key} {begun}, and {requested} would give other numbers; leave the "
                "option out, or name another run directory with --run-dir"
            )
    return planned.model_copy(update={"workers": options.workers or planned.workers})


def describe_execution(execution: ExecutionConfig) -> list[str]:
    """One line a decision, for `--dry-run`: what was chosen and why."""
    reasons = execution.reasons
    return [f"device {execution.device.description}"] + [
        f"{key} {value}" + (f" ({reasons[key]})" if key in reasons else "")
        for key, value in execution
        if key not in ("reasons", "device")
    ]


# ---------------------------------------------------------------- what jobs cost

# Measured on one core of a Zen 5 server (AVX-512 with bf16), one thread: multiply-accumulates a second of a
# training step (forward and backward together) and of a forward pass in fp32; what a step costs besides.
TRAINING_MACS_PER_SECOND = {"bf16": 90e9, "fp32": 30e9}
INFERENCE_MACS_PER_SECOND = 70e9
STEP_SECONDS, CORRUPTED_STEP_SECONDS = 0.5e-3, 1.5e-3

START_SECONDS = 5  # workers start, import torch and run the preflight checks
MIN_COMPILED_SECONDS = 2.0  # of a trial, for its step to be compiled, which takes about 15 s once
OUTCOME_BYTES = 60_000  # of an outcome, its history and predictions


class Cost(Record):
    """What is still to be done of a run.

    Attributes:
        trials: without a final outcome.
        evaluations: without a final outcome.
        populations: programs that train these trials.
        seconds: that this takes, within a factor of two.
        bytes: on disk.
    """

    trials: Count
    evaluations: Count
    populations: Count
    seconds: NonNegative
    bytes: Count


def training_seconds(config: TrialConfig, traits: NetworkTraits, n_trials: int, n_images: int) -> float:
    """Seconds for trials of one program on one core, within a factor of two."""
    recipe = config.recipe
    # Muon's products are left out: below a tenth of a convolutional network's step at batches of 100 and up.
    passes = objectives[recipe.objective].cost if recipe.objective in objectives else STEP_PASSES
    computing = n_images * traits.macs * passes / TRAINING_MACS_PER_SECOND[config.precision]
    step_seconds = CORRUPTED_STEP_SECONDS if recipe.corruption else STEP_SECONDS
    stepping = -(-n_images // recipe.batch_size) * step_seconds
    return float(n_trials * recipe.epochs * (computing + stepping))


def pays_to_compile(config: TrialConfig, traits: NetworkTraits, n_images: int) -> bool:
    """Whether a trial lasts long enough. It looks at the trial alone, so that a run can be extended."""
    return training_seconds(config, traits, 1, n_images) >= MIN_COMPILED_SECONDS


def group_seconds(plan: Plan, group: GroupPlan, n_trials: int) -> float:
    """Seconds for some trials of a group on one core."""
    trial = group.trials[0]
    return training_seconds(plan.config(trial), plan.traits(trial), n_trials, plan.data.train)


def evaluation_seconds(plan: Plan, evaluation: RobustnessEvaluation | GenerationEvaluation) -> float:
    """Seconds for an evaluation on one core."""
    macs = sum(plan.traits(trial).macs for trial in evaluation.depends_on)
    if isinstance(evaluation, RobustnessEvaluation):
        steps = evaluation.attack_steps or ATTACKS.get(evaluation.corruption, 0)
        passes = (1 + STEP_PASSES * steps) * evaluation.images * len(evaluation.strengths)
        return passes * macs / INFERENCE_MACS_PER_SECOND
    return (2 * evaluation.samples + 10_000) * macs / INFERENCE_MACS_PER_SECOND + 2


def estimate_cost(plan: Plan, pending: Collection[str]) -> Cost:
    """What is still to be done, in all; `pending` are the ids that have no final outcome."""
    seconds, n_bytes, populations, trials = 0.0, 0, 0, 0
    for group in plan.groups:
        if n_trials := sum(trial in pending for trial in group.trials):
            seconds += group_seconds(plan, group, n_trials)
            n_bytes += n_trials * (4 * plan.traits(group.trials[0]).parameters + OUTCOME_BYTES)
            populations, trials = populations + 1, trials + n_trials
    evaluations = [evaluation for id, evaluation in plan.evaluations.items() if id in pending]
    for job in evaluations:
        seconds += evaluation_seconds(plan, job)
        n_bytes += job.images * len(job.strengths) if isinstance(job, RobustnessEvaluation) else OUTCOME_BYTES
    return Cost(
        trials=trials, evaluations=len(evaluations), populations=populations, bytes=n_bytes,
        seconds=seconds / plan.execution.workers + (START_SECONDS if pending else 0),
    )  # fmt: skip

"""What a run may use: what the machine can do, what a job costs, and what follows from both."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from inklab.errors import CorruptFileError, RunError
from inklab.hardware import cores, cpu_name, cpuinfo_field, free_memory, preferred_dtype
from inklab.io.atomic import cache_dir
from inklab.io.documents import fingerprint, read_json, write_json
from inklab.study.grouping import ExecutionConfig
from inklab.study.planner import traits_key
from inklab.training.objectives import objectives

BENCHMARK_TIMEOUT = 120  # seconds for everything; what is not known by then is taken to be slow
COMPILERS = ("c++", "g++", "clang++")
BENCHMARK_VERSION = 2  # raised when the probe asks something else


@dataclass(frozen=True)
class MachineProfile:
    """What was measured on this machine.

    Attributes:
        bf16: how many times as fast as in fp32 a matrix product is in bf16.
        compile_seconds: what compiling a small step takes; None if it can't be done.
        side_by_side: how much more as many one-thread processes as there are cores get done than one process
            with as many threads.
        why_not: why nothing can be compiled.
    """

    bf16: float
    compile_seconds: float | None
    side_by_side: float
    why_not: str = ""


def default_profile() -> MachineProfile:
    """What is taken to be so before anything was measured: bf16 by the processor's word, no compiler."""
    return MachineProfile(2.0 if preferred_dtype() == "bf16" else 0.0, None, 1.0, "it was not tried")


def load_cached_profile() -> MachineProfile | None:
    """What was found out before on a machine like this one, with the same torch and compiler."""
    with suppress(OSError, CorruptFileError, TypeError, ValueError):
        return MachineProfile(**read_json(profile_path()))
    return None


def load_or_measure_profile(note: Callable[[], None] = lambda: None) -> MachineProfile:
    """What is known, or else found out now, in a process of its own: about 40 s, once a machine.

    What is found while others keep over half of the cores busy serves this run and is not kept.

    Args:
        note: called before the machine is looked at.
    """
    known = load_cached_profile()
    if known:
        return known
    note()
    busy = os.getloadavg()[0] > cores() / 2
    found = MachineProfile(
        **{**asdict(default_profile()), "why_not": "the look at it failed", **_run_benchmark()}
    )
    if found.compile_seconds is not None:
        found = replace(found, why_not="")
    if not busy:
        with suppress(OSError):  # no place to keep it: the next run looks again
            write_json(profile_path(), asdict(found))
    return found


def profile_path() -> Path:
    """Where they are kept; the name holds everything that they depend on."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    told = [
        BENCHMARK_VERSION,
        cpu_name(),
        cpuinfo_field("flags"),
        cores(),
        version("torch"),
        sys.version,
        compiler,
    ]
    return cache_dir("machine") / f"{fingerprint(told)}.json"


def _run_benchmark() -> dict[str, Any]:
    command = [sys.executable, "-m", "inklab.training.throughput"]
    # A session of its own, so that a compiler that hangs ends with it.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    ) as process:
        try:
            said = process.communicate(timeout=BENCHMARK_TIMEOUT)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said = process.communicate()[0]
            said += f'\n{{"why_not": "it took more than {BENCHMARK_TIMEOUT} s"}}'
    found: dict[str, Any] = {}
    for line in said.splitlines():
        with suppress(json.JSONDecodeError, TypeError):  # a library's remark on stdout
            found |= json.loads(line)
    return {key: value for key, value in found.items() if key in MachineProfile.__dataclass_fields__}


WORKER_BYTES = 1 << 30  # torch, the images, a cnn in training: 0.9 GB measured
MIN_BF16_SPEEDUP = 1.1  # bf16 must be so many times as fast, or it is not worth its three digits
MIN_PARALLEL_SPEEDUP = (
    0.85  # side by side convolutions must get at least so much done: dense nets gain by it in any case
)


@dataclass(frozen=True)
class ExecutionOptions:
    """What the user wants of how a run is carried out; None and "auto" leave it to the machine.

    `checkpoint_every` is in seconds.
    """

    workers: int | None = None
    threads: int | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto", "yes", "no"] = "auto"
    checkpoint_every: float | None = None


def choose_execution(
    facts: MachineProfile, asked: ExecutionOptions, *, processors: int = 0, memory: int = 0
) -> ExecutionConfig:
    """Decide how a run is carried out; a pure function of its arguments.

    Args:
        facts: what the machine does fast.
        asked: what the user wants; it is obeyed.
        processors: cores; this machine's if 0.
        memory: bytes to be had; this machine's if 0.
    """
    processors, memory = processors or cores(), memory or free_memory()
    precision, why_precision = _precision(facts, asked)
    threads, why_threads = _threads(facts, asked, processors)
    workers, why_workers = _workers(asked, processors // threads, memory)
    compiled, why_compiled = _compile(facts, asked)
    return ExecutionConfig(
        precision, threads, workers, compile=compiled,
        why={
            "precision": why_precision, "threads": why_threads, "workers": why_workers,
            "compile": why_compiled,
        },
    )  # fmt: skip


REQUESTED = "asked for"


def _precision(facts: MachineProfile, asked: ExecutionOptions) -> tuple[str, str]:
    if asked.precision != "auto":
        return asked.precision, REQUESTED
    return (
        "bf16" if facts.bf16 >= MIN_BF16_SPEEDUP else "fp32",
        f"a matrix product in bf16 is {facts.bf16:.2g} times as fast as in fp32 here",
    )


def _threads(facts: MachineProfile, asked: ExecutionOptions, processors: int) -> tuple[int, str]:
    if asked.threads:
        return asked.threads, REQUESTED
    if processors == 1:
        return 1, "one core"
    measured = f"{processors} processes side by side get {facts.side_by_side:.2g} times as much done as one"
    if facts.side_by_side >= MIN_PARALLEL_SPEEDUP:
        return 1, measured
    if asked.workers and asked.workers < processors:
        return processors // asked.workers, measured
    return processors, measured


def _workers(asked: ExecutionOptions, most: int, memory: int) -> tuple[int, str]:
    if asked.workers:
        return asked.workers, REQUESTED
    room = max(1, memory // WORKER_BYTES)
    if room < most:
        return room, f"{memory / 2**30:.1f} GiB of memory are free, and each takes about 1"
    return max(1, most), "one for so many cores as it has threads"


def _compile(facts: MachineProfile, asked: ExecutionOptions) -> tuple[str, str]:
    if asked.compile != "auto":
        return asked.compile, REQUESTED
    if facts.compile_seconds is None:
        return "no", f"nothing can be compiled here: {facts.why_not}"
    return "auto", f"a small step was compiled in {facts.compile_seconds:.0f} s; trainings that last get it"


def resolve_against_plan(frozen: ExecutionConfig, asked: ExecutionOptions) -> ExecutionConfig:
    """What a run was begun with, which a resume obeys; only workers may differ, as no number depends on them.

    Raises:
        RunError: what is asked for would give other numbers.
    """
    for key in ("precision", "threads", "compile"):
        wanted = getattr(asked, key)
        if wanted not in (None, "auto", getattr(frozen, key)):
            raise RunError(
                f"this run was begun with {key} {getattr(frozen, key)}, and {wanted} would give other "
                "numbers; leave it out, or name another folder with --out"
            )
    return replace(frozen, workers=asked.workers or frozen.workers)


def describe_execution(how: dict[str, Any]) -> list[str]:
    """One line a decision, for `--dry-run`: what was chosen and why."""
    why = how.get("why", {})
    return [f"{key} {how[key]}" + (f" ({why[key]})" if key in why else "") for key in how if key != "why"]


# Measured on one core of a Zen 5 server (AVX-512 with bf16), one thread: multiply-adds a second of a training
# step (forward and backward together) and of a forward pass in fp32; what a step costs besides.
TRAINING_MACS_PER_SECOND = {"bf16": 90e9, "fp32": 30e9}
INFERENCE_MACS_PER_SECOND = 70e9
STEP_SECONDS, CORRUPTED_STEP_SECONDS = 0.5e-3, 1.5e-3
START_SECONDS = 5  # workers start, import torch and rehearse
COMPILED_FROM = (
    2.0  # seconds that a trial must last for its program to be compiled, which takes about 15 once
)
KEPT_BYTES = 60_000  # of an outcome, its history and predictions

Cost = Callable[[dict[str, Any]], tuple[int, int]]
"""Of a trial's settings: parameters, and multiply-adds for one image."""


def cost_of(facts: Mapping[str, Mapping[str, Any]]) -> Cost:
    """The cost of settings, from what rehearsals found out.

    Args:
        facts: by `traits_key`, as in plan.json.
    """

    def cost(settings: dict[str, Any]) -> tuple[int, int]:
        known = facts[traits_key(settings)]
        return known["parameters"], known["multiply_adds"]

    return cost


def group_seconds(settings: dict[str, Any], trials: int, images: int, cost: Cost) -> float:
    """Seconds for a group of trials on one core."""
    recipe = settings["recipe"]
    # Muon's products are left out: below a tenth of a convolutional network's step at batches of 100 and up.
    passes = objectives[recipe["objective"]].passes
    computed = images * cost(settings)[1] * passes / TRAINING_MACS_PER_SECOND[settings["precision"]]
    stepped = -(-images // recipe["batch"]) * (
        CORRUPTED_STEP_SECONDS if recipe["corruption"] else STEP_SECONDS
    )
    return float(trials * recipe["epochs"] * (computed + stepped))


def repays_compiling(settings: dict[str, Any], images: int, cost: Cost) -> bool:
    """Whether a trial lasts long enough. Of the trial alone, so that a run can be extended."""
    return group_seconds(settings, 1, images, cost) >= COMPILED_FROM


def evaluation_seconds(evaluation: Mapping[str, Any], plan: Mapping[str, Any], cost: Cost) -> float:
    """Seconds for an evaluation on one core."""
    asked = sum(cost(plan["trials"][trial]["settings"])[1] for trial in evaluation["needs"])
    if evaluation["kind"] == "noise":
        return float(evaluation["images"] * len(evaluation["strengths"]) * asked / INFERENCE_MACS_PER_SECOND)
    return float((2 * evaluation["samples"] + 10_000) * asked / INFERENCE_MACS_PER_SECOND + 2)


def estimate(plan: Mapping[str, Any], waiting: set[str], cost: Cost) -> dict[str, float | int]:
    """What is still to be done, all in all.

    Args:
        plan: as in plan.json.
        waiting: ids of the trials and evaluations without a final outcome.
        cost: of a trial's settings.

    Returns:
        `{"trials", "evaluations", "populations", "seconds", "bytes"}`.
    """
    images = sum(plan["data"]["counts"]["train"])
    seconds, bytes_kept, populations, trials = 0.0, 0.0, 0, 0
    for group in plan["groups"]:
        left = [trial for trial in group["trials"] if trial in waiting]
        if left:
            settings = plan["trials"][left[0]]["settings"]
            seconds += group_seconds(settings, len(left), images, cost)
            bytes_kept += len(left) * (4 * cost(settings)[0] + KEPT_BYTES)
            populations, trials = populations + 1, trials + len(left)
    evaluations = [
        each
        for chapter in plan["chapters"]
        for each in chapter.get("evaluations", [])
        if each["id"] in waiting
    ]
    seconds += sum(evaluation_seconds(each, plan, cost) for each in evaluations)
    bytes_kept += sum(
        each["images"] * len(each["strengths"]) if each["kind"] == "noise" else KEPT_BYTES
        for each in evaluations
    )
    return {
        "trials": trials, "evaluations": len(evaluations), "populations": populations,
        "seconds": seconds / plan["how"]["workers"] + (START_SECONDS if waiting else 0), "bytes": bytes_kept,
    }  # fmt: skip

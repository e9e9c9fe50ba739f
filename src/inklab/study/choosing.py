"""How a run is carried out, decided from facts: precision, threads, workers, whether to compile."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from inklab.errors import RunError
from inklab.machine import cores, free_memory
from inklab.study.facts import MachineFacts
from inklab.study.populations import How

WORKER_BYTES = 1 << 30  # torch, the images, a cnn in training: 0.9 GB measured
GAIN = 1.1  # bf16 must be so many times as fast, or it is not worth its three digits
LOSS = 0.85  # side by side convolutions must get at least so much done: dense nets gain by it in any case


@dataclass(frozen=True)
class Asked:
    """What the user wants of how a run is carried out; None and "auto" leave it to the machine.

    `checkpoint_every` is in seconds.
    """

    workers: int | None = None
    threads: int | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto", "yes", "no"] = "auto"
    checkpoint_every: float | None = None


def choose(facts: MachineFacts, asked: Asked, *, processors: int = 0, memory: int = 0) -> How:
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
    return How(
        precision, threads, workers, compile=compiled,
        why={
            "precision": why_precision, "threads": why_threads, "workers": why_workers,
            "compile": why_compiled,
        },
    )  # fmt: skip


ASKED = "asked for"


def _precision(facts: MachineFacts, asked: Asked) -> tuple[str, str]:
    if asked.precision != "auto":
        return asked.precision, ASKED
    return (
        "bf16" if facts.bf16 >= GAIN else "fp32",
        f"a matrix product in bf16 is {facts.bf16:.2g} times as fast as in fp32 here",
    )


def _threads(facts: MachineFacts, asked: Asked, processors: int) -> tuple[int, str]:
    if asked.threads:
        return asked.threads, ASKED
    if processors == 1:
        return 1, "one core"
    measured = f"{processors} processes side by side get {facts.side_by_side:.2g} times as much done as one"
    if facts.side_by_side >= LOSS:
        return 1, measured
    if asked.workers and asked.workers < processors:
        return processors // asked.workers, measured
    return processors, measured


def _workers(asked: Asked, most: int, memory: int) -> tuple[int, str]:
    if asked.workers:
        return asked.workers, ASKED
    room = max(1, memory // WORKER_BYTES)
    if room < most:
        return room, f"{memory / 2**30:.1f} GiB of memory are free, and each takes about 1"
    return max(1, most), "one for so many cores as it has threads"


def _compile(facts: MachineFacts, asked: Asked) -> tuple[str, str]:
    if asked.compile != "auto":
        return asked.compile, ASKED
    if facts.compile_seconds is None:
        return "no", f"nothing can be compiled here: {facts.why_not}"
    return "auto", f"a small step was compiled in {facts.compile_seconds:.0f} s; trainings that last get it"


def obeyed(frozen: How, asked: Asked) -> How:
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


def described(how: dict[str, Any]) -> list[str]:
    """One line a decision, for `--dry-run`: what was chosen and why."""
    why = how.get("why", {})
    return [f"{key} {how[key]}" + (f" ({why[key]})" if key in why else "") for key in how if key != "why"]

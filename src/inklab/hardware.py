"""What this machine is and can do. Imports no torch."""

import ctypes
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

import inklab

CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # glibc, malloc.h
FAST_BF16 = {"avx512_bf16", "amx_bf16"}
"""Processor flags with which bf16 matmuls run natively; emulated, they are 40 times slower than fp32."""


def environment(threads: int, torch_version: str) -> dict[str, Any]:
    """What a computation ran on."""
    return {
        "inklab": inklab.__version__,
        "python": platform.python_version(),
        "torch": torch_version,
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": cores(),
        "threads": threads,
    }


def cpu_name() -> str:
    """The processor's name, as far as the system tells."""
    return cpuinfo_field("model name") or platform.processor() or platform.machine()


def preferred_dtype() -> str:
    """The fastest precision that trains well: "bf16" where the processor has it natively, else "fp32"."""
    return "bf16" if FAST_BF16 & set(cpuinfo_field("flags").split()) else "fp32"


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpuinfo_field(key: str) -> str:
    """What Linux tells of the first processor under a key such as "flags"; elsewhere nothing."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def free_memory() -> int:
    """Bytes that could be had without swapping; a guess of 4 GiB where the system does not tell."""
    try:
        lines = MEMINFO.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 4 << 30


def disable_malloc_trim() -> None:
    """Let this process reuse the memory that it frees, instead of handing large blocks back to the system.

    A training step frees and allocates the same tens of megabytes over and over. By default glibc maps each
    of them anew, and the system clears each page again: a third of a step. Nothing happens where there is no
    glibc. It costs nothing but that memory once used stays with the process until it ends.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20)):
        mallopt(parameter, value)

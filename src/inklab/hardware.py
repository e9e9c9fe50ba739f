"""Processor, cores and memory of this machine. Imports no torch."""

import ctypes
import os
import platform
import sys
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # glibc, malloc.h
FAST_BF16 = {"avx512_bf16", "amx_bf16"}
"""Processor flags with which bf16 matmuls run natively; emulated, they are 40 times slower than fp32."""


def cpu_name() -> str:
    """The processor's name; its architecture where the system does not tell."""
    return cpuinfo_field("model name") or platform.processor() or platform.machine()


def preferred_dtype() -> str:
    """The fastest precision that trains well: "bf16" where the processor supports it, else "fp32"."""
    return "bf16" if FAST_BF16 & set(cpuinfo_field("flags").split()) else "fp32"


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpuinfo_field(key: str) -> str:
    """A field of the first processor in /proc/cpuinfo, such as "flags"; "" on other systems."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def free_memory() -> int:
    """Bytes available without swapping; 4 GiB where the system does not tell."""
    try:
        lines = MEMINFO.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 4 << 30


def disable_malloc_trim() -> None:
    """Let this process keep the memory that it frees, instead of returning large blocks to the system.

    A training step frees and allocates the same tens of megabytes every time. By default glibc maps them
    anew, and the system clears each page again: a third of a step. The cost: memory once used stays with the
    process until it ends. Without glibc nothing happens.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20)):
        mallopt(parameter, value)

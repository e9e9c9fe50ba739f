"""What this machine is and can do. Imports no torch."""

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

import inklab

CPUINFO = Path("/proc/cpuinfo")
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
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def fast_precision() -> str:
    """The fastest precision that trains well: "bf16" where the processor has it natively, else "fp32"."""
    return "bf16" if FAST_BF16 & set(_cpuinfo("flags").split()) else "fp32"


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpuinfo(key: str) -> str:
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")

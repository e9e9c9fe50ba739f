"""Processor, cores and memory that this process may use. Imports no torch."""

import ctypes
import math
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
CGROUP, CGROUP_ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
NVIDIA_DRIVER, WSL_DRIVER, AMD_DRIVER = Path("/proc/driver/nvidia"), Path("/dev/dxg"), Path("/dev/kfd")
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
    """How many cores this process may use, by its affinity and the quota of its container; at least 1."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in _control_groups("cpu"):
        quota, period = (*_numbers(group / "cpu.max"), math.inf, math.inf)[:2]
        if not (group / "cpu.max").exists():  # version 1
            files = (group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us")
            quota, period = (next(_numbers(file), math.inf) for file in files)
        if 0 < quota < math.inf and 0 < period < math.inf:
            n_cores = min(n_cores, int(quota / period))
    return max(1, n_cores)


def cpuinfo_field(key: str) -> str:
    """A field of the first processor in /proc/cpuinfo, such as "flags"; "" on other systems."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def free_memory() -> int:
    """Bytes available without swapping, in its container, too; 4 GiB where the system does not tell."""
    free = float(4 << 30)
    with suppress(OSError, StopIteration, ValueError, IndexError):
        lines = MEMINFO.read_text(encoding="utf-8").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    for group in _control_groups("memory"):
        for limit, usage in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            used = next(_numbers(group / usage), 0) - _reclaimable(group / "memory.stat")
            free = min(free, next(_numbers(group / limit), math.inf) - max(0, used))
    return max(0, int(free))


def _control_groups(controller: str) -> Iterator[Path]:
    """Directories of the control group of this process, of version 1 or 2, and of those around it."""
    with suppress(OSError, ValueError):
        for line in CGROUP.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or controller in controllers.split(","):
                root = CGROUP_ROOT / controllers
                group = root / path.lstrip("/")
                yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))


def _numbers(path: Path) -> Iterator[float]:
    """The numbers in a file, where "max" is infinite; none if there is no such file."""
    with suppress(OSError, ValueError):
        yield from (math.inf if word == "max" else int(word) for word in path.read_text().split())


def _reclaimable(path: Path) -> int:
    """Bytes of files in memory that nobody uses: they count as used, but are given up when needed."""
    with suppress(OSError, ValueError):
        fields = dict(line.split(maxsplit=1) for line in path.read_text().splitlines())
        return int(fields.get("total_inactive_file") or fields.get("inactive_file") or 0)
    return 0


def gpu_of_system(driver: Path = NVIDIA_DRIVER) -> str:
    """A GPU whose driver is installed, whether or not torch can use it; "" if there is none.

    Args:
        driver: the directory in which NVIDIA's driver lists its GPUs on Linux.

    Returns:
        Its model, as "NVIDIA H100 80GB HBM3", where the driver tells, else the maker.
    """
    for file in sorted(driver.glob("gpus/*/information")):
        with suppress(OSError):
            lines = file.read_text(encoding="utf-8").splitlines()
            fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
            return fields.get("Model") or "NVIDIA"
    if driver.exists() or WSL_DRIVER.exists() or shutil.which("nvidia-smi"):
        return "NVIDIA"
    return "AMD" if AMD_DRIVER.exists() else ""


def torch_gpu_build(folder: Path | None = None) -> str:
    """What GPUs the installed torch was built for, as "CUDA 12.8" or "ROCm 6.4"; "" of a CPU build.

    Read from torch's version.py, since importing torch takes 2 s. `folder` is that of the package.
    """
    if folder is None:
        spec = find_spec("torch")
        if spec is None or spec.origin is None:
            return ""
        folder = Path(spec.origin).parent
    try:
        text = (folder / "version.py").read_text(encoding="utf-8")
    except OSError:
        return ""
    versions = dict(re.findall(r"""^(cuda|hip)\b[^=\n]*=\s*['"]([^'"]+)['"]""", text, re.MULTILINE))
    names = {"cuda": "CUDA", "hip": "ROCm"}
    return next((f"{names[key]} {version}" for key, version in versions.items()), "")


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

"""GPUs as torch sees them: what they are, and how they are set up so that a training repeats.

`python -m inklab.training.accelerators` prints them as one JSON object. A driver that hangs or crashes then
costs that process only, and the process that drives a run need not import torch (`study/devices.py`).
"""

import json
import os
import sys

import torch
from torch import Tensor

CUBLAS_WORKSPACE = ":4096:8"
"""A fixed workspace: with more, cuBLAS may split sums differently from run to run (its manual, 2.1.4)."""


def main() -> None:
    """Print what torch can compute on besides the processor."""
    sys.stdout.write(json.dumps({"gpus": cuda_gpus(), "mps": torch.backends.mps.is_available()}) + "\n")


def cuda_gpus() -> list[str]:
    """Each GPU that CUDA or ROCm lists: its name, compute capability and memory.

    Example:
        >>> cuda_gpus()  # doctest: +SKIP
        ['NVIDIA H100 80GB HBM3, compute capability 9.0, 79 GiB']
    """
    if not torch.cuda.is_available():
        return []
    properties = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [
        f"{gpu.name}, compute capability {gpu.major}.{gpu.minor}, {gpu.total_memory / 2**30:.0f} GiB"
        for gpu in properties
    ]


def prepare(device: torch.device | str) -> torch.device:
    """Set up torch for trainings on a device that repeat; nothing changes for the processor.

    Products and convolutions in fp32 are computed in fp32, not in TF32, whose 10 bits torch allows for
    convolutions by default, and by algorithms that sum in a fixed order. The settings are those of the
    process. They cost speed: neither was measured by us.
    """
    device = torch.device(device)
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)  # read at the first product
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False  # it may choose another algorithm in another run
        torch.use_deterministic_algorithms(True, warn_only=True)
    return device


def device_name(device: torch.device) -> str:
    """What the numbers of a device depend on: "cpu", or the name of a GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def move(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; itself if it lies there.

    From the processor to CUDA nobody waits: the copy is one more entry of the device's queue.
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def counter_dtype(device: torch.device) -> torch.dtype:
    """The type of a step's number: float64, except on Apple's GPU, which has none."""
    return torch.float32 if device.type == "mps" else torch.float64


if __name__ == "__main__":
    main()

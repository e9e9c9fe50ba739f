"""The images as every peer gets them: bytes that the driver laid out, read with NumPy."""

from pathlib import Path

import numpy as np


def pixels(folder: str, name: str, count: int) -> np.ndarray:
    """`(count, 28, 28)` bytes; name is "clean" or "noisy"."""
    found: np.ndarray = np.load(Path(folder) / f"{name}.npy", allow_pickle=False)
    return found[:count]


def scaled(folder: str, name: str, count: int) -> np.ndarray:
    """`(count, 28, 28)` float32 in [0, 1]."""
    return pixels(folder, name, count).astype(np.float32) / 255


def labels(folder: str, count: int) -> np.ndarray:
    """`(count,)` int64."""
    found: np.ndarray = np.load(Path(folder) / "labels.npy", allow_pickle=False)
    return found[:count].astype(np.int64)


def other(count: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Made-up images `(count, width)` and labels to warm up on: no work that is measured later."""
    rng = np.random.default_rng(1)
    return rng.random((count, width), dtype=np.float32), rng.integers(0, 10, count)

"""The images as every peer gets them: cached bytes, read with NumPy."""

from pathlib import Path

import numpy as np


def read_pixels(folder: str, name: str, count: int) -> np.ndarray:
    """`(count, 28, 28)` bytes; name is "clean" or "noisy"."""
    pixels: np.ndarray = np.load(Path(folder) / f"{name}.npy", allow_pickle=False)
    return pixels[:count]


def read_images(folder: str, name: str, count: int) -> np.ndarray:
    """`(count, 28, 28)` float32 in [0, 1]."""
    return read_pixels(folder, name, count).astype(np.float32) / 255


def read_labels(folder: str, count: int) -> np.ndarray:
    """`(count,)` int64."""
    labels: np.ndarray = np.load(Path(folder) / "labels.npy", allow_pickle=False)
    return labels[:count].astype(np.int64)


def random_images(count: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images `(count, width)` and labels to warm up on, none of which is measured later."""
    rng = np.random.default_rng(1)
    return rng.random((count, width), dtype=np.float32), rng.integers(0, 10, count)

"""Caches MNIST as arrays for the processes that train on it."""

from pathlib import Path

import numpy as np

from benchmarks.options import WORK
from benchmarks.workloads import EPOCH_IMAGES, NOISE_SEED, NOISE_STRENGTH

ARRAYS = ("clean", "noisy", "labels", "test", "test_labels")


def cache_dataset(folder: Path = WORK / "data") -> Path:
    """Write MNIST as arrays, with one noisy copy of each training image; only the first time.

    Args:
        folder: gets `clean.npy` and `noisy.npy`, `(60000, 28, 28)` uint8, and `labels.npy` of the training
            images; `test.npy` and `test_labels.npy`.

    Returns:
        The folder.

    Raises:
        DatasetUnavailableError: MNIST is not available; the message says what to do.
    """
    if all((folder / f"{name}.npy").is_file() for name in ARRAYS):
        return folder
    import torch

    from inklab.corruptions.corruption import get_corruption
    from inklab.data.sources import load_dataset
    from inklab.seeding import Seed

    dataset = load_dataset("mnist")
    train, test = dataset.train, dataset.test
    assert len(train) == EPOCH_IMAGES
    images = torch.from_numpy(train.pixels).float() / 255
    draws = (Seed(NOISE_SEED) / "benchmark").draws()
    noisy = get_corruption("salt_and_pepper")(images, NOISE_STRENGTH, draws)
    folder.mkdir(parents=True, exist_ok=True)
    # Gray survives the way to floats and back; replaced pixels are 0 or 255, so bytes lose nothing.
    corrupted = (noisy[:, 0] * 255).round().to(torch.uint8).numpy()
    arrays = (train.pixels[:, 0], corrupted, train.labels, test.pixels[:, 0], test.labels)
    for name, array in zip(ARRAYS, arrays, strict=True):
        np.save(folder / "draft.npy", array, allow_pickle=False)
        (folder / "draft.npy").replace(folder / f"{name}.npy")  # a file that exists is complete
    return folder

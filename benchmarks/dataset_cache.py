"""Leaves all 60,000 training images for the processes that train on them."""

from pathlib import Path

import numpy as np

from benchmarks.works import EPOCH, NOISE, NOISE_SEED

ARRAYS = ("clean", "noisy", "labels", "test", "test_labels")


def lay_out(folder: Path) -> Path:
    """Write MNIST as arrays, and one noisy copy of each training image, the same for all; once.

    Args:
        folder: gets `clean.npy` and `noisy.npy`, `(60000, 28, 28)` uint8, and `labels.npy` of the training
            images; `test.npy` and `test_labels.npy`.

    Returns:
        The folder.

    Raises:
        DatasetUnavailableError: MNIST can't be had here; the message says how to help.
    """
    if all((folder / f"{name}.npy").is_file() for name in ARRAYS):
        return folder
    import torch

    from inklab.corruptions.corruption import get_corruption
    from inklab.data.sources import load_dataset
    from inklab.seeding import Seed

    dataset = load_dataset("mnist")
    train, test = dataset.train, dataset.test
    assert len(train) == EPOCH
    images = torch.from_numpy(train.pixels).float() / 255
    noisy = get_corruption("salt_and_pepper")(images, NOISE, (Seed(NOISE_SEED) / "benchmark").generator())
    folder.mkdir(parents=True, exist_ok=True)
    # Gray survives the way to floats and back; replaced pixels are 0 or 255, so bytes lose nothing.
    corrupted = (noisy[:, 0] * 255).round().to(torch.uint8).numpy()
    arrays = (train.pixels[:, 0], corrupted, train.labels, test.pixels[:, 0], test.labels)
    for name, array in zip(ARRAYS, arrays, strict=True):
        np.save(folder / "draft.npy", array, allow_pickle=False)
        (folder / "draft.npy").replace(folder / f"{name}.npy")  # so that a file that is there is whole
    return folder

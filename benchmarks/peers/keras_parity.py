"""Keras's first losses: initial weights, the batches and each step's loss, written for `benchmarks.parity`.

    KERAS_BACKEND=jax python -m benchmarks.peers.keras_parity DATA OUTPUT.npz [FIRST.npz]

FIRST is such a file of another backend, whose initial weights are used, so that two backends of Keras can be
compared.
"""

import sys

import keras
import numpy as np

from benchmarks.peers.arrays import read_images, read_labels
from benchmarks.peers.keras_peer import backend_version, build_network
from benchmarks.workloads import EPOCH_IMAGES, PARITY_CASES, PARITY_STEPS, ParityCase


def train_case(case: ParityCase, folder: str, weights: list[np.ndarray] | None) -> dict[str, np.ndarray]:
    """Train `PARITY_STEPS` steps, from Keras's own initial weights or from other ones.

    Returns:
        `losses` `(steps,)` as Keras reports them, with its L2; `index` `(steps, batch)` into the training
        images; `weights.0` and on: kernels and biases before the first step, in Keras's layout.
    """
    workload = case.workload
    keras.utils.set_random_seed(0)
    net = build_network(workload, case.hidden, dropout=0.0)
    if weights:
        net.set_weights(weights)
    initial = {f"weights.{position}": array for position, array in enumerate(net.get_weights())}
    count = PARITY_STEPS * workload.batch_size
    index = np.random.default_rng(0).permutation(EPOCH_IMAGES)[:count]
    index = index.reshape(PARITY_STEPS, workload.batch_size)
    inputs, targets = _training_arrays(case, folder)
    losses = []
    for rows in index:
        net.reset_metrics()  # otherwise it reports the mean over all steps so far
        losses.append(float(net.train_on_batch(inputs[rows], targets[rows])))
    return {"losses": np.array(losses), "index": index, **initial}


def _training_arrays(case: ParityCase, folder: str) -> tuple[np.ndarray, np.ndarray]:
    denoises = case.workload.denoises
    shape = (-1, 28, 28, 1) if case.workload.network == "cnn" else (-1, 784)
    inputs = read_images(folder, "noisy" if denoises else "clean", EPOCH_IMAGES).reshape(shape)
    if denoises:
        return inputs, read_images(folder, "clean", EPOCH_IMAGES).reshape(shape)
    return inputs, read_labels(folder, EPOCH_IMAGES)


def read_weights(path: str, name: str) -> list[np.ndarray]:
    """A case's initial weights in such a file."""
    prefix = f"{name}.weights."
    with np.load(path, allow_pickle=False) as arrays:
        count = sum(1 for key in arrays.files if key.startswith(prefix))
        return [arrays[f"{prefix}{position}"] for position in range(count)]


def main(folder: str, output: str, first: str | None = None) -> None:
    """Train all cases and write one file."""
    arrays: dict[str, np.ndarray] = {}
    for name, case in PARITY_CASES.items():
        trained = train_case(case, folder, read_weights(first, name) if first else None)
        arrays |= {f"{name}.{key}": value for key, value in trained.items()}
    versions = f"Keras {keras.__version__} on {keras.backend.backend()} {backend_version()}"
    np.savez(output, versions=np.array(versions), **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])

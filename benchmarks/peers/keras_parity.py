"""Keras's first losses: initial weights, the batches and each step's loss, written for `benchmarks.parity`.

    KERAS_BACKEND=jax python -m benchmarks.peers.keras_parity DATA OUT.npz [FIRST.npz]

FIRST is such a file of another backend, whose initial weights are taken, so that Keras can be held against
Keras.
"""

import sys

import keras
import numpy as np

from benchmarks.peers.images import labels, scaled
from benchmarks.peers.keras_peer import backend_version, build
from benchmarks.works import EPOCH, PARITY, PARITY_STEPS, Case


def losses_of(case: Case, folder: str, first: list[np.ndarray] | None) -> dict[str, np.ndarray]:
    """Train `PARITY_STEPS` steps, from Keras's own initial weights or from given ones.

    Returns:
        `losses` `(steps,)` as Keras reports them, with its L2; `index` `(steps, batch)` into the training
        images; `weights.0` and on: kernels and biases before the first step, in Keras's layout.
    """
    work = case.work
    keras.utils.set_random_seed(0)
    net = build(work, case.hidden, dropout=0.0)
    if first:
        net.set_weights(first)
    begun = {f"weights.{place}": weights for place, weights in enumerate(net.get_weights())}
    count = PARITY_STEPS * work.batch
    index = np.random.default_rng(0).permutation(EPOCH)[:count].reshape(PARITY_STEPS, work.batch)
    denoises = work.network == "autoencoder"
    shape = (-1, 28, 28, 1) if work.network == "cnn" else (-1, 784)
    shown = scaled(folder, "noisy" if denoises else "clean", EPOCH).reshape(shape)
    wanted = scaled(folder, "clean", EPOCH).reshape(shape) if denoises else labels(folder, EPOCH)
    losses = []
    for rows in index:
        net.reset_metrics()  # otherwise it reports the mean over all steps so far
        losses.append(float(net.train_on_batch(shown[rows], wanted[rows])))
    return {"losses": np.array(losses), "index": index, **begun}


def weights_in(path: str, name: str) -> list[np.ndarray]:
    """A case's initial weights in such a file."""
    prefix = f"{name}.weights."
    with np.load(path, allow_pickle=False) as arrays:
        count = sum(1 for key in arrays.files if key.startswith(prefix))
        return [arrays[f"{prefix}{place}"] for place in range(count)]


def main(folder: str, out: str, first: str | None = None) -> None:
    """All cases into one file."""
    arrays: dict[str, np.ndarray] = {}
    for name, case in PARITY.items():
        found = losses_of(case, folder, weights_in(first, name) if first else None)
        arrays |= {f"{name}.{key}": value for key, value in found.items()}
    versions = f"Keras {keras.__version__} on {keras.backend.backend()} {backend_version()}"
    np.savez(out, versions=np.array(versions), **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])

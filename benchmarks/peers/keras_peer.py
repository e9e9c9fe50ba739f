"""Keras on the backend that KERAS_BACKEND names: `model.fit`, one epoch per unit, as its guides write it.

fp32, all cores, images in [0, 1], no metrics, no validation, default compilation settings.
"""

import importlib
import os
import time
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from benchmarks.peer_protocol import PeerInfo, PrepareRequest, UnitTiming, serve
from benchmarks.peers.arrays import random_images, read_images, read_labels
from benchmarks.workloads import (
    ADAM_EPSILON,
    CHANNELS,
    CNN_HIDDEN,
    CODE,
    DROPOUT,
    HIDDEN,
    POOL,
    WORKLOADS,
    Workload,
)


def build_network(
    workload: Workload, hidden: Sequence[int] = HIDDEN, dropout: float = DROPOUT
) -> keras.Model:
    """The workload's network, compiled; Glorot uniform weights and zero biases are Keras's defaults."""
    builders = {
        "mlp": lambda: _mlp(workload, hidden),
        "cnn": lambda: _cnn(dropout),
        "autoencoder": _autoencoder,
    }
    net = keras.Sequential(builders[workload.network]())
    if workload.optimizer == "adam":
        optimizer = keras.optimizers.Adam(workload.learning_rate, epsilon=ADAM_EPSILON)
    else:
        optimizer = keras.optimizers.SGD(workload.learning_rate)
    loss = (
        keras.losses.BinaryCrossentropy()
        if workload.denoises
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    net.compile(optimizer=optimizer, loss=loss)
    return net


def _mlp(workload: Workload, hidden: Sequence[int]) -> list[layers.Layer]:
    l2 = keras.regularizers.L2(workload.l2) if workload.l2 else None
    dense = [layers.Dense(units, activation="relu", kernel_regularizer=l2) for units in hidden]
    return [keras.Input((784,)), *dense, layers.Dense(10)]


def _cnn(dropout: float) -> list[layers.Layer]:
    convolutions = [layers.Conv2D(filters, 3, activation="relu") for filters in CHANNELS]
    return [
        keras.Input((28, 28, 1)), *convolutions, layers.MaxPooling2D(POOL), layers.Dropout(dropout),
        layers.Flatten(), layers.Dense(CNN_HIDDEN, activation="relu"), layers.Dense(10),
    ]  # fmt: skip


def _autoencoder() -> list[layers.Layer]:
    dense = [layers.Dense(units, activation="relu") for units in (*CODE, *CODE[-2::-1])]
    return [keras.Input((784,)), *dense, layers.Dense(784, activation="sigmoid")]


def backend_version() -> str:
    """Of the library underneath."""
    return str(importlib.import_module(keras.backend.backend()).__version__)


class KerasPeer:
    """Keeps one model and continues its training."""

    def prepare(self, request: PrepareRequest) -> PeerInfo:
        """Warm up on random images of every batch shape, so that nothing is traced or compiled later."""
        self.workload = WORKLOADS[request.workload].reduced(request.images)
        self.net = build_network(self.workload)
        self.inputs, self.targets = self._read_arrays(request.data)
        images, labels = random_images(self.workload.warm_up_images, 784)
        images = images.reshape(-1, *self.inputs.shape[1:])
        self._fit(images, images if self.workload.denoises else labels)
        backend = keras.backend.backend()
        versions = {"keras": keras.__version__, backend: backend_version(), "numpy": np.__version__}
        return PeerInfo(versions, f"Keras on {backend}: fit, fp32, {os.cpu_count()} cores")

    def _read_arrays(self, folder: str) -> tuple[np.ndarray, np.ndarray]:
        count = self.workload.images
        if self.workload.denoises:
            noisy, clean = (
                read_images(folder, name, count).reshape(count, 784) for name in ("noisy", "clean")
            )
            return noisy, clean
        shape = (count, 28, 28, 1) if self.workload.network == "cnn" else (count, 784)
        return read_images(folder, "clean", count).reshape(shape), read_labels(folder, count)

    def _fit(self, inputs: np.ndarray, targets: np.ndarray) -> float:
        result = self.net.fit(inputs, targets, batch_size=self.workload.batch_size, epochs=1, verbose=0)
        return float(result.history["loss"][-1])

    def measure(self) -> UnitTiming:
        """One epoch over the unit's images."""
        start = time.perf_counter()
        loss = self._fit(self.inputs, self.targets)
        return UnitTiming(time.perf_counter() - start, self.workload.images, loss)


if __name__ == "__main__":
    serve(KerasPeer())

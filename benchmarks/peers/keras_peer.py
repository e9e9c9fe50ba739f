"""Keras on the backend that KERAS_BACKEND names: `model.fit`, one epoch a unit, as its guides write it.

fp32, all cores, arrays already scaled, no metrics, no validation, compilation settings as they come.
"""

import importlib
import os
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from benchmarks.peers.images import labels, other, scaled
from benchmarks.protocol import Json, serve
from benchmarks.works import (
    ADAM_EPSILON,
    CHANNELS,
    CNN_HIDDEN,
    CODE,
    DROPOUT,
    HIDDEN,
    POOL,
    WORKS,
    Work,
    smaller,
    warm_up_images,
)


def build(work: Work, hidden: Sequence[int] = HIDDEN, dropout: float = DROPOUT) -> keras.Model:
    """The work's network, compiled; Glorot uniform weights and zero biases are Keras's defaults."""
    parts = {"mlp": lambda: _mlp(work, hidden), "cnn": lambda: _cnn(dropout), "autoencoder": _autoencoder}
    net = keras.Sequential(parts[work.network]())
    if work.optimiser == "adam":
        optimiser = keras.optimizers.Adam(work.rate, epsilon=ADAM_EPSILON)
    else:
        optimiser = keras.optimizers.SGD(work.rate)
    loss = (
        keras.losses.BinaryCrossentropy()
        if work.network == "autoencoder"
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    net.compile(optimizer=optimiser, loss=loss)
    return net


def _mlp(work: Work, hidden: Sequence[int]) -> list[Any]:
    l2 = keras.regularizers.L2(work.l2) if work.l2 else None
    dense = [layers.Dense(units, activation="relu", kernel_regularizer=l2) for units in hidden]
    return [keras.Input((784,)), *dense, layers.Dense(10)]


def _cnn(dropout: float) -> list[Any]:
    convolutions = [layers.Conv2D(filters, 3, activation="relu") for filters in CHANNELS]
    return [
        keras.Input((28, 28, 1)), *convolutions, layers.MaxPooling2D(POOL), layers.Dropout(dropout),
        layers.Flatten(), layers.Dense(CNN_HIDDEN, activation="relu"), layers.Dense(10),
    ]  # fmt: skip


def _autoencoder() -> list[Any]:
    dense = [layers.Dense(units, activation="relu") for units in (*CODE, *CODE[-2::-1])]
    return [keras.Input((784,)), *dense, layers.Dense(784, activation="sigmoid")]


def backend_version() -> str:
    """Of the library underneath."""
    return str(importlib.import_module(keras.backend.backend()).__version__)


class KerasPeer:
    """Keeps one model and goes on training it."""

    def prepare(self, request: Json) -> Json:
        """Warm up on made-up images of every batch shape, so that nothing is traced or compiled later."""
        self.work = smaller(WORKS[request["work"]], request["images"], None)
        self.net = build(self.work)
        self.given = self._arrays(request["data"])
        warm, classes = other(warm_up_images(self.work), 784)
        warm = warm.reshape(-1, *self.given[0].shape[1:])
        self._fit(warm, warm if self.work.network == "autoencoder" else classes)
        backend = keras.backend.backend()
        versions = {"keras": keras.__version__, backend: backend_version(), "numpy": np.__version__}
        return {"versions": versions, "does": f"Keras on {backend}: fit, fp32, {os.cpu_count()} cores"}

    def _arrays(self, folder: str) -> tuple[np.ndarray, np.ndarray]:
        count = self.work.images
        if self.work.network == "autoencoder":
            noisy, clean = (scaled(folder, name, count).reshape(count, 784) for name in ("noisy", "clean"))
            return noisy, clean
        shape = (count, 28, 28, 1) if self.work.network == "cnn" else (count, 784)
        return scaled(folder, "clean", count).reshape(shape), labels(folder, count)

    def _fit(self, shown: np.ndarray, wanted: np.ndarray) -> float:
        told = self.net.fit(shown, wanted, batch_size=self.work.batch, epochs=1, verbose=0)
        return float(told.history["loss"][-1])

    def measure(self) -> Json:
        """One epoch over the unit's images."""
        began = time.perf_counter()
        loss = self._fit(*self.given)
        return {"seconds": time.perf_counter() - began, "images": self.work.images, "loss": loss}


if __name__ == "__main__":
    serve(KerasPeer())

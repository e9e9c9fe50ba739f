"""Converts Keras's weights, which are for channels-last images; inklab's kernels have outputs first."""

import numpy as np


def convert_keras_weights(weights: np.ndarray) -> np.ndarray:
    """A Keras array in inklab's layout.

    After flattening nothing else changes: both flatten `(h, w, c)`.

    Args:
        weights: a bias `(out,)`, a dense kernel `(in, out)` or a convolution's `(h, w, in, out)`.

    Returns:
        `(out,)`, `(out, in)` or `(out, in, h, w)`.
    """
    return np.ascontiguousarray(weights.transpose(3, 2, 0, 1) if weights.ndim == 4 else weights.T)

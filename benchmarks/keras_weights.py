"""Keras lays weights out for channels-last images; inklab's kernels lead with what they put out."""

import numpy as np


def laid_out(theirs: np.ndarray) -> np.ndarray:
    """A Keras array in our layout.

    Behind a flattening nothing changes: both flatten `(h, w, c)`.

    Args:
        theirs: a bias `(out,)`, a dense kernel `(in, out)` or a convolution's `(h, w, in, out)`.

    Returns:
        `(out,)`, `(out, in)` or `(out, in, h, w)`.
    """
    return np.ascontiguousarray(theirs.transpose(3, 2, 0, 1) if theirs.ndim == 4 else theirs.T)

"""The Fréchet distance between two sets of features, both treated as normal.

Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium" (2017), use
the features of a network for photographs. Here they are those of a classifier trained on the same images, so
values can be compared only for the same classifier, above all with the distance of real test images.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor

from inklab.errors import DataError, ModelMismatchError
from inklab.evaluation.scores import AnyPixels, ForwardFn, batches, inference_mode


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of a set of features.

    Attributes:
        mean: `(f,)`.
        covariance: `(f, f)`, unbiased (divided by count - 1).
        count: how many images they come from.
    """

    mean: Float64[np.ndarray, " f"]
    covariance: Float64[np.ndarray, "f f"]
    count: int


def moments(features: ForwardFn, images: AnyPixels | Float[Tensor, "n c h w"]) -> Moments:
    """Compute mean and covariance of a network's features over many images, in batches.

    Args:
        features: maps `(b, c, h, w)` images in [0, 1] to `(b, f)` features, such as a last hidden layer's.
        images: `(n, c, h, w)` bytes or floats in [0, 1], n at least 2.

    Raises:
        DataError: fewer than two images.
        ModelMismatchError: the features are not `(b, f)`, or not finite.
    """
    if len(images) < 2:
        raise DataError(f"{len(images)} images; a covariance needs at least 2")
    count, mean, scatter = 0, np.zeros(0), np.zeros((0, 0))
    with inference_mode(features):
        for inputs in batches(images):
            batch = _check_features(features(inputs).double().cpu().numpy(), len(inputs))
            if count == 0:
                mean, scatter = np.zeros(batch.shape[1]), np.zeros((batch.shape[1],) * 2)
            # Chan, Golub and LeVeque (1979): merging scatters keeps the digits that sums of squares lose.
            batch_mean = batch.mean(axis=0)
            delta, centered = batch_mean - mean, batch - batch_mean
            total = count + len(batch)
            scatter += centered.T @ centered + np.outer(delta, delta) * (count * len(batch) / total)
            mean = mean + delta * (len(batch) / total)
            count = total
    return Moments(mean, scatter / (count - 1), count)


def frechet_distance(a: Moments, b: Moments) -> float:
    """`|mean_a - mean_b|^2 + trace(A + B - 2 (A B)^(1/2))`: 0 for equal moments, unbounded above.

    It decreases with the number of images on either side, so compare only the same numbers of images.

    Raises:
        ModelMismatchError: the two have different numbers of features.

    Example:
        >>> narrow, wide = (Moments(np.zeros(1), np.array([[sd**2]]), 100) for sd in (1.0, 3.0))
        >>> frechet_distance(narrow, wide)
        4.0
    """
    if a.mean.shape != b.mean.shape:
        raise ModelMismatchError(f"moments of {len(a.mean)} and of {len(b.mean)} features can't be compared")
    # trace((A B)^(1/2)) = trace((A^(1/2) B A^(1/2))^(1/2)), and that matrix is symmetric: its eigenvalues are
    # real, and negative ones are rounding errors. A general root of A B fails where A is singular.
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    inner = root @ b.covariance @ root
    overlap = np.sqrt(np.linalg.eigvalsh((inner + inner.T) / 2).clip(min=0)).sum()
    delta = a.mean - b.mean
    return max(0.0, float(delta @ delta + np.trace(a.covariance) + np.trace(b.covariance) - 2 * overlap))


def _check_features(features: Float64[np.ndarray, "..."], rows: int) -> Float64[np.ndarray, "b f"]:
    if features.ndim != 2 or len(features) != rows or not np.isfinite(features).all():
        raise ModelMismatchError(
            f"features have the shape {features.shape} for {rows} images; they must be ({rows}, f) and finite"
        )
    return features

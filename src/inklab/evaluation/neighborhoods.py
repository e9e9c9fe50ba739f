"""How two sets of images overlap: precision, recall, density and coverage, by neighborhoods of features.

Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models" (2019), and Naeem
et al., "Reliable fidelity and diversity metrics for generative models" (2020). The neighborhood of an image
is the ball around its features that reaches to the k-th nearest of its own set.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inklab.errors import DataError, ModelMismatchError
from inklab.evaluation.scores import batches
from inklab.records.outcomes import NEIGHBORHOOD as K

ROWS = 1000  # compared at once with all others: 40 MB of distances to 10,000 images


class Overlap(NamedTuple):
    """How generated images overlap with real ones.

    Attributes:
        precision: share of generated images in the neighborhood of a real one, in [0, 1].
        recall: share of real images in the neighborhood of a generated one, in [0, 1].
        density: neighborhoods of real images that a generated one lies in, divided by k; at least 0, and 1 on
            average if both sets have the same distribution.
        coverage: share of real images with a generated one in their neighborhood, in [0, 1].
    """

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class Neighborhoods:
    """A set of features, each with the radius of its neighborhood.

    Attributes:
        features: `(n, f)`.
        radii: `(n,)` Euclidean distance to the k-th nearest of the others.
    """

    features: Float[Tensor, "n f"]
    radii: Float[Tensor, " n"]

    @classmethod
    def of(cls, features: Float[Tensor, "n f"]) -> "Neighborhoods":
        """The neighborhoods of more than k features.

        Raises:
            DataError: there are at most k.
        """
        if len(features) <= K:
            raise DataError(f"there are {len(features)} images; neighborhoods of {K} need at least {K + 1}")
        radii = []
        for start, rows in zip(range(0, len(features), ROWS), batches(features, ROWS), strict=True):
            distances = _distances(rows, features)
            own = torch.arange(len(rows))
            distances[own, start + own] = torch.inf
            radii.append(distances.topk(K, dim=1, largest=False).values[:, -1])
        return cls(features, torch.cat(radii))

    def overlap(self, generated: Float[Tensor, "m f"]) -> Overlap:
        """Compare these, of real images, with features of more than k generated images.

        A point on the surface of a ball lies outside, as in the authors' program.

        Raises:
            DataError: there are at most k.
            ModelMismatchError: the two have different numbers of features.

        Example:
            >>> real = torch.arange(20.0).reshape(20, 1)  # a point between two others has the radius 3
            >>> Neighborhoods.of(real).overlap(real[:10] + 0.5)
            Overlap(precision=1.0, recall=0.75, density=1.2, coverage=0.65)
        """
        if generated.shape[1] != self.features.shape[1]:
            raise ModelMismatchError(
                f"{self.features.shape[1]} features can't be compared with {generated.shape[1]}"
            )
        radii = Neighborhoods.of(generated).radii
        inside = precise = 0
        recalled = torch.zeros(len(self.radii), dtype=torch.bool)
        nearest = torch.full_like(self.radii, torch.inf)
        for start, rows in zip(range(0, len(generated), ROWS), batches(generated, ROWS), strict=True):
            distances = _distances(rows, self.features)
            is_inside: Bool[Tensor, "b n"] = distances < self.radii
            inside += int(is_inside.sum())
            precise += int(is_inside.any(dim=1).sum())
            recalled |= (distances < radii[start : start + len(rows), None]).any(dim=0)
            nearest = torch.minimum(nearest, distances.amin(dim=0))
        return Overlap(
            precision=precise / len(generated),
            recall=recalled.double().mean().item(),
            density=inside / (K * len(generated)),
            coverage=(nearest < self.radii).double().mean().item(),
        )


def _distances(a: Float[Tensor, "b f"], b: Float[Tensor, "n f"]) -> Float[Tensor, "b n"]:
    # As one matrix product, of centered features: it cancels fewer digits where they lie far from the origin.
    center = b.mean(dim=0)
    a, b = a - center, b - center
    squares = a.square().sum(dim=1, keepdim=True) + b.square().sum(dim=1) - 2 * a @ b.T
    return squares.clamp(min=0).sqrt()


def nearer_share(distances: Float[np.ndarray, " n"], real_distances: Float[np.ndarray, " m"]) -> float:
    """How often a generated image is nearer to its nearest training image than a real test image to its own.

    The statistic U / (n m) of Meehan, Chaudhuri and Dasgupta, "A non-parametric test to detect data-copying
    in generative models" (2020): 0.5 if both are equally new, 1 if every generated image is nearer. Equal
    distances count half.

    Example:
        >>> nearer_share(np.array([1.0, 3.0]), np.array([2.0, 3.0]))
        0.625
    """
    ordered = np.sort(real_distances)
    farther = len(ordered) - np.searchsorted(ordered, distances, side="right")
    equal = len(ordered) - np.searchsorted(ordered, distances, side="left") - farther
    return float((farther + equal / 2).mean() / len(ordered))

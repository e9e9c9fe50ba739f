"""MNIST-C: fifteen corruptions at one strength each, and the error of networks under such corruptions."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Errors = Float[np.ndarray, "r c"]
"""A row for each replicate, a column for each corruption."""


@dataclass(frozen=True)
class CorruptionPoint:
    """One corruption of MNIST-C.

    Attributes:
        published: its name in MNIST-C.
        corruption: its name here.
        strength: the strength of MNIST-C, in the unit of the corruption.
    """

    published: str
    corruption: str
    strength: float


MNIST_C = (
    CorruptionPoint("shot_noise", "shot", 1 / 3),
    CorruptionPoint("impulse_noise", "salt_and_pepper", 0.17),
    CorruptionPoint("glass_blur", "glass_blur", 0.7),
    CorruptionPoint("motion_blur", "motion_blur", 3.0),
    CorruptionPoint("shear", "shear", 0.4),
    CorruptionPoint("scale", "scale", 0.3),
    CorruptionPoint("rotate", "rotate", 0.4),
    CorruptionPoint("brightness", "brightness", 0.5),
    CorruptionPoint("translate", "translate", 3.0),
    CorruptionPoint("stripe", "stripe", 0.25),
    CorruptionPoint("fog", "fog", 3.0),
    CorruptionPoint("spatter", "spatter", 0.65),
    CorruptionPoint("dotted_line", "dotted_line", 1.0),
    CorruptionPoint("zigzag", "zigzag", 1.0),
    CorruptionPoint("canny_edges", "canny_edges", 1.0),
)
"""The fifteen, in the order of Mu and Gilmer (2019), whose code gives the parameters."""


def relative_errors(
    errors: Errors, baseline: Float[np.ndarray, "b c"], clean: Errors | float = 0.0,
    clean_baseline: Float[np.ndarray, "b c"] | float = 0.0,
) -> Errors:  # fmt: skip
    """Errors under each corruption, divided by the baseline's mean over its replicates.

    `CE = E(f) / E(baseline)`. With errors on clean images it is what the corruption adds to them:
    `relative CE = (E(f) - E_clean(f)) / (E(baseline) - E_clean(baseline))`. The means over corruptions are
    mCE and relative mCE. 1 is as good as the baseline, less is better (Hendrycks and Dietterich, ICLR 2019,
    section 4).

    Args:
        errors: in [0, 1]; a row for each replicate, a column for each corruption.
        baseline: the same of the baseline, with any number of replicates.
        clean: errors of the same replicates on clean images.
        clean_baseline: those of the baseline.

    Returns:
        The same shape as `errors`; NaN where the baseline's denominator is not above 0.

    Example:
        >>> relative_errors(np.array([[0.1, 0.2]]), np.array([[0.2, 0.2], [0.2, 0.6]])).round(3).tolist()
        [[0.5, 0.5]]
    """
    denominator = (baseline - clean_baseline).mean(axis=0)
    return (errors - clean) / np.where(denominator > 0, denominator, np.nan)

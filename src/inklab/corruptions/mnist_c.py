"""MNIST-C: fifteen corruptions at one strength each, and what others measured on them."""

from collections.abc import Mapping
from dataclasses import dataclass

from inklab.errors import DataError


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

PUBLISHED_SOURCE = (
    "salehsargolzaee/Hopfield-integrated-test, logs of one run on MNIST's test images (arXiv 2408.11309)"
)
PUBLISHED_ACCURACY: dict[str, dict[str, float]] = {
    name: dict(zip((point.published for point in MNIST_C), values, strict=True))
    for name, values in {
        "CNN of the PyTorch example": (
            0.9640, 0.7749, 0.3966, 0.4740, 0.9545, 0.8910, 0.8989, 0.8266, 0.4742, 0.9540, 0.1435, 0.9778,
            0.9819, 0.9040, 0.7722,
        ),
        "denoising autoencoder + CNN": (
            0.9662, 0.8747, 0.4260, 0.4636, 0.9480, 0.8758, 0.8953, 0.8210, 0.4707, 0.9540, 0.1437, 0.9756,
            0.9816, 0.9107, 0.7722,
        ),
        "Hopfield network + CNN": (
            0.9771, 0.9590, 0.8979, 0.9082, 0.9556, 0.8842, 0.8895, 0.9698, 0.4436, 0.9540, 0.9700, 0.9796,
            0.9801, 0.9226, 0.7734,
        ),
    }.items()
}  # fmt: skip
"""Accuracy on each corruption by network, from `PUBLISHED_SOURCE`; comparable on MNIST's test set only."""


def mean_corruption_error(accuracy: Mapping[str, float], baseline: Mapping[str, float]) -> float:
    """The error relative to that of a baseline network, averaged over corruptions (Hendrycks and Dietterich).

    1 is as good as the baseline, less is better.

    Args:
        accuracy: in [0, 1], by name of the corruption.
        baseline: the same of the baseline network.

    Raises:
        DataError: the corruptions differ, there are none, a value is no accuracy, or the baseline makes no
            error on one of them.

    Example:
        >>> mean_corruption_error({"fog": 0.9, "scale": 0.8}, {"fog": 0.8, "scale": 0.8})
        0.75
    """
    if not accuracy or accuracy.keys() != baseline.keys():
        differing = ", ".join(sorted(accuracy.keys() ^ baseline.keys())) or "none is given"
        raise DataError(f"both networks need an accuracy on the same corruptions; differing: {differing}")
    for name in accuracy:
        if not (0 <= accuracy[name] <= 1 and 0 <= baseline[name] < 1):
            raise DataError(
                f"accuracies on '{name}' are {accuracy[name]:g} and {baseline[name]:g} (baseline); they "
                "must lie in [0, 1], and the baseline must make an error"
            )
    return sum((1 - accuracy[name]) / (1 - baseline[name]) for name in accuracy) / len(accuracy)

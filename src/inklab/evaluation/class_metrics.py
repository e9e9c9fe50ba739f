"""Metrics of a classifier's probabilities, and how well they are calibrated. NumPy only.

Classes without images are left out of means over classes, as in scikit-learn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Integer

from inklab.metrics import CLASS_RECALL, TOP_K

Probabilities = Float[np.ndarray, "n k"]
Labels = Integer[np.ndarray, " n"]

CALIBRATION_BINS = 15
"""As in Guo et al., "On calibration of modern neural networks" (2017)."""

MAX_CLASSES = 100
"""More classes have no recall of their own: a table of them could not be read, nor an outcome."""


def class_metrics(probabilities: Probabilities, labels: Labels, classes: Sequence[str]) -> dict[str, float]:
    """Every metric of a classifier besides accuracy and loss, by its name without a split.

    Args:
        probabilities: `(n, k)`, for at least one image.
        labels: `(n,)` in [0, k).
        classes: names of the k classes.

    Example:
        >>> probabilities = np.array([[0.75, 0.25], [0.75, 0.25], [0.5, 0.5]])
        >>> class_metrics(probabilities, np.array([0, 1, 0]), ("cat", "dog"))["recall_dog"]
        0.0
    """
    predicted = probabilities.argmax(axis=1)
    hits, true, _ = _count_classes(predicted, labels, len(classes))
    metrics = {
        "balanced_accuracy": float((hits[true > 0] / true[true > 0]).mean()),
        "macro_f1": macro_f1(predicted, labels),
        **{
            f"top{k}_accuracy": top_k_accuracy(probabilities, labels, k)
            for k in TOP_K
            if k < probabilities.shape[1]
        },
        "brier": brier_score(probabilities, labels),
        "ece": calibration(probabilities.max(axis=1), predicted == labels).expected_error,
    }
    if len(classes) <= MAX_CLASSES:
        recalls = zip(classes, hits, true, strict=True)
        metrics |= {f"{CLASS_RECALL}{name}": float(right / n) for name, right, n in recalls if n}
    return metrics


def _count_classes(
    predicted: Labels, labels: Labels, k: int
) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """Of each class: images that were classified rightly, its images, and how often it was the answer."""
    hits = labels[predicted == labels]
    of_hits, of_labels, of_answers = (
        np.bincount(array.astype(np.int64), minlength=k) for array in (hits, labels, predicted)
    )
    return of_hits, of_labels, of_answers


def macro_f1(predicted: Labels, labels: Labels) -> float:
    """Mean over classes of F1, the harmonic mean of precision and recall; of a class without a hit 0.

    A class counts if it has images or was an answer.

    Example:
        >>> macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1]))
        0.6666666666666666
    """
    k = int(max(predicted.max(), labels.max())) + 1
    hits, true, answered = _count_classes(predicted, labels, k)
    present = true + answered > 0
    return float((2 * hits[present] / (true + answered)[present]).mean())


def top_k_accuracy(probabilities: Probabilities, labels: Labels, k: int) -> float:
    """Share of images whose label is among the k most probable classes; of equal ones the first count.

    Example:
        >>> top_k_accuracy(np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]), np.array([1, 2]), 2)
        0.5
    """
    own = probabilities[np.arange(len(labels)), labels][:, None]
    is_earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    rank = ((probabilities > own) | ((probabilities == own) & is_earlier)).sum(axis=1)
    return float((rank < k).mean())


def brier_score(probabilities: Probabilities, labels: Labels) -> float:
    """Mean over images of the squared distance from the right answer, in [0, 2] (Brier 1950).

    Summed over all classes, also where there are two.

    Example:
        >>> brier_score(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 1]))
        0.25
    """
    answer = np.zeros_like(probabilities)
    answer[np.arange(len(labels)), labels] = 1
    return float(np.square(probabilities - answer).sum(axis=1).mean())


@dataclass(frozen=True)
class CalibrationBins:
    """How often a classifier is right, by how confident it is: `CALIBRATION_BINS` bins of equal width.

    Bin b holds confidences in (b / bins, (b + 1) / bins]. Sums of bins can be added.

    Attributes:
        images: `(bins,)` number of images.
        confidence: `(bins,)` sum of their confidences.
        hits: `(bins,)` how many of them were classified rightly.
    """

    images: Int64[np.ndarray, " bins"]
    confidence: Float64[np.ndarray, " bins"]
    hits: Int64[np.ndarray, " bins"]

    def __add__(self, other: "CalibrationBins") -> "CalibrationBins":
        return CalibrationBins(
            self.images + other.images, self.confidence + other.confidence, self.hits + other.hits
        )

    @property
    def expected_error(self) -> float:
        """Expected calibration error: the mean over images of |accuracy - mean confidence| of their bin."""
        return float(np.abs(self.hits - self.confidence).sum() / self.images.sum())


def calibration(confidence: Float[np.ndarray, " n"], is_right: Bool[np.ndarray, " n"]) -> CalibrationBins:
    """Bins of confidences, the probabilities of the predicted classes, in [0, 1].

    Example:
        >>> calibration(np.array([0.75, 0.75, 0.5]), np.array([True, False, True])).expected_error
        0.3333333333333333
    """
    confidence = confidence.astype(np.float64)
    index = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    return CalibrationBins(
        images=np.bincount(index, minlength=CALIBRATION_BINS),
        confidence=np.bincount(index, confidence, CALIBRATION_BINS),
        hits=np.bincount(index[is_right], minlength=CALIBRATION_BINS),
    )

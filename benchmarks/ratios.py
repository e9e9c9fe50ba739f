"""The median of paired ratios, with an interval that assumes no distribution."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

LEVEL = 0.95


@dataclass(frozen=True)
class MedianRatio:
    """A median of ratios.

    Attributes:
        value: the median.
        low: lower order statistic of the range.
        high: upper order statistic of the range.
        n: pairs.
        coverage: probability that such a range covers the true median, whatever the distribution.
    """

    value: float
    low: float
    high: float
    n: int
    coverage: float


def median_ratio(ratios: Sequence[float]) -> MedianRatio:
    """The median with the interval between two order statistics.

    The number of ratios below the true median is binomial(n, 1/2), so the interval from the k-th smallest to
    the k-th largest misses it with probability 2 * P(fewer than k below). The largest k that keeps 95% is
    used. With n = 5 there is none, and the interval is minimum to maximum, which covers 93.75%.

    Args:
        ratios: one per pair, each positive and finite.

    Raises:
        ValueError: there are none, or one isn't a positive number.

    Example:
        >>> median_ratio([2.0, 1.0, 4.0, 3.0, 5.0])
        MedianRatio(value=3.0, low=1.0, high=5.0, n=5, coverage=0.9375)
    """
    if not ratios or not all(math.isfinite(ratio) and ratio > 0 for ratio in ratios):
        raise ValueError(f"ratios must be positive numbers, at least one, but are {list(ratios)}")
    ordered, n = sorted(ratios), len(ratios)
    rank = max((k for k in range(1, n // 2 + 1) if _coverage(n, k) >= LEVEL), default=1)
    return MedianRatio(median(ordered), ordered[rank - 1], ordered[-rank], n, _coverage(n, rank))


def _coverage(n: int, k: int) -> float:
    """Of the interval from the k-th smallest to the k-th largest of n."""
    return 1 - 2 * sum(math.comb(n, below) for below in range(k)) / float(2**n)

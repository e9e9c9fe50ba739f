"""What a row of ratios says: their median, with an interval that assumes no distribution."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

LEVEL = 0.95


@dataclass(frozen=True)
class Ratio:
    """A median of ratios.

    Attributes:
        value: the median.
        low, high: two of the ratios, as far inside as `coverage` allows.
        n: how many pairs.
        coverage: probability that such an interval holds the true median, whatever the distribution.
    """

    value: float
    low: float
    high: float
    n: int
    coverage: float


def of_pairs(ratios: Sequence[float]) -> Ratio:
    """Median with the interval between two order statistics.

    The number of ratios below the true median is binomial(n, 1/2), so the interval from the k-th smallest to
    the k-th largest misses it with probability 2 * P(fewer than k below). The largest k that keeps 95 % is
    taken; with n = 5 there is none, and the interval is minimum to maximum, which covers 93.75 %.

    Args:
        ratios: one a pair, each positive and finite.

    Raises:
        ValueError: there are none, or one isn't a positive number.

    Example:
        >>> of_pairs([2.0, 1.0, 4.0, 3.0, 5.0])
        Ratio(value=3.0, low=1.0, high=5.0, n=5, coverage=0.9375)
    """
    if not ratios or not all(math.isfinite(ratio) and ratio > 0 for ratio in ratios):
        raise ValueError(f"ratios must be positive numbers, at least one, but are {list(ratios)}")
    rising, n = sorted(ratios), len(ratios)
    inside = max((k for k in range(1, n // 2 + 1) if _coverage(n, k) >= LEVEL), default=1)
    return Ratio(median(rising), rising[inside - 1], rising[-inside], n, _coverage(n, inside))


def _coverage(n: int, k: int) -> float:
    """Of the interval from the k-th smallest to the k-th largest of n."""
    return 1 - 2 * sum(math.comb(n, below) for below in range(k)) / float(2**n)

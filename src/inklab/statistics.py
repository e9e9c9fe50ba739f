"""How sure we are: intervals, paired differences, and what could have been seen.

Pure functions on vectors whose entry k comes from replicate k. Every formula is told, with its source, in
`docs/statistics.md`. NumPy here, scipy inside the functions that need it (its import takes half a second).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer

from inklab.errors import OutOfRangeError
from inklab.shapes import Values

Numbers = Sequence[float | int] | Values
Interval = tuple[float, float]
Correct = Bool[np.ndarray, " n"] | Float[np.ndarray, " n"]

LEVEL = 0.95
ALPHA = 0.05
POWER = 0.8
ROUNDING = 1e-12  # spread below this share of the scores is the rounding of floats, not a spread
NODES = 4000  # of the mean over the spread in `_power`: an error below 1e-5 in the power


@dataclass(frozen=True)
class Score:
    """A number about trained networks, with its interval and n.

    Attributes:
        mean: over replicates, or None when there are none.
        sd: sample standard deviation (n - 1), None below two replicates.
        n: replicates that gave a value.
        ci95: Student's t over replicates, None below two.
        values: one a replicate, in the order of the replicates.
        ci95_images: Wilson over test images, of the mean; rates only.
    """

    mean: float | None
    sd: float | None
    n: int
    ci95: Interval | None
    values: tuple[float, ...]
    ci95_images: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        """The score as `results.json` holds it; `ci95_images` stands there for rates only."""
        told: dict[str, Any] = {"mean": self.mean, "sd": self.sd, "n": self.n}
        told |= {"ci95": _listed(self.ci95), "values": list(self.values)}
        return told | ({} if self.ci95_images is None else {"ci95_images": _listed(self.ci95_images)})


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences and how sure it is.

    Attributes:
        mean: of `a - b`, in the unit of the scores; None without pairs.
        sd: such that `sd / sqrt(n)` is the standard error; None below two pairs.
        n: pairs (replicates, or images).
        ci95: Student's t; None where the spread is unknown.
        p: two-sided; None where the spread is unknown.
        smallest_visible: the smallest true difference that such a test shows with power 0.8.
        df: degrees of freedom of the t.
    """

    mean: float | None
    sd: float | None
    n: int
    ci95: Interval | None
    p: float | None
    smallest_visible: float | None
    df: float | None = None

    def interval(self, level: float = LEVEL) -> Interval | None:
        """The interval at any level, such as a step of Holm's procedure has; None where `ci95` is None."""
        if self.mean is None or self.sd is None or self.df is None or self.ci95 is None:
            return None
        half = _t_quantile((1 + level) / 2, self.df) * self.sd / sqrt(self.n)
        return self.mean - half, self.mean + half

    def to_json(self) -> dict[str, Any]:
        """The difference as `results.json` holds it."""
        told: dict[str, Any] = {"mean": self.mean, "sd": self.sd, "n": self.n, "ci95": _listed(self.ci95)}
        return told | {"p": self.p, "smallest_visible": self.smallest_visible}


def score(values: Numbers, *, images: int | None = None) -> Score:
    """Summarise one score of several replicates.

    Args:
        values: one a replicate; failed trials are left out by the caller, who counts them.
        images: how many images a rate was measured on; then `ci95_images` is given.

    Raises:
        OutOfRangeError: a value is NaN or infinite, or `images` is given and the mean is no share in [0, 1].

    Example:
        >>> s = score([0.97, 0.98, 0.99], images=10_000)
        >>> round(s.mean, 4), round(s.sd, 4), [round(end, 4) for end in s.ci95]
        (0.98, 0.01, [0.9552, 1.0048])
    """
    vector = _vector(values)
    n = len(vector)
    if n == 0:
        return Score(None, None, 0, None, ())
    mean = float(vector.mean())
    sd = float(vector.std(ddof=1)) if n > 1 else None
    over_images = None if images is None else wilson(mean, images)
    return Score(mean, sd, n, t_interval(vector), tuple(vector.tolist()), over_images)


def wilson(share: float | int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's interval for a share that was seen in n cases.

    Wilson rather than normal: near 100 % accuracy the normal interval leaves [0, 1].

    Args:
        share: in [0, 1]; it may be a mean over replicates, so `share * n` need not be whole.
        n: cases, at least 1.
        level: of the interval, in (0, 1).

    Raises:
        OutOfRangeError: the share lies outside [0, 1], or n is below 1.

    Example:
        >>> [round(end, 4) for end in wilson(0.9784, 10_000)]
        [0.9754, 0.9811]
    """
    # A mean of equal shares may end a rounding above 1.
    if not -ROUNDING <= share <= 1 + ROUNDING or n < 1:
        raise OutOfRangeError(f"a share in [0, 1] over at least one image is needed, not {share} over {n}")
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = sqrt(z2 * max(share * (1 - share), 0.0) / n + (z2 / (2 * n)) ** 2) / (1 + z2 / n)
    low = 0.0 if share <= 0 else max(0.0, center - half)
    return low, 1.0 if share >= 1 else min(1.0, center + half)


def prediction_interval(values: Values, level: float = 0.95) -> tuple[float, float] | None:
    """Where one more training would score, if scores are normal: what a single foreign run is held against.

    `mean +- t * sd * sqrt(1 + 1 / n)`, with n - 1 degrees of freedom (Hahn and Meeker 1991, chapter 4).
    Wider than the interval of the mean, since one run varies by itself.

    Args:
        values: `(runs,)` scores of replicates.
        level: share of such intervals that hold the next score.

    Returns:
        Its ends; None for fewer than two values.

    Example:
        >>> prediction_interval(np.array([0.9, 1.0, 1.1]))
        (0.503..., 1.496...)
    """
    from scipy import stats

    n = len(values)
    if n < 2:
        return None
    reach = stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) * sqrt(1 + 1 / n)
    return float(values.mean() - reach), float(values.mean() + reach)


def t_interval(values: Numbers, level: float = LEVEL) -> Interval | None:
    """Student's interval for the mean; None below two values. It may leave [0, 1] when there are few.

    Example:
        >>> [round(end, 3) for end in t_interval([1.0, 2.0, 3.0])]
        [-0.484, 4.484]
    """
    vector = _vector(values)
    if len(vector) < 2:
        return None
    half = _t_quantile((1 + level) / 2, len(vector) - 1.0) * float(vector.std(ddof=1)) / sqrt(len(vector))
    mean = float(vector.mean())
    return mean - half, mean + half


def paired_difference(a: Numbers, b: Numbers, *, alpha: float = ALPHA) -> Difference:
    """How much larger `a` is than `b`, replicate by replicate.

    Differences without any spread leave the t test undefined. If all are 0 nothing differs: p is 1 and the
    interval [0, 0]. If all are the same other number, p and interval are None: equal numbers from so few
    replicates do not show that there is no spread.

    Args:
        a: `(runs,)` scores; entry i comes from the same replicate as entry i of `b`.
        b: `(runs,)` scores in the same unit.
        alpha: the level at which `minimum_detectable` is asked; divide it by the number of comparisons.

    Raises:
        OutOfRangeError: the lengths differ, or a value is NaN or infinite.

    Example:
        >>> d = paired_difference([3.0, 5.0, 7.0], [1.0, 2.0, 3.0])
        >>> d.mean, d.n, round(d.p, 4), [round(end, 3) for end in d.ci95]
        (3.0, 3, 0.0351, [0.516, 5.484])
    """
    first, second = _vector(a), _vector(b)
    if len(first) != len(second):
        raise OutOfRangeError(f"pairs need as many scores on both sides, not {len(first)} and {len(second)}")
    gaps = first - second
    n = len(gaps)
    if n == 0:
        return Difference(None, None, 0, None, None, None)
    if n == 1:
        return Difference(float(gaps[0]), None, 1, None, None, None)
    noise = ROUNDING * float(np.abs(np.concatenate([first, second])).max())
    mean, sd = float(gaps.mean()), float(gaps.std(ddof=1))
    mean, sd = (0.0 if abs(value) <= noise else value for value in (mean, sd))
    return _difference(mean, sd, n, float(n - 1), alpha)


def paired_images_difference(
    correct_a: Correct, correct_b: Correct, labels: Integer[np.ndarray, " n"], *, alpha: float = ALPHA
) -> Difference:
    """The difference of two pipelines' mean true-positive rates, over the same test images.

    For where there are too few replicates: it says how sure the difference is for *these* networks on fresh
    images, nothing about training again. Every class weighs the same; its images are its stratum.

    Args:
        correct_a: `(n,)` whether image i was recognised, or the share of replicates that did.
        correct_b: the same of the other pipeline, in the same order.
        labels: `(n,)` the images' classes; only classes that occur count.
        alpha: the level at which `minimum_detectable` is asked.

    Returns:
        The difference with n = images, the variance `sum_c(s_c^2 / n_c) / k^2`, and Satterthwaite's degrees
        of freedom. The spread is unknown (None) when a class has one image only.

    Raises:
        OutOfRangeError: the lengths differ, or a value is NaN or infinite.

    Example:
        >>> a, b = np.array([1.0, 1.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0, 0.0])
        >>> paired_images_difference(a, b, np.array([0, 0, 1, 1])).mean
        0.5
    """
    first, second = _vector(correct_a.astype(float)), _vector(correct_b.astype(float))
    if not len(first) == len(second) == len(labels):
        raise OutOfRangeError(
            f"one label an image: {len(labels)} labels, {len(first)} and {len(second)} images"
        )
    classes = [(first - second)[labels == label] for label in np.unique(labels)]
    if not classes:
        return Difference(None, None, 0, None, None, None)
    mean = float(np.mean([gaps.mean() for gaps in classes]))
    if min(len(gaps) for gaps in classes) < 2:
        return Difference(mean, None, len(labels), None, None, None)
    parts = np.array([gaps.var(ddof=1) / len(gaps) for gaps in classes]) / len(classes) ** 2
    variance = float(parts.sum())
    free = np.array([len(gaps) - 1 for gaps in classes])
    df = variance**2 / float((parts**2 / free).sum()) if variance > 0 else float(free.sum())
    return _difference(mean, sqrt(variance * len(labels)), len(labels), df, alpha)


def minimum_detectable(sd: float | int, n: int, alpha: float = ALPHA, power: float = POWER) -> float | None:
    """The smallest true difference that a paired t test would show.

    Args:
        sd: standard deviation of the paired differences.
        n: pairs.
        alpha: level of the two-sided test.
        power: how often the test is to find it, in (alpha, 1).

    Returns:
        The difference, in the unit of `sd`; None below two pairs.

    Example:
        >>> round(minimum_detectable(0.01, 30), 4)
        0.0053
    """
    return None if n < 2 else sd / sqrt(n) * _visible_errors(float(n - 1), alpha, power)


def holm(p_values: Numbers) -> list[float]:
    """Holm's adjusted p values: those below 0.05 hold together, with 5 % risk that any is wrong.

    Raises:
        OutOfRangeError: a p value lies outside [0, 1].

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03, 0.005])]
        [0.03, 0.06, 0.06, 0.02]
    """
    p, order = _ordered(p_values)
    steps = (len(p) - np.arange(len(p))) * p[order]
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(p) else steps
    return [float(value) for value in adjusted]


def holm_levels(p_values: Numbers, alpha: float = ALPHA) -> list[float]:
    """The level at which Holm's procedure tests each hypothesis.

    An interval at 1 - level excludes 0 exactly where Holm rejects; that is how bounds are adjusted here.
    After the first that is not rejected the level stays where it is.

    Example:
        >>> [round(level, 4) for level in holm_levels([0.001, 0.9, 0.02])]
        [0.0167, 0.05, 0.025]
    """
    p, order = _ordered(p_values)
    levels = np.empty(len(p))
    left = len(p)
    for place in order:
        levels[place] = alpha / left
        if p[place] <= levels[place] and left > 1:
            left -= 1
    return [float(level) for level in levels]


def _difference(mean: float, sd: float, n: int, df: float, alpha: float) -> Difference:
    """The t test and interval of a mean whose standard error is `sd / sqrt(n)`."""
    if sd == 0:
        same = mean == 0
        return Difference(mean, sd, n, (0.0, 0.0) if same else None, 1.0 if same else None, None, df)
    from scipy.special import stdtr

    error = sd / sqrt(n)
    half = _t_quantile((1 + LEVEL) / 2, df) * error
    p = 2 * float(stdtr(df, -abs(mean) / error))
    visible = error * _visible_errors(df, alpha, POWER)
    return Difference(mean, sd, n, (mean - half, mean + half), p, visible, df)


@lru_cache(maxsize=1024)
def _visible_errors(df: float, alpha: float, power: float) -> float:
    """The smallest visible difference in standard errors: where the noncentral t has that power."""
    from scipy.optimize import brentq
    from scipy.stats import chi2

    bound = _t_quantile(1 - alpha / 2, df)
    spreads = np.sqrt(chi2.ppf((np.arange(NODES) + 0.5) / NODES, df) / df)
    # At the bound times the largest spread plus some, nearly every test rejects.
    most = bound * float(spreads[-1]) + 10.0
    return float(brentq(lambda errors: _power(errors, bound, spreads) - power, 0.0, most))


def _power(errors: float, bound: float, spreads: Float[np.ndarray, " nodes"]) -> float:
    """How often |T| exceeds the bound when T = (Z + errors) / S, a noncentral t.

    The mean over S of a normal tail: `scipy.stats.nct` is NaN for few pairs and strict levels
    (seen with scipy 1.17: df = 1, noncentrality 30), which are the usual case here.
    """
    from scipy.special import ndtr

    return float(np.mean(ndtr(errors - bound * spreads) + ndtr(-errors - bound * spreads)))


def _t_quantile(share: float, df: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, share))


def _vector(values: Numbers) -> Values:
    vector = np.asarray(values, dtype=float)
    if not np.isfinite(vector).all():
        raise OutOfRangeError("a score is NaN or infinite; leave failed trials out and count them instead")
    return vector


def _ordered(p_values: Numbers) -> tuple[Values, Integer[np.ndarray, " runs"]]:
    p = _vector(p_values)
    if len(p) and (p.min() < 0 or p.max() > 1):
        raise OutOfRangeError(f"a p value lies in [0, 1], not {p.min() if p.min() < 0 else p.max()}")
    return p, np.argsort(p, kind="stable")


def _listed(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)

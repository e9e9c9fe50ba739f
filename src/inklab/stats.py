"""How certain a measurement is: intervals, paired differences, the smallest detectable effect.

Pure functions on vectors whose entry k comes from replicate k. `docs/statistics.md` has every formula with
its source. scipy is imported by the functions that need it, since its import takes half a second.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import sqrt
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float, Integer

from inklab.errors import OutOfRangeError
from inklab.records.estimates import ALPHA, Difference, Estimate, ImagesDifference, UnpairedDifference

Values = Float[np.ndarray, " runs"]
"""One value per replicate; entry k comes from replicate k."""

Numbers = Sequence[float | int] | Values
Interval = tuple[float, float]
Correct = Bool[np.ndarray, " n"] | Float[np.ndarray, " n"]
Flags = Sequence[bool] | Bool[np.ndarray, "..."]

LEVEL = 0.95
POWER = 0.8
ROUNDING = 1e-12  # a spread below this share of the values is floating-point rounding
NODES = 4000  # of the mean over the spread in `_power`: the power's error is below 1e-5


def estimate(values: Numbers, *, images: int | None = None) -> Estimate:
    """Summarize one metric over replicates.

    Args:
        values: one per replicate, without failed trials; the caller counts those.
        images: how many images a share was measured on; then `ci95_images` is computed.

    Raises:
        OutOfRangeError: a value is NaN or infinite, or `images` is given and the mean is outside [0, 1].

    Example:
        >>> accuracy = estimate([0.97, 0.98, 0.99], images=10_000)
        >>> round(accuracy.mean, 4), round(accuracy.sd, 4), [round(end, 4) for end in accuracy.ci95]
        (0.98, 0.01, [0.9552, 1.0048])
    """
    vector = _vector(values)
    n = len(vector)
    if n == 0:
        return Estimate.empty()
    mean, sd = float(vector.mean()), float(vector.std(ddof=1)) if n > 1 else None
    half = None if sd is None else _t_quantile((1 + LEVEL) / 2, n - 1.0) * sd / sqrt(n)
    return Estimate(
        mean=mean,
        sd=sd,
        n=n,
        ci95=None if half is None else (mean - half, mean + half),
        values=tuple(vector.tolist()),
        ci95_images=None if images is None else wilson(mean, images),
    )


def wilson(share: float | int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's interval for a share that was observed in n cases.

    Wilson rather than normal: near 100% accuracy the normal interval leaves [0, 1].

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
    # The mean of equal shares may be a rounding error above 1.
    if not -ROUNDING <= share <= 1 + ROUNDING or n < 1:
        raise OutOfRangeError(f"a share must be in [0, 1], over at least 1 image, but is {share} over {n}")
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = sqrt(z2 * max(share * (1 - share), 0.0) / n + (z2 / (2 * n)) ** 2) / (1 + z2 / n)
    low = 0.0 if share <= 0 else max(0.0, center - half)
    return low, 1.0 if share >= 1 else min(1.0, center + half)


def prediction_interval(values: Values) -> Interval | None:
    """The 95% interval of one more training's value, if values are normal: to compare with a run of others.

    `mean +- t * sd * sqrt(1 + 1 / n)`, with n - 1 degrees of freedom (Hahn and Meeker 1991, ch. 4).
    Wider than the interval of the mean, since one run varies by itself.

    Args:
        values: `(runs,)`, one per replicate.

    Returns:
        Lower and upper bound; None below two values.

    Example:
        >>> prediction_interval(np.array([0.9, 1.0, 1.1]))
        (0.503..., 1.496...)
    """
    n = len(values)
    if n < 2:
        return None
    half = _t_quantile((1 + LEVEL) / 2, n - 1.0) * values.std(ddof=1) * sqrt(1 + 1 / n)
    return float(values.mean() - half), float(values.mean() + half)


def paired_difference(a: Numbers, b: Numbers, *, alpha: float = ALPHA) -> Difference:
    """The mean of `a - b`, paired by replicate.

    Differences without any spread leave the t test undefined. If all are 0, p is 1 and the interval [0, 0].
    If all are the same other number, p and interval are None: equal numbers from a few replicates do not
    prove that there is no spread.

    Args:
        a: `(runs,)` values; entry i comes from the same replicate as entry i of `b`.
        b: `(runs,)` values in the same unit.
        alpha: level of the test for `mde`; `family_alpha` gives that of a family of comparisons.

    Raises:
        OutOfRangeError: the lengths differ, or a value is NaN or infinite.

    Example:
        >>> d = paired_difference([3.0, 5.0, 7.0], [1.0, 2.0, 3.0])
        >>> d.mean, d.n, round(d.p, 4), [round(end, 3) for end in d.ci95]
        (3.0, 3, 0.0351, [0.516, 5.484])
    """
    first, second = _vector(a), _vector(b)
    if len(first) != len(second):
        raise OutOfRangeError(
            f"pairs need equally many values on both sides, but there are {len(first)} and {len(second)}"
        )
    differences = first - second
    n = len(differences)
    if n < 2:
        return _untested(float(differences[0]) if n else None, n)
    rounding = ROUNDING * float(np.abs(np.concatenate([first, second])).max())
    mean, sd = float(differences.mean()), float(differences.std(ddof=1))
    mean, sd = (0.0 if abs(value) <= rounding else value for value in (mean, sd))
    return _difference(mean, sd, n, float(n - 1), alpha)


def paired_images_difference(
    correct_a: Correct, correct_b: Correct, labels: Integer[np.ndarray, " n"], *, alpha: float = ALPHA
) -> Difference:
    """The difference of two pipelines' mean recall, paired by test image.

    Used where there are too few replicates. It holds for *these* networks on new images, and says nothing
    about training again. All classes have the same weight; the strata are the classes.

    Args:
        correct_a: `(n,)` whether image i was recognized, or the share of replicates that recognized it.
        correct_b: the same of the other pipeline, in the same order.
        labels: `(n,)` the images' classes; only classes that occur count.
        alpha: level of the test for `mde`.

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
            f"each image needs one label, but {len(first)} and {len(second)} images have {len(labels)} labels"
        )
    strata = [(first - second)[labels == label] for label in np.unique(labels)]
    if not strata:
        return _untested(None, 0)
    mean = float(np.mean([stratum.mean() for stratum in strata]))
    if min(len(stratum) for stratum in strata) < 2:
        return _untested(mean, len(labels))
    variances = np.array([stratum.var(ddof=1) / len(stratum) for stratum in strata]) / len(strata) ** 2
    variance = float(variances.sum())
    dfs = np.array([len(stratum) - 1 for stratum in strata])
    df = variance**2 / float((variances**2 / dfs).sum()) if variance > 0 else float(dfs.sum())
    return _difference(mean, sqrt(variance * len(labels)), len(labels), df, alpha)


def unpaired_difference(a: Numbers, b: Numbers, *, alpha: float = ALPHA) -> UnpairedDifference:
    """The difference of two means by Welch's t test: the samples do not pair, and may differ in spread.

    Where replicates share their seeds, data and split, `paired_difference` is sharper.

    Args:
        a: `(n_a,)` values.
        b: `(n_b,)` values in the same unit.
        alpha: level of the test for `mde`.

    Returns:
        `mean(a) - mean(b)` with Welch and Satterthwaite's degrees of freedom. The spread is unknown (None)
        when a side has fewer than two values.

    Raises:
        OutOfRangeError: a value is NaN or infinite.

    Example:
        >>> d = unpaired_difference([3.0, 5.0, 7.0], [1.0, 2.0])
        >>> d.mean, round(d.df, 3), round(d.p, 4), d.n_a, d.n_b
        (3.5, 2.635, 0.0798, 3, 2)
    """
    first, second = _vector(a), _vector(b)
    n_a, n_b = len(first), len(second)
    n = n_a + n_b
    if min(n_a, n_b) < 2:
        mean = float(first.mean() - second.mean()) if min(n_a, n_b) else None
        return UnpairedDifference(**dict(_untested(mean, n if min(n_a, n_b) else 0)), n_a=n_a, n_b=n_b)
    mean = float(first.mean() - second.mean())
    squares = np.array([values.var(ddof=1) / len(values) for values in (first, second)])
    variance = float(squares.sum())
    rounding = ROUNDING * float(np.abs(np.concatenate([first, second])).max())
    mean, error = (0.0 if abs(value) <= rounding else value for value in (mean, sqrt(variance)))
    dfs = np.array([len(first) - 1, len(second) - 1])
    df = variance**2 / float((squares**2 / dfs).sum()) if error else float(n - 2)
    return UnpairedDifference(**dict(_difference(mean, error * sqrt(n), n, df, alpha)), n_a=n_a, n_b=n_b)


def mcnemar(correct_a: Flags, correct_b: Flags, *, alpha: float = ALPHA) -> ImagesDifference:
    """The difference of two classifiers' accuracies on the same images, by McNemar's exact test.

    It compares *two trained networks* on new images of the same kind. It says nothing about training again:
    for that, replicates are needed, and `paired_difference`.

    Args:
        correct_a: `(n,)` whether a classifies image i rightly.
        correct_b: `(n,)` the same of b, in the same order.
        alpha: level of the test for `mde`.

    Returns:
        The difference of the accuracies with n = images. `p` is that of the exact binomial test on the images
        that only one of them classifies rightly. `ci95` is Newcombe's (1998, method 10), which stays in
        [-1, 1] and has a width even where both agree on every image.

    Raises:
        OutOfRangeError: the lengths differ.

    Example:
        >>> a = np.array([True] * 9 + [False] * 3)
        >>> b = np.array([True] * 2 + [False] * 9 + [True])
        >>> d = mcnemar(a, b)
        >>> d.only_a, d.only_b, round(d.mean, 3), round(d.p, 3)
        (7, 1, 0.5, 0.07)
    """
    first, second = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if first.ndim != 1 or first.shape != second.shape:
        raise OutOfRangeError(
            f"both need one entry for each image, but have the shapes {first.shape} and {second.shape}"
        )
    n = len(first)
    only_a, only_b = int((first & ~second).sum()), int((second & ~first).sum())
    if n < 2:
        untested = _untested(float(only_a - only_b) if n else None, n)
        return ImagesDifference(**dict(untested), only_a=only_a, only_b=only_b)
    from scipy.special import bdtr

    differences = first.astype(float) - second
    mean, sd = float(differences.mean()), float(differences.std(ddof=1))
    mde = _difference(mean, sd, n, float(n - 1), alpha).mde
    p = min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5))) if only_a + only_b else 1.0
    ci95 = _newcombe(int((first & second).sum()), only_a, only_b, n)
    return ImagesDifference(
        mean=mean, sd=sd, n=n, ci95=ci95, p=p, mde=mde, df=float(n - 1), only_a=only_a, only_b=only_b
    )


def _newcombe(both: int, only_a: int, only_b: int, n: int) -> Interval:
    """The interval of a difference of paired shares (Newcombe 1998, method 10)."""
    neither = n - both - only_a - only_b
    share_a, share_b = (both + only_a) / n, (both + only_b) / n
    (low_a, high_a), (low_b, high_b) = wilson(share_a, n), wilson(share_b, n)
    excess = float(both * neither - only_a * only_b)
    excess = max(excess - n / 2, 0.0) if excess > 0 else excess
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    phi = excess / sqrt(product) if product else 0.0

    def width(inner: float, outer: float) -> float:
        return sqrt(max(inner**2 - 2 * phi * inner * outer + outer**2, 0.0))

    mean = (only_a - only_b) / n
    return mean - width(share_a - low_a, high_b - share_b), mean + width(high_a - share_a, share_b - low_b)


def holm(p_values: Numbers) -> list[float]:
    """Holm's adjusted p values: all below 0.05 hold together, with a risk of 5% that any is wrong.

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

    An interval at 1 - level excludes 0 exactly where Holm rejects; `adjust_family` uses this. After the first
    hypothesis that is not rejected the level stays the same.

    Example:
        >>> [round(level, 4) for level in holm_levels([0.001, 0.9, 0.02])]
        [0.0167, 0.05, 0.025]
    """
    p, order = _ordered(p_values)
    levels = np.empty(len(p))
    remaining = len(p)
    for index in order:
        levels[index] = alpha / remaining
        if p[index] <= levels[index] and remaining > 1:
            remaining -= 1
    return [float(level) for level in levels]


def family_alpha(comparisons: int) -> float:
    """The level of Holm's strictest step: that of `mde` for a whole family of comparisons."""
    return ALPHA / max(1, comparisons)


def adjust_family(differences: Sequence[Difference]) -> list[Difference]:
    """A family of comparisons with Holm's adjusted p, and bounds at each one's step of Holm's procedure.

    A difference without p (one pair, or no spread) is not tested and does not count in the family.

    Returns:
        The differences in the same order with `p_holm`, `lower` and `upper`. The bounds exclude 0 exactly
        where `p_holm` is below 0.05.

    Example:
        >>> gains = [paired_difference([3.0, 5.0, 7.0], [1.0, 2.0, 3.0]), paired_difference([1.0], [0.0])]
        >>> [gain.p_holm is not None and gain.lower > 0 for gain in adjust_family(gains)]
        [True, False]
    """
    p_values = [difference.p for difference in differences if difference.p is not None]
    steps = iter(zip(holm(p_values), holm_levels(p_values), strict=True))
    adjusted = []
    for difference in differences:
        if difference.p is not None:
            p_holm, level = next(steps)
            lower, upper = interval_at(difference, 1 - level) or (None, None)
            update = {"p_holm": p_holm, "lower": lower, "upper": upper}
            difference = difference.model_copy(update=update)
        adjusted.append(difference)
    return adjusted


def interval_at(difference: Difference, level: float) -> Interval | None:
    """Student's interval of a difference at any level; None where `ci95` is None."""
    if difference.mean is None or difference.sd is None or difference.df is None or difference.ci95 is None:
        return None
    half = _t_quantile((1 + level) / 2, difference.df) * difference.sd / sqrt(difference.n)
    return difference.mean - half, difference.mean + half


def _untested(mean: float | None, n: int) -> Difference:
    return Difference(mean=mean, sd=None, n=n, ci95=None, p=None, mde=None)


def _difference(mean: float, sd: float, n: int, df: float, alpha: float) -> Difference:
    """The t test and interval of a mean whose standard error is `sd / sqrt(n)`."""
    if sd == 0:
        ci95, p = ((0.0, 0.0), 1.0) if mean == 0 else (None, None)
        return Difference(mean=mean, sd=sd, n=n, ci95=ci95, p=p, mde=None, df=df)
    from scipy.special import stdtr

    error = sd / sqrt(n)
    half = _t_quantile((1 + LEVEL) / 2, df) * error
    return Difference(
        mean=mean,
        sd=sd,
        n=n,
        ci95=(mean - half, mean + half),
        p=2 * float(stdtr(df, -abs(mean) / error)),
        mde=error * detectable_errors(df, alpha),
        df=df,
    )


@lru_cache(maxsize=1024)
def detectable_errors(df: float | int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The minimum detectable effect in standard errors: where the noncentral t has that power.

    Args:
        df: degrees of freedom; of n pairs n - 1.
        alpha: level of the two-sided test.
        power: how often the test detects it, in (alpha, 1).

    Example:
        >>> round(0.01 / sqrt(30) * detectable_errors(29), 4)  # of 30 pairs with a spread of 0.01
        0.0053
    """
    from scipy.optimize import brentq
    from scipy.stats import chi2

    bound = _t_quantile(1 - alpha / 2, df)
    spreads = np.sqrt(chi2.ppf((np.arange(NODES) + 0.5) / NODES, df) / df)
    # At the bound times the largest spread plus some, nearly every test rejects.
    highest = bound * float(spreads[-1]) + 10.0
    return float(brentq(lambda errors: _power(errors, bound, spreads) - power, 0.0, highest))


def _power(errors: float, bound: float, spreads: Float[np.ndarray, " nodes"]) -> float:
    """How often |T| exceeds the bound when T = (Z + errors) / S, a noncentral t.

    The mean over S of a normal tail: `scipy.stats.nct` is NaN for few pairs and strict levels
    (observed with scipy 1.17: df = 1, noncentrality 30), which are the usual case here.
    """
    from scipy.special import ndtr

    return float(np.mean(ndtr(errors - bound * spreads) + ndtr(-errors - bound * spreads)))


def _t_quantile(share: float, df: float | int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, share))


def _vector(values: Numbers) -> Values:
    vector = np.asarray(values, dtype=float)
    if not np.isfinite(vector).all():
        raise OutOfRangeError("a value is NaN or infinite; leave failed trials out and count them instead")
    return vector


def _ordered(p_values: Numbers) -> tuple[Values, Integer[np.ndarray, " runs"]]:
    p = _vector(p_values)
    if len(p) and (p.min() < 0 or p.max() > 1):
        raise OutOfRangeError(f"a p value must be in [0, 1], but is {p.min() if p.min() < 0 else p.max()}")
    return p, np.argsort(p, kind="stable")

"""Numbers with their uncertainty: what `inklab.stats` computes and every surface writes."""

from typing import Literal

from pydantic import model_validator

from inklab.format import format_delta, format_delta_interval, format_interval, format_metric, format_p
from inklab.metrics import Metric
from inklab.notebook import card
from inklab.records.record import Count, NonNegative, Number, Record, Share

Interval = tuple[Number, Number]

ALPHA = 0.05  # the level of every test

MIN_REPLICATES = 3
"""With fewer, Student's interval is so wide (t is 12.7 for two) that intervals and tests are over images."""

PLAIN = Metric(key="value", label="value", higher_is_better=None)
"""How numbers are shown whose metric is not known: shares as they are, not in percent."""


class Estimate(Record):
    """A metric of trained networks: mean over replicates, its spread and interval.

    Attributes:
        mean: over replicates; None when there are none.
        sd: sample standard deviation (n - 1); None below two replicates.
        n: replicates that gave a value.
        ci95: Student's t over replicates; None below two. It may leave [0, 1] when replicates are few.
        values: one per replicate, in the order of the replicates.
        ci95_images: Wilson interval over test images, of the mean; shares only.

    Example:
        >>> estimate = Estimate(mean=0.5, sd=0.1, n=2, ci95=(0.4, 0.6), values=(0.4, 0.6))
        >>> estimate.format("test_accuracy")
        '50.00% (95% CI 40.00 to 60.00, n = 2)'
        >>> one = Estimate(mean=0.993, sd=None, n=1, ci95=None, values=(0.993,), ci95_images=(0.991, 0.9944))
        >>> one.format("test_accuracy", images="10,000 test images")
        '99.30% (n = 1; 95% CI over 10,000 test images 99.10 to 99.44)'
        >>> Estimate.empty().format("test_loss")
        'no value yet'
    """

    mean: Number | None
    sd: NonNegative | None
    n: Count
    ci95: Interval | None
    values: tuple[Number, ...]
    ci95_images: tuple[Share, Share] | None = None

    @model_validator(mode="after")
    def _check_consistent(self) -> "Estimate":
        if self.n != len(self.values):
            raise ValueError(f"n is {self.n}, but there are {len(self.values)} values")
        if (self.mean is None) != (self.n == 0):
            raise ValueError(f"mean is {self.mean} with n = {self.n}")
        if (self.sd is None, self.ci95 is None) != (self.n < 2, self.n < 2):
            raise ValueError(f"sd and ci95 are given exactly for two replicates or more, but n is {self.n}")
        return self

    @classmethod
    def empty(cls) -> "Estimate":
        """The estimate without any replicate."""
        return cls(mean=None, sd=None, n=0, ci95=None, values=())

    @property
    def has_zero_width(self) -> bool:
        """Whether several replicates gave the very same value: Student's interval has no width then.

        It would claim to know the mean exactly, which a few equal numbers do not show.
        """
        return self.n > 1 and len(set(self.values)) == 1

    @property
    def basis(self) -> Literal["replicates", "images"] | None:
        """What `interval` is over."""
        if self.ci95 is not None and not self.has_zero_width:
            return "replicates"
        return "images" if self.ci95_images is not None else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval over replicates where they differ, else the one over images if there is one."""
        return self.ci95 if self.basis == "replicates" else self.ci95_images

    def format(self, metric: Metric | str, *, images: str = "") -> str:
        """The estimate of a metric as text, with its interval and n; `images` as "10,000 test images"."""
        if self.mean is None:
            return "no value yet"
        return f"{format_metric(self.mean, metric)} ({self._uncertainty(metric, images)})"

    def __str__(self) -> str:
        return self.format(PLAIN)

    def _repr_html_(self) -> str:
        if self.mean is None:
            return card("no value yet")
        sd = "" if self.sd is None else f"; standard deviation {format_metric(self.sd, PLAIN)}"
        return card(format_metric(self.mean, PLAIN), subtitle=self._uncertainty(PLAIN, "") + sd)

    def _uncertainty(self, metric: Metric | str, images: str) -> str:
        n = f"n = {self.n:,}{', all equal' if self.has_zero_width else ''}"
        if self.interval is None:
            return n
        interval = format_interval(self.interval, metric)
        if self.basis == "replicates":
            return f"95% CI {interval}, {n}"
        return f"{n}; 95% CI over {images or 'images'} {interval}"


class Difference(Record):
    """The mean of paired differences a - b.

    Attributes:
        mean: in the unit of the metric; None without pairs.
        sd: such that `sd / sqrt(n)` is the standard error; None below two pairs.
        n: pairs (replicates, or images).
        ci95: Student's t; None where the spread is unknown.
        p: two-sided; None where the spread is unknown.
        mde: minimum detectable effect: the smallest true difference that this test detects with power 0.8.
        df: degrees of freedom of the t.
        p_holm: adjusted by Holm's procedure; None where the difference is not one of a family.
        lower: lower bound at this comparison's step of Holm's procedure: with `upper` an interval that
            excludes 0 exactly where p_holm < 0.05.
        upper: upper bound, see `lower`.

    Example:
        >>> difference = Difference(mean=0.0031, sd=0.0017, n=5, ci95=(0.001, 0.0052), p=0.004, mde=0.004)
        >>> difference.format("test_accuracy")
        '+0.31 points (95% CI +0.10 to +0.52, p = 0.004, n = 5)'
        >>> difference.significant
        True
    """

    mean: Number | None
    sd: NonNegative | None
    n: Count
    ci95: Interval | None
    p: Share | None
    mde: NonNegative | None
    df: NonNegative | None = None
    p_holm: Share | None = None
    lower: Number | None = None
    upper: Number | None = None

    @model_validator(mode="after")
    def _check_consistent(self) -> "Difference":
        if (self.mean is None) != (self.n == 0):
            raise ValueError(f"mean is {self.mean} with n = {self.n}")
        if (self.ci95 is None) != (self.p is None):
            raise ValueError("ci95 and p are given both or not at all")
        if self.n < 2 and (self.sd is not None or self.p is not None):
            raise ValueError(f"sd and p need two pairs or more, but n is {self.n}")
        if self.p_holm is not None and self.p is None:
            raise ValueError("p_holm is given, but p is not")
        if (self.lower is None) != (self.upper is None) or (self.p_holm is None and self.lower is not None):
            raise ValueError("lower and upper are given both, and with p_holm, or not at all")
        return self

    @property
    def significant(self) -> bool:
        """Whether it differs from 0 at the 5% level, after Holm's adjustment if it is one of a family."""
        return self._p is not None and self._p < ALPHA

    @property
    def _p(self) -> float | None:
        return self.p if self.p_holm is None else self.p_holm

    @property
    def interval(self) -> tuple[float, float] | None:
        """Holm's bounds where it was adjusted as one of a family, else the 95% interval."""
        return self.ci95 if self.lower is None or self.upper is None else (self.lower, self.upper)

    def format(self, metric: Metric | str) -> str:
        """The difference as text: interval, p and n, and if it is not significant what would have been."""
        if self.mean is None:
            return "no value yet"
        text = f"{format_delta(self.mean, metric)} ({self._uncertainty(metric)})"
        if self.mde is not None and self.p is not None and not self.significant:
            text += f"; minimum detectable effect {format_delta(self.mde, metric, signed=False)} (80% power)"
        return text

    def _uncertainty(self, metric: Metric | str) -> str:
        if self.interval is None or self._p is None or self.sd == 0:
            return f"{self._sample}, {'all equal' if self.sd == 0 else 'no interval'}"
        holm = "" if self.lower is None else "Holm-adjusted "
        name = "p" if self.p_holm is None else "adjusted p"
        interval = format_delta_interval(self.interval, metric)
        return f"{holm}95% CI {interval}, {format_p(self._p, name)}, {self._sample}"

    @property
    def _sample(self) -> str:
        return f"n = {self.n:,}"

    def __str__(self) -> str:
        return self.format(PLAIN)

    def _repr_html_(self) -> str:
        if self.mean is None:
            return card("no value yet")
        head, _, rest = self.format(PLAIN).partition(" (")
        return card(head, subtitle=rest.replace(")", "", 1))


class UnpairedDifference(Difference):
    """The difference of two means, a - b, of samples that do not pair (Welch's t test).

    Attributes:
        n: values of both.
        n_a: values of a.
        n_b: values of b.

    Example:
        >>> values = dict(mean=0.02, sd=0.03, n=12, ci95=(0.001, 0.039), p=0.04, mde=0.03)
        >>> UnpairedDifference(**values, n_a=5, n_b=7).format("test_accuracy")
        '+2.00 points (95% CI +0.10 to +3.90, p = 0.04, n = 5 and 7)'
    """

    n_a: Count
    n_b: Count

    @property
    def _sample(self) -> str:
        return f"n = {self.n_a:,} and {self.n_b:,}"


class ImagesDifference(Difference):
    """The difference of two classifiers' accuracies on the same images (McNemar's exact test).

    It holds for *these* two networks on new images, and says nothing about training again.

    Attributes:
        n: images.
        only_a: images that only a classifies rightly.
        only_b: images that only b classifies rightly.
    """

    only_a: Count
    only_b: Count

    @property
    def _sample(self) -> str:
        return f"n = {self.n:,} images"

"""Metrics: one row for each quantity that is measured, with its name, unit and direction.

Everything else in the package that needs to know whether a metric is a share, whether more is better, or what
to call it, asks `get_metric`. Metrics of the user's own are functions; see `metric`.

    >>> get_metric("test_accuracy").label, get_metric("validation_bce").higher_is_better
    ('test accuracy', False)
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from inklab.errors import ConfigError, did_you_mean
from inklab.registry import Registry, registered_entry
from inklab.usercode import is_user_code, reference, short_name

if TYPE_CHECKING:
    import numpy as np

Task = Literal["classification", "denoising"]
"""What networks are trained for: labels, or clean images."""

Split = Literal["train", "validation", "test"]

SPLIT_LABELS: dict[Split, str] = {"train": "training", "validation": "validation", "test": "test"}
"""What a split is called in front of a metric."""

SHARE_SUFFIXES = ("accuracy", "recall", "share")
"""Ends of names that are not in `METRICS` but denote shares in [0, 1]."""

CLASS_RECALL = "recall_"
"""In front of the name of a class: its true-positive rate, such as `test_recall_cat`."""

SECOND_TEST = "@"
"""In front of the name of a second test set, such as `test_accuracy@qmnist`."""

TOP_K = (3, 5)
"""Numbers of most probable classes of which one must be the label; where there are more classes."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A quantity that is measured.

    Attributes:
        key: name in results and studies, such as `accuracy` or, with its split, `test_accuracy`.
        label: name in sentences.
        unit: written after a number: "%", "dB" or nothing.
        higher_is_better: None where neither direction is better.
        is_share: a share in [0, 1], written as a percentage; differences are in percentage points.
        is_nonnegative: never below 0, so that intervals are not shown to reach below it; shares never are.
        counts_images: the share of all images of its split that have some property, so that an interval over
            images (Wilson) holds for it. Means over classes are none.
        is_count: a whole number.
        tasks: tasks whose trials have this metric on the validation and the test set.
        in_tables: splits in the report's tables; "" is a metric without a split.
        in_show: splits that `inklab show` prints.
        in_findings: splits that findings mention.
        split: the metric's split; None for a row of `METRICS` and for a metric without a split.
    """

    key: str
    label: str
    unit: str = ""
    higher_is_better: bool | None
    is_share: bool = False
    is_nonnegative: bool = False
    counts_images: bool = False
    is_count: bool = False
    tasks: tuple[Task, ...] = ()
    in_tables: tuple[Split | Literal[""], ...] = ()
    in_show: tuple[Split, ...] = ()
    in_findings: tuple[Split, ...] = ()
    split: Split | None = None

    @property
    def title(self) -> str:
        """The label with a capital, for tables and axes.

        Example:
            >>> get_metric("test_bce").title, get_metric("recall").title
            ('Test BCE', 'Mean recall')
        """
        return self.label[:1].upper() + self.label[1:]

    def is_better(self, value: float | int, other: float | int) -> bool:
        """Whether a value is better than another; False where neither direction is better.

        Example:
            >>> get_metric("test_loss").is_better(0.1, 0.2), get_metric("parameters").is_better(1, 2)
            (True, False)
        """
        if self.higher_is_better is None:
            return False
        return value > other if self.higher_is_better else value < other

    def on(self, split: Split) -> "Metric":
        """This metric on the images of a split.

        Example:
            >>> METRICS["bce"].on("train").label
            'training BCE'
        """
        label = f"{SPLIT_LABELS[split]} {self.label}"
        return replace(self, key=f"{split}_{self.key}", label=label, split=split)


_ROWS = (
    Metric(
        key="accuracy", label="accuracy", unit="%", higher_is_better=True, is_share=True, counts_images=True,
        tasks=("classification",), in_tables=("test", "validation"), in_show=("test", "validation"),
        in_findings=("test",),
    ),
    Metric(
        key="loss", label="loss", higher_is_better=False, is_nonnegative=True, tasks=("classification",),
        in_tables=("test", "validation"), in_show=("test",), in_findings=("test",),
    ),
    Metric(
        key="balanced_accuracy", label="balanced accuracy", unit="%", higher_is_better=True, is_share=True,
        tasks=("classification",), in_show=("test",),
    ),
    Metric(
        key="macro_f1", label="macro F1", unit="%", higher_is_better=True, is_share=True,
        tasks=("classification",),
    ),
    *(
        Metric(
            key=f"top{k}_accuracy", label=f"top-{k} accuracy", unit="%", higher_is_better=True, is_share=True,
            counts_images=True,
        )
        for k in TOP_K
    ),
    Metric(
        key="brier", label="Brier score", higher_is_better=False, is_nonnegative=True,
        tasks=("classification",),
    ),
    Metric(
        key="ece", label="expected calibration error", unit="%", higher_is_better=False, is_share=True,
        tasks=("classification",),
    ),
    Metric(
        key="bce", label="BCE", higher_is_better=False, is_nonnegative=True, tasks=("denoising",),
        in_tables=("test", "validation", "train"), in_show=("test", "validation"), in_findings=("test",),
    ),
    Metric(
        key="psnr", label="PSNR", unit="dB", higher_is_better=True, tasks=("denoising",),
        in_tables=("test", "validation"), in_show=("test",), in_findings=("test",),
    ),
    Metric(key="recall", label="mean recall", unit="%", higher_is_better=True, is_share=True),
    Metric(
        key="mean_accuracy", label="mean accuracy", unit="%", higher_is_better=True, is_share=True
    ),
    Metric(
        key="mean_corruption_error", label="mean corruption error", higher_is_better=False,
        is_nonnegative=True,
    ),
    Metric(
        key="relative_mean_corruption_error", label="relative mean corruption error", higher_is_better=False
    ),
    Metric(key="confident_share", label="confident share", unit="%", higher_is_better=True, is_share=True),
    Metric(
        key="confident_share_reconstructed", label="confident share of reconstructed test images", unit="%",
        higher_is_better=True, is_share=True,
    ),
    Metric(key="frechet_distance", label="Fréchet distance", higher_is_better=False, is_nonnegative=True),
    Metric(key="manifold_precision", label="precision", unit="%", higher_is_better=True, is_share=True),
    Metric(key="manifold_recall", label="recall", unit="%", higher_is_better=True, is_share=True),
    Metric(key="density", label="density", higher_is_better=True, is_nonnegative=True),
    Metric(key="coverage", label="coverage", unit="%", higher_is_better=True, is_share=True),
    Metric(key="nn_distance", label="nearest-neighbor distance", higher_is_better=None),
    Metric(
        key="nearer_share", label="nearer than test images", unit="%", higher_is_better=None, is_share=True
    ),
    Metric(
        key="parameters", label="parameters", higher_is_better=None, is_count=True, in_tables=("",)
    ),
)  # fmt: skip

METRICS: dict[str, Metric] = {row.key: row for row in _ROWS}
"""Every metric by its name without a split, in the order of tables.

`recall` of a robustness experiment is the mean over classes of the true-positive rate. The same quantity of a
training is called `balanced_accuracy`, as in scikit-learn, since `recall_<class>` stands beside it there.
`nn_distance` has no better direction: copies of training images have a small one, noise a large one; nor has
`nearer_share`, which is 0.5 of real images.
"""

SELECTION_METRIC: dict[Task, str] = {"classification": "validation_accuracy", "denoising": "validation_bce"}
"""The metric by which the best setting is chosen."""

REPORTED_METRIC: dict[Task, str] = {"classification": "test_accuracy", "denoising": "test_bce"}
"""The metric on which other settings are compared with the best: it had no part in the choice."""


def get_metric(name: str) -> Metric:
    """A metric by name, with or without a split in front, such as `recall` or `test_accuracy`.

    A metric of the user's own is known once its function, or a plan or results with it, have been read; the
    latest counts. Unknown names get defaults: a share where higher is better if the name ends with one of
    `SHARE_SUFFIXES`, else a plain number without a better direction.

    Example:
        >>> metric = get_metric("test_accuracy")
        >>> metric.key, metric.split, metric.unit
        ('test_accuracy', 'test', '%')
        >>> get_metric("test_top9_accuracy").is_share, get_metric("sharpness").higher_is_better
        (True, None)
        >>> get_metric("test_recall_cat").label, get_metric("test_accuracy@qmnist").label
        ('test recall of cat', 'test accuracy on qmnist')
    """
    if name in METRICS:
        return METRICS[name]
    measured, at, dataset = name.partition(SECOND_TEST)
    if at:
        metric = get_metric(measured)
        return replace(metric, key=name, label=f"{metric.label} on {dataset}", split=None)
    for split in SPLIT_LABELS:
        base = name.removeprefix(f"{split}_")
        if base and base != name:
            return _without_split(base).on(split)
    return _without_split(name)


def _without_split(name: str) -> Metric:
    if listed := METRICS.get(name) or _own.get(name):
        return listed
    class_name = name.removeprefix(CLASS_RECALL)
    is_recall = class_name not in ("", name)
    is_share = is_recall or name.endswith(SHARE_SUFFIXES)
    return Metric(
        key=name,
        label=f"recall of {class_name}" if is_recall else name.replace("_", " "),
        unit="%" if is_share else "",
        higher_is_better=True if is_share else None,
        is_share=is_share,
        counts_images=name.endswith("accuracy"),
    )


TASK_METRICS: dict[Task, tuple[str, ...]] = {
    task: tuple(
        f"{split}_{row.key}" for split in ("test", "validation") for row in _ROWS if task in row.tasks
    )
    for task in SELECTION_METRIC
}
"""The metrics of a trial that is done; those on the validation set are absent if that is empty."""

TABLE_METRICS: tuple[str, ...] = tuple(
    f"{split}_{row.key}" if split else row.key for row in _ROWS for split in row.in_tables
)
"""Columns of the report's tables, in their order."""


def with_second_tests(names: Iterable[str], measured: Iterable[str]) -> tuple[str, ...]:
    """The names, and the same metrics on second test sets after them, as far as they were measured.

    Example:
        >>> with_second_tests(["test_accuracy", "test_loss"], ["test_accuracy", "test_accuracy@qmnist"])
        ('test_accuracy', 'test_accuracy@qmnist', 'test_loss')
    """
    measured = tuple(measured)
    seconds = [(name, [key for key in measured if key.startswith(f"{name}{SECOND_TEST}")]) for name in names]
    return tuple(key for name, others in seconds for key in (name, *others))


SHOW_METRICS: tuple[str, ...] = tuple(
    f"{split}_{row.key}" for split in ("test", "validation", "train") for row in _ROWS if split in row.in_show
)
"""Rows that `inklab show` prints of a setting, in their order."""

FINDINGS_METRICS: tuple[str, ...] = tuple(f"{split}_{row.key}" for row in _ROWS for split in row.in_findings)
"""Metrics of a training that findings mention, in their order."""


# ---------------------------------------------------------------- metrics of the user's own

MetricFn = Callable[["np.ndarray", "np.ndarray"], float]
"""`(probabilities, labels)` of classifiers, `(outputs, images)` of denoisers, to a number; see `metric`."""

F = TypeVar("F", bound=MetricFn)


@dataclass(frozen=True)
class OwnMetric:
    """A metric of the user's own, and the function that computes it.

    Attributes:
        metric: what it is; `tasks` are those that the function can be used for.
        compute: the function.
    """

    metric: Metric
    compute: MetricFn


_own: dict[str, Metric] = {}  # by key, as they were last seen


def declare(metric: Metric) -> Metric:
    """Make `get_metric` know a metric of the user's own; a later one of the same name replaces it.

    Raises:
        ConfigError: its name can't be one of a metric, or is taken.
    """
    key = metric.key
    if not (key.isidentifier() and key.isascii()) or key.startswith(
        tuple(f"{name}_" for name in SPLIT_LABELS)
    ):
        raise ConfigError(
            f"'{key}' can't be the name of a metric: use letters, digits and _, without a split in front; "
            '@metric("name") gives a function another name',
            key=key,
        )
    if key in METRICS or key.startswith(CLASS_RECALL):
        raise ConfigError(f"'{key}' is a metric of inklab; give yours another name", key=key)
    _own[key] = metric
    return metric


def metric(
    name: str,
    *,
    label: str = "",
    unit: str = "",
    higher_is_better: bool | None = None,
    is_share: bool = False,
    tasks: Iterable[Task] = ("classification",),
) -> Callable[[F], F]:
    """Register a function as a metric; experiments whose `metrics` name it compute it of every trial.

    Of classifiers the function gets `(probabilities, labels)`: float64 `(n, k)` with rows that sum to 1, and
    integers `(n,)` in [0, k). Of denoisers it gets `(outputs, images)`: float32 `(n, c, h, w)` in [0, 1],
    what the network returned and the clean images. It is called once for the validation set and once for the
    test set, in a worker process, and must not change its arguments. If it raises an error or returns NaN or
    infinity, the trial is kept, without this metric, and a diagnosis says so.

    Args:
        name: in results, as `test_<name>` and `validation_<name>`; letters, digits and _.
        label: name in sentences; the name with spaces if left out.
        unit: written after a number; "%" of a share.
        higher_is_better: None where neither direction is better.
        is_share: it is in [0, 1] and written as a percentage.
        tasks: "classification" or "denoising", or both.

    Raises:
        ConfigError: the name is not possible, or inklab has a metric of that name.

    Example:
        >>> @metric("mean_confidence", is_share=True)
        ... def mean_confidence(probabilities, labels):
        ...     return probabilities.max(axis=1).mean()
        >>> get_metric("test_mean_confidence").label
        'test mean confidence'
    """
    declared = Metric(
        key=name, label=label or name.replace("_", " "), unit=unit or ("%" if is_share else ""),
        higher_is_better=higher_is_better, is_share=is_share, tasks=tuple(tasks),
    )  # fmt: skip

    def register(function: F) -> F:
        return own_metrics.add_function(name, OwnMetric(declare(declared), function), function)

    return register


def _wrap(name: str, value: object) -> OwnMetric:
    """A plain function is a metric of its own name, for every task."""
    entry = registered_entry(value)
    if isinstance(entry, OwnMetric):
        declare(entry.metric)
        return entry
    if not callable(value) or isinstance(value, type):
        raise ConfigError(
            f"'{short_name(name)}' is a {type(value).__name__}; a metric is a function "
            "(probabilities, labels) -> number of classifiers, or (outputs, images) -> number of denoisers",
            key=name,
        )
    key = getattr(value, "__name__", short_name(name).rpartition(":")[2])
    plain = replace(_without_split(key), tasks=tuple(SELECTION_METRIC), counts_images=False)
    return OwnMetric(declare(plain), value)


own_metrics: Registry[OwnMetric] = Registry("metric", "inklab.metrics", wrap=_wrap)
"""Metrics of the user's own that were registered in this process, by name."""


def resolve_metrics(names: Iterable[str], task: Task) -> list[Metric]:
    """What the metrics of the user's own are that an experiment names.

    Raises:
        ConfigError: one is for another task, or can't be used, or two have the same name.
    """
    metrics: dict[str, Metric] = {}
    for name in names:
        own = own_metrics.resolve(name).metric
        if task not in own.tasks:
            raise ConfigError(
                f"the metric '{own.key}' is for {' and '.join(own.tasks)}, but the experiment trains for "
                f'{task}; leave it out, or give its decorator tasks=["{task}"]',
                key=own.key,
            )
        if own.key in metrics:
            raise ConfigError(f"two metrics are called '{own.key}'; rename one of them", key=own.key)
        metrics[own.key] = own
    return list(metrics.values())


def metric_reference(value: object) -> str:
    """How experiments refer to a metric: `file.py:name`, or a registered name or a function by `reference`.

    Raises:
        ConfigError: it is neither a name nor a function, no metric is registered by that name in this
            process, or inklab computes it anyway.
    """
    if not isinstance(value, str) or is_user_code(value):
        return reference(value)
    if value in METRICS:
        known = "it is computed of every trial of its task"
        raise ConfigError(f"'{value}' is a metric of inklab: {known}; leave it out", key=value)
    if value not in own_metrics:
        raise ConfigError(
            f"no metric called '{value}' was registered in this session.{did_you_mean(value, own_metrics)} "
            "Write file.py:name, or give the function itself",
            key=value,
        )
    return reference(own_metrics[value].compute)

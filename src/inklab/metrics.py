"""Metrics: one row for each quantity that is measured, with its name, unit and direction.

Everything else in the package that needs to know whether a metric is a share, whether more is better, or what
to call it, asks `get_metric`.

    >>> get_metric("test_accuracy").label, get_metric("validation_bce").higher_is_better
    ('test accuracy', False)
"""

from dataclasses import dataclass, replace
from typing import Literal

Task = Literal["classification", "denoising"]
"""What networks are trained for: labels, or clean images."""

Split = Literal["train", "validation", "test"]

SPLIT_LABELS: dict[Split, str] = {"train": "training", "validation": "validation", "test": "test"}
"""What a split is called in front of a metric."""

SHARE_SUFFIXES = ("accuracy", "recall", "share")
"""Ends of names that are not in `METRICS` but denote shares in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A quantity that is measured.

    Attributes:
        key: name in results and studies, such as `accuracy` or, with its split, `test_accuracy`.
        label: name in sentences.
        unit: written after a number: "%", "dB" or nothing.
        higher_is_better: None where neither direction is better.
        is_share: a share in [0, 1], written as a percentage; differences are in percentage points.
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
        key="accuracy", label="accuracy", unit="%", higher_is_better=True, is_share=True,
        tasks=("classification",), in_tables=("test", "validation"), in_show=("test", "validation"),
        in_findings=("test",),
    ),
    Metric(
        key="loss", label="loss", higher_is_better=False, tasks=("classification",),
        in_tables=("test", "validation"), in_show=("test",), in_findings=("test",),
    ),
    Metric(
        key="bce", label="BCE", higher_is_better=False, tasks=("denoising",),
        in_tables=("test", "validation", "train"), in_show=("test", "validation"), in_findings=("test",),
    ),
    Metric(
        key="psnr", label="PSNR", unit="dB", higher_is_better=True, tasks=("denoising",),
        in_tables=("test", "validation"), in_show=("test",), in_findings=("test",),
    ),
    Metric(key="recall", label="mean recall", unit="%", higher_is_better=True, is_share=True),
    Metric(key="confident_share", label="confident share", unit="%", higher_is_better=True, is_share=True),
    Metric(
        key="confident_share_test", label="confident share of test images", unit="%", higher_is_better=True,
        is_share=True,
    ),
    Metric(
        key="confident_share_reconstructed", label="confident share of reconstructed test images", unit="%",
        higher_is_better=True, is_share=True,
    ),
    Metric(key="frechet_distance", label="Fréchet distance", higher_is_better=False),
    Metric(key="real_data_frechet", label="Fréchet distance of test images", higher_is_better=False),
    Metric(key="nn_distance", label="nearest-neighbor distance", higher_is_better=None),
    Metric(
        key="parameters", label="parameters", higher_is_better=None, is_count=True, in_tables=("",)
    ),
)  # fmt: skip

METRICS: dict[str, Metric] = {row.key: row for row in _ROWS}
"""Every metric by its name without a split, in the order of tables.

`recall` is the mean over classes of the true-positive rate: scikit-learn's balanced accuracy.
`nn_distance` has no better direction: copies of training images have a small one, noise a large one.
"""

SELECTION_METRIC: dict[Task, str] = {"classification": "validation_accuracy", "denoising": "validation_bce"}
"""The metric by which the best setting is chosen."""

REPORTED_METRIC: dict[Task, str] = {"classification": "test_accuracy", "denoising": "test_bce"}
"""The metric on which other settings are compared with the best: it had no part in the choice."""


def get_metric(name: str) -> Metric:
    """A metric by name, with or without a split in front, such as `recall` or `test_accuracy`.

    Unknown names get defaults: a share where higher is better if the name ends with one of `SHARE_SUFFIXES`,
    else a plain number without a better direction.

    Example:
        >>> metric = get_metric("test_accuracy")
        >>> metric.key, metric.split, metric.unit
        ('test_accuracy', 'test', '%')
        >>> get_metric("test_top5_accuracy").is_share, get_metric("sharpness").higher_is_better
        (True, None)
    """
    if name in METRICS:
        return METRICS[name]
    for split in SPLIT_LABELS:
        base = name.removeprefix(f"{split}_")
        if base and base != name:
            return (METRICS.get(base) or _unlisted(base)).on(split)
    return _unlisted(name)


def _unlisted(name: str) -> Metric:
    is_share = name.endswith(SHARE_SUFFIXES)
    return Metric(
        key=name,
        label=name.replace("_", " "),
        unit="%" if is_share else "",
        higher_is_better=True if is_share else None,
        is_share=is_share,
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

SHOW_METRICS: tuple[str, ...] = tuple(
    f"{split}_{row.key}" for split in ("test", "validation", "train") for row in _ROWS if split in row.in_show
)
"""Rows that `inklab show` prints of a setting, in their order."""

FINDINGS_METRICS: tuple[str, ...] = tuple(f"{split}_{row.key}" for row in _ROWS for split in row.in_findings)
"""Metrics of a training that findings mention, in their order."""

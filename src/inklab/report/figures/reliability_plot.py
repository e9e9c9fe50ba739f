"""The reliability diagram of a classifier: how often it is right, by how confident it is."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from inklab.evaluation.class_metrics import CALIBRATION_BINS, CalibrationBins, calibration
from inklab.format import format_percent
from inklab.records.plan import TrainingPlan
from inklab.records.results import SettingResults, TrainingResults
from inklab.report.figures.drawing import Plot, as_percent, slug, themed
from inklab.report.figures.figure import Figure
from inklab.report.figures.marks import mark
from inklab.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_REPLICATES = 100
"""Replicates whose predictions are read: more change nothing that can be seen."""


def reliability_diagram(run: Run, plan: TrainingPlan, results: TrainingResults) -> Figure | None:
    """Accuracy of test images by confidence, over the replicates of the best setting, or of the only one."""
    setting = results.best
    if setting is None:
        return None
    bins, n = _sum_bins(run, plan, setting)
    if bins is None:
        return None
    used = bins.images > 0
    edges = np.arange(CALIBRATION_BINS + 1) / CALIBRATION_BINS
    rows = [
        (float(edges[i]), float(edges[i + 1]), int(bins.images[i]), *map(float, means))
        for i, means in zip(np.flatnonzero(used), _means(bins), strict=True)
    ]
    ece = setting.metrics.get("test_ece")
    stated = "" if ece is None else f" Expected calibration error {ece.format('test_ece')}."
    which = f" of the best setting ({setting.label})" if setting.label else ""
    return Figure(
        name=f"{slug(plan.name)}-reliability",
        title="Reliability",
        caption=(
            f"Test images{which} in {CALIBRATION_BINS} bins of equal width by confidence, the probability of "
            f"the predicted class; {'one replicate' if n == 1 else f'summed over {n:,} replicates'}. On the "
            "dashed line, a network is right as often as it says; below it, it is overconfident. Bins with "
            f"few images scatter.{stated}"
        ),
        alt=f"Accuracy by confidence. {_describe(bins)}.",
        drawing=Plot.row(
            {"accuracy": partial(_draw_curve, bins=bins), "images": partial(_draw_histogram, bins=bins)}, 2.6
        ),
        csv_header=("confidence from", "to", "images", "mean confidence", "accuracy"),
        csv_rows=tuple(rows),
    )


def _sum_bins(run: Run, plan: TrainingPlan, setting: SettingResults) -> tuple[CalibrationBins | None, int]:
    """Bins of all replicates that are done, and how many these are; None if they have no predictions."""
    trials = next(planned.trials for planned in plan.settings if planned.values == setting.values)
    done = [id for id in trials if (outcome := run.outcomes.get(id)) is not None and outcome.is_done]
    predictions = [arrays for id in done[:MAX_REPLICATES] if "confidence" in (arrays := run.arrays(id))]
    labels = run.images.test_labels() if predictions else None  # last, as it may load the dataset
    if labels is None or any(len(arrays["predicted"]) != len(labels) for arrays in predictions):
        return None, 0
    bins = [calibration(arrays["confidence"], arrays["predicted"] == labels) for arrays in predictions]
    return sum(bins[1:], start=bins[0]), len(bins)


def _means(bins: CalibrationBins) -> Float64[np.ndarray, "used 2"]:
    """Mean confidence and accuracy of each bin that has images."""
    used = bins.images > 0
    sums = np.stack([bins.confidence, bins.hits], axis=1)
    return np.asarray(sums[used] / bins.images[used][:, None])


def _describe(bins: CalibrationBins) -> str:
    """The fullest bins in words."""
    order = np.argsort(-bins.images[bins.images > 0], kind="stable")[:4]
    images = bins.images[bins.images > 0]
    return "; ".join(
        f"confidence {format_percent(confidence, 1)}: accuracy {format_percent(accuracy, 1)} "
        f"({format_percent(images[i] / images.sum(), 1)} of the images)"
        for i, (confidence, accuracy) in zip(order, _means(bins)[order].tolist(), strict=True)
    )


def _draw_curve(axes: "Axes", bins: CalibrationBins) -> None:
    confidence, accuracy = _means(bins).T
    axes.plot([0, 1], [0, 1], color=themed("muted"), linewidth=1, linestyle=(0, (5, 3)))
    axes.plot(confidence, accuracy, color=themed("c1"), marker="o", markersize=4)
    for x, y in _means(bins).tolist():
        mark(axes, x, y, f"confidence {format_percent(x, 1)}: accuracy {format_percent(y, 1)}")
    axes.set_title("Accuracy")
    axes.set_ylim(-0.02, 1.02)
    as_percent(axes.yaxis)
    _label_confidence(axes)


def _draw_histogram(axes: "Axes", bins: CalibrationBins) -> None:
    centers = (np.arange(CALIBRATION_BINS) + 0.5) / CALIBRATION_BINS
    axes.bar(centers, bins.images / bins.images.sum(), 0.9 / CALIBRATION_BINS, color=themed("c1"))
    axes.set_title("Share of the images")
    axes.set_ylim(0, None)
    as_percent(axes.yaxis)
    _label_confidence(axes)


def _label_confidence(axes: "Axes") -> None:
    axes.set_xlabel("Confidence")
    axes.set_xlim(-0.02, 1.02)
    as_percent(axes.xaxis)

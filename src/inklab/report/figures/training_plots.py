"""Figures of a training experiment: learning curves, the metric of each setting, and examples."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby, product
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8
from pydantic import JsonValue

from inklab.format import (
    format_interval,
    format_metric,
    format_percent,
    format_span,
    format_value,
    humanize,
    pluralize,
    typeset,
)
from inklab.metrics import REPORTED_METRIC, SELECTION_METRIC, SPLIT_LABELS, Split, get_metric
from inklab.records.estimates import Estimate, Interval
from inklab.records.plan import TrainingPlan
from inklab.records.recipe import Recipe
from inklab.records.record import MAX_NUMBER
from inklab.records.results import TrainingResults
from inklab.report.figures.drawing import (
    Plot,
    Stack,
    as_percent,
    series_style,
    slug,
    themed,
)
from inklab.report.figures.figure import Figure
from inklab.report.figures.image_plots import ImageGrid, ImageRow, is_ink
from inklab.report.figures.marks import mark
from inklab.report.figures.mistakes import find_mistakes, first_replicate
from inklab.report.figures.reliability_plot import reliability_diagram
from inklab.runs import HistoryRow, Run
from inklab.training.objectives import objectives

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet
    from matplotlib.lines import Line2D

    from inklab.training.learning_rate_range import LearningRateRange

CURVES: tuple[Split, ...] = ("train", "validation")
METRICS = ("loss", "accuracy")
"""Metrics of learning curves, one panel each."""

MAX_MISTAKES = 20
MISTAKES_PER_ROW = 10
MAX_LINES = 100
"""Replicates drawn one by one; more hide each other and make a drawing of megabytes."""

MAX_DESCRIBED = 8
"""Settings that the text alternative describes."""

MAX_PSNR = 99.0
"""Stands for the infinite PSNR of equal images."""

Histories = dict[str, list[HistoryRow]]
"""Rows of learning curves by setting."""

Grid = Float[np.ndarray, "replicates epochs"]
"""One metric on one split of one setting; NaN where it was not measured."""

MAX_DOTS = 100
"""Replicates drawn of one setting: more dots hide each other, and 20,000 of them make a drawing of 2 MB."""

MIN_LOG_RATIO = 20
"""Positive values that span more than this factor are drawn on a log scale."""

Points = Sequence[Mapping[str, JsonValue]]
"""Values of each setting of a grid."""

Estimates = Mapping[str, Sequence[Estimate]]
"""Metric to its estimates, one for each setting."""


def training_figures(run: Run, plan: TrainingPlan, results: TrainingResults) -> list[Figure | None]:
    """The metrics of a grid, learning curves, reliability, and examples of what the network does."""
    figures = [sweep_figure(plan, results), learning_curves(run, plan)]
    if plan.task == "denoising":
        return [*figures, denoised_examples(run, plan)]
    return [*figures, reliability_diagram(run, plan, results), mistakes(run, plan)]


# ---------------------------------------------------------------- learning curves


def learning_curves(run: Run, plan: TrainingPlan) -> Figure | None:
    """Loss and accuracy over epochs on training and validation set: every replicate and their mean.

    With several settings: the mean on the validation set, one line for each setting.
    """
    rows = [row for row in run.history(plan.name) if row.metric in METRICS and row.split in CURVES]
    if max((row.epoch for row in rows), default=0) < 2:
        return None  # one epoch is no curve; its numbers are in the table
    histories = {setting: list(group) for setting, group in groupby(rows, key=lambda row: row.setting)}
    metrics = [metric for metric in METRICS if any(row.metric == metric for row in rows)]
    is_grid = len(histories) > 1
    draw = _draw_settings if is_grid else _draw_replicates
    panels = {metric: partial(draw, histories=histories, metric=metric) for metric in metrics}
    n = max(len({row.replicate for row in group}) for group in histories.values())
    recipe = run.plan.configs[plan.settings[0].config].recipe
    return Figure(
        name=f"{slug(plan.name)}-curves",
        title="Learning curves",
        caption=f"Validation set; each line is the mean over a setting's replicates (up to n = {n:,}); "
        "lines that coincide hide each other."
        if is_grid
        else _caption_replicates(n, metrics, recipe),
        alt=_describe_curves(histories, metrics),
        drawing=Plot.row(panels, 2.35, legend_columns=5 if is_grid else 0),
        csv_header=("setting", "epoch", "split", "metric", "mean", "n") if is_grid else HistoryRow._fields,
        csv_rows=_mean_rows(histories, metrics) if is_grid else tuple(rows),
    )


def stack(rows: Sequence[HistoryRow], split: Split, metric: str) -> Grid:
    """The curves of one metric on one split: a row for each replicate, NaN where there is no value."""
    selected = [row for row in rows if row.split == split and row.metric == metric]
    index = {replicate: i for i, replicate in enumerate(dict.fromkeys(row.replicate for row in selected))}
    grid = np.full((len(index), max((row.epoch for row in selected), default=0)), np.nan)
    for row in selected:
        if row.value is not None:
            grid[index[row.replicate], row.epoch - 1] = row.value
    return grid


def nan_mean(grid: Grid) -> Float[np.ndarray, " epochs"]:
    """The mean over replicates of what is finite; NaN where nothing is.

    Example:
        >>> nan_mean(np.array([[1.0, 3.0, np.nan], [3.0, np.nan, np.nan]])).tolist()
        [2.0, 3.0, nan]
    """
    finite = np.isfinite(grid)
    sums, n = np.where(finite, grid, 0.0).sum(axis=0), finite.sum(axis=0)
    return np.asarray(np.where(n > 0, sums / np.maximum(n, 1), np.nan))


def _mean_rows(histories: Histories, metrics: Sequence[str]) -> tuple[tuple[object, ...], ...]:
    """The means over each setting's replicates, and of how many: each history is in its outcome."""
    rows: list[tuple[object, ...]] = []
    for (setting, history), metric, split in product(histories.items(), metrics, CURVES):
        grid = stack(history, split, metric)
        means, counts = nan_mean(grid).tolist(), np.isfinite(grid).sum(axis=0).tolist()
        rows += [
            (setting, epoch, split, metric, mean if n else None, n)
            for epoch, mean, n in zip(range(1, len(means) + 1), means, counts, strict=True)
        ]
    return tuple(rows)


def _caption_replicates(n: int, metrics: Sequence[str], recipe: Recipe) -> str:
    lines = f"Thin: one line per replicate (n = {n:,}). Bold: their mean."
    if n > MAX_LINES:
        lines = f"Thin: {MAX_LINES} replicates, evenly by number. Bold: the mean of all (n = {n:,})."
    if n == 1:
        lines = "One replicate (n = 1)."
    others = "everything else is" if "accuracy" in metrics else "the validation loss is"
    return (
        f"{lines} The training loss is the mean over an epoch's steps, while the weights change (and with "
        f"dropout or noise, if there is any); {others} measured after the epoch. Losses are without the L2 "
        f"term. {describe_training_loss(recipe)}"
    ).strip()


def describe_training_loss(recipe: Recipe) -> str:
    """How the training loss differs from the validation loss; "" if it does not."""
    if recipe.eval_strength is not None and recipe.corruption is not None:
        low, high = recipe.corruption.strength
        return (
            f"The training loss is measured at strengths {low:g} to {high:g}, the validation loss at "
            f"{recipe.eval_strength:g}."
        )
    objective = objectives[recipe.objective] if recipe.objective in objectives else None
    settings = {"labels smoothed": recipe.label_smoothing, "classes weighted": recipe.class_weights}
    used = " and ".join(name for name, value in settings.items() if value)
    if objective is None or (objective.is_metric and not used):
        return ""
    loss = f"{objective.label}{f' with {used}' if used else ''}"
    return f"The training loss is {loss}; the validation loss is plain cross-entropy."


def _describe_curves(histories: Histories, metrics: Sequence[str]) -> str:
    parts = []
    for setting, rows in list(histories.items())[:MAX_DESCRIBED]:
        epochs = pluralize(max(row.epoch for row in rows), "epoch")
        n = len({row.replicate for row in rows})
        parts.append(
            f"{setting + ', ' if setting else ''}after {epochs}, n = {n:,}: {_describe_ends(rows, metrics)}"
        )
    return f"Line chart over epochs. {'; '.join(parts)}."


def _describe_ends(rows: Sequence[HistoryRow], metrics: Sequence[str]) -> str:
    ends = []
    for name in metrics:
        grid, metric = stack(rows, "validation", name), get_metric(f"validation_{name}")
        mean = nan_mean(grid)[-1] if grid.size else np.nan
        if np.isfinite(mean):
            ends.append(f"{metric.label} {format_metric(float(mean), metric)}")
    return ", ".join(ends) or "no values"


def _draw_replicates(axes: "Axes", histories: Histories, metric: str) -> None:
    rows = next(iter(histories.values()))
    for index, split in enumerate(CURVES):
        grid, (color, line, marker) = stack(rows, split, metric), series_style(index)
        epochs = np.arange(1, grid.shape[1] + 1)
        _mark_means(axes, SPLIT_LABELS[split], nan_mean(grid), f"{split}_{metric}")
        if len(grid) > 1:
            thin = np.linspace(0, len(grid) - 1, min(len(grid), MAX_LINES)).round().astype(int)
            axes.plot(epochs, grid[thin].T, color=color, linewidth=0.6, alpha=0.45)
        axes.plot(
            epochs, nan_mean(grid), color=color, linestyle=line, linewidth=1.9, label=SPLIT_LABELS[split],
            marker=marker, markersize=3.6 if len(epochs) < 15 else 0,
        )  # fmt: skip
    _label_axes(axes, metric)
    axes.legend(loc="best")


def _draw_settings(axes: "Axes", histories: Histories, metric: str) -> None:
    for index, (setting, rows) in enumerate(histories.items()):
        mean, (color, line, marker) = nan_mean(stack(rows, "validation", metric)), series_style(index)
        epochs = np.arange(1, len(mean) + 1)
        axes.plot(epochs, mean, color=color, linestyle=line, marker=marker, markersize=4, label=setting)
        _mark_means(axes, setting, mean, f"validation_{metric}")
    _label_axes(axes, metric)


def _mark_means(axes: "Axes", name: str, means: Float[np.ndarray, " epochs"], metric: str) -> None:
    label = get_metric(metric).label
    for epoch, mean in enumerate(means.tolist(), start=1):
        if np.isfinite(mean):
            mark(axes, epoch, mean, f"{name}, epoch {epoch}: {label} {format_metric(mean, metric)}")


def _label_axes(axes: "Axes", name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    metric = get_metric(name)
    axes.set_title(metric.title)
    axes.set_xlabel("Epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    if metric.is_share:
        as_percent(axes.yaxis)


# ---------------------------------------------------------------- examples


def mistakes(run: Run, plan: TrainingPlan) -> Figure | None:
    """The test images that replicate 0 classified wrongly with the highest confidence."""
    wrong = find_mistakes(run, plan)
    if wrong is None:
        return None
    pixels = run.images.test_images(wrong.indices[:MAX_MISTAKES])
    if pixels is None:
        return None
    n, names = len(pixels), run.plan.data.labels
    confidence = wrong.confidence[:n].tolist()
    captions = [
        f"{names[true]} → {names[predicted]}\n{format_percent(share, 1)}"
        for true, predicted, share in zip(wrong.true[:n], wrong.predicted[:n], confidence, strict=True)
    ]
    listed = "; ".join(caption.replace("\n", " ") for caption in captions)
    rows = [
        ImageRow("", pixels[start : start + MISTAKES_PER_ROW], captions[start : start + MISTAKES_PER_ROW])
        for start in range(0, n, MISTAKES_PER_ROW)
    ]
    return Figure(
        name=f"{slug(plan.name)}-mistakes",
        title="The most confident mistakes",
        caption=(
            f"Replicate 0 misclassified {len(wrong.indices):,} of the {wrong.images:,} test images; these "
            f"are the {n} with the highest softmax probability ({format_percent(confidence[-1], 1)} or "
            "more), highest first. Below each: true class → predicted class, and the probability of the "
            "latter."
        ),
        alt=f"{n} test images with true and predicted class: {listed}.",
        drawing=ImageGrid(rows, ink=is_ink(pixels), label_width=2),
        csv_header=("test image", "true", "predicted", "confidence"),
        csv_rows=tuple(
            (int(wrong.indices[i]), names[wrong.true[i]], names[wrong.predicted[i]], confidence[i])
            for i in range(n)
        ),
    )


def denoised_examples(run: Run, plan: TrainingPlan) -> Figure | None:
    """Ten test images: clean, corrupted, and as a denoiser restored them."""
    outcome = first_replicate(run, plan)
    arrays = run.arrays(outcome.id) if outcome else {}
    if "clean" not in arrays:
        return None
    clean, inputs, outputs = (arrays[key][:10] for key in ("clean", "inputs", "outputs"))
    before, after = mean_psnr(clean, inputs), mean_psnr(clean, outputs)
    before_text, after_text = (format_metric(value, "psnr") for value in (before, after))
    recipe = run.plan.configs[plan.settings[0].config].recipe
    rows = [ImageRow("clean", clean), ImageRow("corrupted", inputs), ImageRow("denoised", outputs)]
    return Figure(
        name=f"{slug(plan.name)}-denoised",
        title="Clean, corrupted, denoised",
        caption=(
            f"Ten test images, one draw of the noise ({_describe_corruption(recipe)}), replicate 0. Mean "
            f"PSNR of these ten images: {before_text} corrupted, {after_text} denoised."
        ),
        alt=(
            "Three rows of ten images: clean, corrupted, denoised. "
            f"Denoising changes the mean PSNR from {before_text} to {after_text}."
        ),
        drawing=ImageGrid(rows, ink=is_ink(clean), label_width=54),
        csv_header=("images", "psnr_db"),
        csv_rows=(("corrupted", before), ("denoised", after)),
    )


def _describe_corruption(recipe: Recipe) -> str:
    corruption = recipe.eval_corruption
    if corruption is None:
        return "no corruption"
    return f"{humanize(corruption.name)}, strength {format_span(corruption.strength)}"


def mean_psnr(clean: UInt8[np.ndarray, "n c h w"], images: UInt8[np.ndarray, "n c h w"]) -> float:
    """Mean over images of the peak signal-to-noise ratio in dB; `MAX_PSNR` for equal images.

    Example:
        >>> zeros, ones = np.zeros((1, 1, 2, 2), np.uint8), np.full((1, 1, 2, 2), 255, np.uint8)
        >>> mean_psnr(zeros, ones), mean_psnr(zeros, zeros)
        (0.0, 99.0)
    """
    squares = ((clean.astype(float) - images.astype(float)) / 255) ** 2
    errors = squares.reshape(len(squares), -1).mean(axis=1)
    return float(np.mean(np.where(errors > 0, 0.0 - 10 * np.log10(np.maximum(errors, 1e-10)), MAX_PSNR)))


# ---------------------------------------------------------------- the metric of each setting


def sweep_figure(plan: TrainingPlan, results: TrainingResults) -> Figure | None:
    """Validation and test metric of every setting; None for an experiment with one setting."""
    metrics = (SELECTION_METRIC[plan.task], REPORTED_METRIC[plan.task])
    estimates = {
        metric: [setting.metrics.get(metric, Estimate.empty()) for setting in results.settings]
        for metric in metrics
    }
    ns = sorted({estimate.n for row in estimates.values() for estimate in row if estimate.n})
    if len(results.settings) < 2 or not ns:
        return None
    keys = ", ".join(plan.grid)
    values = [setting.values for setting in results.settings]
    labels = [grid_label(setting.values) for setting in results.settings]
    base = get_metric(metrics[0].removeprefix("validation_"))
    panels = {
        metric: partial(_draw_sweep_panel, values=values, row=row, name=metric, keys=keys)
        for metric, row in estimates.items()
    }
    return Figure(
        name=f"{slug(plan.name)}-sweep",
        title=f"{base.title} against {keys}",
        caption=(
            f"Dots: {_describe_dots(ns)}, spread horizontally so that they do not overlap. Horizontal line: "
            "mean. Thick bar: 95% confidence interval of the mean (Student's t), which says how precisely "
            "the mean is known. Thin bar with caps: mean ± 1 standard deviation, which says how much "
            "single trainings differ."
        ),
        alt=_describe_sweep(labels, estimates, keys),
        drawing=Plot(
            lambda sheet: _draw_sweep(sheet, values, estimates, keys), 4.3, panels, stack=Stack(height=2.6)
        ),
        csv_header=("metric", keys, "mean", "sd", "n", "ci95_low", "ci95_high", "values"),
        csv_rows=tuple(
            (metric, label, estimate.mean, estimate.sd, estimate.n)
            + (*(_t_interval(estimate) or ("", "")), " ".join(map(repr, estimate.values)))
            for metric, row in estimates.items()
            for label, estimate in zip(labels, row, strict=True)
        ),
    )


def grid_label(values: Mapping[str, JsonValue]) -> str:
    """A setting by its values alone, for axes and tables whose title names the keys.

    Example:
        >>> grid_label({"l2": 1e-6}), grid_label({"hidden": [64, 32], "l2": 0.0})
        ('1e-6', '64-32, 0')
    """
    return ", ".join(format_value(value) for value in values.values())


def _describe_dots(ns: Sequence[int]) -> str:
    n = f"n = {ns[0]:,}" if len(ns) == 1 else f"n from {ns[0]:,} to {ns[-1]:,}"
    if ns[-1] <= MAX_DOTS:
        return f"one per replicate ({n})"
    return f"replicates ({n}), at most {MAX_DOTS} of each setting, evenly from lowest to highest"


def subsample(values: Sequence[float], n: int) -> list[float]:
    """At most n of some values, in their order.

    If there are more, those are kept that are evenly spaced by rank, from the lowest to the highest, so their
    distribution stays the same.

    Example:
        >>> subsample([0.3, 0.1, 0.2], 3), subsample([0.5, 0.1, 0.4, 0.2, 0.3], 3)
        ([0.3, 0.1, 0.2], [0.5, 0.1, 0.3])
    """
    if len(values) <= n:
        return list(values)
    ranks = np.linspace(0, len(values) - 1, n).round().astype(int)
    indices = np.sort(np.argsort(np.asarray(values), kind="stable")[ranks])
    return [values[index] for index in indices]


def _t_interval(estimate: Estimate) -> Interval | None:
    """Student's interval, which this figure shows; None if all replicates are equal."""
    return estimate.interval if estimate.basis == "replicates" else None


def _describe_sweep(labels: Sequence[str], estimates: Estimates, keys: str) -> str:
    parts = []
    for metric, row in estimates.items():
        points = [
            f"{label}: {_describe_estimate(estimate, metric)}"
            for label, estimate in zip(labels, row, strict=True)
            if estimate.n
        ]
        parts.append(f"{get_metric(metric).title} by {keys}: {'; '.join(points)}.")
    return "Error-bar chart. " + " ".join(parts)


def _describe_estimate(estimate: Estimate, metric: str) -> str:
    interval = _t_interval(estimate)
    mean = format_metric(estimate.mean or 0.0, metric)
    return f"{mean} ({format_interval(interval, metric)})" if interval else mean


def x_positions(values: Points) -> tuple[Float[np.ndarray, " s"], bool]:
    """Where settings stand on the axis, and whether it is a log scale (positions are powers of ten then).

    Example:
        >>> x_positions([{"l2": 0.001}, {"l2": 0.1}])[1], x_positions([{"k": 1}, {"k": 2}])[1]
        (True, False)
        >>> x_positions([{"optimizer": "sgd"}, {"optimizer": "adam"}])[1]
        False
    """
    numbers = [value for entry in values if len(entry) == 1 for value in entry.values()]
    positive = [
        float(value)
        for value in numbers
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_NUMBER
    ]
    if len(positive) == len(values) and max(positive) / min(positive) > MIN_LOG_RATIO:
        return np.log10(np.array(positive)), True
    return np.arange(len(values), dtype=float), False


def _draw_sweep(sheet: "Sheet", values: Points, estimates: Estimates, keys: str) -> None:
    panels = sheet.subplots(len(estimates), 1, sharex=True)
    for axes, name in zip(panels, estimates, strict=True):
        _draw_settings_metric(axes, values, estimates[name], name)
    panels[-1].set_xlabel(_sweep_label(values, keys))
    sheet.legend(handles=_sweep_handles(), loc="outside upper left", ncols=4)


def _draw_sweep_panel(axes: "Axes", values: Points, row: Sequence[Estimate], name: str, keys: str) -> None:
    """One metric alone, with a legend of its own."""
    _draw_settings_metric(axes, values, row, name)
    axes.set_xlabel(_sweep_label(values, keys))
    axes.legend(handles=_sweep_handles())


def _sweep_label(values: Points, keys: str) -> str:
    return f"{keys} (log scale)" if x_positions(values)[1] else keys


def _draw_settings_metric(axes: "Axes", values: Points, row: Sequence[Estimate], name: str) -> None:
    x, _ = x_positions(values)
    spacing = float(np.min(np.diff(np.sort(x)))) if len(np.unique(x)) == len(x) else 0.5
    metric = get_metric(name)
    for position, estimate in zip(x, row, strict=True):
        _draw_estimate(axes, float(position), estimate, spacing)
    for position, estimate, entry in zip(x.tolist(), row, values, strict=True):
        if estimate.mean is not None:
            text = f"{grid_label(entry)}: {metric.label} {estimate.format(metric)}"
            mark(axes, position, estimate.mean, text)
    axes.set_title(metric.title)
    axes.set_xticks(x, [typeset(grid_label(entry)) for entry in values])
    axes.grid(visible=False, axis="x")
    axes.set_xlim(x.min() - 0.6 * spacing, x.max() + 0.6 * spacing)
    if metric.is_share:
        as_percent(axes.yaxis)


def _draw_estimate(axes: "Axes", x: float, estimate: Estimate, spacing: float) -> None:
    if estimate.mean is None:
        return
    dots = subsample(estimate.values, MAX_DOTS)
    offsets = np.linspace(-0.1, 0.1, len(dots)) if len(dots) > 1 else np.zeros(1)
    # Ordered by replicate, not by value, so that no pattern appears; 7 is coprime to the usual counts.
    order = [(7 * i) % len(dots) for i in range(len(dots))]
    axes.plot(
        x + (offsets[order] - 0.2) * spacing, dots, "o", color=themed("c1"), alpha=0.6, markersize=3,
        markeredgewidth=0,
    )  # fmt: skip
    if interval := _t_interval(estimate):
        axes.plot([x] * 2, interval, color=themed("c2"), linewidth=6, solid_capstyle="butt")
    ends = [x - 0.09 * spacing, x + 0.09 * spacing]
    axes.plot(ends, [estimate.mean] * 2, color=themed("ink"), linewidth=1.4)
    if estimate.sd:
        position, color = x + 0.2 * spacing, themed("muted")
        axes.errorbar(position, estimate.mean, yerr=estimate.sd, color=color, linewidth=1, capsize=3)


def _sweep_handles() -> "list[Line2D]":
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], linestyle="", marker="o", color=themed("c1"), markersize=3, label="replicate"),
        Line2D([], [], linewidth=1.4, color=themed("ink"), label="mean"),
        Line2D(
            [], [], linewidth=6, color=themed("c2"), solid_capstyle="butt", label="95% CI of the mean"
        ),
        Line2D([], [], linewidth=0.9, color=themed("muted"), marker="|", markersize=6, label="± 1 SD"),
    ]  # fmt: skip


# ---------------------------------------------------------------- a learning-rate range test


def learning_rate_figure(result: "LearningRateRange") -> Figure:
    """The loss of each step and the smoothed loss by learning rate, with the suggestion."""
    low, high = (format_value(float(f"{rate:.2g}")) for rate in (result.rates[0], result.rates[-1]))
    if result.suggestion is None:
        advice = "The smoothed loss does not fall, so no learning rate is suggested."
    else:
        advice = (
            f"Dashed: the suggestion, {result.suggestion:.2g}, where the smoothed loss falls most steeply "
            "before its minimum (Smith 2017)."
        )
    return Figure(
        name="learning-rate-range",
        title="Learning-rate range test",
        caption=(
            f"Training loss of {len(result.rates):,} steps, one batch each, while the learning rate rises "
            f"from {low} to {high}. {advice}"
        ),
        alt=(
            f"Training loss by learning rate, from {result.smoothed[0]:.3g} at {low}; the smoothed loss is "
            f"least, {result.smoothed.min():.3g}, at {result.rates[result.smoothed.argmin()]:.2g}."
        ),
        drawing=Plot.row({"loss": partial(_draw_losses, result=result)}, 2.8),
        csv_header=tuple(result.data[0]),
        csv_rows=tuple(tuple(row.values()) for row in result.data),
    )


def _draw_losses(axes: "Axes", result: "LearningRateRange") -> None:
    axes.plot(result.rates, result.losses, color=themed("muted"), linewidth=0.7, label="each step")
    axes.plot(result.rates, result.smoothed, color=themed("c1"), label="smoothed")
    if result.suggestion is not None:
        label = f"suggestion {result.suggestion:.2g}"
        axes.axvline(result.suggestion, color=themed("c2"), linestyle=(0, (5, 3)), linewidth=1.2, label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda rate, _: format_value(rate))  # text: math is not parsed in figures
    axes.set_xlabel("Learning rate")
    axes.set_ylabel("Training loss")
    axes.legend()

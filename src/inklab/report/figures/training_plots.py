"""Learning curves, mistakes, and what a denoiser does to ten images."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from inklab.report.figures.drawing import Figure, as_percent, plot, set_ylabel_horizontal, whole_ticks
from inklab.report.figures.image_grid import ImageRow, is_ink, tile_drawing
from inklab.report.figures.numerals import THIN, loss, percent, percent1, replicates
from inklab.report.figures.palette import LINES, MARKERS, PLACEHOLDER, SERIES
from inklab.report.figures.result_access import (
    class_names,
    done_of,
    is_denoiser,
    is_number,
    numbers,
    outcomes_of,
    recipe_of,
    setting_label,
    settings_of,
    slug,
    training_loss_of,
)
from inklab.results.phrases import pluralize
from inklab.run import Json, RunData

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

PARTS = (("train", "training"), ("validation", "validation"))
SHOWN_MISTAKES = 20
MAX_LINES = 100  # replicates drawn one by one; more hide each other and make a drawing of megabytes


Histories: TypeAlias = dict[str, list[tuple[int, Json]]]
"""Setting -> the number and the history of each of its replicates."""


def learning_curves(run: RunData, chapter: Json) -> Figure | None:
    """Loss and accuracy over epochs, training and validation, every replicate and their mean.

    With several settings: the mean on the validation images, one line a setting.
    """
    settings = settings_of(chapter)
    histories = {
        setting_label(one) or chapter["name"]: [
            (outcome.get("replicate", index), outcome["history"])
            for index, outcome in enumerate(outcomes_of(run, one.get("trials") or []))
            if (outcome.get("history") or {}).get("epoch")
        ]
        for one in settings
    }
    histories = {name: list(found) for name, found in histories.items() if found}
    if max((len(h["epoch"]) for found in histories.values() for _, h in found), default=0) < 2:
        return None  # a single epoch is no curve; its numbers stand in the table
    name = f"{slug(chapter['name'])}-curves"
    some = next(iter(histories.values()))[0][1]
    measures = [one for one in ("loss", "accuracy") if any(numbers(some.get(f"validation_{one}")))
                or any(numbers(some.get(f"train_{one}")))]  # fmt: skip
    columns = [f"{part}_{one}" for one in measures for part in ("train", "validation")]
    many = len(histories) > 1
    draw = _setting_curves if many else _replicate_curves
    n = max(len(found) for found in histories.values())
    return Figure(
        name=name,
        title="Learning curves",
        caption=_curves_caption(
            n, many=many, classifies="accuracy" in measures, other_loss=training_loss_of(chapter)
        ),
        alt=_curves_alt(histories, measures),
        drawing=plot(name, lambda sheet: draw(sheet, histories, measures), 2.35),
        header=("setting", *(("epoch", "n") if many else ("replicate", "epoch")), *columns),
        rows=_mean_rows(histories, columns) if many else _replicate_rows(histories, columns),
    )


def _replicate_rows(histories: Histories, columns: list[str]) -> tuple[tuple[Any, ...], ...]:
    """The drawn lines, replicate by replicate."""
    return tuple(
        (setting, replicate, *row)
        for setting, found in histories.items()
        for replicate, history in found
        for row in _epochs(history, columns)
    )


def _mean_rows(histories: Histories, columns: list[str]) -> tuple[tuple[Any, ...], ...]:
    """The means over each setting's replicates, and of how many: each one's history is in its outcome."""
    rows: list[tuple[Any, ...]] = []
    for setting, found in histories.items():
        grids = [stack_histories([history for _, history in found], column) for column in columns]
        n = np.isfinite(grids).any(axis=0).sum(axis=0)
        means = [[value if is_number(value) else None for value in nan_mean(g).tolist()] for g in grids]
        rows += [(setting, i + 1, int(n[i]), *values) for i, values in enumerate(zip(*means, strict=True))]
    return tuple(rows)


def _epochs(history: Json, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """One row an epoch: its number and the columns' values, `None` where one is missing."""
    epochs = history["epoch"]
    found = [(history.get(column) or [])[: len(epochs)] for column in columns]
    return zip_longest(epochs, *found)


def _curves_caption(n: int, *, many: bool, classifies: bool, other_loss: str) -> str:
    if many:
        up_to = f"(up to {replicates(n)})"
        return f"On the validation images; each line is the mean of a setting's replicates {up_to}."
    rest = "all else is" if classifies else "the validation loss is"
    lines = f"Thin: one line a replicate ({replicates(n)}). Bold: their mean."
    if n > MAX_LINES:
        lines = f"Thin: {MAX_LINES} of the replicates, evenly by number. "
        lines += f"Bold: the mean of all ({replicates(n)})."
    if n == 1:
        lines = f"One replicate ({replicates(n)})."
    return (
        f"{lines} The training loss is the mean over an epoch's steps, while the weights still move (and "
        "with dropout or noise, where there is any); "
        f"{rest} measured after the epoch. Losses are without the L2 term."
    ) + (f" {other_loss}" if other_loss else "")


def _curves_alt(histories: Histories, measures: list[str]) -> str:
    parts = []
    for setting, found in list(histories.items())[:8]:
        said = []
        for one in measures:
            ends = [values[-1] for _, h in found if (values := h.get(f"validation_{one}"))]
            ends = [end for end in ends if is_number(end)]
            write = percent if one == "accuracy" else loss
            said += [f"validation {one} {write(float(np.mean(ends)))}"] if ends else []
        epochs = max(len(h["epoch"]) for _, h in found)
        after = pluralize(epochs, "epoch")
        parts.append(f"{setting}, after {after}, n = {len(found)}: {', '.join(said) or 'no numbers'}")
    return "Line chart over epochs. " + "; ".join(parts) + "."


def stack_histories(histories: list[Json], column: str) -> np.ndarray:
    """One row a replicate `(n, epochs)`, NaN where a replicate stopped early.

    Example:
        >>> stack_histories([{"epoch": [1, 2], "a": [1.0, 2.0]}, {"epoch": [1], "a": [3.0]}], "a").tolist()
        [[1.0, 2.0], [3.0, nan]]
    """
    most = max(len(history["epoch"]) for history in histories)
    grid = np.full((len(histories), most), np.nan)
    for row, history in zip(grid, histories, strict=True):
        values = numbers(history.get(column))[:most]
        row[: len(values)] = values
    return grid


def nan_mean(grid: np.ndarray) -> np.ndarray:
    """The mean over rows, NaN where no row has a number."""
    found = np.isfinite(grid)
    total = np.where(found, grid, 0).sum(axis=0)
    return np.asarray(
        np.divide(total, found.sum(axis=0), out=np.full(grid.shape[1], np.nan), where=found.any(axis=0))
    )


def _replicate_curves(sheet: "Sheet", histories: Histories, measures: list[str]) -> None:
    runs = [history for _, history in next(iter(histories.values()))]
    for axes, one in zip(_panels(sheet, measures), measures, strict=True):
        for index, (part, word) in enumerate(PARTS):
            grid = stack_histories(runs, f"{part}_{one}")
            epochs = np.arange(1, grid.shape[1] + 1)
            color, line, marker = PLACEHOLDER[SERIES[index]], LINES[index], MARKERS[index]
            if len(grid) > 1:
                thin = np.linspace(0, len(grid) - 1, min(len(grid), MAX_LINES)).round().astype(int)
                axes.plot(epochs, grid[thin].T, color=color, linewidth=0.6, alpha=0.45)
            axes.plot(epochs, nan_mean(grid), color=color, linestyle=line, linewidth=1.9, label=word,
                      marker=marker, markersize=3.6 if len(epochs) < 15 else 0)  # fmt: skip
        _finish(axes, one)
        axes.legend(loc="best")


def _setting_curves(sheet: "Sheet", histories: Histories, measures: list[str]) -> None:
    panels = _panels(sheet, measures)
    for axes, one in zip(panels, measures, strict=True):
        for index, (setting, found) in enumerate(histories.items()):
            mean = nan_mean(stack_histories([history for _, history in found], f"validation_{one}"))
            axes.plot(np.arange(1, len(mean) + 1), mean, color=PLACEHOLDER[SERIES[index % 6]], label=setting,
                      linestyle=LINES[index % 6], marker=MARKERS[index % 6], markersize=4)  # fmt: skip
        _finish(axes, one)
    handles, words = panels[0].get_legend_handles_labels()
    sheet.legend(handles, words, loc="outside upper left", ncols=min(5, len(words)))


def _panels(sheet: "Sheet", measures: list[str]) -> list["Axes"]:
    return list(sheet.subplots(1, len(measures), squeeze=False)[0])


def _finish(axes: "Axes", one: str) -> None:
    set_ylabel_horizontal(axes, "Accuracy" if one == "accuracy" else "Loss")
    axes.set_xlabel("Epoch")
    whole_ticks(axes.xaxis)
    if one == "accuracy":
        as_percent(axes.yaxis)


def mistakes(run: RunData, chapter: Json) -> Figure | None:
    """The test images that replicate 0 got wrong with the highest confidence."""
    settings = settings_of(chapter)
    done = done_of(run, (settings[0].get("trials") or [])[:1]) if len(settings) == 1 else []
    labels = run.test_labels() if done else None  # only then: the data may have to be loaded for it
    if labels is None:
        return None
    arrays = run.arrays(done[0]["id"])
    if "predicted" not in arrays or len(arrays["predicted"]) != len(labels):
        return None
    predicted, confidence = arrays["predicted"].astype(np.int64), arrays["confidence"].astype(float)
    wrong = np.flatnonzero(predicted != labels)
    if 2 * len(wrong) > len(labels):  # a network that learnt nothing makes no telling mistakes
        return None
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN_MISTAKES]
    pixels = run.test_images(worst) if len(worst) else None
    if pixels is None:
        return None
    names = class_names(run)
    said = [f"{_named(names, labels[i])} → {_named(names, predicted[i])}" for i in worst]
    rows = [ImageRow("", pixels[at : at + 10], said[at : at + 10]) for at in range(0, len(worst), 10)]
    name = f"{slug(chapter['name'])}-mistakes"
    return Figure(
        name=name,
        title="The most confident mistakes",
        caption=(
            f"Of the {len(labels):,} test images replicate 0 got {len(wrong):,} wrong; these are the "
            f"{len(worst)} of which it was "
            f"surest (softmax {percent1(confidence[worst[-1]])} and more). Below each: true class → what "
            "the network said."
        ),
        alt=f"{len(worst)} test images with true and predicted class: {'; '.join(said)}.",
        drawing=tile_drawing(rows, ink=is_ink(pixels), label_width=2),
        header=("test image", "true", "predicted", "confidence"),
        rows=tuple(
            (int(i), _named(names, labels[i]), _named(names, predicted[i]), float(confidence[i]))
            for i in worst
        ),
    )


def _named(names: list[str], label: Any) -> str:
    return names[int(label)] if 0 <= int(label) < len(names) else str(int(label))


def denoised_figures(run: RunData, chapter: Json) -> Figure | None:
    """Ten test images clean, as shown to a denoiser, and as it gave them back."""
    settings = settings_of(chapter)
    done = done_of(run, (settings[0].get("trials") or [])[:1]) if settings else []
    arrays = run.arrays(done[0]["id"]) if done else {}
    if not {"clean", "shown", "output"} <= set(arrays):
        return None
    clean, shown, output = (arrays[key][:10] for key in ("clean", "shown", "output"))
    ink = is_ink(clean)
    before, after = (_psnr(clean, images) for images in (shown, output))
    recipe = recipe_of(chapter)
    corruption, scored_at = recipe.get("corruption") or {}, recipe.get("scored_at")
    what = str(corruption.get("name", "nothing added")).replace("_", "-")
    spans = sorted(set(corruption.get("strength") or [])) if scored_at is None else [scored_at]
    strength = f", strength {' to '.join(f'{s:g}' for s in spans)}" if spans else ""
    name = f"{slug(chapter['name'])}-cleaned"
    return Figure(
        name=name,
        title="Clean, noisy, cleaned",
        caption=(
            f"Ten test images, one draw of the noise ({what}{strength}), replicate 0. PSNR of these ten "
            f"images against the clean ones: {before:.1f}{THIN}dB noisy, {after:.1f}{THIN}dB cleaned."
        ),
        alt=(
            "Three rows of ten images: clean, noisy, cleaned. "
            f"Cleaning raises the PSNR from {before:.1f} to {after:.1f} dB."
        ),
        drawing=tile_drawing(
            [ImageRow("clean", clean), ImageRow("noisy", shown), ImageRow("cleaned", output)],
            ink=ink,
            label_width=48,
        ),
        header=("images", "psnr_db"),
        rows=(("noisy", before), ("cleaned", after)),
    )


def _psnr(clean: np.ndarray, images: np.ndarray) -> float:
    """Mean over images of the peak signal-to-noise ratio in dB; 99 stands for equal images."""
    gap = ((clean.astype(float) - images.astype(float)) / 255) ** 2
    each = gap.reshape(len(gap), -1).mean(axis=1)
    return float(np.mean(np.where(each > 0, -10 * np.log10(np.maximum(each, 1e-10)), 99)))


def train_figures(run: RunData, chapter: Json) -> list[Figure]:
    """Every figure of a training chapter that its outcomes allow."""
    from inklab.report.figures.sweep_plots import sweep_figure

    last = denoised_figures if is_denoiser(chapter) else mistakes
    made = [sweep_figure(run, chapter), learning_curves(run, chapter), last(run, chapter)]
    return [figure for figure in made if figure is not None]

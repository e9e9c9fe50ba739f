"""Figures of a noise chapter: how recognition falls with strength, and whether cleaning first helps."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from inklab.report.figures.drawing import Figure, as_percent, listing, plot, set_ylabel_horizontal
from inklab.report.figures.image_grid import ImageRow, is_ink, tile_drawing
from inklab.report.figures.numerals import fixed, percent1, replicates
from inklab.report.figures.palette import LINES, MARKERS, PLACEHOLDER, SERIES
from inklab.report.figures.result_access import (
    ScoreView,
    chapter_results,
    class_names,
    is_number,
    numbers,
    read_score,
    slug,
)
from inklab.run import Json, RunData

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

MAX_CLASSES = 20
MAX_STRENGTHS = 11


def robustness_figures(run: RunData, chapter: Json) -> list[Figure]:
    """Every figure of a noise chapter that its evaluations allow."""
    from inklab.report.figures.confusion_plots import confusion_figure

    made = [
        robustness_curves(run, chapter),
        corrupted_strip(run, chapter),
        class_curves(run, chapter),
        confusion_figure(run, chapter),
    ]
    return [figure for figure in made if figure is not None]


def pipelines_of(run: RunData, chapter: Json) -> dict[str, list[ScoreView | None]]:
    """Mean true-positive rate of each pipeline, one score a strength, in the plan's order."""
    found = chapter_results(run, chapter["name"]).get("pipelines") or {}
    order = [
        *[p for p in chapter.get("pipelines") or [] if p in found],
        *[p for p in found if p not in (chapter.get("pipelines") or [])],
    ]
    scores = {pipeline: [read_score(one) for one in found[pipeline].get("tpr") or []] for pipeline in order}
    return {pipeline: each for pipeline, each in scores.items() if any(each)}


def strengths_of(run: RunData, chapter: Json) -> list[float]:
    """The strengths of the curves."""
    return numbers(chapter_results(run, chapter["name"]).get("strengths") or chapter.get("strengths"))


def robustness_curves(run: RunData, chapter: Json) -> Figure | None:
    """Mean true-positive rate against strength, one line a pipeline, with bands."""
    curves, strengths = pipelines_of(run, chapter), strengths_of(run, chapter)
    if not curves:
        return None
    results = chapter_results(run, chapter["name"])
    helps = results.get("helps_from")
    name = f"{slug(chapter['name'])}-curves"
    rows = [
        (pipeline, strength, score.mean, score.sd, score.n, *(score.interval or ("", "")), score.over)
        for pipeline, each in curves.items()
        for strength, score in zip(strengths, each, strict=False)
        if score
    ]
    corruption = str(results.get("corruption") or chapter.get("corruption") or "noise").replace("_", "-")
    return Figure(
        name=name,
        title="Recognition against strength of the noise",
        caption=(
            f"Mean true-positive rate over classes (recall), {corruption}; every pipeline and replicate sees "
            f"the same noise. {_bands(curves)}{_gap_words(results)}"
            + (" Vertical line: from here on cleaning is shown to help." if is_number(helps) else "")
        ),
        alt=_alt(strengths, curves, helps),
        drawing=plot(
            name, lambda sheet: _draw(sheet, strengths, curves, results), 4.6 if _gaps(results) else 3.2
        ),
        header=("pipeline", "strength", "tpr", "sd", "n", "ci95_low", "ci95_high", "interval over"),
        rows=tuple(rows),
    )


def _bands(curves: dict[str, list[ScoreView | None]]) -> str:
    said = []
    for over, words in (
        ("replicates", "over replicates (Student's t)"),
        ("images", "over test images (Wilson)"),
    ):
        mine = {
            p: s
            for p, each in curves.items()
            if (s := next((one for one in each if one and one.over == over and not one.equal), None))
        }
        if mine:
            whom = "" if len(mine) == len(curves) else f" for {listing(list(mine))}"
            ns = sorted({score.n for score in mine.values()})
            said.append(f"95 % intervals {words}{whom}, {' and '.join(replicates(n) for n in ns)}")
    if any(one and one.equal and one.interval for each in curves.values() for one in each):
        said.append("over test images also where all replicates gave the same")
    return f"Bands: {'; '.join(said)}." if said else "No intervals are known."


def _gap_words(results: Json) -> str:
    overs = {str(one.get("over")) for one in results.get("comparisons") or [] if _gaps(results)}
    if not overs:
        return ""
    over = (
        "replicates"
        if overs == {"replicates"}
        else "test images"
        if overs == {"images"}
        else "replicates or test images"
    )
    return (
        f" Below: each pipeline less the classifier alone, paired over {over}, with simultaneous 95 % bounds "
        "(Holm, over all strengths)."
    )


def _alt(strengths: list[float], curves: dict[str, list[ScoreView | None]], helps: Any) -> str:
    spots = (
        sorted({int(np.argmin(np.abs(np.array(strengths) - s))) for s in (0, 0.25, 0.5, 1)})
        if strengths
        else []
    )
    parts = [
        f"{pipeline}: "
        + ", ".join(
            f"{percent1(s.mean)} at {strengths[i]:g}" for i in spots if i < len(each) and (s := each[i])
        )
        for pipeline, each in curves.items()
    ]
    verdict = f" Cleaning helps from strength {helps:g}." if is_number(helps) else ""
    return f"Line chart of the mean true-positive rate against strength. {'; '.join(parts)}.{verdict}"


def _draw(
    sheet: "Sheet", strengths: list[float], curves: dict[str, list[ScoreView | None]], results: Json
) -> None:
    gaps = _gaps(results)
    panels = sheet.subplots(
        2 if gaps else 1, 1, sharex=True, height_ratios=[2, 1][: 2 if gaps else 1], squeeze=False
    )
    axes = panels[0, 0]
    looks = {pipeline: index % 6 for index, pipeline in enumerate(curves)}
    for pipeline, each in curves.items():
        shown = [(strength, score) for strength, score in zip(strengths, each, strict=False) if score]
        spans = np.array([score.interval or (np.nan, np.nan) for _, score in shown])
        means = np.array([score.mean for _, score in shown])
        _line(axes, np.array([s for s, _ in shown]), means, spans, (looks[pipeline], pipeline))
    _rate_axes(axes)
    set_ylabel_horizontal(axes, "Mean true-positive rate")
    # Above, not inside: curves may run anywhere.
    handles, words = axes.get_legend_handles_labels()
    sheet.legend(handles, words, loc="outside upper left", ncols=min(4, len(words)))
    if gaps:
        _draw_gaps(panels[1, 0], gaps, looks)
    helps = results.get("helps_from")
    if is_number(helps):
        for one in panels[:, 0]:
            one.axvline(helps, color=PLACEHOLDER["ink"], linewidth=0.8, linestyle=(0, (2, 2)))
        spot = {"xytext": (5, 0), "textcoords": "offset points", "fontsize": 8}
        axes.annotate(f"shown to help\nfrom {helps:g}", (helps, 0.04), **spot)
    panels[-1, 0].set_xlabel("Strength")


def _line(axes: "Axes", x: np.ndarray, means: np.ndarray, spans: np.ndarray, look: tuple[int, str]) -> None:
    index, name = look
    color = PLACEHOLDER[SERIES[index]]
    axes.fill_between(x, spans[:, 0], spans[:, 1], color=color, alpha=0.2, linewidth=0)
    axes.plot(
        x, means, color=color, linestyle=LINES[index], marker=MARKERS[index], markersize=3.6, label=name
    )


def _gaps(results: Json) -> dict[str, np.ndarray]:
    """Each pipeline less the classifier alone: rows of strength, mean, lower and upper bound (Holm)."""
    found = {}
    for one in results.get("comparisons") or []:
        rows = [
            numbers([each.get(key) for key in ("strength", "mean", "lower", "upper")])
            for each in one.get("differences") or []
        ]
        if rows and np.isfinite(np.array(rows)[:, 1]).any():
            found[str(one.get("pipeline"))] = np.array(rows)
    return found


def _draw_gaps(axes: "Axes", gaps: dict[str, np.ndarray], looks: dict[str, int]) -> None:
    for pipeline, rows in gaps.items():
        _line(axes, rows[:, 0], rows[:, 1], rows[:, 2:], (looks.get(pipeline, 5), pipeline))
    axes.axhline(0, color=PLACEHOLDER["ink"], linewidth=0.8)
    axes.yaxis.set_major_formatter(lambda value, _place: fixed(100 * value, 0))
    set_ylabel_horizontal(axes, "Difference from the classifier alone, percentage points")


def _rate_axes(axes: "Axes") -> None:
    axes.set_ylim(0, 1.02)
    axes.set_xlim(left=0)
    as_percent(axes.yaxis, 0)


def class_curves(run: RunData, chapter: Json) -> Figure | None:
    """Small multiples: the true-positive rate of each class against strength."""
    found = chapter_results(run, chapter["name"]).get("pipelines") or {}
    strengths, names = strengths_of(run, chapter), class_names(run)
    grids = {
        p: np.array([[_mean(v) for v in row] for row in found[p].get("tpr_per_class") or []])
        for p in pipelines_of(run, chapter)
    }
    grids = {p: grid for p, grid in grids.items() if grid.ndim == 2 and len(grid) == len(strengths)}
    if not grids:
        return None
    classes = next(iter(grids.values())).shape[1]
    labels = [names[i] if i < len(names) else str(i) for i in range(classes)]
    alone = next(iter(grids))
    at = int(np.argmin(np.abs(np.array(strengths) - 0.5)))
    order = np.argsort(grids[alone][at])
    name = f"{slug(chapter['name'])}-classes"
    capped = f" The first {MAX_CLASSES} of {classes} classes." if classes > MAX_CLASSES else ""
    return Figure(
        name=name,
        title="The same, class by class",
        caption=(
            "True-positive rate of each class against strength, mean over replicates; "
            f"the same lines as above.{capped}"
        ),
        alt=(
            f"Small line charts, one a class. For {alone} at strength {strengths[at]:g} class "
            f"{labels[order[0]]} suffers most "
            f"({percent1(grids[alone][at][order[0]])}) and {labels[order[-1]]} least "
            f"({percent1(grids[alone][at][order[-1]])})."
        ),
        drawing=plot(
            name,
            lambda sheet: _multiples(sheet, strengths, grids, labels),
            0.5 + 1.25 * -(-min(classes, MAX_CLASSES) // 5),
        ),
        header=("pipeline", "strength", *labels),
        rows=tuple(
            (p, s, *map(float, row))
            for p, grid in grids.items()
            for s, row in zip(strengths, grid, strict=True)
        ),
    )


def _mean(value: Any) -> float:
    score = read_score(value)
    return score.mean if score else float("nan")


def _multiples(
    sheet: "Sheet", strengths: list[float], grids: dict[str, np.ndarray], labels: list[str]
) -> None:
    shown = min(len(labels), MAX_CLASSES)
    columns = min(5, shown)
    panels = sheet.subplots(-(-shown // columns), columns, sharex=True, sharey=True, squeeze=False).ravel()
    for spot, axes in enumerate(panels):
        if spot >= shown:
            axes.set_visible(False)
            continue
        for index, (pipeline, grid) in enumerate(grids.items()):
            axes.plot(
                strengths,
                grid[:, spot],
                color=PLACEHOLDER[SERIES[index % 6]],
                linestyle=LINES[index % 6],
                linewidth=1.2,
                label=pipeline,
            )
        _rate_axes(axes)
        axes.set_yticks([0, 0.5, 1])
        set_ylabel_horizontal(axes, labels[spot])
    handles, words = panels[0].get_legend_handles_labels()
    sheet.legend(handles, words, loc="outside upper left", ncols=min(4, len(words)))
    sheet.supxlabel("Strength", fontsize=8.5)


def corrupted_strip(run: RunData, chapter: Json) -> Figure | None:
    """Two test images at rising strengths: as spoilt, and as each pipeline hands them to its classifier."""
    seen: dict[str, np.ndarray] = {}
    shown: np.ndarray | None = None
    for one in chapter.get("evaluations") or []:
        arrays = run.arrays(one["id"]) if one.get("replicate") == 0 else {}
        if "shown" in arrays and "seen" in arrays:
            shown = arrays["shown"] if shown is None else shown
            if "+" in str(one.get("pipeline")):
                seen[str(one["pipeline"]).split("+")[0]] = arrays["seen"]
    strengths = strengths_of(run, chapter)
    if shown is None or len(shown) != len(strengths):
        return None
    picks = np.unique(
        np.linspace(0, len(strengths) - 1, min(MAX_STRENGTHS, len(strengths))).round().astype(int)
    )
    rows: list[ImageRow] = []
    for digit in [d for d in (3, 8) if d < shown.shape[1]] or [0]:
        rows.append(ImageRow("noisy", shown[picks, digit]))
        rows += [ImageRow(cleaner, images[picks, digit]) for cleaner, images in seen.items()]
        rows[-1] = replace(rows[-1], last=True)
    cleaners = listing([f"the {cleaner}" for cleaner in seen]) or "nothing"
    return Figure(
        name=f"{slug(chapter['name'])}-strip",
        title="What the classifier gets to see",
        caption=(
            "Test images at rising strength (above each column), spoilt and after "
            f"{cleaners}; one draw of the noise, replicate 0."
        ),
        alt=(
            f"Strips of test images at strengths {strengths[picks[0]]:g} to {strengths[picks[-1]]:g}: "
            f"noisy, and after {cleaners}."
        ),
        drawing=tile_drawing(
            rows,
            ink=is_ink(shown[:1, :].reshape(-1, *shown.shape[2:])),
            head=[f"{strengths[i]:g}" for i in picks],
            label_width=14 + 5 * max(map(len, ("denoiser", *seen))),
        ),
        header=("strength shown",),
        rows=tuple((strengths[i],) for i in picks),
    )

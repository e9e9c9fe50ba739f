"""Figures of a generator chapter: the digits that come out, how many are recognised, which classes."""

from typing import TYPE_CHECKING, Any

import numpy as np

from inklab.report.figures.drawing import Figure, as_percent, plot, set_ylabel_horizontal
from inklab.report.figures.image_grid import ImageRow, is_ink, tile_drawing
from inklab.report.figures.numerals import interval, percent, percent1, replicates
from inklab.report.figures.palette import MARKERS, PLACEHOLDER, SERIES
from inklab.report.figures.result_access import (
    ScoreView,
    chapter_results,
    class_names,
    numbers,
    read_score,
    slug,
)
from inklab.run import Arrays, Json, RunData

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Sheet

ACROSS = 12
WORTH_COMPARING = 0.1  # a sampler of which less is recognised draws nothing that could be remembered


def generation_figures(run: RunData, chapter: Json) -> list[Figure]:
    """Every figure of a generator chapter that its evaluations allow."""
    made = [
        drawn(run, chapter),
        confident_figure(run, chapter),
        class_shares(run, chapter),
        nearest(run, chapter),
    ]
    return [figure for figure in made if figure is not None]


def sampler_scores(run: RunData, chapter: Json, what: str) -> dict[str, ScoreView]:
    """One score of every sampler, in the plan's order."""
    found = chapter_results(run, chapter["name"]).get("samplers") or {}
    order = [
        *[s for s in chapter.get("samplers") or [] if s in found],
        *[s for s in found if s not in (chapter.get("samplers") or [])],
    ]
    return {name: score for name in order if (score := read_score(found[name].get(what))) is not None}


def _arrays(run: RunData, chapter: Json) -> dict[str, Arrays]:
    first = [one for one in chapter.get("evaluations") or [] if one.get("replicate") == 0]
    found = {str(one.get("sampler")): run.arrays(one["id"]) for one in first}
    return {name: arrays for name, arrays in found.items() if len(arrays.get("images", ()))}


def drawn(run: RunData, chapter: Json) -> Figure | None:
    """Rows of generated images, one sampler after the other; reconstructions below, to compare."""
    found = _arrays(run, chapter)
    floor = found.pop("floor", {})
    if not found:
        return None
    shares = sampler_scores(run, chapter, "recognised")
    rows = []
    for name, arrays in found.items():
        share = f"\n{percent1(shares[name].mean)}" if name in shares else ""
        rows += [
            ImageRow(f"{name}{share}", arrays["images"][:ACROSS]),
            ImageRow("", arrays["images"][ACROSS : 2 * ACROSS], last=True),
        ]
    if "reconstructions" in floor:
        rows.append(ImageRow("reconstructed\ntest images", floor["reconstructions"][:ACROSS]))
    rows = [row for row in rows if len(row.pixels)]
    known = floor.get("images", next(iter(found.values()))["images"])
    return Figure(
        name=f"{slug(chapter['name'])}-drawn",
        title="Images drawn by the decoder",
        caption=(
            f"The first {2 * ACROSS} images of each sampler, not chosen, replicate 0. Below each name: the "
            "share of all its images that "
            "the judge recognises with more than 90 % confidence. Last row: what the same decoder makes of "
            "real test images, the best that it can do."
        ),
        alt="Rows of generated images. Recognised: "
        + "; ".join(f"{n} {percent1(s.mean)}" for n, s in shares.items())
        + ".",
        drawing=tile_drawing(rows, ink=is_ink(known), label_width=68),
        header=("sampler", "recognised"),
        rows=tuple((name, score.mean) for name, score in shares.items()),
    )


def confident_figure(run: RunData, chapter: Json) -> Figure | None:
    """Bars with intervals: the share of each sampler's images that the judge recognises."""
    shares = sampler_scores(run, chapter, "recognised")
    if not shares:
        return None
    results = chapter_results(run, chapter["name"])
    ceilings = {
        "reconstructed test images": read_score(results.get("reconstructed")),
        "real test images": read_score(results.get("recognised_test")),
    }
    bars = {**shares, **{name: score for name, score in ceilings.items() if score}}
    name = f"{slug(chapter['name'])}-recognised"
    overs = {score.over for score in shares.values()}
    over = "over replicates (Student's t)" if "replicates" in overs else "over generated images (Wilson)"
    if overs >= {"replicates", "images"}:
        over += ", over images (Wilson) where there is one or all gave the same"
    bar = f"Bars: 95 % intervals {over}; " if overs - {""} else "No intervals are known; "
    return Figure(
        name=name,
        title="Share of generated images that are recognised",
        caption=f"With more than 90 % confidence of the judge, whichever class it names. {bar}{_ns(shares)}.",
        alt="Bar chart of recognised shares: "
        + "; ".join(
            f"{n} {percent1(s.mean)}" + (f" ({interval(*s.interval, percent)})" if s.interval else "")
            for n, s in bars.items()
        )
        + ".",
        drawing=plot(name, lambda sheet: _bars(sheet, bars), 0.55 + 0.27 * len(bars)),
        header=("sampler", "recognised", "n", "ci95_low", "ci95_high", "interval over"),
        rows=tuple((n, s.mean, s.n, *(s.interval or ("", "")), s.over) for n, s in bars.items()),
    )


def _ns(shares: dict[str, ScoreView]) -> str:
    return " and ".join(replicates(n) for n in sorted({score.n for score in shares.values()}))


def _bars(sheet: "Sheet", bars: dict[str, ScoreView]) -> None:
    axes = sheet.subplots()
    places = np.arange(len(bars))[::-1]
    for place, score in zip(places, bars.values(), strict=True):
        axes.barh(place, score.mean, 0.62, color=PLACEHOLDER["c1"], alpha=0.8, linewidth=0)
        end = score.mean
        if score.interval:
            axes.plot(
                score.interval,
                [place, place],
                color=PLACEHOLDER["ink"],
                linewidth=1.1,
                marker="|",
                markersize=6,
            )
            end = max(end, score.interval[1])
        axes.annotate(
            percent1(score.mean),
            (end, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(places, list(bars))
    axes.set_xlim(0, 1.08)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.grid(visible=False, axis="y")
    as_percent(axes.xaxis, 0)


def class_shares(run: RunData, chapter: Json) -> Figure | None:
    """Dots: how the recognised images spread over the classes, one panel a sampler."""
    found = chapter_results(run, chapter["name"]).get("samplers") or {}
    names = class_names(run)
    shares = {s: np.array([_mean(v) for v in one.get("classes") or []]) for s, one in found.items()}
    shares = {s: each for s, each in shares.items() if len(each) == len(names) and np.nansum(each) > 0}
    if not shares or len(names) > 30:
        return None
    name = f"{slug(chapter['name'])}-classes"
    tops = {s: names[int(np.nanargmax(each))] for s, each in shares.items()}
    return Figure(
        name=name,
        title="Classes of the recognised images",
        caption=(
            "Share of each class among the recognised images of a sampler; the dashed line is an even share. "
            "A sampler that recognises "
            "well but favours a few classes draws what is easy. Mean over replicates; samplers without a "
            "recognised image are left out."
        ),
        alt="Dot charts of class shares. Most frequent class: "
        + "; ".join(f"{s} {top} ({percent1(float(np.nanmax(shares[s])))})" for s, top in tops.items())
        + ".",
        drawing=plot(name, lambda sheet: _class_panels(sheet, shares, names), 1.75),
        header=("sampler", *names),
        rows=tuple((s, *map(float, each)) for s, each in shares.items()),
    )


def _mean(value: Any) -> float:
    return numbers([value.get("mean") if isinstance(value, dict) else value])[0]


def _class_panels(sheet: "Sheet", shares: dict[str, np.ndarray], names: list[str]) -> None:
    panels = sheet.subplots(1, len(shares), sharey=True, squeeze=False)[0]
    places = np.arange(len(names))
    for index, (axes, (sampler, each)) in enumerate(zip(panels, shares.items(), strict=True)):
        color = PLACEHOLDER[SERIES[index % 6]]
        axes.axhline(1 / len(names), color=PLACEHOLDER["ink"], linewidth=0.7, linestyle=(0, (4, 3)))
        axes.vlines(places, 0, each, color=color, linewidth=1.2, alpha=0.6)
        axes.plot(places, each, MARKERS[index % 6], color=color, markersize=3.4)
        axes.set_xticks(places, names, fontsize=6.5 if len(names) <= 12 else 5)
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
        axes.set_ylim(0, 1.1 * max(float(np.nanmax(one)) for one in shares.values()))
        as_percent(axes.yaxis, 0)
        set_ylabel_horizontal(axes, sampler)


def nearest(run: RunData, chapter: Json) -> Figure | None:
    """Generated images above the training images nearest to them: are they new, or remembered?"""
    shares = sampler_scores(run, chapter, "recognised")
    garbage = {name for name, share in shares.items() if share.mean < WORTH_COMPARING}
    found = {s: a for s, a in _arrays(run, chapter).items() if len(a.get("nearest", ())) and s not in garbage}
    if not found:
        return None
    rows = []
    for name, arrays in found.items():
        m = min(10, len(arrays["nearest"]), len(arrays["images"]))
        rows += [ImageRow(name, arrays["images"][:m]), ImageRow("nearest", arrays["nearest"][:m], last=True)]
    distances = sampler_scores(run, chapter, "nearest")
    said = "; ".join(f"{name} {score.mean:.2f}" for name, score in distances.items())
    return Figure(
        name=f"{slug(chapter['name'])}-nearest",
        title="New, or remembered?",
        caption=(
            "The first ten images of a sampler, and below each the training image nearest to it (Euclidean "
            "distance over pixels in [0, 1])." + (f" Mean distance: {said}." if said else "")
        ),
        alt=f"Pairs of generated images and nearest training images. Mean distances: {said or 'not known'}.",
        drawing=tile_drawing(rows, ink=is_ink(next(iter(found.values()))["nearest"]), label_width=68),
        header=("sampler", "mean distance"),
        rows=tuple((name, score.mean) for name, score in distances.items()),
    )

"""Tables of noise and generator chapters."""

from typing import Any

import numpy as np

from inklab.figures.generator import sampler_scores
from inklab.figures.noise import pipelines_of, strengths_of
from inklab.figures.numerals import ABSENT, count, fixed, general, interval, p_value, points, tenths
from inklab.figures.reading import chapter_results, is_number, read_score
from inklab.report.tables import Table, agreed, brief, without_units
from inklab.report.view import Json, RunView

SHOWN = (0.0, 0.1, 0.25, 0.4, 0.5, 0.75, 1.0)
ABREAST = 4  # pipelines whose intervals fit beside their means; of more they stand below


def noise_tables(run: RunView, chapter: Json) -> list[Table]:
    """True-positive rates at some strengths, and what cleaning first changes there."""
    curves, strengths = pipelines_of(run, chapter), strengths_of(run, chapter)
    if not curves:
        return []
    spots = shown_places(strengths)
    below = len(curves) > ABREAST
    rows = []
    for i in spots:
        scores = [each[i] if i < len(each) else None for each in curves.values()]
        told = without_units([brief(score, tenths, below=below) for score in scores])
        rows.append([f"{strengths[i]:g}", *told])
    first = [score for each in curves.values() for score in each[:1]]
    ns = ", ".join(f"{name} n = {score.n}" for name, score in zip(curves, first, strict=True) if score)
    written = [each[i] for i in spots for each in curves.values() if i < len(each)]
    notes = _over(first) + agreed(written)
    rates = Table(
        caption=f"Mean true-positive rate in percent (95 % CI) at some strengths; {ns}.{notes}",
        head=("Strength", *curves),
        rows=rows,
    )
    return [rates, *_comparisons(run, chapter)]


def _over(scores: list[Any]) -> str:
    alone = any(score is not None and score.n == 1 and score.interval for score in scores)
    return " Intervals over test images (Wilson) where n = 1." if alone else ""


def shown_places(strengths: list[float]) -> list[int]:
    """Which strengths a table shows: the customary ones that were measured, else all if they are few.

    Example:
        >>> shown_places([0.0, 0.05, 0.1, 0.5])
        [0, 2, 3]
    """
    spots = [i for i, strength in enumerate(strengths) if any(abs(strength - s) < 1e-9 for s in SHOWN)]
    if len(spots) >= 3:
        return spots
    return [int(i) for i in np.unique(np.linspace(0, len(strengths) - 1, 7).round())] if strengths else []


def _comparisons(run: RunView, chapter: Json) -> list[Table]:
    results = chapter_results(run, chapter["name"])
    one = results.get("helps_by") or {}
    gaps = one.get("differences") or []
    spots = shown_places([float(gap.get("strength", i)) for i, gap in enumerate(gaps)])
    rows = [
        [
            f"{gaps[i].get('strength', 0):g}",
            points(gaps[i]["mean"]),
            interval(gaps[i]["lower"], gaps[i]["upper"], points)
            if is_number(gaps[i].get("lower"))
            else ABSENT,
            p_value(gaps[i]["p_holm"]) if is_number(gaps[i].get("p_holm")) else ABSENT,
            count(gaps[i]["n"]) if gaps[i].get("n") else ABSENT,
        ]
        for i in spots
        if is_number(gaps[i].get("mean"))
    ]
    if not rows:
        return []
    over = "replicates" if one.get("over") == "replicates" else "test images"
    return [
        Table(
            caption=(
                f"{one.get('pipeline')} less {one.get('against')}, in percentage points of the mean "
                "true-positive rate, paired over "
                f"{over}. Bounds and p are adjusted (Holm) for all {len(gaps)} strengths together."
            ),
            head=("Strength", "Difference", "95 % bounds", "p (Holm)", "n"),
            rows=rows,
        )
    ]


def generator_tables(run: RunView, chapter: Json) -> list[Table]:
    """Each sampler: recognised, Fréchet distance beside its floor, distance to the nearest training image."""
    results = chapter_results(run, chapter["name"])
    recognised, frechet, near = (
        sampler_scores(run, chapter, what) for what in ("recognised", "frechet", "nearest")
    )
    names = list(dict.fromkeys([*recognised, *frechet, *near]))
    rows = [
        [
            name,
            brief(recognised.get(name), tenths),
            brief(frechet.get(name), general),
            fixed(near[name].mean, 2) if name in near else ABSENT,
        ]
        for name in names
    ]
    if not rows:
        return []
    floor, real, back = (
        read_score(results.get(key)) for key in ("floor", "recognised_test", "reconstructed")
    )
    if back:
        rows.append(["test images, reconstructed", brief(back, tenths), ABSENT, ABSENT])
    if floor or real:
        rows.append(["real test images", brief(real, tenths), brief(floor, general), ABSENT])
    return [
        Table(
            caption=(
                "Samplers. Recognised: share that the judge names with more than 90 % confidence (95 % CI). "
                "Fréchet: squared distance "
                "in the judge’s features, lower is better; the last row is its floor, training against test "
                "images. Nearest: mean "
                "distance to the nearest training image."
                f"{agreed([*recognised.values(), *frechet.values(), floor, real, back], 'images')}"
            ),
            head=("Sampler", "Recognised", "Fréchet", "Nearest"),
            rows=rows,
        )
    ]

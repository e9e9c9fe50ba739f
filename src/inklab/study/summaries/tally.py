"""What the summaries of all chapters share: who is done, what they scored, and families of comparisons."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from inklab.statistics import ALPHA, Difference, Score, holm, holm_levels, score

Json = dict[str, Any]
Records = Mapping[str, Json]
"""Outcomes by id; those that are not there yet are waiting."""

WAITING = "waiting"


def counts(ids: Iterable[str], records: Records) -> dict[str, int]:
    """How many trials (or evaluations) there are in each state, those not there yet as "waiting".

    Example:
        >>> counts(["a", "b", "c"], {"a": {"state": "done"}, "c": {"state": "diverged"}})
        {'done': 1, 'diverged': 1, 'waiting': 1}
    """
    wanted = list(ids)
    return counts_of(wanted, {each: records[each]["state"] for each in wanted if each in records})


def counts_of(ids: Iterable[str], states: Mapping[str, str]) -> dict[str, int]:
    """The same from states by id, for whoever needs no more of an outcome.

    Example:
        >>> counts_of(["a", "b"], {"a": "done"})
        {'done': 1, 'waiting': 1}
    """
    found = Counter(states.get(each, WAITING) for each in ids)
    order = ("done", "diverged", "failed", "lost", WAITING)
    return {state: found[state] for state in order if found[state]}


def done(ids: Iterable[str], records: Records) -> list[Json]:
    """The outcomes that came to something, in the order of `ids`."""
    return [records[each] for each in ids if each in records and records[each]["state"] == "done"]


def score_of(values: Iterable[float | int | None], images: int | None = None) -> Score:
    """The score of those values that are there; without a single image there is no interval over images."""
    return score([float(value) for value in values if value is not None], images=images or None)


def mean_vectors(vectors: Sequence[Sequence[float | int | None] | None]) -> list[float | None]:
    """Position by position the mean over those vectors that hold a number there.

    Example:
        >>> mean_vectors([[0.2, None], [0.4, None]])
        [0.30000000000000004, None]
    """
    present = [vector for vector in vectors if vector is not None]
    return [score_of(column).mean for column in zip(*present, strict=True)]


def family(differences: Sequence[Difference]) -> list[Json]:
    """A family of comparisons: each with Holm's adjusted p and the bounds at its step of Holm's procedure.

    Comparisons without a p value (one pair, or no spread) are no test and don't count in the family.

    Returns:
        `to_json()` of each with "p_holm", "lower" and "upper": lower > 0 or upper < 0 exactly where p_holm
        is below 0.05.
    """
    tested = [place for place, each in enumerate(differences) if each.p is not None]
    p_values = [float(differences[place].p or 0.0) for place in tested]
    adjusted = dict(zip(tested, zip(holm(p_values), holm_levels(p_values), strict=True), strict=True))
    told = []
    for place, difference in enumerate(differences):
        p_holm, level = adjusted.get(place, (None, ALPHA))
        lower, upper = difference.interval(1 - level) or (None, None)
        told.append(difference.to_json() | {"p_holm": p_holm, "lower": lower, "upper": upper})
    return told


def family_alpha(comparisons: int) -> float:
    """The level of Holm's strictest step, at which `smallest_visible` is asked for a whole family."""
    return ALPHA / max(1, comparisons)

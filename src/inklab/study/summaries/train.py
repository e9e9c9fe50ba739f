"""A chapter of trainings in numbers: one setting, or several that are compared."""

from collections.abc import Iterable, Sequence
from typing import Any

from inklab.statistics import Difference, paired_difference
from inklab.study.summaries.tally import Json, Records, counts, done, family, family_alpha, score_of
from inklab.train.objective import objectives

SCORES = {
    "labels": ("test_accuracy", "test_loss", "validation_accuracy", "validation_loss"),
    "images": ("test_bce", "test_psnr", "validation_bce", "validation_psnr"),
}
CHOOSES = {"labels": "validation_accuracy", "images": "validation_bce"}
"""The score by which the best setting is chosen."""

REPORTS = {"labels": "test_accuracy", "images": "test_bce"}
"""The score on which the others are compared with it: it had no part in the choice."""

LESS_IS_BETTER = ("_loss", "_bce")


def summarise_train(chapter: Json, outcomes: Records, data: Json) -> Json:
    """The numbers of a chapter of kind "train".

    Args:
        chapter: from `plan.json`.
        outcomes: trial id -> `outcome.json`; trials that are missing count as waiting.
        data: the plan's "data", for how many images a rate was measured on.

    Returns:
        For a chapter that varies nothing its one setting's scores; else "settings", "best" and "comparisons".
    """
    told: Json = {"kind": "train", "test_images": data["test"], "validation_images": data["validation"]}
    if not chapter["vary"]:
        return told | one_setting(chapter["settings"][0], outcomes, data)
    settings = [each["values"] | one_setting(each, outcomes, data) for each in chapter["settings"]]
    trials = [trial for each in chapter["settings"] for trial in each["trials"]]
    best = _best(chapter["settings"], settings)
    told |= {"vary": chapter["vary"], "outcomes": counts(trials, outcomes), "settings": settings}
    told |= {"best": None, "comparisons": []}
    if best is None:
        return told
    chosen = value_of(chapter["settings"][best], chapter["vary"])
    return told | {"best": chosen, "comparisons": _comparisons(chapter, best, outcomes)}


def one_setting(setting: Json, outcomes: Records, data: Json) -> Json:
    """Parameters, outcomes, scores and verdicts of one setting's trials."""
    trials = setting["trials"]
    recorded = [outcomes[trial] for trial in trials if trial in outcomes]
    finished = done(trials, outcomes)
    told: Json = {
        "parameters": next((each["parameters"] for each in recorded if each.get("parameters")), None)
    }
    told["outcomes"] = counts(trials, outcomes)
    names = [*SCORES[target_of(setting)], *(name for each in finished for name in each["scores"])]
    for name in dict.fromkeys(names):
        images = data.get(name.split("_")[0]) if name.endswith("_accuracy") else None
        told[name] = score_of((each["scores"].get(name) for each in finished), images).to_json()
    return told | _verdicts(recorded)


def target_of(setting: Json) -> str:
    """What networks of a setting give: "labels" or "images"."""
    return objectives[setting["settings"]["recipe"]["objective"]].target


def value_of(setting: Json, vary: Sequence[str]) -> Any:
    """What names a setting in its chapter: the value of what is varied, or all of them by name."""
    values = setting["values"]
    return values[vary[0]] if len(vary) == 1 else {key: values[key] for key in vary}


def less_is_better(name: str) -> bool:
    """Whether a smaller value of this score is the better one."""
    return name.endswith(LESS_IS_BETTER)


def paired(
    a: Sequence[str], b: Sequence[str], outcomes: Records, name: str, *, comparisons: int = 1
) -> tuple[Difference, list[int]]:
    """The difference a - b of one score over the replicates that both have finished, and which those are.

    Args:
        a: trial ids, entry k is replicate k.
        b: trial ids, entry k is replicate k.
        outcomes: trial id -> outcome.
        name: of the score.
        comparisons: how many of them make up the family.
    """
    pairs = []
    for replicate, ids in enumerate(zip(a, b, strict=False)):
        scores = [each["scores"].get(name) for each in done(ids, outcomes)]
        if len(scores) == 2 and None not in scores:
            pairs.append((replicate, float(scores[0]), float(scores[1])))
    first, second = [pair[1] for pair in pairs], [pair[2] for pair in pairs]
    difference = paired_difference(first, second, alpha=family_alpha(comparisons))
    return difference, [pair[0] for pair in pairs]


def _best(planned: Sequence[Json], summaries: Sequence[Json]) -> int | None:
    """The setting with the best mean on the validation images; None while nothing is done.

    A setting of which trials diverged is chosen only if there is no other: its mean is that of the survivors.
    """
    candidates = []
    for place, (setting, told) in enumerate(zip(planned, summaries, strict=True)):
        name = CHOOSES[target_of(setting)]
        mean = told[name]["mean"]
        if mean is not None:
            worse = mean if less_is_better(name) else -mean
            candidates.append(("diverged" in told["outcomes"], worse, place))
    return min(candidates)[2] if candidates else None


def _comparisons(chapter: Json, best: int, outcomes: Records) -> list[Json]:
    settings, vary = chapter["settings"], chapter["vary"]
    target = target_of(settings[best])
    others = [each for place, each in enumerate(settings) if place != best and target_of(each) == target]
    name, trials = REPORTS[target], settings[best]["trials"]
    pairs = [paired(each["trials"], trials, outcomes, name, comparisons=len(others)) for each in others]
    against = value_of(settings[best], vary)
    return [
        each["values"] | {"against": against, "score": name, "difference": difference}
        for each, difference in zip(others, family([pair[0] for pair in pairs]), strict=True)
    ]


def _verdicts(recorded: Iterable[Json]) -> Json:
    """The gauges' verdicts by name, and of how many trials each was; nothing when there are none."""
    details: dict[str, Json] = {}
    for outcome in recorded:
        for verdict in outcome.get("verdicts") or []:
            plain = {key: verdict.get(key) for key in ("name", "finding", "advice")}
            details.setdefault(verdict["name"], plain | {"trials": 0})["trials"] += 1
    return {"verdicts": list(details), "verdict_details": list(details.values())} if details else {}

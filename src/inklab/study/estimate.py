"""What a plan will cost, from multiply-adds; orders the queue, fills `--dry-run`. Good to a factor of two."""

from collections.abc import Callable, Mapping
from typing import Any

from inklab.study.plan import rehearsal_key
from inklab.train.objective import objectives

# Measured on one core of a Zen 5 server (AVX-512 with bf16), one thread: multiply-adds a second of a training
# step (forward and backward together) and of a forward pass in fp32; what a step costs besides.
TRAINED = {"bf16": 90e9, "fp32": 30e9}
ASKED = 70e9
STEP_SECONDS, CORRUPTED_STEP_SECONDS = 0.5e-3, 1.5e-3
START_SECONDS = 5  # workers start, import torch and rehearse
COMPILED_FROM = (
    2.0  # seconds that a trial must last for its program to be compiled, which takes about 15 once
)
KEPT_BYTES = 60_000  # of an outcome, its history and predictions

Cost = Callable[[dict[str, Any]], tuple[int, int]]
"""Of a trial's settings: parameters, and multiply-adds for one image."""


def cost_of(facts: Mapping[str, Mapping[str, Any]]) -> Cost:
    """The cost of settings, from what rehearsals found out.

    Args:
        facts: by `rehearsal_key`, as in plan.json.
    """

    def cost(settings: dict[str, Any]) -> tuple[int, int]:
        known = facts[rehearsal_key(settings)]
        return known["parameters"], known["multiply_adds"]

    return cost


def group_seconds(settings: dict[str, Any], trials: int, images: int, cost: Cost) -> float:
    """Seconds for a group of trials on one core."""
    recipe = settings["recipe"]
    # Muon's products are left out: below a tenth of a convolutional network's step at batches of 100 and up.
    passes = objectives[recipe["objective"]].passes
    computed = images * cost(settings)[1] * passes / TRAINED[settings["precision"]]
    stepped = -(-images // recipe["batch"]) * (
        CORRUPTED_STEP_SECONDS if recipe["corruption"] else STEP_SECONDS
    )
    return float(trials * recipe["epochs"] * (computed + stepped))


def repays_compiling(settings: dict[str, Any], images: int, cost: Cost) -> bool:
    """Whether a trial lasts long enough. Of the trial alone, so that a run can be extended."""
    return group_seconds(settings, 1, images, cost) >= COMPILED_FROM


def evaluation_seconds(evaluation: Mapping[str, Any], plan: Mapping[str, Any], cost: Cost) -> float:
    """Seconds for an evaluation on one core."""
    asked = sum(cost(plan["trials"][trial]["settings"])[1] for trial in evaluation["needs"])
    if evaluation["kind"] == "noise":
        return float(evaluation["images"] * len(evaluation["strengths"]) * asked / ASKED)
    return float((2 * evaluation["samples"] + 10_000) * asked / ASKED + 2)


def estimate(plan: Mapping[str, Any], waiting: set[str], cost: Cost) -> dict[str, float | int]:
    """What is still to be done, all in all.

    Args:
        plan: as in plan.json.
        waiting: ids of the trials and evaluations without a final outcome.
        cost: of a trial's settings.

    Returns:
        `{"trials", "evaluations", "populations", "seconds", "bytes"}`.
    """
    images = sum(plan["data"]["counts"]["train"])
    seconds, bytes_kept, populations, trials = 0.0, 0.0, 0, 0
    for group in plan["groups"]:
        left = [trial for trial in group["trials"] if trial in waiting]
        if left:
            settings = plan["trials"][left[0]]["settings"]
            seconds += group_seconds(settings, len(left), images, cost)
            bytes_kept += len(left) * (4 * cost(settings)[0] + KEPT_BYTES)
            populations, trials = populations + 1, trials + len(left)
    evaluations = [
        each
        for chapter in plan["chapters"]
        for each in chapter.get("evaluations", [])
        if each["id"] in waiting
    ]
    seconds += sum(evaluation_seconds(each, plan, cost) for each in evaluations)
    bytes_kept += sum(
        each["images"] * len(each["strengths"]) if each["kind"] == "noise" else KEPT_BYTES
        for each in evaluations
    )
    return {
        "trials": trials, "evaluations": len(evaluations), "populations": populations,
        "seconds": seconds / plan["how"]["workers"] + (START_SECONDS if waiting else 0), "bytes": bytes_kept,
    }  # fmt: skip

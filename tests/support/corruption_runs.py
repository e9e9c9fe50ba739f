"""A synthetic run with two robustness experiments and one that puts both together."""

from typing import Any

from synthetic_run import SyntheticRun, replace, synthetic_run

from inklab.records.plan import CorruptionErrorPlan

MEMBERS = ("robustness", "blur")
"""The robustness experiments."""


def run_with_two_corruptions() -> SyntheticRun:
    """Experiment "blur" has lower accuracies than "robustness"; "errors" puts both together."""
    run = synthetic_run()
    planned: Any = run.plan.experiment("robustness")
    evaluations = []
    for evaluation in planned.evaluations:
        evaluations.append(replace(evaluation, id=f"blur-{evaluation.id}", corruption="glass_blur"))
        known: Any = run.evaluations[evaluation.id]
        accuracy = tuple(0.9 * value for value in known.accuracy)
        outcome = replace(known, evaluation=evaluations[-1], accuracy=accuracy)
        run.evaluations[outcome.id] = outcome
        run.stored[outcome.id] = run.stored[evaluation.id]
    blur = replace(
        planned, name="blur", title="Blur", corruption="glass_blur", evaluations=tuple(evaluations)
    )
    errors = CorruptionErrorPlan(
        name="errors", experiments=MEMBERS, pipelines=planned.pipelines, baseline=planned.baseline
    )
    run.change_plan(experiments=(*run.plan.experiments, blur, errors))
    return run

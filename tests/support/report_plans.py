"""Smaller plans of the digits study, for tests of figures and the report."""

from collections.abc import Sequence

from synthetic_report import digits_plan
from synthetic_run import replace

from inklab.records.plan import GenerationPlan, Plan, RobustnessPlan


def plan_of(names: Sequence[str], overrides: Sequence[str] = (), profile: str = "quick") -> Plan:
    """The plan of some experiments of the digits study, with the trials that they need."""
    plan = digits_plan(profile, overrides)
    kept = [experiment for experiment in plan.experiments if experiment.name in names]
    trials = {trial for experiment in kept for trial in plan.trials_of(experiment.name)}
    for experiment in kept:
        if isinstance(experiment, RobustnessPlan | GenerationPlan):
            trials |= {trial for evaluation in experiment.evaluations for trial in evaluation.depends_on}
    groups = [replace(group, trials=[t for t in group.trials if t in trials]) for group in plan.groups
              if trials & set(group.trials)]  # fmt: skip
    planned = {trial: entry for trial, entry in plan.trials.items() if trial in trials}
    return replace(plan, experiments=kept, trials=planned, groups=groups)

"""Smaller plans of the digits study, for tests of figures and the report."""

from collections.abc import Sequence

from synthetic_report import digits_plan
from synthetic_run import replace

from inklab.records.plan import Plan


def plan_of(names: Sequence[str], overrides: Sequence[str] = (), profile: str = "quick") -> Plan:
    """The plan of some experiments of the digits study, and of those that they depend on."""
    plan = digits_plan(profile, overrides)
    evaluations = [plan.evaluations[id] for name in names for id in plan.evaluations_of(name)]
    needed = {trial for evaluation in evaluations for trial in evaluation.depends_on}
    kept_names = {*names, *(plan.setting_of(trial).experiment.name for trial in needed)}
    experiments = [experiment for experiment in plan.experiments if experiment.name in kept_names]
    trials = {trial: plan.trials[trial] for name in kept_names for trial in plan.trials_of(name)}
    groups = [
        replace(group, trials=[trial for trial in group.trials if trial in trials])
        for group in plan.groups
        if trials.keys() & set(group.trials)
    ]
    return replace(plan, experiments=experiments, trials=trials, groups=groups)

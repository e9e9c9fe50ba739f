"""Two settings of a run, compared replicate by replicate: what `inklab compare RUN A B` prints."""

from collections.abc import Mapping, Sequence
from typing import Literal

from inklab.errors import ConfigError
from inklab.format import capitalize, format_outcomes
from inklab.metrics import REPORTED_METRIC, SELECTION_METRIC, TASK_METRICS, Task, get_metric
from inklab.records.estimates import Difference
from inklab.records.outcomes import StateCounts, TrialOutcome, count_outcomes
from inklab.records.plan import Plan
from inklab.records.record import Counts, Record
from inklab.results.summarize import compare_trials


class Comparison(Record):
    """A setting minus another, in pairs of equal replicates.

    Attributes:
        a: an experiment, such as "cnn", or one of its settings, such as "l2-sweep:l2=1e-5".
        b: what it is compared with.
        outcomes: trials by state, of both.
        replicates: that are done in both.
        differences: a - b by metric, those on the test set first.
        better: by metric which of the two is significantly better; None if neither.
    """

    a: str
    b: str
    task: Task
    outcomes: dict[str, StateCounts]
    replicates: Counts
    differences: dict[str, Difference]
    better: dict[str, Literal["a", "b"] | None]

    @property
    def sentence(self) -> str:
        """The comparison in words, on the metric that is reported and the one that settings are chosen by."""
        if not self.replicates:
            return f"'{self.a}' and '{self.b}' have no replicate that is done in both."
        states = {name: format_outcomes(counts, hide_complete=True) for name, counts in self.outcomes.items()}
        metrics = (REPORTED_METRIC[self.task], SELECTION_METRIC[self.task])
        return " ".join(
            [
                *(f"{name}: {text}." for name, text in states.items() if text),
                *(self._describe(name) for name in metrics if self.differences[name].n),
            ]
        )

    def _describe(self, name: str) -> str:
        difference, label = self.differences[name], get_metric(name).label
        change = f"{self.a} - {self.b}: {difference.format(name)}"
        better = self.better[name]
        if better is not None:
            winner, other = (self.a, self.b) if better == "a" else (self.b, self.a)
            return f"{winner} has a significantly better {label} than {other}; {change}."
        if difference.p is None:
            return f"{capitalize(label)}, {change}; too few pairs to test, add replicates."
        return f"No significant difference in {label}; {change}."


def compare(plan: Plan, outcomes: Mapping[str, TrialOutcome], a: str, b: str) -> Comparison:
    """How much setting `a` differs from `b`, in pairs of equal replicates.

    Raises:
        UnknownNameError: there is no such experiment or setting.
        ConfigError: one trains nothing, has several settings and none is named, or the tasks differ.
    """
    first, second = plan.find_setting(a), plan.find_setting(b)
    task = first.experiment.task
    if task != second.experiment.task:
        raise ConfigError(
            f"'{a}' is trained for {task} and '{b}' for {second.experiment.task}, so they have no metric in "
            "common; compare two of the same task."
        )
    pairs = {
        name: compare_trials(first.setting.trials, second.setting.trials, outcomes, name)
        for name in _measured(task, outcomes, (*first.setting.trials, *second.setting.trials))
    }
    states = {name: count_outcomes(ref.setting.trials, outcomes) for name, ref in ((a, first), (b, second))}
    return Comparison(
        a=a,
        b=b,
        task=task,
        outcomes=states,
        replicates=next((replicates for _, replicates in pairs.values() if replicates), ()),
        differences={name: difference for name, (difference, _) in pairs.items()},
        better={name: _better(difference, name) for name, (difference, _) in pairs.items()},
    )


def _measured(task: Task, outcomes: Mapping[str, TrialOutcome], trials: Sequence[str]) -> list[str]:
    """The metrics of a task and what else trials have, those on the test set first."""
    recorded = (outcomes[trial].metrics or {} for trial in trials if trial in outcomes)
    names = dict.fromkeys([*TASK_METRICS[task], *(name for metrics in recorded for name in metrics)])
    return sorted(names, key=lambda name: get_metric(name).split != "test")


def _better(difference: Difference, name: str) -> Literal["a", "b"] | None:
    if not difference.significant or not difference.mean:
        return None
    return "a" if get_metric(name).is_better(difference.mean, 0.0) else "b"

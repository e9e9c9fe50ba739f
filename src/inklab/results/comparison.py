"""Two settings compared: by replicates in a run or across runs, or two trained networks image by image."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from inklab.errors import ConfigError, UnknownNameError
from inklab.format import capitalize, format_delta_interval, format_outcomes, format_p, join_words, pluralize
from inklab.metrics import (
    CLASS_RECALL,
    REPORTED_METRIC,
    SELECTION_METRIC,
    SPLIT_LABELS,
    TASK_METRICS,
    Task,
    get_metric,
)
from inklab.notebook import card, html_table, paragraph
from inklab.records.estimates import Difference, ImagesDifference, UnpairedDifference
from inklab.records.outcomes import StateCounts, TrialOutcome, count_outcomes
from inklab.records.plan import Plan, SettingRef
from inklab.records.record import Counts, Record
from inklab.stats import Flags, adjust_family, mcnemar, paired_difference, unpaired_difference

CLASS_RECALLS = (CLASS_RECALL, *(f"{split}_{CLASS_RECALL}" for split in SPLIT_LABELS))

Outcomes = Mapping[str, TrialOutcome]
AnyDifference = Difference | UnpairedDifference | ImagesDifference


class Comparison(Record):
    """A setting minus another.

    Attributes:
        a: an experiment, such as "cnn", or one of its settings, such as "l2-sweep:l2=1e-5".
        b: what it is compared with; with its run, if that is another one.
        task: of both.
        test: what was tested: "paired" replicates (Student's t), replicates that do not pair ("welch"), or
            two trained networks image by image ("mcnemar").
        tested: the same in a sentence.
        outcomes: trials by state, of both.
        replicates: that are done in both, if they pair; the two networks' replicates for "mcnemar".
        differences: a - b by metric, those on the test set first. Several that are tested are one family:
            each has its own `p`, and `p_holm`, `lower` and `upper` adjusted by Holm's procedure.
        better: by metric which of the two is significantly better, after the adjustment; None if neither.
    """

    a: str
    b: str
    task: Task
    test: Literal["paired", "welch", "mcnemar"] = "paired"
    tested: str = ""
    outcomes: dict[str, StateCounts]
    replicates: Counts
    differences: dict[str, AnyDifference]
    better: dict[str, Literal["a", "b"] | None]

    @property
    def sentence(self) -> str:
        """The comparison in words, on the metric that is reported and the one that settings are chosen by.

        Each is tested by itself, as these two are fixed before the results are known.
        """
        described = [self._describe(name) for name in self._main_metrics if self.differences[name].n]
        if not described:
            return f"'{self.a}' and '{self.b}' have no replicate that is done in both."
        states = {name: format_outcomes(counts, hide_complete=True) for name, counts in self.outcomes.items()}
        incomplete = [f"{name}: {text}." for name, text in states.items() if text]
        return " ".join([*incomplete, *described, self.tested]).strip()

    @property
    def difference(self) -> AnyDifference:
        """That of the metric that is reported, tested by itself: accuracy or BCE on the test set."""
        return _single(self.differences[self._main_metrics[0]])

    @property
    def is_tested(self) -> bool:
        """Whether there were enough replicates or images for a test."""
        return self.difference.p is not None

    def only(self, metric: str) -> "Comparison":
        """The comparison on one metric, which is then tested by itself: nothing is adjusted.

        Raises:
            UnknownNameError: it was not measured.
        """
        if metric not in self.differences:
            raise unknown_metric(metric, self.differences)
        difference = _single(self.differences[metric])
        better = {metric: _better(difference, metric)}
        return self.model_copy(update={"differences": {metric: difference}, "better": better})

    def __str__(self) -> str:
        return self.sentence

    def __repr__(self) -> str:
        name = self._main_metrics[0]
        difference = self.difference.format(name)
        return f"Comparison({self.a} - {self.b}, {get_metric(name).label}: {difference})"

    def _repr_html_(self) -> str:
        names = {"a": self.a, "b": self.b, None: ""}
        rows = [
            [get_metric(name).title, *_cells(difference, name), names[self.better[name]]]
            for name, difference in self.differences.items()
            if difference.n
        ]
        tests = sum(difference.p_holm is not None for difference in self.differences.values())
        adjusted, note = "", self.tested or self.sentence
        if tests:
            adjusted = "adjusted "
            note += f" Intervals and p are adjusted by Holm's procedure for the {tests} tests of this table."
        header = ("metric", "difference", f"{adjusted}95% CI", f"{adjusted}p", "better")
        table = html_table(header, rows, right=(1, 2, 3)) if rows else ""
        return card(f"{self.a} - {self.b}", table, paragraph(note, muted=True))

    @property
    def _main_metrics(self) -> list[str]:
        main = (REPORTED_METRIC[self.task], SELECTION_METRIC[self.task])
        return [name for name in main if name in self.differences] or list(self.differences)

    def _describe(self, name: str) -> str:
        difference, label = _single(self.differences[name]), get_metric(name).label
        change = f"{self.a} - {self.b}: {difference.format(name)}"
        better = _better(difference, name)
        if better is not None:
            winner, other = (self.a, self.b) if better == "a" else (self.b, self.a)
            return f"{winner} has a significantly better {label} than {other}; {change}."
        if difference.p is None:
            noun = "replicates" if self.test == "welch" else "pairs"
            return f"{capitalize(label)}, {change}; too few {noun} to test, add replicates."
        return f"No significant difference in {label}; {change}."


def unknown_metric(name: str, measured: Iterable[str]) -> UnknownNameError:
    """The error about a metric that was not measured; it does not list the recall of each class."""
    listed = [known for known in measured if not known.startswith(CLASS_RECALLS)]
    return UnknownNameError("measured metric", name, listed)


def _cells(difference: Difference, name: str) -> tuple[str, str, str]:
    mean, _, _ = difference.format(name).partition(" (")
    interval = "" if difference.interval is None else format_delta_interval(difference.interval, name)
    p = difference.p if difference.p_holm is None else difference.p_holm
    return mean, interval, "" if p is None else format_p(p, "")


def _single(difference: AnyDifference) -> AnyDifference:
    """A difference as if it were the only one that is tested."""
    return difference.model_copy(update={"p_holm": None, "lower": None, "upper": None})


class Side(NamedTuple):
    """A setting of a run.

    Attributes:
        name: what it is called in the comparison.
        ref: the setting.
        plan: of its run.
        outcomes: of its run's trials.
    """

    name: str
    ref: SettingRef
    plan: Plan
    outcomes: Outcomes

    @property
    def trials(self) -> tuple[str, ...]:
        """Ids; entry k is replicate k."""
        return self.ref.setting.trials

    @property
    def task(self) -> Task:
        """What its networks are trained for."""
        return self.ref.experiment.task

    def values(self, metric: str) -> dict[int, float]:
        """A metric of the trials that are done, by replicate."""
        recorded = {
            replicate: self.outcomes[trial].metrics or {}
            for replicate, trial in enumerate(self.trials)
            if trial in self.outcomes
        }
        return {replicate: metrics[metric] for replicate, metrics in recorded.items() if metric in metrics}


def compare(plan: Plan, outcomes: Outcomes, a: str, b: str) -> Comparison:
    """How much setting `a` differs from `b` of the same run, in pairs of equal replicates.

    Raises:
        UnknownNameError: there is no such experiment or setting.
        ConfigError: one trains nothing, has several settings and none is named, or the tasks differ.
    """
    sides = [Side(name, plan.find_setting(name), plan, outcomes) for name in (a, b)]
    return compare_sides(sides[0], sides[1])


def compare_sides(a: Side, b: Side) -> Comparison:
    """How much a setting differs from another, which may be of another run.

    Replicates pair if data, split and root seed are the same: then replicate k has the same streams of
    randomness in both, and the luck that both share cancels. Otherwise Welch's test is used.

    Raises:
        ConfigError: the tasks differ.
    """
    _check_tasks(a, b)
    values = {name: (a.values(name), b.values(name)) for name in _measured(a, b)}
    differences: dict[str, AnyDifference]
    if reasons := why_unpaired(a.plan, b.plan):
        differences = {
            name: unpaired_difference(list(first.values()), list(second.values()))
            for name, (first, second) in values.items()
        }
        why = f"the runs have different {join_words(reasons)}"
        tested = f"Welch's t test over replicates, which do not pair: {why}."
        return _comparison(a, b, differences, test="welch", tested=tested)
    common = {name: sorted(first.keys() & second) for name, (first, second) in values.items()}
    differences = {
        name: paired_difference([first[k] for k in common[name]], [second[k] for k in common[name]])
        for name, (first, second) in values.items()
    }
    replicates = next(filter(None, common.values()), [])
    tested = f"Paired t test over {pluralize(len(replicates), 'replicate')}." if len(replicates) > 1 else ""
    return _comparison(a, b, differences, tested=tested, replicates=replicates)


def compare_images(a: Side, b: Side, replicates: tuple[int, int], correct: tuple[Flags, Flags]) -> Comparison:
    """Two trained classifiers compared image by image on the same test set.

    Args:
        a: setting of the first.
        b: setting of the second.
        replicates: of the two networks.
        correct: of each, which test images it classifies rightly.

    Raises:
        ConfigError: the tasks differ.
    """
    _check_tasks(a, b)
    difference = mcnemar(*correct)
    first, second = replicates
    which = f"replicate {first}" if first == second else f"replicates {first} and {second}"
    tested = (
        f"McNemar's exact test of two trained networks ({which}) on the same "
        f"{pluralize(difference.n, 'test image')}: {difference.only_a:,} are right in {a.name} only, "
        f"{difference.only_b:,} in {b.name} only. It says nothing about training again."
    )
    differences: dict[str, AnyDifference] = {REPORTED_METRIC[a.task]: difference}
    return _comparison(a, b, differences, test="mcnemar", tested=tested, replicates=replicates)


def why_unpaired(a: Plan, b: Plan) -> list[str]:
    """What keeps replicates of two runs from pairing; empty if they pair."""
    if a.data.sha256 != b.data.sha256:
        return ["data"]
    differs = {
        "validation sets": a.data.counts != b.data.counts,
        "root seeds": a.seed != b.seed,
    }
    return [name for name, is_different in differs.items() if is_different]


def _check_tasks(a: Side, b: Side) -> None:
    if a.task != b.task:
        raise ConfigError(
            f"'{a.name}' is trained for {a.task} and '{b.name}' for {b.task}, so they have no metric in "
            "common; compare two of the same task."
        )


def _comparison(
    a: Side,
    b: Side,
    differences: Mapping[str, AnyDifference],
    *,
    test: Literal["paired", "welch", "mcnemar"] = "paired",
    tested: str,
    replicates: Sequence[int] = (),
) -> Comparison:
    if sum(difference.p is not None for difference in differences.values()) > 1:
        differences = dict(zip(differences, adjust_family(list(differences.values())), strict=True))
    return Comparison(
        a=a.name,
        b=b.name,
        task=a.task,
        test=test,
        tested=tested,
        outcomes={side.name: count_outcomes(side.trials, side.outcomes) for side in (a, b)},
        replicates=tuple(replicates),
        differences=dict(differences),
        better={name: _better(difference, name) for name, difference in differences.items()},
    )


def _measured(a: Side, b: Side) -> list[str]:
    """The metrics of a task and what else trials have, those on the test set first."""
    trials = [(side.outcomes, trial) for side in (a, b) for trial in side.trials]
    recorded = (outcomes[trial].metrics or {} for outcomes, trial in trials if trial in outcomes)
    names = dict.fromkeys([*TASK_METRICS[a.task], *(name for metrics in recorded for name in metrics)])
    return sorted(names, key=lambda name: get_metric(name).split != "test")


def _better(difference: Difference, name: str) -> Literal["a", "b"] | None:
    if not difference.significant or not difference.mean:
        return None
    return "a" if get_metric(name).is_better(difference.mean, 0.0) else "b"

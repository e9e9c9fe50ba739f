"""From outcomes to `results.json`: every number of a run."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from math import isclose
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from inklab.metrics import (
    CLASS_RECALL,
    REPORTED_METRIC,
    SECOND_TEST,
    SELECTION_METRIC,
    TASK_METRICS,
    get_metric,
)
from inklab.records.components import Pipeline
from inklab.records.estimates import MIN_REPLICATES, Difference, Estimate
from inklab.records.outcomes import (
    Environment,
    EvaluationOutcome,
    GenerationOutcome,
    RobustnessOutcome,
    Snapshot,
    TrialOutcome,
    TrialState,
    count_outcomes,
)
from inklab.records.plan import (
    REAL_DATA,
    AnyExperimentPlan,
    CorruptionErrorPlan,
    DataInfo,
    DataPlan,
    GenerationPlan,
    RobustnessPlan,
    Setting,
    TrainingPlan,
)
from inklab.records.record import RESULTS_FILE, TIMER_FILE
from inklab.records.results import (
    ConfusionMatrices,
    DataResults,
    DiagnosisCount,
    ExperimentResults,
    GenerationResults,
    PipelineComparison,
    PipelineResults,
    Results,
    RobustnessResults,
    SamplerResults,
    SettingComparison,
    SettingResults,
    SplitInfo,
    StrengthDifference,
    Timings,
    TrainingResults,
)
from inklab.records.status import ElapsedTime
from inklab.results.arrays import Arrays, StoredArrays
from inklab.results.corruption_error import summarize_corruption_error
from inklab.results.narrative import findings
from inklab.stats import (
    adjust_family,
    estimate,
    family_alpha,
    paired_difference,
    paired_images_difference,
)

TrialOutcomes = Mapping[str, TrialOutcome]
"""By id; trials that are missing wait."""

EvaluationOutcomes = Mapping[str, EvaluationOutcome]
"""By id; evaluations that are missing wait."""

OutcomePair = tuple[RobustnessOutcome, RobustnessOutcome]
"""Of a pipeline and of the baseline, in the same replicate."""

ReadArrays = Callable[[str], Arrays]
"""From the id of an evaluation that is done to its arrays."""


# ---------------------------------------------------------------- a run


def write_results(path: Path, snapshot: Snapshot) -> Results:
    """Compute `results.json` from what was read of a run directory, and write it there.

    Raises:
        CorruptFileError: a file of the run is damaged.
    """
    results = compute_results(path, snapshot)
    results.write(path / RESULTS_FILE)
    return results


def compute_results(path: Path, snapshot: Snapshot) -> Results:
    """Results of a run so far, computed from what was read of its directory.

    Raises:
        CorruptFileError: a file of the run is damaged.
    """
    try:
        elapsed = ElapsedTime.read(path / TIMER_FILE).seconds
    except FileNotFoundError:
        elapsed = None
    return summarize(snapshot, StoredArrays(path, snapshot.plan).finished, elapsed)


def summarize(snapshot: Snapshot, arrays: ReadArrays, elapsed: float | None = None) -> Results:
    """The results of a run. Failed trials are counted and never averaged in.

    Args:
        snapshot: the plan, and outcomes as far as they are there.
        arrays: reads the arrays of an evaluation that is done.
        elapsed: wall-clock seconds, summed over sessions; None for the sum over trials and evaluations.
    """
    plan = snapshot.plan
    summaries = {experiment.name: _summarize(experiment, snapshot, arrays) for experiment in plan.experiments}
    results = Results(
        study=plan.study,
        title=plan.title or plan.study,
        profile=plan.profile,
        seed=plan.seed,
        data=SplitInfo.from_data(plan.data),
        experiments={name: summary for name, summary in summaries.items() if summary is not None},
        environment=_environment(snapshot),
        timings=_timings(snapshot, elapsed),
    )
    return results.model_copy(update={"findings": findings(results, plan)})


def _summarize(
    experiment: AnyExperimentPlan, snapshot: Snapshot, arrays: ReadArrays
) -> ExperimentResults | None:
    data, evaluations = snapshot.plan.data, snapshot.evaluations
    match experiment:
        case TrainingPlan():
            return summarize_training(experiment, snapshot.outcomes, data)
        case RobustnessPlan():
            return _Robustness(experiment, evaluations, arrays, data).summarize(snapshot.plan.denoisers)
        case GenerationPlan():
            return _summarize_generation(experiment, evaluations, data)
        case CorruptionErrorPlan():
            return summarize_corruption_error(experiment, snapshot.plan, evaluations)
        case DataPlan():
            return DataResults()
    return None


def _timings(snapshot: Snapshot, elapsed: float | None) -> Timings:
    """A training that two experiments share counts in both of them, and once in the total."""
    plan = snapshot.plan
    outcomes = (*snapshot.outcomes.items(), *snapshot.evaluations.items())
    seconds = {id: outcome.seconds for id, outcome in outcomes}
    ids = {
        experiment.name: (*plan.trials_of(experiment.name), *plan.evaluations_of(experiment.name))
        for experiment in plan.experiments
    }
    return Timings(
        total=sum(seconds.get(id, 0.0) for id in plan.ids) if elapsed is None else elapsed,
        experiments={name: sum(seconds.get(id, 0.0) for id in own) for name, own in ids.items() if own},
    )


def _environment(snapshot: Snapshot) -> Environment:
    """That of the first trial that says it, else of this process; with what holds for the whole run."""
    execution = snapshot.plan.execution
    recorded = (outcome.environment for outcome in snapshot.outcomes.values())
    environment = next(filter(None, recorded), None) or Environment.current(execution.threads)
    of_run = {"precision": execution.precision, "threads": execution.threads, "workers": execution.workers}
    of_device = {"device": execution.device.name, "gpu": execution.device.hardware or None}
    of_trial = dict.fromkeys(("members", "stacked", "compiled"))
    return environment.model_copy(update={**of_run, **of_device, **of_trial})


# ---------------------------------------------------------------- experiments that train networks


def summarize_training(experiment: TrainingPlan, outcomes: TrialOutcomes, data: DataInfo) -> TrainingResults:
    """The results of an experiment that trains networks; trials without an outcome count as waiting."""
    settings = [_summarize_setting(setting, experiment, outcomes, data) for setting in experiment.settings]
    best = find_best(settings, SELECTION_METRIC[experiment.task]) if experiment.grid else 0
    return TrainingResults(
        task=experiment.task,
        grid=experiment.grid,
        settings=tuple(settings),
        outcomes=count_outcomes(experiment.trials, outcomes),
        best_setting=None if best is None else settings[best].values,
        own_metrics=experiment.metrics,
        comparisons=() if best is None else _compare_with_best(experiment, best, outcomes),
    )


def _summarize_setting(
    setting: Setting, experiment: TrainingPlan, outcomes: TrialOutcomes, data: DataInfo
) -> SettingResults:
    recorded = [outcomes[trial] for trial in setting.trials if trial in outcomes]
    metrics = [outcome.metrics for outcome in recorded if outcome.is_done and outcome.metrics is not None]
    names = dict.fromkeys([*TASK_METRICS[experiment.task], *(name for row in metrics for name in row)])
    return SettingResults(
        values=setting.values,
        parameters=next((outcome.parameters for outcome in recorded if outcome.parameters), None),
        outcomes=count_outcomes(setting.trials, outcomes),
        metrics={
            name: _estimate_metric(name, [row[name] for row in metrics if name in row], data)
            for name in names
        },
        diagnoses=_count_diagnoses(recorded),
    )


def _estimate_metric(name: str, values: Sequence[float], data: DataInfo) -> Estimate:
    metric = get_metric(name)
    if metric.split is None:
        second = name.partition(SECOND_TEST)[2]
        return estimate(values, images=data.test_on.get(second) if metric.counts_images else None)
    images: int = getattr(data, metric.split) if metric.counts_images else 0
    class_name = name.removeprefix(f"{metric.split}_{CLASS_RECALL}")
    if class_name in data.labels:  # a recall is a share of the images of its class
        images = getattr(data.counts, metric.split)[data.labels.index(class_name)]
    return estimate(values, images=images or None)


def _count_diagnoses(outcomes: Iterable[TrialOutcome]) -> tuple[DiagnosisCount, ...]:
    """Diagnoses in the order in which they first occur, each with its number of trials."""
    diagnoses = [diagnosis for outcome in outcomes for diagnosis in outcome.diagnoses]
    counts = Counter(diagnosis.name for diagnosis in diagnoses)
    first = {diagnosis.name: diagnosis for diagnosis in reversed(diagnoses)}
    return tuple(
        DiagnosisCount(name=name, message=first[name].message, advice=first[name].advice, trials=count)
        for name, count in counts.items()
    )


def find_best(settings: Sequence[SettingResults], name: str) -> int | None:
    """The setting with the best mean on the validation set; None while there is no mean.

    A setting of which trials diverged is chosen only if there is no other: its mean is that of the survivors.
    """
    sign = -1.0 if get_metric(name).higher_is_better else 1.0
    candidates = [
        (TrialState.DIVERGED in setting.outcomes, sign * mean, index)
        for index, setting in enumerate(settings)
        if (mean := setting.metrics[name].mean) is not None
    ]
    return min(candidates)[2] if candidates else None


def _compare_with_best(
    experiment: TrainingPlan, best: int, outcomes: TrialOutcomes
) -> tuple[SettingComparison, ...]:
    """On the test set, which had no part in the choice."""
    baseline = experiment.settings[best]
    others = [setting for index, setting in enumerate(experiment.settings) if index != best]
    metric = REPORTED_METRIC[experiment.task]
    differences = [
        compare_trials(other.trials, baseline.trials, outcomes, metric, comparisons=len(others))[0]
        for other in others
    ]
    return tuple(
        SettingComparison(values=other.values, baseline=baseline.values, metric=metric, difference=difference)
        for other, difference in zip(others, adjust_family(differences), strict=True)
    )


def compare_trials(
    a: Sequence[str], b: Sequence[str], outcomes: TrialOutcomes, metric: str, *, comparisons: int = 1
) -> tuple[Difference, tuple[int, ...]]:
    """The difference a - b of a metric over the replicates that are done in both, and which those are.

    Entry k of `a` and of `b` is the id of replicate k; one may be longer. `comparisons` make up the family.
    """
    values = {}
    for replicate, pair in enumerate(zip(a, b, strict=False)):
        metrics = [outcomes[trial].metrics or {} for trial in pair if trial in outcomes]
        if len(metrics) == 2 and all(metric in row for row in metrics):
            values[replicate] = [row[metric] for row in metrics]
    first, second = zip(*values.values(), strict=True) if values else ((), ())
    return paired_difference(first, second, alpha=family_alpha(comparisons)), tuple(values)


# ---------------------------------------------------------------- experiments that compare pipelines


class _Robustness:
    """An experiment with its outcomes sorted by pipeline and replicate."""

    def __init__(
        self, experiment: RobustnessPlan, outcomes: EvaluationOutcomes, arrays: ReadArrays, data: DataInfo
    ) -> None:
        self.experiment = experiment
        self.arrays = lru_cache(maxsize=None)(arrays)
        self.n_classes = data.n_classes
        self.outcomes = count_outcomes([planned.id for planned in experiment.evaluations], outcomes)
        self.done: dict[Pipeline, dict[int, RobustnessOutcome]] = {name: {} for name in experiment.pipelines}
        for planned in sorted(experiment.evaluations, key=lambda planned: planned.replicate):
            outcome = outcomes.get(planned.id)
            if isinstance(outcome, RobustnessOutcome) and outcome.is_done:
                self.done[planned.pipeline][planned.replicate] = outcome

    def summarize(self, denoisers: Sequence[str]) -> RobustnessResults:
        """The results; denoisers are the experiments that train a denoiser."""
        experiment, baseline = self.experiment, self.experiment.baseline
        others = [name for name in experiment.pipelines if name != baseline]
        denoised = (
            name for name in others if name.parts[0] in denoisers and name.parts[1:] == baseline.parts
        )
        return RobustnessResults(
            corruption=experiment.corruption,
            strengths=experiment.strengths,
            images=experiment.images,
            baseline=baseline,
            outcomes=self.outcomes,
            pipelines={name: self.pipeline(name) for name in experiment.pipelines},
            confusion_matrices={name: self.confusion_matrices(name) for name in experiment.pipelines},
            comparisons=tuple(self.compare(name) for name in others),
            denoised_pipeline=next(denoised, None),
        )

    def pipeline(self, name: Pipeline) -> PipelineResults:
        """Estimates at each strength."""
        done, images = self.done[name].values(), self.experiment.images
        positions = range(len(self.experiment.strengths))
        return PipelineResults(
            replicates=tuple(self.done[name]),
            recall=tuple(estimate([row.recall[i] for row in done], images=images) for i in positions),
            recall_per_class=tuple(_mean_rows([row.recall_per_class[i] for row in done]) for i in positions),
            accuracy=tuple(estimate([row.accuracy[i] for row in done], images=images) for i in positions),
            ece=tuple(estimate([row.ece[i] for row in done]) for i in positions),
        )

    def confusion_matrices(self, name: Pipeline) -> ConfusionMatrices:
        """Counts of (true class, predicted class), summed over replicates."""
        done, by_strength = self.done[name], {}
        for strength in self.experiment.confusion_at if done else ():
            position = _position(strength, self.experiment.strengths)
            if position is not None:
                arrays = [self.arrays(outcome.id) for outcome in done.values()]
                counts = sum(
                    confusion_matrix(stored["labels"], stored["predicted"][position], self.n_classes)
                    for stored in arrays
                )
                by_strength[f"{strength:g}"] = tuple(map(tuple, np.asarray(counts).tolist()))
        return ConfusionMatrices(replicates=tuple(done), by_strength=by_strength)

    def compare(self, name: Pipeline) -> PipelineComparison:
        """A pipeline minus the baseline at each strength: one family for Holm's procedure.

        In pairs of replicates where there are enough, else of test images.
        """
        first, second = self.done[name], self.done[self.experiment.baseline]
        common = [replicate for replicate in first if replicate in second]
        pairs = [(first[replicate], second[replicate]) for replicate in common]
        over_replicates = len(common) >= MIN_REPLICATES
        differences = adjust_family(
            self._replicate_differences(pairs) if over_replicates else self._image_differences(pairs)
        )
        strengths = self.experiment.strengths[: len(differences)]
        rows = tuple(
            StrengthDifference(strength=strength, difference=difference)
            for strength, difference in zip(strengths, differences, strict=True)
        )
        better_at = tuple(row.strength for row in rows if (row.difference.lower or 0) > 0)
        return PipelineComparison(
            pipeline=name,
            baseline=self.experiment.baseline,
            paired_over="replicates" if over_replicates else "images",
            replicates=tuple(common),
            differences=rows,
            significant_from=min(better_at, default=None),
            better_at=better_at,
            worse_at=tuple(row.strength for row in rows if (row.difference.upper or 0) < 0),
        )

    def _replicate_differences(self, pairs: Sequence[OutcomePair]) -> list[Difference]:
        columns = range(len(self.experiment.strengths))
        recalls = [([a.recall[i] for a, _ in pairs], [b.recall[i] for _, b in pairs]) for i in columns]
        return [paired_difference(a, b, alpha=family_alpha(len(columns))) for a, b in recalls]

    def _image_differences(self, pairs: Sequence[OutcomePair]) -> list[Difference]:
        """For each image the share of replicates that classified it rightly, paired over the images."""
        if not pairs:
            return []
        labels = self.arrays(pairs[0][0].id)["labels"]
        first, second = (
            np.mean([self.arrays(outcome.id)["predicted"] == labels for outcome in side], axis=0)
            for side in zip(*pairs, strict=True)
        )
        alpha = family_alpha(len(first))
        return [
            paired_images_difference(a, b, labels, alpha=alpha) for a, b in zip(first, second, strict=True)
        ]


def confusion_matrix(
    labels: Integer[np.ndarray, " n"], predicted: Integer[np.ndarray, " n"], n_classes: int
) -> Integer[np.ndarray, "k k"]:
    """How often an image of class `row` was classified as class `column`.

    Example:
        >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    cells = labels.astype(np.int64) * n_classes + predicted.astype(np.int64)
    return np.bincount(cells, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def _mean_rows(rows: Sequence[Sequence[float | None]]) -> tuple[float | None, ...]:
    """Column by column the mean over those rows that have a number there."""
    return tuple(_estimate_present(column).mean for column in zip(*rows, strict=True))


def _position(strength: float, strengths: Sequence[float]) -> int | None:
    return next((i for i, other in enumerate(strengths) if isclose(other, strength, abs_tol=1e-9)), None)


# ---------------------------------------------------------------- experiments that draw new images


def _summarize_generation(
    experiment: GenerationPlan, outcomes: EvaluationOutcomes, data: DataInfo
) -> GenerationResults:
    """Shares of real images are over the test set."""
    done: dict[str, list[GenerationOutcome]] = {name: [] for name in (REAL_DATA, *experiment.samplers)}
    for evaluation in experiment.evaluations:
        outcome = outcomes.get(evaluation.id)
        if isinstance(outcome, GenerationOutcome) and outcome.is_done:
            done[evaluation.sampler].append(outcome)
    real = done[REAL_DATA]
    rebuilt = [row.confident_share_reconstructed for row in real]
    return GenerationResults(
        decoder=experiment.decoder,
        classifier=experiment.classifier,
        outcomes=count_outcomes([evaluation.id for evaluation in experiment.evaluations], outcomes),
        samples=experiment.samples,
        test_images=data.test,
        real_data=_summarize_sampler(real, data.test),
        confident_share_reconstructed=_estimate_present(rebuilt, data.test),
        samplers={name: _summarize_sampler(done[name], experiment.samples) for name in experiment.samplers},
    )


def _summarize_sampler(done: Sequence[GenerationOutcome], images: int) -> SamplerResults:
    return SamplerResults(
        confident_share=_estimate_present((row.confident_share for row in done), images),
        frechet_distance=_estimate_present(row.frechet_distance for row in done),
        manifold_precision=_estimate_present(row.manifold_precision for row in done),
        manifold_recall=_estimate_present(row.manifold_recall for row in done),
        density=_estimate_present(row.density for row in done),
        coverage=_estimate_present(row.coverage for row in done),
        nn_distance=_estimate_present(row.nn_distance for row in done),
        nearer_share=_estimate_present(row.nearer_share for row in done),
        class_shares=_mean_rows([row.class_shares for row in done if row.class_shares is not None]),
    )


def _estimate_present(values: Iterable[float | None], images: int | None = None) -> Estimate:
    return estimate([value for value in values if value is not None], images=images)

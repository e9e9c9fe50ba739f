"""Errors under several corruptions relative to a baseline's, and their mean (mCE), from outcomes.

Source: Hendrycks and Dietterich, Benchmarking neural network robustness to common corruptions and
perturbations, ICLR 2019, section 4.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from inklab.corruptions.mnist_c import Errors, relative_errors
from inklab.records.components import Pipeline
from inklab.records.estimates import Estimate
from inklab.records.outcomes import EvaluationOutcome, RobustnessOutcome, count_outcomes
from inklab.records.plan import CorruptionErrorPlan, Plan, RobustnessPlan
from inklab.records.results import CorruptionErrorComparison, CorruptionErrorResults, CorruptionErrors
from inklab.stats import adjust_family, estimate, family_alpha, paired_difference


class _Measured(NamedTuple):
    """One pipeline: accuracy under each corruption and on clean images, of replicates done in all of them."""

    replicates: tuple[int, ...]
    corrupted: Errors
    clean: Errors


def summarize_corruption_error(
    experiment: CorruptionErrorPlan, plan: Plan, outcomes: Mapping[str, EvaluationOutcome]
) -> CorruptionErrorResults:
    """The results of an experiment that puts robustness experiments together.

    Args:
        experiment: that names them.
        plan: has them.
        outcomes: of evaluations, by id; those that are missing wait.
    """
    members = [
        entry for name in experiment.experiments if isinstance(entry := plan.experiment(name), RobustnessPlan)
    ]
    measured = {name: _measure(name, members, outcomes) for name in experiment.pipelines}
    baseline = measured[experiment.baseline]
    pipelines = {name: _summarize(row, baseline, members) for name, row in measured.items()}
    ids = dict.fromkeys(evaluation.id for member in members for evaluation in member.evaluations)
    return CorruptionErrorResults(
        experiments=experiment.experiments,
        corruptions=tuple(member.corruption for member in members),
        strengths=tuple(tuple(strength for strength in member.strengths if strength) for member in members),
        images=tuple(member.images for member in members),
        baseline=experiment.baseline,
        outcomes=count_outcomes(list(ids), outcomes),
        pipelines=pipelines,
        comparisons=_compare(pipelines, experiment.baseline),
    )


def _measure(
    pipeline: Pipeline, members: Sequence[RobustnessPlan], outcomes: Mapping[str, EvaluationOutcome]
) -> _Measured:
    """NaN on clean images for an experiment that does not have strength 0."""
    done: list[dict[int, RobustnessOutcome]] = []
    for member in members:
        rows = (
            (entry.replicate, outcomes.get(entry.id))
            for entry in member.evaluations
            if entry.pipeline == pipeline
        )
        done.append({k: row for k, row in rows if isinstance(row, RobustnessOutcome) and row.is_done})
    replicates = tuple(sorted(set.intersection(*(set(rows) for rows in done))))
    shape = (len(replicates), len(members))
    corrupted, clean = np.empty(shape), np.full(shape, np.nan)
    for column, member in enumerate(members):
        is_corrupted = np.array(member.strengths) > 0
        for row, replicate in enumerate(replicates):
            accuracy = np.array(done[column][replicate].accuracy)
            corrupted[row, column] = accuracy[is_corrupted].mean()
            if not is_corrupted.all():
                clean[row, column] = accuracy[~is_corrupted].mean()
    return _Measured(replicates, corrupted, clean)


def _summarize(
    measured: _Measured, baseline: _Measured, members: Sequence[RobustnessPlan]
) -> CorruptionErrors:
    names = [member.name for member in members]
    # A mean over several strengths is no share of the images, so it has no interval over them.
    images = [member.images if sum(s > 0 for s in member.strengths) == 1 else None for member in members]
    errors, of_baseline = 1 - measured.corrupted, 1 - baseline.corrupted
    nothing = np.full_like(errors, np.nan)
    has_baseline = len(baseline.replicates) > 0
    plain = relative_errors(errors, of_baseline) if has_baseline else nothing
    added = (
        relative_errors(errors, of_baseline, 1 - measured.clean, 1 - baseline.clean)
        if has_baseline
        else nothing
    )
    clean_images = members[0].images if len({member.images for member in members}) == 1 else None
    return CorruptionErrors(
        replicates=measured.replicates,
        clean_accuracy=_estimate_finite(measured.clean.mean(axis=1), clean_images),
        accuracy={
            name: estimate(column, images=n)
            for name, column, n in zip(names, measured.corrupted.T, images, strict=True)
        },
        corruption_error=dict(zip(names, map(_estimate_finite, plain.T), strict=True)),
        relative_corruption_error=dict(zip(names, map(_estimate_finite, added.T), strict=True)),
        mean_accuracy=estimate(measured.corrupted.mean(axis=1)),
        mean_corruption_error=_estimate_finite(plain.mean(axis=1)),
        relative_mean_corruption_error=_estimate_finite(added.mean(axis=1)),
    )


def _estimate_finite(values: Float[np.ndarray, " r"], images: int | None = None) -> Estimate:
    """Without values where one is not known: a mean over fewer corruptions would be another quantity."""
    return estimate(values, images=images) if np.isfinite(values).all() else Estimate.empty()


def _compare(
    pipelines: Mapping[Pipeline, CorruptionErrors], baseline: Pipeline
) -> tuple[CorruptionErrorComparison, ...]:
    """In pairs of replicates that are done in both; each metric is one family."""
    others = [name for name in pipelines if name != baseline]
    alpha = family_alpha(len(others)) if others else 1.0
    columns = []
    for metric in ("mean_accuracy", "mean_corruption_error"):
        first = _by_replicate(pipelines[baseline], metric)
        differences = []
        for name in others:
            second = _by_replicate(pipelines[name], metric)
            common = [replicate for replicate in second if replicate in first]
            pairs = [[values[k] for k in common] for values in (second, first)]
            differences.append(paired_difference(*pairs, alpha=alpha))
        columns.append(adjust_family(differences))
    return tuple(
        CorruptionErrorComparison(pipeline=name, mean_accuracy=accuracy, mean_corruption_error=error)
        for name, accuracy, error in zip(others, *columns, strict=True)
    )


def _by_replicate(errors: CorruptionErrors, metric: str) -> dict[int, float]:
    values = getattr(errors, metric).values
    return dict(zip(errors.replicates, values, strict=True)) if values else {}

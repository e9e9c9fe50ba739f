"""What the outcomes of a robustness experiment amount to: curves, confusion matrices, paired comparisons."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import isclose

import numpy as np
from jaxtyping import Bool, Float, Integer

from inklab.records.estimates import Difference, Estimate
from inklab.records.outcomes import EvaluationOutcome, RobustnessOutcome, count_outcomes
from inklab.records.pipeline import Pipeline
from inklab.records.plan import DataInfo, RobustnessPlan
from inklab.records.results import (
    ConfusionMatrices,
    PipelineComparison,
    PipelineResults,
    RobustnessResults,
    StrengthDifference,
)
from inklab.results.arrays import Arrays
from inklab.statistics import (
    adjust_family,
    estimate,
    family_alpha,
    paired_difference,
    paired_images_difference,
)

ReadArrays = Callable[[str], Arrays]
"""From the id of an evaluation that is done to its arrays."""

MIN_REPLICATES = 3
"""For pairs of replicates: with two, t needs 12.7 standard errors at 95%, and 267 at Holm's first of 21."""


def summarize_robustness(
    experiment: RobustnessPlan,
    outcomes: Mapping[str, EvaluationOutcome],
    arrays: ReadArrays,
    data: DataInfo,
    denoisers: Sequence[str],
) -> RobustnessResults:
    """The results of a robustness experiment.

    Args:
        experiment: from the plan.
        outcomes: of evaluations by id; those that are missing count as waiting.
        arrays: reads the arrays of an evaluation that is done.
        data: of the plan.
        denoisers: experiments whose networks may stand in front of the classifier.
    """
    return _Robustness(experiment, outcomes, lru_cache(maxsize=None)(arrays), data.n_classes).summarize(
        denoisers
    )


class _Robustness:
    """An experiment with its outcomes sorted by pipeline and replicate."""

    def __init__(
        self,
        experiment: RobustnessPlan,
        outcomes: Mapping[str, EvaluationOutcome],
        arrays: ReadArrays,
        n_classes: int,
    ) -> None:
        self.experiment = experiment
        self.arrays = arrays
        self.n_classes = n_classes
        self.outcomes = count_outcomes([planned.id for planned in experiment.evaluations], outcomes)
        self.done: dict[Pipeline, dict[int, RobustnessOutcome]] = {name: {} for name in experiment.pipelines}
        for planned in sorted(experiment.evaluations, key=lambda planned: planned.replicate):
            outcome = outcomes.get(planned.id)
            if isinstance(outcome, RobustnessOutcome) and outcome.is_done:
                self.done[planned.pipeline][planned.replicate] = outcome

    def summarize(self, denoisers: Sequence[str]) -> RobustnessResults:
        experiment = self.experiment
        others = [name for name in experiment.pipelines if name != experiment.baseline]
        denoised = (
            name for name in others
            if name.parts[0] in denoisers and name.parts[1:] == experiment.baseline.parts
        )  # fmt: skip
        return RobustnessResults(
            corruption=experiment.corruption,
            strengths=experiment.strengths,
            images=experiment.images,
            baseline=experiment.baseline,
            outcomes=self.outcomes,
            pipelines={name: self.pipeline(name) for name in experiment.pipelines},
            confusion_matrices={name: self.confusion_matrices(name) for name in experiment.pipelines},
            comparisons=tuple(self.compare(name) for name in others),
            denoised_pipeline=next(denoised, None),
        )

    def pipeline(self, name: Pipeline) -> PipelineResults:
        """Estimates at each strength."""
        done, positions = self.done[name], range(len(self.experiment.strengths))
        return PipelineResults(
            replicates=tuple(done),
            recall=tuple(self._estimate([one.recall[i] for one in done.values()]) for i in positions),
            recall_per_class=tuple(
                mean_rows([one.recall_per_class[i] for one in done.values()]) for i in positions
            ),
            accuracy=tuple(self._estimate([one.accuracy[i] for one in done.values()]) for i in positions),
        )

    def _estimate(self, values: Sequence[float]) -> Estimate:
        return estimate(values, images=self.experiment.images)

    def confusion_matrices(self, name: Pipeline) -> ConfusionMatrices:
        """Counts of (true class, predicted class), summed over replicates."""
        done = self.done[name]
        by_strength = {}
        for strength in self.experiment.confusion_at if done else ():
            position = _position(strength, self.experiment.strengths)
            if position is not None:
                counts = sum(self._confusion(outcome.id, position) for outcome in done.values())
                by_strength[f"{strength:g}"] = tuple(map(tuple, np.asarray(counts).tolist()))
        return ConfusionMatrices(replicates=tuple(done), by_strength=by_strength)

    def _confusion(self, evaluation: str, position: int) -> Integer[np.ndarray, "k k"]:
        arrays = self.arrays(evaluation)
        return confusion_matrix(arrays["labels"], arrays["predicted"][position], self.n_classes)

    def compare(self, name: Pipeline) -> PipelineComparison:
        """A pipeline less the baseline at each strength: one family for Holm's procedure.

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

    def _replicate_differences(
        self, pairs: Sequence[tuple[RobustnessOutcome, RobustnessOutcome]]
    ) -> list[Difference]:
        n = len(self.experiment.strengths)
        return [
            paired_difference(
                [a.recall[i] for a, _ in pairs], [b.recall[i] for _, b in pairs], alpha=family_alpha(n)
            )
            for i in range(n)
        ]

    def _image_differences(
        self, pairs: Sequence[tuple[RobustnessOutcome, RobustnessOutcome]]
    ) -> list[Difference]:
        """For each image the share of replicates that classified it rightly, paired over the images."""
        if not pairs:
            return []
        labels = self.arrays(pairs[0][0].id)["labels"]
        first = self._share_right([a.id for a, _ in pairs], labels)
        second = self._share_right([b.id for _, b in pairs], labels)
        alpha = family_alpha(len(first))
        return [
            paired_images_difference(a, b, labels, alpha=alpha) for a, b in zip(first, second, strict=True)
        ]

    def _share_right(
        self, evaluations: Sequence[str], labels: Integer[np.ndarray, " n"]
    ) -> Float[np.ndarray, "s n"]:
        is_right: list[Bool[np.ndarray, "s n"]] = [
            self.arrays(id)["predicted"] == labels for id in evaluations
        ]
        return np.asarray(np.mean(is_right, axis=0))


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


def mean_rows(rows: Sequence[Sequence[float | None]]) -> tuple[float | None, ...]:
    """Column by column the mean over those rows that have a number there.

    Example:
        >>> mean_rows([(0.2, None), (0.4, None)])
        (0.30000000000000004, None)
    """
    columns = zip(*rows, strict=True)
    return tuple(estimate([value for value in column if value is not None]).mean for column in columns)


def _position(strength: float, strengths: Sequence[float]) -> int | None:
    return next((i for i, other in enumerate(strengths) if isclose(other, strength, abs_tol=1e-9)), None)

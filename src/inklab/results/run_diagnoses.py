"""Diagnoses of a finished run: those of its trainings, and what only many trainings together show."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from inklab.records.results import DiagnosisCount, Results, SettingResults, TrainingResults

MIN_REPLICATES = 5  # below which no replicate can be called an outlier
OUTLIER_DISTANCE = 6.0
"""Robust standard deviations below the median; of 5 normal replicates, the lowest is seldom so far off."""

MIN_OUTLIER_GAP = 0.02  # of accuracy, below which an outlier is of no consequence
MANY_SETTINGS = 20


class RunDiagnosis(NamedTuple):
    """A diagnosis and where it applies: an experiment, a setting of it, or "all experiments"."""

    where: str
    diagnosis: DiagnosisCount
    of: int


def diagnose_run(results: Results) -> list[RunDiagnosis]:
    """Every diagnosis of a run, computed from its results alone."""
    diagnoses = [
        RunDiagnosis(where, row, sum(setting.outcomes.values()))
        for name, experiment in results.training.items()
        for where, setting in _settings(name, experiment)
        for row in (*setting.diagnoses, *_outliers(setting))
    ]
    return diagnoses + diagnose_test_set(results)


def diagnose_replicates(name: str, experiment: TrainingResults) -> list[RunDiagnosis]:
    """What an experiment's replicates show together: those far below the others of their setting."""
    return [
        RunDiagnosis(where, row, sum(setting.outcomes.values()))
        for where, setting in _settings(name, experiment)
        for row in _outliers(setting)
    ]


def _settings(name: str, experiment: TrainingResults) -> Iterator[tuple[str, SettingResults]]:
    for setting in experiment.settings:
        values = ", ".join(f"{key}={value}" for key, value in setting.values.items())
        yield f"{name}:{values}" if values else name, setting


def _outliers(setting: SettingResults) -> Iterator[DiagnosisCount]:
    """Replicates far below the others."""
    estimate = setting.metrics.get("test_accuracy")
    values = np.array([] if estimate is None else estimate.values, float)
    if len(values) < MIN_REPLICATES:
        return
    median = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - median)))
    low = values < median - max(OUTLIER_DISTANCE * spread, MIN_OUTLIER_GAP)
    if low.any():
        worst = float(values.min())
        yield DiagnosisCount(
            name="replicate-outlier",
            message=f"one replicate has a test accuracy of {worst:.2%}, the median of {len(values)} is "
            f"{median:.2%}",
            advice="look at its learning curves; a mean hides such replicates, so report the median and the "
            "share of failures, or use a lower learning rate or warmup",
            trials=int(low.sum()),
        )


def diagnose_test_set(results: Results) -> list[RunDiagnosis]:
    """The best of many settings on the same test images is partly the luckiest."""
    settings = [
        (setting, estimate)
        for experiment in results.training.values()
        for setting in experiment.settings
        if (estimate := setting.metrics.get("test_accuracy")) is not None and estimate.mean is not None
    ]
    n_test, n_validation = results.data.test, results.data.validation
    if len(settings) < (MANY_SETTINGS if n_validation else 2):
        return []
    best = max(estimate.mean for _, estimate in settings if estimate.mean is not None)
    selection_bias = math.sqrt(2 * math.log(len(settings)) * best * (1 - best) / n_test)
    choice = "" if n_validation else ", and no validation images are held out to choose by"
    trials = sum(sum(setting.outcomes.values()) for setting, _ in settings)
    diagnosis = DiagnosisCount(
        name="test-set-used-up",
        message=f"{len(settings)} settings were evaluated on the same {n_test:,} test images{choice}; by "
        f"luck alone, the best of as many equal ones looks better by up to about {selection_bias:.2%}",
        advice="choose by the validation images, and report the test accuracy of the chosen setting only; or "
        "test it on images that were never looked at",
        trials=trials,
    )
    return [RunDiagnosis("all experiments", diagnosis, trials)]

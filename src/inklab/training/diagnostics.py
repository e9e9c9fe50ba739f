"""Diagnoses: what measurements of a training point to, and what to do about it.

A rule is one decorated function in `diagnosis_rules.py` that only reads. Rules have a stage: what is wrong
with the data explains what is measured of the network, and not the other way round. Of the rules that apply,
those of the earliest stage are reported.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from jaxtyping import Int
from torch import Tensor

from inklab.errors import format_error
from inklab.networks.layers import NormalizedModel
from inklab.records.outcomes import Diagnosis, History
from inklab.records.plan import Trial
from inklab.records.record import Values
from inklab.registry import Registry
from inklab.training.batches import TrainingData
from inklab.training.measurements import TrainingMeasurements, measure_training

MAX_DIAGNOSES = 2
"""Diagnoses of one training at most: the first ones of the earliest stage."""


class Stage(IntEnum):
    """Where in a training a cause lies; the earliest explains what comes later."""

    DATA = 1
    INPUTS = 2
    NETWORK = 3
    OPTIMIZATION = 4
    ACTIVATION = 5
    REGULARIZATION = 6
    SYMPTOM = 7


@dataclass(frozen=True)
class Finding:
    """What a rule returns.

    Attributes:
        message: what was measured, in a sentence with its numbers, without a period.
        advice: what to do.
        evidence: the numbers by name.
    """

    message: str
    advice: str
    evidence: Mapping[str, float | int]


M = TypeVar("M", bound=TrainingMeasurements)


@dataclass(frozen=True)
class DiagnosisRule:
    """A registered rule.

    Attributes:
        name: of its diagnosis.
        rule: reads measurements, and returns what it found, or None.
        stage: where the cause lies.
        measurements: those that it reads; it is not asked about others.
    """

    name: str
    rule: Callable[..., Finding | None]
    stage: Stage
    measurements: type[TrainingMeasurements]

    @property
    def description(self) -> str:
        """The first line of the function's docstring."""
        return (self.rule.__doc__ or "").partition("\n")[0]

    def apply(self, measured: TrainingMeasurements) -> Diagnosis | None:
        """The diagnosis, if the rule finds something. Numbers that are not finite are left out."""
        finding = self.rule(measured) if isinstance(measured, self.measurements) else None
        if finding is None:
            return None
        evidence: Values = {key: value for key, value in finding.evidence.items() if math.isfinite(value)}
        return Diagnosis(name=self.name, message=finding.message, advice=finding.advice, evidence=evidence)


diagnosis_rules: Registry[DiagnosisRule] = Registry("diagnosis", "inklab.training.diagnosis_rules")
"""Every rule by the name of its diagnosis."""


def diagnosis(
    name: str,
    stage: Stage,
    measurements: type[M] = TrainingMeasurements,  # type: ignore[assignment]
) -> Callable[[Callable[[M], Finding | None]], Callable[[M], Finding | None]]:
    """Register `(measurements) -> Finding or None` as the rule of a diagnosis.

    `measurements` are `ClassifierMeasurements` or `DenoiserMeasurements` for a rule that is about one of them
    only.

    Example:
        >>> @diagnosis("hardly-any-steps", Stage.SYMPTOM)
        ... def hardly_any_steps(measured):
        ...     if measured.steps >= 3:
        ...         return None
        ...     return Finding("it took hardly any step", "train longer", {"steps": measured.steps})
        >>> diagnosis_rules["hardly-any-steps"].stage.name
        'SYMPTOM'
    """
    return lambda rule: diagnosis_rules.add_function(
        name, DiagnosisRule(name, rule, stage, measurements), rule
    )


def diagnose(measured: TrainingMeasurements) -> tuple[Diagnosis, ...]:
    """The diagnoses of the earliest stage that has any, two at most; () for a training without a finding."""
    if not measured.has_contrast:  # nothing can be learned, or diagnosed
        return ()
    rules = sorted(diagnosis_rules.all().values(), key=lambda rule: rule.stage)
    findings = [(rule.stage, diagnosis) for rule in rules if (diagnosis := rule.apply(measured)) is not None]
    return tuple(diagnosis for stage, diagnosis in findings if stage == findings[0][0])[:MAX_DIAGNOSES]


def diagnose_training(
    trial: Trial,
    net: NormalizedModel,
    history: History,
    data: TrainingData,
    seed: int,
    divergence: str | None = None,
    test_predictions: Int[Tensor, " n"] | None = None,
) -> tuple[Diagnosis, ...]:
    """Measure a training as `measure_training` does, and diagnose it.

    A network of the user's that can't be measured, which must not cost its training, has a diagnosis that
    says so.
    """
    try:
        return diagnose(measure_training(trial, net, history, data, seed, divergence, test_predictions))
    except Exception as error:
        return (
            Diagnosis(
                name="not-measured",
                message=f"this training could not be measured: {type(error).__name__}: {format_error(error)}",
                advice="the trained network is not affected; its training has no diagnoses",
            ),
        )

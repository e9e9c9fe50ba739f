"""Diagnoses: what measurements of a training point to, and what to do about it.

A rule is one decorated function in `diagnosis_rules.py` that only reads. Rules have a stage: what is wrong
with the data explains what is measured of the network, and not the other way round. Of the rules that apply,
those of the earliest stage are reported.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from inklab.records.outcomes import Diagnosis
from inklab.records.record import Values
from inklab.registry import Registry
from inklab.training.measurements import TrainingMeasurements

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


Rule = Callable[[TrainingMeasurements], Finding | None]


@dataclass(frozen=True)
class DiagnosisRule:
    """A registered rule.

    Attributes:
        name: of its diagnosis.
        rule: reads measurements, and returns what it found, or None.
        stage: where the cause lies.
    """

    name: str
    rule: Rule
    stage: Stage

    @property
    def description(self) -> str:
        """The first line of the function's docstring."""
        return (self.rule.__doc__ or "").partition("\n")[0]

    def apply(self, measured: TrainingMeasurements) -> Diagnosis | None:
        """The diagnosis, if the rule finds something. Numbers that are not finite are left out."""
        finding = self.rule(measured)
        if finding is None:
            return None
        evidence: Values = {key: value for key, value in finding.evidence.items() if math.isfinite(value)}
        return Diagnosis(name=self.name, message=finding.message, advice=finding.advice, evidence=evidence)


diagnosis_rules: Registry[DiagnosisRule] = Registry("diagnosis", "inklab.training.diagnosis_rules")
"""Every rule by the name of its diagnosis."""


def diagnosis(name: str, stage: Stage) -> Callable[[Rule], Rule]:
    """Register `(measurements) -> Finding or None` as the rule of a diagnosis.

    Example:
        >>> @diagnosis("hardly-any-steps", Stage.SYMPTOM)
        ... def hardly_any_steps(measured):
        ...     if measured.steps >= 3:
        ...         return None
        ...     return Finding("it took hardly any step", "train longer", {"steps": measured.steps})
        >>> diagnosis_rules["hardly-any-steps"].stage.name
        'SYMPTOM'
    """
    return lambda rule: diagnosis_rules.add_function(name, DiagnosisRule(name, rule, stage), rule)


def diagnose(measured: TrainingMeasurements) -> tuple[Diagnosis, ...]:
    """The diagnoses of the earliest stage that has any, two at most; () for a training without a finding."""
    # Nothing can be learned, or diagnosed, from one class, or from images that are all the same.
    if int((measured.class_counts > 0).sum()) < 2 or not measured.images.std() > 0:
        return ()
    rules = sorted(diagnosis_rules.all().values(), key=lambda rule: rule.stage)
    findings = [(rule.stage, diagnosis) for rule in rules if (diagnosis := rule.apply(measured)) is not None]
    return tuple(diagnosis for stage, diagnosis in findings if stage == findings[0][0])[:MAX_DIAGNOSES]

"""Records of the benchmark of diagnoses."""

from typing import NamedTuple

from benchmarks.ratios import MedianRatio
from benchmarks.records import BenchmarkResults
from inklab.records.record import Record


class TrialKey(NamedTuple):
    """What makes a training of the benchmark different from all others; see `DiagnosisTrial`."""

    kind: str
    network: str
    data: str
    replicate: int
    images: int | None
    rules: str


class DiagnosisTrial(Record):
    """One training of the benchmark of diagnoses.

    Attributes:
        kind: of fault, or of healthy training.
        network: that was trained.
        data: that it was trained on.
        replicate: which repetition.
        diagnoses: that were made.
        is_right: whether an expected one is among them; of healthy trainings, whether there are none.
        extra: those that were not expected.
        judges: whether no threshold was chosen on this network and data.
        train_accuracy: after the last epoch; None for denoisers, and if it diverged in the first epoch.
        images: most training images that it may use; None for all.
        rules: beginning of the SHA-256 of everything that decides what is diagnosed: `source_hash()`.
    """

    kind: str
    network: str
    data: str
    replicate: int
    diagnoses: tuple[str, ...]
    is_right: bool
    extra: tuple[str, ...]
    judges: bool
    train_accuracy: float | None
    images: int | None = None
    rules: str

    @property
    def key(self) -> "TrialKey":
        """What makes a training different from all others."""
        return TrialKey(self.kind, self.network, self.data, self.replicate, self.images, self.rules)

    @property
    def line(self) -> str:
        """It as one line."""
        names = ", ".join(self.diagnoses) or "nothing"
        mark = "" if self.is_right else "  WRONG"
        accuracy = "" if self.train_accuracy is None else f" ({self.train_accuracy:.3f})"
        return f"{self.kind}, {self.network}, {self.data}: {names}{mark}{accuracy}"


class DiagnosisRate(Record):
    """How often a fault was named; of healthy trainings, how often something was.

    Attributes:
        kind: of training.
        expected: diagnoses of which one is right; () for healthy trainings.
        n: trainings that judge.
        count: of them that were detected, or falsely alarmed.
        low: lower end of Wilson's 95 % interval of the share.
        high: upper end of it.
        extra: trainings with a diagnosis that was not expected.
    """

    kind: str
    expected: tuple[str, ...]
    n: int
    count: int
    low: float
    high: float
    extra: int

    @property
    def line(self) -> str:
        """It as one line."""
        share = f"{self.count} of {self.n} ({self.low:.3f} to {self.high:.3f})"
        return f"{self.kind}: {share}" + (f", {self.extra} with another diagnosis" if self.extra else "")


class DiagnosisResults(BenchmarkResults):
    """How often diagnoses are right (`diagnosis.json`).

    Attributes:
        detection_target: share of the trainings of each kind of fault that is to be named.
        false_alarm_target: share of healthy trainings that may have a diagnosis.
        kinds: a rate for each.
        false_alarms: over all healthy trainings.
        trials: every training.
        chosen_on: networks and data with which thresholds were chosen; they do not judge.
        mutants: kinds that are mutants of a published benchmark.
    """

    detection_target: float
    false_alarm_target: float
    kinds: tuple[DiagnosisRate, ...]
    false_alarms: DiagnosisRate
    trials: tuple[DiagnosisTrial, ...]
    chosen_on: tuple[tuple[str, str], ...]
    mutants: tuple[str, ...]


class DiagnosisCost(Record):
    """What diagnoses cost a training, in pairs of the same one without and with them.

    Attributes:
        network: that was trained.
        plain: seconds of each training without them.
        diagnosed: seconds with them, in the same order.
        ratio: with over without.
    """

    network: str
    plain: tuple[float, ...]
    diagnosed: tuple[float, ...]
    ratio: MedianRatio


class DiagnosisCostResults(BenchmarkResults):
    """What diagnoses cost (`diagnosis-cost.json`).

    Attributes:
        target: most that a training may take, relative to the same one without diagnoses.
        costs: of each network.
    """

    target: float
    costs: tuple[DiagnosisCost, ...]

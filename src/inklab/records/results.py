"""`results.json`, format 2: what a run found out. Its JSON Schema is made from these records."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from inklab.errors import UnknownNameError
from inklab.format import format_setting
from inklab.metrics import SECOND_TEST, SPLIT_LABELS, Task, get_metric
from inklab.records.components import Pipeline
from inklab.records.estimates import Difference, Estimate
from inklab.records.outcomes import Environment, StateCounts
from inklab.records.plan import DataInfo, GridSetting, OwnMetricInfo, SplitCounts, check_grid
from inklab.records.record import (
    MIB,
    Count,
    Counts,
    FailFast,
    Few,
    Id,
    Names,
    NonNegative,
    PositiveCount,
    Record,
    RootSeed,
    Sha256,
    ShareRow,
    Strengths,
    Values,
)

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class SplitInfo(Record):
    """The dataset of a run and how it was split.

    Attributes:
        dataset: name or path that it was loaded as.
        sha256: of its content.
        train: training images.
        validation: validation images.
        test: test images.
        labels: names of the classes.
        counts: images per class.
        note: what the user must see about it.
        test_on: images of each second test set, by its name.
    """

    dataset: str
    sha256: Sha256
    train: PositiveCount
    validation: Count
    test: PositiveCount
    labels: Names
    counts: SplitCounts
    note: str | None = None
    test_on: Annotated[dict[str, PositiveCount], Few] = {}

    @model_validator(mode="after")
    def _check_consistent(self) -> "SplitInfo":
        for name, total in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            counts = getattr(self.counts, name)
            if len(counts) != len(self.labels) or sum(counts) != total:
                raise ValueError(f"counts.{name} are not those of its images and classes")
        return self

    @classmethod
    def from_data(cls, data: DataInfo) -> "SplitInfo":
        """What results hold of the data that a plan knows."""
        return cls(**{name: getattr(data, name) for name in cls.model_fields})

    @property
    def largest_class(self) -> tuple[str, float]:
        """The class with most test images, and their share: the accuracy of always answering it."""
        counts = self.counts.test
        largest = max(range(len(counts)), key=counts.__getitem__)
        return self.labels[largest], counts[largest] / self.test

    def images_of(self, metric: str) -> str:
        """What a metric was measured on, such as "10,000 test images"; "" for one without a split."""
        _, at, second = metric.partition(SECOND_TEST)
        if at:
            return f"{self.test_on[second]:,} test images of {second}" if second in self.test_on else ""
        split = get_metric(metric).split
        return f"{getattr(self, split):,} {SPLIT_LABELS[split]} images" if split else ""


class DiagnosisCount(Record):
    """A diagnosis, and how many trials have it.

    Attributes:
        name: such as `inputs-scaled-twice`.
        message: of the first trial.
        advice: what to do.
        trials: number of trials that have it.
    """

    name: str
    message: str
    advice: str
    trials: PositiveCount


class SettingResults(GridSetting):
    """Aggregated results of one setting's trials.

    Attributes:
        parameters: of the network; None before any trial has ended.
        outcomes: trials by state.
        metrics: estimates by name, such as `test_accuracy`. Metrics of the task stand there from the
            beginning, then without replicates.
        diagnoses: of its trials.
    """

    parameters: PositiveCount | None
    outcomes: StateCounts
    metrics: Annotated[dict[str, Estimate], Few]
    diagnoses: Annotated[tuple[DiagnosisCount, ...], FailFast, Few] = ()


class SettingComparison(Record):
    """A setting compared with the best one, in pairs of equal replicates.

    Attributes:
        values: of this setting.
        baseline: values of the setting that it is compared with: the best by the validation set.
        metric: that is compared.
        difference: this setting minus the baseline, adjusted for all comparisons of the experiment.
    """

    values: Values
    baseline: Values
    metric: str
    difference: Difference


class TrainingResults(Record):
    """Results of an experiment that trains networks.

    Attributes:
        task: of its networks.
        grid: keys that are varied.
        settings: every point of the grid, one where nothing varies.
        outcomes: trials of all settings by state.
        best_setting: values of the setting that is best by the validation set; {} where nothing varies; None
            while nothing can be chosen.
        comparisons: every other setting compared with the best.
        own_metrics: what the user's own are.
    """

    kind: Literal["training"] = "training"
    task: Task
    grid: Names
    settings: Annotated[tuple[SettingResults, ...], FailFast, Field(min_length=1)]
    outcomes: StateCounts
    best_setting: Values | None
    comparisons: Annotated[tuple[SettingComparison, ...], FailFast] = ()
    own_metrics: Annotated[tuple[OwnMetricInfo, ...], FailFast, Few] = ()

    @model_validator(mode="after")
    def _check_consistent(self) -> "TrainingResults":
        check_grid(self.grid, self.settings)
        if self.best_setting is not None and self._find(self.best_setting) is None:
            raise ValueError("best_setting is not one of its settings")
        return self

    @property
    def best(self) -> SettingResults | None:
        """The setting that is best by the validation set."""
        return None if self.best_setting is None else self._find(self.best_setting)

    @property
    def best_first(self) -> tuple[SettingResults, ...]:
        """All settings, the best one in front; as planned while it is not known."""
        return tuple(sorted(self.settings, key=lambda setting: setting.values != self.best_setting))

    def setting(self, values: Mapping[str, JsonValue]) -> SettingResults:
        """The setting with some values. Raises UnknownNameError: there is none."""
        setting = self._find(values)
        if setting is None:
            labels = [setting.label or "{}" for setting in self.settings[:20]]
            raise UnknownNameError("setting", format_setting(values), labels)
        return setting

    def _find(self, values: Mapping[str, JsonValue]) -> SettingResults | None:
        return next((setting for setting in self.settings if setting.values == values), None)


class PipelineResults(Record):
    """Results of one pipeline across corruption strengths; one entry for each strength.

    Attributes:
        replicates: that are done.
        recall: mean over classes of the true-positive rate (balanced accuracy).
        recall_per_class: means over replicates; empty rows while nothing is done.
        accuracy: share of images that are classified correctly.
        ece: expected calibration error: how far confidence and accuracy are apart, 0 to 1.
    """

    replicates: Counts
    recall: Annotated[tuple[Estimate, ...], FailFast]
    recall_per_class: Annotated[tuple[ShareRow, ...], FailFast]
    accuracy: Annotated[tuple[Estimate, ...], FailFast]
    ece: Annotated[tuple[Estimate, ...], FailFast]


class ConfusionMatrices(Record):
    """Confusion matrices of one pipeline.

    Attributes:
        replicates: over which counts are summed.
        by_strength: strength, such as "0.25", to counts: a row for each true class, a column for each
            predicted one.
    """

    replicates: Counts
    by_strength: Annotated[dict[str, Annotated[tuple[Counts, ...], FailFast]], Few]


class StrengthDifference(Record):
    """A difference of two pipelines at one strength.

    Attributes:
        strength: of the corruption.
        difference: of their mean recall.
    """

    strength: NonNegative
    difference: Difference


class PipelineComparison(Record):
    """A pipeline compared with the baseline at every strength: one family for Holm's procedure.

    Attributes:
        pipeline: that is compared.
        baseline: that it is compared with.
        metric: "recall".
        paired_over: replicates where there are enough pairs, else test images.
        replicates: that both have done.
        differences: pipeline minus baseline, one for each strength; empty without pairs.
        significant_from: the lowest strength at which the pipeline is significantly better, which may be
            worse again at a higher one; None if it is better at no strength.
        better_at: strengths at which it is significantly better.
        worse_at: strengths at which it is significantly worse.
    """

    pipeline: Pipeline
    baseline: Pipeline
    metric: Literal["recall"] = "recall"
    paired_over: Literal["replicates", "images"]
    replicates: Counts
    differences: Annotated[tuple[StrengthDifference, ...], FailFast]
    significant_from: NonNegative | None
    better_at: Annotated[tuple[NonNegative, ...], FailFast]
    worse_at: Annotated[tuple[NonNegative, ...], FailFast]

    @model_validator(mode="after")
    def _check_consistent(self) -> "PipelineComparison":
        if self.significant_from != min(self.better_at, default=None):
            raise ValueError("significant_from is not the lowest strength of better_at")
        strengths = {row.strength for row in self.differences}
        if not strengths >= {*self.better_at, *self.worse_at}:
            raise ValueError("better_at or worse_at has a strength without a difference")
        return self

    @property
    def best(self) -> StrengthDifference | None:
        """The largest significant gain."""
        gains = [row for row in self.differences if row.strength in self.better_at]
        return max(gains, key=lambda row: row.difference.mean or 0.0, default=None)

    @property
    def cost_when_clean(self) -> Difference | None:
        """The difference at the first strength, which is usually 0; None without pairs."""
        return self.differences[0].difference if self.differences else None


class RobustnessResults(Record):
    """Results of a robustness experiment: pipelines compared across corruption strengths.

    Attributes:
        corruption: registered name or `file.py:name`.
        strengths: in the corruption's unit.
        images: test images used.
        baseline: the pipeline that others are compared with.
        outcomes: evaluations by state.
        pipelines: results by pipeline.
        confusion_matrices: by pipeline.
        comparisons: every other pipeline compared with the baseline.
        denoised_pipeline: the pipeline that answers whether denoising first helps; None if there is none.
    """

    kind: Literal["robustness"] = "robustness"
    corruption: str
    strengths: Strengths
    images: PositiveCount
    baseline: Pipeline
    outcomes: StateCounts
    pipelines: Annotated[dict[Pipeline, PipelineResults], Few]
    confusion_matrices: Annotated[dict[Pipeline, ConfusionMatrices], Few]
    comparisons: Annotated[tuple[PipelineComparison, ...], FailFast]
    denoised_pipeline: Pipeline | None

    @model_validator(mode="after")
    def _check_consistent(self) -> "RobustnessResults":
        if self.baseline not in self.pipelines:
            raise ValueError(f"the baseline '{self.baseline}' is not one of its pipelines")
        n = len(self.strengths)
        for name, pipeline in self.pipelines.items():
            rows = (pipeline.recall, pipeline.recall_per_class, pipeline.accuracy, pipeline.ece)
            if {len(row) for row in rows} != {n}:
                raise ValueError(f"'{name}' has not one entry for each of {n} strengths")
        if any(len(comparison.differences) not in (0, n) for comparison in self.comparisons):
            raise ValueError(f"a comparison has not one difference for each of {n} strengths")
        if self.denoised_pipeline is not None and self.denoising is None:
            raise ValueError(f"'{self.denoised_pipeline}' is not compared with the baseline")
        return self

    @property
    def denoising(self) -> PipelineComparison | None:
        """The comparison that answers whether denoising first helps."""
        return None if self.denoised_pipeline is None else self.comparison(self.denoised_pipeline)

    def comparison(self, pipeline: str) -> PipelineComparison | None:
        """The comparison of a pipeline with the baseline; None if there is none."""
        return next((row for row in self.comparisons if row.pipeline == pipeline), None)


class CorruptionErrors(Record):
    """Accuracy and errors of one pipeline under several corruptions.

    Attributes:
        replicates: that are done under every corruption; the estimates are over these.
        clean_accuracy: at strength 0.
        accuracy: under each corruption, the mean over its strengths above 0; by robustness experiment.
        corruption_error: the error under each corruption divided by the baseline's mean error there; without
            values where the baseline makes none.
        relative_corruption_error: the same of what the corruption adds to the error on clean images; without
            values where it adds nothing to the baseline's.
        mean_accuracy: over all corruptions.
        mean_corruption_error: mean over all corruptions (mCE); without values if one has none.
        relative_mean_corruption_error: the same of the relative errors.
    """

    replicates: Counts
    clean_accuracy: Estimate
    accuracy: Annotated[dict[str, Estimate], Few]
    corruption_error: Annotated[dict[str, Estimate], Few]
    relative_corruption_error: Annotated[dict[str, Estimate], Few]
    mean_accuracy: Estimate
    mean_corruption_error: Estimate
    relative_mean_corruption_error: Estimate


class CorruptionErrorComparison(Record):
    """A pipeline compared with the baseline over all corruptions, in pairs of equal replicates.

    Attributes:
        pipeline: that is compared.
        mean_accuracy: difference from the baseline's; one family for Holm's procedure with those of the
            other pipelines.
        mean_corruption_error: the same of the mean corruption error.
    """

    pipeline: Pipeline
    mean_accuracy: Difference
    mean_corruption_error: Difference


class CorruptionErrorResults(Record):
    """Robustness experiments put together: errors relative to the baseline's, and their mean.

    Attributes:
        experiments: robustness experiments, one for each corruption.
        corruptions: of each experiment: registered name or `file.py:name`.
        strengths: of each experiment, those above 0.
        images: test images used in each experiment.
        baseline: the pipeline whose mean errors the others' are divided by.
        outcomes: evaluations of these experiments by state.
        pipelines: results by pipeline.
        comparisons: every other pipeline compared with the baseline.
    """

    kind: Literal["corruption-error"] = "corruption-error"
    experiments: Names
    corruptions: Names
    strengths: Annotated[tuple[Strengths, ...], FailFast]
    images: Annotated[tuple[PositiveCount, ...], FailFast]
    baseline: Pipeline
    outcomes: StateCounts
    pipelines: Annotated[dict[Pipeline, CorruptionErrors], Few]
    comparisons: Annotated[tuple[CorruptionErrorComparison, ...], FailFast]

    @model_validator(mode="after")
    def _check_consistent(self) -> "CorruptionErrorResults":
        if self.baseline not in self.pipelines:
            raise ValueError(f"the baseline '{self.baseline}' is not one of its pipelines")
        if {len(self.corruptions), len(self.strengths), len(self.images)} != {len(self.experiments)}:
            raise ValueError("corruptions, strengths and images have not one entry for each experiment")
        for name, pipeline in self.pipelines.items():
            rows = (pipeline.accuracy, pipeline.corruption_error, pipeline.relative_corruption_error)
            if any(tuple(row) != self.experiments for row in rows):
                raise ValueError(f"'{name}' has not one entry for each experiment")
        return self


class SamplerResults(Record):
    """How good the images of one sampler are, or real test images.

    Attributes:
        confident_share: share of them that the classifier is confident about.
        frechet_distance: of their features from those of training images.
        manifold_precision: share of them that look like training images, by features.
        manifold_recall: share of training images that look like one of them.
        density: how many training images they look like; real images have 1.
        coverage: share of training images near which one of them lies.
        nn_distance: mean distance to the nearest training image.
        nearer_share: how often one is nearer to its nearest training image than a test image to its own;
            without values of real test images.
        class_shares: mean share of each class among those that the classifier is confident about; empty
            while nothing is done.
    """

    confident_share: Estimate
    frechet_distance: Estimate
    manifold_precision: Estimate
    manifold_recall: Estimate
    density: Estimate
    coverage: Estimate
    nn_distance: Estimate
    nearer_share: Estimate
    class_shares: ShareRow


class GenerationResults(Record):
    """Results of a generation experiment: new images drawn by samplers.

    Attributes:
        decoder: experiment whose network draws.
        classifier: experiment whose network scores.
        outcomes: evaluations by state.
        samples: images drawn by each sampler.
        test_images: behind the shares of real images.
        real_data: of test images: what a sampler can hope for at best.
        confident_share_reconstructed: share of reconstructed test images that the classifier is confident
            about.
        samplers: results by sampler.
    """

    kind: Literal["generation"] = "generation"
    decoder: str
    classifier: str
    outcomes: StateCounts
    samples: PositiveCount
    test_images: PositiveCount
    real_data: SamplerResults
    confident_share_reconstructed: Estimate
    samplers: Annotated[dict[str, SamplerResults], Few]


class DataResults(Record):
    """An experiment that shows the images; its numbers are those of `Results.data`."""

    kind: Literal["data"] = "data"


class Timings(Record):
    """Seconds that a run took.

    Attributes:
        total: wall-clock seconds, summed over sessions.
        experiments: seconds of the trials and evaluations of each experiment, divided by the workers.
    """

    total: NonNegative
    experiments: dict[Id, NonNegative] = {}


ExperimentResults = (
    DataResults | TrainingResults | RobustnessResults | GenerationResults | CorruptionErrorResults
)
AnyExperimentResults = Annotated[ExperimentResults, Field(discriminator="kind")]


class Results(Record):
    """Results of a run so far. Accuracies, recalls and shares lie in [0, 1].

    Attributes:
        study: its name.
        title: of the study.
        profile: of the study.
        seed: root of all randomness.
        data: the dataset and how it was split.
        experiments: results by name of the experiment, in the order of the report.
        findings: sentences computed from the numbers.
        environment: what it ran on.
        timings: seconds that it took.
    """

    max_bytes: ClassVar[int] = 256 * MIB
    repair_advice: ClassVar[str] = "inklab report writes it again"

    format: Literal[2] = 2
    study: Annotated[str, Field(min_length=1)]
    title: str = ""
    profile: str
    seed: RootSeed
    data: SplitInfo
    experiments: dict[Id, AnyExperimentResults]
    findings: Annotated[tuple[str, ...], FailFast] = ()
    environment: Environment
    timings: Timings

    @property
    def training(self) -> dict[str, TrainingResults]:
        """The experiments that train networks, by name."""
        return {name: entry for name, entry in self.experiments.items() if isinstance(entry, TrainingResults)}

    def experiment(self, name: str) -> ExperimentResults:
        """Results of an experiment by name. Raises UnknownNameError: there is none."""
        if name not in self.experiments:
            raise UnknownNameError("experiment", name, self.experiments)
        return self.experiments[name]


def results_schema() -> dict[str, JsonValue]:
    """The JSON Schema (draft 2020-12) of `results.json`, made from the records and their docstrings.

    Example:
        >>> results_schema()["title"]
        'inklab results.json, format 2'
    """
    schema = Results.model_json_schema(mode="serialization")
    return {"$schema": SCHEMA_DIALECT, **schema, "title": "inklab results.json, format 2"}

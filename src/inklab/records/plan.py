"""The plan of a study: every trial and evaluation spelled out (`plan.json`). Pure data with behavior."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeVar

from pydantic import Field, model_validator

from inklab.errors import ConfigError, UnknownNameError
from inklab.format import format_setting, format_value
from inklab.metrics import Metric, Task, declare
from inklab.records.components import ATTACKS, Pipeline, Preprocessing
from inklab.records.data_report import DataReport
from inklab.records.execution import CPU, DeviceName, ExecutionConfig, NetworkTraits
from inklab.records.recipe import TrialConfig
from inklab.records.record import (
    MAX_ENTRIES,
    MIB,
    Count,
    Counts,
    FailFast,
    Few,
    Id,
    Names,
    NonNegative,
    Number,
    Numbers,
    PositiveCount,
    Record,
    RootSeed,
    Sha256,
    Shape,
    Strengths,
    Values,
)

T = TypeVar("T")

REAL_DATA = "real_data"
"""The sampler of the evaluation that scores real images: what generated ones are compared with."""

CLEAN = "clean"
"""Under which references of a corruption-error experiment give the accuracy on clean images."""


class SplitCounts(Record):
    """Images per class of each split.

    Attributes:
        train: a number for each class.
        validation: a number for each class.
        test: a number for each class.
    """

    train: Counts
    validation: Counts
    test: Counts

    @model_validator(mode="after")
    def _check_lengths(self) -> "SplitCounts":
        if not len(self.train) == len(self.validation) == len(self.test):
            raise ValueError("train, validation and test have different numbers of classes")
        return self


class DataInfo(Record):
    """What a plan knows of a dataset.

    Attributes:
        dataset: name or path that it was loaded as.
        sha256: of its content.
        shape: channels, height, width of an image.
        labels: names of the classes.
        counts: images per class.
        mean: of the training images in [0, 1].
        std: standard deviation of the training images.
        preprocessing: how any picture becomes an image of this form.
        note: what the user must see about it.
        test_on: images of each second test set, by its name.
    """

    dataset: str
    sha256: Sha256
    shape: Shape
    labels: Annotated[tuple[str, ...], FailFast, Field(min_length=2, max_length=MAX_ENTRIES)]
    counts: SplitCounts
    mean: Number
    std: NonNegative
    preprocessing: Preprocessing
    note: str | None = None
    test_on: Annotated[dict[str, PositiveCount], Few] = {}

    @model_validator(mode="after")
    def _check_consistent(self) -> "DataInfo":
        if len(self.counts.train) != len(self.labels):
            raise ValueError(
                f"counts has {len(self.counts.train)} classes, but labels has {len(self.labels)}"
            )
        if not self.train or not self.test:
            raise ValueError("there are no training images or no test images")
        if self.preprocessing.shape != self.shape:
            raise ValueError(f"images are {self.shape}, but preprocessing makes {self.preprocessing.shape}")
        return self

    @property
    def train(self) -> int:
        """Training images."""
        return sum(self.counts.train)

    @property
    def validation(self) -> int:
        """Validation images."""
        return sum(self.counts.validation)

    @property
    def test(self) -> int:
        """Test images."""
        return sum(self.counts.test)

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self.labels)


class Reference(Record):
    """What others measured.

    Attributes:
        source: whose numbers these are.
        dataset: that they were measured on.
        values: metric values by name; accuracies are shares in [0, 1]. Empty if only the notes
            say something.
        notes: what differs in protocol, one note an entry.
    """

    source: str
    dataset: str = ""
    values: Numbers = {}
    notes: Names = ()


class GridSetting(Record):
    """One point of an experiment's grid, planned or with results.

    Attributes:
        values: key that is varied (the last part of its path) to value; empty where nothing varies.
    """

    values: Values

    @property
    def label(self) -> str:
        """Its values as text, such as "l2 = 1e-5"; "" where nothing varies."""
        return format_setting(self.values)


def check_grid(grid: Iterable[str], settings: Iterable[GridSetting]) -> None:
    """Refuse settings that have values of other keys than a grid's, with a ValueError."""
    for keys in (sorted(setting.values) for setting in settings):
        if keys != sorted(grid):
            raise ValueError(f"a setting has values of {keys}, but grid is {sorted(grid)}")


class Setting(GridSetting):
    """One point of an experiment's grid.

    Attributes:
        config: key of `Plan.configs`.
        trials: ids; entry k is replicate k.
    """

    config: Id
    trials: Annotated[tuple[Id, ...], FailFast, Field(min_length=1)]


class ExperimentPlan(Record):
    """What every experiment has.

    Attributes:
        name: of the experiment.
        title: its heading.
        question: what is asked, in a sentence or two.
        explanations: names of written explanations that the report shows.
        references: what others measured.
    """

    name: Id
    title: str = ""
    question: str = ""
    explanations: Names = ()
    references: Annotated[tuple[Reference, ...], FailFast, Few] = ()


class DataPlan(ExperimentPlan):
    """Shows the images: class balance, samples, what preprocessing does."""

    kind: Literal["data"] = "data"


class FindingsPlan(ExperimentPlan):
    """Sentences computed from the numbers."""

    kind: Literal["findings"] = "findings"


class OwnMetricInfo(Record):
    """A metric of the user's own; reading it makes `get_metric` know it.

    Attributes:
        key: its name in results, without a split.
        label: name in sentences.
        unit: written after a number.
        higher_is_better: None where neither direction is better.
        is_share: a share in [0, 1].
    """

    key: str
    label: str
    unit: str = ""
    higher_is_better: bool | None = None
    is_share: bool = False

    @classmethod
    def of(cls, metric: Metric) -> "OwnMetricInfo":
        """What others need to know of a metric."""
        return cls(**{name: getattr(metric, name) for name in cls.model_fields})

    @model_validator(mode="after")
    def _declare(self) -> "OwnMetricInfo":
        try:
            declare(Metric(**dict(self)))
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


class TrainingPlan(ExperimentPlan):
    """Trains networks: each setting, each replicate.

    Attributes:
        task: of its objective.
        grid: keys that are varied; () if nothing is.
        settings: every point of the grid.
        metrics: of the user's own.
    """

    kind: Literal["training"] = "training"
    task: Task
    metrics: Annotated[tuple[OwnMetricInfo, ...], FailFast, Few] = ()
    grid: Names
    settings: Annotated[tuple[Setting, ...], FailFast, Field(min_length=1)]

    @model_validator(mode="after")
    def _check_grid(self) -> "TrainingPlan":
        check_grid(self.grid, self.settings)
        return self

    @property
    def trials(self) -> tuple[str, ...]:
        """Ids of its trials, without repetition."""
        return tuple(dict.fromkeys(trial for setting in self.settings for trial in setting.trials))

    def find_setting(self, values: Mapping[str, str]) -> Setting:
        """The setting with some values, by key, as JSON or as `format_value` writes them.

        Raises:
            UnknownNameError: no setting has these values.
        """
        for setting in self.settings:
            same = all(_is_same(setting.values.get(key), text) for key, text in values.items())
            if same and setting.values.keys() == values.keys():
                return setting
        name = ",".join(f"{key}={text}" for key, text in values.items())
        raise UnknownNameError("setting", f"{self.name}:{name}", self.setting_names)

    @property
    def setting_names(self) -> tuple[str, ...]:
        """How each setting is named on the command line, such as "l2-sweep:l2=1e-5"."""
        arguments = (_to_argument(setting.values) for setting in self.settings)
        return tuple(f"{self.name}:{text}" if text else self.name for text in arguments)


class RobustnessEvaluation(Record):
    """One job: a pipeline of one replicate, at all strengths.

    Attributes:
        id: of the evaluation.
        pipeline: that is evaluated, as people call it.
        parts: of the pipeline as they are found, if one is a filter of the user's own; else ().
        corruption: registered name or `file.py:name`, or an attack.
        attack_steps: gradient steps of an attack, if they are not its own.
        strengths: in the corruption's unit.
        images: test images used.
        replicate: of its trained parts.
        depends_on: ids of trials, in the order of the pipeline's trained parts.
    """

    id: Id
    kind: Literal["robustness"] = "robustness"
    pipeline: Pipeline
    parts: Names = ()
    corruption: str
    attack_steps: PositiveCount | None = None
    strengths: Strengths
    images: PositiveCount
    replicate: Count
    depends_on: Annotated[tuple[Id, ...], FailFast, Field(min_length=1, max_length=MAX_ENTRIES)]

    @property
    def denoisers(self) -> tuple[str, ...]:
        """Denoisers and filters in front of the classifier, as they are found."""
        return (self.parts or self.pipeline.parts)[:-1]


class GenerationEvaluation(Record):
    """One job: a sampler's images from one replicate's decoder, scored by a classifier.

    Attributes:
        id: of the evaluation.
        sampler: registered name; "real_data" scores real images instead.
        samples: images drawn.
        mixture_components: of the mixture.
        max_fit_images: most training images whose codes are fitted.
        nn_images: samples for which the nearest training image is sought.
        replicate: of decoder and classifier.
        depends_on: id of the decoder's trial, id of the classifier's trial.
    """

    id: Id
    kind: Literal["generation"] = "generation"
    sampler: str
    samples: PositiveCount
    mixture_components: PositiveCount
    max_fit_images: PositiveCount
    nn_images: PositiveCount
    replicate: Count
    depends_on: tuple[Id, Id]


Evaluation = RobustnessEvaluation | GenerationEvaluation


class RobustnessPlan(ExperimentPlan):
    """Compares pipelines as images get worse.

    Attributes:
        corruption: registered name or `file.py:name`, or an attack.
        strengths: in the corruption's unit.
        images: test images used.
        confusion_at: strengths at which confusion matrices are counted.
        pipelines: that are compared.
        baseline: the pipeline that others are compared with.
        evaluations: one for each pipeline and replicate.
    """

    kind: Literal["robustness"] = "robustness"
    corruption: str
    strengths: Strengths
    images: PositiveCount
    confusion_at: Annotated[tuple[NonNegative, ...], FailFast, Few] = ()
    pipelines: Annotated[tuple[Pipeline, ...], FailFast, Field(min_length=1, max_length=MAX_ENTRIES)]
    baseline: Pipeline
    evaluations: Annotated[tuple[RobustnessEvaluation, ...], FailFast]

    @property
    def is_attack(self) -> bool:
        """Whether images are changed against each pipeline and replicate, by its gradient."""
        return self.corruption in ATTACKS

    @model_validator(mode="after")
    def _check_consistent(self) -> "RobustnessPlan":
        if self.baseline not in self.pipelines:
            raise ValueError(f"the baseline '{self.baseline}' is not one of its pipelines")
        common = (self.corruption, self.strengths, self.images)
        for job in self.evaluations:
            if job.pipeline not in self.pipelines or (job.corruption, job.strengths, job.images) != common:
                raise ValueError(f"'{job.id}' is an evaluation of something else")
        return self


class GenerationPlan(ExperimentPlan):
    """Draws new images from a decoder and scores them.

    Attributes:
        decoder: experiment whose network has an encoder and a decoder.
        classifier: experiment whose network scores.
        samplers: registered names of ways to draw codes.
        samples: images drawn and scored by each.
        mixture_components: of the mixture.
        max_fit_images: most training images whose codes are fitted.
        nn_images: samples for which the nearest training image is sought.
        evaluations: one for each sampler, real data among them, and replicate.
    """

    kind: Literal["generation"] = "generation"
    decoder: str
    classifier: str
    samplers: Names
    samples: PositiveCount
    mixture_components: PositiveCount
    max_fit_images: PositiveCount
    nn_images: PositiveCount
    evaluations: Annotated[tuple[GenerationEvaluation, ...], FailFast]

    @model_validator(mode="after")
    def _check_consistent(self) -> "GenerationPlan":
        samplers = {REAL_DATA, *self.samplers}
        for job in self.evaluations:
            if job.sampler not in samplers or job.samples != self.samples:
                raise ValueError(f"'{job.id}' is an evaluation of something else")
        return self


class CorruptionErrorPlan(ExperimentPlan):
    """Puts robustness experiments together: errors relative to the baseline's, and their mean.

    Attributes:
        experiments: robustness experiments, one for each corruption.
        pipelines: that all of them compare.
        baseline: the pipeline whose errors the others' are divided by.
    """

    kind: Literal["corruption-error"] = "corruption-error"
    experiments: Annotated[Names, Field(min_length=1)]
    pipelines: Annotated[tuple[Pipeline, ...], FailFast, Field(min_length=1, max_length=MAX_ENTRIES)]
    baseline: Pipeline


AnyExperimentPlan = Annotated[
    DataPlan | TrainingPlan | RobustnessPlan | GenerationPlan | CorruptionErrorPlan | FindingsPlan,
    Field(discriminator="kind"),
]


class PlannedTrial(Record):
    """One training.

    Attributes:
        config: key of `Plan.configs`.
        replicate: which repetition; replicate k has the same random streams in every setting.
    """

    config: Id
    replicate: Count


class GroupPlan(Record):
    """Trials that are trained in one program.

    Attributes:
        trials: ids.
        stacked: all members in one vectorized program; else one after the other.
        reseed_each_step: the network draws from the global generator.
        population_size: members that the program has room for.
        compiled: the program is compiled.
        network: key of `Plan.networks`; "" if no preflight check was made.
        device: that they are trained on.
    """

    trials: Annotated[tuple[Id, ...], FailFast, Field(min_length=1)]
    stacked: bool
    reseed_each_step: bool
    population_size: PositiveCount
    compiled: bool
    network: str = ""
    device: DeviceName = CPU


class Trial(NamedTuple):
    """One training, with everything that decides what it computes besides data and root seed."""

    id: str
    config: TrialConfig
    replicate: int


class SettingRef(NamedTuple):
    """A setting and the experiment that it is one of."""

    experiment: TrainingPlan
    setting: Setting


class Plan(Record):
    """The plan of a run (`plan.json`): every trial and evaluation, and how they run.

    Attributes:
        study: its name.
        title: of the study.
        description: one paragraph.
        command: what to type to have all of this again.
        profile: of the study.
        seed: root of all randomness, in [0, 2 ** 63).
        data: what is known of the dataset.
        data_report: what the check of its images found; None in runs of before there was one.
        execution: how the run is carried out.
        networks: key of a preflight check to what it found out.
        configs: fingerprint to resolved configuration, each once.
        experiments: in the order of the report.
        trials: every training by id.
        groups: which trials are trained together; each trial is in one of them.
    """

    max_bytes: ClassVar[int] = 256 * MIB
    repair_advice: ClassVar[str] = "delete it and run the command again, finished work is kept"

    format: Literal[2] = 2
    study: str
    title: str = ""
    description: str = ""
    command: str = ""
    profile: str
    seed: RootSeed
    data: DataInfo
    data_report: DataReport | None = None
    execution: ExecutionConfig
    networks: dict[Id, NetworkTraits] = {}
    configs: dict[Id, TrialConfig]
    experiments: Annotated[tuple[AnyExperimentPlan, ...], FailFast]
    trials: dict[Id, PlannedTrial]
    groups: Annotated[tuple[GroupPlan, ...], FailFast]

    @model_validator(mode="after")
    def _check_consistent(self) -> "Plan":
        problems = (
            *self._experiment_problems(), *self._corruption_error_problems(), *self._trial_problems(),
            *self._group_problems(),
        )  # fmt: skip
        for problem in problems:
            raise ValueError(problem)
        return self

    def _experiment_problems(self) -> Iterator[str]:
        names = Counter(experiment.name for experiment in self.experiments)
        yield from (f"two experiments are called '{name}'" for name, count in names.items() if count > 1)
        for experiment in self.training:
            for setting in experiment.settings:
                planned = [self.trials.get(trial) for trial in setting.trials]
                expected = [PlannedTrial(config=setting.config, replicate=k) for k in range(len(planned))]
                if planned != expected:
                    yield f"the trials of a setting of '{experiment.name}' are not its replicates"
        for evaluation in self.evaluations.values():
            if not self.trials.keys() >= set(evaluation.depends_on):
                yield f"'{evaluation.id}' depends on a trial that is not planned"

    def _corruption_error_problems(self) -> Iterator[str]:
        by_name = {experiment.name: experiment for experiment in self.experiments}
        for experiment in self.experiments:
            if isinstance(experiment, CorruptionErrorPlan):
                needed = {experiment.baseline, *experiment.pipelines}
                for name in experiment.experiments:
                    member = by_name.get(name)
                    if not isinstance(member, RobustnessPlan) or not needed <= set(member.pipelines):
                        yield f"'{experiment.name}' needs '{name}', which does not compare its pipelines"

    def _trial_problems(self) -> Iterator[str]:
        if both := self.trials.keys() & self.evaluations.keys():
            yield f"'{min(both)}' is a trial and an evaluation"
        if missing := {trial.config for trial in self.trials.values()} - self.configs.keys():
            yield f"configs has no '{min(missing)}'"

    def _group_problems(self) -> Iterator[str]:
        grouped = Counter(trial for group in self.groups for trial in group.trials)
        if ungrouped := grouped.keys() ^ self.trials.keys():
            yield f"'{min(ungrouped)}' is only in one of trials and groups"
        yield from (f"'{trial}' is in two groups" for trial, count in grouped.items() if count > 1)

    # ------------------------------------------------------------ looking up

    def experiment(self, name: str) -> AnyExperimentPlan:
        """An experiment by name. Raises UnknownNameError: there is none."""
        return _look_up({experiment.name: experiment for experiment in self.experiments}, name, "experiment")

    @cached_property
    def training(self) -> tuple[TrainingPlan, ...]:
        """The experiments that train networks."""
        return tuple(experiment for experiment in self.experiments if isinstance(experiment, TrainingPlan))

    @property
    def denoisers(self) -> tuple[str, ...]:
        """Names of the experiments that train denoisers."""
        return tuple(experiment.name for experiment in self.training if experiment.task == "denoising")

    def config(self, trial: str) -> TrialConfig:
        """The configuration of a trial. Raises UnknownNameError: there is no such trial."""
        return self.configs[_look_up(self.trials, trial, "trial").config]

    def trial(self, id: str) -> Trial:
        """A trial with its configuration. Raises UnknownNameError: there is no such trial."""
        return Trial(id, self.config(id), self.trials[id].replicate)

    def traits(self, trial: str) -> NetworkTraits:
        """What the preflight check found out about a trial's network; UnknownNameError without one."""
        group = _look_up(self.group_of_trial, trial, "trial")
        return _look_up(self.networks, group.network, "preflight check")

    @cached_property
    def group_of_trial(self) -> dict[str, GroupPlan]:
        """The group that each trial is trained in, by the trial's id."""
        return {trial: group for group in self.groups for trial in group.trials}

    def setting_of(self, trial: str) -> SettingRef:
        """The first setting that a trial belongs to. Raises UnknownNameError: there is no such trial."""
        return _look_up(self._setting_of_trial, trial, "trial")

    @cached_property
    def _setting_of_trial(self) -> dict[str, SettingRef]:
        refs: dict[str, SettingRef] = {}
        for experiment in self.training:
            for setting in experiment.settings:
                for trial in setting.trials:
                    refs.setdefault(trial, SettingRef(experiment, setting))
        return refs

    def trials_of(self, name: str) -> tuple[str, ...]:
        """Ids of an experiment's trials, without repetition; () if it trains nothing."""
        experiment = self.experiment(name)
        return experiment.trials if isinstance(experiment, TrainingPlan) else ()

    def evaluations_of(self, name: str) -> tuple[str, ...]:
        """Ids of an experiment's evaluations, without repetition; () if it evaluates nothing."""
        experiment = self.experiment(name)
        if not isinstance(experiment, RobustnessPlan | GenerationPlan):
            return ()
        return tuple(dict.fromkeys(evaluation.id for evaluation in experiment.evaluations))

    @cached_property
    def evaluations(self) -> dict[str, Evaluation]:
        """Every evaluation by id."""
        return {
            evaluation.id: evaluation
            for experiment in self.experiments
            if isinstance(experiment, RobustnessPlan | GenerationPlan)
            for evaluation in experiment.evaluations
        }

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all trials, then of all evaluations."""
        return (*self.trials, *self.evaluations)

    def find_setting(self, name: str) -> SettingRef:
        """The setting that `experiment` or `experiment:key=value[,key=value]` names, as `l2-sweep:l2=1e-5`.

        Raises:
            UnknownNameError: there is no such experiment or setting.
            ConfigError: the experiment trains nothing, or has several settings and none is named.
        """
        experiment_name, colon, values = name.partition(":")
        names = [experiment.name for experiment in self.training]
        experiment = next((entry for entry in self.experiments if entry.name == experiment_name), None)
        if experiment is None:
            raise UnknownNameError("experiment", experiment_name, names)
        if not isinstance(experiment, TrainingPlan):
            raise ConfigError(
                f"'{experiment_name}' is a {experiment.kind} experiment, which trains nothing; "
                f"name one of: {', '.join(names)}."
            )
        if colon:
            return SettingRef(experiment, experiment.find_setting(_parse_values(values)))
        if len(experiment.settings) > 1:
            listed = ", ".join(experiment.setting_names[:20]) + ", ..." * (len(experiment.settings) > 20)
            raise ConfigError(f"'{name}' has {len(experiment.settings)} settings; name one of: {listed}.")
        return SettingRef(experiment, experiment.settings[0])


def _look_up(table: Mapping[str, T], name: str, kind: str) -> T:
    if name not in table:
        raise UnknownNameError(kind, name, list(table)[:20])
    return table[name]


def _to_argument(values: Mapping[str, object]) -> str:
    """Values as one types them: `l2=1e-5,hidden=[64]`."""
    return ",".join(
        f"{key}={format_value(value) if isinstance(value, str | float) else json.dumps(value)}"
        for key, value in values.items()
    )


def _parse_values(text: str) -> dict[str, str]:
    """`a=1,b=[2,3]` as texts by key; a comma separates only where a name and `=` follow."""
    pairs = (part.partition("=") for part in re.split(r",(?=[\w.\-]+=)", text))
    return {key.strip(): value.strip() for key, _, value in pairs}


def _is_same(value: object, text: str) -> bool:
    """Equal as JSON, so that 1e-5 and 0.00001 are one value; or as it is written."""
    try:
        if json.loads(text) == value:
            return True
    except ValueError:
        pass
    return text in (str(value), format_value(value))

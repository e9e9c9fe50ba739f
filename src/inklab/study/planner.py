"""The planner: every trial and evaluation of a study spelled out. Pure: runs nothing, imports no torch.

Ids are content hashes, so resuming, extending and sharing are set differences (docs/run-directory.md).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from inklab.data.dataset import class_counts
from inklab.data.sources import has_content
from inklab.errors import ConfigError, UnknownNameError
from inklab.io.files import fingerprint
from inklab.metrics import resolve_metrics
from inklab.networks.network import check_network
from inklab.records.components import NormalizeConfig, Pipeline
from inklab.records.data_report import DataReport
from inklab.records.execution import CPU, ExecutionConfig, NetworkTraits
from inklab.records.plan import (
    CLEAN,
    REAL_DATA,
    AnyExperimentPlan,
    CorruptionErrorPlan,
    DataInfo,
    DataPlan,
    ExperimentPlan,
    FindingsPlan,
    GenerationEvaluation,
    GenerationPlan,
    GroupPlan,
    OwnMetricInfo,
    Plan,
    PlannedTrial,
    RobustnessEvaluation,
    RobustnessPlan,
    Setting,
    TrainingPlan,
)
from inklab.records.recipe import OPTIMIZER_STATE, VECTOR_SETTINGS, Precision, Recipe, TrialConfig
from inklab.study.resources import pays_to_compile
from inklab.study.spec import (
    AnyExperiment,
    CorruptionErrorExperiment,
    DataExperiment,
    FindingsExperiment,
    GenerationExperiment,
    RobustnessExperiment,
    StudySpec,
    TrainingExperiment,
)
from inklab.training.objectives import objectives
from inklab.usercode import is_user_code, location_free, map_names, short_name, source_sha256

NUMERICS = 4
"""Raised by every change that may move a number; part of each id, so old and new outcomes never mix."""

CACHE_BYTES = 12_000_000
"""Memory budget for one population's weights, gradients and optimizer state, in bytes."""

PARAMETER_BYTES, STATE_BYTES = 8, 4
"""Of each parameter: fp32 master, bf16 copy and bf16 gradient; each fp32 tensor of the optimizer's state."""

MAX_POPULATION = 8


def plan_study(
    spec: StudySpec,
    profile: str,
    data: DataInfo,
    execution: ExecutionConfig,
    networks: Mapping[str, NetworkTraits],
    *,
    command: str = "",
    data_report: DataReport | None = None,
) -> Plan:
    """Spell out a study.

    Args:
        spec: the question.
        profile: its name goes into the run's id.
        data: of the dataset.
        execution: how the run is carried out.
        networks: results of the preflight checks of all `distinct_configs`, by `preflight_key`.
        command: the command that reproduces this run.
        data_report: what the check of the images found.

    Raises:
        ConfigError: an experiment names something that does not exist, or that does not fit.
    """
    planner = Planner(spec, data, execution)
    experiments = planner.experiments()
    return Plan(
        study=spec.name, title=spec.title or spec.name, description=spec.description, command=command,
        profile=profile, seed=spec.seed, data=data, data_report=data_report, execution=execution,
        networks=dict(networks),
        configs=planner.configs, experiments=experiments, trials=planner.trials,
        groups=tuple(_group_trials(planner, execution, networks, data.train)),
    )  # fmt: skip


def run_id(study: str, profile: str, data_sha256: str, seed: int) -> str:
    """Name of a run directory: the same question about the same data is resumed in the same place."""
    return fingerprint({"study": study, "profile": profile, "data": data_sha256, "seed": seed})


def distinct_configs(spec: StudySpec, data: DataInfo, execution: ExecutionConfig) -> dict[str, TrialConfig]:
    """A configuration for each preflight check that a study needs, by `preflight_key`.

    Raises:
        ConfigError: a network or a grid is wrong.
    """
    planner = Planner(spec, data, execution)
    for name in spec.training:
        planner.settings(name)
    return {preflight_key(config): config for config in planner.configs.values()}


def preflight_key(config: TrialConfig) -> str:
    """What two configurations have in common if one preflight check serves both."""
    recipe = config.recipe
    used: list[object] = [config.network.to_json(), recipe.objective, config.precision]
    if recipe.batch_size == 1:
        used.append("single images")
    if recipe.augmentation and recipe.augmentation.function:
        used.append(recipe.augmentation.function)
    return fingerprint([*map_names(used, location_free), _sources(config)])


def _sources(config: TrialConfig) -> list[str]:
    """SHA-256 of the user's code that a training runs."""
    return [source_sha256(name) for name in config.user_code]


E = TypeVar("E", RobustnessEvaluation, GenerationEvaluation)


class Planner:
    """Plans experiments one after the other, and collects their trials and configurations.

    Attributes:
        trials: by id, in the order in which experiments ask for them.
        configs: by fingerprint, each once.
    """

    def __init__(self, spec: StudySpec, data: DataInfo, execution: ExecutionConfig) -> None:
        self.trials: dict[str, PlannedTrial] = {}
        self.configs: dict[str, TrialConfig] = {}
        self._spec, self._data, self._execution = spec, data, execution
        self._settings: dict[str, tuple[Setting, ...]] = {}

    def experiments(self) -> tuple[AnyExperimentPlan, ...]:
        """The plan of every experiment.

        Raises:
            ConfigError: an experiment names something that does not exist, or that does not fit.
        """
        return tuple(self._experiment(name) for name in self._spec.experiments)

    def settings(self, name: str) -> tuple[Setting, ...]:
        """Every point of the grid of an experiment that trains; its trials are planned with it.

        Raises:
            ConfigError: a network or the grid is wrong.
        """
        if name not in self._settings:
            experiment = self._spec.training[name]
            with _naming(name):
                self._settings[name] = tuple(self._plan_settings(experiment))
        return self._settings[name]

    # ------------------------------------------------------------ one experiment

    def _experiment(self, name: str) -> AnyExperimentPlan:
        experiment = self._spec.experiments[name]
        header = _header(name, experiment, self._data)
        match experiment:
            case TrainingExperiment():
                return self._training(experiment, header)
            case RobustnessExperiment() | GenerationExperiment():
                with _naming(name):
                    if isinstance(experiment, RobustnessExperiment):
                        return self._robustness(experiment, header)
                    return self._generation(experiment, header)
            case CorruptionErrorExperiment():
                with _naming(name):
                    return self._corruption_error(experiment, header)
            case DataExperiment():
                return DataPlan(**dict(header))
            case FindingsExperiment():
                return FindingsPlan(**dict(header))

    def _training(self, experiment: TrainingExperiment, header: ExperimentPlan) -> TrainingPlan:
        settings = self.settings(header.name)
        with _naming(header.name):
            task = objectives.resolve(experiment.recipe.objective).task
            metrics = tuple(map(OwnMetricInfo.of, resolve_metrics(experiment.metrics, task)))
        return TrainingPlan(
            **dict(header), task=task, metrics=metrics, grid=tuple(settings[0].values), settings=settings
        )

    def _robustness(self, experiment: RobustnessExperiment, header: ExperimentPlan) -> RobustnessPlan:
        images = min(experiment.images or self._data.test, self._data.test)
        counts = np.array(self._data.counts.test)
        if emptied := np.flatnonzero((counts > 0) & (class_counts(counts, images) == 0)).tolist():
            raise ConfigError(
                f"{images} test images leave the class '{self._data.labels[emptied[0]]}' without any; use "
                f"more than that, at most {self._data.test:,}",
                key=f"{header.name}.images",
            )
        strengths = experiment.strengths or _own_strengths(experiment)
        labels = self._labels(experiment.pipelines)
        evaluations = [
            self._with_id(
                RobustnessEvaluation(
                    id="new", pipeline=labels[pipeline],
                    parts=pipeline.parts if any(map(is_user_code, pipeline.parts)) else (),
                    corruption=experiment.corruption, images=images,
                    attack_steps=experiment.attack_steps, strengths=strengths, replicate=replicate,
                    depends_on=trials,
                ),
                experiment.corruption,
            )
            for pipeline in experiment.pipelines
            for replicate, trials in enumerate(self._paired_trials(*self._trained_parts(pipeline)))
        ]  # fmt: skip
        return RobustnessPlan(
            **dict(header), corruption=experiment.corruption, strengths=strengths, images=images,
            confusion_at=experiment.confusion_at, pipelines=tuple(labels.values()),
            baseline=labels[experiment.baseline], evaluations=tuple(evaluations),
        )  # fmt: skip

    def _corruption_error(
        self, experiment: CorruptionErrorExperiment, header: ExperimentPlan
    ) -> CorruptionErrorPlan:
        robustness = {
            name: entry
            for name, entry in self._spec.experiments.items()
            if isinstance(entry, RobustnessExperiment)
        }
        for name in experiment.experiments:
            if name not in robustness:
                raise UnknownNameError("robustness experiment", name, robustness)
            if not any(robustness[name].strengths or _own_strengths(robustness[name])):
                raise ConfigError(
                    f"'{name}' has no strength above 0, so it has no error to compare", key=name
                )
        members = [robustness[name] for name in experiment.experiments]
        baselines = list(dict.fromkeys(member.baseline for member in members))
        if len(baselines) > 1:
            raise ConfigError(
                f"errors are relative to one baseline, but these experiments have {len(baselines)}: "
                f"{', '.join(baselines)}; give them the same",
                key="experiments",
            )
        for key in (key for reference in header.references for key in reference.values):
            if key not in (CLEAN, *experiment.experiments):
                raise UnknownNameError("accuracy of a reference", key, [CLEAN, *experiment.experiments])
        return CorruptionErrorPlan(
            **dict(header), experiments=experiment.experiments, baseline=baselines[0],
            pipelines=tuple(
                name for name in members[0].pipelines if all(name in member.pipelines for member in members)
            ),
        )  # fmt: skip

    def _labels(self, pipelines: Sequence[Pipeline]) -> dict[Pipeline, Pipeline]:
        """What people call each pipeline: a name for each, in which no function is taken for another part."""
        labels = {pipeline: pipeline.label for pipeline in pipelines}
        names = list(labels.values())
        for pipeline, label in labels.items():
            own = [short_name(part) for part in pipeline.parts if is_user_code(part)]
            if duplicate := next((name for name in own if name in self._spec.experiments), None):
                raise ConfigError(
                    f"'{duplicate}' is a function and an experiment; rename one of them", key=duplicate
                )
            if names.count(label) > 1:
                raise ConfigError(
                    f"two pipelines are called '{label}'; rename one of the functions", key=label
                )
        return labels

    def _trained_parts(self, pipeline: Pipeline) -> tuple[str, ...]:
        """The parts of a pipeline that are trained; the others are filters."""
        training = self._spec.training
        tasks = {name: objectives.resolve(entry.recipe.objective).task for name, entry in training.items()}
        pipeline.check(tasks)
        return tuple(
            part for part in pipeline.parts if not is_user_code(part) and part.partition(":")[0] in training
        )

    def _generation(self, experiment: GenerationExperiment, header: ExperimentPlan) -> GenerationPlan:
        pairs = self._paired_trials(experiment.decoder, experiment.classifier)
        sizes = experiment.model_dump(
            include={"samples", "mixture_components", "max_fit_images", "nn_images"}
        )
        evaluations = [
            self._with_id(
                GenerationEvaluation(
                    id="new", sampler=sampler, replicate=replicate,
                    depends_on=(decoder, classifier), **sizes,
                )
            )
            for sampler in (REAL_DATA, *experiment.samplers)
            for replicate, (decoder, classifier) in enumerate(pairs)
        ]  # fmt: skip
        return GenerationPlan(
            **dict(header), decoder=experiment.decoder, classifier=experiment.classifier,
            samplers=experiment.samplers, evaluations=tuple(evaluations), **sizes,
        )  # fmt: skip

    # ------------------------------------------------------------ trials and evaluations

    def _plan_settings(self, experiment: TrainingExperiment) -> Iterator[Setting]:
        for values, varied in experiment.points():
            config = self._config(varied)
            key = fingerprint(map_names(config.identity, location_free))
            self.configs[key] = config
            trials = tuple(self._trial(key, replicate) for replicate in range(experiment.replicates))
            yield Setting(values=values, config=key, trials=trials)

    def _config(self, experiment: TrainingExperiment) -> TrialConfig:
        check_network(experiment.network)
        objective, recipe = objectives.resolve(experiment.recipe.objective), experiment.recipe
        objective.check(recipe, self._data.n_classes, sum(self._data.counts.validation))
        normalize = experiment.normalize
        if normalize == "dataset":
            normalize = NormalizeConfig(mean=self._data.mean, std=self._data.std)
        elif normalize == "none":
            normalize = NormalizeConfig()
        return TrialConfig(
            network=experiment.network,
            normalize=normalize,
            recipe=experiment.recipe,
            precision=self._precision(experiment),
            metrics=experiment.metrics,
        )

    def _precision(self, experiment: TrainingExperiment) -> Precision:
        if self._spec.precision != "auto":
            return self._spec.precision
        # A user's own module may not tolerate bf16 (a log of something small, say); they can request it.
        return "fp32" if experiment.network.is_user_code else self._execution.precision

    def _trial(self, config: str, replicate: int) -> str:
        identity = {
            "config": config,
            "data": self._data.sha256,
            "split": self._data.counts.validation,  # what is held out changes what is trained on
            "seed": self._spec.seed,
            "replicate": replicate,
            "numerics": NUMERICS,
            "source": _sources(self.configs[config]),
        }
        if self._spec.data.preprocessing != "auto":  # part of the model, so it must be written anew
            identity["preprocessing"] = self._data.preprocessing.to_json()
        id = fingerprint(identity)
        self.trials[id] = PlannedTrial(config=config, replicate=replicate)
        return id

    def _paired_trials(self, *names: str) -> list[tuple[str, ...]]:
        """Entry k has the trial of replicate k of each experiment, as far as all have that many."""
        trials = [self._single_setting(name).trials for name in names]
        return [tuple(ids[k] for ids in trials) for k in range(min(map(len, trials)))]

    def _single_setting(self, name: str) -> Setting:
        """The setting of an experiment that trains only one."""
        if name not in self._spec.training:
            raise UnknownNameError("training experiment", name, self._spec.training)
        settings = self.settings(name)
        if len(settings) > 1:
            raise ConfigError(
                f"experiment '{name}' has {len(settings)} settings, so it can't be part of a pipeline; make "
                "an experiment with one of them",
                key=name,
            )
        return settings[0]

    def _with_id(self, evaluation: E, corruption: str = "") -> E:
        described = evaluation.model_dump(mode="json", exclude={"id"})
        if described.get("attack_steps", 0) is None:  # a field that came after the first outcomes
            del described["attack_steps"]
        if "parts" in described:  # so is this; a name without a folder says less
            del described["pipeline" if described["parts"] else "parts"]
        identity = {
            "evaluation": map_names(described, location_free),
            "data": self._data.sha256,
            "seed": self._spec.seed,
            "numerics": NUMERICS,
            # The code of a registered corruption changes with NUMERICS.
            "source": source_sha256(corruption) if is_user_code(corruption) else None,
        }
        return evaluation.model_copy(update={"id": fingerprint(identity)})


def _own_strengths(experiment: RobustnessExperiment) -> tuple[float, ...]:
    """Those of its corruption, where it names none."""
    from inklab.evaluation.attacks import corruption_or_attack  # torch: seldom needed to plan

    return corruption_or_attack(experiment.corruption, experiment.attack_steps).strengths


def _header(name: str, experiment: AnyExperiment, data: DataInfo) -> ExperimentPlan:
    """What all experiments have. Numbers of others are compared on the same images only."""
    epochs = experiment.recipe.epochs if isinstance(experiment, TrainingExperiment) else None
    return ExperimentPlan(
        name=name, title=experiment.title or name, question=experiment.question,
        explanations=experiment.explanations,
        references=tuple(
            reference.planned(epochs)
            for reference in experiment.references
            if reference.dataset == data.dataset or has_content(reference.dataset, data.sha256)
        ),
    )  # fmt: skip


@contextmanager
def _naming(experiment: str) -> Iterator[None]:
    """Name the experiment that an error is in."""
    try:
        yield
    except ConfigError as error:
        message = f"experiment '{experiment}': {error}"
        raise ConfigError(message, key=error.key, suggestion=error.suggestion) from error


# ---------------------------------------------------------------- which trials are trained in one program


def _group_trials(
    planner: Planner, execution: ExecutionConfig, networks: Mapping[str, NetworkTraits], n_images: int
) -> Iterator[GroupPlan]:
    """Groups of trials that are trained in one program; numbers do not depend on them.

    Trials that differ only in the replicate and in `VECTOR_SETTINGS` are stacked into populations of at
    most `execution.max_population`, spread over the workers; what can't be stacked, or doesn't gain, is
    trained one by one. Groups of one program have the same population size, also the last and smaller one:
    then they run the same compiled code. Whether it is compiled must not depend on how many trials there are,
    or a run that is extended would differ from one that was begun larger.

    What passed the check of the run's device is trained there, in populations as large as those that were
    checked; everything else on the processor.
    """
    programs = {key: _program(config) for key, config in planner.configs.items()}
    by_program: dict[str, list[str]] = {}
    for id, trial in planner.trials.items():
        by_program.setdefault(programs[trial.config], []).append(id)
    for ids in by_program.values():
        config = planner.configs[planner.trials[ids[0]].config]
        network = preflight_key(config)
        traits = networks[network]
        stacked = traits.vmappable and not traits.has_convolutions
        is_long = execution.compile == "yes" or pays_to_compile(config, traits, n_images)
        largest = min(execution.max_population, max_population(traits.parameters, config.recipe))
        check = traits.device_check
        on_device, compiles = check is not None and check.passed, execution.compile != "no"
        if check is not None and on_device:
            largest, compiles = check.members or 1, bool(check.compiles)
        size = _population_size(len(ids), largest, execution.workers) if stacked else 1
        for start in range(0, len(ids), size):
            yield GroupPlan(
                trials=tuple(ids[start : start + size]), stacked=stacked,
                reseed_each_step=traits.uses_global_rng, population_size=max(size, 2) if stacked else 1,
                compiled=compiles and is_long and not traits.uses_global_rng,
                network=network, device=execution.device.name if on_device else CPU,
            )  # fmt: skip


def max_population(parameters: int, recipe: Recipe) -> int:
    """How many members of a network a population should have: as many as fit in a core's share of the cache.

    Compiled, two members of the 500-300 net take 0.49 s each an epoch and eight 0.56: the weights of more go
    through memory in each step. Below two, nothing is gained; above eight, little.

    Example:
        >>> [max_population(count, Recipe()) for count in (55_050, 226_416, 545_810)]
        [8, 6, 2]
    """
    is_plain = recipe.optimizer == "sgd" and not recipe.momentum
    n_states = 0 if is_plain else len(OPTIMIZER_STATE[recipe.optimizer])
    n_states += recipe.ema_decay is not None
    member_bytes = parameters * (PARAMETER_BYTES + STATE_BYTES * n_states)
    return min(max(CACHE_BYTES // member_bytes, 2), MAX_POPULATION)


def _population_size(n_trials: int, largest: int, workers: int) -> int:
    """Members of a population: as few populations as fit, but one a worker if that leaves two in each."""
    n_populations = max(math.ceil(n_trials / largest), min(workers, n_trials // 2), 1)
    return math.ceil(n_trials / n_populations)


def _program(config: TrialConfig) -> str:
    """What the configurations of one program's trials have in common."""
    common = config.model_dump(mode="json", exclude={"recipe": set(VECTOR_SETTINGS)})
    # Momentum of zero keeps no velocity: another program, as in one with velocity it would cost memory. The
    # same goes for a step without clipping or without an average of the weights.
    recipe = config.recipe
    parts = [recipe.momentum > 0, recipe.clip_norm is not None, recipe.ema_decay is not None]
    return fingerprint([common, parts])

"""What is served: the trained models of a run, or one, with the accuracies and curves of its results."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from inklab.corruptions.filters import filters
from inklab.errors import ConfigError, CorruptFileError, InklabError, RunError
from inklab.model import TrainedModel
from inklab.records.components import Pipeline, Preprocessing
from inklab.records.estimates import Estimate
from inklab.records.plan import GenerationPlan, RobustnessPlan
from inklab.records.record import RESULTS_FILE
from inklab.records.results import Results, RobustnessResults, TrainingResults
from inklab.runs import Run
from inklab.serve.model_registry import ModelRegistry
from inklab.serve.schemas import CatalogInfo, RecallCurve, RobustnessCurves
from inklab.stats import estimate


@dataclass(frozen=True)
class Catalog:
    """What there is, as it was when it was looked at.

    Attributes:
        info: title, study, profile, kind.
        labels: a name for each class.
        preprocessing: how any picture becomes an image.
        models: trained models by id.
        pipelines: pipelines that can be used.
        accuracies: of pipelines on the clean test set, where they are known.
        robustness: the study's first robustness experiment; None if there is none.
        generation: the study's first generation experiment; None if there is none.
        curves: curves of the first robustness experiment with results; None if there are none.
        skipped: experiments whose model can't be used, and why.
    """

    info: CatalogInfo
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    models: Mapping[str, TrainedModel]
    pipelines: tuple[Pipeline, ...]
    accuracies: Mapping[Pipeline, Estimate] = field(default_factory=dict)
    robustness: RobustnessPlan | None = None
    generation: GenerationPlan | None = None
    curves: RobustnessCurves | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.preprocessing.shape

    @property
    def classifiers(self) -> list[str]:
        """Ids of classifiers."""
        return [name for name, model in self.models.items() if model.task == "classification"]

    @property
    def denoisers(self) -> list[str]:
        """Ids of denoisers."""
        return [name for name, model in self.models.items() if model.task == "denoising"]

    @property
    def corruption(self) -> str | None:
        """The study's own corruption; None if it has none."""
        return self.robustness.corruption if self.robustness else None

    @property
    def sample_classifier(self) -> str | None:
        """The classifier of new images: the study's, else the first; None if there is none."""
        own = self.generation.classifier if self.generation else None
        return own if own in self.classifiers else next(iter(self.classifiers), None)


def catalog_of_model(path: Path, registry: ModelRegistry) -> Catalog:
    """What a lone trained model offers.

    Raises:
        InklabError: it can't be loaded.
    """
    name, model = registry.load(path)
    is_classifier = model.task == "classification"
    accuracy = model.manifest.metrics.get("test_accuracy")
    return Catalog(
        info=CatalogInfo(kind="model", title=model.name),
        labels=model.labels,
        preprocessing=model.preprocessing,
        models={name: model},
        pipelines=(Pipeline(name),) if is_classifier else (),
        accuracies={} if accuracy is None else {Pipeline(name): estimate([accuracy])},
    )


def catalog_of_run(run: Run, registry: ModelRegistry) -> Catalog:
    """What a run offers now: of each experiment its trained model, of a grid that of the best setting.

    What is not trained yet is missing; what can't be loaded, or runs code that is not trusted, is skipped.

    Raises:
        CorruptFileError: the plan or the results are damaged.
    """
    plan = run.plan
    results = run.results if (run.path / RESULTS_FILE).is_file() else None
    models, skipped = _load_models(run, registry)
    pipelines = tuple(_available_pipelines(run, models))
    accuracies = [(pipeline, _accuracy(pipeline, results)) for pipeline in pipelines] if results else []
    return Catalog(
        info=CatalogInfo(kind="run", title=plan.title, study=plan.study, profile=plan.profile),
        labels=plan.data.labels,
        preprocessing=plan.data.preprocessing,
        models=models,
        pipelines=pipelines,
        accuracies={pipeline: accuracy for pipeline, accuracy in accuracies if accuracy is not None},
        robustness=next((entry for entry in plan.experiments if isinstance(entry, RobustnessPlan)), None),
        generation=next((entry for entry in plan.experiments if isinstance(entry, GenerationPlan)), None),
        curves=_curves(results) if results else None,
        skipped=skipped,
    )


def _load_models(run: Run, registry: ModelRegistry) -> tuple[dict[str, TrainedModel], dict[str, str]]:
    """Models by experiment as far as they are there and can be used, and why others can't."""
    data = run.plan.data
    models, skipped = {}, {}
    for name in (experiment.name for experiment in run.plan.training):
        try:
            path = run.model_dir(name)
        except (RunError, ConfigError):  # its training is not done, or no setting can be chosen yet
            continue
        try:
            _, model = registry.load(path, name)
            if (model.labels, model.shape) != (data.labels, data.shape):
                raise CorruptFileError(f"'{path}' is damaged: its labels or images are not those of the plan")
            models[name] = model
        except InklabError as error:
            skipped[name] = str(error)
    return models, skipped


def _available_pipelines(run: Run, models: Mapping[str, TrainedModel]) -> Iterator[Pipeline]:
    """Pipelines of robustness experiments in their order, then every classifier alone, as far as usable."""
    planned = [
        pipeline
        for experiment in run.plan.experiments
        if isinstance(experiment, RobustnessPlan)
        for pipeline in experiment.pipelines
    ]
    tasks = {name: model.task for name, model in models.items()}
    for pipeline in dict.fromkeys((*planned, *map(Pipeline, models))):
        with suppress(ConfigError):
            pipeline.check(tasks, filters)
            yield pipeline


def _accuracy(pipeline: Pipeline, results: Results) -> Estimate | None:
    """Accuracy on clean test images; None if it isn't known.

    A classifier alone has it from its training, a pipeline from a robustness experiment with strength 0.
    """
    own = results.experiments.get(pipeline)
    if isinstance(own, TrainingResults):
        return own.best_first[0].metrics.get("test_accuracy")
    for experiment in results.experiments.values():
        if isinstance(experiment, RobustnessResults) and 0 in experiment.strengths:
            measured = experiment.pipelines.get(pipeline)
            if measured is not None:
                return measured.accuracy[experiment.strengths.index(0)]
    return None


def _curves(results: Results) -> RobustnessCurves | None:
    for name, entry in results.experiments.items():
        if isinstance(entry, RobustnessResults):
            return RobustnessCurves(
                experiment=name,
                corruption=entry.corruption,
                strengths=list(entry.strengths),
                pipelines={
                    pipeline: _curve(measured.recall) for pipeline, measured in entry.pipelines.items()
                },
            )
    return None


def _curve(estimates: Sequence[Estimate]) -> RecallCurve:
    """Means, and their bounds within [0, 1] if every point has some."""
    bounds = [entry.interval for entry in estimates if entry.interval is not None]
    is_complete = len(bounds) == len(estimates)
    return RecallCurve(
        recall=[entry.mean for entry in estimates],
        low=[max(low, 0.0) for low, _ in bounds] if is_complete else None,
        high=[min(high, 1.0) for _, high in bounds] if is_complete else None,
    )

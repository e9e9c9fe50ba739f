"""A study is data: TOML, validated into frozen records. Nothing here knows where or how it is run."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from inklab.errors import ConfigError, did_you_mean, nearest_name
from inklab.metrics import metric_reference
from inklab.records.components import (
    NetworkConfig,
    Normalization,
    ObjectName,
    Pipeline,
    PreprocessingChoice,
)
from inklab.records.plan import Reference
from inklab.records.recipe import DERIVED_DEFAULTS, Recipe
from inklab.records.record import (
    MAX_ENTRIES,
    Bounded,
    Few,
    FiniteJson,
    Names,
    NonNegativeFp32,
    Record,
    describe_error,
)
from inklab.usercode import absolute_name, is_live, map_names, names_in

MAX_TRIALS = 100_000  # of one experiment
MAX_OWN_METRICS = 100  # of one experiment

MAX_GRID_KEYS = 20
GRID_TABLES = ("network", "normalize", "recipe")  # what the keys of a grid begin with

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
Strengths = Annotated[tuple[NonNegativeFp32, ...], Few]
Short = Annotated[str, Field(max_length=300)]
ShortNames = Annotated[tuple[Short, ...], Few]
Images = Annotated[int, Field(le=1_000_000_000)]


class ReferenceSpec(Record):
    """What others measured.

    Attributes:
        source: whose numbers these are.
        dataset: the name of the dataset that they were measured on; a run on other images leaves them out.
        values: metric values by name; accuracies are shares in [0, 1].
        notes: what differs in protocol, one note an entry.
        epochs: of their training, if known; the plan notes where a study trains for fewer or more.
    """

    source: str
    dataset: str
    values: Annotated[dict[str, Bounded], Few]
    notes: Names = ()
    epochs: Annotated[int, Field(ge=1)] | None = None

    def planned(self, epochs: int | None) -> Reference:
        """The planned reference; a note says if its epochs differ from the experiment's."""
        notes = self.notes
        if self.epochs and epochs and self.epochs != epochs:
            notes += (f"{self.epochs} epochs (here {epochs})",)
        return Reference(source=self.source, dataset=self.dataset, values=self.values, notes=notes)


class Experiment(Record):
    """What every experiment has.

    Attributes:
        title: its heading.
        question: what is asked, in a sentence or two.
        explanations: names of written explanations that the report shows.
        references: what others measured.
    """

    title: str = ""
    question: str = ""
    explanations: Names = ()
    references: tuple[ReferenceSpec, ...] = ()


class DataExperiment(Experiment):
    """Shows the images: class balance, samples, what preprocessing does."""

    kind: Literal["data"] = "data"


def _name_to_table(value: object) -> object:
    return {"name": value} if isinstance(value, str) or callable(value) else value


class GridPoint(NamedTuple):
    """One point of an experiment's grid."""

    values: dict[str, JsonValue]  # by the last part of each key that is varied
    experiment: "TrainingExperiment"  # with these values in place and without a grid


class TrainingExperiment(Experiment):
    """Trains networks: each setting, each replicate.

    Attributes:
        network: `{name = ..., arguments...}`, or only the name; a registered one, `file.py:Name`, or a class
            or function that makes an `nn.Module`.
        normalize: in front of the network; "dataset" takes mean and std of the training images.
        recipe: how to train.
        grid: dotted keys below this experiment, such as "recipe.l2", to their values; all combinations of
            several keys are trained.
        replicates: trainings of each setting; replicate k has the same random streams in every setting.
        metrics: of the user's own, computed besides those of inklab: `file.py:name`, functions, or names
            that `metric` registered. They are part of each trial: with another one it is trained anew.
    """

    kind: Literal["training"] = "training"
    network: Annotated[NetworkConfig, BeforeValidator(_name_to_table)]
    normalize: Normalization = "none"
    recipe: Recipe = Recipe()
    grid: Annotated[
        dict[str, Annotated[tuple[FiniteJson, ...], Field(min_length=1, max_length=MAX_ENTRIES)]],
        Field(max_length=MAX_GRID_KEYS),
    ] = {}
    replicates: Annotated[int, Field(ge=1, le=10_000)] = 3
    metrics: Annotated[
        tuple[Annotated[str, BeforeValidator(metric_reference)], ...], Field(max_length=MAX_OWN_METRICS)
    ] = ()

    @field_serializer("recipe", mode="wrap")
    def _dump_recipe(
        self, recipe: Recipe, dump: Callable[[Recipe], dict[str, JsonValue]]
    ) -> dict[str, JsonValue]:
        """Without defaults that depend on other fields, which a grid or an override may change."""
        unset = set(DERIVED_DEFAULTS) - recipe.model_fields_set
        return {key: value for key, value in dump(recipe).items() if key not in unset}

    @field_validator("grid")
    @classmethod
    def _check_distinct(cls, grid: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
        names = _last_parts(grid)
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ValueError(
                f"two keys end in '{repeated[0]}', by which results name the settings; vary one of them, or "
                "make two experiments"
            )
        for key, values in grid.items():
            if any(values.count(value) > 1 for value in values):
                raise ValueError(f"'{key}' has the same value twice")
        return grid

    @model_validator(mode="after")
    def _check_count(self) -> "TrainingExperiment":
        n_trials = self.replicates * math.prod(len(values) for values in self.grid.values())
        if n_trials > MAX_TRIALS:
            raise ValueError(f"it has {n_trials:,} trials; at most {MAX_TRIALS:,} are allowed")
        return self

    def points(self) -> Iterator[GridPoint]:
        """Every point of the grid, the last key's values varying fastest; one point if there is no grid.

        Raises:
            ConfigError: a key names nothing, or a value is not allowed.
        """
        names = _last_parts(self.grid)
        for values in itertools.product(*self.grid.values()):
            yield GridPoint(dict(zip(names, values, strict=True)), self._at(values))

    def _at(self, values: tuple[object, ...]) -> "TrainingExperiment":
        table: dict[str, object] = {**self.to_json(), "grid": {}}
        for key, value in zip(self.grid, values, strict=True):
            _set_grid_value(table, key, value)
        try:
            return TrainingExperiment.model_validate(table)
        except ValidationError as error:
            problem = describe_error(error.errors(include_url=False)[0]).message
            message = f"grid gives {str(values)[:200]}, which is not allowed: {problem}"
            raise ConfigError(message, key="grid") from None

    def with_epochs(self, epochs: int) -> "TrainingExperiment":
        """The same experiment, trained for other epochs. Raises ConfigError: so many are not allowed."""
        fields = self.recipe.model_dump(mode="json", exclude_unset=True)
        recipe = Recipe.parse({**fields, "epochs": epochs}, "recipe")
        return self.model_copy(update={"recipe": recipe})


def _last_parts(keys: Mapping[str, object]) -> list[str]:
    return [key.rpartition(".")[2] for key in keys]


def _set_grid_value(table: dict[str, object], key: str, value: object) -> None:
    """Put a grid's value into an experiment's table. Only an argument of a network may be new there."""
    *path, last = key.split(".")
    if (path or [last])[0] not in GRID_TABLES:
        raise ConfigError(
            f"grid has the key '{key}'; a key begins with {', '.join(GRID_TABLES)}, such as recipe.l2",
            key=key,
            suggestion=nearest_name(key.partition(".")[0], GRID_TABLES),
        )
    for part in path:
        inner = table.get(part)
        if not isinstance(inner, dict):
            raise ConfigError(f"grid has the key '{key}', but there is no table '{part}'", key=key)
        table = inner
    known = list(Recipe.model_fields) if path == ["recipe"] else list(table)
    if last not in known and path != ["network"]:
        raise ConfigError(
            f"grid has the key '{key}'.{did_you_mean(last, known)} Allowed there: {', '.join(known)}",
            key=key,
            suggestion=nearest_name(last, known),
        )
    table[last] = value


class RobustnessExperiment(Experiment):
    """Compares pipelines as images get worse.

    Attributes:
        corruption: a registered corruption, `file.py:name` or a function; or an attack, "fgsm" or "pgd",
            against the gradient of each whole pipeline, whose strengths are budgets in [0, 1].
        attack_steps: gradient steps of "pgd"; 40 if left out.
        strengths: in the corruption's unit, increasing; the corruption's own if left out.
        images: test images used; all if left out.
        confusion_at: strengths at which confusion matrices are counted.
        pipelines: parts joined by `+`: training experiments and filters, a classifier last. A filter is a
            registered name, `file.py:name`, or, in a list of parts, a function.
        baseline: the pipeline that the others are compared with.
    """

    kind: Literal["robustness"] = "robustness"
    corruption: Annotated[ObjectName, Field(max_length=300)] = "salt_and_pepper"
    attack_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    strengths: Strengths | None = None
    images: Annotated[Images, Field(ge=1)] | None = None
    confusion_at: Strengths = (0.0, 0.25, 0.5)
    pipelines: Annotated[tuple[Pipeline, ...], Field(min_length=1, max_length=MAX_ENTRIES)]
    baseline: Pipeline

    @field_validator("strengths")
    @classmethod
    def _check_increasing(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and (not value or list(value) != sorted(set(value))):
            raise ValueError("strengths must increase")
        return value

    @model_validator(mode="after")
    def _check_baseline(self) -> "RobustnessExperiment":
        if self.baseline not in self.pipelines:
            raise ValueError(f"the baseline '{self.baseline}' is not one of its pipelines")
        return self


class GenerationExperiment(Experiment):
    """Draws new images from a decoder and scores them.

    Attributes:
        decoder: the training experiment whose network has an encoder and a decoder.
        classifier: the training experiment whose network scores.
        samplers: registered ways to draw codes.
        samples: images drawn and scored by each.
        mixture_components: of the mixture.
        max_fit_images: most training images whose codes are fitted.
        nn_images: samples for which the nearest training image is sought.
    """

    kind: Literal["generation"] = "generation"
    decoder: Short
    classifier: Short
    samplers: ShortNames = ("binary", "uniform", "gaussian", "mixture", "perturbed")
    samples: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    mixture_components: Annotated[int, Field(ge=1, le=10_000)] = 50
    max_fit_images: Annotated[Images, Field(ge=100)] = 20_000
    nn_images: Annotated[Images, Field(ge=10)] = 2_000


class CorruptionErrorExperiment(Experiment):
    """Puts robustness experiments together: errors relative to the baseline's, and their mean (mCE).

    Attributes:
        experiments: robustness experiments with one baseline, one for each corruption. Values of its
            references are accuracies by their names, and `clean`.
    """

    kind: Literal["corruption-error"] = "corruption-error"
    experiments: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MAX_ENTRIES)]

    @field_validator("experiments")
    @classmethod
    def _check_distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if repeated := [name for name in value if value.count(name) > 1]:
            raise ValueError(f"experiments names '{repeated[0]}' twice")
        return value


class FindingsExperiment(Experiment):
    """Sentences computed from the numbers."""

    kind: Literal["findings"] = "findings"


def _kind_of(value: object) -> str:
    kind = value.get("kind", "training") if isinstance(value, Mapping) else getattr(value, "kind", "training")
    return str(kind)


AnyExperiment = Annotated[
    Annotated[DataExperiment, Tag("data")]
    | Annotated[TrainingExperiment, Tag("training")]
    | Annotated[RobustnessExperiment, Tag("robustness")]
    | Annotated[GenerationExperiment, Tag("generation")]
    | Annotated[CorruptionErrorExperiment, Tag("corruption-error")]
    | Annotated[FindingsExperiment, Tag("findings")],
    Discriminator(_kind_of),
]


class DataSpec(Record):
    """Where images come from.

    Attributes:
        dataset: a registered name or a path; "default" is mnist if it is available, else mnist-5k, with a
            note.
        validation: training images held out for choosing; by default 5,000 of 60,000.
        preprocessing: how pictures become such images: "auto" decides from the dataset, "mnist" detects and
            centers ink, "resize" only resizes; or a table.
        transpose: exchange rows and columns of every image, where digits lie on their side.
        test_on: datasets whose test sets classifiers are evaluated on, too; classes and sizes must be equal.
    """

    dataset: str = "default"
    preprocessing: PreprocessingChoice = "auto"
    transpose: bool = False
    test_on: Annotated[tuple[str, ...], Field(max_length=16)] = ()
    validation: Annotated[Images, Field(ge=0)] | None = None


class StudySpec(Record):
    """The whole question: what to compare, on what, how often.

    Attributes:
        name: part of the run directory's path.
        title: the report's heading.
        description: one paragraph below it.
        seed: root of all randomness.
        precision: "auto": bf16 where the processor has it, for networks that come with inklab; else fp32.
        data: where images come from.
        experiments: by name, in the order of the report.
    """

    name: Name
    title: str = ""
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    data: DataSpec = DataSpec()
    experiments: Annotated[dict[Name, AnyExperiment], Field(min_length=1)]

    @property
    def training(self) -> dict[str, TrainingExperiment]:
        """The experiments that train networks, by name."""
        return {
            name: experiment
            for name, experiment in self.experiments.items()
            if isinstance(experiment, TrainingExperiment)
        }

    @property
    def with_absolute_code(self) -> "StudySpec":
        """The same study, with the user's files named so that they are found from every working directory."""
        return StudySpec.model_validate(map_names(self.to_json(), absolute_name))

    @property
    def live_objects(self) -> tuple[str, ...]:
        """References of the Python objects in it, such as a network class of a notebook."""
        return tuple(dict.fromkeys(text for text in _strings(self.to_json()) if is_live(text)))


def _strings(value: object) -> Iterator[str]:
    """Every string in JSON values, of a pipeline every part."""
    if isinstance(value, str):
        yield from names_in(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


class SavedStudy(Record):
    """The study of a run, with all changes applied: `study.json`, which `inklab resume` reads."""

    repair_advice: ClassVar[str] = "run the command again that began the run"

    format: Literal[2] = 2
    profile: str
    study: StudySpec


class SmallDataRule(Record):
    """What a study does on few images: few images make few steps, so it trains longer.

    Attributes:
        fewer_than: the rule applies below so many training images, validation images among them.
        epochs_factor: what every recipe's epochs are multiplied by; epochs that `--set` gives stay.
    """

    fewer_than: Annotated[int, Field(ge=1)]
    epochs_factor: Annotated[int, Field(ge=1, le=1000)]

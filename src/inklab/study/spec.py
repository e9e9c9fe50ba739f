"""A study is data: TOML, read strictly into frozen models. Nothing here knows where or how it is run."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from inklab.training.recipe import MAX_FP32, Augmentation, Recipe

MAX_COMPARED = 1000  # values, strengths, pipelines, samplers: a study of more was not meant
MAX_TRAININGS = 100_000  # of one chapter

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
Strength = Annotated[float, Field(ge=0, le=MAX_FP32)]
Strengths = Annotated[tuple[Strength, ...], Field(max_length=MAX_COMPARED)]
Short = Annotated[str, Field(max_length=300)]
Names = Annotated[tuple[Short, ...], Field(max_length=MAX_COMPARED)]
Bounded = Annotated[float, Field(ge=-MAX_FP32, le=MAX_FP32)]
Images = Annotated[int, Field(le=1_000_000_000)]


class ModelSpec(BaseModel):
    """Frozen, and unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Reference(ModelSpec):
    """What others measured.

    Attributes:
        who: whose numbers these are.
        values: score name to value; rates as shares in [0, 1].
        differs: what differs in protocol.
        epochs: of their training, if known; a study that trains for fewer or more then says so.
    """

    who: str
    values: Annotated[dict[str, Bounded], Field(max_length=MAX_COMPARED)]
    differs: str = ""
    epochs: Annotated[int, Field(ge=1)] | None = None


class Experiment(ModelSpec):
    """What every chapter has.

    Attributes:
        title: its heading.
        question: what is asked, in a sentence or two.
        answers: written explanations by name, shown in the report.
        references: what others measured.
    """

    title: str = ""
    question: str = ""
    answers: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()


class DataExperiment(Experiment):
    """Shows the images: class balance, samples, what preprocessing does."""

    kind: Literal["data"]


class ScalingSpec(ModelSpec):
    """What stands in front of the network: `(images - mean) / spread`, images in [0, 1]."""

    mean: Bounded = 0.0
    spread: Annotated[float, Field(gt=0, le=MAX_FP32)] = 1.0


class TrainingExperiment(Experiment):
    """Trains networks: each setting, each replicate.

    Attributes:
        model: `{name = ..., settings...}`; a registered name or `file.py:Name`.
        scaling: inside the network; "standard" takes mean and spread of the training images.
        recipe: how to train.
        vary: dotted keys below this chapter, such as "recipe.l2", to their values; several make a grid.
        replicates: trainings of each setting; replicate k has the same random streams in every setting.
    """

    kind: Literal["train"] = "train"
    model: dict[str, Any]
    scaling: ScalingSpec | Literal["none", "standard"] = "none"
    recipe: Recipe = Recipe()
    vary: dict[str, Annotated[tuple[Any, ...], Field(min_length=1, max_length=MAX_COMPARED)]] = Field(
        default_factory=dict, max_length=20
    )
    replicates: Annotated[int, Field(ge=1, le=10_000)] = 3

    @field_validator("model", mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        model = {"name": value} if isinstance(value, str) else value
        if isinstance(model, dict) and not isinstance(model.get("name"), str):
            raise ValueError("a model needs a name, such as { name = 'mlp' }")
        return model

    @field_validator("vary")
    @classmethod
    def _distinct(cls, value: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        names = [key.rpartition(".")[2] for key in value]
        twice = [name for name in names if names.count(name) > 1]
        if twice:  # settings are told apart by these names in results.json
            raise ValueError(f"two keys end in '{twice[0]}'; vary one of them, or make two chapters")
        for key, values in value.items():
            if any(values.count(each) > 1 for each in values):
                raise ValueError(f"'{key}' has the same value twice")
        return value

    @model_validator(mode="after")
    def _bounded(self) -> "TrainingExperiment":
        count = self.replicates * math.prod(len(values) for values in self.vary.values())
        if count > MAX_TRAININGS:
            raise ValueError(f"it has {count:,} trainings; at most {MAX_TRAININGS:,} are allowed")
        return self


class RobustnessExperiment(Experiment):
    """Compares whole pipelines as images get worse.

    Attributes:
        corruption: a registered corruption or `file.py:name`.
        strengths: in the corruption's unit, rising.
        images: test images used; all if left out.
        confusions: strengths at which confusion matrices are shown.
        pipelines: parts joined by `+`: train chapters and filters, a classifier last.
        alone: the pipeline that the others are compared with.
    """

    kind: Literal["noise"]
    corruption: Short = "salt_and_pepper"
    strengths: Strengths = tuple(i / 20 for i in range(21))
    images: Annotated[Images, Field(ge=1)] | None = None
    confusions: Strengths = (0.0, 0.25, 0.5)
    pipelines: Annotated[Names, Field(min_length=1)]
    alone: Short

    @field_validator("strengths")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or list(value) != sorted(set(value)):
            raise ValueError("strengths must rise")
        return value


class GenerationExperiment(Experiment):
    """Draws new images from a decoder and scores them.

    Attributes:
        decoder: the train chapter whose network has an encoder and a decoder.
        judge: the train chapter whose classifier judges.
        samplers: registered ways to draw codes.
        samples: images drawn and scored by each.
        components: of the mixture.
        fit_images: clean training images whose codes are fitted.
        nearest_images: samples for which the nearest training image is sought.
    """

    kind: Literal["generator"]
    decoder: Short
    judge: Short
    samplers: Names = ("binary", "uniform", "gaussian", "mixture", "perturbed")
    samples: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    components: Annotated[int, Field(ge=1, le=10_000)] = 50
    fit_images: Annotated[Images, Field(ge=100)] = 20_000
    nearest_images: Annotated[Images, Field(ge=10)] = 2_000


class FindingsExperiment(Experiment):
    """Sentences computed from the numbers."""

    kind: Literal["findings"]


def kind_of(value: Any) -> str:
    """What kind of chapter a table, or one that was read, is: "train" unless it says otherwise."""
    kind = value.get("kind", "train") if isinstance(value, Mapping) else getattr(value, "kind", "train")
    return str(kind)


AnyExperiment = Annotated[
    Annotated[DataExperiment, Tag("data")]
    | Annotated[TrainingExperiment, Tag("train")]
    | Annotated[RobustnessExperiment, Tag("noise")]
    | Annotated[GenerationExperiment, Tag("generator")]
    | Annotated[FindingsExperiment, Tag("findings")],
    Discriminator(kind_of),
]


class DataSpec(ModelSpec):
    """Where images come from.

    Attributes:
        source: a registered source or a path; "default" is mnist where it can be had, else mnist-5k, loudly.
        validation: training images held out for choosing; by default 5,000 of 60,000.
    """

    source: str = "default"
    validation: Annotated[Images, Field(ge=0)] | None = None


class StudySpec(ModelSpec):
    """The whole question: what to compare, on what, how often.

    Attributes:
        name: part of the run folder's path.
        title: the report's heading.
        about: one paragraph below it.
        seed: root of all randomness.
        precision: "auto": bf16 where the processor has it, for networks that come with inklab; else fp32.
        data: where images come from.
        chapters: in the order of the report.
    """

    name: Name
    title: str = ""
    about: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    data: DataSpec = DataSpec()
    chapters: Annotated[dict[Name, AnyExperiment], Field(min_length=1)]

    @field_validator("chapters")
    @classmethod
    def _findings(cls, value: dict[Name, AnyExperiment]) -> dict[Name, AnyExperiment]:
        if "findings" in value and not isinstance(value["findings"], FindingsExperiment):
            raise ValueError("'findings' is where results.json has its findings; call this chapter otherwise")
        return value

    def train_chapters(self) -> dict[str, TrainingExperiment]:
        """The chapters that train, by name."""
        return {
            name: chapter
            for name, chapter in self.chapters.items()
            if isinstance(chapter, TrainingExperiment)
        }


class SmallDataRule(ModelSpec):
    """What a study does where its source has few images: few images make few steps, so it trains longer.

    Attributes:
        below: training images (before validation images are held out) that count as few.
        epochs_times: what every recipe's epochs are multiplied with; what `--set` says stands.
    """

    below: Annotated[int, Field(ge=1)]
    epochs_times: Annotated[int, Field(ge=1, le=1000)]


FIELDS: dict[str, Sequence[str]] = {
    "study": list(StudySpec.model_fields),
    "data source": list(DataSpec.model_fields),
    "recipe": [*Recipe.model_fields, "base"],
    "augmentation": list(Augmentation.model_fields),
    "corruption": ["name", "strength"],
    "scaling": list(ScalingSpec.model_fields),
    "reference": list(Reference.model_fields),
    "data": list(DataExperiment.model_fields),
    "train": list(TrainingExperiment.model_fields),
    "noise": list(RobustnessExperiment.model_fields),
    "generator": list(GenerationExperiment.model_fields),
    "findings": list(FindingsExperiment.model_fields),
}
"""What may stand where, for messages."""

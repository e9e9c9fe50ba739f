"""A study is data: TOML, read strictly into frozen models. Nothing here knows where or how it is run."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator

from inklab.errors import SpecError, UnknownName
from inklab.study.mistakes import told
from inklab.train.recipe import Recipe, read_recipe

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
Strength = Annotated[float, Field(ge=0)]


class Model(BaseModel):
    """Frozen, and unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Reference(Model):
    """What others measured.

    Attributes:
        who: whose numbers these are.
        values: score name to value; rates as shares in [0, 1].
        differs: what differs in protocol.
        epochs: of their training, if known; a study that trains for fewer or more then says so.
    """

    who: str
    values: dict[str, float]
    differs: str = ""
    epochs: Annotated[int, Field(ge=1)] | None = None


class Chapter(Model):
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


class DataChapter(Chapter):
    """Shows the images: class balance, samples, what preprocessing does."""

    kind: Literal["data"]


class ScalingSpec(Model):
    """What stands in front of the network: `(images - mean) / spread`, images in [0, 1]."""

    mean: float = 0.0
    spread: Annotated[float, Field(gt=0)] = 1.0


class TrainChapter(Chapter):
    """Trains networks: each setting, each replicate.

    Attributes:
        model: `{name = ..., settings...}`; a registered name or `file.py:Name`.
        scaling: inside the network; "standard" takes mean and spread of the training images.
        recipe: how to train.
        vary: dotted key below this chapter, such as "recipe.l2", to the values it takes. Several keys make a
            grid.
        replicates: trainings of each setting; replicate k has the same random streams in every setting.
    """

    kind: Literal["train"] = "train"
    model: dict[str, Any]
    scaling: ScalingSpec | Literal["none", "standard"] = "none"
    recipe: Recipe = Recipe()
    vary: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(default_factory=dict)
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


class NoiseChapter(Chapter):
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
    corruption: str = "salt_and_pepper"
    strengths: tuple[Strength, ...] = tuple(i / 20 for i in range(21))
    images: Annotated[int, Field(ge=1)] | None = None
    confusions: tuple[Strength, ...] = (0.0, 0.25, 0.5)
    pipelines: Annotated[tuple[str, ...], Field(min_length=1)]
    alone: str

    @field_validator("strengths")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or list(value) != sorted(set(value)):
            raise ValueError("strengths must rise")
        return value


class GeneratorChapter(Chapter):
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
    decoder: str
    judge: str
    samplers: tuple[str, ...] = ("binary", "uniform", "gaussian", "mixture", "perturbed")
    samples: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    components: Annotated[int, Field(ge=1)] = 50
    fit_images: Annotated[int, Field(ge=100)] = 20_000
    nearest_images: Annotated[int, Field(ge=10)] = 2_000


class FindingsChapter(Chapter):
    """Sentences computed from the numbers."""

    kind: Literal["findings"]


def _kind(value: Any) -> str:
    kind = value.get("kind", "train") if isinstance(value, Mapping) else getattr(value, "kind", "train")
    return str(kind)


AnyChapter = Annotated[
    Annotated[DataChapter, Tag("data")]
    | Annotated[TrainChapter, Tag("train")]
    | Annotated[NoiseChapter, Tag("noise")]
    | Annotated[GeneratorChapter, Tag("generator")]
    | Annotated[FindingsChapter, Tag("findings")],
    Discriminator(_kind),
]


class DataSpec(Model):
    """Where images come from.

    Attributes:
        source: a registered source or a path; "default" is mnist where it can be had, otherwise mnist-5k,
            loudly.
        validation: training images held out for choosing; by default 5,000 of 60,000.
    """

    source: str = "default"
    validation: Annotated[int, Field(ge=0)] | None = None


class StudySpec(Model):
    """The whole question: what to compare, on what, how often.

    Attributes:
        name: part of the run folder's path.
        title: the report's heading.
        about: one paragraph below it.
        seed: root of all randomness.
        precision: "auto" is bf16 where the processor has it, for the networks that come with inklab; else
            fp32.
        data: where images come from.
        chapters: in the order of the report.
    """

    name: Name
    title: str = ""
    about: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    data: DataSpec = DataSpec()
    chapters: Annotated[dict[Name, AnyChapter], Field(min_length=1)]

    def train_chapters(self) -> dict[str, TrainChapter]:
        """The chapters that train, by name."""
        return {name: chapter for name, chapter in self.chapters.items() if isinstance(chapter, TrainChapter)}


def builtin_studies() -> list[str]:
    """Names of the studies that come with inklab."""
    return sorted(
        entry.name.removesuffix(".toml") for entry in _builtin().iterdir() if entry.name.endswith(".toml")
    )


def read_study(study: str, *, profile: str | None = None, sets: Sequence[str] = ()) -> tuple[StudySpec, str]:
    """Read a study, with a profile and changes applied.

    Args:
        study: a built-in name or the path of a TOML file.
        profile: one of the study's profiles; its first if left out, "plain" if it has none.
        sets: changes such as "l2-sweep.replicates=40", applied last.

    Returns:
        The study and the name of the profile.

    Raises:
        SpecError: all mistakes in one message.
    """
    raw, folder = _raw(study)
    profiles = raw.pop("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(changes, dict) for changes in profiles.values()):
        raise SpecError(f"study '{study}': profiles must be tables, such as [profiles.quick]")
    profile = profile or next(iter(profiles), "plain")
    if profile != "plain" and profile not in profiles:
        raise UnknownName("profile", profile, [*profiles, "plain"])
    for key, value in profiles.get(profile, {}).items():
        put(raw, key, value, f"profile '{profile}'")
    for change in sets:
        key, value = parse_set(change)
        put(raw, key, value, f"--set {change}")
    return parse_study(raw, study, folder), profile


def parse_study(raw: dict[str, Any], origin: str, folder: Path | None = None) -> StudySpec:
    """Check a study's tables.

    Args:
        raw: as read from TOML; recipes may name a base.
        origin: named in messages.
        folder: where relative recipe files start.

    Raises:
        SpecError: all mistakes in one message.
    """
    raw = json.loads(json.dumps(raw, default=str))  # a copy, with dates and the like as text
    chapters = raw.get("chapters")
    for name, chapter in chapters.items() if isinstance(chapters, dict) else ():
        try:
            _resolve_recipe(chapter, folder)
        except SpecError as error:
            raise SpecError(f"study '{origin}': '{name}.recipe': {error}") from error
    try:
        return StudySpec.model_validate(raw)
    except ValidationError as error:
        raise SpecError(f"study '{origin}': {told(error, FIELDS)}") from None


def _resolve_recipe(chapter: Any, folder: Path | None) -> None:
    """Put a named recipe's fields in place of its name; what stands beside `base` wins."""
    recipe = chapter.get("recipe") if isinstance(chapter, dict) else None
    if isinstance(recipe, str):
        chapter["recipe"] = read_recipe(recipe, folder)
    elif isinstance(recipe, dict) and "base" in recipe:
        chapter["recipe"] = {**read_recipe(str(recipe.pop("base")), folder), **recipe}


def parse_set(change: str) -> tuple[str, object]:
    """Split `key=value`; the value is read as TOML, and as text where it is none.

    Example:
        >>> parse_set("l2-sweep.replicates=40"), parse_set("data.source=mnist-5k")
        (('l2-sweep.replicates', 40), ('data.source', 'mnist-5k'))

    Raises:
        SpecError: there is no `=`.
    """
    key, sign, text = change.partition("=")
    if not sign or not key.strip():
        raise SpecError(f"--set '{change}' is not key=value; write for example --set cnn.recipe.epochs=3")
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    return key.strip(), value


def _raw(study: str) -> tuple[dict[str, Any], Path]:
    if study in builtin_studies():
        return tomllib.loads((_builtin() / f"{study}.toml").read_text(encoding="utf-8")), Path()
    path = Path(study)
    if not path.suffix:
        raise UnknownName("study", study, builtin_studies())
    if not path.is_file():
        raise SpecError(f"there is no study file '{study}'; built-in studies: {', '.join(builtin_studies())}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), path.parent
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"'{study}' is not TOML: {error}") from error


def put(raw: dict[str, Any], key: str, value: object, where: str) -> None:
    """Set a dotted key; its first part is a chapter or a field of the study."""
    parts = key.split(".")
    chapters = raw.get("chapters")
    chapters = chapters if isinstance(chapters, dict) else {}
    if parts[0] not in StudySpec.model_fields:  # fields first: a chapter may be called "data"
        if parts[0] not in chapters:
            known = {*chapters, *StudySpec.model_fields} - {"chapters"}
            raise SpecError(f"{where}: {UnknownName('chapter or field', parts[0], known)}")
        parts = ["chapters", *parts]
    if parts[0] == "chapters" and len(parts) == 2 and parts[1] in chapters:
        raise SpecError(f"{where}: '{parts[1]}' is a chapter; set something in it, such as {parts[1]}.title")
    if parts[0] == "chapters" and parts[2:3] == ["vary"] and len(parts) > 3:
        parts = [*parts[:3], ".".join(parts[3:])]  # keys of vary have dots themselves
    table = raw
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise SpecError(f"{where}: '{part}' is a single value, so nothing can be set below it")
    table[parts[-1]] = value


def _builtin() -> Any:
    return resources.files("inklab.study") / "builtin"


FIELDS: dict[str, Sequence[str]] = {
    "study": list(StudySpec.model_fields),
    "data source": list(DataSpec.model_fields),
    "recipe": [*Recipe.model_fields, "base"],
    "corruption": ["name", "strength"],
    "scaling": list(ScalingSpec.model_fields),
    "reference": list(Reference.model_fields),
    "data": list(DataChapter.model_fields),
    "train": list(TrainChapter.model_fields),
    "noise": list(NoiseChapter.model_fields),
    "generator": list(GeneratorChapter.model_fields),
    "findings": list(FindingsChapter.model_fields),
}
"""What may stand where, for messages."""

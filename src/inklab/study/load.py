"""Studies read from TOML and made ready to run; every mistake in one message."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from inklab.data.dataset import Dataset, Split, split
from inklab.data.sources import load, load_default
from inklab.errors import ConfigError, UnknownNameError, did_you_mean
from inklab.evaluation.samplers import samplers
from inklab.io.documents import check_depth, parse_toml, read_toml
from inklab.study.planner import DataIdentity, default_validation, run_id
from inklab.study.spec import (
    FIELDS,
    GenerationExperiment,
    RobustnessExperiment,
    SmallDataRule,
    StudySpec,
    TrainingExperiment,
    kind_of,
)
from inklab.training.objectives import objectives
from inklab.training.recipe import Recipe, read_recipe

CONTAINERS = {
    "recipe": "recipe",
    "augmentation": "augmentation",
    "corruption": "corruption",
    "references": "reference",
    "ScalingSpec": "scaling",
}

MAX_REPORTED = 10
MAX_SHOWN_LENGTH = 60  # characters of what was given, and of each part of its place
KINDS = ("data", "train", "noise", "generator", "findings")
SCALING_WORDS = "literal['none','standard']"  # what pydantic calls that half of a union
A_TABLE, A_LIST = "it must be a table, such as { key = 1 }", "it must be a list, such as [1, 2]"
PLAIN = {
    "model_type": A_TABLE, "dict_type": A_TABLE, "model_attributes_type": A_TABLE, "tuple_type": A_LIST,
    "too_short": "it needs at least one entry",
}  # fmt: skip
"""Words for mistakes that pydantic tells in Python's."""


def format_validation_error(error: ValidationError, fields: Mapping[str, Sequence[str]]) -> str:
    """The mistakes of a validation, one after the other; of very many the first ten.

    Args:
        error: what pydantic found.
        fields: what may stand in each kind of table.
    """
    found = [detail for detail in error.errors() if not _is_secondary(detail)]
    lines = [_format_issue(detail, fields) for detail in found[:MAX_REPORTED]]
    more = [f"and {len(found) - MAX_REPORTED:,} more"] if len(found) > MAX_REPORTED else []
    return "; ".join([*dict.fromkeys(lines), *more])


def _is_secondary(detail: ErrorDetails) -> bool:
    """Whether it tells of the other form that scaling may have: a word or a table."""
    form = str(detail["loc"][-1]) if detail["loc"] else ""
    if form == "ScalingSpec":
        return not isinstance(detail["input"], Mapping)
    return form == SCALING_WORDS and isinstance(detail["input"], Mapping)


def _format_issue(detail: ErrorDetails, fields: Mapping[str, Sequence[str]]) -> str:
    place, table = _location(detail["loc"], fields)
    last = str(detail["loc"][-1]) if detail["loc"] else ""
    if detail["type"] == "extra_forbidden":
        allowed = fields[table]
        hint = did_you_mean(last, allowed) or _at_parent(last, table, fields)
        return f"{place} is unknown.{hint} Allowed here: {', '.join(allowed)}"
    if detail["type"] == "missing":
        return f"{place} is missing"
    if detail["type"] == "union_tag_invalid":
        kind = str(detail["ctx"]["tag"])[:MAX_SHOWN_LENGTH]
        return f"{place} has the kind '{kind}'.{did_you_mean(kind, KINDS)} Known: {', '.join(KINDS)}"
    message = PLAIN.get(detail["type"], detail["msg"].removeprefix("Value error, "))
    given = repr(detail["input"])
    shown = given if len(given) <= MAX_SHOWN_LENGTH else given[: MAX_SHOWN_LENGTH - 3] + "..."
    return f"{place} is {shown}: {message[0].lower()}{message[1:]}{_hint(detail)}"


def _hint(detail: ErrorDetails) -> str:
    """The hint for a value that is one of a few words."""
    if detail["type"] != "literal_error":
        return ""
    hint = did_you_mean(str(detail["input"]), re.findall(r"'(\w+)'", detail["ctx"]["expected"]))
    return hint and f".{hint}"


def _at_parent(name: str, table: str, fields: Mapping[str, Sequence[str]]) -> str:
    """`cnn.epocs`: what is meant lies in the chapter's recipe."""
    return did_you_mean(name, fields["recipe"]).replace("'", "'recipe.", 1) if table == "train" else ""


def _location(loc: tuple[int | str, ...], fields: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """The dotted place as the user writes it, and the kind of table that it lies in."""
    parts = [str(part) for part in loc]
    table = "study"
    if parts[:1] == ["chapters"]:
        shown = parts[1:2] + parts[3:] or parts  # pydantic puts the kind after the chapter's name
        table = parts[2] if len(parts) > 2 else "train"
    else:
        shown = parts
        table = "data source" if parts[:1] == ["data"] and len(parts) > 1 else table
    for part in parts[2:-1]:
        table = CONTAINERS.get(part, table)
    hidden = ("ScalingSpec", SCALING_WORDS, "[key]")
    return (
        f"'{'.'.join(part[:MAX_SHOWN_LENGTH] for part in shown if part not in hidden)}'",
        table if table in fields else "study",
    )


def builtin_studies() -> list[str]:
    """Names of the studies that come with inklab."""
    return sorted(
        entry.name.removesuffix(".toml") for entry in _builtin().iterdir() if entry.name.endswith(".toml")
    )


def read_study(
    study: str, *, profile: str | None = None, sets: Sequence[str] = (), train_images: int | None = None
) -> tuple[StudySpec, str]:
    """Read a study, with a profile and changes applied.

    Args:
        study: a built-in name or the path of a TOML file.
        profile: one of the study's profiles; its first if left out, "plain" if it has none.
        sets: changes such as "l2-sweep.replicates=40", applied last.
        train_images: of the source, if known; few of them bring in the study's table `small`.

    Returns:
        The study and the name of the profile.

    Raises:
        ConfigError: all mistakes in one message.
    """
    raw, folder = _read_toml(study)
    profiles = raw.pop("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(changes, dict) for changes in profiles.values()):
        raise ConfigError(f"study '{study}': profiles must be tables, such as [profiles.quick]")
    profile = profile or next(iter(profiles), "plain")
    if profile != "plain" and profile not in profiles:
        raise UnknownNameError("profile", profile, [*profiles, "plain"])
    for key, value in profiles.get(profile, {}).items():
        set_dotted(raw, key, value, f"profile '{profile}'")
    small = raw.pop("small", None)
    changes = {change: parse_override(change) for change in sets}
    for change, (key, value) in changes.items():
        set_dotted(raw, key, value, f"--set {change}")
    _scale_epochs_for_small_data(
        raw, _parse_small_rule(small, study), train_images, {key for key, _ in changes.values()}, folder
    )
    return parse_study(raw, study, folder), profile


def parse_study(raw: dict[str, Any], origin: str, folder: Path | None = None) -> StudySpec:
    """Check a study's tables.

    Args:
        raw: as read from TOML; recipes may name a base.
        origin: named in messages.
        folder: where relative recipe files start.

    Raises:
        ConfigError: all mistakes in one message.
    """
    try:
        check_depth(raw)
        raw = json.loads(json.dumps(raw, default=str))  # a copy, with dates and the like as text
    except ValueError as error:  # also whole numbers of thousands of digits
        raise ConfigError(f"study '{origin}': {error}") from error
    chapters = raw.get("chapters")
    for name, chapter in chapters.items() if isinstance(chapters, dict) else ():
        try:
            _resolve_recipe(chapter, folder)
        except ConfigError as error:
            raise ConfigError(f"study '{origin}': '{name}.recipe': {error}") from error
    try:
        return StudySpec.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"study '{origin}': {format_validation_error(error, FIELDS)}") from None


def _parse_small_rule(told_small: object, study: str) -> SmallDataRule | None:
    try:
        return None if told_small is None else SmallDataRule.model_validate(told_small)
    except ValidationError as error:
        mistakes = format_validation_error(error, {**FIELDS, "study": [*SmallDataRule.model_fields]})
        raise ConfigError(f"study '{study}', small: {mistakes}") from None


def _scale_epochs_for_small_data(
    raw: dict[str, Any],
    small: SmallDataRule | None,
    train_images: int | None,
    changed: set[str],
    folder: Path,
) -> None:
    """Multiply the epochs of every chapter whose epochs nobody set, if the source is small."""
    chapters = raw.get("chapters")
    if small is None or train_images is None or train_images >= small.below or not isinstance(chapters, dict):
        return
    for name, chapter in chapters.items():
        if (
            isinstance(chapter, dict)
            and kind_of(chapter) == "train"
            and f"{name}.recipe.epochs" not in changed
        ):
            _resolve_recipe(chapter, folder)
            recipe = chapter.setdefault("recipe", {})
            epochs = recipe.get("epochs", Recipe().epochs) if isinstance(recipe, dict) else None
            if isinstance(epochs, int):  # anything else is told as a mistake by parse_study
                recipe["epochs"] = epochs * small.epochs_times


def _resolve_recipe(chapter: Any, folder: Path | None) -> None:
    """Put a named recipe's fields in place of its name, and its network where the chapter names none.

    What stands beside `base` wins.
    """
    recipe = chapter.get("recipe") if isinstance(chapter, dict) else None
    if isinstance(recipe, str):
        recipe = {"base": recipe}
    if not isinstance(recipe, dict) or "base" not in recipe:
        return
    file = read_recipe(str(recipe.pop("base")), folder)
    chapter["recipe"] = {**file.fields, **recipe}
    own = chapter.get("model", {})
    if file.network and isinstance(own, dict) and "name" not in own:  # settings alone are set on the file's
        own = {**file.network["model"], **own} if isinstance(file.network.get("model"), dict) else own
        chapter.update({**file.network, **chapter, "model": own})


def parse_override(change: str) -> tuple[str, object]:
    """Split `key=value`; the value is read as TOML, and as text where it is none.

    Example:
        >>> parse_override("l2-sweep.replicates=40"), parse_override("data.source=mnist-5k")
        (('l2-sweep.replicates', 40), ('data.source', 'mnist-5k'))

    Raises:
        ConfigError: there is no `=`.
    """
    key, sign, text = change.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"--set '{change}' is not key=value; write for example --set cnn.recipe.epochs=3")
    try:
        value = parse_toml(f"value = {text.strip()}", change)["value"]
    except ConfigError:
        value = text.strip()
    return key.strip(), value


def _read_toml(study: str) -> tuple[dict[str, Any], Path]:
    if study in builtin_studies():
        return parse_toml((_builtin() / f"{study}.toml").read_text(encoding="utf-8"), study), Path()
    path = Path(study)
    if not path.suffix:
        raise UnknownNameError("study", study, builtin_studies())
    if not os.path.isfile(path):
        raise ConfigError(
            f"there is no study file '{study}'; built-in studies: {', '.join(builtin_studies())}"
        )
    return read_toml(path), path.parent


def set_dotted(raw: dict[str, Any], key: str, value: object, where: str) -> None:
    """Set a dotted key; its first part is a chapter or a field of the study."""
    parts = key.split(".")
    chapters = raw.get("chapters")
    chapters = chapters if isinstance(chapters, dict) else {}
    if parts[0] not in StudySpec.model_fields:  # fields first: a chapter may be called "data"
        if parts[0] not in chapters:
            known = {*chapters, *StudySpec.model_fields} - {"chapters"}
            raise ConfigError(f"{where}: {UnknownNameError('chapter or field', parts[0], known)}")
        parts = ["chapters", *parts]
    if parts[0] == "chapters" and len(parts) == 2 and parts[1] in chapters:
        raise ConfigError(
            f"{where}: '{parts[1]}' is a chapter; set something in it, such as {parts[1]}.title"
        )
    if parts[0] == "chapters" and parts[2:3] == ["vary"] and len(parts) > 3:
        parts = [*parts[:3], ".".join(parts[3:])]  # keys of vary have dots themselves
    table = raw
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{where}: '{part}' is a single value, so nothing can be set below it")
    table[parts[-1]] = value


def _builtin() -> Any:
    return resources.files("inklab.study") / "studies"


def check_names(spec: StudySpec) -> None:
    """Refuse names that mean nothing, and strengths that a corruption does not have, before training.

    Raises:
        UnknownNameError: with the nearest right name.
        ConfigError: a train chapter is called like a filter, or trains what its place in a pipeline can't
            use.
        OutOfRangeError: a strength is too large.
    """
    from inklab.corruptions.corruption import get_corruption  # torch: not needed to read a study
    from inklab.corruptions.filters import filters

    chapters = spec.train_chapters()
    if taken := sorted(set(chapters) & set(filters)):
        raise ConfigError(
            f"'{taken[0]}' is a filter in pipelines, so no train chapter may be called so; rename it"
        )
    for chapter in chapters.values():
        objectives[chapter.recipe.objective]
        if chapter.recipe.corruption:
            corruption = get_corruption(chapter.recipe.corruption.name)
            for strength in (chapter.recipe.corruption.strength[1], chapter.recipe.scored_at or 0.0):
                corruption.check_strength(strength)
    for told in spec.chapters.values():
        if isinstance(told, RobustnessExperiment):
            _check_noise(told, chapters)
        if isinstance(told, GenerationExperiment):
            for name in told.samplers:
                samplers[name]
            _check_target(told.decoder, "images", chapters)
            _check_target(told.judge, "labels", chapters)


def _check_noise(chapter: RobustnessExperiment, trained: Mapping[str, TrainingExperiment]) -> None:
    from inklab.corruptions.corruption import get_corruption  # torch: not needed to read a study
    from inklab.corruptions.filters import filters

    corruption = get_corruption(chapter.corruption)
    for strength in chapter.strengths:
        corruption.check_strength(strength)
    for part in {part for pipeline in chapter.pipelines for part in pipeline.split("+")}:
        if part not in trained and part not in filters:
            raise UnknownNameError("train chapter or filter", part, [*trained, *filters])
    for pipeline in chapter.pipelines:
        *cleaners, classifier = pipeline.split("+")
        _check_target(classifier, "labels", trained)
        for part in cleaners:
            _check_target(part, "images", trained)


def _check_target(name: str, target: str, trained: Mapping[str, TrainingExperiment]) -> None:
    """Refuse a denoiser where a classifier is needed, and the other way round. Filters give images."""
    if name in trained and objectives[trained[name].recipe.objective].target != target:
        has, needs = ("a classifier", "a denoiser") if target == "images" else ("a denoiser", "a classifier")
        raise ConfigError(f"'{name}' trains {has}, but stands where {needs} is needed")


@dataclass(frozen=True)
class LoadedStudy:
    """A study with its data, ready to be planned.

    Attributes:
        spec: the question.
        profile: whose changes were applied.
        dataset: the images.
        split: the same, split.
        identity: what the plan knows of them.
    """

    spec: StudySpec
    profile: str
    dataset: Dataset
    split: Split
    identity: DataIdentity

    @property
    def id(self) -> str:
        """The run folder's name."""
        return run_id(self.spec.name, self.profile, self.identity.sha256, self.spec.seed)


def load_data(spec: StudySpec) -> Dataset:
    """Load the source that a study names.

    Raises:
        DataError: the images can't be had or are not what they should be.
    """
    source = spec.data.source
    return load_default() if source == "default" else load(source, seed=spec.seed)


def load_study(spec: StudySpec, profile: str, dataset: Dataset | None = None) -> LoadedStudy:
    """Load a study's data, unless it is given, and split it.

    Raises:
        DataError: the images can't be had or are not what they should be.
        ConfigError: more validation images than there are.
    """
    dataset = load_data(spec) if dataset is None else dataset
    held = spec.data.validation
    parts = split(
        dataset, validation=default_validation(len(dataset.train)) if held is None else held, seed=spec.seed
    )
    classes = len(dataset.labels)
    images = parts.train.pixels
    identity = DataIdentity(
        source=dataset.source,
        sha256=dataset.sha256,
        shape=dataset.shape,
        labels=tuple(dataset.labels),
        counts={name: getattr(parts, name).counts(classes) for name in ("train", "validation", "test")},
        mean=float(images.mean()) / 255,
        spread=float(images.std()) / 255,
        framing=dataset.framing.to_json(),
        note=dataset.note,
    )
    return LoadedStudy(spec, profile, dataset, parts, identity)

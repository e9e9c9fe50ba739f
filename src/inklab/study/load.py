"""Studies read from TOML and made ready to run; all mistakes in one message."""

import copy
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, to_jsonable_python

from inklab.data.dataset import Dataset, Split, split
from inklab.data.image_layout import with_preprocessing
from inklab.data.quality import check_data
from inklab.data.sources import load_dataset, load_default
from inklab.errors import ConfigError, UnknownNameError, did_you_mean, nearest_name
from inklab.evaluation.samplers import samplers
from inklab.io.files import parse_toml, read_toml
from inklab.metrics import resolve_metrics
from inklab.networks.network import networks
from inklab.records.components import NetworkConfig, NormalizeConfig, check_part
from inklab.records.data_report import DataReport
from inklab.records.plan import DataInfo, SplitCounts
from inklab.records.recipe import Augmentation, CorruptionConfig, EarlyStopping, Recipe
from inklab.records.record import MAX_REPORTED, ConfigIssue, Record, describe_error, unknown_key
from inklab.registry import Registry
from inklab.study.planner import run_id
from inklab.study.second_test import load_second_tests
from inklab.study.spec import (
    AnyExperiment,
    CorruptionErrorExperiment,
    DataExperiment,
    DataSpec,
    FindingsExperiment,
    GenerationExperiment,
    ReferenceSpec,
    RobustnessExperiment,
    SmallDataRule,
    StudySpec,
    TrainingExperiment,
)
from inklab.training.objectives import objectives
from inklab.training.recipe_files import read_recipe_file
from inklab.usercode import is_user_code, reference

VALIDATION_DIVISOR = 12  # by default, 1 in 12 training images is held out: 5,000 of MNIST's 60,000

MIN_VALIDATION, MIN_VALIDATION_DIVISOR = 500, 8
"""Hold out at least 500 images, unless that exceeds one eighth of them (50 a class of mnist-5k)."""

MAX_VALUE_LENGTH = 60  # characters of a value, and of each part of a key, that a message shows
BUILTIN = resources.files("inklab.study") / "studies"  # directory of the studies that come with inklab

Table = dict[str, object]
"""A TOML table, of which nothing is validated yet."""

# ---------------------------------------------------------------- reading


@dataclass(frozen=True)
class ConfiguredStudy:
    """A study file, read once, with a profile and overrides applied.

    Attributes:
        spec: as it stands for datasets that are not small.
        profile: whose changes were applied.
        small_data: changes on few images, if any.
        fixed_epochs: experiments whose epochs were overridden, so that `small_data` leaves them.
    """

    spec: StudySpec
    profile: str
    small_data: SmallDataRule | None = None
    fixed_epochs: frozenset[str] = frozenset()

    def for_images(self, n_train_images: int) -> "ConfiguredStudy":
        """The study for a dataset of so many training images, validation images among them.

        Few images make few steps, so `[small_data]` has it trained longer.

        Raises:
            ConfigError: an experiment gets more epochs than are allowed.
        """
        rule = self.small_data
        if rule is None or n_train_images >= rule.fewer_than:
            return replace(self, small_data=None)
        longer = {
            name: experiment.with_epochs(experiment.recipe.epochs * rule.epochs_factor)
            for name, experiment in self.spec.training.items()
            if name not in self.fixed_epochs
        }
        experiments = {**self.spec.experiments, **longer}  # keeps their order
        spec = self.spec.model_copy(update={"experiments": experiments})
        return replace(self, spec=spec, small_data=None)


def builtin_studies() -> list[str]:
    """Names of the studies that come with inklab."""
    return sorted(Path(entry.name).stem for entry in BUILTIN.iterdir() if entry.name.endswith(".toml"))


def read_study(study: str, *, profile: str | None = None, overrides: Sequence[str] = ()) -> ConfiguredStudy:
    """Read a study once, with a profile and overrides applied.

    Args:
        study: a built-in name or the path of a TOML file.
        profile: one of the study's profiles; its first if left out, "plain" (no changes) if it has none.
        overrides: changes such as "l2-sweep.replicates=40", applied last.

    Raises:
        ConfigError: all mistakes in one message.
    """
    table, folder = read_tables(study)
    return configure(table, study, folder, profile=profile, overrides=overrides)


def configure(
    table: Table,
    name: str,
    folder: Path | None = None,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
) -> ConfiguredStudy:
    """Apply a profile and overrides to a study's tables, which are left as they are, and validate them.

    Args:
        table: of the study, with its profiles.
        name: of the study in messages.
        folder: that paths of recipe files are relative to.
        profile: see `read_study`.
        overrides: see `read_study`.

    Raises:
        ConfigError: all mistakes in one message.
    """
    table = copy.deepcopy(table)
    profiles = _parse_profiles(table.pop("profiles", {}), name)
    profile = profile or next(iter(profiles), "plain")
    if profile != "plain" and profile not in profiles:
        raise UnknownNameError("profile", profile, [*profiles, "plain"])
    for key, value in profiles.get(profile, {}).items():
        set_dotted(table, key, value, f"profile '{profile}'")
    small_data = _parse_small_data(table.pop("small_data", None), name)
    changes = {override: parse_override(override) for override in overrides}
    for override, (key, value) in changes.items():
        set_dotted(table, key, value, f"--set {override}")
    keys = {key.removeprefix("experiments.") for key, _ in changes.values()}
    fixed = {key.removesuffix(".recipe.epochs") for key in keys if key.endswith(".recipe.epochs")}
    return ConfiguredStudy(parse_study(table, name, folder), profile, small_data, frozenset(fixed))


def read_tables(study: str) -> tuple[Table, Path]:
    """The tables of a study as they are written, and the folder where the paths of its recipe files start.

    Args:
        study: a built-in name or the path of a TOML file.

    Raises:
        ConfigError: there is no such study, or it is not TOML.
    """
    names = builtin_studies()
    if study in names:
        text = (BUILTIN / f"{study}.toml").read_text(encoding="utf-8")
        return parse_toml(text, study), Path()
    path = Path(study)
    if not path.suffix:
        raise UnknownNameError("study", study, names)
    if not os.path.isfile(path):
        raise ConfigError(
            f"there is no study file '{study}'; built-in studies: {', '.join(names)}",
            key=study,
            suggestion=nearest_name(path.stem, names),
        )
    return read_toml(path), path.parent


def _parse_profiles(value: object, study: str) -> dict[str, Table]:
    profiles = value if isinstance(value, dict) else {"": value}
    tables = {name: changes for name, changes in profiles.items() if isinstance(changes, dict)}
    if len(tables) < len(profiles):
        raise ConfigError(
            f"study '{study}': profiles must be tables, such as [profiles.quick]", key="profiles"
        )
    return tables


def _parse_small_data(value: object, study: str) -> SmallDataRule | None:
    try:
        return None if value is None else SmallDataRule.model_validate(value)
    except ValidationError as error:
        raise validation_error(error, f"study '{study}'", SmallDataRule, "small_data") from None


def parse_study(table: Mapping[str, object], name: str, folder: Path | None = None) -> StudySpec:
    """Validate a study's tables, which are left as they are; paths of recipe files start at `folder`.

    Raises:
        ConfigError: all mistakes in one message.
    """
    try:
        values = json.loads(json.dumps(table, default=_to_text))
    except (ValueError, RecursionError) as error:  # also integers of thousands of digits
        raise ConfigError(f"study '{name}': {error}") from error
    experiments = values.get("experiments")
    for key, experiment in experiments.items() if isinstance(experiments, dict) else ():
        try:
            experiments[key] = merge_recipe_file(experiment, folder)
        except ConfigError as error:
            message = f"study '{name}': '{key}.recipe': {error}"
            raise ConfigError(message, key=f"{key}.recipe", suggestion=error.suggestion) from error
    try:
        return _with_session_objects(StudySpec.model_validate(values))
    except ValidationError as error:
        raise validation_error(error, f"study '{name}'") from None


R = TypeVar("R", bound=Record)


def _with_session_objects(spec: StudySpec) -> StudySpec:
    """The study with references in place of names that a decorator gave in this session only."""
    module = sys.modules.get("inklab.corruptions.corruption")  # needs torch, which a decorator has imported
    corruptions = module.corruptions if module else None

    def refer(record: R, key: str, registry: Registry[Any] | None) -> R:
        decorated = registry.session_object(getattr(record, key)) if registry else None
        return record if decorated is None else record.model_copy(update={key: reference(decorated)})

    def changed(experiment: AnyExperiment) -> AnyExperiment:
        if isinstance(experiment, RobustnessExperiment):
            return refer(experiment, "corruption", corruptions)
        if not isinstance(experiment, TrainingExperiment):
            return experiment
        recipe = refer(experiment.recipe, "objective", objectives)
        if recipe.corruption:
            corruption = refer(recipe.corruption, "name", corruptions)
            recipe = recipe.model_copy(update={"corruption": corruption})
        network = refer(experiment.network, "name", networks)
        return experiment.model_copy(update={"network": network, "recipe": recipe})

    experiments = {name: changed(experiment) for name, experiment in spec.experiments.items()}
    return spec if experiments == spec.experiments else spec.model_copy(update={"experiments": experiments})


def _to_text(value: object) -> str:
    """A class or function becomes its reference; a date of a TOML file is written out."""
    return reference(value) if callable(value) else str(value)


def merge_recipe_file(experiment: object, folder: Path | None = None) -> object:
    """An experiment with the recipe file that it names put in; what is no such table stays as it is.

    Which value holds, the first that there is:

    * keys of a recipe: the experiment's `recipe` table, the file (but not the settings of its optimizer, if
      the table names another);
    * network: the experiment's `network` if it has a name, else the experiment's arguments, then the file's;
    * normalize: the experiment's; the file's, unless the experiment names a network of its own, for which
      the file was not made.

    Raises:
        ConfigError: there is no such recipe, or the file is wrong.
    """
    if not isinstance(experiment, dict):
        return experiment
    recipe = experiment.get("recipe")
    if isinstance(recipe, str):
        recipe = {"base": recipe}
    if not isinstance(recipe, dict) or "base" not in recipe:
        return experiment
    file = read_recipe_file(str(recipe.pop("base")), folder)
    merged: Table = {**experiment, "recipe": file.merged(recipe)}
    network = experiment.get("network", {})
    if isinstance(network, dict) and "name" not in network:
        if file.network:
            merged["network"] = {**file.network.to_json(), **network}
        if file.normalize and "normalize" not in experiment:
            merged["normalize"] = to_jsonable_python(file.normalize)
    return merged


# ---------------------------------------------------------------- overrides


def parse_override(override: str) -> tuple[str, object]:
    """Split `key=value`; the value is read as TOML, and as text where it is none.

    Example:
        >>> parse_override("l2-sweep.replicates=40"), parse_override("data.dataset=mnist-5k")
        (('l2-sweep.replicates', 40), ('data.dataset', 'mnist-5k'))

    Raises:
        ConfigError: there is no `=`.
    """
    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise ConfigError(
            f"--set '{override}' is not key=value; write for example --set cnn.recipe.epochs=3", key=override
        )
    try:
        value = parse_toml(f"value = {text.strip()}", override)["value"]
    except ConfigError:
        value = text.strip()
    return key.strip(), value


def set_dotted(table: Table, key: str, value: object, origin: str) -> None:
    """Set a dotted key of a study, such as "cnn.recipe.epochs"; messages name the `origin` of the change.

    Raises:
        ConfigError: the first part is unknown, or a part in between is no table.
    """
    parts = _full_key(table, key, origin)
    for part in parts[:-1]:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(
                f"{origin}: '{part}' is a single value, so nothing can be set below it", key=key
            )
        table = inner
    table[parts[-1]] = value


def _full_key(table: Table, key: str, origin: str) -> list[str]:
    """The parts of a key from the top of the study; keys of a grid have dots themselves."""
    parts = key.split(".")
    experiments = table.get("experiments")
    names = list(experiments) if isinstance(experiments, dict) else []
    if parts[0] not in StudySpec.model_fields:  # fields first: an experiment may be called "data"
        if parts[0] not in names:
            known = {*names, *StudySpec.model_fields} - {"experiments"}
            unknown = UnknownNameError("experiment or field", parts[0], known)
            suggestion, message = unknown.suggestion, f"{origin}: {unknown}"
            if not suggestion and names and (nested := _nested_key(parts[0])):
                suggestion = f"{_first_training(experiments)}.{nested}"
                message += f" Did you mean '{suggestion}'?"
            raise ConfigError(message, key=key, suggestion=suggestion)
        parts = ["experiments", *parts]
    match parts:
        case ["experiments", name] if name in names:
            raise ConfigError(
                f"{origin}: '{name}' is an experiment; set something in it, such as {name}.title", key=key
            )
        case ["experiments", name, "grid", *rest] if rest:
            return ["experiments", name, "grid", ".".join(rest)]
    return parts


# ---------------------------------------------------------------- validation errors

EXPERIMENTS: dict[str, type[BaseModel]] = {
    "data": DataExperiment, "training": TrainingExperiment, "robustness": RobustnessExperiment,
    "generation": GenerationExperiment, "corruption-error": CorruptionErrorExperiment,
    "findings": FindingsExperiment,
}  # fmt: skip
"""Experiments by kind."""

CONTAINERS: dict[str, type[BaseModel]] = {
    "recipe": Recipe, "augmentation": Augmentation, "corruption": CorruptionConfig,
    "early_stopping": EarlyStopping,
    "references": ReferenceSpec, "network": NetworkConfig, "normalize": NormalizeConfig,
}  # fmt: skip
"""Tables below an experiment by their key."""

HIDDEN_PARTS = ("table", "word", "numbers", "[key]")
"""Parts of pydantic's locations that the user did not write: tags of unions, and that a key is wrong."""


def validation_error(
    error: ValidationError, name: str, model: type[BaseModel] = StudySpec, prefix: str = ""
) -> ConfigError:
    """The error that reports all mistakes in a file, of very many the first ten.

    Args:
        error: of a validation as `model`.
        name: of the file in the message.
        model: what was validated.
        prefix: key of the table in its file.
    """
    # A key that is unknown explains one that is missing.
    details = sorted(error.errors(include_url=False), key=lambda detail: detail["type"] == "missing")
    issues = [_issue(detail, model, prefix) for detail in details]
    messages = [*dict.fromkeys(issue.message for issue in issues[:MAX_REPORTED])]
    if len(issues) > MAX_REPORTED:
        messages.append(f"and {len(issues) - MAX_REPORTED:,} more")
    return ConfigError(f"{name}: {'; '.join(messages)}", key=issues[0].key, suggestion=issues[0].suggestion)


def _issue(detail: ErrorDetails, model: type[BaseModel], prefix: str) -> ConfigIssue:
    parts, table = _locate(detail["loc"], model)
    key = ".".join(part[:MAX_VALUE_LENGTH] for part in ([prefix] if prefix else []) + parts)
    last = parts[-1] if parts else ""
    match detail["type"]:
        case "extra_forbidden":
            return _unknown_key(key, last, table)
        case "union_tag_invalid":
            kind = str(detail["ctx"]["tag"])[:MAX_VALUE_LENGTH]
            known = ", ".join(EXPERIMENTS)
            message = f"'{key}' has the kind '{kind}'.{did_you_mean(kind, EXPERIMENTS)} Known: {known}"
            return ConfigIssue(key, message, nearest_name(kind, EXPERIMENTS))
    return describe_error(detail, key)


def _unknown_key(key: str, last: str, table: type[BaseModel]) -> ConfigIssue:
    allowed = [*table.model_fields, *(["base"] if table is Recipe else [])]
    suggestion = nearest_name(last, allowed)
    if not suggestion and table is TrainingExperiment:
        suggestion = _nested_key(last)
    return unknown_key(key, allowed, suggestion)


def _first_training(experiments: object) -> str:
    """The name of the first training experiment, or of any."""
    tables = experiments if isinstance(experiments, dict) else {}
    trained = [
        name
        for name, table in tables.items()
        if isinstance(table, dict) and table.get("kind", "training") == "training"
    ]
    return str(next(iter([*trained, *tables]), ""))


def _nested_key(name: str) -> str:
    """The key, below an experiment, of a recipe's field or a network's argument; "" if it is neither."""
    arguments = {key: f"network.{key}" for network in networks for key in networks[network].defaults}
    keys = arguments | {key: f"recipe.{key}" for key in Recipe.model_fields}
    return keys.get(nearest_name(name, keys), "")


def _locate(loc: tuple[int | str, ...], model: type[BaseModel]) -> tuple[list[str], type[BaseModel]]:
    """The parts of a key as the user writes them, and the model of the table that the key is in."""
    match loc:
        case ("experiments", name, str(kind), *rest) if kind in EXPERIMENTS:
            parts, model = [str(name), *map(str, rest)], EXPERIMENTS[kind]
        case ("experiments", name, *rest):
            parts = [str(name), *map(str, rest)]
        case ("data", _, *_):
            parts, model = [*map(str, loc)], DataSpec
        case _:
            parts = [*map(str, loc)]
    parts = [part for part in parts if part not in HIDDEN_PARTS]
    for part in parts[1:-1]:
        model = CONTAINERS.get(part, model)
    return parts, model


# ---------------------------------------------------------------- names


def check_names(spec: StudySpec) -> None:
    """Refuse unknown names, and strengths that a corruption does not have, before anything is trained.

    Raises:
        UnknownNameError: with the nearest valid name.
        ConfigError: a training experiment has the name of a filter, or trains what its position in a
            pipeline can't use.
        OutOfRangeError: a strength is too large.
    """
    from inklab.corruptions.filters import filters  # torch: not needed to read a study
    from inklab.evaluation.attacks import corruption_or_attack

    training = spec.training
    for name, trained in training.items():
        if name in filters:
            raise ConfigError(
                f"'{name}' is a filter in pipelines, so no training experiment may have that name; rename it",
                key=name,
            )
        _check_inputs(trained.recipe)
    tasks = {name: objectives.resolve(trained.recipe.objective).task for name, trained in training.items()}
    for name, trained in training.items():
        resolve_metrics(trained.metrics, tasks[name])
    for experiment in spec.experiments.values():
        if isinstance(experiment, RobustnessExperiment):
            degradation = corruption_or_attack(experiment.corruption, experiment.attack_steps)
            for strength in experiment.strengths or ():
                degradation.check_strength(strength)
            for pipeline in experiment.pipelines:
                pipeline.check(tasks, filters)
            parts = (part for pipeline in experiment.pipelines for part in pipeline.parts)
            list(map(filters.resolve, filter(is_user_code, parts)))  # each is found and is a function
        elif isinstance(experiment, GenerationExperiment):
            for name in experiment.samplers:
                samplers[name]
            check_part(experiment.decoder, tasks.get(experiment.decoder), "denoising")
            check_part(experiment.classifier, tasks.get(experiment.classifier), "classification")


def _check_inputs(recipe: Recipe) -> None:
    from inklab.corruptions.corruption import get_corruption
    from inklab.training.augmentations import augmentations  # torch

    if recipe.augmentation and recipe.augmentation.function:
        augmentations.resolve(recipe.augmentation.function)
    if recipe.corruption:
        corruption = get_corruption(recipe.corruption.name)
        for strength in (recipe.corruption.strength[1], recipe.eval_strength or 0.0):
            corruption.check_strength(strength)


# ---------------------------------------------------------------- data


@dataclass(frozen=True)
class PreparedStudy:
    """A study with its data and their description for the plan."""

    spec: StudySpec
    profile: str
    dataset: Dataset
    split: Split
    data: DataInfo
    test_on: Mapping[str, Dataset] = field(default_factory=dict)

    @cached_property
    def data_report(self) -> DataReport:
        """What a check of the images finds; half a second for 70,000 of 28 x 28."""
        return check_data(self.dataset, self.split)

    @property
    def id(self) -> str:
        """Name of the run directory."""
        return run_id(self.spec.name, self.profile, self.data.sha256, self.spec.seed)


def prepare_study(study: ConfiguredStudy, dataset: Dataset | None = None) -> PreparedStudy:
    """Load a study's data, unless a dataset is given in its place, adapt the study to its size and split it.

    Raises:
        DataError: the images are not available, or not what they should be.
        ConfigError: more validation images than there are.
    """
    source, seed = study.spec.data, study.spec.seed
    if dataset is not None:
        dataset = with_preprocessing(dataset, source.preprocessing)
    elif source.dataset == "default":
        dataset = with_preprocessing(load_default(), source.preprocessing)
    else:
        dataset = load_dataset(source.dataset, seed=seed, preprocessing=source.preprocessing)
    if source.transpose:
        dataset = dataset.transposed()
    spec, n_validation = study.for_images(len(dataset.train)).spec, study.spec.data.validation
    if n_validation is None:
        n_validation = default_validation(len(dataset.train))
    parts = split(dataset, validation=n_validation, seed=seed)
    test_on = load_second_tests(source.test_on, dataset, seed)
    n_classes, pixels = len(dataset.labels), parts.train.pixels
    counts = {name: getattr(parts, name).counts(n_classes) for name in ("train", "validation", "test")}
    data = DataInfo(
        dataset=dataset.name, sha256=dataset.sha256, shape=dataset.shape, labels=tuple(dataset.labels),
        counts=SplitCounts(**counts), mean=float(pixels.mean()) / 255, std=float(pixels.std()) / 255,
        preprocessing=dataset.preprocessing, note=dataset.note,
        test_on={name: len(second.test) for name, second in test_on.items()},
    )  # fmt: skip
    return PreparedStudy(spec, study.profile, dataset, parts, data, test_on)


def default_validation(n_train_images: int) -> int:
    """How many training images are held out unless the study says so.

    Example:
        >>> default_validation(60_000), default_validation(4_000), default_validation(100)
        (5000, 500, 12)
    """
    at_least = min(MIN_VALIDATION, n_train_images // MIN_VALIDATION_DIVISOR)
    return max(n_train_images // VALIDATION_DIVISOR, at_least)

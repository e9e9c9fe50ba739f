"""Studies read from TOML: profile, changes and recipes put together, every mistake told in one message."""

import json
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from inklab.errors import SpecError, UnknownName
from inklab.files import parse_toml, read_toml, refuse_deep
from inklab.study.mistakes import told
from inklab.study.spec import FIELDS, Small, StudySpec, kind_of
from inklab.train.recipe import Recipe, read_recipe


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
    small = raw.pop("small", None)
    changes = {change: parse_set(change) for change in sets}
    for change, (key, value) in changes.items():
        put(raw, key, value, f"--set {change}")
    _train_longer(raw, _small(small, study), train_images, {key for key, _ in changes.values()}, folder)
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
    try:
        refuse_deep(raw)
        raw = json.loads(json.dumps(raw, default=str))  # a copy, with dates and the like as text
    except ValueError as error:  # also whole numbers of thousands of digits
        raise SpecError(f"study '{origin}': {error}") from error
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


def _small(told_small: object, study: str) -> Small | None:
    try:
        return None if told_small is None else Small.model_validate(told_small)
    except ValidationError as error:
        mistakes = told(error, {**FIELDS, "study": [*Small.model_fields]})
        raise SpecError(f"study '{study}', small: {mistakes}") from None


def _train_longer(
    raw: dict[str, Any],
    small: Small | None,
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
        value = parse_toml(f"value = {text.strip()}", change)["value"]
    except SpecError:
        value = text.strip()
    return key.strip(), value


def _raw(study: str) -> tuple[dict[str, Any], Path]:
    if study in builtin_studies():
        return parse_toml((_builtin() / f"{study}.toml").read_text(encoding="utf-8"), study), Path()
    path = Path(study)
    if not path.suffix:
        raise UnknownName("study", study, builtin_studies())
    if not os.path.isfile(path):
        raise SpecError(f"there is no study file '{study}'; built-in studies: {', '.join(builtin_studies())}")
    return read_toml(path), path.parent


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

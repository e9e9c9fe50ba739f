"""Recipe files: how to train, and optionally the network that the recipe was made for. Imports no torch."""

import os
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from pydantic import JsonValue, field_validator

from inklab.errors import ConfigError, UnknownNameError
from inklab.io.files import parse_toml, read_toml
from inklab.records.components import NetworkConfig, Normalization
from inklab.records.recipe import LEARNING_RATES, OPTIMIZER_SETTINGS, Recipe
from inklab.records.record import Count, Record


class RecipeFile(Record):
    """The content of a recipe file.

    Attributes:
        version: raised whenever the file is changed in a way that moves numbers, so that a measurement says
            what it was made with.
        network: the network that the recipe was made for. An experiment that names its own network uses that.
        normalize: the normalization in front of that network.
        recipe: fields that the file does not name have their defaults.
    """

    version: Count = 1
    network: NetworkConfig | None = None
    normalize: Normalization | None = None
    recipe: Recipe = Recipe()

    @field_validator("network", mode="before")
    @classmethod
    def _expand_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @property
    def fields(self) -> dict[str, JsonValue]:
        """The fields of the recipe that the file names."""
        return self.recipe.model_dump(mode="json", exclude_unset=True)

    def merged(self, changes: Mapping[str, object]) -> dict[str, object]:
        """The fields that the file names with changes in place.

        With another optimizer, the settings of the file's own are left out. So is a learning rate that is its
        optimizer's default, for a grid over optimizers gives each its own. A corruption needs only the keys
        that differ, unless it is another one.

        Example:
            >>> Recipe.parse(read_recipe_file("mlp-best").merged({"optimizer": "adamw"})).learning_rate
            0.001
            >>> read_recipe_file("denoise").merged({"corruption": {"strength": 0.6}})["corruption"]
            {'name': 'salt_and_pepper', 'strength': 0.6}
        """
        fields, optimizer = self.fields, self.recipe.optimizer
        own, change = fields.get("corruption"), changes.get("corruption")
        if isinstance(own, dict) and isinstance(change, Mapping):
            is_other = change.get("name", own["name"]) != own["name"]
            changes = {**changes, "corruption": {**({} if is_other else own), **change}}
        if changes.get("optimizer", optimizer) != optimizer:
            fields = {key: value for key, value in fields.items() if key not in OPTIMIZER_SETTINGS}
        elif self.recipe.learning_rate == LEARNING_RATES[optimizer]:
            fields.pop("learning_rate", None)
        return {**fields, **changes}


def recipe_names() -> list[str]:
    """The recipes that come with inklab."""
    names = (entry.name for entry in _builtin_folder().iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def read_recipe_file(name: str, folder: Path | None = None) -> RecipeFile:
    """Read and validate a built-in recipe, or the file at a path that ends in `.toml`.

    A relative path starts in `folder`, by default the working directory.

    Raises:
        UnknownNameError: there is no such recipe, or no such key in recipe files.
        ConfigError: the file is missing, is not TOML, or a value is out of its range.

    Example:
        >>> file = read_recipe_file("mlp-best")
        >>> file.network.name, file.recipe.optimizer
        ('mlp', 'muon')
    """
    table = _read_table(name, folder)
    own_keys = ("version", "network", "normalize")
    content: dict[str, object] = {key: table.pop(key) for key in own_keys if key in table}
    for key in table:
        if key not in Recipe.model_fields:
            raise UnknownNameError("key of recipe files", key, [*Recipe.model_fields, *own_keys])
    return RecipeFile.parse({**content, "recipe": table}, f"recipe '{name}'")


def _read_table(name: str, folder: Path | None) -> dict[str, object]:
    if name.endswith(".toml"):
        path = (folder or Path()) / name
        if not os.path.isfile(path):
            known = ", ".join(recipe_names())
            raise ConfigError(f"there is no recipe file '{path}'; built-in recipes: {known}", key=name)
        return read_toml(path)
    if name in recipe_names():
        text = (_builtin_folder() / f"{name}.toml").read_text(encoding="utf-8")
        return parse_toml(text, f"recipe '{name}'")
    raise UnknownNameError("recipe", name, recipe_names())


def _builtin_folder() -> Traversable:
    return resources.files("inklab.training") / "recipes"

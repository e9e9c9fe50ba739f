"""How to train: optimiser, schedule, epochs, batch size, L2, objective. Imports no torch."""

import os
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from inklab.errors import ConfigError, UnknownNameError
from inklab.io.documents import parse_toml, read_toml

VECTOR_SETTINGS = ("rate", "l2", "momentum")
"""What members of one population may differ in, besides the replicate."""

MAX_FP32 = 3e38
"""What fp32 can still hold. A rate, penalty or strength far below it may diverge, which is an outcome."""


FIELDS_ADDED_LATER = ("warmup", "augmentation", "scored_at")
"""Fields that recipes did not have at first. One that is added goes here, so that trials keep their ids."""

NETWORK = ("model", "scaling")
"""What a recipe file may say about the network that it was made for."""


Strength = Annotated[float, Field(le=MAX_FP32)]


class CorruptionSpec(BaseModel):
    """What a network is shown instead of the clean image.

    Attributes:
        name: a registered corruption or `file.py:name`.
        strength: lowest and highest (one number for both); each image draws its own in between, each step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    strength: tuple[Strength, Strength]

    @field_validator("strength", mode="before")
    @classmethod
    def _one_or_two(cls, value: object) -> object:
        pair = (value, value) if isinstance(value, int | float) else value
        if not isinstance(pair, list | tuple) or not all(isinstance(each, int | float) for each in pair):
            return pair  # pydantic says what is wrong with it
        if len(pair) == 2 and not 0 <= pair[0] <= pair[1]:
            raise ValueError(f"strengths must be 0 or more, the lower first, but are {list(pair)}")
        return pair


class Augmentation(BaseModel):
    """How training images are moved before they are shown, so that no two epochs show quite the same ones.

    Attributes:
        shift: at most so many whole pixels, along both axes. Not drawn anew each epoch but taken in turns:
            after `(2 * shift + 1) ** 2` epochs each image has stood at every place once.
        rotation: at most so many degrees, either way.
        scale: width and height change by at most this share, each by its own.
        elastic: standard deviation, in pixels, of a smooth random displacement (Simard, Steinkraus and Platt
            2003).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    shift: Annotated[int, Field(ge=0, le=100)] = 0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    elastic: Annotated[float, Field(ge=0, le=100)] = 0.0

    @property
    def warps(self) -> bool:
        """Whether pixels are interpolated, beyond a shift by whole ones."""
        return bool(self.rotation or self.scale or self.elastic)


class Recipe(BaseModel):
    """How to train, in full.

    Attributes:
        objective: a registered function `(net, batch) -> loss`.
        optimiser: plain gradient descent (with momentum if that is > 0), Adam (Kingma and Ba 2015), or Muon
            (Jordan 2024), which makes the steps of kernels orthogonal.
        rate: learning rate, at its peak if the schedule moves it.
        momentum: of SGD and Muon, in [0, 1).
        schedule: how the rate goes over all steps; "cosine" and "linear" end at 0.
        warmup: share of all steps in which the rate first rises to its peak, in [0, 1).
        epochs: passes over the training images.
        batch: images a step; the last of an epoch may be smaller, as in Keras.
        l2: strength of `l2 * sum(w ** 2)`, added to the loss for its gradient, never to reported losses.
        l2_on: patterns of the parameter names that it acts on; kernels only (two dimensions or more).
        augmentation: how training images are moved. The truth moves along; images for scoring stay.
        corruption: what the network is shown instead of the clean image.
        scored_at: the corruption's strength where a denoiser is scored, so that denoisers which were trained
            on other strengths can be compared; None: strengths are drawn as in training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    objective: str = "classify"
    optimiser: Literal["sgd", "adam", "muon"] = "sgd"
    rate: Annotated[float, Field(gt=0, le=MAX_FP32)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    batch: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    l2: Annotated[float, Field(ge=0, le=MAX_FP32)] = 0.0
    l2_on: tuple[str, ...] = ("*.weight",)
    augmentation: Augmentation | None = None
    corruption: CorruptionSpec | None = None
    scored_at: Annotated[float, Field(ge=0, le=MAX_FP32)] | None = None

    @model_validator(mode="after")
    def _scored_with_a_corruption(self) -> "Recipe":
        if self.scored_at is not None and self.corruption is None:
            raise ValueError("scored_at is a strength of the corruption, but there is no corruption")
        return self

    @property
    def scored_with(self) -> CorruptionSpec | None:
        """How images are corrupted where the network is scored."""
        if self.corruption is None or self.scored_at is None:
            return self.corruption
        return CorruptionSpec(name=self.corruption.name, strength=(self.scored_at, self.scored_at))


def recipe_names() -> list[str]:
    """The recipes that come with inklab."""
    return sorted(
        entry.name.removesuffix(".toml") for entry in _builtin().iterdir() if entry.name.endswith(".toml")
    )


class RecipeFile(NamedTuple):
    """What stands in a recipe file. Nothing of it is checked yet; whoever takes a part of it does.

    Attributes:
        fields: of the recipe.
        network: what the recipe was made for: "model" and "scaling" as a chapter has them, where the file
            names them. A chapter that names its own takes that.
        version: raised whenever the file is changed in a way that moves numbers, so that what was measured
            says with which one.
    """

    fields: dict[str, Any]
    network: dict[str, Any]
    version: Any


def read_recipe(name: str, folder: Path | None = None) -> RecipeFile:
    """A recipe file in its parts.

    Args:
        name: a built-in recipe, or a path ending in `.toml`.
        folder: where a relative path starts; the working directory if left out.

    Raises:
        UnknownNameError: no such recipe.
        ConfigError: the file is missing or is not TOML.
    """
    fields = _read_toml(name, folder)
    network = {key: fields.pop(key) for key in NETWORK if key in fields}
    return RecipeFile(fields, network, fields.pop("version", 1))


def _read_toml(name: str, folder: Path | None) -> dict[str, Any]:
    if name.endswith(".toml"):
        path = (folder or Path()) / name
        if not os.path.isfile(path):
            raise ConfigError(
                f"there is no recipe file '{path}'; built-in recipes: {', '.join(recipe_names())}"
            )
        return read_toml(path)
    if name in recipe_names():
        return parse_toml((_builtin() / f"{name}.toml").read_text(encoding="utf-8"), f"recipe '{name}'")
    raise UnknownNameError("recipe", name, recipe_names())


def _builtin() -> Any:
    return resources.files("inklab.training") / "recipes"

"""How to train, and the resolved configuration of a trial. Imports no torch."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.records.record import FailFast, NonNegativeFp32, PositiveFp32, Record
from inklab.usercode import is_user_code

VECTOR_SETTINGS = ("learning_rate", "l2", "momentum")
"""What members of one population may differ in, besides the replicate."""

OPTIMIZER_STATE = {"sgd": ("velocity",), "adam": ("mean", "square"), "muon": ("velocity",)}
"""What each optimizer keeps: under each name a tensor like every parameter. SGD without momentum: nothing."""

Precision = Literal["fp32", "bf16"]


class CorruptionConfig(Record):
    """Which corruption a network is given its inputs with.

    Attributes:
        name: a registered corruption or `file.py:name`.
        strength: lowest and highest, in the corruption's unit; one number stands for both. Each image draws
            its own in between, each step.

    Example:
        >>> CorruptionConfig.parse({"name": "salt_and_pepper", "strength": 0.4}).strength
        (0.4, 0.4)
    """

    name: str
    strength: tuple[NonNegativeFp32, NonNegativeFp32]

    @field_validator("strength", mode="before")
    @classmethod
    def _expand_number(cls, value: object) -> object:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value, value
        return tuple(value) if isinstance(value, list) else value

    @field_validator("strength")
    @classmethod
    def _check_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"strengths should be the lower first, but are {list(value)}")
        return value

    @property
    def is_user_code(self) -> bool:
        """Whether it is a function in a user's own file."""
        return is_user_code(self.name)


class Augmentation(Record):
    """How training images are moved, so that no two epochs have quite the same ones.

    Attributes:
        shift: at most so many whole pixels, along both axes, in [0, 100]. Not drawn anew each epoch but taken
            in turns: after `(2 * shift + 1) ** 2` epochs each image has been at every offset once.
        rotation: at most so many degrees, either way, in [0, 180].
        scale: width and height change by at most this share, each by its own, in [0, 1).
        elastic: standard deviation, in pixels, of a smooth random displacement (Simard, Steinkraus and Platt
            2003), in [0, 100].
    """

    shift: Annotated[int, Field(ge=0, le=100)] = 0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    elastic: Annotated[float, Field(ge=0, le=100)] = 0.0

    @property
    def interpolates(self) -> bool:
        """Whether pixels are interpolated, beyond a shift by whole ones."""
        return bool(self.rotation or self.scale or self.elastic)


class Recipe(Record):
    """How to train, in full.

    Attributes:
        objective: a registered function `(net, batch) -> loss`.
        optimizer: plain gradient descent (with momentum if that is > 0), Adam (Kingma and Ba 2015), or Muon
            (Jordan 2024), which makes the steps of kernels orthogonal.
        learning_rate: at its peak if the schedule moves it.
        momentum: of SGD and Muon, in [0, 1).
        schedule: how the learning rate changes over all steps; "cosine" and "linear" end at 0.
        warmup: share of all steps in which the learning rate first rises to its peak, in [0, 1).
        epochs: passes over the training images.
        batch_size: images a step; the last batch of an epoch may be smaller, as in Keras.
        l2: strength of `l2 * sum(w ** 2)`, added to the loss for its gradient, never to reported losses.
            torch's `weight_decay` of SGD is twice this number.
        l2_params: patterns of the names of parameters that it acts on; kernels only (two dimensions or more).
        augmentation: how training images are moved. Targets move along; evaluation images stay.
        corruption: what the network is given instead of the clean image.
        eval_strength: strength of the corruption where a denoiser is evaluated, so that denoisers which were
            trained on other strengths can be compared; None: strengths are drawn as in training.

    Example:
        >>> Recipe(optimizer="adam", learning_rate=1e-3).epochs
        10
    """

    objective: str = "classify"
    optimizer: Literal["sgd", "adam", "muon"] = "sgd"
    learning_rate: PositiveFp32 = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    l2: NonNegativeFp32 = 0.0
    l2_params: Annotated[tuple[str, ...], FailFast] = ("*.weight",)
    augmentation: Augmentation | None = None
    corruption: CorruptionConfig | None = None
    eval_strength: NonNegativeFp32 | None = None

    @model_validator(mode="after")
    def _check_eval_strength(self) -> "Recipe":
        if self.eval_strength is not None and self.corruption is None:
            raise ValueError("eval_strength is a strength of the corruption, but there is no corruption")
        return self

    @property
    def eval_corruption(self) -> CorruptionConfig | None:
        """How images are corrupted where the network is evaluated."""
        if self.corruption is None or self.eval_strength is None:
            return self.corruption
        return CorruptionConfig(name=self.corruption.name, strength=(self.eval_strength, self.eval_strength))


class TrialConfig(Record):
    """Everything that decides what a trial computes, besides data, seed and replicate.

    Attributes:
        network: which, with its arguments.
        normalize: the module in front of it.
        recipe: how it is trained.
        precision: of its training.
    """

    network: NetworkConfig
    normalize: NormalizeConfig
    recipe: Recipe
    precision: Precision

    @property
    def user_code(self) -> tuple[str, ...]:
        """Names of a user's own code that training this runs, as `file.py:Name`; () if none."""
        corruption = self.recipe.corruption
        names = (self.network.name, corruption.name if corruption else "")
        return tuple(name for name in names if is_user_code(name))

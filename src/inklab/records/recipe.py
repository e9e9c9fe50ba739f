"""How to train, and the resolved configuration of a trial. Imports no torch."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from inklab.records.components import NetworkConfig, NormalizeConfig, ObjectName
from inklab.records.record import FailFast, Names, NonNegativeFp32, PositiveFp32, Record
from inklab.usercode import is_user_code

VECTOR_SETTINGS = ("learning_rate", "l2", "momentum", "weight_decay", "clip_norm", "ema_decay")
"""What members of one population may differ in, besides the replicate."""

OPTIMIZER_SETTINGS = ("learning_rate", "momentum", "nesterov", "weight_decay")
"""Settings that are made for one optimizer, and of no use to another."""

OPTIMIZER_STATE = {
    "sgd": ("velocity",), "adam": ("mean", "square"), "adamw": ("mean", "square"), "muon": ("velocity",),
}  # fmt: skip
"""What each optimizer keeps: under each name a tensor like every parameter. SGD without momentum: nothing."""

LEARNING_RATES = {"sgd": 0.1, "adam": 1e-3, "adamw": 1e-3, "muon": 0.05}
"""The learning rate of a recipe that names none."""

ADAMW_WEIGHT_DECAY = 0.01  # as torch
ONE_CYCLE_WARMUP = 0.3  # as torch

DERIVED_DEFAULTS = ("learning_rate", "weight_decay", "warmup")
"""Fields whose default depends on the optimizer or the schedule."""

ADDED_FIELDS = {
    "nesterov": False, "weight_decay": 0.0, "clip_norm": None, "ema_decay": None, "step_epochs": None,
    "step_factor": 0.1, "early_stopping": None, "label_smoothing": 0.0, "class_weights": None,
}  # fmt: skip
"""Fields of a recipe that came after the first outcomes, each with the value that changes nothing."""

Precision = Literal["fp32", "bf16"]


ClassWeights = Annotated[
    Annotated[Literal["balanced"], Tag("word")]
    | Annotated[tuple[PositiveFp32, ...], FailFast, Tag("numbers")],
    Discriminator(lambda value: "word" if isinstance(value, str) else "numbers"),
]
"""How much the images of each class count in the loss: "balanced", or a number for each class."""


class CorruptionConfig(Record):
    """Which corruption a network is given its inputs with.

    Attributes:
        name: a registered corruption, `file.py:name` or a function.
        strength: lowest and highest, in the corruption's unit; one number stands for both. Each image draws
            its own in between, each step.

    Example:
        >>> CorruptionConfig.parse({"name": "salt_and_pepper", "strength": 0.4}).strength
        (0.4, 0.4)
    """

    name: ObjectName
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
        """Whether it is a function of the user's own."""
        return is_user_code(self.name)


class Augmentation(Record):
    """How training images are changed, so that no two epochs have quite the same ones.

    A recipe may also name the function alone: `augmentation = "my_augmentation.py:mirror"`.

    Attributes:
        shift: at most so many whole pixels, along both axes, in [0, 100]. Not drawn anew each epoch but taken
            in turns: after `(2 * shift + 1) ** 2` epochs each image has been at every offset once.
        rotation: at most so many degrees, either way, in [0, 180].
        scale: width and height change by at most this share, each by its own, in [0, 1).
        elastic: standard deviation, in pixels, of a smooth random displacement (Simard, Steinkraus and Platt
            2003), in [0, 100].
        function: of your own, `(images, draws) -> images`, which is called last: a registered name,
            `file.py:name` or the function itself. Images are floats `(n, c, h, w)` in [0, 1], as are those
            that it returns; all that it draws should come from `draws`.
    """

    shift: Annotated[int, Field(ge=0, le=100)] = 0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    elastic: Annotated[float, Field(ge=0, le=100)] = 0.0
    function: ObjectName | None = None

    @property
    def interpolates(self) -> bool:
        """Whether pixels are interpolated, beyond a shift by whole ones."""
        return bool(self.rotation or self.scale or self.elastic)


class EarlyStopping(Record):
    """When a training ends before its last epoch.

    Each member of a population stops by itself; the others go on.

    Attributes:
        patience: epochs without a better value of the metric after which training ends, at least 1.
        metric: measured on the validation images after each epoch.
        min_delta: by how much a value must be better than the best so far to count; at least 0.
        restore_best: whether the weights are those of the best epoch, also if training never stopped early
            (as in Keras); otherwise those of the last.

    Example:
        >>> rule = EarlyStopping(patience=2)
        >>> losses = [0.9, 0.5, 0.6, 0.5]
        >>> rule.best_epoch(losses), rule.is_over(losses[:3]), rule.is_over(losses)
        (2, False, True)
    """

    patience: Annotated[int, Field(ge=1, le=100_000)] = 5
    metric: Literal["validation_loss", "validation_accuracy"] = "validation_loss"
    min_delta: NonNegativeFp32 = 0.0
    restore_best: bool = True

    def best_epoch(self, values: Sequence[float]) -> int:
        """The epoch, from 1, with the best of the metric's values, one an epoch; 0 without values."""
        sign = -1 if self.metric == "validation_accuracy" else 1
        best, best_value = 0, math.inf
        for epoch, value in enumerate(values, 1):
            if not best or sign * value < best_value - self.min_delta:
                best, best_value = epoch, sign * value
        return best

    def is_over(self, values: Sequence[float]) -> bool:
        """Whether training ends after the last of these values."""
        return len(values) - self.best_epoch(values) >= self.patience


class Recipe(Record):
    """How to train, in full.

    Attributes:
        objective: a registered function `(net, batch) -> loss`, `file.py:name`, or the function itself.
        optimizer: plain gradient descent (with momentum if that is > 0), Adam (Kingma and Ba 2015), AdamW
            (Loshchilov and Hutter 2019), whose weight decay is apart from the gradient, or Muon (Jordan
            2024), which makes the steps of kernels orthogonal.
        learning_rate: at its peak if the schedule moves it; by default 0.1 for SGD, 0.001 for Adam and AdamW,
            0.05 for Muon.
        momentum: of SGD and Muon, in [0, 1); Adam and AdamW have their own.
        nesterov: whether SGD looks ahead along its momentum, as torch's does. Muon always does.
        weight_decay: of AdamW, by default 0.01: each step first takes the share `learning_rate *
            weight_decay` off every parameter, biases included, as torch's does.
        clip_norm: most that the gradient's norm over all parameters may be; a longer gradient is scaled down
            to it. The gradient of `l2` is part of it, the decay of AdamW is not.
        ema_decay: of the exponential moving average of the weights, in [0, 1), typically 0.99 to 0.9999. The
            averaged weights are evaluated after each epoch, saved and exported; training goes on with its
            own. None: no average.
        schedule: how the learning rate changes over all steps: "cosine" and "linear" end at 0; "one-cycle"
            rises from 1/25 of the peak and falls to 1/250,000 of it, both along a cosine (Smith and Topin
            2018); "step" multiplies it by `step_factor` after every `step_epochs`.
        step_epochs: epochs between two drops of the schedule "step", at least 1; only and always with it.
        step_factor: what the schedule "step" multiplies the learning rate by, in (0, 1].
        warmup: share of all steps in which the learning rate first rises to its peak, in [0, 1); by default
            0, and 0.3 for "one-cycle".
        epochs: passes over the training images.
        batch_size: images a step; the last batch of an epoch may be smaller, as in Keras.
        l2: strength of `l2 * sum(w ** 2)`, added to the loss for its gradient, never to reported losses.
            torch's `weight_decay` of SGD is twice this number.
        l2_params: patterns of the names of parameters that it acts on; kernels only (two dimensions or more).
        augmentation: how training images are changed. Targets change along; evaluation images stay.
        corruption: what the network is given instead of the clean image.
        eval_strength: strength of the corruption where a denoiser is evaluated, so that denoisers which were
            trained on other strengths can be compared; None: strengths are drawn as in training.
        early_stopping: when training ends before the last epoch; needs validation images. Schedules are
            those of the full number of epochs.
        label_smoothing: share of each target that is spread evenly over all classes, in [0, 1], as of torch's
            `cross_entropy`.
        class_weights: how much the images of each class count in the loss: numbers above 0 in the order of
            the classes, or "balanced": `images / (classes * images of the class)` of the training images, as
            scikit-learn's. The loss is the weighted mean over the batch, as of torch's `cross_entropy`. Both
            act on the training loss only: evaluation is plain cross-entropy and accuracy.

    Example:
        >>> Recipe(optimizer="adam", learning_rate=1e-3).epochs
        10
        >>> Recipe().learning_rate, Recipe(optimizer="adamw").learning_rate
        (0.1, 0.001)
    """

    objective: ObjectName = "classify"
    optimizer: Literal["sgd", "adam", "adamw", "muon"] = "sgd"
    learning_rate: PositiveFp32 = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    nesterov: bool = False
    weight_decay: NonNegativeFp32 = 0.0
    clip_norm: PositiveFp32 | None = None
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    schedule: Literal["constant", "cosine", "linear", "one-cycle", "step"] = "constant"
    step_epochs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    l2: NonNegativeFp32 = 0.0
    l2_params: Annotated[tuple[str, ...], FailFast] = ("*.weight",)
    augmentation: Augmentation | None = None
    corruption: CorruptionConfig | None = None
    eval_strength: NonNegativeFp32 | None = None
    early_stopping: EarlyStopping | None = None
    label_smoothing: Annotated[float, Field(ge=0, le=1)] = 0.0
    class_weights: ClassWeights | None = None

    @field_validator("augmentation", mode="before")
    @classmethod
    def _expand_function(cls, value: object) -> object:
        return {"function": value} if isinstance(value, str) or callable(value) else value

    @model_validator(mode="after")
    def _derive_defaults(self) -> "Recipe":
        defaults = {
            "learning_rate": LEARNING_RATES[self.optimizer],
            "weight_decay": ADAMW_WEIGHT_DECAY if self.optimizer == "adamw" else 0.0,
            "warmup": ONE_CYCLE_WARMUP if self.schedule == "one-cycle" else 0.0,
        }
        # Not by a default factory, whose absence pydantic reports beside any mistake in another field.
        unset = {key: value for key, value in defaults.items() if key not in self.model_fields_set}
        self.__dict__.update(unset)  # it is frozen, and they are still unset
        return self

    @model_validator(mode="after")
    def _check_eval_strength(self) -> "Recipe":
        if self.eval_strength is not None and self.corruption is None:
            raise ValueError("eval_strength is a strength of the corruption, but there is no corruption")
        return self

    @model_validator(mode="after")
    def _check_optimizer(self) -> "Recipe":
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise ValueError(
                f"nesterov is a kind of SGD's momentum, but the optimizer is {self.optimizer} and momentum "
                f"is {self.momentum:g}; set optimizer = sgd and a momentum, such as 0.9"
            )
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError(
                f"weight_decay is of the optimizer adamw, but the optimizer is {self.optimizer}; for a "
                f"penalty in the loss set l2 = {self.weight_decay / 2:g} (half of torch's weight_decay)"
            )
        return self

    @model_validator(mode="after")
    def _check_schedule(self) -> "Recipe":
        if self.schedule == "step" and self.step_epochs is None:
            raise ValueError(
                "the schedule step needs step_epochs, after which the learning rate is multiplied by "
                "step_factor"
            )
        if self.schedule != "step" and (self.step_epochs, self.step_factor) != (None, 0.1):
            raise ValueError(
                f"step_epochs and step_factor are of the schedule step, but the schedule is {self.schedule}"
            )
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
        metrics: of the user's own, `file.py:name` or references; computed of the trained network.
    """

    network: NetworkConfig
    normalize: NormalizeConfig
    recipe: Recipe
    precision: Precision
    metrics: Names = ()

    @property
    def identity(self) -> dict[str, Any]:
        """It as JSON values, without fields that were added later and are not used.

        What is computed from this stays the same when there are new fields.
        """
        content = self.to_json()
        recipe = content["recipe"]
        content["recipe"] = {
            key: value for key, value in recipe.items() if (key, value) not in ADDED_FIELDS.items()
        }
        if self.recipe.augmentation and not self.recipe.augmentation.function:
            del content["recipe"]["augmentation"]["function"]
        if not self.metrics:
            del content["metrics"]
        return content

    @property
    def user_code(self) -> tuple[str, ...]:
        """Names of a user's own code that training this runs; () if none."""
        recipe = self.recipe
        corruption = recipe.corruption.name if recipe.corruption else ""
        augmentation = recipe.augmentation and recipe.augmentation.function or ""
        names = (self.network.name, corruption, recipe.objective, augmentation, *self.metrics)
        return tuple(name for name in names if is_user_code(name))

"""The hyperparameters of the estimators, and the trial configuration that they make."""

import os
from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.class_weight import compute_class_weight

from inklab.errors import ConfigError
from inklab.metrics import Task
from inklab.networks.network import check_network
from inklab.records.components import NetworkConfig, Normalization, NormalizeConfig
from inklab.records.recipe import EarlyStopping, Recipe, TrialConfig
from inklab.training.batches import TensorSet, TrainingData, standardization
from inklab.training.objectives import objectives
from inklab.training.recipe_files import RecipeFile, read_recipe_file

RECIPE_ARGUMENTS = (
    "objective", "optimizer", "learning_rate", "momentum", "weight_decay", "schedule", "warmup", "epochs",
    "batch_size", "l2", "clip_norm", "label_smoothing", "augmentation",
)  # fmt: skip
"""Constructor arguments that replace the field of the recipe with their name."""


class Hyperparameters(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The constructor of both estimators, and what it configures."""

    _task: ClassVar[Task]
    _default_network: ClassVar[str]
    _default_normalize: ClassVar[Normalization]
    _default_recipe: ClassVar[Recipe]

    def __init__(
        self,
        network: object = None,
        *,
        network_params: Mapping[str, object] | None = None,
        recipe: object = None,
        objective: object = None,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        momentum: float | None = None,
        weight_decay: float | None = None,
        schedule: str | None = None,
        warmup: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        l2: float | None = None,
        clip_norm: float | None = None,
        label_smoothing: float | None = None,
        augmentation: object = None,
        class_weight: object = None,
        early_stopping: bool | None = None,
        n_iter_no_change: int | None = None,
        tol: float | None = None,
        corruption: object = None,
        strength: float | tuple[float, float] | None = None,
        normalize: object = None,
        n_replicates: int = 1,
        validation_fraction: float = 0.0,
        image_shape: Sequence[int] | None = None,
        pixel_range: Sequence[float] | None = None,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.network, self.network_params = network, network_params
        self.recipe, self.objective = recipe, objective
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup = warmup
        self.epochs = epochs
        self.batch_size = batch_size
        self.l2 = l2
        self.clip_norm = clip_norm
        self.label_smoothing = label_smoothing
        self.augmentation = augmentation
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.corruption = corruption
        self.strength = strength
        self.normalize = normalize
        self.n_replicates = n_replicates
        self.validation_fraction = validation_fraction
        self.image_shape = image_shape
        self.pixel_range = pixel_range
        self.n_jobs, self.random_state = n_jobs, random_state

    def _config(self, data: TrainingData, n_classes: int) -> TrialConfig:
        """The configuration of every replicate, out of the hyperparameters."""
        if self.n_replicates < 1:
            raise ConfigError(f"n_replicates is {self.n_replicates}; at least 1", key="n_replicates")
        file = self._recipe_file()
        recipe = self._resolved_recipe(file)
        if (task := objectives.resolve(recipe.objective).task) != self._task:
            raise ConfigError(
                f"objective '{recipe.objective}' is for {task}, not for {self._task}: use "
                f"{'ImageDenoiser' if task == 'denoising' else 'ImageClassifier'}",
                key="objective",
            )
        base = {"name": self.network}
        if self.network is None:
            base = file.network.to_json() if file.network else {"name": self._default_network}
        params = {name: plain_value(value) for name, value in (self.network_params or {}).items()}
        network = NetworkConfig.parse({**base, **params})
        check_network(network)
        normalize = self.normalize
        if normalize is None:
            normalize = (file.normalize if self.network is None else None) or self._default_normalize
        if recipe.early_stopping and not len(data.validation):
            raise ConfigError(
                f"early stopping needs validation images, but validation_fraction={self.validation_fraction} "
                f"holds out none of {len(data.train)}; set more, such as 0.1, or early_stopping=False",
                key="early_stopping",
            )
        objectives.resolve(recipe.objective).check(recipe, n_classes, len(data.validation))
        return TrialConfig(
            network=network,
            normalize=_normalize_config(normalize, data.train),
            recipe=recipe,
            precision="fp32",
        )

    def _recipe_file(self) -> RecipeFile:
        match self.recipe:
            case Recipe() as recipe:
                return RecipeFile(recipe=recipe)
            case str() | os.PathLike() as path:
                return read_recipe_file(os.fspath(path))
            case _:
                return RecipeFile(recipe=self._default_recipe)

    def _resolved_recipe(self, file: RecipeFile) -> Recipe:
        """The recipe, with what the constructor was given in place of its fields."""
        arguments = {name: plain_value(getattr(self, name)) for name in RECIPE_ARGUMENTS}
        changes = {**self.recipe} if isinstance(self.recipe, Mapping) else {}
        changes |= {name: value for name, value in arguments.items() if value is not None}
        fields = file.merged(changes)
        if self.corruption is not None:
            fields["corruption"] = {"name": self.corruption}
            fields.pop("eval_strength", None)  # in the unit of another corruption
        if self.strength is not None:
            corruption = cast(Mapping[str, object] | None, fields.get("corruption"))
            fields["corruption"] = {**(corruption or {}), "strength": plain_value(self.strength)}
        if self.class_weight is not None:
            fields["class_weights"] = self._class_weights()
        rule = self._early_stopping_rule(Recipe.parse(fields, "recipe").early_stopping)
        return Recipe.parse({**fields, "early_stopping": rule}, "recipe")

    def _class_weights(self) -> object:
        """`class_weight` in the order of the classes, as scikit-learn reads a dictionary."""
        weighting = self.class_weight
        if self._task != "classification":
            raise ConfigError(f"class_weight is for classification, not for {self._task}", key="class_weight")
        if not (isinstance(weighting, Mapping) or (isinstance(weighting, str) and weighting == "balanced")):
            allowed = "None, 'balanced', or a dictionary {class: weight}"
            raise ConfigError(f"class_weight is {weighting!r}; allowed: {allowed}", key="class_weight")
        if isinstance(weighting, str):
            return weighting
        classes = getattr(self, "classes_")  # noqa: B009  # of classifiers
        weights = compute_class_weight(dict(weighting), classes=classes, y=classes)
        if not (np.isfinite(weights) & (weights > 0)).all():
            raise ConfigError(f"class_weight is {weighting!r}; weights should be above 0", key="class_weight")
        return tuple(weights.tolist())

    def _early_stopping_rule(self, of_recipe: EarlyStopping | None) -> EarlyStopping | None:
        """The recipe's rule, or the default one, with `n_iter_no_change` and `tol`; None: no such rule."""
        is_on = plain_value(self.early_stopping)
        if is_on not in (None, False, True):
            allowed = "True, False, or None for the recipe's"
            raise ConfigError(f"early_stopping is {is_on!r}; allowed: {allowed}", key="early_stopping")
        if not (of_recipe if is_on is None else is_on):
            return None
        changes = {"patience": plain_value(self.n_iter_no_change), "min_delta": plain_value(self.tol)}
        fields = {name: value for name, value in changes.items() if value is not None}
        name = "n_iter_no_change (patience) or tol (min_delta)"
        return EarlyStopping.parse({**(of_recipe or EarlyStopping()).to_json(), **fields}, name)


def plain_value(value: object) -> object:
    """A number of NumPy's, such as a search draws, as one of Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _normalize_config(normalize: object, train: TensorSet) -> NormalizeConfig:
    if normalize == "none":
        return NormalizeConfig()
    if normalize == "dataset":
        return standardization(train)
    if isinstance(normalize, str):
        raise ConfigError(f"normalize is '{normalize}'; allowed: 'dataset', 'none', or a mean and std")
    return NormalizeConfig.parse(normalize, "normalize")

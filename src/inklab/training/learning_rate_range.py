"""The learning-rate range test: which learning rates a network can be trained with, in a hundred steps."""

import math
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from inklab.datasets import as_dataset
from inklab.errors import OutOfRangeError
from inklab.networks.network import networks
from inklab.notebook import Columns, Tabular, card
from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.records.plan import Trial
from inklab.records.recipe import Recipe, TrialConfig
from inklab.training.batches import TensorSet, TrainingData, standardization, to_tensor_set
from inklab.training.objectives import objectives
from inklab.training.population import Population, PopulationSpec
from inklab.training.preflight import preflight
from inklab.training.recipe_files import RecipeFile, read_recipe_file

if TYPE_CHECKING:
    from inklab.report.figures.figure import Figure

MIN_STEPS = 10
SMOOTHING_SHARE = 0.03  # standard deviation of the smoothing, as a share of the steps
MAX_LOSS_RATIO = 4.0  # of the least loss so far, where the test ends: the training diverges
RECENT = 5  # steps whose mean loss is compared with it


@dataclass(frozen=True)
class LearningRateRange(Tabular):
    """Losses of a training whose learning rate rose from step to step (Smith 2017, section 3.3).

    Its table has a row for each step.

    Attributes:
        rates: `(steps,)` learning rates, rising by the same factor each step.
        losses: `(steps,)` training loss of each step's batch before it.
        smoothed: `(steps,)` the same, averaged over neighboring steps.
        suggestion: the rate at which the smoothed loss falls most steeply over the logarithm of the rate,
            before its minimum; None if it does not fall.

    Example:
        >>> rates = np.geomspace(1e-4, 10, 60)
        >>> losses = np.where(rates < 1, 2 / (1 + rates / 0.02), 2 * rates)
        >>> 0.01 < LearningRateRange.of(rates, losses).suggestion < 0.04
        True
    """

    rates: Float[np.ndarray, " steps"]
    losses: Float[np.ndarray, " steps"]
    smoothed: Float[np.ndarray, " steps"]
    suggestion: float | None

    @classmethod
    def of(
        cls, rates: Float[np.ndarray, " steps"], losses: Float[np.ndarray, " steps"]
    ) -> "LearningRateRange":
        """The result for rates and finite losses of at least two steps."""
        smoothed = _smooth(losses)
        lowest = int(smoothed.argmin())
        slopes = np.gradient(smoothed, np.log(rates))[: lowest + 1]
        falls = lowest > 0 and slopes.min() < 0
        return cls(rates, losses, smoothed, float(rates[slopes.argmin()]) if falls else None)

    def __repr__(self) -> str:
        advice = "no suggestion" if self.suggestion is None else f"suggestion {self.suggestion:.2g}"
        low, high = self.rates[0], self.rates[-1]
        return f"LearningRateRange({len(self.rates)} steps, rates {low:.2g} to {high:.2g}, {advice})"

    def _repr_html_(self) -> str:
        return card("Learning-rate range test", self.figure().for_file(), subtitle=repr(self))

    @property
    def _columns(self) -> Columns:
        arrays = {"learning_rate": self.rates, "loss": self.losses, "smoothed_loss": self.smoothed}
        return {name: values.tolist() for name, values in arrays.items()}

    def figure(self) -> "Figure":
        """Loss by learning rate, with the suggestion: shows itself in a notebook, and can be saved.

        Example:
            >>> result.figure().save("range.svg")    # doctest: +SKIP
            >>> result.figure().draw(ax)             # doctest: +SKIP
        """
        from inklab.report.figures.training_plots import learning_rate_figure

        return learning_rate_figure(self)


def learning_rate_range(
    network: object,
    data: object = None,
    recipe: Recipe | RecipeFile | None = None,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    seed: int = 0,
) -> LearningRateRange:
    """Train once, in this process, with a learning rate that rises by the same factor each step.

    Ends early where the loss diverges. Test images are not used.

    Args:
        network: a registered name, `file.py:Name`, a class or function, or a `NetworkConfig`.
        data: as of `inklab.datasets.as_dataset`, such as `(X, y)` or a name; or tensors as `TrainingData`.
        recipe: optimizer, batch size, objective and all else but schedule, warmup, epochs and early stopping;
            by default that of the network's task. A `RecipeFile` also has the normalization in front of the
            network; a `Recipe` has none.
        low: first learning rate, above 0.
        high: last one, above `low`.
        steps: at least 10; each takes one batch.
        seed: of weights, order and noise.

    Raises:
        OutOfRangeError: rates or steps are not as documented, or the loss is not finite from the start.
        ConfigError: the network or a setting does not exist or does not fit the data.
        ModelMismatchError: the network does not fit the objective or can't be trained.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y = np.arange(400) % 2
        >>> X = (rng.random((400, 8, 8)) * (1 + y[:, None, None]) / 2).astype(np.float32)
        >>> result = learning_rate_range("mlp", (X, y), Recipe(batch_size=32), 1e-4, 10.0, steps=40)
        >>> result.losses.shape == result.rates.shape and 1e-4 < result.suggestion < 10
        True
    """
    if not 0 < low < high < math.inf or steps < MIN_STEPS:
        raise OutOfRangeError(
            f"rates from {low:g} to {high:g} in {steps} steps; low must be above 0, high above low, "
            f"and steps at least {MIN_STEPS}"
        )
    tensors = data if isinstance(data, TrainingData) else _tensors(data, seed)
    config = _config(network, recipe, tensors, steps)
    traits = preflight(config, tensors.shape, len(tensors.labels), len(tensors.train))
    trial = Trial("learning-rate-range", config, 0)
    spec = PopulationSpec([trial], stacked=False, reseed_each_step=traits.uses_global_rng, seed=seed)
    rates = np.geomspace(low, high, steps)
    losses = _losses(Population.build(spec, tensors), rates)
    if len(losses) < 2:
        raise OutOfRangeError(
            f"the loss is not finite after a step at the rate {low:g}; begin with a lower one"
        )
    return LearningRateRange.of(rates[: len(losses)], losses)


def _tensors(data: object, seed: int) -> TrainingData:
    dataset = as_dataset(data, seed=seed)
    train = to_tensor_set(dataset.train.pixels, dataset.train.labels)
    none = TensorSet(train.pixels[:0], train.labels[:0])
    return TrainingData(train, none, none, dataset.labels)


def _config(
    network: object, recipe: Recipe | RecipeFile | None, data: TrainingData, steps: int
) -> TrialConfig:
    parsed = network if isinstance(network, NetworkConfig) else NetworkConfig.parse(network)
    if recipe is None:
        is_denoiser = networks.resolve(parsed.name).task == "denoising"
        recipe = read_recipe_file("denoise" if is_denoiser else "sgd")
    normalize = NormalizeConfig()
    if isinstance(recipe, RecipeFile):
        normalize, recipe = _normalization(recipe, data), recipe.recipe
    objectives.resolve(recipe.objective).check(recipe, len(data.labels), n_validation=1)
    # As many epochs as steps are always enough.
    changes = {"schedule": "constant", "warmup": 0.0, "epochs": steps, "early_stopping": None}
    recipe = recipe.model_copy(update={**changes, "step_epochs": None, "step_factor": 0.1})
    return TrialConfig(network=parsed, normalize=normalize, recipe=recipe, precision="fp32")


def _normalization(file: RecipeFile, data: TrainingData) -> NormalizeConfig:
    match file.normalize:
        case NormalizeConfig() as config:
            return config
        case "dataset":
            return standardization(data.train)
    return NormalizeConfig()


def _losses(population: Population, rates: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " n"]:
    """The loss of each step, as far as it does not diverge."""
    state, losses, lowest = population.init_state, list[float](), math.inf
    numbered_batches = chain.from_iterable(
        ((epoch, number, batch) for number, batch in enumerate(population.batches.epoch(epoch)))
        for epoch in count()
    )
    for step, (epoch, number, batch) in enumerate(islice(numbered_batches, len(rates))):
        hyper = population.schedule.at(step)._replace(
            learning_rate=torch.tensor(rates[step], dtype=torch.float32)
        )
        with population.global_rng(epoch, number):
            state, loss = population.step(state, batch, population.dropout_keys(epoch, number), hyper)
        if not math.isfinite(float(loss)):
            break
        losses.append(float(loss))
        recent = float(np.mean(losses[-RECENT:]))
        lowest = min(lowest, recent)
        if recent > MAX_LOSS_RATIO * lowest:
            break
    return np.array(losses)


def _smooth(losses: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    """Each loss averaged with its neighbors by a Gaussian, on both sides, so that minima stay in place."""
    index = np.arange(len(losses))
    sigma = max(1.0, SMOOTHING_SHARE * len(losses))
    weights = np.exp(-0.5 * ((index[:, None] - index) / sigma) ** 2)
    return np.asarray(weights @ losses / weights.sum(1))

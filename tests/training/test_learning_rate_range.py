"""The learning-rate range test against torch's own loop, and its suggestion where the answer is known."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from synthetic_training import DROPOUT_MLP, SMALL_AUTOENCODER, SMALL_MLP, trial_config
from torch import nn
from torch.nn import functional

from inklab.errors import ConfigError, ModelMismatchError, OutOfRangeError
from inklab.records.components import NormalizeConfig
from inklab.records.recipe import Recipe
from inklab.seeding import Seed
from inklab.training.batches import BatchLoader
from inklab.training.learning_rate_range import LearningRateRange, learning_rate_range
from inklab.training.population import build_normalized
from inklab.training.recipe_files import RecipeFile

RECIPE = Recipe(batch_size=32, momentum=0.5)


def test_losses_are_those_of_torchs_loop(data):
    result = learning_rate_range(SMALL_MLP, data, RECIPE, 1e-3, 1.0, steps=17, seed=5)
    seed = Seed(5) / "replicate" / 0
    net = build_normalized(trial_config(SMALL_MLP), data.shape, 10, seed / "weights")
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.5)
    loader = BatchLoader(data, RECIPE, [seed], stacked=False)
    batches = [batch for epoch in range(3) for batch in loader.epoch(epoch)][:17]
    losses = []
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = 1e-3 * 1000 ** (step / 16)
        loss = functional.cross_entropy(net(batch.inputs.float() / 255), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(result.losses, losses, rtol=1e-4)
    np.testing.assert_allclose(result.rates, np.geomspace(1e-3, 1.0, 17))


@pytest.mark.parametrize("steepest", [0.003, 0.05, 0.4])
def test_the_suggestion_is_where_the_loss_falls_most_steeply(steepest):
    rates = np.geomspace(1e-5, 10, 120)
    losses = 2 / (1 + rates / steepest) + np.where(rates > 5, rates, 0)
    assert LearningRateRange.of(rates, losses).suggestion == pytest.approx(steepest, rel=0.15)


def test_noise_moves_it_little():
    rates, rng = np.geomspace(1e-5, 10, 200), np.random.default_rng(0)
    losses = 2 / (1 + (rates / 0.02) ** 1.5) + rng.normal(0, 0.03, 200)
    assert 0.006 < LearningRateRange.of(rates, losses).suggestion < 0.06


def test_a_loss_that_only_rises_has_none():
    rates = np.geomspace(1e-3, 1, 30)
    assert LearningRateRange.of(rates, rates).suggestion is None
    assert "no suggestion" in repr(LearningRateRange.of(rates, rates))


def test_it_ends_where_the_loss_diverges(data):
    result = learning_rate_range(SMALL_MLP, data, RECIPE, 1e-3, 1e6, steps=60)
    assert 10 < len(result.losses) < 60 and np.isfinite(result.losses).all()
    assert len(result.rates) == len(result.smoothed) == len(result.losses)
    assert 1e-3 < result.suggestion < result.rates[-1]


@pytest.mark.parametrize("network", [SMALL_MLP, DROPOUT_MLP], ids=["plain", "dropout"])
def test_the_same_seed_gives_the_same_and_schedules_play_no_part(data, network):
    first = learning_rate_range(network, data, RECIPE, steps=12, seed=3)
    recipe = RECIPE.model_copy(update={"schedule": "cosine", "warmup": 0.5, "learning_rate": 7.0})
    again = learning_rate_range(network, data, recipe, steps=12, seed=3)
    other = learning_rate_range(network, data, RECIPE, steps=12, seed=4)
    assert np.array_equal(first.losses, again.losses) and not np.array_equal(first.losses, other.losses)


def test_denoisers_and_classes_of_the_users_own(data):
    losses = learning_rate_range(SMALL_AUTOENCODER, data, low=1e-5, steps=20).losses
    assert losses[0] == pytest.approx(np.log(2), rel=0.05)

    class Net(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Flatten(), nn.Linear(144, 10))

    arrays = data.train.pixels[:, 0].numpy(), data.train.labels.numpy()
    assert learning_rate_range(Net, arrays, steps=30).suggestion


def test_a_recipe_file_brings_its_normalization(data):
    scaled = RecipeFile(recipe=RECIPE, normalize=NormalizeConfig(mean=0.5, std=0.5))
    own = RecipeFile(recipe=RECIPE, normalize="dataset")
    losses = [
        learning_rate_range(SMALL_MLP, data, recipe, steps=10).losses for recipe in (RECIPE, scaled, own)
    ]
    assert not np.array_equal(losses[0], losses[1]) and not np.array_equal(losses[1], losses[2])


def test_it_is_a_table_and_a_figure(data, tmp_path):
    result = learning_rate_range(SMALL_MLP, data, RECIPE, 1e-3, 10.0, steps=40)
    figure, ax = result.figure(), Figure().add_subplot()
    assert figure.draw(ax) is ax and ax.get_xscale() == "log"
    raw, smoothed, suggestion = ax.get_lines()
    assert np.array_equal(raw.get_ydata(), result.losses)
    assert np.array_equal(smoothed.get_ydata(), result.smoothed)
    assert suggestion.get_xdata()[0] == result.suggestion
    assert figure.data == result.data and len(result.data) == len(result.losses)
    assert figure.for_file() in result._repr_html_() and f"{result.suggestion:.2g}" in figure.caption
    assert "0.01" in figure.svg and "mathdefault" not in figure.svg
    assert figure.save(tmp_path / "range.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"low": 0.0}, OutOfRangeError),
        ({"low": 1.0, "high": 0.1}, OutOfRangeError),
        ({"high": float("inf")}, OutOfRangeError),
        ({"steps": 9}, OutOfRangeError),
        ({"network": "mpl"}, ConfigError),
        ({"network": SMALL_AUTOENCODER, "recipe": RECIPE}, ModelMismatchError),
        ({"recipe": Recipe(class_weights=(1.0, 2.0))}, ConfigError),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(data, options, error):
    arguments = {"network": SMALL_MLP, "recipe": RECIPE, **options}
    with pytest.raises(error):
        learning_rate_range(data=data, **arguments)

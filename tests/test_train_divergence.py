"""Divergence is an outcome of one member: it is told, histories stay finite, neighbours do not notice."""

import math

import pytest
import torch
from synthetic_training import (
    SMALL_AUTOENCODER,
    SMALL_CNN,
    members,
    same_bits,
    settings,
    train,
    train_one,
    training_data,
    walk,
)

from inklab.training.trainer import PopulationJob, train_population

HUGE = 1e30  # weights of 1e30: the product of two layers is beyond float32


def assert_finite(history: dict) -> None:
    walk(history, lambda value: pytest.fail(f"{value} in {history}") if not math.isfinite(value) else None)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_member_diverges_alone(place, precision, data):
    rates = [0.1, 0.05, 0.2]
    rates[place] = HUGE
    told = [
        (replicate, settings(rate=rate, precision=precision, epochs=2))
        for replicate, rate in enumerate(rates)
    ]
    results = train(members(*told), data)
    assert [bool(each.diverged) for each in results] == [at == place for at in range(3)]
    assert "NaN or infinite in epoch 1, step" in results[place].diverged
    for each in results:
        assert_finite(each.history)
        assert (
            same_bits(each, train_one(each.trial.settings, data, replicate=each.trial.replicate))
            or each.diverged
        )
    assert results[place].history == {}


def test_a_diverged_member_tells_the_same_alone(data):
    told = settings(rate=HUGE, epochs=2)
    together = train(members((0, settings(epochs=2)), (1, told)), data)[1]
    alone = train_one(told, data, replicate=1)
    assert (alone.diverged, alone.history) == (together.diverged, together.history)


@pytest.mark.parametrize("lifted", [True, False])
def test_when_all_have_diverged_training_stops(lifted, data):
    told, epochs = settings(rate=HUGE, epochs=50), []
    group = PopulationJob(members((0, told), (1, told)), lifted, False, 0)
    results = train_population(group, data, lambda epoch, of, loss: epochs.append((epoch, of)))
    assert all(each.diverged for each in results)
    assert epochs == [(1, 50)] * (1 if lifted else 2)


@pytest.mark.parametrize("validation", [40, 0])
def test_what_breaks_in_the_last_step_of_an_epoch_is_seen(validation, digits):
    """The loss is taken before the step that ruins the weights, so the losses alone look sound."""
    data = training_data(*digits, train=200, validation=validation)
    ruined, sound = train(members((0, settings(rate=1e38, batch=200)), (1, settings(batch=200))), data)
    assert ruined.diverged == "the loss became NaN or infinite after epoch 1"
    assert ruined.history == {}
    assert sound.diverged is None
    assert_finite(sound.history)


def test_what_came_before_the_divergence_is_kept(data):
    """An L2 so strong that each step multiplies the kernels by -3: some epochs pass before they overflow."""
    runaway = settings(rate=0.1, l2=20.0, epochs=40, batch=100)
    result, sound = train(members((0, runaway), (1, settings(epochs=40, batch=100))), data)
    assert result.diverged
    passed = len(result.history["epoch"])
    assert 2 <= passed < 30 and f"epoch {passed + 1}" in result.diverged
    assert result.history["epoch"] == list(range(1, passed + 1))
    assert_finite(result.history)
    assert len(sound.history["epoch"]) == 40


@pytest.mark.parametrize(
    "model", [SMALL_CNN, {"name": "mlp", "hidden": [8], "dropout": 0.5}], ids=lambda m: m["name"]
)
def test_the_network_of_a_diverged_trial_is_still_a_network(model, data):
    result = train_one(settings(model, rate=HUGE), data, lifted=False)
    assert result.diverged
    assert result.net(torch.zeros(2, 1, 12, 12)).shape == (2, 10)


def test_healthy_members_hold_every_epoch(data):
    result = train_one(settings(epochs=3), data)
    assert result.diverged is None
    assert result.history["epoch"] == [1, 2, 3]
    assert set(result.history) == {
        "epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy",
    }  # fmt: skip
    assert all(len(values) == 3 for values in result.history.values())
    assert_finite(result.history)


def test_without_validation_images_there_is_no_validation_curve(digits):
    data = training_data(*digits, train=200, validation=0)
    assert set(train_one(settings(), data).history) == {"epoch", "train_loss", "train_accuracy"}
    denoise = settings(SMALL_AUTOENCODER, objective="reconstruct")
    assert set(train_one(denoise, data).history) == {"epoch", "train_loss"}

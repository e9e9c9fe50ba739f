"""Divergence is an outcome of one member: it has a reason, histories stay finite, others are not affected."""

import pytest
import torch
from synthetic_training import (
    SMALL_AUTOENCODER,
    SMALL_CNN,
    assert_finite,
    same_bits,
    train,
    train_one,
    training_data,
    trial_config,
    trials_of,
)

from inklab.records.components import NetworkConfig
from inklab.records.outcomes import History
from inklab.training.population import PopulationSpec
from inklab.training.trainer import train_population

HUGE = 1e30  # weights of 1e30: the product of two layers is beyond float32


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("diverging", [0, 1, 2])
def test_one_member_diverges_alone(diverging, precision, data):
    rates = [0.1, 0.05, 0.2]
    rates[diverging] = HUGE
    settings = [
        (replicate, trial_config(learning_rate=rate, precision=precision, epochs=2))
        for replicate, rate in enumerate(rates)
    ]
    results = train(trials_of(*settings), data)
    assert [bool(result.divergence) for result in results] == [index == diverging for index in range(3)]
    assert "in epoch 1, step" in results[diverging].divergence
    for result in results:
        assert_finite(result.history)
        single = train_one(result.trial.config, data, replicate=result.trial.replicate)
        assert same_bits(result, single) or result.divergence
    assert results[diverging].history == History()


def test_a_diverged_member_has_the_same_reason_alone(data):
    config = trial_config(learning_rate=HUGE, epochs=2)
    together = train(trials_of((0, trial_config(epochs=2)), (1, config)), data)[1]
    single = train_one(config, data, replicate=1)
    assert (single.divergence, single.history) == (together.divergence, together.history)


@pytest.mark.parametrize("stacked", [True, False])
def test_when_all_have_diverged_training_stops(stacked, data):
    config, epochs = trial_config(learning_rate=HUGE, epochs=50), []
    job = PopulationSpec(trials_of((0, config), (1, config)), stacked, False, 0)
    results = train_population(job, data, lambda epoch, of, loss: epochs.append((epoch, of)))
    assert all(result.divergence for result in results)
    assert epochs == [(1, 50)] * (1 if stacked else 2)


@pytest.mark.parametrize("validation", [40, 0])
def test_divergence_in_the_last_step_of_an_epoch_is_detected(validation, digits):
    """The loss is computed before the step that destroys the weights, so all losses are finite."""
    data = training_data(*digits, train=200, validation=validation)
    settings = ((0, trial_config(learning_rate=1e38, batch_size=200)), (1, trial_config(batch_size=200)))
    diverged, healthy = train(trials_of(*settings), data)
    assert "after epoch 1" in diverged.divergence
    assert diverged.history == History()
    assert healthy.divergence is None
    assert_finite(healthy.history)


def test_the_history_before_the_divergence_is_kept(data):
    """An L2 so strong that each step multiplies the kernels by -3: some epochs pass before they overflow."""
    runaway = trial_config(learning_rate=0.1, l2=20.0, epochs=40, batch_size=100)
    settings = ((0, runaway), (1, trial_config(epochs=40, batch_size=100)))
    result, healthy = train(trials_of(*settings), data)
    assert result.divergence
    n_epochs = len(result.history.epoch)
    assert 2 <= n_epochs < 30 and f"epoch {n_epochs + 1}" in result.divergence
    assert result.history.epoch == tuple(range(1, n_epochs + 1))
    assert_finite(result.history)
    assert len(healthy.history.epoch) == 40


@pytest.mark.parametrize(
    "network", [SMALL_CNN, NetworkConfig.of("mlp", hidden=[8], dropout=0.5)], ids=lambda network: network.name
)
def test_the_network_of_a_diverged_trial_is_still_a_network(network, data):
    result = train_one(trial_config(network, learning_rate=HUGE), data, stacked=False)
    assert result.divergence
    assert result.net(torch.zeros(2, 1, 12, 12)).shape == (2, 10)


def test_healthy_members_hold_every_epoch(data):
    result = train_one(trial_config(epochs=3), data)
    assert result.divergence is None
    assert result.history.epoch == (1, 2, 3)
    columns = {"epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"}
    assert set(result.history.columns) == columns
    assert_finite(result.history)


def test_without_validation_images_there_is_no_validation_curve(digits):
    data = training_data(*digits, train=200, validation=0)
    assert set(train_one(trial_config(), data).history.columns) == {"epoch", "train_loss", "train_accuracy"}
    denoise = trial_config(SMALL_AUTOENCODER, objective="reconstruct")
    assert set(train_one(denoise, data).history.columns) == {"epoch", "train_loss"}

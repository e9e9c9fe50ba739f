"""Divergence is an outcome of one member: it has a reason, histories stay finite, others are not affected."""

import pytest
import torch
from synthetic_training import (
    DROPOUT_MLP,
    SMALL_AUTOENCODER,
    SMALL_CNN,
    assert_finite,
    job_of,
    replicates_of,
    same_bits,
    train,
    train_one,
    training_data,
    trial_config,
    trials_of,
)

from inklab.records.outcomes import History
from inklab.training.trainer import train_population

HUGE = 1e30  # weights of 1e30: the product of two layers is beyond float32


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("diverging", [0, 1, 2])
def test_one_member_diverges_alone(diverging, precision, data):
    rates = [0.1, 0.05, 0.2]
    rates[diverging] = HUGE
    configs = [trial_config(learning_rate=rate, precision=precision, epochs=2) for rate in rates]
    results = train(trials_of(*enumerate(configs)), data)
    assert [bool(result.divergence) for result in results] == [index == diverging for index in range(3)]
    assert "in epoch 1, step" in results[diverging].divergence
    for result in results:
        assert_finite(result.history)
        single = train_one(result.trial.config, data, replicate=result.trial.replicate)
        assert (single.divergence, single.history) == (result.divergence, result.history)
        assert same_bits(result, single) or result.divergence
    assert results[diverging].history == History()


@pytest.mark.parametrize("stacked", [True, False])
def test_when_all_have_diverged_training_stops(stacked, data):
    config, epochs = trial_config(learning_rate=HUGE, epochs=50), []
    job = job_of(replicates_of(config, 0, 1), stacked=stacked)
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
    assert diverged.history == History() and healthy.divergence is None
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


@pytest.mark.parametrize("network", [SMALL_CNN, DROPOUT_MLP], ids=lambda network: network.name)
def test_the_network_of_a_diverged_trial_is_still_a_network(network, data):
    result = train_one(trial_config(network, learning_rate=HUGE), data, stacked=False)
    assert result.divergence
    assert result.net(torch.zeros(2, 1, 12, 12)).shape == (2, 10)


def test_healthy_members_hold_every_epoch_and_curves_of_the_sets_that_there_are(data, digits):
    result = train_one(trial_config(epochs=3), data)
    assert result.divergence is None and result.history.epoch == (1, 2, 3)
    trained = {"epoch", "train_loss", "train_accuracy"}
    assert set(result.history.columns) == trained | {"validation_loss", "validation_accuracy"}
    assert_finite(result.history)
    unvalidated = training_data(*digits, train=200, validation=0)
    assert set(train_one(trial_config(), unvalidated).history.columns) == trained
    denoise = trial_config(SMALL_AUTOENCODER, objective="reconstruct")
    assert set(train_one(denoise, unvalidated).history.columns) == {"epoch", "train_loss"}

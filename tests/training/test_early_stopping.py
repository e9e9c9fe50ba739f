"""Early stopping: each member by itself, to the bit, interrupted or not, compiled or not."""

import pytest
import torch
from synthetic_training import (
    DENOISE,
    SMALL_AUTOENCODER,
    StopAfter,
    checkpoints_in,
    job_of,
    replicates_of,
    same_bits,
    stopped_and_resumed,
    train,
    train_one,
    trial_config,
    trials_of,
    with_recipe,
)

from inklab.errors import ConfigError
from inklab.records.outcomes import TrialOutcome
from inklab.records.recipe import EarlyStopping
from inklab.training.checkpoint import TrainingInterrupted
from inklab.training.objectives import objectives
from inklab.training.trainer import train_population

EPOCHS = 12
# Rates between learning and jumping: members stop at different epochs, some not at all.
RATES = (0.02, 0.5, 2.0, 3.0)
BASE = trial_config(epochs=EPOCHS, batch_size=40)


def stopping(config=BASE, **rule):
    return with_recipe(config, early_stopping={"patience": 2, **rule})


def members(**rule):
    return trials_of(*((0, with_recipe(stopping(**rule), learning_rate=rate)) for rate in RATES))


def prefix(history, epochs):
    return {name: column[:epochs] for name, column in history.columns.items()}


def keras_rule(values, patience, min_delta, sign):
    """As `keras.callbacks.EarlyStopping`: the epoch it stops after, and the best one."""
    best, best_epoch, wait = float("inf"), 0, 0
    for epoch, value in enumerate(values, 1):
        wait += 1
        if sign * value + min_delta < best:
            best, best_epoch, wait = sign * value, epoch, 0
        if wait >= patience:
            return epoch, best_epoch
    return None, best_epoch


@pytest.mark.parametrize("metric", ["validation_loss", "validation_accuracy"])
@pytest.mark.parametrize("patience", [1, 2, 4])
@pytest.mark.parametrize("min_delta", [0.0, 0.05, 0.3])
def test_the_rule_is_that_of_keras(metric, patience, min_delta):
    rule = EarlyStopping(patience=patience, metric=metric, min_delta=min_delta)
    for seed in range(20):
        values = torch.rand(15, generator=torch.Generator().manual_seed(seed)).tolist()
        stop, best = keras_rule(values, patience, min_delta, 1 if metric == "validation_loss" else -1)
        ends = [epoch for epoch in range(1, 16) if rule.is_over(values[:epoch])]
        assert (ends[0] if ends else None, rule.best_epoch(values[:stop])) == (stop, best)


class TestMembers:
    @pytest.fixture
    def full(self, data):
        """The same trials without early stopping."""
        return train(trials_of(*((0, with_recipe(BASE, learning_rate=rate)) for rate in RATES)), data)

    @pytest.mark.parametrize("restore_best", [True, False])
    @pytest.mark.parametrize("metric", ["validation_loss", "validation_accuracy"])
    def test_histories_end_and_weights_are_those_of_the_best_or_the_last_epoch(
        self, data, full, metric, restore_best
    ):
        trials = members(metric=metric, restore_best=restore_best)
        rule = trials[0].config.recipe.early_stopping
        results, epochs = train(trials, data), []
        for trial, result, without in zip(trials, results, full, strict=True):
            n = len(result.history.epoch)
            epochs.append(n)
            assert prefix(without.history, n) == result.history.columns
            assert n == EPOCHS or rule.is_over(result.history.values(metric))
            assert not rule.is_over(result.history.values(metric)[:-1])
            best = rule.best_epoch(result.history.values(metric)) if restore_best else n
            config = with_recipe(trial.config, epochs=best, early_stopping=None)
            assert same_bits(result.net, train_one(config, data).net)
        assert len(set(epochs)) > 1 and min(epochs) < EPOCHS

    @pytest.mark.parametrize("extra", [{}, {"ema_decay": 0.8}, {"optimizer": "adam"}], ids=str)
    def test_a_member_is_trained_as_it_would_be_alone(self, data, extra):
        trials = trials_of(
            *((k, with_recipe(stopping(), learning_rate=rate, **extra)) for k, rate in enumerate(RATES))
        )
        results = train(trials, data)
        assert len({len(result.history.epoch) for result in results}) > 1
        for trial, result in zip(trials, results, strict=True):
            assert same_bits(result, train([trial], data)[0])

    def test_training_ends_when_all_have_stopped(self, data):
        ended = []
        trials = trials_of((0, with_recipe(stopping(), learning_rate=2.0)))
        [result] = train_population(job_of(trials), data, lambda epoch, epochs, loss: ended.append(epoch))
        assert ended == list(result.history.epoch) and len(ended) < EPOCHS

    def test_one_that_diverges_is_no_result_and_stops_no_other(self, data):
        trials = trials_of((0, with_recipe(stopping(), learning_rate=1e30)), (0, stopping()))
        diverged, other = train(trials, data)
        assert diverged.divergence and same_bits(other, train_one(stopping(), data))

    @pytest.mark.parametrize("restore_best", [True, False])
    @pytest.mark.parametrize("stacked", [True, False])
    def test_resumed_is_uninterrupted(self, data, tmp_path, stacked, restore_best):
        job = job_of(members(restore_best=restore_best), stacked=stacked)
        whole = train_population(job, data)
        resumed = stopped_and_resumed(job, data, tmp_path, [28, 4, 8])
        assert all(map(same_bits, whole, resumed))

    def test_a_resumed_part_of_a_population_is_too(self, data, tmp_path):
        """Its checkpoint holds more trials, in another order."""
        job = job_of(members())
        whole = train_population(job, data)
        part = [job.trials[3], job.trials[1]]
        first, again = tmp_path / "first", tmp_path / "again"
        with pytest.raises(TrainingInterrupted):
            train_population(job, data, checkpoints=checkpoints_in(first, should_stop=StopAfter(28)))
        resumed = train_population(job_of(part), data, checkpoints=checkpoints_in(again, first))
        assert same_bits(resumed[0], whole[3]) and same_bits(resumed[1], whole[1])

    @pytest.mark.slow
    def test_compiled_members_stop_as_well(self, data):
        trials = replicates_of(with_recipe(stopping(), learning_rate=2.0), 0, 1)
        together = train(trials, data, compiled=True)
        assert all(result.compiled for result in together)
        for trial, result in zip(trials, together, strict=True):
            assert same_bits(result, train([trial], data, compiled=True)[0])


def test_denoisers_stop_by_their_validation_loss(data):
    config = trial_config(SMALL_AUTOENCODER, epochs=8, **{**DENOISE, "learning_rate": 0.3})
    [result] = train(replicates_of(stopping(config, patience=1), 0), data)
    assert 1 < len(result.history.epoch) < 8


@pytest.mark.parametrize(
    ("name", "rule", "n_validation", "reason"),
    [
        ("classify", {}, 0, "needs validation images.*data.validation"),
        ("reconstruct", {"metric": "validation_accuracy"}, 5, "denoisers do not have"),
    ],
)
def test_what_can_not_be_watched_is_refused(name, rule, n_validation, reason):
    recipe = stopping(**rule).recipe
    with pytest.raises(ConfigError, match=reason):
        objectives[name].check(recipe, 10, n_validation)
    objectives["classify"].check(recipe, 10, 5)


def test_outcomes_know_the_epoch_of_the_stop(data):
    trial = members()[2]
    [result] = train([trial], data)
    outcome = TrialOutcome(
        id="0123456789ab", config=trial.config, replicate=0, seed=0, data_sha256="0" * 64, numerics=1,
        state="done", metrics={"test_accuracy": 0.5}, history=result.history,
    )  # fmt: skip
    rule = trial.config.recipe.early_stopping
    assert outcome.stopped_epoch == len(result.history.epoch) < EPOCHS
    assert outcome.best_epoch == rule.best_epoch(result.history.validation_loss) == outcome.stopped_epoch - 2
    without = outcome.model_copy(update={"config": BASE})
    assert without.stopped_epoch is None and without.best_epoch is None


@pytest.mark.parametrize("rule", [{"patience": 0}, {"metric": "test_loss"}, {"min_delta": -1}], ids=str)
def test_rules_out_of_range_are_refused(rule):
    with pytest.raises(ConfigError):
        EarlyStopping(**rule)

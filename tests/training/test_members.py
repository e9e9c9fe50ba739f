"""The members of a population are independent: a member ends in the same bits alone and with any others."""

import itertools

import pytest
import torch
from synthetic_training import (
    DENOISE,
    DROPOUT_MLP,
    MOVED,
    MUON,
    NOISE,
    RANGED,
    SMALL_AUTOENCODER,
    SMALL_CNN,
    SMALL_COMPACT,
    SMALL_UNET,
    assert_near,
    glyphs,
    replicates_of,
    same_bits,
    train,
    train_one,
    training_data,
    trial_config,
    trials_of,
    with_recipe,
)

from inklab.records.components import NetworkConfig, NormalizeConfig
from inklab.records.recipe import TrialConfig
from inklab.training.trainer import TrainingResult

POPULATIONS = ((2,), (3, 1), (0, 4, 2), (4, 2, 0, 1, 3))
CASES = {
    "sgd": trial_config(),
    "momentum": trial_config(momentum=0.9, learning_rate=0.02),
    "cosine": trial_config(schedule="cosine"),
    "adam": trial_config(optimizer="adam", learning_rate=1e-3),
    "adamw": trial_config(optimizer="adamw", weight_decay=0.3, schedule="one-cycle", ema_decay=0.7),
    "nesterov": trial_config(momentum=0.9, nesterov=True, learning_rate=0.02, clip_norm=0.5, l2=1e-3),
    "l2": trial_config(l2=1e-3, l2_params=("hidden.*.weight",)),
    "dropout": trial_config(DROPOUT_MLP),
    "noise": trial_config(corruption=NOISE),
    "ranged-noise": trial_config(corruption=RANGED),
    "denoiser": trial_config(SMALL_AUTOENCODER, **DENOISE),
    "normalized": trial_config(normalize=NormalizeConfig(mean=0.2, std=0.3)),
    "muon": trial_config(**MUON),
    "moved": trial_config(corruption=RANGED, **MOVED),
    "shifted": trial_config(augmentation={"shift": 2}, objective="classify-smoothed"),
}
CLIPPED = {"optimizer": "adamw", "clip_norm": 0.5, "ema_decay": 0.9}
both_precisions = pytest.mark.parametrize("precision", ["fp32", "bf16"])


@pytest.fixture(scope="module")
def train_single(small_data):
    """Trains a trial alone, each only once."""
    results: dict[str, TrainingResult] = {}

    def train_single(config: TrialConfig, replicate: int) -> TrainingResult:
        key = f"{replicate} {config!r}"
        if key not in results:
            results[key] = train_one(config, small_data, replicate=replicate)
        return results[key]

    return train_single


@both_precisions
@pytest.mark.parametrize("case", CASES)
def test_a_member_ends_as_it_does_alone(case, precision, small_data, train_single):
    config = CASES[case].model_copy(update={"precision": precision})
    single = [train_single(config, replicate) for replicate in range(5)]
    assert not any(same_bits(a.net, b.net) for a, b in itertools.combinations(single, 2))
    for replicates in POPULATIONS:
        results = train(replicates_of(config, *replicates), small_data)
        for replicate, result in zip(replicates, results, strict=True):
            assert result.trial.replicate == replicate
            assert same_bits(result, single[replicate]), f"{replicate} of {replicates}"


@both_precisions
@pytest.mark.parametrize(
    ("hidden", "recipe"),
    [([64, 64], {}), ([500, 300], {}), ([500, 300], MUON), ([500, 300], CLIPPED)],
    ids=["64", "500", "muon", "clipped"],
)
@pytest.mark.integration
def test_a_member_ends_as_it_does_alone_at_the_widths_of_the_study(hidden, recipe, precision):
    wide = training_data(*glyphs(330, seed=2, side=28), train=300, validation=10)
    config = trial_config(NetworkConfig.of("mlp", hidden=hidden), precision, batch_size=128, **recipe)
    single = [train_one(config, wide, replicate=replicate) for replicate in (0, 1)]
    for replicates in ((0, 1), (2, 1, 0), (2, 3, 1, 4, 0)):
        for result in train(replicates_of(config, *replicates), wide):
            replicate = result.trial.replicate
            assert replicate > 1 or same_bits(result, single[replicate])


DIFFERENT = (
    (3, {"learning_rate": 0.1, "l2": 0.0, "momentum": 0.0}),
    (0, {"learning_rate": 0.03, "l2": 1e-2, "momentum": 0.9}),
    (0, {"learning_rate": 0.3, "l2": 1e-4, "momentum": 0.0}),
    (1, {"learning_rate": 0.01, "l2": 0.0, "momentum": 0.5}),
    (7, {"learning_rate": 0.1, "l2": 1e-3, "momentum": 0.9}),
)
"""Replicates that differ in everything in which members may differ, with and without L2 and momentum."""
DIFFERENT_ADAMW = (
    (3, {"weight_decay": 0.0, "clip_norm": 0.5, "ema_decay": 0.9}),
    (0, {"weight_decay": 0.1, "clip_norm": 1e-3, "ema_decay": 0.0}),
    (0, {"weight_decay": 3.0, "learning_rate": 0.01, "ema_decay": 0.99}),
    (1, {"clip_norm": 1e9, "ema_decay": 0.5, "l2": 1e-3}),
)
"""The same for what only some optimizers have, and for parts that a step may lack."""
ORDERS = {
    "sgd": [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (1, 0), (0, 1), (2, 4, 0)],
    "muon": [(4, 3, 2, 1, 0), (2, 4)],
}


@pytest.mark.parametrize(
    ("optimizer", "order"), [(name, order) for name, orders in ORDERS.items() for order in orders], ids=str
)
@both_precisions
def test_members_may_differ_in_their_vector_settings(optimizer, order, precision, small_data, train_single):
    base = trial_config(DROPOUT_MLP, precision, corruption=RANGED, optimizer=optimizer)
    settings = [(replicate, with_recipe(base, **change)) for replicate, change in DIFFERENT]
    for result in train(trials_of(*(settings[index] for index in order)), small_data):
        trial = result.trial
        assert same_bits(result, train_single(trial.config, trial.replicate)), trial.config.recipe


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1), (2, 0)], ids=str)
@both_precisions
def test_members_may_differ_in_decay_clipping_and_average(order, precision, small_data, train_single):
    """Also in whether they have any: here some members are without clipping, or l2."""
    base = trial_config(DROPOUT_MLP, precision, optimizer="adamw")
    settings = [(replicate, with_recipe(base, **change)) for replicate, change in DIFFERENT_ADAMW]
    for result in train(trials_of(*(settings[index] for index in order)), small_data):
        trial = result.trial
        assert same_bits(result, train_single(trial.config, trial.replicate)), trial.config.recipe


def test_differing_settings_do_make_a_difference(small_data):
    """Else the test above would prove nothing."""
    base = trial_config(epochs=2)
    changes = (
        {}, {"learning_rate": 0.03}, {"l2": 1e-2}, {"momentum": 0.5}, {"schedule": "cosine"},
        {"schedule": "linear"}, {"warmup": 0.5}, {"optimizer": "muon"}, {"objective": "classify-smoothed"},
        {"momentum": 0.5, "nesterov": True}, {"optimizer": "adam"}, {"optimizer": "adamw"},
        {"optimizer": "adamw", "weight_decay": 0.1}, {"clip_norm": 0.1}, {"ema_decay": 0.5},
        {"schedule": "one-cycle", "warmup": 0.3}, {"schedule": "step", "step_epochs": 1},
        MOVED, *({"augmentation": {key: size}} for key, size in MOVED["augmentation"].items()),
    )  # fmt: skip
    ends = [train_one(with_recipe(base, **change), small_data).net for change in changes]
    ends += [train_one(base, small_data, **other).net for other in ({"replicate": 1}, {"seed": 1})]
    assert not any(same_bits(first, other) for first, other in itertools.combinations(ends, 2))


VMAPPABLE = {
    **{name: config for name, config in CASES.items() if name not in ("cosine", "noise", "normalized")},
    "cnn": trial_config(SMALL_CNN),
    "cnn-noise": trial_config(SMALL_CNN, corruption=RANGED, momentum=0.9, learning_rate=0.02),
    "compact-muon": trial_config(SMALL_COMPACT, **MUON),
    "unet-moved": trial_config(SMALL_UNET, **DENOISE, **MOVED),
}


@pytest.mark.parametrize("case", VMAPPABLE)
def test_stacked_members_end_near_those_trained_one_by_one(case, small_data):
    """Two programs for one training: the same numbers but for the order of additions."""
    trials = replicates_of(with_recipe(VMAPPABLE[case], epochs=2), 0, 5)
    both = [train(trials, small_data, stacked=stacked) for stacked in (True, False)]
    for stacked, single in zip(*both, strict=True):
        assert_near(stacked, single)


def test_trials_trained_one_by_one_are_independent(small_data):
    config = trial_config(SMALL_CNN, "bf16", corruption=NOISE)
    for result in train(replicates_of(config, 2, 0, 1), small_data, stacked=False):
        single = train_one(config, small_data, replicate=result.trial.replicate, stacked=False)
        assert same_bits(result, single)


def test_a_networks_memory_is_its_own(small_data):
    """A result survives whatever is done to another one."""
    first, second = train(replicates_of(trial_config(), 0, 1), small_data)
    before = {name: value.clone() for name, value in second.net.state_dict().items()}
    with torch.no_grad():
        for parameter in first.net.parameters():
            parameter.fill_(7)
    assert all(torch.equal(value, before[name]) for name, value in second.net.state_dict().items())


def test_settings_of_replicate_k_are_paired(small_data):
    """Replicate k starts with the same weights and gets the same batches at every learning rate."""
    slow, other = trial_config(learning_rate=1e-12), trial_config(learning_rate=2e-12, l2=1e-12)
    first, second = train(trials_of((4, slow), (4, other)), small_data)
    assert first.history.train_loss == pytest.approx(second.history.train_loss, rel=1e-7)
    for value, expected in zip(
        first.net.state_dict().values(), second.net.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-9)

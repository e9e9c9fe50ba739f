"""The members of a population are independent: a member ends in the same bits alone and with any others."""

import itertools
from typing import Any

import pytest
import torch
from synthetic_training import (
    DROPOUT_MLP,
    SMALL_AUTOENCODER,
    SMALL_CNN,
    SMALL_COMPACT,
    SMALL_UNET,
    assert_near,
    glyphs,
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

REPLICATES = (0, 1, 2, 3, 4)
POPULATIONS = ((2,), (3, 1), (0, 4, 2), (4, 2, 0, 1, 3))
NOISE = {"name": "salt_and_pepper", "strength": [0.4, 0.4]}
RANGED = {"name": "salt_and_pepper", "strength": [0.0, 0.9]}
DENOISE: dict[str, Any] = {
    "objective": "reconstruct",
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "corruption": NOISE,
}

MUON: dict[str, Any] = {
    "optimizer": "muon",
    "learning_rate": 0.02,
    "momentum": 0.9,
    "schedule": "linear",
    "warmup": 0.3,
}
MOVED: dict[str, Any] = {"augmentation": {"shift": 1, "rotation": 15, "scale": 0.1, "elastic": 0.5}}

CASES = {
    "sgd": trial_config(),
    "momentum": trial_config(momentum=0.9, learning_rate=0.02),
    "cosine": trial_config(schedule="cosine"),
    "adam": trial_config(optimizer="adam", learning_rate=1e-3),
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


@pytest.fixture(scope="module")
def data(digits):
    """Three batches of 32 and one of 8."""
    return training_data(*(part[:124] for part in digits), train=104, validation=20)


@pytest.fixture(scope="module")
def train_single(data):
    """Trains a trial alone, each only once."""
    results: dict[str, TrainingResult] = {}

    def train_single(config: TrialConfig, replicate: int) -> TrainingResult:
        key = f"{replicate} {config!r}"
        if key not in results:
            results[key] = train_one(config, data, replicate=replicate)
        return results[key]

    return train_single


@pytest.fixture(scope="module")
def wide():
    """28x28 images, for networks as wide as the study's."""
    return training_data(*glyphs(330, seed=2, side=28), train=300, validation=10)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("case", CASES)
def test_a_member_ends_as_it_does_alone(case, precision, data, train_single):
    config = CASES[case].model_copy(update={"precision": precision})
    single = {replicate: train_single(config, replicate) for replicate in REPLICATES}
    assert not any(same_bits(single[a].net, single[b].net) for a, b in itertools.combinations(REPLICATES, 2))
    for replicates in POPULATIONS:
        results = train(trials_of(*((replicate, config) for replicate in replicates)), data)
        assert [result.trial.replicate for result in results] == list(replicates)
        for result in results:
            replicate = result.trial.replicate
            assert same_bits(result, single[replicate]), f"{replicate} of {replicates}"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("hidden", "recipe"),
    [([64, 64], {}), ([500, 300], {}), ([500, 300], MUON)],
    ids=["64", "500", "500-muon"],
)
def test_a_member_ends_as_it_does_alone_at_the_widths_of_the_study(hidden, recipe, precision, wide):
    config = trial_config(NetworkConfig.of("mlp", hidden=hidden), precision, batch_size=128, **recipe)
    single = {replicate: train_one(config, wide, replicate=replicate) for replicate in (0, 1)}
    for replicates in ((0, 1), (2, 1, 0), (2, 3, 1, 4, 0)):
        for result in train(trials_of(*((replicate, config) for replicate in replicates)), wide):
            if result.trial.replicate in single:
                assert same_bits(result, single[result.trial.replicate])


def differing(base: TrialConfig) -> list[tuple[int, TrialConfig]]:
    """Members that differ in everything in which members may differ, with and without L2 and momentum."""
    changes = [
        {"learning_rate": 0.1, "l2": 0.0, "momentum": 0.0},
        {"learning_rate": 0.03, "l2": 1e-2, "momentum": 0.9},
        {"learning_rate": 0.3, "l2": 1e-4, "momentum": 0.0},
        {"learning_rate": 0.01, "l2": 0.0, "momentum": 0.5},
        {"learning_rate": 0.1, "l2": 1e-3, "momentum": 0.9},
    ]
    replicates = (3, 0, 0, 1, 7)
    return [
        (replicate, with_recipe(base, **change))
        for replicate, change in zip(replicates, changes, strict=True)
    ]


ORDERS = {
    "sgd": [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (1, 0), (0, 1), (2, 4, 0)],
    "muon": [(4, 3, 2, 1, 0), (2, 4)],
}


@pytest.mark.parametrize(
    ("optimizer", "order"), [(name, order) for name, orders in ORDERS.items() for order in orders], ids=str
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_members_may_differ_in_their_vector_settings(optimizer, order, precision, data, train_single):
    settings = differing(trial_config(DROPOUT_MLP, precision, corruption=RANGED, optimizer=optimizer))
    for result in train(trials_of(*(settings[index] for index in order)), data):
        trial = result.trial
        assert same_bits(result, train_single(trial.config, trial.replicate)), trial.config.recipe


def test_differing_settings_do_make_a_difference(data):
    """Else the test above would prove nothing."""
    base = trial_config(epochs=2)
    ends = []
    for change in (
        {}, {"learning_rate": 0.03}, {"l2": 1e-2}, {"momentum": 0.5}, {"schedule": "cosine"},
        {"schedule": "linear"}, {"warmup": 0.5}, {"optimizer": "muon"}, {"objective": "classify-smoothed"},
        MOVED, {"augmentation": {"shift": 1}}, {"augmentation": {"rotation": 15}},
        {"augmentation": {"scale": 0.1}},
        {"augmentation": {"elastic": 0.5}},
    ):  # fmt: skip
        ends.append(train_one(with_recipe(base, **change), data).net)
    ends.append(train_one(base, data, replicate=1).net)
    ends.append(train_one(base, data, seed=1).net)
    assert not any(same_bits(first, other) for first, other in itertools.combinations(ends, 2))


VMAPPABLE = {
    **{
        case: CASES[case]
        for case in ("sgd", "momentum", "adam", "l2", "dropout", "ranged-noise", "denoiser", "muon", "moved")
    },
    "cnn": trial_config(SMALL_CNN),
    "cnn-noise": trial_config(SMALL_CNN, corruption=RANGED, momentum=0.9, learning_rate=0.02),
    "compact-muon": trial_config(SMALL_COMPACT, **MUON),
    "unet-moved": trial_config(SMALL_UNET, **DENOISE, **MOVED),
}


@pytest.mark.parametrize("case", VMAPPABLE)
def test_stacked_members_end_near_those_trained_one_by_one(case, data):
    """Two programs for one training: the same numbers but for the order of additions."""
    config = with_recipe(VMAPPABLE[case], epochs=2)
    both = [train(trials_of((0, config), (5, config)), data, stacked=stacked) for stacked in (True, False)]
    for stacked, single in zip(*both, strict=True):
        assert_near(stacked, single)


def test_trials_trained_one_by_one_are_independent(data):
    config = trial_config(SMALL_CNN, "bf16", corruption=NOISE)
    results = train(trials_of((2, config), (0, config), (1, config)), data, stacked=False)
    for result in results:
        single = train_one(config, data, replicate=result.trial.replicate, stacked=False)
        assert same_bits(result, single)


def test_the_same_training_twice_gives_the_same_bits_and_other_seeds_other_bits(data):
    config = trial_config(DROPOUT_MLP, corruption=RANGED)
    first = train_one(config, data, seed=3)
    assert same_bits(first, train_one(config, data, seed=3))
    for other in (train_one(config, data, seed=4), train_one(config, data, seed=3, replicate=1)):
        assert not same_bits(first.net, other.net)


def test_a_networks_memory_is_its_own(data):
    """A result survives whatever is done to another one."""
    first, second = train(trials_of((0, trial_config()), (1, trial_config())), data)
    before = {name: value.clone() for name, value in second.net.state_dict().items()}
    with torch.no_grad():
        for parameter in first.net.parameters():
            parameter.fill_(7)
    assert all(torch.equal(value, before[name]) for name, value in second.net.state_dict().items())


def test_settings_of_replicate_k_are_paired(data):
    """Replicate k starts with the same weights and gets the same batches at every learning rate."""
    slow = trial_config(learning_rate=1e-12, epochs=1)
    other = trial_config(learning_rate=2e-12, l2=1e-12, epochs=1)
    first, second = train(trials_of((4, slow), (4, other)), data)
    assert first.history.train_loss == pytest.approx(second.history.train_loss, rel=1e-7)
    assert all(
        torch.allclose(value, second.net.state_dict()[name], rtol=0, atol=1e-9)
        for name, value in first.net.state_dict().items()
    )

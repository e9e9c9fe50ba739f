"""A member of a population does not notice its neighbours: member = alone = other company, to the bit."""

import itertools

import pytest
import torch
from synthetic_training import (
    SMALL_AUTOENCODER,
    SMALL_CNN,
    SMALL_COMPACT,
    SMALL_UNET,
    assert_near,
    glyphs,
    members,
    same_bits,
    settings,
    train,
    train_one,
    training_data,
)

from inklab.training.trainer import TrainingResult

REPLICATES = (0, 1, 2, 3, 4)
COMPANIES = ((2,), (3, 1), (0, 4, 2), (4, 2, 0, 1, 3))
NOISE = {"name": "salt_and_pepper", "strength": [0.4, 0.4]}
RANGED = {"name": "salt_and_pepper", "strength": [0.0, 0.9]}
DROPPED = {"name": "mlp", "hidden": [16, 12], "dropout": 0.4}
DENOISE = {"objective": "reconstruct", "optimiser": "adam", "rate": 1e-3, "corruption": NOISE}

MUON = {"optimiser": "muon", "rate": 0.02, "momentum": 0.9, "schedule": "linear", "warmup": 0.3}
MOVED = {"augmentation": {"shift": 1, "rotation": 15, "scale": 0.1, "elastic": 0.5}}

CASES = {
    "sgd": settings(),
    "momentum": settings(momentum=0.9, rate=0.02),
    "cosine": settings(schedule="cosine"),
    "adam": settings(optimiser="adam", rate=1e-3),
    "l2": settings(l2=1e-3, l2_on=("hidden.*.weight",)),
    "dropout": settings(DROPPED),
    "noise": settings(corruption=NOISE),
    "ranged-noise": settings(corruption=RANGED),
    "denoiser": settings(SMALL_AUTOENCODER, **DENOISE),
    "scaled": settings(mean=0.2, spread=0.3),
    "muon": settings(**MUON),
    "moved": settings(corruption=RANGED, **MOVED),
    "shifted": settings(augmentation={"shift": 2}, objective="classify-smoothed"),
}


@pytest.fixture(scope="module")
def data(digits):
    """Three batches of 32 and one of 8."""
    return training_data(*(part[:124] for part in digits), train=104, validation=20)


@pytest.fixture(scope="module")
def lone(data):
    """Trains a trial alone, each only once."""
    known: dict[str, TrainingResult] = {}

    def trained(told: dict, replicate: int) -> TrainingResult:
        key = f"{replicate} {told}"
        if key not in known:
            known[key] = train_one(told, data, replicate=replicate)
        return known[key]

    return trained


@pytest.fixture(scope="module")
def wide():
    """28x28 images, for networks as wide as the study's."""
    return training_data(*glyphs(330, seed=2, side=28), train=300, validation=10)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("case", CASES)
def test_member_is_alone_is_in_other_company(case, precision, data, lone):
    told = CASES[case] | {"precision": precision}
    alone = {replicate: lone(told, replicate) for replicate in REPLICATES}
    assert not any(same_bits(alone[a].net, alone[b].net) for a, b in itertools.combinations(REPLICATES, 2))
    for company in COMPANIES:
        together = train(members(*((replicate, told) for replicate in company)), data)
        assert [each.trial.replicate for each in together] == list(company)
        for each in together:
            assert same_bits(each, alone[each.trial.replicate]), f"{each.trial.replicate} of {company}"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("hidden", "recipe"),
    [([64, 64], {}), ([500, 300], {}), ([500, 300], MUON)],
    ids=["64", "500", "500-muon"],
)
def test_members_are_alone_at_the_studys_widths(hidden, recipe, precision, wide):
    told = settings({"name": "mlp", "hidden": hidden}, precision, batch=128, **recipe)
    alone = {replicate: train_one(told, wide, replicate=replicate) for replicate in (0, 1)}
    for company in ((0, 1), (2, 1, 0), (2, 3, 1, 4, 0)):
        for each in train(members(*((replicate, told) for replicate in company)), wide):
            if each.trial.replicate in alone:
                assert same_bits(each, alone[each.trial.replicate])


def differing(base: dict) -> list[tuple[int, dict]]:
    """Members that differ in everything in which members may differ, with and without L2 and momentum."""
    changes = [
        {"rate": 0.1, "l2": 0.0, "momentum": 0.0},
        {"rate": 0.03, "l2": 1e-2, "momentum": 0.9},
        {"rate": 0.3, "l2": 1e-4, "momentum": 0.0},
        {"rate": 0.01, "l2": 0.0, "momentum": 0.5},
        {"rate": 0.1, "l2": 1e-3, "momentum": 0.9},
    ]
    replicates = (3, 0, 0, 1, 7)
    return [
        (replicate, base | {"recipe": base["recipe"] | change})
        for replicate, change in zip(replicates, changes, strict=True)
    ]


ORDERS = {
    "sgd": [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (1, 0), (0, 1), (2, 4, 0)],
    "muon": [(4, 3, 2, 1, 0), (2, 4)],
}


@pytest.mark.parametrize(
    ("optimiser", "order"), [(name, order) for name, orders in ORDERS.items() for order in orders], ids=str
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_members_may_differ_in_rate_l2_momentum_and_replicate(optimiser, order, precision, data, lone):
    told = differing(settings(DROPPED, precision, corruption=RANGED, optimiser=optimiser))
    for each in train(members(*(told[place] for place in order)), data):
        alone = lone(each.trial.settings, each.trial.replicate)
        assert same_bits(each, alone), each.trial.settings["recipe"]


def test_differing_settings_do_make_a_difference(data):
    """Else the test above would prove nothing."""
    base = settings(epochs=2)
    ends = []
    for change in (
        {}, {"rate": 0.03}, {"l2": 1e-2}, {"momentum": 0.5}, {"schedule": "cosine"}, {"schedule": "linear"},
        {"warmup": 0.5}, {"optimiser": "muon"}, {"objective": "classify-smoothed"}, MOVED,
        {"augmentation": {"shift": 1}}, {"augmentation": {"rotation": 15}}, {"augmentation": {"scale": 0.1}},
        {"augmentation": {"elastic": 0.5}},
    ):  # fmt: skip
        ends.append(train_one(base | {"recipe": base["recipe"] | change}, data).net)
    ends.append(train_one(base, data, replicate=1).net)
    ends.append(train_one(base, data, seed=1).net)
    assert not any(same_bits(one, other) for one, other in itertools.combinations(ends, 2))


LIFTABLE = {
    **{
        case: CASES[case]
        for case in ("sgd", "momentum", "adam", "l2", "dropout", "ranged-noise", "denoiser", "muon", "moved")
    },
    "cnn": settings(SMALL_CNN),
    "cnn-noise": settings(SMALL_CNN, corruption=RANGED, momentum=0.9, rate=0.02),
    "compact-muon": settings(SMALL_COMPACT, **MUON),
    "unet-moved": settings(SMALL_UNET, **DENOISE, **MOVED),
}


@pytest.mark.parametrize("case", LIFTABLE)
def test_lifted_is_unlifted(case, data):
    """Two programs for one training: the same numbers but for the order of additions."""
    told = LIFTABLE[case] | {"recipe": LIFTABLE[case]["recipe"] | {"epochs": 2}}
    both = [train(members((0, told), (5, told)), data, lifted=lifted) for lifted in (True, False)]
    for lifted, unlifted in zip(*both, strict=True):
        assert_near(lifted, unlifted)


def test_unlifted_members_are_trained_one_after_the_other_without_noticing(data):
    told = settings(SMALL_CNN, "bf16", corruption=NOISE)
    together = train(members((2, told), (0, told), (1, told)), data, lifted=False)
    for each in together:
        assert same_bits(each, train_one(told, data, replicate=each.trial.replicate, lifted=False))


def test_the_same_training_twice_gives_the_same_bits_and_other_seeds_other_bits(data):
    told = settings(DROPPED, corruption=RANGED)
    first = train_one(told, data, seed=3)
    assert same_bits(first, train_one(told, data, seed=3))
    for other in (train_one(told, data, seed=4), train_one(told, data, seed=3, replicate=1)):
        assert not same_bits(first.net, other.net)


def test_a_networks_memory_is_its_own(data):
    """A result survives whatever is done to its neighbour."""
    first, second = train(members((0, settings()), (1, settings())), data)
    before = {name: value.clone() for name, value in second.net.state_dict().items()}
    with torch.no_grad():
        for parameter in first.net.parameters():
            parameter.fill_(7)
    assert all(torch.equal(value, before[name]) for name, value in second.net.state_dict().items())


def test_settings_of_replicate_k_are_paired(data):
    """Replicate k begins with the same weights and sees the same batches at every rate."""
    slow = settings(rate=1e-12, epochs=1)
    other = settings(rate=2e-12, l2=1e-12, epochs=1)
    one, two = train(members((4, slow), (4, other)), data)
    assert one.history["train_loss"] == pytest.approx(two.history["train_loss"], rel=1e-7)
    assert all(
        torch.allclose(value, two.net.state_dict()[name], rtol=0, atol=1e-9)
        for name, value in one.net.state_dict().items()
    )

"""Stopped at any step and gone on with, a training ends in the bits of one that was never stopped."""

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from synthetic_training import (
    SMALL_AUTOENCODER,
    SMALL_CNN,
    SMALL_COMPACT,
    StopAfter,
    members,
    same_bits,
    settings,
    stopped_and_resumed,
    training_data,
)

from inklab.training.checkpoint import (
    CheckpointManager,
    TrainingInterrupted,
    list_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from inklab.training.trainer import PopulationJob, train_population

NOISE = {"name": "salt_and_pepper", "strength": [0.0, 0.9]}
DROPPED = {"name": "mlp", "hidden": [16, 12], "dropout": 0.4}
DENOISE = {"objective": "reconstruct", "optimiser": "adam", "rate": 1e-3, "corruption": NOISE}
EPOCHS, STEPS = 3, 4  # three batches of 32 and one of 8
MOVED = {"augmentation": {"shift": 1, "rotation": 15, "scale": 0.1, "elastic": 0.5}}
MUON = {"optimiser": "muon", "rate": 0.02, "momentum": 0.9, "schedule": "linear", "warmup": 0.4, **MOVED}
WILD = settings(epochs=EPOCHS, rate=1e30)

FOUR = members(
    (0, settings(DROPPED, epochs=EPOCHS, momentum=0.9, schedule="cosine", corruption=NOISE)),
    (1, settings(DROPPED, epochs=EPOCHS, momentum=0.5, schedule="cosine", corruption=NOISE, rate=0.03)),
    (0, settings(DROPPED, epochs=EPOCHS, momentum=0.9, schedule="cosine", corruption=NOISE, l2=1e-3)),
    (5, settings(DROPPED, epochs=EPOCHS, momentum=0.0, schedule="cosine", corruption=NOISE)),
)


def group(trials, *, lifted=True, random=False, **how):
    """Trials as one group."""
    return PopulationJob(trials, lifted, random, seed=0, **how)


def alike(told, count):
    """Replicates of some settings."""
    return members(*((replicate, told) for replicate in range(count)))


USERS_NET = '''
"""A network with statistics that move, and randomness of its own."""

from torch import nn


class Noisy(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(
            nn.Flatten(), nn.Linear(144, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, classes)
        )
'''


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """Every way in which a training keeps something from one step to the next."""
    path = tmp_path_factory.mktemp("nets") / "noisy.py"
    path.write_text(USERS_NET, encoding="utf-8")
    half = settings(epochs=EPOCHS, precision="bf16", momentum=0.9)
    told = {
        "one, padded": group(alike(settings(epochs=EPOCHS), 1)),
        "a population of four": group(FOUR),
        "adam and noise": group(alike(settings(SMALL_AUTOENCODER, epochs=EPOCHS, **DENOISE), 2)),
        "half precision": group(alike(half, 2)),
        "one that diverges": group(members((0, settings(epochs=EPOCHS)), (1, WILD))),
        "muon, moved and warmed up": group(alike(settings(DROPPED, epochs=EPOCHS, **MUON), 2)),
    }
    lone = {
        "convolutions and dropout": alike(settings(SMALL_CNN, epochs=EPOCHS, momentum=0.9), 1),
        "convolutions in half precision": alike(settings(SMALL_CNN, "bf16", epochs=EPOCHS), 1),
        "convolutions, moved": alike(
            settings({**SMALL_COMPACT, "batch_norm": True}, "bf16", epochs=EPOCHS, **MUON), 1
        ),
        "two in turn": alike(settings(DROPPED, epochs=EPOCHS), 2),
        "randomness of its own": alike(settings(f"{path}:Noisy", epochs=EPOCHS), 1),
    }
    random = "randomness of its own"
    return told | {name: group(each, lifted=False, random=name == random) for name, each in lone.items()}


CASES = (
    "one, padded", "a population of four", "adam and noise", "half precision", "one that diverges",
    "muon, moved and warmed up", "convolutions and dropout", "convolutions in half precision",
    "convolutions, moved", "two in turn", "randomness of its own",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(digits):
    return training_data(*(part[:124] for part in digits), train=104, validation=20)


@pytest.fixture(scope="module")
def whole(groups, data):
    """Each group trained without a stop, once."""
    return {name: train_population(each, data) for name, each in groups.items()}


@pytest.mark.parametrize("case", CASES)
@examples(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(1, EPOCHS * STEPS), min_size=1, max_size=3))
def test_stopped_anywhere_it_ends_in_the_same_bits(case, stops, groups, whole, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    found = stopped_and_resumed(groups[case], data, folder, stops)
    assert len(found) == len(whole[case])
    for one, other in zip(found, whole[case], strict=True):
        assert same_bits(one, other), f"stopped after {stops}"


def test_all_cases_are_there(groups):
    assert tuple(groups) == CASES


@pytest.mark.parametrize("step", range(1, EPOCHS * STEPS + 1))
def test_stopped_after_each_step_once(step, groups, whole, data, tmp_path):
    """Also after the last step of an epoch, whose scores are then still to come."""
    for one, other in zip(
        stopped_and_resumed(groups["a population of four"], data, tmp_path, [step]),
        whole["a population of four"],
        strict=True,
    ):
        assert same_bits(one, other)


def test_fewer_members_can_go_on_from_the_checkpoint_of_more(groups, whole, data, tmp_path):
    with pytest.raises(TrainingInterrupted):
        train_population(
            group(FOUR), data, keeper=CheckpointManager(tmp_path / "a", asked_to_stop=StopAfter(6), look=0.0)
        )
    steps = StopAfter(10**9)
    keeper = CheckpointManager(tmp_path / "b", [tmp_path / "a"], asked_to_stop=steps, look=0.0)
    found = train_population(group([FOUR[3], FOUR[1]], slots=3), data, keeper=keeper)
    assert 10**9 - steps.left == EPOCHS * STEPS - 6, "only the steps that were missing"
    assert same_bits(found[0], whole["a population of four"][3])
    assert same_bits(found[1], whole["a population of four"][1])


def test_a_checkpoint_is_what_makes_the_difference(data, tmp_path):
    """Else the tests above would prove nothing: with altered weights the end is another."""
    lone = group(members((2, settings(epochs=EPOCHS))))
    with pytest.raises(TrainingInterrupted):
        train_population(
            lone, data, keeper=CheckpointManager(tmp_path / "a", asked_to_stop=StopAfter(5), look=0.0)
        )
    kept = read_checkpoint(list_checkpoints([tmp_path / "a"])[-1])
    for value in kept.tensors.values():
        value.mul_(1 + torch.finfo(torch.float32).eps * 4)
    write_checkpoint(tmp_path / "b", kept)
    (found,) = train_population(lone, data, keeper=CheckpointManager(tmp_path / "c", [tmp_path / "b"]))
    assert not same_bits(found, train_population(lone, data)[0])

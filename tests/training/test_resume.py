"""Stopped at any step and resumed, a training ends in the bits of one that was never stopped."""

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from synthetic_training import (
    DROPOUT_MLP,
    SMALL_AUTOENCODER,
    SMALL_CNN,
    SMALL_COMPACT,
    StopAfter,
    checkpoints_in,
    same_bits,
    stopped_and_resumed,
    training_data,
    trial_config,
    trials_of,
)

from inklab.training.checkpoint import (
    TrainingInterrupted,
    list_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from inklab.training.population import PopulationSpec
from inklab.training.trainer import train_population

NOISE = {"name": "salt_and_pepper", "strength": [0.0, 0.9]}
DENOISE = {"objective": "reconstruct", "optimizer": "adam", "learning_rate": 1e-3, "corruption": NOISE}
EPOCHS, STEPS = 3, 4  # three batches of 32 and one of 8
MOVED = {"augmentation": {"shift": 1, "rotation": 15, "scale": 0.1, "elastic": 0.5}}
MUON = {
    "optimizer": "muon",
    "learning_rate": 0.02,
    "momentum": 0.9,
    "schedule": "linear",
    "warmup": 0.4,
    **MOVED,
}
DIVERGING = trial_config(epochs=EPOCHS, learning_rate=1e30)

FOUR = trials_of(
    (0, trial_config(DROPOUT_MLP, epochs=EPOCHS, momentum=0.9, schedule="cosine", corruption=NOISE)),
    (
        1,
        trial_config(
            DROPOUT_MLP, epochs=EPOCHS, momentum=0.5, schedule="cosine", corruption=NOISE, learning_rate=0.03
        ),
    ),
    (0, trial_config(DROPOUT_MLP, epochs=EPOCHS, momentum=0.9, schedule="cosine", corruption=NOISE, l2=1e-3)),
    (5, trial_config(DROPOUT_MLP, epochs=EPOCHS, momentum=0.0, schedule="cosine", corruption=NOISE)),
)


def job(trials, *, stacked=True, reseed_each_step=False, **options):
    """Trials as one job."""
    return PopulationSpec(trials, stacked, reseed_each_step, seed=0, **options)


def replicates_of(config, count):
    """Replicates of one configuration."""
    return trials_of(*((replicate, config) for replicate in range(count)))


USER_NET = '''
"""A network with running statistics, and randomness of its own."""

from torch import nn


class Noisy(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(
            nn.Flatten(), nn.Linear(144, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, classes)
        )
'''


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """Every kind of state that a training has between two steps."""
    path = tmp_path_factory.mktemp("nets") / "noisy.py"
    path.write_text(USER_NET, encoding="utf-8")
    half = trial_config(epochs=EPOCHS, precision="bf16", momentum=0.9)
    stacked = {
        "one, padded": job(replicates_of(trial_config(epochs=EPOCHS), 1)),
        "a population of four": job(FOUR),
        "adam and noise": job(replicates_of(trial_config(SMALL_AUTOENCODER, epochs=EPOCHS, **DENOISE), 2)),
        "half precision": job(replicates_of(half, 2)),
        "one that diverges": job(trials_of((0, trial_config(epochs=EPOCHS)), (1, DIVERGING))),
        "muon, augmentation and warm-up": job(
            replicates_of(trial_config(DROPOUT_MLP, epochs=EPOCHS, **MUON), 2)
        ),
    }
    single = {
        "convolutions and dropout": replicates_of(trial_config(SMALL_CNN, epochs=EPOCHS, momentum=0.9), 1),
        "convolutions in half precision": replicates_of(trial_config(SMALL_CNN, "bf16", epochs=EPOCHS), 1),
        "convolutions, augmentation": replicates_of(
            trial_config(SMALL_COMPACT.with_kwargs({"batch_norm": True}), "bf16", epochs=EPOCHS, **MUON), 1
        ),
        "two in turn": replicates_of(trial_config(DROPOUT_MLP, epochs=EPOCHS), 2),
        "randomness of its own": replicates_of(trial_config(f"{path}:Noisy", epochs=EPOCHS), 1),
    }
    return stacked | {
        name: job(trials, stacked=False, reseed_each_step=name == "randomness of its own")
        for name, trials in single.items()
    }


CASES = (
    "one, padded", "a population of four", "adam and noise", "half precision", "one that diverges",
    "muon, augmentation and warm-up", "convolutions and dropout", "convolutions in half precision",
    "convolutions, augmentation", "two in turn", "randomness of its own",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(digits):
    return training_data(*(part[:124] for part in digits), train=104, validation=20)


@pytest.fixture(scope="module")
def uninterrupted(jobs, data):
    """The results of each job, trained without a stop."""
    return {name: train_population(job, data) for name, job in jobs.items()}


@pytest.mark.parametrize("case", CASES)
@hypothesis_settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(stops=st.lists(st.integers(1, EPOCHS * STEPS), min_size=1, max_size=3))
def test_stopped_anywhere_it_ends_in_the_same_bits(case, stops, jobs, uninterrupted, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    results = stopped_and_resumed(jobs[case], data, folder, stops)
    for result, expected in zip(results, uninterrupted[case], strict=True):
        assert same_bits(result, expected), f"stopped after {stops}"


def test_all_cases_are_there(jobs):
    assert tuple(jobs) == CASES


@pytest.mark.parametrize("step", range(1, EPOCHS * STEPS + 1))
def test_stopped_after_each_step_once(step, jobs, uninterrupted, data, tmp_path):
    """Also after the last step of an epoch, which is then not evaluated yet."""
    for result, expected in zip(
        stopped_and_resumed(jobs["a population of four"], data, tmp_path, [step]),
        uninterrupted["a population of four"],
        strict=True,
    ):
        assert same_bits(result, expected)


def test_fewer_members_can_resume_from_the_checkpoint_of_more(uninterrupted, data, tmp_path):
    with pytest.raises(TrainingInterrupted):
        train_population(
            job(FOUR), data, checkpoints=checkpoints_in(tmp_path / "a", should_stop=StopAfter(6))
        )
    counter = StopAfter(10**9)
    checkpoints = checkpoints_in(tmp_path / "b", tmp_path / "a", should_stop=counter)
    results = train_population(job([FOUR[3], FOUR[1]], population_size=3), data, checkpoints=checkpoints)
    assert 10**9 - counter.steps_left == EPOCHS * STEPS - 6, "only the steps that were missing"
    assert same_bits(results[0], uninterrupted["a population of four"][3])
    assert same_bits(results[1], uninterrupted["a population of four"][1])


def test_a_checkpoint_is_what_makes_the_difference(data, tmp_path):
    """Otherwise the tests above would prove nothing: with altered weights the result is another."""
    single = job(trials_of((2, trial_config(epochs=EPOCHS))))
    with pytest.raises(TrainingInterrupted):
        train_population(single, data, checkpoints=checkpoints_in(tmp_path / "a", should_stop=StopAfter(5)))
    checkpoint = read_checkpoint(list_checkpoints([tmp_path / "a"])[-1])
    for value in checkpoint.tensors.values():
        value.mul_(1 + torch.finfo(torch.float32).eps * 4)
    write_checkpoint(tmp_path / "b", checkpoint)
    checkpoints = checkpoints_in(tmp_path / "c", tmp_path / "b")
    (result,) = train_population(single, data, checkpoints=checkpoints)
    assert not same_bits(result, train_population(single, data)[0])

"""Stopped at any step and resumed, a training ends in the bits of one that was never stopped."""

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from synthetic_training import (
    DENOISE,
    DROPOUT_MLP,
    MOVED,
    MUON,
    RANGED,
    SMALL_AUTOENCODER,
    SMALL_CNN,
    SMALL_COMPACT,
    StopAfter,
    checkpoints_in,
    job_of,
    replicates_of,
    same_bits,
    stopped_and_resumed,
    trial_config,
    trials_of,
    with_recipe,
)

from inklab.training.checkpoint import TrainingInterrupted, read_checkpoint, write_checkpoint
from inklab.training.checkpoint_files import list_checkpoints
from inklab.training.trainer import train_population

EPOCHS, STEPS = 3, 4
PLAIN, DROPPING = trial_config(epochs=EPOCHS), trial_config(DROPOUT_MLP, epochs=EPOCHS)
MUON_MOVED = {**MUON, **MOVED, "epochs": EPOCHS}
FOUR = trials_of(
    *(
        (replicate, with_recipe(DROPPING, schedule="cosine", corruption=RANGED, **changes))
        for replicate, changes in (
            (0, {"momentum": 0.9}),
            (1, {"momentum": 0.5, "learning_rate": 0.03}),
            (0, {"momentum": 0.9, "l2": 1e-3}),
            (5, {"momentum": 0.0}),
        )
    )
)


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
    cnn, compact = trial_config(SMALL_CNN, epochs=EPOCHS), SMALL_COMPACT.with_kwargs({"batch_norm": True})
    denoiser = trial_config(SMALL_AUTOENCODER, epochs=EPOCHS, **{**DENOISE, "corruption": RANGED})
    stacked = {
        "one, padded": replicates_of(PLAIN, 0),
        "a population of four": FOUR,
        "adam and noise": replicates_of(denoiser, 0, 1),
        "half precision": replicates_of(trial_config(precision="bf16", epochs=EPOCHS, momentum=0.9), 0, 1),
        "one that diverges": trials_of((0, PLAIN), (1, with_recipe(PLAIN, learning_rate=1e30))),
        "adamw, clipping and an average": replicates_of(
            with_recipe(DROPPING, optimizer="adamw", weight_decay=0.1, clip_norm=0.5, ema_decay=0.9), 0, 1
        ),
        "muon, augmentation and warm-up": replicates_of(trial_config(DROPOUT_MLP, **MUON_MOVED), 0, 1),
    }
    single = {
        "convolutions and dropout": replicates_of(with_recipe(cnn, momentum=0.9), 0),
        "convolutions in half precision": replicates_of(cnn.model_copy(update={"precision": "bf16"}), 0),
        "convolutions, augmentation": replicates_of(trial_config(compact, "bf16", **MUON_MOVED), 0),
        "two in turn": replicates_of(DROPPING, 0, 1),
        "randomness of its own": replicates_of(
            trial_config(f"{path}:Noisy", epochs=EPOCHS, ema_decay=0.8, schedule="one-cycle"), 0
        ),
    }
    jobs = {name: job_of(trials) for name, trials in stacked.items()}
    for name, trials in single.items():
        jobs[name] = job_of(trials, stacked=False, reseed_each_step=name == "randomness of its own")
    assert tuple(jobs) == CASES
    return jobs


CASES = (
    "one, padded", "a population of four", "adam and noise", "half precision", "one that diverges",
    "adamw, clipping and an average",
    "muon, augmentation and warm-up", "convolutions and dropout", "convolutions in half precision",
    "convolutions, augmentation", "two in turn", "randomness of its own",
)  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(jobs, small_data):
    """The results of each job, trained without a stop."""
    return {name: train_population(job, small_data) for name, job in jobs.items()}


def assert_resumes(job, expected, data, folder, stops):
    for result, whole in zip(stopped_and_resumed(job, data, folder, stops), expected, strict=True):
        assert same_bits(result, whole), f"stopped after {stops}"


@pytest.mark.parametrize("case", CASES)
@hypothesis_settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(stops=st.lists(st.integers(1, EPOCHS * STEPS), min_size=1, max_size=3))
def test_stopped_anywhere_it_ends_in_the_same_bits(
    case, stops, jobs, uninterrupted, small_data, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("stopped")
    assert_resumes(jobs[case], uninterrupted[case], small_data, folder, stops)


@pytest.mark.parametrize("step", range(1, EPOCHS * STEPS + 1))
def test_stopped_after_each_step_once(step, jobs, uninterrupted, small_data, tmp_path):
    """Also after the last step of an epoch, which is then not evaluated yet."""
    case = "a population of four"
    assert_resumes(jobs[case], uninterrupted[case], small_data, tmp_path, [step])


def stop(job, data, folder, after):
    with pytest.raises(TrainingInterrupted):
        train_population(job, data, checkpoints=checkpoints_in(folder, should_stop=StopAfter(after)))


def test_fewer_members_can_resume_from_the_checkpoint_of_more(uninterrupted, small_data, tmp_path):
    stop(job_of(FOUR), small_data, tmp_path / "a", after=6)
    counter = StopAfter(10**9)
    checkpoints = checkpoints_in(tmp_path / "b", tmp_path / "a", should_stop=counter)
    fewer = job_of([FOUR[3], FOUR[1]], population_size=3)
    results = train_population(fewer, small_data, checkpoints=checkpoints)
    assert 10**9 - counter.steps_left == EPOCHS * STEPS - 6, "only the steps that were missing"
    for result, member in zip(results, (3, 1), strict=True):
        assert same_bits(result, uninterrupted["a population of four"][member])


def test_a_checkpoint_is_what_makes_the_difference(jobs, uninterrupted, small_data, tmp_path):
    """Otherwise the tests above would prove nothing: with altered weights the result is another."""
    stop(jobs["one, padded"], small_data, tmp_path / "a", after=5)
    checkpoint = read_checkpoint(list_checkpoints([tmp_path / "a"])[-1])
    for value in checkpoint.tensors.values():
        value.mul_(1 + torch.finfo(torch.float32).eps * 4)
    write_checkpoint(tmp_path / "b", checkpoint)
    checkpoints = checkpoints_in(tmp_path / "c", tmp_path / "b")
    (result,) = train_population(jobs["one, padded"], small_data, checkpoints=checkpoints)
    assert not same_bits(result, uninterrupted["one, padded"][0])

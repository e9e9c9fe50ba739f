"""Augmentations of the user's own: by name, file or function; checked, reproducible, resumed to the bit."""

import pytest
import torch
from synthetic_training import (
    SMALL_MLP,
    job_of,
    replicates_of,
    same_bits,
    stopped_and_resumed,
    train_one,
    trial_config,
    with_recipe,
)

from inklab.errors import ConfigError, ModelMismatchError, UnknownNameError
from inklab.records.recipe import Augmentation, Recipe
from inklab.seeding import Seed
from inklab.training.augmentations import augmentation, augmentations
from inklab.training.batches import BatchLoader
from inklab.training.preflight import preflight
from inklab.training.trainer import train_population

SHAPE = (1, 12, 12)
SOURCE = """
import random

import numpy as np
import torch

def mirror(images, draws):
    chosen = draws.uniform(len(images), 1, 1, 1) < 0.5
    return torch.where(chosen, images.flip(-1), images)

def globally(images, draws):
    return (images * torch.rand(len(images), 1, 1, 1) * np.random.rand() * random.random()).float()

def in_place(images, draws):
    return images.mul_(draws.uniform(len(images), 1, 1, 1))

def raises(images, draws):
    raise KeyError("no such\\nthing")

def cropped(images, draws):
    return images[..., 1:]

def doubled(images, draws):
    return images + 1

def as_double(images, draws):
    return images.double()

def as_list(images, draws):
    return [images]

number = 3
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(SOURCE, encoding="utf-8")
    return lambda name: f"{tmp_path / 'own.py'}:{name}"


def double(images, draws):
    return images.mul(2).clamp(0, 1)


class TestRecord:
    def test_a_name_or_a_function_stands_for_the_table(self):
        by_name = Recipe.parse({"augmentation": "mine.py:mirror"})
        table = Recipe.parse({"augmentation": {"function": "mine.py:mirror"}})
        assert by_name == table and by_name.augmentation == Augmentation(function="mine.py:mirror")
        live = Recipe.parse({"augmentation": double}).augmentation.function
        assert live.startswith("live:double@") and augmentations.resolve(live).fn is double
        assert Recipe.parse({"augmentation": {"shift": 1, "function": double}}).augmentation.shift == 1

    def test_it_is_user_code_and_part_of_a_trials_identity(self, own):
        plain = trial_config(augmentation={"shift": 1})
        changed = with_recipe(plain, augmentation={"shift": 1, "function": own("mirror")})
        assert changed.user_code == (own("mirror"),) and plain.user_code == ()
        assert plain.identity != changed.identity
        assert "function" not in plain.identity["recipe"]["augmentation"]


class TestBatches:
    @pytest.mark.parametrize("moved", [{}, {"shift": 1}, {"rotation": 20}], ids=str)
    def test_it_is_applied_last_and_once(self, data, own, moved):
        seeds = [Seed(3), Seed(4)]

        def batches(**augmentation):
            recipe = Recipe.parse({"batch_size": 32, "augmentation": augmentation})
            return list(BatchLoader(data, recipe, seeds, stacked=True).epoch(1))

        for number, (plain, changed) in enumerate(
            zip(batches(**moved), batches(**moved, function=own("mirror")), strict=True)
        ):
            assert torch.equal(plain.labels, changed.labels)
            for member, seed in enumerate(seeds):
                images = plain.images[member]
                floats = images if images.is_floating_point() else images.float() / 255
                draws = (seed / "augmentation function" / 1 / number).draws()
                chosen = draws.uniform(len(floats), 1, 1, 1) < 0.5
                assert torch.equal(changed.images[member], torch.where(chosen, floats.flip(-1), floats))

    def test_training_images_are_not_changed_in_place(self, data, own):
        before = data.train.pixels.clone()
        recipe = Recipe.parse({"batch_size": 32, "augmentation": own("in_place")})
        for batch in BatchLoader(data, recipe, [Seed(0)], stacked=False).epoch(0):
            assert batch.images.max() <= 1
        assert torch.equal(data.train.pixels, before)


@pytest.mark.parametrize("name", ["mirror", "globally", "in_place"])
@pytest.mark.parametrize("stacked", [True, False])
def test_a_member_is_trained_as_alone_and_resumed(data, own, tmp_path, name, stacked):
    """Also if it draws from the generators of torch, NumPy and Python."""
    config = trial_config(SMALL_MLP, epochs=2, augmentation=own(name))
    job = job_of(replicates_of(config, 0, 1), stacked=stacked)
    together = train_population(job, data)
    torch.manual_seed(99)
    assert same_bits(together[1], train_one(config, data, replicate=1, stacked=stacked))
    assert all(map(same_bits, together, stopped_and_resumed(job, data, tmp_path, [5, 6])))
    assert not same_bits(together[1].net, train_one(trial_config(SMALL_MLP, epochs=2), data, replicate=1).net)


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("raises", "KeyError"), ("cropped", "(4, 1, 12, 11)"), ("doubled", "0 to 1"),
        ("as_double", "float64"), ("as_list", "list"),
    ],
)  # fmt: skip
def test_mistakes_are_reported_before_training_in_one_line(own, name, fact):
    with pytest.raises(ModelMismatchError) as caught:
        preflight(trial_config(augmentation=own(name)), SHAPE, 10)
    message = str(caught.value)
    assert fact in message and f"own.py:{name}" in message and "\n" not in message


def test_what_is_no_function_or_not_there_is_refused(own):
    with pytest.raises(ConfigError, match="int; an augmentation is a function"):
        augmentations.resolve(own("number"))
    with pytest.raises(ConfigError):
        augmentations.resolve(own("absent"))
    with pytest.raises(UnknownNameError):
        augmentations.resolve("nothing")


def test_a_decorated_one_has_a_name(data):
    with augmentations.temporary():
        augmentation("doubled-ink")(double)
        config = trial_config(augmentation="doubled-ink")
        preflight(config, SHAPE, 10)
        assert train_one(config, data).history.train_loss
    assert "doubled-ink" not in augmentations


@pytest.mark.parametrize("name", sorted(augmentations))
def test_registered_augmentations_return_new_images_that_the_draws_alone_decide(name):
    images = torch.rand(64, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    first, again, other = (augmentations[name].fn(images, Seed(seed).draws()) for seed in (1, 1, 2))
    assert torch.equal(images, before), "not in place"
    assert first.shape == images.shape and first.dtype == images.dtype
    assert first.isfinite().all() and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, again) and not torch.equal(first, other)
    changed = (first != images).flatten(1).any(dim=1)
    assert changed.any() and len(first.flatten(1).unique(dim=0)) == len(images), "each image by its own draws"

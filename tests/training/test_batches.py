"""Batches: every image once an epoch, each member from its own streams; corruption and augmentation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_training import SMALL_AUTOENCODER, same_bits, train_one, trial_config, with_recipe

from inklab.evaluation.scores import to_floats
from inklab.records.recipe import CorruptionConfig, Recipe
from inklab.seeding import Seed
from inklab.training.batches import BatchLoader, corrupt_images, evaluation_inputs
from inklab.training.evaluate import final_metrics
from inklab.training.objectives import objectives

SEEDS = [Seed(0) / "replicate" / k for k in (0, 1, 2)]
RANGED = CorruptionConfig(name="salt_and_pepper", strength=(0.1, 0.7))
MOVES = {
    "shifted": {"shift": 2},
    "warped": {"rotation": 20, "scale": 0.2, "elastic": 1},
    "both": {"shift": 1, "rotation": 10},
}


def epoch(data, number: int = 0, seeds=SEEDS, stacked: bool = True, **recipe):
    return list(BatchLoader(data, Recipe(batch_size=32, **recipe), seeds, stacked=stacked).epoch(number))


def test_every_member_gets_every_image_once_an_epoch_with_its_label(data):
    batches = epoch(data)
    assert [tuple(batch.images.shape) for batch in batches] == [(3, 32, 1, 12, 12)] * 6 + [(3, 8, 1, 12, 12)]
    assert all(torch.equal(batch.inputs, batch.images) for batch in batches)

    def pairs(images: torch.Tensor, labels: torch.Tensor) -> list[tuple[bytes, int]]:
        return sorted(
            (image.tobytes(), int(label)) for image, label in zip(images.numpy(), labels, strict=True)
        )

    for member in range(3):
        images, labels = (
            torch.cat(parts)
            for parts in zip(
                *((batch.images[member], batch.labels[member]) for batch in batches), strict=True
            )
        )
        assert pairs(images, labels) == pairs(data.train.pixels, data.train.labels)


def test_orders_differ_between_epochs_and_members_and_are_repeatable(data):
    def orders(number: int) -> list[bytes]:
        batches = epoch(data, number)
        return [torch.cat([batch.images[k] for batch in batches]).numpy().tobytes() for k in range(3)]

    assert len({*orders(0), *orders(1)}) == 6
    assert orders(4) == orders(4)


@pytest.mark.parametrize("moves", [None, *MOVES])
def test_a_member_gets_the_batches_that_it_gets_alone(moves, data):
    recipe = {"corruption": RANGED, "augmentation": MOVES.get(moves)}
    population = epoch(data, 2, **recipe)
    single = epoch(data, 2, seeds=[SEEDS[1]], stacked=False, **recipe)
    for stacked_batch, batch in zip(population, single, strict=True):
        for stacked_part, part in zip(stacked_batch, batch, strict=True):
            assert torch.equal(stacked_part[1], part)


def test_noise_is_redrawn_each_step_and_targets_are_clean(data):
    same = data.train.pixels[:1].expand(200, 1, 12, 12).contiguous()
    copies = replace(data, train=replace(data.train, pixels=same))
    inputs = [batch.inputs for batch in epoch(copies, corruption=RANGED)][:6]
    flat = torch.stack(inputs).reshape(6 * 3 * 32, -1).numpy()
    assert len({row.tobytes() for row in flat}) == len(flat)
    for batch in epoch(copies, corruption=RANGED):
        assert torch.equal(batch.images, same[0].expand_as(batch.images))


@pytest.mark.parametrize("moves", MOVES)
def test_targets_are_augmented_like_inputs(moves, data):
    """A denoiser must return the image where the input has it, not where it was before."""
    noise = CorruptionConfig(name="salt_and_pepper", strength=0.4)
    for batch, clean in zip(
        epoch(data, augmentation=MOVES[moves], corruption=noise), epoch(data, corruption=noise), strict=True
    ):
        target, original = to_floats(batch.images), to_floats(clean.images)
        assert torch.equal(batch.labels, clean.labels)
        assert float((target - original).abs().mean()) > 0.02
        share = (batch.inputs == target).float().mean()  # 0.6 of pixels are kept, others may be equal anyway
        assert 0.58 < float(share) < 0.75


@pytest.mark.parametrize("moves", MOVES)
def test_moves_are_drawn_anew_each_epoch_by_each_member_and_are_repeatable(moves, data):
    same = data.train.pixels[:1].expand(40, 1, 12, 12).contiguous()
    copies = replace(data, train=replace(data.train, pixels=same, labels=data.train.labels[:40]))

    def images_of(number: int) -> np.ndarray:
        batches = epoch(copies, number, augmentation=MOVES[moves])
        return np.concatenate([batch.images.numpy() for batch in batches], axis=1)

    assert np.array_equal(images_of(3), images_of(3))
    distinct = {image.tobytes() for number in (0, 1) for member in images_of(number) for image in member}
    assert len(distinct) == (240 if moves != "shifted" else 25)
    first, second = images_of(0), images_of(1)
    assert not np.array_equal(first[0], second[0]) and not np.array_equal(first[0], first[1])


def test_images_that_are_only_shifted_or_not_at_all_travel_as_bytes(data):
    """A quarter of the memory; only what is interpolated needs floats."""
    kinds = {moves: epoch(data, augmentation=MOVES[moves])[0].images.dtype for moves in MOVES}
    assert kinds == {"shifted": torch.uint8, "warped": torch.float32, "both": torch.float32}
    for first, other in zip(epoch(data, augmentation={}), epoch(data), strict=True):
        assert torch.equal(first.images, other.images) and first.images.dtype == torch.uint8


@pytest.mark.parametrize("moves", MOVES)
def test_an_epoch_can_be_resumed(moves, data):
    recipe = Recipe(batch_size=32, augmentation=MOVES[moves], corruption=RANGED)
    loader = BatchLoader(data, recipe, SEEDS, stacked=True)
    assert len(loader) == len(list(loader.epoch(1))) == 7
    for first, other in zip(list(loader.epoch(1))[4:], loader.epoch(1, skip=4), strict=True):
        assert all(torch.equal(*parts) for parts in zip(first, other, strict=True))


@pytest.mark.parametrize("corruption", [None, RANGED])
def test_images_for_evaluation_are_not_augmented(corruption, data):
    """With almost no learning rate, augmentation changes only the losses on training images."""
    config = trial_config(learning_rate=1e-30, epochs=1, corruption=corruption)
    augmented = with_recipe(config, augmentation={"shift": 4, "rotation": 90})
    first, other = (train_one(setting, data).history.columns for setting in (config, augmented))
    assert first.keys() == other.keys() and len(first) > 3
    assert [name for name in first if first[name] != other[name]] == ["train_loss"]


def test_each_image_draws_its_own_strength_between_the_bounds():
    grey = torch.full((400, 1, 20, 20), 0.5)
    shares = (corrupt_images(grey, RANGED, Seed(1)) != 0.5).float().mean(dim=(1, 2, 3)).numpy()
    assert 0.05 < shares.min() < 0.15 and 0.65 < shares.max() < 0.78
    assert shares.mean() == pytest.approx(0.4, abs=0.03)
    assert np.histogram(shares, 6, (0.1, 0.7))[0].min() > 35  # uniform: 67 expected in each
    fixed = CorruptionConfig(name="salt_and_pepper", strength=0.4)
    shares = (corrupt_images(grey, fixed, Seed(1)) != 0.5).float().mean(dim=(1, 2, 3)).numpy()
    assert shares.std() < 0.04 and shares.mean() == pytest.approx(0.4, abs=0.01)


def test_evaluation_inputs_have_the_same_noise_for_all(data):
    first, same, other = (evaluation_inputs(data.test, RANGED, Seed(k)) for k in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert torch.equal(evaluation_inputs(data.test, None, Seed(1)), data.test.pixels.float() / 255)


def denoiser_config(strength, **recipe):
    noise = {"name": "salt_and_pepper", "strength": strength}
    return trial_config(SMALL_AUTOENCODER, objective="reconstruct", corruption=noise, **recipe)


def test_a_denoiser_is_evaluated_at_the_eval_strength(data):
    def metrics(net, config):
        return final_metrics(net, objectives["reconstruct"], config.recipe, data, Seed(0))[0]

    ranged, at_strength = denoiser_config([0.0, 0.9]), denoiser_config([0.0, 0.9], eval_strength=0.4)
    first, other = train_one(ranged, data), train_one(at_strength, data)
    assert same_bits(first.net, other.net), "training does not depend on it"
    assert first.history.validation_loss != other.history.validation_loss
    fixed = metrics(other.net, denoiser_config(0.4))
    assert metrics(other.net, at_strength) == fixed != metrics(other.net, ranged)
    assert {"validation_bce", "validation_psnr", "test_bce", "test_psnr"} == set(fixed)


def test_examples_of_a_denoiser_are_the_first_test_image_of_each_class(data):
    config = denoiser_config(0.4)
    net = train_one(config, data).net
    arrays = final_metrics(net, objectives["reconstruct"], config.recipe, data, Seed(0))[1]
    first = [data.test.labels.tolist().index(label) for label in range(10)]
    assert torch.equal(arrays["clean"], data.test.pixels[first])
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    assert shapes == dict.fromkeys(("clean", "inputs", "outputs"), (10, 1, 12, 12))
    assert 0.25 < float((arrays["inputs"] != arrays["clean"]).float().mean()) < 0.45

"""What a network is shown: every image once an epoch, each member from its own streams; and recipes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from synthetic_training import SMALL_AUTOENCODER, same_bits, settings, train_one

from inklab.errors import ConfigError, UnknownNameError
from inklab.seeding import Seed
from inklab.training.batches import BatchLoader, corrupt_images, scoring_inputs, to_floats
from inklab.training.evaluate import final_scores
from inklab.training.objectives import objectives
from inklab.training.recipe import CorruptionSpec, Recipe, read_recipe, recipe_names

SEEDS = [Seed(0) / "replicate" / k for k in (0, 1, 2)]
RANGED = CorruptionSpec(name="salt_and_pepper", strength=(0.1, 0.7))
MOVES = {
    "shifted": {"shift": 2},
    "warped": {"rotation": 20, "scale": 0.2, "elastic": 1},
    "both": {"shift": 1, "rotation": 10},
}


def epoch(data, number: int = 0, seeds=SEEDS, lifted: bool = True, **recipe):
    return list(BatchLoader(data, Recipe(batch=32, **recipe), seeds, lifted=lifted).epoch(number))


def test_every_image_is_shown_once_an_epoch_to_every_member(data):
    batches = epoch(data)
    assert [tuple(batch.images.shape) for batch in batches] == [(3, 32, 1, 12, 12)] * 6 + [(3, 8, 1, 12, 12)]
    wanted = sorted(image.tobytes() for image in data.train.pixels.numpy())
    for member in range(3):
        seen = torch.cat([batch.images[member] for batch in batches]).numpy()
        assert sorted(image.tobytes() for image in seen) == wanted


def test_labels_stay_with_their_images_and_clean_images_are_shown(data):
    place = {
        image.tobytes(): int(k) for image, k in zip(data.train.pixels.numpy(), data.train.labels, strict=True)
    }
    for batch in epoch(data):
        assert torch.equal(batch.shown, batch.images)
        for images, labels in zip(batch.images, batch.labels, strict=True):
            assert [place[image.tobytes()] for image in images.numpy()] == labels.tolist()


def test_orders_differ_between_epochs_and_members_and_are_repeatable(data):
    def orders(number: int) -> list[bytes]:
        batches = epoch(data, number)
        return [torch.cat([batch.images[k] for batch in batches]).numpy().tobytes() for k in range(3)]

    assert len({*orders(0), *orders(1)}) == 6
    assert orders(4) == orders(4)


@pytest.mark.parametrize("moves", [None, *MOVES])
def test_a_member_is_shown_what_it_is_shown_alone(moves, data):
    recipe = {"corruption": RANGED, "augmentation": MOVES.get(moves)}
    together = epoch(data, 2, **recipe)
    alone = epoch(data, 2, seeds=[SEEDS[1]], lifted=False, **recipe)
    for both, one in zip(together, alone, strict=True):
        for ours, lone in zip(both, one, strict=True):
            assert torch.equal(ours[1], lone)


def test_noise_is_redrawn_each_step_and_its_truth_is_clean(data):
    same = data.train.pixels[:1].expand(200, 1, 12, 12).contiguous()
    copies = replace(data, train=replace(data.train, pixels=same))
    shown = [batch.shown for batch in epoch(copies, corruption=RANGED)][:6]
    flat = torch.stack(shown).reshape(6 * 3 * 32, -1).numpy()
    assert len({row.tobytes() for row in flat}) == len(flat)
    for batch in epoch(copies, corruption=RANGED):
        assert torch.equal(batch.images, same[0].expand_as(batch.images))


@pytest.mark.parametrize("moves", MOVES)
def test_the_truth_is_moved_along_with_what_is_shown(moves, data):
    """A denoiser must give back the image where it is shown, not where it once lay."""
    noise = CorruptionSpec(name="salt_and_pepper", strength=0.4)
    for batch, clean in zip(
        epoch(data, augmentation=MOVES[moves], corruption=noise), epoch(data, corruption=noise), strict=True
    ):
        truth, unmoved = to_floats(batch.images), to_floats(clean.images)
        assert torch.equal(batch.labels, clean.labels)
        assert float((truth - unmoved).abs().mean()) > 0.02
        left = (batch.shown == truth).float().mean()  # 0.6 of pixels are let alone, and some were so before
        assert 0.58 < float(left) < 0.75


@pytest.mark.parametrize("moves", MOVES)
def test_moves_are_drawn_anew_each_epoch_by_each_member_and_are_repeatable(moves, data):
    same = data.train.pixels[:1].expand(40, 1, 12, 12).contiguous()
    copies = replace(data, train=replace(data.train, pixels=same, labels=data.train.labels[:40]))

    def seen(number: int, **how) -> np.ndarray:
        batches = epoch(copies, number, augmentation=MOVES[moves], **how)
        return np.concatenate([batch.images.numpy() for batch in batches], axis=1)

    assert np.array_equal(seen(3), seen(3))
    pictures = {each.tobytes() for number in (0, 1) for member in seen(number) for each in member}
    assert len(pictures) == (240 if moves != "shifted" else 25)
    assert not np.array_equal(seen(0)[0], seen(1)[0]) and not np.array_equal(seen(0)[0], seen(0)[1])


def test_images_that_are_only_shifted_travel_as_bytes(data):
    """A quarter of the memory; only what is interpolated needs floats."""
    kinds = {moves: epoch(data, augmentation=MOVES[moves])[0].images.dtype for moves in MOVES}
    assert kinds == {"shifted": torch.uint8, "warped": torch.float32, "both": torch.float32}


@pytest.mark.parametrize("moves", MOVES)
def test_an_epoch_can_be_gone_on_with(moves, data):
    recipe = Recipe(batch=32, augmentation=MOVES[moves], corruption=RANGED)
    maker = BatchLoader(data, recipe, SEEDS, lifted=True)
    for one, other in zip(list(maker.epoch(1))[4:], maker.epoch(1, taken=4), strict=True):
        assert all(torch.equal(*parts) for parts in zip(one, other, strict=True))


def test_an_empty_augmentation_is_none(data):
    for one, other in zip(epoch(data, augmentation={}), epoch(data), strict=True):
        assert torch.equal(one.images, other.images) and one.images.dtype == other.images.dtype


@pytest.mark.parametrize("corruption", [None, RANGED])
def test_images_for_scoring_are_not_moved(corruption, data):
    """A training that goes nowhere: moved or not, only the losses on training images differ."""
    told = settings(rate=1e-30, epochs=1, corruption=corruption and corruption.model_dump())
    moved = {**told, "recipe": {**told["recipe"], "augmentation": {"shift": 4, "rotation": 90}}}
    still, found = (train_one(each, data).history for each in (told, moved))
    assert still.keys() == found.keys() and len(still) > 3
    assert [name for name in still if still[name] != found[name]] == ["train_loss"]


def test_each_image_draws_its_own_strength_between_the_bounds():
    grey = torch.full((400, 1, 20, 20), 0.5)
    shares = (corrupt_images(grey, RANGED, Seed(1)) != 0.5).float().mean(dim=(1, 2, 3)).numpy()
    assert 0.05 < shares.min() < 0.15 and 0.65 < shares.max() < 0.78
    assert shares.mean() == pytest.approx(0.4, abs=0.03)
    assert np.histogram(shares, 6, (0.1, 0.7))[0].min() > 35  # uniform: 67 expected in each
    fixed = CorruptionSpec(name="salt_and_pepper", strength=0.4)
    shares = (corrupt_images(grey, fixed, Seed(1)) != 0.5).float().mean(dim=(1, 2, 3)).numpy()
    assert shares.std() < 0.04 and shares.mean() == pytest.approx(0.4, abs=0.01)


def test_scoring_shows_the_same_noise_to_all(data):
    one, same, other = (scoring_inputs(data.test, RANGED, Seed(k)) for k in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(scoring_inputs(data.test, None, Seed(1)), data.test.pixels.float() / 255)


@pytest.mark.parametrize(
    "strength", [[0.5, 0.2], [-0.1, 0.2], -1, [0.1], [0.1, 0.2, 0.3], "much", [None, 1], [[1], 2]]
)
def test_strengths_that_make_no_range_are_refused(strength):
    with pytest.raises(ValidationError):
        CorruptionSpec(name="gaussian", strength=strength)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0},
        {"rate": float("nan")},
        {"momentum": 1.0},
        {"l2": -1e-9},
        {"epochs": 0},
        {"batch": 0},
        {"epoch": 3},
        {"warmup": 1.0},
        {"warmup": -0.1},
        {"schedule": "stairs"},
        {"optimiser": "lion"},
        {"augmentation": {"shift": -1}},
        {"augmentation": {"shift": 1.5}},
        {"augmentation": {"rotation": 181}},
        {"augmentation": {"scale": 1.0}},
        {"augmentation": {"elastic": float("inf")}},
        {"augmentation": {"flip": True}},
        {"scored_at": 0.4},
        {"scored_at": -0.1, "corruption": RANGED.model_dump()},
    ],
    ids=str,
)
def test_recipes_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        Recipe(**wrong)


def test_a_denoiser_is_scored_at_the_strength_that_is_asked_for(data):
    def told(strength, **more):
        noise = {"name": "salt_and_pepper", "strength": strength}
        return settings(SMALL_AUTOENCODER, objective="reconstruct", corruption=noise, **more)

    def scores(net, told):
        return final_scores(net, objectives["reconstruct"], Recipe(**told["recipe"]), data, Seed(0))[0]

    ranged, asked, fixed = told([0.0, 0.9]), told([0.0, 0.9], scored_at=0.4), told(0.4)
    drawn, at = train_one(ranged, data), train_one(asked, data)
    assert same_bits(drawn.net, at.net), "what is trained is not moved by it"
    assert drawn.history["validation_loss"] != at.history["validation_loss"]
    assert scores(at.net, asked) == scores(at.net, fixed) != scores(at.net, ranged)
    assert {"validation_bce", "test_bce"} <= set(scores(at.net, asked))


def test_builtin_recipes_are_recipes():
    assert len(recipe_names()) >= 6
    for name in recipe_names():
        Recipe.model_validate(read_recipe(name).fields)


def test_recipe_files_are_found_or_told(tmp_path):
    (tmp_path / "mine.toml").write_text("epochs = 3\n")
    (tmp_path / "torn.toml").write_text("epochs = \n")
    assert read_recipe("mine.toml", tmp_path) == ({"epochs": 3}, {}, 1)
    with pytest.raises(ConfigError, match="is not TOML"):
        read_recipe("torn.toml", tmp_path)
    with pytest.raises(ConfigError, match="there is no recipe file"):
        read_recipe("gone.toml", tmp_path)
    with pytest.raises(UnknownNameError, match="no recipe is called 'sdg'. Did you mean 'sgd'"):
        read_recipe("sdg")

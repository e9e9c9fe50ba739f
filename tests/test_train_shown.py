"""What a network is shown: every image once an epoch, each member from its own streams; and recipes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from inklab.errors import SpecError, UnknownName
from inklab.seeding import Seed
from inklab.train.recipe import CorruptionSpec, Recipe, read_recipe, recipe_names
from inklab.train.shown import BatchMaker, shown_for_scoring, spoilt

SEEDS = [Seed(0) / "replicate" / k for k in (0, 1, 2)]
RANGED = CorruptionSpec(name="salt_and_pepper", strength=(0.1, 0.7))


def epoch(data, number: int = 0, seeds=SEEDS, lifted: bool = True, **recipe):
    return list(BatchMaker(data, Recipe(batch=32, **recipe), seeds, lifted=lifted).epoch(number))


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


def test_a_member_is_shown_what_it_is_shown_alone(data):
    together = epoch(data, 2, corruption=RANGED)
    alone = epoch(data, 2, seeds=[SEEDS[1]], lifted=False, corruption=RANGED)
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


def test_each_image_draws_its_own_strength_between_the_bounds():
    grey = torch.full((400, 1, 20, 20), 0.5)
    shares = (spoilt(grey, RANGED, Seed(1)) != 0.5).float().mean(dim=(1, 2, 3)).numpy()
    assert 0.05 < shares.min() < 0.15 and 0.65 < shares.max() < 0.78
    assert shares.mean() == pytest.approx(0.4, abs=0.03)
    assert np.histogram(shares, 6, (0.1, 0.7))[0].min() > 35  # uniform: 67 expected in each
    fixed = CorruptionSpec(name="salt_and_pepper", strength=0.4)
    shares = (spoilt(grey, fixed, Seed(1)) != 0.5).float().mean(dim=(1, 2, 3)).numpy()
    assert shares.std() < 0.04 and shares.mean() == pytest.approx(0.4, abs=0.01)


def test_scoring_shows_the_same_noise_to_all(data):
    one, same, other = (shown_for_scoring(data.test, RANGED, Seed(k)) for k in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(shown_for_scoring(data.test, None, Seed(1)), data.test.pixels.float() / 255)


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
    ],
    ids=str,
)
def test_recipes_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        Recipe(**wrong)


def test_builtin_recipes_are_recipes():
    assert len(recipe_names()) >= 2
    for name in recipe_names():
        Recipe.model_validate(read_recipe(name))


def test_recipe_files_are_found_or_told(tmp_path):
    (tmp_path / "mine.toml").write_text("epochs = 3\n")
    (tmp_path / "torn.toml").write_text("epochs = \n")
    assert read_recipe("mine.toml", tmp_path) == {"epochs": 3}
    with pytest.raises(SpecError, match="is not TOML"):
        read_recipe("torn.toml", tmp_path)
    with pytest.raises(SpecError, match="there is no recipe file"):
        read_recipe("gone.toml", tmp_path)
    with pytest.raises(UnknownName, match="no recipe is called 'sdg'. Did you mean 'sgd'"):
        read_recipe("sdg")

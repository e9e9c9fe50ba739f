"""Augmentation: images stand at every place in turns; turning, scaling and bending do what they say."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from inklab.seeding import Seed
from inklab.training.batches import RandomShift, warp
from inklab.training.recipe import Augmentation

SHAPES = [(1, 12, 12), (3, 7, 10), (2, 9, 4)]


def rng(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """The oracle: `(c, h, w)` rolled, and what came in at the other side made black."""
    moved = np.roll(image, (down, right), (1, 2))
    moved[:, : max(down, 0)] = 0
    moved[:, image.shape[1] + min(down, 0) :] = 0
    moved[:, :, : max(right, 0)] = 0
    moved[:, :, image.shape[2] + min(right, 0) :] = 0
    return moved


def places(image: np.ndarray, most: int) -> list[bytes]:
    """An image at every place that it can be shifted to."""
    moves = itertools.product(range(-most, most + 1), repeat=2)
    return sorted(shifted(image, down, right).tobytes() for down, right in moves)


def noise(count: int, shape: tuple[int, int, int]) -> torch.Tensor:
    """Bytes without zeros, so that what came in from outside is known."""
    return torch.randint(1, 256, (count, *shape), generator=rng(), dtype=torch.uint8)


class TestShifter:
    @pytest.mark.parametrize("most", [1, 2, 3])
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_each_image_stands_at_each_place_once_before_it_stands_anywhere_again(self, shape, most):
        pixels, count = noise(5, shape), (2 * most + 1) ** 2
        shifter = RandomShift(pixels, most)
        everyone = torch.arange(5)
        epochs = [shifter.cut(everyone, shifter.cells(Seed(4), epoch)).numpy() for epoch in range(count)]
        for number, image in enumerate(pixels.numpy()):
            assert sorted(each[number].tobytes() for each in epochs) == places(image, most)
        again = shifter.cut(everyone, shifter.cells(Seed(4), count)).numpy()
        assert np.array_equal(again, epochs[0])

    def test_images_begin_at_random_places_of_their_members_own(self):
        shifter = RandomShift(noise(4000, (1, 2, 2)), 2)
        one, same, other = (shifter.cells(Seed(seed), 0) for seed in (1, 1, 2))
        assert torch.equal(one, same)
        assert float((one == other).float().mean()) == pytest.approx(1 / 25, abs=0.015)
        counts = torch.bincount(one, minlength=25)
        assert len(counts) == 25 and counts.min() > 110 and counts.max() < 215  # 160, +- 4 SD of 12.4

    def test_some_images_are_cut_each_at_its_place(self):
        pixels = noise(6, (1, 5, 4))
        shifter = RandomShift(pixels, 2)
        index, cells = torch.tensor([4, 0, 4]), torch.tensor([12, 0, 24])
        found = shifter.cut(index, cells).numpy()
        images = pixels.numpy()
        wanted = [images[4], shifted(images[0], 2, 2), shifted(images[4], -2, -2)]
        assert found.dtype == np.uint8 and np.array_equal(found, np.stack(wanted))

    def test_the_given_images_are_left_alone(self):
        pixels = noise(3, (1, 4, 4))
        before = pixels.clone()
        RandomShift(pixels, 1).cut(torch.arange(3), torch.zeros(3, dtype=torch.int64)).zero_()
        assert torch.equal(pixels, before)


# ---------------------------------------------------------------- turned, scaled, bent


def blob(height: int, width: int, down: float, right: float, spread: float = 2.0) -> np.ndarray:
    """A round spot at a distance from the middle, in pixels."""
    y, x = np.mgrid[:height, :width]
    rows, columns = y - (height - 1) / 2 - down, x - (width - 1) / 2 - right
    return np.exp(-(rows**2 + columns**2) / (2 * spread**2))


def copies(image: np.ndarray, count: int) -> torch.Tensor:
    return torch.from_numpy(image.copy()).float().expand(count, 1, *image.shape)


def moments(image: np.ndarray) -> tuple[float, float, float, float]:
    """Where the ink lies from the middle (down, right), and how far it is spread (down, right)."""
    share = image / image.sum()
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    down, right = ((share * axis).sum() for axis in (y, x))
    spreads = (math.sqrt((share * (axis - at) ** 2).sum()) for axis, at in ((y, down), (x, right)))
    middle = ((image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2)
    return down - middle[0], right - middle[1], *spreads


class TestWarped:
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_of_nothing_nothing_comes(self, shape):
        images = torch.rand(4, *shape, generator=rng())
        torch.testing.assert_close(warp(images, Augmentation(), rng()), images, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("size", [(33, 33), (30, 44)], ids=str)
    def test_a_turn_is_scipys(self, size):
        """By how much each image is turned is seen from where its spot went."""
        image = blob(*size, down=2.0, right=8.0)
        begun = math.degrees(math.atan2(2, 8))
        angles = []
        for turned in warp(copies(image, 60), Augmentation(rotation=40), rng())[:, 0].numpy():
            down, right, *_ = moments(turned)
            angles.append(begun - math.degrees(math.atan2(down, right)))
            wanted = ndimage.rotate(image, angles[-1], reshape=False, order=1, mode="constant")
            assert np.abs(turned - wanted).max() < 0.02
        assert -40.5 < min(angles) < -30 and 30 < max(angles) < 40.5
        assert abs(np.mean(angles)) < 10  # 40 / sqrt(3) / sqrt(60) = 3

    @pytest.mark.parametrize("size", [(33, 33), (30, 44)], ids=str)
    def test_width_and_height_change_each_by_its_own_about_the_middle(self, size):
        image = blob(*size, down=0, right=0, spread=3.0)
        seen = warp(copies(image, 200), Augmentation(scale=0.3), rng())[:, 0].numpy()
        down, right, *spreads = np.array([moments(each) for each in seen]).T
        assert np.abs(down).max() < 0.01 and np.abs(right).max() < 0.01
        for factors in np.array(spreads) / 3:
            assert 0.69 < factors.min() < 0.75 and 1.25 < factors.max() < 1.33
            assert np.mean(factors) == pytest.approx(1, abs=0.05)  # 0.17 / sqrt(200), 4 SD
        assert abs(np.corrcoef(spreads)[0, 1]) < 0.3

    @pytest.mark.parametrize("size", [(32, 32), (28, 40)], ids=str)
    def test_bending_moves_pixels_smoothly_by_as_much_as_it_says(self, size):
        """On a slope, what a pixel shows tells from where it was taken."""
        for axis, length in enumerate(size):
            slope = np.linspace(0.2, 0.8, length)
            image = np.broadcast_to(slope[:, None] if axis == 0 else slope, size)
            seen = warp(copies(image, 300), Augmentation(elastic=1.5), rng(axis))[:, 0].numpy()
            way = ((seen - image) / (slope[1] - slope[0]))[:, 8:-8, 8:-8]
            assert 0.6 * 1.5 < way.std() < 1.1 * 1.5
            assert abs(way.mean()) < 0.15
            assert max(np.diff(way, axis=1).std(), np.diff(way, axis=2).std()) < 0.5
            assert np.abs(np.corrcoef(way[:, 3, 3], way[:, -3, -3])[0, 1]) < 0.3  # not moved as a whole

    def test_what_comes_from_outside_is_black(self):
        seen = warp(torch.ones(40, 1, 20, 20), Augmentation(rotation=45), rng())
        corners = seen[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
        assert float((corners == 0).float().mean()) > 0.5 and float(seen[:, 0, 6:-6, 6:-6].min()) > 0.999

    @given(
        shape=st.sampled_from(SHAPES), rotation=st.floats(0, 180), scale=st.floats(0, 0.99),
        elastic=st.floats(0, 100), seed=st.integers(0, 99),
    )  # fmt: skip
    def test_images_stay_images(self, shape, rotation, scale, elastic, seed):
        images = torch.rand(3, *shape, generator=rng(seed)).round(decimals=0)
        before = images.clone()
        seen = warp(images, Augmentation(rotation=rotation, scale=scale, elastic=elastic), rng(seed))
        assert seen.shape == images.shape and 0 <= float(seen.min()) and float(seen.max()) <= 1
        assert torch.equal(images, before)

    @pytest.mark.parametrize("told", [{"rotation": 20}, {"scale": 0.2}, {"elastic": 1}], ids=str)
    def test_the_same_draws_give_the_same_pixels_and_each_image_has_its_own(self, told):
        images, spec = copies(blob(16, 16, 1, 3), 6), Augmentation(**told)
        one, same, other = (warp(images, spec, rng(seed)) for seed in (1, 1, 2))
        assert torch.equal(one, same)
        assert len({each.numpy().tobytes() for each in [*one, *other]}) == 12

    def test_all_channels_of_an_image_are_moved_alike(self):
        images = torch.rand(5, 1, 12, 12, generator=rng()).expand(5, 3, 12, 12)
        seen = warp(images, Augmentation(rotation=30, scale=0.2, elastic=1), rng())
        assert torch.equal(seen[:, 0], seen[:, 1]) and torch.equal(seen[:, 0], seen[:, 2])


def test_only_what_interpolates_warps():
    assert not Augmentation(shift=3).warps
    assert all(Augmentation(**{key: 0.5}).warps for key in ("rotation", "scale", "elastic"))

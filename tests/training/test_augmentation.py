"""Augmentation: images take every offset in turns; rotation, scaling and deformation are as documented."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from inklab.counters import Draws
from inklab.records.recipe import Augmentation
from inklab.seeding import Seed
from inklab.training.augmentations import RandomShift, warp

SHAPES = [(1, 12, 12), (3, 7, 10), (2, 9, 4)]


def rng(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def draws(number: int = 0) -> Draws:
    return Seed(number).draws()


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """The oracle: `(c, h, w)` rolled, with zeros where pixels entered at the other side."""
    moved = np.roll(image, (down, right), (1, 2))
    moved[:, : max(down, 0)] = 0
    moved[:, image.shape[1] + min(down, 0) :] = 0
    moved[:, :, : max(right, 0)] = 0
    moved[:, :, image.shape[2] + min(right, 0) :] = 0
    return moved


def all_shifts(image: np.ndarray, max_shift: int) -> list[bytes]:
    """An image at every offset that it can be shifted by."""
    shifts = itertools.product(range(-max_shift, max_shift + 1), repeat=2)
    return sorted(shifted(image, down, right).tobytes() for down, right in shifts)


def noise(count: int, shape: tuple[int, int, int]) -> torch.Tensor:
    """Bytes without zeros, so that padding can be told from pixels."""
    return torch.randint(1, 256, (count, *shape), generator=rng(), dtype=torch.uint8)


class TestRandomShift:
    @pytest.mark.parametrize("max_shift", [1, 2, 3])
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_each_image_takes_each_offset_once_before_any_repeats(self, shape, max_shift):
        pixels, count = noise(5, shape), (2 * max_shift + 1) ** 2
        shifter = RandomShift(pixels, max_shift)
        index = torch.arange(5)
        epochs = [shifter.cut(index, shifter.offsets(Seed(4), epoch)).numpy() for epoch in range(count)]
        for number, image in enumerate(pixels.numpy()):
            assert sorted(images[number].tobytes() for images in epochs) == all_shifts(image, max_shift)
        again = shifter.cut(index, shifter.offsets(Seed(4), count)).numpy()
        assert np.array_equal(again, epochs[0])

    def test_first_offsets_are_uniform_and_depend_on_the_seed(self):
        shifter = RandomShift(noise(4000, (1, 2, 2)), 2)
        first, same, other = (shifter.offsets(Seed(seed), 0) for seed in (1, 1, 2))
        assert torch.equal(first, same)
        assert float((first == other).float().mean()) == pytest.approx(1 / 25, abs=0.015)
        counts = torch.bincount(first, minlength=25)
        assert len(counts) == 25 and counts.min() > 110 and counts.max() < 215  # 160, +- 4 SD of 12.4

    def test_images_are_cut_each_at_its_offset(self):
        pixels = noise(6, (1, 5, 4))
        shifter = RandomShift(pixels, 2)
        index, offsets = torch.tensor([4, 0, 4]), torch.tensor([12, 1, 24])
        cut, images, before = shifter.cut(index, offsets), pixels.numpy(), pixels.clone()
        expected = [images[4], shifted(images[0], 2, 1), shifted(images[4], -2, -2)]
        assert cut.dtype == torch.uint8 and np.array_equal(cut.numpy(), np.stack(expected))
        cut.zero_()
        assert torch.equal(pixels, before), "the original images do not change"


def blob(height: int, width: int, down: float, right: float, spread: float = 2.0) -> np.ndarray:
    """A round spot at a distance from the center, in pixels."""
    y, x = np.mgrid[:height, :width]
    rows, columns = y - (height - 1) / 2 - down, x - (width - 1) / 2 - right
    return np.exp(-(rows**2 + columns**2) / (2 * spread**2))


def copies(image: np.ndarray, count: int) -> torch.Tensor:
    return torch.from_numpy(image.copy()).float().expand(count, 1, *image.shape)


def moments(image: np.ndarray) -> tuple[float, float, float, float]:
    """Center of mass relative to the image's center (down, right), and standard deviations (down, right)."""
    share = image / image.sum()
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    down, right = ((share * axis).sum() for axis in (y, x))
    deviations = (math.sqrt((share * (axis - mean) ** 2).sum()) for axis, mean in ((y, down), (x, right)))
    center = ((image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2)
    return down - center[0], right - center[1], *deviations


class TestWarp:
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_without_any_augmentation_images_stay_the_same(self, shape):
        images = torch.rand(4, *shape, generator=rng())
        torch.testing.assert_close(warp(images, Augmentation(), draws()), images, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("size", [(33, 33), (30, 44)], ids=str)
    def test_rotation_is_scipys(self, size):
        """The position of the spot gives the angle of each image."""
        image = blob(*size, down=2.0, right=8.0)
        start = math.degrees(math.atan2(2, 8))
        angles = []
        for rotated in warp(copies(image, 60), Augmentation(rotation=40), draws())[:, 0].numpy():
            down, right, *_ = moments(rotated)
            angles.append(start - math.degrees(math.atan2(down, right)))
            expected = ndimage.rotate(image, angles[-1], reshape=False, order=1, mode="constant")
            assert np.abs(rotated - expected).max() < 0.02
        assert -40.5 < min(angles) < -30 and 30 < max(angles) < 40.5
        assert abs(np.mean(angles)) < 10  # 40 / sqrt(3) / sqrt(60) = 3

    @pytest.mark.parametrize("size", [(33, 33), (30, 44)], ids=str)
    def test_width_and_height_are_scaled_independently_about_the_center(self, size):
        image = blob(*size, down=0, right=0, spread=3.0)
        warped = warp(copies(image, 200), Augmentation(scale=0.3), draws())[:, 0].numpy()
        down, right, *spreads = np.array([moments(image) for image in warped]).T
        assert np.abs(down).max() < 0.01 and np.abs(right).max() < 0.01
        for factors in np.array(spreads) / 3:
            assert 0.69 < factors.min() < 0.75 and 1.25 < factors.max() < 1.33
            assert np.mean(factors) == pytest.approx(1, abs=0.05)  # 0.17 / sqrt(200), 4 SD
        assert abs(np.corrcoef(spreads)[0, 1]) < 0.3

    @pytest.mark.parametrize("size", [(32, 32), (28, 40)], ids=str)
    def test_deformation_is_smooth_and_as_strong_as_configured(self, size):
        """On a linear slope, the value of a pixel gives the position that it was taken from."""
        for axis, length in enumerate(size):
            slope = np.linspace(0.2, 0.8, length)
            image = np.broadcast_to(slope[:, None] if axis == 0 else slope, size)
            warped = warp(copies(image, 300), Augmentation(elastic=1.5), draws(axis))[:, 0].numpy()
            shift = ((warped - image) / (slope[1] - slope[0]))[:, 8:-8, 8:-8]
            assert 0.6 * 1.5 < shift.std() < 1.1 * 1.5
            assert abs(shift.mean()) < 0.15
            assert max(np.diff(shift, axis=1).std(), np.diff(shift, axis=2).std()) < 0.5
            assert np.abs(np.corrcoef(shift[:, 3, 3], shift[:, -3, -3])[0, 1]) < 0.3  # not moved as a whole

    def test_pixels_from_outside_are_zero(self):
        warped = warp(torch.ones(40, 1, 20, 20), Augmentation(rotation=45), draws())
        corners = warped[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
        assert float((corners == 0).float().mean()) > 0.5 and float(warped[:, 0, 6:-6, 6:-6].min()) > 0.999

    @given(
        shape=st.sampled_from(SHAPES), rotation=st.floats(0, 180), scale=st.floats(0, 0.99),
        elastic=st.floats(0, 100), seed=st.integers(0, 99),
    )  # fmt: skip
    def test_images_stay_images(self, shape, rotation, scale, elastic, seed):
        images = torch.rand(3, *shape, generator=rng(seed)).round(decimals=0)
        before = images.clone()
        warped = warp(images, Augmentation(rotation=rotation, scale=scale, elastic=elastic), draws(seed))
        assert warped.shape == images.shape and 0 <= float(warped.min()) and float(warped.max()) <= 1
        assert torch.equal(images, before)

    @pytest.mark.parametrize("fields", [{"rotation": 20}, {"scale": 0.2}, {"elastic": 1}], ids=str)
    def test_the_same_draws_give_the_same_pixels_and_each_image_has_its_own(self, fields):
        images, augmentation = copies(blob(16, 16, 1, 3), 6), Augmentation(**fields)
        first, same, other = (warp(images, augmentation, draws(seed)) for seed in (1, 1, 2))
        assert torch.equal(first, same)
        assert len({image.numpy().tobytes() for image in [*first, *other]}) == 12

    def test_all_channels_of_an_image_are_warped_alike(self):
        images = torch.rand(5, 1, 12, 12, generator=rng()).expand(5, 3, 12, 12)
        warped = warp(images, Augmentation(rotation=30, scale=0.2, elastic=1), draws())
        assert torch.equal(warped[:, 0], warped[:, 1]) and torch.equal(warped[:, 0], warped[:, 2])


def test_shifts_do_not_interpolate():
    assert not Augmentation(shift=3).interpolates
    assert all(Augmentation(**{key: 0.5}).interpolates for key in ("rotation", "scale", "elastic"))

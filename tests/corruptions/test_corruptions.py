"""Corruptions and filters: what every one of them must satisfy, and whether each one's unit is true."""

import re
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy.ndimage import median_filter

from inklab.corruptions.corruption import Corruption, corruptions
from inklab.corruptions.filters import BLOCK, Filter, filters
from inklab.counters import Draws
from inklab.errors import InklabError, ModelMismatchError, OutOfRangeError, UnknownNameError
from inklab.seeding import Seed

DOCS = Path(__file__).parents[2] / "docs"


def draws(number: int) -> Draws:
    return Seed(number).draws()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Black ground, gray and white ink, two channels, not square."""
    drawn = draws(99).uniform(48, 2, 20, 28)
    drawn[:, :, :4] = 0
    drawn[:, :, 4:8] = 1
    return drawn


def ink(n: int) -> torch.Tensor:
    """A soft oblique stroke on black."""
    y, x = torch.meshgrid(torch.arange(28.0) - 12, torch.arange(28.0) - 15, indexing="ij")
    return torch.exp(-((x + y) ** 2) / 8 - (x - y) ** 2 / 150).expand(n, 1, 28, 28).clone()


def gray(value: float = 0.5) -> torch.Tensor:
    return torch.full((64, 1, 28, 28), value)


@pytest.mark.parametrize("noise", corruptions.all().values(), ids=attrgetter("name"))
class TestEveryCorruption:
    def test_strength_zero_is_the_identity_bit_for_bit(self, noise, images):
        for strength in (0.0, torch.zeros(len(images))):
            assert torch.equal(noise(images, strength, draws(0)), images)

    def test_stays_an_image_at_every_strength(self, noise, images):
        for strength in (*noise.strengths, noise.max_strength):
            corrupted = noise(images, strength, draws(0))
            assert corrupted.shape == images.shape and corrupted.dtype == images.dtype
            assert 0 <= corrupted.min() and corrupted.max() <= 1

    def test_does_not_touch_its_input(self, noise, images):
        before = images.clone()
        for strength in (0.0, noise.strengths[-1], torch.full((len(images),), noise.strengths[1])):
            corrupted = noise(images, strength, draws(0))
            corrupted.fill_(0.3)  # nor share memory with it
            assert torch.equal(images, before)

    def test_same_seed_same_pixels_and_no_other_randomness(self, noise, images):
        before = torch.get_rng_state()
        first, again = (noise(images, noise.strengths[2], draws(5)) for _ in range(2))
        assert torch.equal(first, again)
        assert torch.equal(torch.get_rng_state(), before)

    def test_an_image_gets_the_same_pixels_alone_and_in_a_batch(self, noise, images):
        strength = noise.strengths[2]
        together = noise(images[:5], strength, draws(6))
        for number in range(5):
            single = noise(images[number : number + 1], strength, Seed(6).draws(first=number))
            torch.testing.assert_close(single[0], together[number], rtol=0, atol=1e-6)

    def test_each_strength_changes_more_than_the_last(self, noise):
        blots = ink(48)  # of noise, a shift by one pixel leaves no more than one by five
        change = [(noise(blots, strength, draws(1)) - blots).abs().mean() for strength in noise.strengths]
        assert all(less < more for less, more in zip(change, change[1:], strict=False))

    def test_one_strength_an_image_equals_one_for_all(self, noise, images):
        strength = noise.strengths[len(noise.strengths) // 2]
        for_all = noise(images, strength, draws(2))
        per_image = noise(images, torch.full((len(images),), strength), draws(2))
        torch.testing.assert_close(per_image, for_all, rtol=0, atol=1e-6)

    def test_each_image_gets_its_own_strength(self, noise, images):
        half = torch.arange(len(images)) % 2 * noise.strengths[-1]
        corrupted = noise(images, half, draws(3))
        assert torch.equal(corrupted[::2], images[::2])
        assert not torch.isclose(corrupted[1::2], images[1::2]).flatten(1).all(dim=1).any()

    def test_refuses_strengths_out_of_range(self, noise, images):
        for wrong in (-0.01, noise.max_strength * 1.01, float("nan")):
            for strength in (wrong, torch.full((len(images),), wrong)):
                with pytest.raises(OutOfRangeError):
                    noise(images, strength, draws(0))

    def test_says_what_it_does_and_in_which_unit(self, noise):
        assert noise.unit and noise.description.endswith(".")
        card = (DOCS / "corruptions" / f"{noise.name}.md").read_text(encoding="utf-8")
        headings = [noise.name, "What it imitates", "Strength and unit", "Formula", "Source"]
        assert re.findall(r"^#+ (.+)$", card, re.MULTILINE) == headings
        assert f"| {noise.unit} |" in (DOCS / "corruptions.md").read_text(encoding="utf-8")


def test_all_were_found_and_have_a_card():
    assert len(corruptions) >= 18 and len(filters) >= 1  # raised with every one that is added
    assert {card.stem for card in (DOCS / "corruptions").glob("*.md")} == set(corruptions)


def test_examples_of_the_page_run():
    page = (DOCS / "corruptions.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    with corruptions.temporary():
        for block in blocks:
            exec(block, {})
        assert corruptions["whitewash"](gray(), 0.2, draws(0)).mean() == pytest.approx(0.6)


def test_salt_and_pepper_makes_one_draw_a_pixel_and_decides_as_documented():
    """So the stated share is replaced, half of it by white."""
    strength = draws(1).uniform(64)
    numbers, edge = draws(2).uniform(64, 1, 28, 28), strength.view(-1, 1, 1, 1)
    expected = gray()
    expected[numbers < edge] = 0
    expected[numbers < edge / 2] = 1
    used = draws(2)
    assert torch.equal(corruptions["salt_and_pepper"](gray(), strength, used), expected)
    assert used.count == 1


def test_salt_and_pepper_replaces_at_a_strength_what_it_replaces_at_a_smaller_one():
    low, high = (corruptions["salt_and_pepper"](gray(), strength, draws(3)) for strength in (0.2, 0.3))
    assert (high[low != 0.5] != 0.5).all() and (high[low == 1] == 1).all()
    assert float((high != 0.5).float().mean()) == pytest.approx(0.3, abs=0.01)


def test_gaussian_has_the_stated_standard_deviation():
    noise = corruptions["gaussian"](gray(), 0.1, draws(0)) - 0.5
    assert noise.std() == pytest.approx(0.1, rel=0.02) and noise.mean() == pytest.approx(0, abs=0.002)


def test_shot_counts_photons():
    corrupted = corruptions["shot"](gray(), 0.02, draws(0))  # white is 50 photons, gray 25
    assert corrupted.mean() == pytest.approx(0.5, rel=0.01)
    assert corrupted.var() == pytest.approx(25 * 0.02**2, rel=0.05)
    torch.testing.assert_close(corrupted / 0.02, (corrupted / 0.02).round(), rtol=0, atol=1e-4)
    assert not corruptions["shot"](gray(0.0), 1.0, draws(0)).any()


def test_contrast_keeps_the_mean_and_the_stated_share_of_every_difference(images):
    corrupted = corruptions["contrast"](images, 0.75, draws(0))
    torch.testing.assert_close(corrupted.mean(dim=(1, 2, 3)), images.mean(dim=(1, 2, 3)))
    torch.testing.assert_close(corrupted.std(dim=(1, 2, 3)), images.std(dim=(1, 2, 3)) / 4)


@given(share=st.floats(0, 1), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_occlusion_hides_one_square_of_the_stated_side(share, seed):
    hidden = corruptions["occlusion"](gray(), share, draws(seed)) == 0
    side = round(share * 28 + 1e-9) if abs(share * 28 % 1 - 0.5) > 1e-3 else None
    rows, columns = (hidden.any(dim=axis).squeeze(1).sum(dim=1) for axis in (3, 2))
    assert torch.equal(hidden.sum(dim=(1, 2, 3)), rows * columns)  # a filled rectangle, wholly inside
    assert side is None or (rows == side).all() and (columns == side).all()


def test_occlusion_reaches_every_corner():
    hidden = corruptions["occlusion"](gray().repeat(40, 1, 1, 1), 0.9, draws(0)) == 0
    corners = hidden[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.any(dim=0).all() and not corners.all(dim=1).any()


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, 4, 4), torch.full((2, 1, 4, 4), 2.8),
        torch.full((2, 1, 4, 4), float("nan")),
    ],
    ids=["bytes", "three axes", "scaled", "nan"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_image_is_refused(wrong):
    from inklab.corruptions.corruption import check_images  # jaxtyping refuses some of them earlier, in tests

    with pytest.raises(OutOfRangeError):
        check_images(wrong)


def test_refuses_strengths_that_do_not_fit_the_images(images):
    with pytest.raises((OutOfRangeError, TypeCheckError)):  # jaxtyping refuses them earlier, in tests
        corruptions["gaussian"](images, torch.zeros(3), draws(0))


def test_a_misspelled_corruption_gets_the_nearest_name():
    with pytest.raises(UnknownNameError) as caught:
        corruptions["salt_and_peper"]
    assert caught.value.suggestion == "salt_and_pepper"


@pytest.mark.parametrize("strengths", [(), (0.1, 0.2), (0.0, 0.2, 0.2), (0.0, 2.0)])
def test_a_corruption_needs_rising_strengths_from_zero(strengths):
    with pytest.raises(InklabError):
        Corruption("wrong", "unit", strengths, 1.0, lambda images, strength, draws: images)


@pytest.mark.parametrize(
    "fn",
    [
        lambda images: images[:, :, 1:], lambda images: images.double(), lambda images: images - 0.01,
        lambda images: images * float("nan"), lambda images: images + 0.01, lambda images: images.numpy(),
    ],
)  # fmt: skip
def test_what_a_function_returns_is_checked_and_names_it(images, fn):
    wrong = Corruption("mine", "unit", (0.0,), 1.0, lambda images, strength, draws: fn(images))
    for call in (lambda: wrong(images, 0.5, draws(0)), lambda: Filter("mine", "", fn)(images)):
        with pytest.raises(ModelMismatchError) as caught:
            call()
        assert "'mine'" in str(caught.value)


def test_no_images_are_no_problem():
    none = torch.zeros(0, 1, 28, 28)
    assert filters["median"](none).shape == none.shape
    for noise in corruptions.all().values():
        assert noise(none, 0.5, draws(0)).shape == noise(none, torch.zeros(0), draws(0)).shape == none.shape


@pytest.mark.parametrize("image_filter", filters.all().values(), ids=attrgetter("name"))
class TestEveryFilter:
    def test_keeps_shape_range_and_input(self, image_filter, images):
        before = images.clone()
        filtered = image_filter(images)
        assert filtered.shape == images.shape and 0 <= filtered.min() and filtered.max() <= 1
        assert torch.equal(images, before)

    def test_leaves_an_even_image_alone(self, image_filter):
        torch.testing.assert_close(image_filter(gray()), gray())

    def test_an_image_is_filtered_without_regard_to_the_others(self, image_filter):
        many = draws(0).uniform(BLOCK + 7, 1, 6, 6)
        assert torch.equal(image_filter(many)[-9:], image_filter(many[-9:]))

    def test_is_described(self, image_filter):
        assert image_filter.description
        assert f"| `{image_filter.name}` |" in (DOCS / "corruptions.md").read_text(encoding="utf-8")


@given(shape=st.tuples(*[st.integers(1, 6)] * 4), levels=st.integers(2, 300), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_median_equals_scipy(shape, levels, seed):
    # Few levels: many equal values, as in images under salt and pepper.
    values = np.random.default_rng(seed).integers(0, levels, shape) / np.float32(levels - 1)
    values = values.astype(np.float32).clip(0, 1)
    expected = median_filter(values, size=(1, 1, 3, 3), mode="nearest")
    np.testing.assert_array_equal(filters["median"](torch.from_numpy(values)).numpy(), expected)


def test_median_removes_single_pixels():
    speckled = gray()
    speckled[:, :, 2::5, 2::5] = 1
    speckled[:, :, 0, 0] = 0
    assert torch.equal(filters["median"](speckled)[:, :, 1:], gray()[:, :, 1:])

"""Samplers: what every one of them must satisfy, and what each one preserves of the codes."""

import re
import warnings
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

from inklab.errors import ConfigError, DataError, UnknownNameError
from inklab.evaluation.samplers import Sampler, samplers

PAGE = (Path(__file__).parents[2] / "docs" / "samplers.md").read_text(encoding="utf-8")
SMALL = {"mixture": {"mixture_components": 3}}


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    """Three kinds of code behind a ReLU: exact zeros, two units that go together, one that never fires."""
    rng = np.random.default_rng(0)
    centers = np.array([[6, 0, 1, 0.5], [0, 6, 1, 0.5], [3, 3, 9, 0.5]])[rng.integers(0, 3, 900)]
    drawn = centers + rng.normal(0, 0.7, (900, 4))
    drawn[:, 3] = drawn[:, 0] + rng.normal(0, 0.1, 900)
    return np.hstack([drawn.clip(min=0), np.zeros((900, 1))]).astype(np.float32)


def draw(
    sampler: Sampler, codes: np.ndarray, count: int = 2000, seed: int = 0, **params: float
) -> np.ndarray:
    chosen = {**SMALL.get(sampler.name, {}), **params}
    return sampler(codes, count, np.random.default_rng(seed), chosen).codes


@pytest.mark.parametrize("sampler", samplers.all().values(), ids=attrgetter("name"))
class TestEverySampler:
    def test_draws_the_requested_number_and_does_not_touch_the_codes(self, sampler, codes):
        before = codes.copy()
        for count in (1, 2, 37):
            drawn = draw(sampler, codes, count)
            assert drawn.shape == (count, 5) and drawn.dtype == np.float32 and np.isfinite(drawn).all()
        np.testing.assert_array_equal(codes, before)

    def test_same_seed_same_codes_and_no_other_randomness(self, sampler, codes):
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        first, again, other = (draw(sampler, codes, seed=seed) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002

    def test_in_no_particular_order_and_never_below_zero_where_no_code_is(self, sampler, codes):
        drawn = draw(sampler, codes)
        assert drawn.min() >= 0
        first, second = drawn[:1000, :3].mean(axis=0), drawn[1000:, :3].mean(axis=0)
        np.testing.assert_allclose(first, second, atol=0.5)

    def test_takes_a_single_unit_and_codes_that_do_not_vary(self, sampler):
        constant = np.full((20, 1), 2.0, dtype=np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert draw(sampler, constant, 10).shape == (10, 1)

    def test_is_described_here_and_on_the_page(self, sampler):
        assert sampler.description
        assert f"| `{sampler.name}` |" in PAGE
        assert all(f"`{name}`" in PAGE for name in sampler.params)

    def test_refuses_what_it_cannot_use(self, sampler, codes):
        rng = np.random.default_rng(0)
        with pytest.raises(UnknownNameError) as caught:
            sampler(codes, 3, rng, {"sigmo": 1.0})
        assert caught.value.key == "sigmo"
        for wrong in (codes[:1], codes + np.float32(np.nan)):
            with pytest.raises(DataError):
                sampler(wrong, 3, rng)


def test_all_samplers_were_found():
    assert {"binary", "uniform", "gaussian", "mixture", "perturbed"} <= set(samplers)
    with pytest.raises(UnknownNameError) as caught:
        samplers["mixtur"]
    assert caught.value.suggestion == "mixture"


def test_example_of_the_page_runs(codes):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 1
    with samplers.temporary():
        exec(blocks[0], {})
        shuffled = draw(samplers["shuffled"], codes)
    assert set(shuffled[:, 0]) <= set(codes[:, 0])
    assert abs(np.corrcoef(shuffled[:, 0], shuffled[:, 3])[0, 1]) < 0.1


def test_binary_draws_zeros_and_ones_alike(codes):
    drawn = draw(samplers["binary"], codes)
    assert set(np.unique(drawn)) == {0.0, 1.0} and drawn.mean() == pytest.approx(0.5, abs=0.02)


def test_uniform_keeps_each_units_range(codes):
    drawn = draw(samplers["uniform"], codes)
    assert (drawn >= codes.min(axis=0)).all() and (drawn <= codes.max(axis=0)).all()
    np.testing.assert_allclose(drawn[:, 0].mean(), codes[:, 0].max() / 2, rtol=0.05)


def test_gaussian_keeps_mean_and_covariance():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(4000, 3)) @ rng.normal(size=(3, 3)) + [5, -3, 0]
    drawn = draw(samplers["gaussian"], codes, 40_000)
    np.testing.assert_allclose(drawn.mean(axis=0), codes.mean(axis=0), atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(codes.T), atol=0.1)
    assert drawn.min() < 0  # these codes go below 0, so nothing is cut off


def test_mixture_separates_the_clusters_that_one_gaussian_blurs(codes):
    def share_near_a_kind(drawn: np.ndarray) -> float:
        centers = np.array([[6, 0, 1], [0, 6, 1], [3, 3, 9]])
        gap = np.linalg.norm(drawn[:, None, :3] - centers, axis=2).min(axis=1)
        return float((gap < 2.5).mean())

    apart, blurred = (share_near_a_kind(draw(samplers[name], codes)) for name in ("mixture", "gaussian"))
    assert apart > 0.95 > 0.7 > blurred


def test_mixture_says_how_the_fit_went(codes):
    params = {"mixture_components": 3, "max_fit_images": 300}
    drawn = samplers["mixture"](codes, 5, np.random.default_rng(0), params)
    assert (drawn.info["components"], drawn.info["fit_images"], drawn.info["converged"]) == (3, 300, True)


def test_a_fit_that_does_not_converge_is_reported_without_a_warning(codes, monkeypatch):
    monkeypatch.setattr("inklab.evaluation.samplers.MAX_ITERATIONS", 1)
    drawn = samplers["mixture"](codes, 5, np.random.default_rng(0), {"mixture_components": 3})
    assert drawn.info["converged"] is False and drawn.info["iterations"] == 1


@pytest.mark.parametrize("components", [0, 901])
def test_mixture_needs_a_possible_number_of_components(codes, components):
    with pytest.raises(ConfigError):
        draw(samplers["mixture"], codes, mixture_components=components)


def test_perturbed_stays_as_near_as_its_sigma(codes):
    same = draw(samplers["perturbed"], codes, sigma=0)
    assert {tuple(code) for code in same} <= {tuple(code) for code in codes}
    small, large = (draw(samplers["perturbed"], codes, sigma=sigma) for sigma in (0.1, 0.5))
    gaps = [np.linalg.norm(drawn - same, axis=1).mean() for drawn in (small, large)]
    assert 0 < gaps[0] < gaps[1]
    assert not draw(samplers["perturbed"], codes)[:, 4].any()  # a unit that never fires goes on not firing
    with pytest.raises(ConfigError):
        draw(samplers["perturbed"], codes, sigma=-1)

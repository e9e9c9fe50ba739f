"""Precision, recall, density and coverage against the authors' formulas, in NumPy, over all pairs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu

from inklab.errors import DataError, ModelMismatchError
from inklab.evaluation.neighborhoods import Neighborhoods, nearer_share


def radii(points: np.ndarray, k: int) -> np.ndarray:
    return np.sort(cdist(points, points), axis=1)[:, k]  # at 0 is its distance to itself


def naive_overlap(real: np.ndarray, generated: np.ndarray, k: int = 5) -> tuple[float, float, float, float]:
    """Equations 2 and 3 of Kynkaanniemi et al. (2019), section 3 of Naeem et al. (2020)."""
    between = cdist(real, generated)
    inside_real = between < radii(real, k)[:, None]
    inside_generated = between < radii(generated, k)[None]
    return (
        inside_real.any(axis=0).mean(), inside_generated.any(axis=1).mean(),
        inside_real.sum(axis=0).mean() / k, inside_real.any(axis=1).mean(),
    )  # fmt: skip


@given(n=st.integers(6, 1100), m=st.integers(6, 1100), shift=st.floats(0, 2), seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_overlap_equals_comparing_all_pairs(n, m, shift, seed):
    rng = np.random.default_rng(seed)
    real, generated = rng.normal(size=(n, 3)), rng.normal(size=(m, 3)) * 0.7 + shift
    overlap = Neighborhoods.of(torch.from_numpy(real)).overlap(torch.from_numpy(generated))
    assert overlap == pytest.approx(naive_overlap(real, generated), abs=1e-12)


def test_collapse_and_distance_lower_the_scores():
    generator = torch.Generator().manual_seed(0)
    real, fresh = (torch.randn(2000, 4, generator=generator) for _ in range(2))
    good = Neighborhoods.of(real).overlap(fresh)
    assert min(good.precision, good.recall, good.coverage) > 0.9 and good.density == pytest.approx(1, abs=0.1)
    collapsed = Neighborhoods.of(real).overlap(0.05 * fresh)
    assert collapsed.precision == 1 and collapsed.coverage < 0.1 and collapsed.recall < 0.1
    away = Neighborhoods.of(real).overlap(fresh + 100)
    assert away == (0, 0, 0, 0)


def test_features_far_from_the_origin_have_the_same_scores():
    values = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    near = Neighborhoods.of(values[:250]).overlap(values[250:])
    far = Neighborhoods.of(values[:250] + 1000).overlap(values[250:] + 1000)
    assert far == pytest.approx(near, abs=0.02)


def test_too_few_or_other_features_are_refused():
    real = Neighborhoods.of(torch.rand(6, 2))
    with pytest.raises(DataError, match="there are 5 images; neighborhoods of 5 need at least 6"):
        real.overlap(torch.rand(5, 2))
    with pytest.raises(ModelMismatchError, match="2 features can't be compared with 3"):
        real.overlap(torch.rand(6, 3))


@given(st.lists(st.integers(0, 9), min_size=1), st.lists(st.integers(0, 9), min_size=1))
def test_nearer_share_is_the_statistic_of_mann_and_whitney(distances, others):
    share = nearer_share(np.array(distances, float), np.array(others, float))
    u = mannwhitneyu(others, distances).statistic if len({*distances, *others}) > 1 else None
    assert share == pytest.approx(0.5 if u is None else u / (len(distances) * len(others)))

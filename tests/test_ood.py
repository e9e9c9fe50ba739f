"""OOD scores: nearest neighbors, energies, their calibration, and the cache."""

import numpy as np
import pytest
import torch

from inklab.ood import Calibration, PcaNearestNeighbor, energy, is_empty, leave_one_out
from inklab.records.components import Preprocessing


def images(count, seed, size=(1, 6, 6)):
    return np.random.default_rng(seed).integers(0, 256, (count, *size)).astype(np.uint8)


def similarity(known, queries, **settings):
    return PcaNearestNeighbor.fit(known, **settings).similarity(queries.astype(np.float32) / np.float32(255))


class TestPcaNearestNeighbor:
    def test_with_all_components_it_is_the_squared_distance(self):
        known, queries = images(50, 0), images(20, 1)
        flat = [torch.from_numpy(rows.reshape(len(rows), -1)).double() / 255 for rows in (queries, known)]
        expected = -torch.cdist(*flat).square().amin(dim=1).numpy()
        assert np.abs(similarity(known, queries) - expected).max() < 1e-4
        assert np.abs(similarity(known, known)).max() < 1e-4

    def test_what_the_components_leave_out_counts(self):
        known = np.zeros((40, 1, 6, 6), np.uint8)
        known[:, 0, 0, :3] = images(40, 0, (3,))
        unlike = known[:1].copy()
        unlike[0, 0, 5] = 255
        near, far = similarity(known, np.concatenate([known[:1], unlike]), n_components=3)
        assert abs(near) < 1e-4 and abs(far + 6) < 1e-3

    def test_leave_one_out_ignores_the_image_itself(self):
        known = images(10, 3)
        flat = known.reshape(10, -1) / 255
        expected = [-min(((flat[i] - flat[j]) ** 2).sum() for j in range(10) if j != i) for i in range(10)]
        assert np.abs(leave_one_out(known) - expected).max() < 1e-5


def test_a_share_of_scores_is_beyond_the_threshold():
    similarities = np.random.default_rng(0).normal(size=10_000)
    scores = Calibration.fit(similarities, 0.01).score(similarities)
    assert abs((scores > 1).mean() - 0.01) < 0.001
    assert abs(np.median(scores)) < 1e-9
    assert np.isfinite(Calibration.fit(np.ones(5)).score(np.array([0.5, 1.0]))).all()


def test_energy_is_the_logarithm_of_summed_exponentials():
    logits = np.random.default_rng(0).normal(size=(5, 10)) * 300
    assert np.allclose(energy(logits), torch.logsumexp(torch.from_numpy(logits), dim=1).numpy())


@pytest.mark.parametrize(
    ("background", "preprocessing"),
    [
        (0, Preprocessing()), (255, Preprocessing(light_on_dark=False)),
        (90, Preprocessing.resize_only((1, 28, 28))),
    ],
)  # fmt: skip
def test_an_image_with_next_to_no_ink_is_empty(background, preprocessing):
    pages = np.full((3, 1, 28, 28), background, np.uint8)
    pages[1, 0, 3, 3:5] = 255 - background
    pages[2, 0, 3:25, 13:15] = 255 - background
    assert is_empty(pages, preprocessing).tolist() == [True, True, False]

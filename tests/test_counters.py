"""Numbers by counter: bits as of an oracle in plain integers, distributions as of scipy, independence."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from inklab.counters import Draws, keyed_bits
from inklab.seeding import Seed

KINDS = {
    "uniform": lambda draws, *shape: draws.uniform(*shape),
    "normal": lambda draws, *shape: draws.normal(*shape),
    "integers": lambda draws, *shape: draws.integers(-2, 5, *shape),
    "poisson": lambda draws, *shape: draws.poisson(torch.full(shape, 3.5)),
}
each_kind = pytest.mark.parametrize("draw", KINDS.values(), ids=KINDS)


def lowbias32(word: int) -> int:
    """The mixer in plain integers, after its publication."""
    word ^= word >> 16
    word = word * 0x7FEB352D % 2**32
    word ^= word >> 15
    word = word * 0x846CA68B % 2**32
    return word ^ word >> 16


def oracle(key: tuple[int, int], draw: int, image: int, position: int) -> int:
    """The 32 bits of a number."""
    row = lowbias32(lowbias32(image ^ key[0]) ^ key[1] ^ draw * 0x9E3779B9 % 2**32)
    column = lowbias32(lowbias32(position ^ key[1] ^ 0x9E3779B9) ^ key[0] ^ draw * 0x9E3779B9 % 2**32)
    return lowbias32(row ^ column)


KEYS = st.tuples(*[st.integers(0, 2**31 - 1)] * 2)


def draws_of(key: tuple[int, int], first: int = 0) -> Draws:
    return Draws(torch.tensor(key, dtype=torch.int32), first)


@given(key=KEYS, skipped=st.integers(0, 3), first=st.integers(0, 2**31 - 10))
def test_bits_are_those_of_the_oracle(key, skipped, first):
    draws = draws_of(key, first)
    for _ in range(skipped):
        draws.uniform(1)
    expected = [[oracle(key, skipped, first + i, p) >> 8 for p in range(6)] for i in range(3)]
    assert torch.equal(draws.uniform(3, 2, 3) * 2**24, torch.tensor(expected).view(3, 2, 3).float())
    bits = [lowbias32(lowbias32(p ^ key[0]) ^ key[1]) & 0x7FFFFFFF for p in range(5)]
    assert keyed_bits(draws.key, 5).tolist() == bits


def test_bits_are_the_same_on_every_machine():
    """Fixed here once: if one of them moves, no stored result can be repeated."""
    draws = (Seed(7) / "replicate" / 0 / "corruption" / 3).draws(first=5)
    assert (draws.uniform(1, 4) * 2**24).long().tolist() == [[7414414, 9946729, 5561627, 16588399]]
    assert draws.integers(0, 1000, 1, 4).tolist() == [[971, 24, 726, 66]]
    assert draws.normal(1, 3).tolist() == [pytest.approx([-0.59817088, 0.15340424, 0.74012220], abs=1e-6)]


@given(key=KEYS, n=st.integers(1, 20), rates=st.sampled_from([0.4, 30.0]))
def test_every_number_is_computed_from_the_bits_as_documented(key, n, rates):
    """Integers by multiplication, normal numbers by Box and Muller, Poisson numbers by inversion."""
    word = lambda draw, p: ((oracle(key, draw, 0, p) ^ 2**31) + 0.5) / 2**32  # noqa: E731
    integers = draws_of(key).integers(-3, 8, 1, n)[0]
    assert integers.tolist() == [(oracle(key, 0, 0, p) >> 8) * 11 // 2**24 - 3 for p in range(n)]
    half = -(-n // 2)
    radius = [math.sqrt(-2 * math.log(word(0, p))) for p in range(half)]
    angle = [2 * math.pi * word(1, p) for p in range(half)]
    pairs = [r * math.cos(a) for r, a in zip(radius, angle, strict=True)]
    pairs += [r * math.sin(a) for r, a in zip(radius, angle, strict=True)]
    np.testing.assert_allclose(draws_of(key).normal(1, n)[0].numpy(), pairs[:n], rtol=1e-6, atol=1e-6)
    counts = draws_of(key).poisson(torch.full((1, n), rates))[0].numpy()
    expected = stats.poisson.ppf([word(0, p) for p in range(n)], np.float32(rates))
    assert np.abs(counts - expected).max() <= (0 if rates <= 5 else 1)


class TestDistribution:
    def test_uniform_numbers_and_every_bit_of_them(self):
        values = Seed(1).draws().uniform(400, 784).flatten().numpy()
        assert stats.kstest(values, "uniform").pvalue > 1e-3
        cells = np.bincount((values * 1024).astype(int), minlength=1024)
        assert stats.chisquare(cells).pvalue > 1e-3
        bits = (values * 2**24).astype(np.int64)[:, None] >> np.arange(24) & 1
        assert np.abs(bits.mean(0) - 0.5).max() < 4 * 0.5 / math.sqrt(len(values))

    def test_pairs_of_neighbors_fill_the_square(self):
        values = Seed(2).draws().uniform(400, 784).numpy()
        for ahead, behind in ((values[:, 1:], values[:, :-1]), (values[1:], values[:-1])):
            cells = np.histogram2d(ahead.ravel(), behind.ravel(), bins=32, range=[[0, 1]] * 2)[0]
            assert stats.chisquare(cells.ravel()).pvalue > 1e-3

    def test_normal_numbers_with_their_tails(self):
        values = Seed(3).draws().normal(400, 785).flatten().numpy()
        assert stats.kstest(values, "norm").pvalue > 1e-3
        assert np.mean(np.abs(values) > 3) == pytest.approx(2 * stats.norm.sf(3), rel=0.15)
        assert abs(stats.kurtosis(values)) < 4 * math.sqrt(24 / len(values))

    def test_integers_reach_both_ends_equally_often(self):
        counts = np.bincount(Seed(4).draws().integers(-3, 8, 200, 500).flatten().numpy() + 3)
        assert len(counts) == 11 and stats.chisquare(counts).pvalue > 1e-3
        for low, high in ((3, 3), (4, 3), (0, 2**24 + 1)):
            with pytest.raises(ValueError, match="no integers to draw"):
                Seed(4).draws().integers(low, high, 1)

    @pytest.mark.parametrize("rate", [0.0, 1e-6, 0.3, 2.0, 4.9, 5.0, 5.5, 8.0, 20.0, 300.0, 1e6])
    def test_poisson_numbers(self, rate):
        counts = Seed(5).draws().poisson(torch.full((200, 500), rate)).flatten().numpy()
        bounded = Seed(5).draws().poisson(torch.full((200, 500), rate), max_rate=rate)
        np.testing.assert_array_equal(bounded.flatten().numpy(), counts)
        assert (counts >= 0).all() and (counts == counts.round()).all()
        assert counts.mean() == pytest.approx(rate, abs=4.5 * math.sqrt(rate / 1e5) + 1e-12)
        edges = np.unique(stats.poisson.ppf(np.arange(1, 40) / 40, rate)) if rate else np.array([0.0])
        shares = np.diff([0, *stats.poisson.cdf(edges, rate), 1])
        cells = np.bincount(np.searchsorted(edges, counts), minlength=len(shares))[shares > 1e-4]
        if len(cells) > 1:
            expected = shares[shares > 1e-4] / shares[shares > 1e-4].sum()
            assert stats.chisquare(cells, expected * cells.sum()).pvalue > 1e-3


class TestIndependence:
    def test_of_keys_images_positions_and_draws(self):
        """Keys of neighboring members and steps, and the worst: keys that differ in one bit."""
        members = [(Seed(0) / "replicate" / k / "corruption" / 0).key for k in range(20)]
        steps = [(Seed(0) / "replicate" / 0 / "corruption" / step).key for step in range(1, 20)]
        strengths = [(Seed(0) / "salt_and_pepper" / repr(i / 20)).key for i in range(20)]
        bits = [(members[0][0] ^ 1 << i, members[0][1]) for i in range(20)]
        bits += [(members[0][0], members[0][1] ^ 1 << i) for i in range(20)]
        streams = [draws_of(key).uniform(1, 4000)[0] for key in members + steps + strengths + bits]
        draws = draws_of(members[0])
        streams += list(draws.uniform(20, 4000))[1:] + [draws.uniform(1, 4000)[0] for _ in range(20)]
        table = torch.stack(streams).double()
        correlation = torch.corrcoef(table) - torch.eye(len(table))
        assert float(correlation.abs().max()) < 5.5 / math.sqrt(4000)
        off_diagonal = correlation[~torch.eye(len(table), dtype=torch.bool)]
        assert float(off_diagonal.std()) == pytest.approx(1 / math.sqrt(4000), rel=0.05)

    def test_of_the_two_words_of_an_equal_key(self):
        values = draws_of((0, 0)).uniform(100, 784).numpy()
        assert len(np.unique(values[:, 0])) == 100
        assert stats.kstest(values.ravel(), "uniform").pvalue > 1e-3


@each_kind
@settings(max_examples=20)
@given(key=KEYS, n=st.integers(1, 9), image=st.integers(0, 8), size=st.integers(1, 7))
def test_an_image_gets_the_same_numbers_alone_and_in_a_batch(draw, key, n, image, size):
    batch, single = draws_of(key), draws_of(key, first=image % n)
    for _ in range(2):
        assert torch.equal(draw(batch, n, size, 2)[image % n], draw(single, 1, size, 2)[0])


@each_kind
def test_members_of_a_vectorized_program_draw_as_alone(draw):
    keys = torch.tensor([(Seed(0) / k).key for k in range(4)], dtype=torch.int32)
    stacked = torch.func.vmap(lambda key: draw(Draws(key), 5, 7))(keys)
    for key, member in zip(keys, stacked, strict=True):
        assert torch.equal(member, draw(Draws(key), 5, 7))


@each_kind
def test_nothing_is_drawn_for_no_images_nor_from_a_global_generator(draw):
    before = torch.get_rng_state()
    assert draw(Seed(0).draws(), 0, 3).shape == (0, 3)
    assert draw(Seed(0).draws(), 3).shape == (3,)
    assert torch.equal(torch.get_rng_state(), before)

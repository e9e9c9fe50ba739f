"""Formulas against scipy and published values, intervals against simulation, and the edges."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from inklab.errors import OutOfRangeError
from inklab.records.estimates import Difference, Estimate
from inklab.stats import (
    adjust_family,
    detectable_errors,
    estimate,
    family_alpha,
    holm,
    holm_levels,
    interval_at,
    mcnemar,
    paired_difference,
    paired_images_difference,
    prediction_interval,
    unpaired_difference,
    wilson,
)

VECTORS = st.lists(st.floats(-10, 10), min_size=2, max_size=12)


def minimum_detectable(sd, n, *alpha_and_power):
    return sd / sqrt(n) * detectable_errors(n - 1, *alpha_and_power)


P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=25)


class TestEstimate:
    def test_is_student_over_replicates(self):
        values = [0.971, 0.974, 0.969, 0.973]
        accuracy = estimate(values, images=10_000)
        expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
        assert accuracy.ci95 == pytest.approx(expected)
        assert (accuracy.mean, accuracy.n) == (pytest.approx(np.mean(values)), 4)
        assert accuracy.sd == pytest.approx(np.std(values, ddof=1))
        assert accuracy.ci95_images == wilson(accuracy.mean, 10_000)

    def test_only_shares_over_images_have_an_interval_over_images(self):
        assert estimate([2.0, 3.0]).ci95_images is None
        assert estimate([0.5, 0.75], images=100).values == (0.5, 0.75)

    def test_one_replicate_has_no_interval_over_replicates(self):
        accuracy = estimate([0.9], images=100)
        assert (accuracy.mean, accuracy.n, accuracy.sd, accuracy.ci95) == (0.9, 1, None, None)
        assert estimate([0.5, 0.5]).ci95 == (0.5, 0.5)
        assert accuracy.ci95_images is not None
        assert estimate([], images=100) == Estimate.empty(), "none is not zero"

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), 97.8])
    def test_refuses_what_failed_trials_leave_and_percents(self, bad):
        with pytest.raises(OutOfRangeError):
            estimate([0.5, bad], images=100)


class TestWilson:
    @pytest.mark.parametrize(("hits", "n"), [(0, 10), (1, 10), (10, 10), (9784, 10_000), (3, 7)])
    @pytest.mark.parametrize("level", [0.9, 0.95])
    def test_equals_scipy(self, hits, n, level):
        expected = stats.binomtest(hits, n).proportion_ci(level, method="wilson")
        assert wilson(hits / n, n, level) == pytest.approx((expected.low, expected.high), abs=1e-12)

    @given(st.floats(0, 1), st.integers(1, 10**6))
    def test_holds_the_share_and_stays_in_range(self, share, n):
        low, high = wilson(share, n)
        assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1

    def test_covers_on_average_what_it_says(self):
        n, k = 40, np.arange(41)
        low, high = np.array([wilson(hits / n, n) for hits in k]).T
        shares = np.linspace(0.05, 0.95, 91)[:, None]
        covered = np.where((low <= shares) & (shares <= high), stats.binom.pmf(k, n, shares), 0).sum(axis=1)
        assert 0.94 < covered.mean() < 0.965

    @pytest.mark.parametrize(("share", "n"), [(1.2, 10), (-0.1, 10), (0.5, 0)])
    def test_refuses_what_is_no_share(self, share, n):
        with pytest.raises(OutOfRangeError):
            wilson(share, n)


class TestPairedDifference:
    def test_equals_scipys_paired_t_test(self):
        rng = np.random.default_rng(0)
        a, b = rng.normal(0.97, 0.01, 7), rng.normal(0.96, 0.01, 7)
        difference, expected = paired_difference(a, b), stats.ttest_rel(a, b)
        assert difference.p == pytest.approx(expected.pvalue)
        interval = expected.confidence_interval(0.95)
        assert difference.ci95 == pytest.approx((interval.low, interval.high))
        wide = expected.confidence_interval(0.999)
        assert interval_at(difference, 0.999) == pytest.approx((wide.low, wide.high))
        assert difference.mde == pytest.approx(minimum_detectable(difference.sd, 7))

    @given(VECTORS, st.data())
    @settings(max_examples=60, deadline=None)
    def test_swapping_sides_only_changes_the_sign(self, a, data):
        b = data.draw(st.lists(st.floats(-10, 10), min_size=len(a), max_size=len(a)))
        forward, backward = paired_difference(a, b), paired_difference(b, a)
        assert forward.mean == pytest.approx(-backward.mean) and forward.sd == pytest.approx(backward.sd)
        assert (forward.p is None) == (backward.p is None)
        assert forward.p is None or forward.p == pytest.approx(backward.p)

    def test_a_95_percent_interval_covers_95_percent(self):
        rng = np.random.default_rng(0)
        for pairs in (3, 10):
            hits = 0
            for _ in range(2000):
                effect = rng.normal(0, 5, pairs)  # of a replicate: pairing takes it away
                difference = paired_difference(
                    effect + rng.normal(0.5, 1, pairs), effect + rng.normal(0, 1, pairs)
                )
                low, high = difference.ci95
                hits += low <= 0.5 <= high
            assert 0.935 <= hits / 2000 <= 0.965

    def test_equal_scores_are_no_difference(self):
        difference = paired_difference([0.9, 0.8, 0.7], [0.9, 0.8, 0.7])
        assert difference == Difference(mean=0.0, sd=0.0, n=3, ci95=(0.0, 0.0), p=1.0, mde=None, df=2.0)

    def test_a_constant_gap_claims_no_certainty(self):
        # 0.97 - 0.96 and 0.98 - 0.97 differ by a rounding: that is no spread, and t would be 10^15.
        difference = paired_difference([0.97, 0.98], [0.96, 0.97])
        assert difference.mean == pytest.approx(0.01)
        assert difference.sd == 0.0
        assert difference.p is difference.ci95 is interval_at(difference, 0.9) is None

    def test_one_pair_and_none(self):
        single = paired_difference([0.9], [0.8])
        assert single == Difference(mean=single.mean, sd=None, n=1, ci95=None, p=None, mde=None)
        assert single.mean == pytest.approx(0.1)
        assert paired_difference([], []).mean is None
        with pytest.raises(OutOfRangeError):
            paired_difference([1.0, 2.0], [1.0])


class TestMinimumDetectable:
    def test_published_power_of_a_paired_t_test(self):
        # G*Power's and R's (pwr.t.test) well-known example: d = 0.5 at power 0.8 takes 33.37 pairs, so 34.
        assert minimum_detectable(1, 34) < 0.5 < minimum_detectable(1, 33)
        assert minimum_detectable(1, 34, 0.05, 0.8077775) == pytest.approx(0.5, abs=1e-4)

    @pytest.mark.parametrize(("n", "alpha"), [(5, 0.05), (10, 0.05), (30, 0.05 / 4)])
    def test_solves_scipys_noncentral_t(self, n, alpha):
        errors = minimum_detectable(1, n, alpha) * sqrt(n)
        bound = stats.t.isf(alpha / 2, n - 1)
        assert stats.nct.sf(bound, n - 1, errors) == pytest.approx(0.8, abs=2e-5)

    @pytest.mark.parametrize(("n", "alpha"), [(2, 0.05 / 21), (3, 0.05), (10, 0.05)])
    def test_is_seen_in_80_percent_of_simulated_experiments(self, n, alpha):
        rng = np.random.default_rng(1)
        gaps = rng.normal(minimum_detectable(2.0, n, alpha), 2.0, (20_000, n))
        p = stats.ttest_1samp(gaps, 0, axis=1).pvalue
        assert np.mean(p < alpha) == pytest.approx(0.8, abs=0.012)

    def test_less_is_seen_with_more_pairs_and_only_with_two_at_all(self):
        sizes = [minimum_detectable(1, n) for n in (2, 3, 5, 10, 30, 1000)]
        assert sizes == sorted(sizes, reverse=True)
        assert paired_difference([1.0], [0.0]).mde is None


class TestHolm:
    def test_by_hand(self):
        # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 = 0.02, 0.03, 0.06, 0.04 -> 0.06 by monotony.
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
        assert holm([]) == []
        assert family_alpha(0) == 0.05 and family_alpha(20) == min(holm_levels([0.5] * 20))
        with pytest.raises(OutOfRangeError):
            holm([0.5, 1.5])

    @given(P_VALUES)
    def test_lies_between_the_raw_and_bonferroni_and_keeps_the_order(self, p):
        adjusted = holm(p)
        for raw, new in zip(p, adjusted, strict=True):
            assert raw <= new <= min(1, raw * len(p)) or new == pytest.approx(raw)
        order = np.argsort(p, kind="stable")
        assert np.all(np.diff(np.array(adjusted)[order]) >= 0)

    @given(P_VALUES)
    def test_levels_reject_exactly_what_the_adjusted_p_rejects(self, p):
        for raw, adjusted, level in zip(p, holm(p), holm_levels(p), strict=True):
            if abs(adjusted - 0.05) > 1e-9:
                assert (adjusted <= 0.05) == (raw <= level)

    def test_keeps_the_risk_of_a_family(self):
        rng = np.random.default_rng(0)
        wrong = [min(holm(rng.random(10))) < 0.05 for _ in range(4000)]
        assert np.mean(wrong) == pytest.approx(0.05, abs=0.012)


class TestFamily:
    def test_bounds_exclude_zero_exactly_where_the_adjusted_p_is_below_5_percent(self):
        rng = np.random.default_rng(0)
        family = [paired_difference(rng.normal(effect / 2, 1, 8), rng.normal(0, 1, 8)) for effect in range(6)]
        adjusted = adjust_family(family)
        assert [after.p_holm for after in adjusted] == holm([before.p for before in family])
        assert {after.significant for after in adjusted} == {True, False}
        for before, after in zip(family, adjusted, strict=True):
            assert (after.lower > 0 or after.upper < 0) == (after.p_holm < 0.05)
            assert (after.mean, after.ci95, after.mde) == (before.mean, before.ci95, before.mde)

    def test_what_is_not_tested_does_not_count(self):
        tested = paired_difference([3.0, 5.0, 7.0], [1.0, 2.0, 3.0])
        untested = paired_difference([1.0], [0.0])
        first, second = adjust_family([untested, tested])
        assert first == untested and second.p_holm == tested.p
        assert (second.lower, second.upper) == pytest.approx(tested.ci95)


class TestPairedImages:
    def test_with_one_class_is_the_paired_t_test(self):
        rng = np.random.default_rng(0)
        a, b = rng.random(50) < 0.9, rng.random(50) < 0.7
        difference = paired_images_difference(a, b, np.zeros(50, np.uint8))
        expected = stats.ttest_rel(a.astype(float), b.astype(float))
        assert difference.p == pytest.approx(expected.pvalue) and difference.df == pytest.approx(49)
        assert difference.ci95 == pytest.approx(tuple(expected.confidence_interval()))

    def test_with_two_classes_is_welchs_test(self):
        # The mean of two class means is half the difference of one and the other's negative.
        rng = np.random.default_rng(1)
        labels = np.repeat([0, 1], [30, 12])
        a, b = rng.random(42), rng.random(42)
        difference = paired_images_difference(a, b, labels)
        expected = stats.ttest_ind((a - b)[:30], -(a - b)[30:], equal_var=False)
        assert difference.p == pytest.approx(expected.pvalue) and difference.df == pytest.approx(expected.df)
        assert difference.mean == pytest.approx(((a - b)[:30].mean() + (a - b)[30:].mean()) / 2)

    def test_every_class_weighs_the_same(self):
        labels = np.repeat([0, 1], [90, 10])
        a = (labels == 1).astype(float)
        assert paired_images_difference(a, np.zeros(100), labels).mean == pytest.approx(0.5)

    def test_interval_covers_the_truth_as_often_as_it_says(self):
        rng = np.random.default_rng(2)
        labels = np.repeat(np.arange(4), [20, 50, 50, 80])
        hard = np.array([0.6, 0.8, 0.9, 0.95])[labels]
        hits = 0
        for _ in range(600):
            dice = rng.random(200)  # a hard image is hard for both
            low, high = paired_images_difference(dice < hard, dice < hard - 0.1, labels).ci95
            hits += low <= 0.1 <= high
        assert 0.93 <= hits / 600 <= 0.97

    def test_equal_pipelines_and_lonely_images(self):
        right, labels = np.array([True, False, True]), np.array([0, 0, 0])
        assert paired_images_difference(right, right, labels).p == 1.0
        lonely = paired_images_difference(right, ~right, np.array([0, 0, 1]))
        assert lonely.ci95 is None and lonely.mean == pytest.approx(0.5)


def test_a_prediction_interval_holds_the_next_run_as_often_as_it_says():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(2000):
        *known, new = rng.normal(0.98, 0.002, size=6)
        low, high = prediction_interval(np.array(known))
        hits += low <= new <= high
    assert 0.935 <= hits / 2000 <= 0.965
    assert prediction_interval(np.array([0.9])) is None


class TestUnpaired:
    @given(*[st.lists(st.integers(-50, 50), min_size=2, max_size=12).filter(lambda row: len({*row}) > 1)] * 2)
    def test_is_welchs(self, a, b):
        difference = unpaired_difference(a, b)
        expected = stats.ttest_ind(a, b, equal_var=False)
        assert difference.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
        assert difference.df == pytest.approx(expected.df, rel=1e-6)
        assert difference.ci95 == pytest.approx(tuple(expected.confidence_interval()), rel=1e-6, abs=1e-9)
        assert (difference.n_a, difference.n_b, difference.n) == (len(a), len(b), len(a) + len(b))

    @pytest.mark.parametrize(("a", "b", "mean"), [([1.0], [0.5, 0.7], 0.4), ([], [1.0, 2.0], None)])
    def test_too_few_values_are_not_tested(self, a, b, mean):
        difference = unpaired_difference(a, b)
        assert difference.mean == (None if mean is None else pytest.approx(mean))
        assert difference.p is None and difference.ci95 is None and not difference.significant

    def test_equal_values_are_no_proof(self):
        assert unpaired_difference([0.5, 0.5], [0.4, 0.4]).p is None
        assert unpaired_difference([0.5, 0.5], [0.5, 0.5]).p == 1

    def test_pairing_is_sharper_where_luck_is_shared(self):
        luck = np.random.default_rng(0).normal(0, 0.01, 6)
        a, b = 0.9 + luck + 0.001 * np.arange(6), 0.89 + luck
        assert paired_difference(a, b).p < unpaired_difference(a, b).p


class TestMcNemar:
    @given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 200), st.integers(0, 200))
    def test_p_is_that_of_the_exact_binomial_test(self, only_a, only_b, both, neither):
        counts = (only_a, only_b, both, neither)
        a = np.repeat([True, False, True, False], counts)
        b = np.repeat([False, True, True, False], counts)
        difference = mcnemar(a, b)
        assert (difference.only_a, difference.only_b, difference.n) == (only_a, only_b, sum(counts))
        if difference.n < 2:
            assert difference.p is None
            return
        n = only_a + only_b
        assert difference.p == pytest.approx(stats.binomtest(only_a, n).pvalue if n else 1.0)
        assert difference.mean == pytest.approx(a.mean() - b.mean())
        low, high = difference.ci95
        assert -1 <= low <= difference.mean <= high <= 1 and low < high
        swapped = mcnemar(b, a)
        assert swapped.p == difference.p and swapped.ci95 == pytest.approx((-high, -low))

    def test_interval_is_newcombes_published_one(self):
        """Statistics in Medicine 17 (1998), table II: 36, 12, 2, 0 gives 0.0569 to 0.3404."""
        a, b = np.repeat([True, True, False], (36, 12, 2)), np.repeat([True, False, True], (36, 12, 2))
        assert mcnemar(a, b).ci95 == pytest.approx((0.0569, 0.3404), abs=5e-5)

    def test_interval_covers(self):
        rng, covered, true = np.random.default_rng(0), 0, 0.03
        for _ in range(400):
            cells = rng.choice(4, size=300, p=[0.9, 0.05, 0.02, 0.03])
            low, high = mcnemar(cells < 2, (cells == 0) | (cells == 2)).ci95
            covered += low <= true <= high
        assert covered / 400 > 0.92

    def test_refuses_different_lengths(self):
        with pytest.raises(OutOfRangeError, match="each image"):
            mcnemar(np.ones(3, bool), np.ones(4, bool))

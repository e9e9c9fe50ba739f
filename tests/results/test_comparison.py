"""Comparisons: paired in a run, across runs paired or not, and of two networks image by image."""

import json
from html import unescape

import numpy as np
import pytest
import toy_run
from scipy import stats
from synthetic_report import digits_plan, write_report_run
from synthetic_run import replace, synthetic_run

from inklab.errors import ConfigError, DataError, UnknownNameError
from inklab.records.estimates import ImagesDifference, UnpairedDifference
from inklab.results.comparison import Comparison, compare
from inklab.runs import Run


@pytest.fixture
def run(tmp_path):
    return synthetic_run().write(tmp_path / "one")


def other_run(folder, gain=0.0, **plan):
    """The same experiments with other luck, and a plan with other fields."""
    draft = synthetic_run()
    for index, trial in enumerate(draft.plan.trials):
        metrics = draft.outcomes[trial].metrics
        if "test_accuracy" in metrics:
            draft.change_metrics(trial, test_accuracy=metrics["test_accuracy"] - gain - 1e-4 * (index % 3))
    draft.change_plan(**plan)
    return draft.write(folder)


def values(run, experiment, metric="test_accuracy"):
    return list(run.results.training[experiment].settings[0].metrics[metric].values)


class TestReplicates:
    def test_in_a_run_it_is_the_paired_t_test(self, run):
        comparison = run.compare("cnn", "mlp-64-64")
        expected = stats.ttest_rel(values(run, "cnn"), values(run, "mlp-64-64"))
        difference = comparison.differences["test_accuracy"]
        assert difference.p == pytest.approx(expected.pvalue)
        assert comparison.test == "paired" and comparison.replicates == (0, 1, 2)
        assert comparison.sentence.endswith("Paired t test over 3 replicates.")
        assert comparison == compare(run.plan, run.outcomes, "cnn", "mlp-64-64")
        assert repr(comparison).startswith("Comparison(cnn - mlp-64-64, test accuracy: +")

    def test_across_runs_replicates_pair_where_their_randomness_does(self, run, tmp_path):
        other = other_run(tmp_path / "two", gain=0.01)
        comparison = run.compare("cnn", other=other)
        expected = stats.ttest_rel(values(run, "cnn"), values(other, "cnn"))
        assert comparison.test == "paired" and comparison.difference.p == pytest.approx(expected.pvalue)
        assert comparison.b == "cnn of two" and comparison.better["test_accuracy"] == "a"
        assert comparison == run.compare("cnn", "cnn", str(other.path))

    @pytest.mark.parametrize(
        ("change", "reason"), [({"seed": 1}, "root seeds"), ({"data": "b"}, "data")], ids=["seed", "data"]
    )
    def test_otherwise_welchs_test_is_used_and_said(self, run, tmp_path, change, reason):
        if "data" in change:
            change = {"data": replace(run.plan.data, sha256="b" * 64)}
        other = other_run(tmp_path / "two", gain=0.01, **change)
        comparison = run.compare("cnn", "cnn", other)
        expected = stats.ttest_ind(values(run, "cnn"), values(other, "cnn"), equal_var=False)
        assert isinstance(comparison.difference, UnpairedDifference)
        assert comparison.difference.p == pytest.approx(expected.pvalue)
        assert comparison.replicates == () and "n = 3 and 3" in comparison.sentence
        assert comparison.sentence.endswith(f"which do not pair: the runs have different {reason}.")

    def test_replicates_that_failed_in_one_run_are_left_out_of_pairs(self, run, tmp_path):
        draft = synthetic_run()
        draft.fail("cnn-0-1")
        comparison = run.compare("cnn", other=draft.write(tmp_path / "two"))
        assert comparison.replicates == (0, 2) and comparison.difference.n == 2
        assert "cnn of two: 2 of 3 trials done, 1 diverged" in comparison.sentence

    def test_one_metric(self, run):
        comparison = run.compare("cnn", "mlp-64-64", metric="validation_loss")
        assert list(comparison.differences) == ["validation_loss"] == list(comparison.better)
        assert "validation loss" in comparison.sentence and "accuracy" not in comparison.sentence
        with pytest.raises(UnknownNameError, match="test_acuracy"):
            run.compare("cnn", "mlp-64-64", metric="test_acuracy")

    def test_metrics_of_one_table_are_a_family_and_one_metric_is_not(self, run):
        comparison = run.compare("cnn", "mlp-64-64")
        tested = {name: d for name, d in comparison.differences.items() if d.p is not None}
        ascending = sorted(tested.values(), key=lambda d: d.p)
        steps = [(len(tested) - rank) * d.p for rank, d in enumerate(ascending)]
        assert len(tested) > 1
        assert [d.p_holm for d in ascending] == pytest.approx(np.maximum.accumulate(steps).clip(max=1))
        for name, difference in tested.items():
            assert (comparison.better[name] is not None) == (difference.p_holm < 0.05)
            single = run.compare("cnn", "mlp-64-64", metric=name)
            assert single.difference.p == difference.p and single.difference.p_holm is None
            assert (single.better[name] is not None) == (difference.p < 0.05)
            assert "adjusted" not in single._repr_html_() + single.sentence
        assert f"Holm's procedure for the {len(tested)} tests" in unescape(comparison._repr_html_())
        assert comparison.difference == run.compare("cnn", "mlp-64-64", metric="test_accuracy").difference

    @pytest.mark.parametrize(
        ("words", "error"),
        [(("cnn",), ConfigError), (("cnn", "denoiser"), ConfigError), (("cn", "cnn"), UnknownNameError)],
    )
    def test_mistakes(self, run, words, error):
        with pytest.raises(error):
            run.compare(*words)

    def test_what_is_written_is_read_back(self, run, tmp_path):
        for comparison in (
            run.compare("cnn", "mlp-64-64"), run.compare("cnn", other=other_run(tmp_path / "two", seed=3))
        ):  # fmt: skip
            raw = json.dumps(comparison.to_json()).encode()
            assert Comparison.parse_json(raw, "it") == comparison


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Run:
    """With predictions; not to be changed."""
    return write_report_run(tmp_path_factory.mktemp("run"), digits_plan())


class TestImages:
    def test_it_is_mcnemars_test_of_what_each_network_predicts(self, digits):
        comparison = digits.compare("cnn", "mlp-500-300", over="images", replicate=0)
        right = [
            digits.arrays(digits.trial_for(name, 0))["predicted"] == digits.images.test_labels()
            for name in ("cnn", "mlp-500-300")
        ]
        only = [int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())]
        difference = comparison.difference
        assert isinstance(difference, ImagesDifference) and comparison.test == "mcnemar"
        assert [difference.only_a, difference.only_b] == only and min(only) > 0
        assert difference.p == pytest.approx(stats.binomtest(only[0], sum(only)).pvalue)
        assert "McNemar's exact test of two trained networks (replicate 0)" in comparison.sentence
        assert "says nothing about training again" in comparison.sentence

    def test_replicates_that_cannot_be_tested_leave_the_images(self, digits):
        untrained = digits.compare("cnn", "scaled-twice")  # which has one replicate
        assert untrained.test == "mcnemar" and untrained.replicates == (0, 0)
        untested = digits.compare("cnn", "scaled-twice", over="replicates")
        assert untested.test == "paired" and "too few pairs to test" in untested.sentence

    def test_without_labels_it_is_refused_or_left_out(self, digits):
        moved = Run(digits.path)  # its data is not at hand
        assert moved.compare("cnn", "scaled-twice").test == "paired"
        with pytest.raises(DataError, match="no labels.*'mnist'"):
            moved.compare("cnn", "scaled-twice", over="images")

    def test_denoisers_classify_nothing(self, digits):
        with pytest.raises(ConfigError, match="only classifiers"):
            digits.compare("denoiser", "denoiser", over="images")


@pytest.mark.parametrize("options", [{}, {"over": "images"}, {"metric": "test_loss"}], ids=str)
def test_the_command_says_the_same(cli, options):
    base = toy_run.finished()
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    code, out, _ = cli("compare", base, "mlp", "cnn", *flags, "--json")
    comparison = Run(base).compare("mlp", "cnn", **options)
    assert code == 0 and json.loads(out) == {**comparison.to_json(), "sentence": comparison.sentence}


def test_the_command_compares_runs(cli, tmp_path):
    base, other = toy_run.finished(), toy_run.copied(tmp_path / "other")
    code, out, _ = cli("compare", base, "mlp", "--with", other)
    assert code == 0 and out.strip() == Run(base).compare("mlp", other=other).sentence
    assert "No significant difference in test accuracy; mlp - mlp of other" in out


def test_html_is_escaped():
    run = synthetic_run()
    comparison = compare(run.plan, run.outcomes, "cnn", "mlp-64-64")
    hostile = comparison.model_copy(update={"a": "<script>", "tested": "<b>"})
    html = hostile._repr_html_()
    assert "<script" not in html and "<b>" not in html and "&lt;script&gt;" in html
    assert np.isfinite(comparison.difference.mean)

"""Mistakes that only planning can find: errors that name the experiment before anything is trained."""

import pytest
from plan_builder import NET, plan_experiments
from wrong_studies import AUTO, NAMES, PLANS, STRENGTHS, generation, robustness

from inklab.errors import ConfigError, InklabError, OutOfRangeError
from inklab.study.load import check_names, parse_study, read_study


@pytest.mark.parametrize(("experiments", "words", "key", "suggestion"), PLANS)
def test_the_planner_refuses(experiments, words, key, suggestion):
    with pytest.raises(ConfigError) as caught:
        plan_experiments({"net": NET, **experiments})
    error = caught.value
    assert error.key.endswith(key) and error.suggestion.endswith(suggestion), (error.key, error.suggestion)
    assert bool(error.suggestion) == bool(suggestion)
    assert words in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(("experiments", "key", "suggestion"), NAMES)
def test_names_that_only_torchs_side_knows_are_checked_too(experiments, key, suggestion):
    spec = parse_study({"name": "s", "experiments": {"net": NET, "auto": AUTO, **experiments}}, "s")
    with pytest.raises(ConfigError) as caught:
        check_names(spec)
    assert (caught.value.key, caught.value.suggestion) == (key, suggestion)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("experiments", STRENGTHS)
def test_strengths_that_a_corruption_does_not_have_are_refused(experiments):
    spec = parse_study({"name": "s", "experiments": {"net": NET, **experiments}}, "s")
    with pytest.raises(OutOfRangeError) as caught:
        check_names(spec)
    assert isinstance(caught.value, InklabError) and "\n" not in str(caught.value)


def test_valid_studies_pass_the_check():
    check_names(read_study("digits").spec)
    experiments = {"net": NET, "auto": AUTO, **robustness("auto+net", "median+net"), **generation()}
    check_names(parse_study({"name": "s", "experiments": experiments}, "s"))

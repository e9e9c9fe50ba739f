"""Mistakes that only planning can find: errors that name the experiment before anything is trained."""

import pytest
from plan_builder import NET, plan_experiments

from inklab.errors import ConfigError, InklabError, OutOfRangeError
from inklab.study.load import check_names, parse_study, read_study

ROBUSTNESS = {"kind": "robustness", "pipelines": ["net"], "baseline": "net"}
GENERATION = {"kind": "generation", "decoder": "auto", "classifier": "net"}
AUTO = {"network": "autoencoder", "recipe": "denoise", "replicates": 2}
SWEEP = {**NET, "grid": {"recipe.l2": [0.0, 0.1]}}


def grid(key, *values):
    return {"net": {**NET, "grid": {key: list(values)}}}


def robustness(*pipelines, **more):
    return {"r": {**ROBUSTNESS, "pipelines": ["net", *pipelines], **more}}


def generation(**more):
    return {"g": {**GENERATION, **more}}


def recipe(**more):
    return {"o": {**NET, "recipe": more}}


def corrupted(name, strength):
    return recipe(corruption={"name": name, "strength": strength})


@pytest.mark.parametrize(
    ("experiments", "words", "key", "suggestion"),
    [
        ({"net": {**NET, "network": "mpl"}}, "'net'", "mpl", "mlp"),
        ({"net": {**NET, "network": {"name": "mlp", "hiden": [3]}}}, "'net'", "hiden", "hidden"),
        (grid("recipe.learning_rat", 1), "'net'", "recipe.learning_rat", "learning_rate"),
        (grid("recip.learning_rate", 1), "'net'", "recip.learning_rate", "recipe"),
        (grid("recipe.corruption.strength", 1), "'corruption'", "recipe.corruption.strength", ""),
        (grid("recipe.learning_rate", 0.1, -1), "(-1,)", "grid", ""),
        (grid("network.hiden", [3]), "'net'", "hiden", "hidden"),
        (grid("replicates", 3), "'net'", "replicates", ""),
        (robustness("median"), "'median'", "median", ""),
        (robustness("median+nett"), "'median+nett'", "nett", "net"),
        ({"net": SWEEP, **robustness()}, "'r'", "net", ""),
        (robustness(images=3), "'r'", "r.images", ""),
        (generation(), "'g'", "auto", ""),
        ({"net": SWEEP, "auto": AUTO, **generation()}, "'g'", "net", ""),
        ({**robustness(), **generation(decoder="r")}, "'g'", "r", ""),
    ],
)
def test_the_planner_refuses(experiments, words, key, suggestion):
    with pytest.raises(ConfigError) as caught:
        plan_experiments({"net": NET, **experiments})
    error = caught.value
    assert error.key.endswith(key) and error.suggestion.endswith(suggestion), (error.key, error.suggestion)
    assert bool(error.suggestion) == bool(suggestion)
    assert words in str(error) and "\n" not in str(error)


NEEDS_OTHER_TASK = [
    (generation(decoder="net", classifier="net"), "net"),
    (generation(classifier="auto"), "auto"),
    (robustness("auto"), "auto"),
    (robustness("net+net"), "net"),
]


@pytest.mark.parametrize(
    ("experiments", "key", "suggestion"),
    [
        (robustness("medain+net"), "medain", "median"),
        (robustness(corruption="salt"), "salt", ""),
        (generation(samplers=["gausian"]), "gausian", "gaussian"),
        ({"median": NET}, "median", ""),
        (recipe(objective="clasify"), "clasify", "classify"),
        (corrupted("shott", 0.1), "shott", "shot"),
        *((experiments, key, "") for experiments, key in NEEDS_OTHER_TASK),
    ],
)
def test_names_that_only_torchs_side_knows_are_checked_too(experiments, key, suggestion):
    spec = parse_study({"name": "s", "experiments": {"net": NET, "auto": AUTO, **experiments}}, "s")
    with pytest.raises(ConfigError) as caught:
        check_names(spec)
    assert (caught.value.key, caught.value.suggestion) == (key, suggestion)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("experiments", [robustness(strengths=[0, 2]), corrupted("shot", [0, 9])])
def test_strengths_that_a_corruption_does_not_have_are_refused(experiments):
    spec = parse_study({"name": "s", "experiments": {"net": NET, **experiments}}, "s")
    with pytest.raises(OutOfRangeError) as caught:
        check_names(spec)
    assert isinstance(caught.value, InklabError) and "\n" not in str(caught.value)


def test_valid_studies_pass_the_check():
    check_names(read_study("digits").spec)
    experiments = {"net": NET, "auto": AUTO, **robustness("auto+net", "median+net"), **generation()}
    check_names(parse_study({"name": "s", "experiments": experiments}, "s"))

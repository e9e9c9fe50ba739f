"""The built-in study digits-c is MNIST-C: planned here, not trained."""

import pytest

from inklab.corruptions.mnist_c import MNIST_C
from inklab.records.components import ATTACKS
from inklab.study.load import read_study
from inklab.study.spec import RobustnessExperiment


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_it_evaluates_each_of_the_fifteen_at_its_published_strength(profile):
    experiments = read_study("digits-c", profile=profile).spec.experiments.values()
    curves = [experiment for experiment in experiments if isinstance(experiment, RobustnessExperiment)]
    by_corruption = {curve.corruption: curve for curve in curves}
    assert set(by_corruption) == {point.corruption for point in MNIST_C} | ATTACKS.keys()
    assert [(name, by_corruption[name].strengths) for name in by_corruption if name not in ATTACKS] == [
        (point.corruption, (0.0, point.strength)) for point in MNIST_C
    ]
    assert {(curve.pipelines, curve.baseline) for curve in curves} == {
        (("cnn", "denoiser-best+cnn", "cnn-adversarial", "cnn-robust"), "cnn")
    }


def test_no_recipe_trains_on_one_of_the_fifteen_but_salt_and_pepper():
    """The denoiser's noise is one of them, and the study's text says which pipeline has it."""
    training = read_study("digits-c").spec.training.values()
    used = {entry.recipe.corruption.name for entry in training if entry.recipe.corruption}
    assert used == {"salt_and_pepper"}

"""The built-in study digits-c is MNIST-C: planned here, not trained."""

import pytest

from inklab.corruptions.mnist_c import MNIST_C
from inklab.study.load import read_study
from inklab.study.spec import RobustnessExperiment


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_it_evaluates_each_of_the_fifteen_at_its_published_strength(profile):
    experiments = read_study("digits-c", profile=profile).spec.experiments.values()
    curves = [experiment for experiment in experiments if isinstance(experiment, RobustnessExperiment)]
    assert [(curve.corruption, curve.strengths) for curve in curves] == [
        (point.corruption, (0.0, point.strength)) for point in MNIST_C
    ]
    assert {(curve.pipelines, curve.baseline) for curve in curves} == {
        (("cnn", "denoiser-best+cnn", "cnn-adversarial"), "cnn")
    }

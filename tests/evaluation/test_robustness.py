"""Robustness curves: the same noise for every pipeline, denoiser and number of images."""

import numpy as np
import pytest
import torch
from torch import nn

from inklab.corruptions.corruption import corruptions
from inklab.corruptions.filters import filters
from inklab.errors import DataError, ModelMismatchError, OutOfRangeError
from inklab.evaluation import robustness
from inklab.evaluation.robustness import robustness_curve
from inklab.seeding import Seed

SALT = corruptions["salt_and_pepper"]


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Three classes: a white bar at one of three places. In no order, more than two blocks."""
    labels = np.random.default_rng(0).integers(0, 3, 1130)
    labels[:4] = [2, 2, 0, 1]
    pixels = np.zeros((1130, 1, 9, 9), dtype=np.uint8)
    for index, label in enumerate(labels):
        pixels[index, 0, :, 3 * label : 3 * label + 3] = 255
    return pixels, labels


def brightest_part(images: torch.Tensor) -> torch.Tensor:
    return images.unflatten(3, (3, 3)).mean(dim=(1, 2, 4))


def recording(inputs: list[torch.Tensor]):
    def net(images):
        inputs.append(images.clone())
        return brightest_part(images)

    return net


def test_the_curve_is_of_the_classifiers_predictions(data):
    pixels, labels = data
    curve = robustness_curve(brightest_part, pixels, labels, SALT, strengths=[0.0, 0.9, 1.0], seed=Seed(0))
    assert curve.strengths == (0.0, 0.9, 1.0)
    assert curve.accuracy[0] == curve.recall[0] == 1 > curve.accuracy[1] > curve.accuracy[2]
    assert curve.accuracy[2] == pytest.approx(1 / 3, abs=0.06)  # at 1 nothing of the image is left
    np.testing.assert_array_equal(curve.accuracy, (curve.predicted == labels).mean(axis=1))
    np.testing.assert_allclose(curve.recall, curve.recall_per_class.mean(axis=1))
    for label in range(3):
        share = (curve.predicted[:, labels == label] == label).mean(axis=1)
        np.testing.assert_allclose(curve.recall_per_class[:, label], share)


def curve_of(data, net=brightest_part, corruption=SALT, seed=1, **options):
    return robustness_curve(net, *data, corruption, seed=Seed(seed), **options)


def test_every_pipeline_gets_the_same_noise(data):
    first, second = [], []
    curve = curve_of(data, recording(first), strengths=[0.3])
    other = curve_of(data, recording(second), strengths=[0.1, 0.3], denoise=torch.clone)
    assert torch.equal(torch.cat(first), torch.cat(second)[len(data[0]) :])
    np.testing.assert_array_equal(curve.corrupted[0], other.corrupted[1])


def test_the_noise_follows_from_seed_name_and_strength_alone(data):
    inputs = []
    robustness_curve(recording(inputs), *data, SALT, strengths=[0.25], seed=Seed(4) / "noise")
    clean = torch.tensor(data[0]).float() / 255
    draws = (Seed(4) / "noise" / "salt_and_pepper" / "0.25").draws()
    assert torch.equal(torch.cat(inputs), SALT(clean, 0.25, draws))


def test_another_seed_gives_other_noise_and_fewer_images_that_of_the_first_of_many(data):
    many, other = (curve_of(data, strengths=[0.7], seed=seed) for seed in (1, 2))
    assert (many.predicted != other.predicted).any()
    few = curve_of([part[:640] for part in data], strengths=[0.7])
    np.testing.assert_array_equal(few.predicted, many.predicted[:, :640])
    tensors = curve_of([torch.tensor(data[0]), data[1]], strengths=[0.7])
    np.testing.assert_array_equal(tensors.predicted, many.predicted)


def test_noise_does_not_depend_on_the_size_of_the_blocks(data, monkeypatch):
    curves = []
    for block in (1130, 500, 77):
        monkeypatch.setattr(robustness, "BLOCK", block)
        curves.append(curve_of(data, strengths=[0.6]))
    for curve in curves[1:]:
        np.testing.assert_array_equal(curve.predicted, curves[0].predicted)
        np.testing.assert_array_equal(curve.corrupted, curves[0].corrupted)


def test_examples_are_the_first_image_of_each_class_before_and_after_denoising(data):
    pixels, median = data[0], filters["median"]
    curve = curve_of(data, strengths=[0.0, 0.2], denoise=median)
    assert curve.corrupted.shape == curve.denoised.shape == (2, 3, 1, 9, 9)
    np.testing.assert_array_equal(curve.corrupted[0], pixels[[2, 3, 0]])
    denoised = median(torch.tensor(curve.corrupted[1]).float() / 255)
    np.testing.assert_array_equal(curve.denoised[1], (denoised * 255).round().numpy().astype(np.uint8))
    assert (curve.corrupted[1] != curve.denoised[1]).any()


def test_examples_late_in_the_test_set_are_found(data):
    labels = np.sort(data[1])  # the first 2 comes in the second block
    pixels = np.arange(1130 * 81, dtype=np.uint32).astype(np.uint8).reshape(1130, 1, 9, 9)
    curve = curve_of((pixels, labels), strengths=[0.0])
    np.testing.assert_array_equal(curve.corrupted[0], pixels[np.searchsorted(labels, [0, 1, 2])])


def test_the_classifier_gets_denoised_images(data):
    curve = curve_of(data, strengths=[0.0], denoise=lambda images: 1 - images)
    assert curve.accuracy[0] == 0 and (curve.denoised[0] == 255 - curve.corrupted[0]).all()


def test_the_corruptions_own_strengths_are_used_if_none_are_given(data):
    curve = curve_of([part[:9] for part in data], corruption=corruptions["contrast"])
    assert curve.strengths == corruptions["contrast"].strengths
    assert (curve.accuracy[:-1] == 1).all()


def test_networks_and_denoisers_are_in_evaluation_mode(data):
    net = nn.Sequential(nn.Dropout(0.9), nn.Flatten(), nn.Linear(81, 3))
    denoise = nn.Dropout(0.9)
    curve = curve_of(data, net, strengths=[0.0], denoise=denoise)
    np.testing.assert_array_equal(curve.denoised, curve.corrupted)
    assert net[0].training and denoise.training


def test_what_does_not_fit_is_refused(data):
    calls = []
    for error, changes in (
        (OutOfRangeError, {"net": recording(calls), "strengths": [0.0, 1.5]}),
        (ModelMismatchError, {"denoise": lambda images: images[..., 1:]}),
        (ModelMismatchError, {"net": lambda images: brightest_part(images)[:, :2]}),
        (DataError, {"data": [part[:0] for part in data]}),
    ):
        with pytest.raises(error):
            curve_of(**{"data": data, **changes})
    assert not calls, "refused before anything was computed"


def test_a_class_without_images_is_left_out_of_the_mean(data):
    pixels, labels = data
    curve = curve_of([part[labels != 1] for part in data], strengths=[0.0, 0.5])
    whole = curve_of(data, strengths=[0.0, 0.5])
    assert np.isnan(curve.recall_per_class[:, 1]).all() and curve.corrupted.shape[1] == 2
    np.testing.assert_array_equal(curve.recall, curve.recall_per_class[:, [0, 2]].mean(axis=1))
    np.testing.assert_array_equal(curve.recall_per_class[0, [0, 2]], whole.recall_per_class[0, [0, 2]])


def test_a_thousand_classes_are_distinguished(data):
    answers = torch.eye(1000)[[999]]
    curve = robustness_curve(
        lambda images: answers.expand(len(images), -1), data[0][:5], np.full(5, 999), SALT,
        strengths=[0.0], seed=Seed(0),
    )  # fmt: skip
    assert (curve.predicted == 999).all() and curve.accuracy == 1, "not modulo 256"


def test_calibration_is_the_distance_of_confidence_and_accuracy(data):
    """A network that is always 75 % sure: its error is how far its accuracy is from that."""
    sure = lambda images: torch.log(torch.tensor([0.75, 0.2, 0.05])).expand(len(images), 3)  # noqa: E731
    curve = curve_of(data, sure, strengths=[0.0, 0.5])
    np.testing.assert_allclose(curve.ece, np.abs(curve.accuracy - 0.75))
    assert (curve.accuracy == np.mean(data[1] == 0)).all()

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


def test_every_pipeline_gets_the_same_noise(data):
    first, second = [], []
    curves = [
        robustness_curve(recording(first), *data, SALT, strengths=[0.3], seed=Seed(4)),
        robustness_curve(
            recording(second),
            *data,
            SALT,
            strengths=[0.1, 0.3],
            seed=Seed(4),
            denoise=torch.clone,
        ),
    ]
    assert torch.equal(torch.cat(first), torch.cat(second)[len(data[0]) :])
    np.testing.assert_array_equal(curves[0].corrupted[0], curves[1].corrupted[1])


def test_the_noise_follows_from_seed_name_and_strength_alone(data):
    inputs = []
    robustness_curve(recording(inputs), *data, SALT, strengths=[0.25], seed=Seed(4) / "noise")
    rng = (Seed(4) / "noise" / "salt_and_pepper" / "0.25").generator()
    clean = torch.tensor(data[0]).float() / 255
    expected = torch.cat([SALT(block, 0.25, rng) for block in clean.split(robustness.BLOCK)])
    assert torch.equal(torch.cat(inputs), expected)


def test_another_seed_gives_other_noise_and_the_same_gives_the_same(data):
    curves = [robustness_curve(brightest_part, *data, SALT, strengths=[0.7], seed=Seed(s)) for s in (1, 1, 2)]
    np.testing.assert_array_equal(curves[0].predicted, curves[1].predicted)
    assert (curves[0].predicted != curves[2].predicted).any()


def test_fewer_images_get_the_noise_of_the_first_of_many(data):
    pixels, labels = data
    many = robustness_curve(brightest_part, pixels, labels, SALT, strengths=[0.7], seed=Seed(1))
    few = robustness_curve(brightest_part, pixels[:640], labels[:640], SALT, strengths=[0.7], seed=Seed(1))
    np.testing.assert_array_equal(few.predicted, many.predicted[:, :640])


def test_salt_and_pepper_does_not_depend_on_the_size_of_the_blocks(data, monkeypatch):
    curves = []
    for block in (1130, 500, 77):
        monkeypatch.setattr(robustness, "BLOCK", block)
        curves.append(robustness_curve(brightest_part, *data, SALT, strengths=[0.6], seed=Seed(1)))
    for curve in curves[1:]:
        np.testing.assert_array_equal(curve.predicted, curves[0].predicted)
        np.testing.assert_array_equal(curve.corrupted, curves[0].corrupted)


def test_examples_are_the_first_image_of_each_class_before_and_after_denoising(data):
    pixels, labels = data
    median = filters["median"]
    curve = robustness_curve(
        brightest_part, pixels, labels, SALT, strengths=[0.0, 0.2], seed=Seed(0), denoise=median
    )
    assert curve.corrupted.shape == curve.denoised.shape == (2, 3, 1, 9, 9)
    np.testing.assert_array_equal(curve.corrupted[0], pixels[[2, 3, 0]])
    denoised = median(torch.tensor(curve.corrupted[1]).float() / 255)
    np.testing.assert_array_equal(curve.denoised[1], (denoised * 255).round().numpy().astype(np.uint8))
    assert (curve.corrupted[1] != curve.denoised[1]).any()


def test_examples_late_in_the_test_set_are_found(data):
    labels = np.sort(data[1])  # the first 2 comes in the second block
    pixels = np.arange(1130 * 81, dtype=np.uint32).astype(np.uint8).reshape(1130, 1, 9, 9)
    curve = robustness_curve(brightest_part, pixels, labels, SALT, strengths=[0.0], seed=Seed(0))
    np.testing.assert_array_equal(curve.corrupted[0], pixels[np.searchsorted(labels, [0, 1, 2])])


def test_the_classifier_gets_denoised_images(data):
    curve = robustness_curve(
        brightest_part, *data, SALT, strengths=[0.0], seed=Seed(0), denoise=lambda images: 1 - images
    )
    assert curve.accuracy[0] == 0 and (curve.denoised[0] == 255 - curve.corrupted[0]).all()


def test_the_corruptions_own_strengths_are_used_if_none_are_given(data):
    curve = robustness_curve(brightest_part, data[0][:9], data[1][:9], corruptions["contrast"], seed=Seed(0))
    assert curve.strengths == corruptions["contrast"].strengths
    assert (curve.accuracy[:-1] == 1).all()


def test_networks_and_denoisers_are_in_evaluation_mode(data):
    net = nn.Sequential(nn.Dropout(0.9), nn.Flatten(), nn.Linear(81, 3))
    denoise = nn.Dropout(0.9)
    curve = robustness_curve(net, *data, SALT, strengths=[0.0], seed=Seed(0), denoise=denoise)
    np.testing.assert_array_equal(curve.denoised, curve.corrupted)
    assert net[0].training and denoise.training


def test_tensors_give_the_same_as_arrays(data):
    pixels, labels = data
    curves = [
        robustness_curve(brightest_part, array, labels, SALT, strengths=[0.7], seed=Seed(0))
        for array in (pixels, torch.tensor(pixels))
    ]
    np.testing.assert_array_equal(curves[0].predicted, curves[1].predicted)


def test_what_does_not_fit_is_refused(data):
    pixels, labels = data
    calls = []
    with pytest.raises(OutOfRangeError):
        robustness_curve(recording(calls), pixels, labels, SALT, strengths=[0.0, 1.5], seed=Seed(0))
    assert not calls  # before anything was computed
    with pytest.raises(ModelMismatchError):
        robustness_curve(
            brightest_part, pixels, labels, SALT, seed=Seed(0), denoise=lambda images: images[..., 1:]
        )
    with pytest.raises(ModelMismatchError):
        robustness_curve(lambda images: brightest_part(images)[:, :2], pixels, labels, SALT, seed=Seed(0))
    with pytest.raises(DataError):
        robustness_curve(brightest_part, pixels[labels != 1], labels[labels != 1], SALT, seed=Seed(0))

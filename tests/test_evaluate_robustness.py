"""Noise curves: the same noise for every pipeline, whatever its net, its cleaning or the number of images."""

import numpy as np
import pytest
import torch
from torch import nn

from inklab.corruptions.corruption import corruptions
from inklab.corruptions.filters import filters
from inklab.errors import DataError, ModelMismatchError, OutOfRangeError
from inklab.evaluation import robustness as noise_unit
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


def where_it_is_light(images: torch.Tensor) -> torch.Tensor:
    return images.unflatten(3, (3, 3)).mean(dim=(1, 2, 4))


def watched(seen: list[torch.Tensor]):
    def net(images):
        seen.append(images.clone())
        return where_it_is_light(images)

    return net


def test_curve_is_what_the_classifier_said(data):
    pixels, labels = data
    curve = robustness_curve(where_it_is_light, pixels, labels, SALT, strengths=[0.0, 0.9, 1.0], seed=Seed(0))
    assert curve.strengths == (0.0, 0.9, 1.0)
    assert curve.accuracy[0] == curve.tpr[0] == 1 > curve.accuracy[1] > curve.accuracy[2]
    assert curve.accuracy[2] == pytest.approx(1 / 3, abs=0.06)  # at 1 nothing of the image is left
    np.testing.assert_array_equal(curve.accuracy, (curve.predicted == labels).mean(axis=1))
    np.testing.assert_allclose(curve.tpr, curve.tpr_per_class.mean(axis=1))
    for label in range(3):
        share = (curve.predicted[:, labels == label] == label).mean(axis=1)
        np.testing.assert_allclose(curve.tpr_per_class[:, label], share)


def test_every_pipeline_sees_the_same_noise(data):
    first, second = [], []
    curves = [
        robustness_curve(watched(first), *data, SALT, strengths=[0.3], seed=Seed(4)),
        robustness_curve(
            watched(second), *data, SALT, strengths=[0.1, 0.3], seed=Seed(4), clean=lambda images: 1 * images
        ),
    ]
    assert torch.equal(torch.cat(first), torch.cat(second)[len(data[0]) :])
    np.testing.assert_array_equal(curves[0].shown[0], curves[1].shown[1])


def test_the_noise_follows_from_seed_name_and_strength_alone(data):
    seen = []
    robustness_curve(watched(seen), *data, SALT, strengths=[0.25], seed=Seed(4) / "noise")
    rng = (Seed(4) / "noise" / "salt_and_pepper" / "0.25").generator()
    clean = torch.tensor(data[0]).float() / 255
    expected = torch.cat([SALT(block, 0.25, rng) for block in clean.split(noise_unit.BLOCK)])
    assert torch.equal(torch.cat(seen), expected)


def test_another_seed_gives_other_noise_and_the_same_gives_the_same(data):
    curves = [
        robustness_curve(where_it_is_light, *data, SALT, strengths=[0.7], seed=Seed(s)) for s in (1, 1, 2)
    ]
    np.testing.assert_array_equal(curves[0].predicted, curves[1].predicted)
    assert (curves[0].predicted != curves[2].predicted).any()


def test_fewer_images_get_the_noise_of_the_first_of_many(data):
    pixels, labels = data
    many = robustness_curve(where_it_is_light, pixels, labels, SALT, strengths=[0.7], seed=Seed(1))
    few = robustness_curve(where_it_is_light, pixels[:640], labels[:640], SALT, strengths=[0.7], seed=Seed(1))
    np.testing.assert_array_equal(few.predicted, many.predicted[:, :640])


def test_salt_and_pepper_does_not_depend_on_the_size_of_the_blocks(data, monkeypatch):
    curves = []
    for block in (1130, 500, 77):
        monkeypatch.setattr(noise_unit, "BLOCK", block)
        curves.append(robustness_curve(where_it_is_light, *data, SALT, strengths=[0.6], seed=Seed(1)))
    for curve in curves[1:]:
        np.testing.assert_array_equal(curve.predicted, curves[0].predicted)
        np.testing.assert_array_equal(curve.shown, curves[0].shown)


def test_shown_and_seen_are_the_first_image_of_each_class_before_and_after_cleaning(data):
    pixels, labels = data
    median = filters["median"]
    curve = robustness_curve(
        where_it_is_light, pixels, labels, SALT, strengths=[0.0, 0.2], seed=Seed(0), clean=median
    )
    assert curve.shown.shape == curve.seen.shape == (2, 3, 1, 9, 9)
    np.testing.assert_array_equal(curve.shown[0], pixels[[2, 3, 0]])
    cleaned = median(torch.tensor(curve.shown[1]).float() / 255)
    np.testing.assert_array_equal(curve.seen[1], (cleaned * 255).round().numpy().astype(np.uint8))
    assert (curve.shown[1] != curve.seen[1]).any()


def test_examples_late_in_the_test_set_are_found(data):
    labels = np.sort(data[1])  # the first 2 comes in the second block
    pixels = np.arange(1130 * 81, dtype=np.uint32).astype(np.uint8).reshape(1130, 1, 9, 9)
    curve = robustness_curve(where_it_is_light, pixels, labels, SALT, strengths=[0.0], seed=Seed(0))
    np.testing.assert_array_equal(curve.shown[0], pixels[np.searchsorted(labels, [0, 1, 2])])


def test_cleaning_reaches_the_classifier(data):
    curve = robustness_curve(
        where_it_is_light, *data, SALT, strengths=[0.0], seed=Seed(0), clean=lambda images: 1 - images
    )
    assert curve.accuracy[0] == 0 and (curve.seen[0] == 255 - curve.shown[0]).all()


def test_the_corruptions_own_strengths_are_used_if_none_are_given(data):
    curve = robustness_curve(
        where_it_is_light, data[0][:9], data[1][:9], corruptions["contrast"], seed=Seed(0)
    )
    assert curve.strengths == corruptions["contrast"].strengths
    assert (curve.accuracy[:-1] == 1).all()


def test_nets_and_denoisers_are_asked_in_evaluation_mode(data):
    net = nn.Sequential(nn.Dropout(0.9), nn.Flatten(), nn.Linear(81, 3))
    clean = nn.Dropout(0.9)
    curve = robustness_curve(net, *data, SALT, strengths=[0.0], seed=Seed(0), clean=clean)
    np.testing.assert_array_equal(curve.seen, curve.shown)
    assert net[0].training and clean.training


def test_tensors_give_the_same_as_arrays(data):
    pixels, labels = data
    curves = [
        robustness_curve(where_it_is_light, some, labels, SALT, strengths=[0.7], seed=Seed(0))
        for some in (pixels, torch.tensor(pixels))
    ]
    np.testing.assert_array_equal(curves[0].predicted, curves[1].predicted)


def test_what_does_not_fit_is_refused(data):
    pixels, labels = data
    asked = []
    with pytest.raises(OutOfRangeError, match=r"strength 1.5 of 'salt_and_pepper'"):
        robustness_curve(watched(asked), pixels, labels, SALT, strengths=[0.0, 1.5], seed=Seed(0))
    assert not asked  # before anything was computed
    with pytest.raises(ModelMismatchError, match="cleaning turns"):
        robustness_curve(
            where_it_is_light, pixels, labels, SALT, seed=Seed(0), clean=lambda images: images[..., 1:]
        )
    with pytest.raises(
        ModelMismatchError, match=rf"expected \({noise_unit.BLOCK}, k\) logits with k from 3 to 256"
    ):
        robustness_curve(lambda images: where_it_is_light(images)[:, :2], pixels, labels, SALT, seed=Seed(0))
    with pytest.raises(DataError, match=r"no image of class \[1\]"):
        robustness_curve(where_it_is_light, pixels[labels != 1], labels[labels != 1], SALT, seed=Seed(0))

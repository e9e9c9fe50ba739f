"""Scores of classifiers and reconstructions, against arithmetic done another way."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from inklab.errors import DataError, ModelMismatchError
from inklab.evaluation.scores import (
    classification_scores,
    predict_in_batches,
    recall_per_class,
    reconstruction_scores,
)


@pytest.fixture
def pixels() -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (1203, 1, 3, 4), dtype=np.uint8)
    pixels.setflags(write=False)  # as a file mapped into memory
    return pixels


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 5, 1203)


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5))


def test_classification_scores_equal_their_definition(net, pixels, labels):
    weight, bias = (part.detach().numpy().astype(np.float64) for part in net[1].parameters())
    logits = pixels.reshape(-1, 12) / 255 @ weight.T + bias
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores = classification_scores(net, pixels, labels)
    assert scores.accuracy == (logits.argmax(axis=1) == labels).mean()
    assert scores.loss == pytest.approx(-np.log(probabilities[np.arange(1203), labels]).mean(), rel=1e-6)
    np.testing.assert_array_equal(scores.predicted, logits.argmax(axis=1))
    np.testing.assert_allclose(scores.confidence, probabilities.max(axis=1), rtol=1e-5)
    assert scores.predicted.dtype == np.int16 and scores.confidence.dtype == np.float32
    from_tensors = classification_scores(net, torch.tensor(pixels), torch.tensor(labels))
    assert from_tensors.loss == scores.loss
    np.testing.assert_array_equal(from_tensors.confidence, scores.confidence)


def test_a_wrong_and_certain_answer_costs_a_finite_loss(pixels):
    scores = classification_scores(
        lambda images: torch.tensor([[500.0, 0.0]]).expand(len(images), 2), pixels, np.ones(1203, dtype=int)
    )
    assert scores.loss == 500.0 and scores.accuracy == 0.0


def test_bytes_reach_the_net_as_floats_in_the_unit_range_and_in_batches(pixels):
    sizes = []

    def net(images):
        sizes.append(len(images))
        assert images.dtype == torch.float32 and 0 <= images.min() and images.max() <= 1
        assert not torch.is_grad_enabled()
        return images.flatten(1)

    outputs = predict_in_batches(net, pixels, batch=500)
    assert sizes == [500, 500, 203]
    np.testing.assert_array_equal((outputs * 255).round().numpy().astype(np.uint8), pixels.reshape(-1, 12))


def test_floats_reach_the_net_as_they_are():
    codes = torch.randn(7, 3) * 100
    assert torch.equal(predict_in_batches(lambda z: 1 * z, codes, batch=2), codes)


def test_modules_are_asked_in_evaluation_mode_and_put_back_part_by_part(pixels):
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.9), nn.Flatten(), nn.Linear(12, 2))
    net[0].eval()
    first, again = (predict_in_batches(net, pixels) for _ in range(2))
    assert torch.equal(first, again)
    assert [part.training for part in net] == [False, True, True, True] and net.training
    assert net[0].num_batches_tracked == 0


def test_modes_are_put_back_after_an_error(pixels):
    net = nn.Linear(3, 3)
    with pytest.raises(RuntimeError):
        predict_in_batches(net, pixels)
    assert net.training and not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("net", "labels"),
    [
        (lambda images: images, np.zeros(4, dtype=int)),
        (lambda images: images.flatten(1), np.array([0, 1, 2, 12])),
        (lambda images: images.flatten(1), np.array([0, -1, 2, 1])),
        (lambda images: images.flatten(1).T, np.zeros(4, dtype=int)),
    ],
    ids=["images", "label too large", "label negative", "transposed"],
)
def test_a_net_that_does_not_fit_is_refused(net, labels, pixels):
    with pytest.raises(ModelMismatchError):
        classification_scores(net, pixels[:4], labels)
    with pytest.raises(DataError):
        predict_in_batches(net, pixels[:0])


def test_reconstruction_scores_equal_their_definition(pixels):
    images = pixels / 255
    logits = np.random.default_rng(2).normal(0, 2, images.shape).astype(np.float32)
    scores = reconstruction_scores(lambda inputs: inputs, torch.from_numpy(logits), pixels)
    output = 1 / (1 + np.exp(-logits.astype(np.float64)))
    bce = -(images * np.log(output) + (1 - images) * np.log(1 - output)).mean()
    assert scores.bce == pytest.approx(bce, rel=1e-6)
    assert scores.psnr == pytest.approx(-10 * np.log10(((output - images) ** 2).mean()), rel=1e-6)


def test_a_perfect_reconstruction_has_a_finite_psnr():
    images = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
    scores = reconstruction_scores(lambda inputs: (inputs - 0.5) * 2000, images, images)
    assert scores.bce == 0.0 and scores.psnr == 120.0
    with pytest.raises(ModelMismatchError):  # of another shape
        reconstruction_scores(lambda inputs: inputs.flatten(1), images, images)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=60))
@settings(deadline=None)
def test_recall_is_the_accuracy_within_each_class(pairs):
    pairs = pairs + [(label, 0) for label in range(4)]  # every class at least once
    labels, predicted = (np.array(part) for part in zip(*pairs, strict=True))
    recall = recall_per_class(predicted, labels, 4)
    expected = [np.mean(predicted[labels == label] == label) for label in range(4)]
    np.testing.assert_allclose(recall, expected)
    share = np.bincount(labels) / len(labels)
    assert math.isclose(recall @ share, np.mean(predicted == labels), abs_tol=1e-12)


def test_a_class_without_images_has_no_rate():
    labels = np.array([0, 2, 0])
    np.testing.assert_array_equal(recall_per_class(labels, labels, 4), [1, np.nan, 1, np.nan])
    with pytest.raises(DataError):
        recall_per_class(labels, labels, 2)

"""Scores of generated images, and the Fréchet distance, against oracles."""

import numpy as np
import pytest
import torch
from export_samples import untrained_model
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist

from inklab.errors import DataError, ModelMismatchError
from inklab.evaluation.generation import (
    Moments,
    classifier_agreement,
    evaluate_generation,
    frechet_distance,
    moments,
    nearest_neighbors,
    real_images,
)
from inklab.evaluation.neighborhoods import Neighborhoods, nearer_share
from inklab.evaluation.samplers import samplers
from inklab.networks.layer_table import features_before_last
from inklab.records.plan import GenerationEvaluation
from inklab.seeding import Seed


def features(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1)[:, :5] * 3


def random_moments(seed: int, size: int = 4) -> Moments:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, size))
    return Moments(rng.normal(size=size), root @ root.T, 100)


@given(st.integers(0, 10_000), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_frechet_distance_equals_the_matrix_root(seed, size):
    a, b = random_moments(seed, size), random_moments(seed + 1, size)
    root = sqrtm(a.covariance @ b.covariance).real
    expected = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6, abs=1e-6)


def test_frechet_distance_of_equals_is_zero_and_of_a_shift_its_square():
    a = random_moments(0)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    shifted = Moments(a.mean + [3, 0, 4, 0], a.covariance, 100)
    assert frechet_distance(a, shifted) == pytest.approx(25)
    with pytest.raises(ModelMismatchError):  # other features
        frechet_distance(a, random_moments(0, 3))


def test_frechet_distance_takes_features_that_never_vary():
    flat = Moments(np.zeros(3), np.diag([1.0, 0.0, 0.0]), 10)
    other = Moments(np.zeros(3), np.diag([4.0, 9.0, 0.0]), 10)
    assert frechet_distance(flat, other) == pytest.approx((2 - 1) ** 2 + 9)


def test_moments_equal_numpy_also_far_from_the_origin():
    values = 1e4 + np.random.default_rng(0).normal(size=(1300, 5)).astype(np.float32)
    result = moments(torch.from_numpy(values))
    assert result.count == 1300
    np.testing.assert_allclose(result.mean, values.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(result.covariance, np.cov(values.astype(np.float64), rowvar=False), rtol=1e-9)


def test_moments_refuse_what_has_none():
    images = torch.rand(3, 4)
    for error, values in ((DataError, images[:1]), (ModelMismatchError, images * torch.nan)):
        with pytest.raises(error):
            moments(values)


def test_agreement_counts_only_confident_predictions():
    logits = torch.log(torch.tensor([[0.95, 0.05], [0.05, 0.95], [0.91, 0.09], [0.89, 0.11]]))
    classifier = lambda images: logits[: len(images)]  # noqa: E731
    agreement = classifier_agreement(classifier, torch.zeros(4, 1, 1, 1))
    assert agreement.confident_share == 0.75
    np.testing.assert_allclose(agreement.class_shares, [2 / 3, 1 / 3])
    np.testing.assert_array_equal(agreement.predicted, [0, 1, 0, 0])
    np.testing.assert_allclose(agreement.confidence, [0.95, 0.95, 0.91, 0.89], rtol=1e-6)
    agreement = classifier_agreement(lambda images: torch.zeros(len(images), 3), torch.zeros(4, 1, 1, 1))
    assert agreement.confident_share == 0 and agreement.class_shares.tolist() == [0, 0, 0]
    answers = 99 * torch.eye(1000)[[999, 300]]
    agreement = classifier_agreement(lambda images: answers[: len(images)], torch.zeros(2, 1, 1, 1))
    assert agreement.predicted.tolist() == [999, 300], "not modulo 256"


@given(train=st.integers(1, 2300), count=st.integers(1, 20), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_nearest_image_equals_trying_all(train, count, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (train, 1, 2, 3), dtype=np.uint8)
    images = rng.random((count, 1, 2, 3), dtype=np.float32)
    distances, indices = nearest_neighbors(torch.from_numpy(images), pixels)
    expected = cdist(images.reshape(count, -1), pixels.reshape(train, -1) / 255)
    np.testing.assert_allclose(distances, expected.min(axis=1), atol=1e-5)
    np.testing.assert_allclose(expected[np.arange(count), indices], expected.min(axis=1), atol=1e-5)


def test_a_copy_of_a_training_image_lies_at_distance_zero():
    pixels = np.random.default_rng(0).integers(0, 256, (3000, 1, 28, 28), dtype=np.uint8)
    copied = [2999, 0, 1000, 999]
    distances, indices = nearest_neighbors(torch.tensor(pixels[copied]).float() / 255, pixels)
    assert indices.tolist() == copied and distances.max() < 1e-5
    with pytest.raises(DataError):
        nearest_neighbors(torch.zeros(2, 1, 3, 3), np.zeros((0, 1, 3, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def generation_inputs():
    """Decoder, classifier, 300 training and 40 test images, seed, and what is compared with."""
    rng = np.random.default_rng(0)
    train, test = (torch.from_numpy(rng.integers(0, 256, (n, 1, 12, 12), np.uint8)) for n in (300, 40))
    decoder, classifier, seed = untrained_model("autoencoder"), untrained_model("mlp"), Seed(3)
    with torch.no_grad():  # so that images differ, and some predictions are confident
        for parameter in [*decoder.net.net.parameters(), classifier.net.net.output.weight]:
            parameter *= 4
    return decoder, classifier, train, test, seed, real_images(classifier.net, train, test, 25, seed)


def shuffled(train: torch.Tensor, seed: Seed) -> torch.Tensor:
    return train[torch.from_numpy((seed / "training images").rng().permutation(len(train)))]


def generation(sampler: str) -> GenerationEvaluation:
    return GenerationEvaluation(
        id="a", sampler=sampler, samples=60, mixture_components=2, max_fit_images=100, nn_images=25,
        replicate=0, depends_on=("b", "c"),
    )  # fmt: skip


def test_generated_images_get_every_score(generation_inputs):
    decoder, classifier, train, test, seed, real = generation_inputs
    outcome, arrays = evaluate_generation(generation("uniform"), *generation_inputs)
    with torch.inference_mode():
        codes = decoder.net.net.encoder(
            decoder.net.normalize(shuffled(train, seed)[:100].float() / 255)
        ).numpy()
        drawn = samplers["uniform"](codes, 60, (seed / "uniform").rng()).codes
        images = torch.sigmoid(decoder.net.net.decoder(torch.from_numpy(drawn)))
    agreement = classifier_agreement(classifier.net, images)
    distances, indices = nearest_neighbors(images[:25], train.numpy())
    generated = features_before_last(classifier.net)(images[:40]).detach()
    reference = features_before_last(classifier.net)(shuffled(train, seed).float() / 255).detach()
    overlap = Neighborhoods.of(reference).overlap(generated)
    assert outcome.confident_share == agreement.confident_share and 0 < agreement.confident_share < 1
    assert outcome.class_shares == tuple(agreement.class_shares)
    assert outcome.frechet_distance == pytest.approx(
        frechet_distance(moments(generated), moments(reference)), rel=1e-5
    )
    assert (outcome.manifold_precision, outcome.density) == (overlap.precision, overlap.density)
    assert (outcome.manifold_recall, outcome.coverage) == (overlap.recall, overlap.coverage)
    assert outcome.nearer_share == nearer_share(distances, real.test_distances)
    assert outcome.nn_distance == pytest.approx(distances.mean())
    np.testing.assert_array_equal(arrays["neighbors"], train.numpy()[indices[:10]])
    np.testing.assert_array_equal(arrays["images"], (images * 255).round().byte().numpy())
    np.testing.assert_array_equal(arrays["predicted"], agreement.predicted)


def test_real_images_are_the_reference_for_samplers(generation_inputs):
    decoder, classifier, train, test, seed, real = generation_inputs
    outcome, arrays = evaluate_generation(generation("real_data"), *generation_inputs)
    tested = features_before_last(classifier.net)(test.float() / 255).detach()
    assert outcome.frechet_distance == pytest.approx(
        frechet_distance(moments(tested), real.moments), rel=1e-5
    )
    assert outcome.coverage == real.neighborhoods.overlap(tested).coverage > 0
    drawn = test[torch.from_numpy((seed / "test images").rng().permutation(40))[:25]]
    distances, _ = nearest_neighbors(drawn.float() / 255, train.numpy())
    assert outcome.nn_distance == pytest.approx(distances.mean()) and outcome.nearer_share is None
    assert outcome.confident_share == classifier_agreement(classifier.net, test).confident_share
    np.testing.assert_array_equal(arrays["images"], test[:10].numpy())
    assert arrays["reconstructions"].shape == (10, 1, 12, 12)


def test_a_decoder_needs_two_halves(generation_inputs):
    with pytest.raises(ModelMismatchError):
        evaluate_generation(generation("uniform"), generation_inputs[1], *generation_inputs[1:])


def test_worse_images_have_a_larger_frechet_distance():
    rng = torch.Generator().manual_seed(0)
    real, same, other = (torch.rand(800, 1, 3, 3, generator=rng) for _ in range(3))
    reference = moments(features(real))
    real_distance = frechet_distance(moments(features(same)), reference)
    near, far = (frechet_distance(moments(features((other + s).clamp(0, 1))), reference) for s in (0.1, 0.4))
    assert real_distance < near < far

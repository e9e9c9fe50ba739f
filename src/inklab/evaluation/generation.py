"""Images that a decoder generates from a sampler's codes: how good they are, and how new.

The Fréchet distance compares two sets of features, both treated as normal. Heusel et al., "GANs trained by a
two time-scale update rule converge to a local Nash equilibrium" (2017), use the features of a network for
photographs. Here they are those of a classifier trained on the same images, so values can be compared only
for the same classifier, above all with the distance of real test images.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int16, Int64, UInt8
from torch import Tensor, nn

from inklab.data.dataset import MAX_CLASSES
from inklab.errors import DataError, ModelMismatchError
from inklab.evaluation.neighborhoods import Neighborhoods, Overlap, nearer_share
from inklab.evaluation.samplers import samplers
from inklab.evaluation.scores import (
    AnyImages,
    ForwardFn,
    batches,
    inference_mode,
    predict_in_batches,
    to_bytes,
    to_floats,
)
from inklab.model import TrainedModel
from inklab.networks.layer_table import features_before_last
from inklab.records.outcomes import CONFIDENT, NEIGHBORHOOD, GenerationOutcome, TrialState
from inklab.records.plan import REAL_DATA, GenerationEvaluation
from inklab.seeding import Seed

NEIGHBORS = 10  # generated images whose nearest training image is kept
BLOCK = 1000  # training images compared at once: 8 MB of distances for 2,000 generated images
REFERENCE_IMAGES = 10_000  # training images behind the Fréchet distance: as many as MNIST's test set has
KEPT_IMAGES = 100  # generated images that are kept for the report
RECONSTRUCTIONS = 10  # of test images, kept for the report

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of a set of features.

    Attributes:
        mean: `(f,)`.
        covariance: `(f, f)`, unbiased (divided by count - 1).
        count: how many images they come from.
    """

    mean: Float64[np.ndarray, " f"]
    covariance: Float64[np.ndarray, "f f"]
    count: int


def moments(features: Float[Tensor, "n f"]) -> Moments:
    """Mean and covariance of features, in float64.

    Raises:
        DataError: fewer than two images.
        ModelMismatchError: some are not finite.
    """
    if len(features) < 2:
        raise DataError(f"{len(features)} images; a covariance needs at least 2")
    values = features.double().numpy()
    if not np.isfinite(values).all():
        raise ModelMismatchError("some features of the classifier are NaN or infinite; did it diverge?")
    return Moments(values.mean(axis=0), np.atleast_2d(np.cov(values, rowvar=False)), len(values))


def frechet_distance(a: Moments, b: Moments) -> float:
    """`|mean_a - mean_b|^2 + trace(A + B - 2 (A B)^(1/2))`: 0 for equal moments, unbounded above.

    It decreases with the number of images on either side, so compare only the same numbers of images.

    Raises:
        ModelMismatchError: the two have different numbers of features.

    Example:
        >>> narrow, wide = (Moments(np.zeros(1), np.array([[sd**2]]), 100) for sd in (1.0, 3.0))
        >>> frechet_distance(narrow, wide)
        4.0
    """
    if a.mean.shape != b.mean.shape:
        raise ModelMismatchError(f"moments of {len(a.mean)} and of {len(b.mean)} features can't be compared")
    # trace((A B)^(1/2)) = trace((A^(1/2) B A^(1/2))^(1/2)), and that matrix is symmetric: its eigenvalues are
    # real, and negative ones are rounding errors. A general root of A B fails where A is singular.
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    inner = root @ b.covariance @ root
    overlap = np.sqrt(np.linalg.eigvalsh((inner + inner.T) / 2).clip(min=0)).sum()
    delta = a.mean - b.mean
    return max(0.0, float(delta @ delta + np.trace(a.covariance) + np.trace(b.covariance) - 2 * overlap))


@dataclass(frozen=True)
class ClassifierAgreement:
    """A classifier's predictions for some images, and how confident it is.

    Attributes:
        confident_share: share of images whose most probable class has a probability above 0.9.
        class_shares: `(k,)` share of each class among those; all 0 if there are none.
        predicted: `(n,)` most probable class of every image.
        confidence: `(n,)` its probability.
    """

    confident_share: float
    class_shares: Float64[np.ndarray, " k"]
    predicted: Int16[np.ndarray, " n"]
    confidence: Float32[np.ndarray, " n"]


def classifier_agreement(classifier: ForwardFn, images: AnyImages) -> ClassifierAgreement:
    """Classify at least one image, and measure how confident the classifier is.

    Raises:
        ModelMismatchError: the classifier does not return `(n, k)` logits, k at most 1,000.

    Example:
        >>> classifier = lambda images: 9 * torch.cat([images, 1 - images], dim=1).flatten(1)
        >>> images = torch.tensor([1.0, 0.9, 0.5, 0.0]).reshape(4, 1, 1, 1)
        >>> classifier_agreement(classifier, images).confident_share
        0.75
    """
    logits = predict_in_batches(classifier, images).double().cpu()
    if logits.ndim != 2 or logits.shape[1] > MAX_CLASSES:
        raise ModelMismatchError(
            f"the classifier returns {tuple(logits.shape)}; it must return (n, k) logits of at most "
            f"{MAX_CLASSES:,} classes"
        )
    confidence, predicted = (part.numpy() for part in logits.softmax(dim=1).max(dim=1))
    is_confident = confidence > CONFIDENT
    counts = np.bincount(predicted[is_confident], minlength=logits.shape[1])
    return ClassifierAgreement(
        confident_share=float(is_confident.mean()),
        class_shares=counts / max(1, counts.sum()),
        predicted=predicted.astype(np.int16),
        confidence=confidence.astype(np.float32),
    )


def nearest_neighbors(
    images: Float[Tensor, "n c h w"], train_pixels: UInt8[np.ndarray, "t c h w"]
) -> tuple[Float64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """The nearest training image of each image, whose values are in [0, 1].

    Returns:
        Euclidean distances over pixels in [0, 1], and indices into `train_pixels` (the first of equals).

    Raises:
        DataError: there are no images on one side, or their shapes differ.
    """
    if not len(images) or not len(train_pixels) or images.shape[1:] != train_pixels.shape[1:]:
        raise DataError(
            f"images have the shape {tuple(images.shape)} and training images {train_pixels.shape}; both "
            "need at least one image, of the same size"
        )
    flat = images.flatten(1).float().cpu()
    smallest, indices = torch.full((len(flat),), torch.inf), torch.zeros(len(flat), dtype=torch.long)
    for start, block in enumerate(batches(train_pixels, BLOCK)):
        other = block.flatten(1)
        # |a - b|^2 = |a|^2 - 2 a b + |b|^2 as one matrix product; |a|^2 is the same for every b: left out.
        squares, nearest = (other.square().sum(dim=1) - 2 * flat @ other.T).min(dim=1)
        is_nearer = squares < smallest
        smallest = torch.where(is_nearer, squares, smallest)
        indices = torch.where(is_nearer, nearest + start * BLOCK, indices)
    # The expansion finds the nearest image but cancels digits, so the distance is computed again directly.
    real = torch.from_numpy(train_pixels[indices.numpy()]).double().flatten(1) / 255
    distances = (flat.double() - real).square().sum(dim=1).sqrt()
    return distances.numpy(), indices.numpy()


@dataclass(frozen=True)
class RealImages:
    """What generated images are compared with.

    Attributes:
        moments: of the classifier's features of training images.
        neighborhoods: of the same features; None of so few images that there are none.
        test_distances: `(n,)` of test images to the nearest training image.
    """

    moments: Moments
    neighborhoods: Neighborhoods | None
    test_distances: Float64[np.ndarray, " n"]


def real_images(
    classifier: nn.Module,
    train: UInt8[Tensor, "t c h w"],
    test: UInt8[Tensor, "n c h w"],
    nn_images: int,
    seed: Seed,
) -> RealImages:
    """Training images for the classifier's features, and `nn_images` test images, both drawn by `seed`."""
    features = _features(classifier, _shuffled(train, seed / "training images", REFERENCE_IMAGES))
    drawn = to_floats(_shuffled(test, seed / "test images", nn_images))
    neighborhoods = Neighborhoods.of(features) if len(features) > NEIGHBORHOOD else None
    return RealImages(moments(features), neighborhoods, nearest_neighbors(drawn, train.numpy())[0])


def evaluate_generation(
    evaluation: GenerationEvaluation,
    decoder: TrainedModel,
    classifier: TrainedModel,
    train: UInt8[Tensor, "t c h w"],
    test: UInt8[Tensor, "n c h w"],
    seed: Seed,
    real: RealImages,
) -> tuple[GenerationOutcome, Arrays]:
    """Generate images with a sampler and score them; or, for "real_data", score real test images.

    The nearest training image is sought for `nn_images` of them only: 10,000 against 55,000 images of 784
    pixels would be 0.9 TFLOP. Scores by features depend on the number of images, so they are of as many
    generated images as there are real ones.

    Training images give codes and neighbors, test images are the real ones. `real` are the `real_images` of
    the classifier and the seed.

    Returns:
        The outcome, and arrays as in docs/run-directory.md.

    Raises:
        ModelMismatchError: the decoder's network has no `encoder` and `decoder`.
    """
    halves = decoder.halves
    if evaluation.sampler == REAL_DATA:
        return _evaluate_real_data(evaluation, decoder, classifier, test, real)
    training = _shuffled(train, seed / "training images", evaluation.max_fit_images)
    codes = predict_in_batches(halves.encode, training).numpy()
    sampler = samplers[evaluation.sampler]
    params = {key: value for key, value in evaluation if key in sampler.params}
    drawn = sampler(codes, evaluation.samples, (seed / evaluation.sampler).rng(), params)
    images = predict_in_batches(halves.decode, torch.from_numpy(drawn.codes))
    agreement = classifier_agreement(classifier.net, images)
    frechet, overlap = _compare_features(classifier.net, images[: len(test)], real)
    distances, nearest = nearest_neighbors(images[: evaluation.nn_images], train.numpy())
    outcome = GenerationOutcome(
        evaluation=evaluation,
        state=TrialState.DONE,
        confident_share=agreement.confident_share,
        class_shares=tuple(agreement.class_shares.tolist()),
        frechet_distance=frechet,
        manifold_precision=overlap and overlap.precision,
        manifold_recall=overlap and overlap.recall,
        density=overlap and overlap.density,
        coverage=overlap and overlap.coverage,
        nn_distance=float(distances.mean()),
        nearer_share=nearer_share(distances, real.test_distances),
        sampler_info=drawn.info,
    )
    arrays = {
        "images": to_bytes(images[:KEPT_IMAGES]),
        "neighbors": train.numpy()[nearest[:NEIGHBORS]],
        "predicted": agreement.predicted[:KEPT_IMAGES],
        "confidence": agreement.confidence[:KEPT_IMAGES],
    }
    return outcome, arrays


def _evaluate_real_data(
    evaluation: GenerationEvaluation,
    decoder: TrainedModel,
    classifier: TrainedModel,
    test: UInt8[Tensor, "n c h w"],
    real: RealImages,
) -> tuple[GenerationOutcome, Arrays]:
    """The scores of test images, and how the decoder reconstructs them."""
    frechet, overlap = _compare_features(classifier.net, test[: evaluation.samples], real)
    rebuilt, first = predict_in_batches(decoder.denoise, test), slice(RECONSTRUCTIONS)
    outcome = GenerationOutcome(
        evaluation=evaluation,
        state=TrialState.DONE,
        confident_share=classifier_agreement(classifier.net, test).confident_share,
        confident_share_reconstructed=classifier_agreement(classifier.net, rebuilt).confident_share,
        frechet_distance=frechet,
        manifold_precision=overlap and overlap.precision,
        manifold_recall=overlap and overlap.recall,
        density=overlap and overlap.density,
        coverage=overlap and overlap.coverage,
        nn_distance=float(real.test_distances.mean()),
    )
    return outcome, {"images": test[first].numpy(), "reconstructions": to_bytes(rebuilt[first])}


def _compare_features(
    classifier: nn.Module, images: AnyImages, real: RealImages
) -> tuple[float, Overlap | None]:
    """The Fréchet distance from training images, and how both overlap; None of too few images."""
    features, hoods = _features(classifier, images), real.neighborhoods
    overlap = hoods.overlap(features) if hoods and len(features) > NEIGHBORHOOD else None
    return frechet_distance(moments(features), real.moments), overlap


def _features(classifier: nn.Module, images: AnyImages) -> Float[Tensor, "n f"]:
    """The inputs of a classifier's last layer."""
    with inference_mode(classifier):
        features = predict_in_batches(features_before_last(classifier), images)
    if features.ndim != 2:
        raise ModelMismatchError(
            f"the features of {len(images)} images have the shape {tuple(features.shape)}; they must be a "
            "row for each image"
        )
    return features


def _shuffled(pixels: UInt8[Tensor, "t c h w"], seed: Seed, count: int) -> UInt8[Tensor, "n c h w"]:
    return pixels[torch.from_numpy(seed.rng().permutation(len(pixels))[:count])]

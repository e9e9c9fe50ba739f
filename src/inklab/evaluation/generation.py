"""Images that a decoder generates from a sampler's codes: how good they are, and how new."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int, Int64, UInt8
from torch import Tensor, nn

from inklab.errors import DataError, ModelMismatchError
from inklab.evaluation.frechet import Moments, frechet_distance, moments
from inklab.evaluation.samplers import samplers
from inklab.evaluation.scores import AnyPixels, ForwardFn, batches, predict_in_batches
from inklab.model import TrainedModel
from inklab.networks.layer_table import features_before_last
from inklab.records.outcomes import CONFIDENT, GenerationOutcome, TrialState
from inklab.records.plan import REAL_DATA, GenerationEvaluation
from inklab.seeding import Seed
from inklab.training.batches import TrainingData

NEIGHBORS = 10  # generated images whose nearest training image is kept
BLOCK = 1000  # training images compared at once: 8 MB of distances for 2,000 generated images
REFERENCE_IMAGES = 10_000  # training images behind the Fréchet distance: as many as MNIST's test set has
KEPT_IMAGES = 100  # generated images that are kept for the report
RECONSTRUCTIONS = 10  # of test images, kept for the report

Arrays = dict[str, np.ndarray]


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
    predicted: UInt8[np.ndarray, " n"]
    confidence: Float32[np.ndarray, " n"]


@dataclass(frozen=True)
class SampleScores:
    """How good generated images are.

    Attributes:
        agreement: what the classifier predicts.
        frechet_distance: to the reference, in the classifier's features; lower is better.
        nn_distance: mean Euclidean distance to the nearest training image, pixels in [0, 1]; near 0: copied.
        neighbors: `(m, c, h, w)` the training images nearest to the first ten (m at most 10).
    """

    agreement: ClassifierAgreement
    frechet_distance: float
    nn_distance: float
    neighbors: UInt8[np.ndarray, "m c h w"]


def score_samples(
    images: Float[Tensor, "n c h w"],
    classifier: ForwardFn,
    features: ForwardFn,
    reference: Moments,
    train_pixels: UInt8[np.ndarray, "t c h w"],
    *,
    nn_images: int = 2000,
    frechet_images: int | None = None,
) -> SampleScores:
    """Score images that a decoder generated.

    Args:
        images: `(n, c, h, w)` images in [0, 1], in no particular order; n at least 2.
        classifier: maps images to `(b, k)` logits.
        features: maps images to `(b, f)` features of the classifier, such as its last hidden layer.
        reference: the same features' moments over real images.
        train_pixels: `(t, c, h, w)` the training images.
        nn_images: the nearest training image is sought for the first ones only: 10,000 against 55,000 images
            of 784 pixels would be 0.9 TFLOP.
        frechet_images: the Fréchet distance is of the first ones only; all by default. It depends on their
            number, so compare it only with that of as many real images.

    Raises:
        DataError: there are too few images, or the training images have another shape.
        ModelMismatchError: the classifier or the features do not fit the images or the reference.
    """
    agreement = classifier_agreement(classifier, images)
    distances, indices = nearest_neighbors(images[:nn_images], train_pixels)
    return SampleScores(
        agreement=agreement,
        frechet_distance=frechet_distance(moments(features, images[:frechet_images]), reference),
        nn_distance=float(distances.mean()),
        neighbors=train_pixels[indices[:NEIGHBORS]],
    )


def classifier_agreement(
    classifier: ForwardFn, images: AnyPixels | Float[Tensor, "n c h w"]
) -> ClassifierAgreement:
    """Classify some images, and measure how confident the classifier is.

    Args:
        classifier: maps `(b, c, h, w)` images in [0, 1] to `(b, k)` logits, k at most 256.
        images: `(n, c, h, w)` bytes or floats in [0, 1], n at least 1.

    Raises:
        ModelMismatchError: the classifier does not return `(n, k)` logits.

    Example:
        >>> classifier = lambda images: 9 * torch.cat([images, 1 - images], dim=1).flatten(1)
        >>> images = torch.tensor([1.0, 0.9, 0.5, 0.0]).reshape(4, 1, 1, 1)
        >>> classifier_agreement(classifier, images).confident_share
        0.75
    """
    logits = predict_in_batches(classifier, images).double().cpu()
    if logits.ndim != 2 or logits.shape[1] > 256:
        raise ModelMismatchError(
            f"the classifier returns {tuple(logits.shape)}; it must return (n, k) logits of at most 256 "
            "classes"
        )
    confidence, predicted = (part.numpy() for part in logits.softmax(dim=1).max(dim=1))
    counts = np.bincount(predicted[confidence > CONFIDENT], minlength=logits.shape[1])
    return ClassifierAgreement(
        confident_share=float((confidence > CONFIDENT).mean()),
        class_shares=counts / max(1, counts.sum()),
        predicted=predicted.astype(np.uint8),
        confidence=confidence.astype(np.float32),
    )


def nearest_neighbors(
    images: Float[Tensor, "n c h w"], train_pixels: UInt8[np.ndarray, "t c h w"]
) -> tuple[Float64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """The nearest training image of each image.

    Args:
        images: `(n, c, h, w)` floats in [0, 1].
        train_pixels: `(t, c, h, w)` bytes.

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


def reference_moments(classifier: nn.Module, data: TrainingData, seed: Seed) -> Moments:
    """Moments of the classifier's features over training images that are drawn by `seed`."""
    return moments(features_before_last(classifier), data.train.pixels[_order(data, seed)[:REFERENCE_IMAGES]])


def evaluate_generation(
    evaluation: GenerationEvaluation,
    decoder: TrainedModel,
    classifier: TrainedModel,
    data: TrainingData,
    seed: Seed,
    reference: Moments,
) -> tuple[GenerationOutcome, Arrays]:
    """Generate images with a sampler and score them; or, for "real_data", score real images.

    Args:
        evaluation: as in the plan.
        decoder: an autoencoder, whose network has `encoder` and `decoder`.
        classifier: scores the images.
        data: training images give codes and reference; test images are the real ones.
        seed: the source of randomness.
        reference: `reference_moments` of the classifier and the seed; the same for every sampler.

    Returns:
        The outcome, and arrays as in docs/run-directory.md.

    Raises:
        ModelMismatchError: the decoder's network has no `encoder` and `decoder`.
    """
    encode, decode = _halves(decoder)
    features = features_before_last(classifier.net)
    n_compared = min(evaluation.samples, len(data.test.labels))  # as many generated images as real ones
    if evaluation.sampler == REAL_DATA:
        real = moments(features, data.test.pixels[:n_compared])
        return _score_real_data(evaluation, decoder, classifier, data, frechet_distance(real, reference))
    fit_indices = _order(data, seed)[: evaluation.max_fit_images]
    codes = predict_in_batches(encode, data.train.pixels[fit_indices]).numpy()
    sampler = samplers[evaluation.sampler]
    params = {key: value for key, value in evaluation if key in sampler.params}
    drawn = sampler(codes, evaluation.samples, (seed / evaluation.sampler).rng(), params)
    images = torch.sigmoid(predict_in_batches(decode, torch.from_numpy(drawn.codes)))
    scores = score_samples(
        images,
        classifier.net,
        features,
        reference,
        data.train.pixels.numpy(),
        nn_images=evaluation.nn_images,
        frechet_images=n_compared,
    )
    agreement = scores.agreement
    outcome = GenerationOutcome(
        evaluation=evaluation,
        state=TrialState.DONE,
        confident_share=agreement.confident_share,
        class_shares=tuple(agreement.class_shares.tolist()),
        frechet_distance=scores.frechet_distance,
        nn_distance=scores.nn_distance,
        sampler_info=drawn.info,
    )
    arrays = {
        "images": to_bytes(images[:KEPT_IMAGES]),
        "neighbors": scores.neighbors,
        "predicted": agreement.predicted[:KEPT_IMAGES],
        "confidence": agreement.confidence[:KEPT_IMAGES],
    }
    return outcome, arrays


def _order(data: TrainingData, seed: Seed) -> Int[Tensor, " n"]:
    return torch.from_numpy((seed / "training images").rng().permutation(len(data.train.labels)))


def _halves(model: TrainedModel) -> tuple[nn.Module, nn.Module]:
    """The encoder, with normalization in front, and the decoder."""
    encoder, decoder = getattr(model.net.net, "encoder", None), getattr(model.net.net, "decoder", None)
    if not isinstance(encoder, nn.Module) or not isinstance(decoder, nn.Module):
        raise ModelMismatchError(
            f"'{model.name}' has no encoder and decoder modules; a generation experiment needs both, as "
            "'autoencoder' has them"
        )
    return nn.Sequential(model.net.normalize, encoder), decoder


def _score_real_data(
    evaluation: GenerationEvaluation,
    decoder: TrainedModel,
    classifier: TrainedModel,
    data: TrainingData,
    distance: float,
) -> tuple[GenerationOutcome, Arrays]:
    """Score real images: the best that any sampler can reach."""
    real = classifier_agreement(classifier.net, data.test.pixels)
    reconstructions = predict_in_batches(decoder.denoise, data.test.pixels)
    outcome = GenerationOutcome(
        evaluation=evaluation,
        state=TrialState.DONE,
        confident_share=real.confident_share,
        confident_share_reconstructed=classifier_agreement(classifier.net, reconstructions).confident_share,
        frechet_distance=distance,
    )
    first = slice(RECONSTRUCTIONS)
    arrays = {
        "images": data.test.pixels[first].numpy(),
        "reconstructions": to_bytes(reconstructions[first]),
    }
    return outcome, arrays


def to_bytes(images: Float[Tensor, "n c h w"]) -> UInt8[np.ndarray, "n c h w"]:
    """Images in [0, 1] as bytes."""
    return (images * 255).round().to(torch.uint8).numpy()

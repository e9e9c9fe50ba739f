"""Images drawn from a decoder by a sampler, and how good and how new they are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int, Int64, UInt8
from torch import Tensor, nn

from inklab.errors import DataError, ModelMismatchError
from inklab.evaluation.frechet import Moments, frechet_distance, moments
from inklab.evaluation.samplers import REAL_DATA_BASELINE, samplers
from inklab.evaluation.scores import AnyPixels, ForwardFn, batches, predict_in_batches
from inklab.model import TrainedModel
from inklab.networks.layer_table import features_before_last
from inklab.seeding import Seed
from inklab.training.batches import TrainingData

CONFIDENT = 0.9  # a digit counts as recognised above this probability
EXAMPLES = 10  # drawn images whose nearest training image is kept
BLOCK = 1000  # training images compared at once: 8 MB of distances for 2,000 drawn images


@dataclass(frozen=True)
class ClassifierAgreement:
    """What a classifier sees in some images.

    Attributes:
        share: of images whose most probable class has a probability above 0.9.
        classes: `(k,)` share of each class among those; all 0 if there are none.
        predicted: `(n,)` most probable class of every image.
        confidence: `(n,)` its probability.
    """

    share: float
    classes: Float64[np.ndarray, " k"]
    predicted: UInt8[np.ndarray, " n"]
    confidence: Float32[np.ndarray, " n"]


@dataclass(frozen=True)
class SampleScores:
    """How good drawn images are.

    Attributes:
        recognised: share of images that the judge recognises with a probability above 0.9.
        classes: `(k,)` share of each class among those; all 0 if there are none.
        frechet: Fréchet distance to the reference in the judge's features; lower is better, see its floor.
        nearest: mean Euclidean distance to the nearest training image, over pixels in [0, 1]. Near 0: copied.
        neighbours: `(m, c, h, w)` the training images nearest to the first ten (m at most 10).
        predicted: `(n,)` most probable class of every image.
        confidence: `(n,)` its probability.
    """

    recognised: float
    classes: Float64[np.ndarray, " k"]
    frechet: float
    nearest: float
    neighbours: UInt8[np.ndarray, "m c h w"]
    predicted: UInt8[np.ndarray, " n"]
    confidence: Float32[np.ndarray, " n"]


def score_samples(
    images: Float[Tensor, "n c h w"],
    judge: ForwardFn,
    features: ForwardFn,
    reference: Moments,
    train_pixels: UInt8[np.ndarray, "t c h w"],
    *,
    nearest_of: int = 2000,
    frechet_of: int | None = None,
) -> SampleScores:
    """Score images that a decoder made.

    Args:
        images: `(n, c, h, w)` drawn images in [0, 1], in no particular order; n at least 2.
        judge: maps images to `(b, k)` logits.
        features: maps images to `(b, f)` features of the judge, such as its last hidden layer.
        reference: the same features' moments over real images.
        train_pixels: `(t, c, h, w)` the training images.
        nearest_of: the nearest training image is looked for only for the first so many:
            10,000 against 55,000 images of 784 pixels would be 0.9 TFLOP.
        frechet_of: the Fréchet distance is taken over the first so many, all if left out. It depends on their
            number, so a floor that it is to be compared with must be taken over as many.

    Raises:
        DataError: too few images, or the training images have another shape.
        ModelMismatchError: judge or features do not fit the images or the reference.
    """
    seen = classifier_agreement(judge, images)
    distances, indices = nearest_neighbors(images[:nearest_of], train_pixels)
    return SampleScores(
        recognised=seen.share,
        classes=seen.classes,
        frechet=frechet_distance(moments(features, images[:frechet_of]), reference),
        nearest=float(distances.mean()),
        neighbours=train_pixels[indices[:EXAMPLES]],
        predicted=seen.predicted,
        confidence=seen.confidence,
    )


def classifier_agreement(
    judge: ForwardFn, images: AnyPixels | Float[Tensor, "n c h w"]
) -> ClassifierAgreement:
    """What a classifier sees in some images, and how sure it is.

    Args:
        judge: maps `(b, c, h, w)` images in [0, 1] to `(b, k)` logits, k at most 256.
        images: `(n, c, h, w)` bytes or floats in [0, 1], n at least 1.

    Raises:
        ModelMismatchError: the judge does not return `(n, k)` logits.

    Example:
        >>> judge = lambda images: 9 * torch.cat([images, 1 - images], dim=1).flatten(1)
        >>> classifier_agreement(judge, torch.tensor([1.0, 0.9, 0.5, 0.0]).reshape(4, 1, 1, 1)).share
        0.75
    """
    logits = predict_in_batches(judge, images).double().cpu()
    if logits.ndim != 2 or logits.shape[1] > 256:
        raise ModelMismatchError(
            f"the judge returns {tuple(logits.shape)}; expected (n, k) logits of at most 256 classes"
        )
    confidence, predicted = (part.numpy() for part in logits.softmax(dim=1).max(dim=1))
    counts = np.bincount(predicted[confidence > CONFIDENT], minlength=logits.shape[1])
    return ClassifierAgreement(
        share=float((confidence > CONFIDENT).mean()),
        classes=counts / max(1, counts.sum()),
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
        DataError: there are none, or their shapes differ.
    """
    if not len(images) or not len(train_pixels) or images.shape[1:] != train_pixels.shape[1:]:
        raise DataError(
            f"images of shape {tuple(images.shape)} and training images of shape {train_pixels.shape};"
            " there must be some of both, of the same size"
        )
    flat = images.flatten(1).float().cpu()
    least, index = torch.full((len(flat),), torch.inf), torch.zeros(len(flat), dtype=torch.long)
    for start, block in enumerate(batches(train_pixels, BLOCK)):
        other = block.flatten(1)
        # |a - b|^2 = |a|^2 - 2 a b + |b|^2 as one matmul; |a|^2 is the same for every b, so it is left out.
        gap, place = (other.square().sum(dim=1) - 2 * flat @ other.T).min(dim=1)
        nearer = gap < least
        least = torch.where(nearer, gap, least)
        index = torch.where(nearer, place + start * BLOCK, index)
    # The expansion finds the nearest but cancels digits, so its distance is computed again as it stands.
    real = torch.from_numpy(train_pixels[index.numpy()]).double().flatten(1) / 255
    distances = (flat.double() - real).square().sum(dim=1).sqrt()
    return distances.numpy(), index.numpy()


REFERENCE_IMAGES = 10_000  # training images behind the Fréchet distance: as many as MNIST has test images
KEPT_IMAGES, PAIRED_IMAGES = (
    100,
    10,
)  # images kept for the report; of these, so many with their nearest training image

Found = tuple[dict[str, Any], dict[str, np.ndarray]]


def reference_moments(judge: TrainedModel, data: TrainingData, seed: Seed) -> Moments:
    """Moments of the judge's features over training images drawn by `seed`: the standard."""
    return moments(features_before_last(judge.net), data.train.pixels[_order(data, seed)[:REFERENCE_IMAGES]])


def evaluate_generation(
    evaluation: dict[str, Any],
    decoder: TrainedModel,
    judge: TrainedModel,
    data: TrainingData,
    seed: Seed,
    reference: Moments,
) -> Found:
    """Draw images with a sampler and score them; or, for the sampler "floor", score real ones.

    Args:
        evaluation: as in the plan.
        decoder: an autoencoder's bundle, whose network has `encoder` and `decoder`.
        judge: a classifier's bundle.
        data: training images give the codes and the reference; test images the floor.
        seed: where codes come from.
        reference: `reference_moments` of the judge and the seed; the same for every sampler.

    Returns:
        Numbers and arrays as in docs/run-folder.md.

    Raises:
        ModelMismatchError: the decoder's network has no `encoder` and `decoder`.
    """
    encode, decode = _halves(decoder)
    features = features_before_last(judge.net)
    compared = min(evaluation["samples"], len(data.test.labels))  # as many drawn images as real ones
    if evaluation["sampler"] == REAL_DATA_BASELINE:
        real = data.test.pixels[:compared]
        return _floor(decoder, judge, data, frechet_distance(moments(features, real), reference))
    fitted = _order(data, seed)[: evaluation["fit_images"]]
    codes = predict_in_batches(encode, data.train.pixels[fitted]).numpy()
    sampler = samplers[evaluation["sampler"]]
    wanted = {key: evaluation[key] for key in ("components", "fit_images") if key in sampler.settings}
    drawn = sampler(codes, evaluation["samples"], (seed / evaluation["sampler"]).rng(), wanted)
    images = torch.sigmoid(predict_in_batches(decode, torch.from_numpy(drawn.codes)))
    scores = score_samples(
        images,
        judge.net,
        features,
        reference,
        data.train.pixels.numpy(),
        nearest_of=evaluation["nearest_images"],
        frechet_of=compared,
    )
    numbers = {
        "recognised": scores.recognised, "classes": scores.classes.tolist(), "frechet": scores.frechet,
        "nearest": scores.nearest, "info": drawn.info,
    }  # fmt: skip
    arrays = {
        "images": to_bytes(images[:KEPT_IMAGES]), "nearest": scores.neighbours[:PAIRED_IMAGES],
        "predicted": scores.predicted[:KEPT_IMAGES], "confidence": scores.confidence[:KEPT_IMAGES],
    }  # fmt: skip
    return numbers, arrays


def _order(data: TrainingData, seed: Seed) -> Int[Tensor, " n"]:
    return torch.from_numpy((seed / "training images").rng().permutation(len(data.train.labels)))


def _halves(bundle: TrainedModel) -> tuple[nn.Module, nn.Module]:
    encoder, decoder = getattr(bundle.net.net, "encoder", None), getattr(bundle.net.net, "decoder", None)
    if not isinstance(encoder, nn.Module) or not isinstance(decoder, nn.Module):
        raise ModelMismatchError(
            f"'{bundle.model['name']}' has no encoder and decoder modules; the generator needs both, as "
            "'autoencoder' has them"
        )
    return nn.Sequential(bundle.net.scaling, encoder), decoder


def _floor(decoder: TrainedModel, judge: TrainedModel, data: TrainingData, frechet: float) -> Found:
    """What real images score: the best that any sampler can hope for."""
    real = classifier_agreement(judge.net, data.test.pixels)
    rebuilt = predict_in_batches(decoder.cleaned, data.test.pixels)
    first = torch.arange(min(PAIRED_IMAGES, len(rebuilt)))
    numbers = {
        "recognised": real.share,
        "reconstructed": classifier_agreement(judge.net, rebuilt).share,
        "frechet": frechet,
    }
    return numbers, {"images": data.test.pixels[first].numpy(), "reconstructions": to_bytes(rebuilt[first])}


def to_bytes(images: Float[Tensor, "n c h w"]) -> UInt8[np.ndarray, "n c h w"]:
    """Images in [0, 1] as bytes."""
    return (images * 255).round().to(torch.uint8).numpy()

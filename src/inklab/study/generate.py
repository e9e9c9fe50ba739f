"""One sampler's images, drawn from a decoder and scored by a judge."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from inklab.bundle import Bundle
from inklab.errors import ModelMismatch
from inklab.evaluate.frechet import Moments, frechet_distance, moments
from inklab.evaluate.generator import recognise, score_samples
from inklab.evaluate.samplers import samplers
from inklab.evaluate.scores import predict_in_batches
from inklab.models.parts.layers import features_before_last
from inklab.seeding import Seed
from inklab.study.plan import FLOOR
from inklab.train.tensors import TrainingData

REFERENCE_IMAGES = 10_000  # training images behind the Fréchet distance: as many as MNIST has test images
KEPT, PAIRED = 100, 10  # images kept for the report; of these, so many with their nearest training image

Found = tuple[dict[str, Any], dict[str, np.ndarray]]


def reference_moments(judge: Bundle, data: TrainingData, seed: Seed) -> Moments:
    """Moments of the judge's features over training images drawn by `seed`: the standard."""
    return moments(features_before_last(judge.net), data.train.pixels[_order(data, seed)[:REFERENCE_IMAGES]])


def generator_evaluation(
    evaluation: dict[str, Any],
    decoder: Bundle,
    judge: Bundle,
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
        ModelMismatch: the decoder's network has no `encoder` and `decoder`.
    """
    encode, decode = _halves(decoder)
    features = features_before_last(judge.net)
    compared = min(evaluation["samples"], len(data.test.labels))  # as many drawn images as real ones
    if evaluation["sampler"] == FLOOR:
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
        "images": as_bytes(images[:KEPT]), "nearest": scores.neighbours[:PAIRED],
        "predicted": scores.predicted[:KEPT], "confidence": scores.confidence[:KEPT],
    }  # fmt: skip
    return numbers, arrays


def _order(data: TrainingData, seed: Seed) -> Int[Tensor, " n"]:
    return torch.from_numpy((seed / "training images").rng().permutation(len(data.train.labels)))


def _halves(bundle: Bundle) -> tuple[nn.Module, nn.Module]:
    encoder, decoder = getattr(bundle.net.net, "encoder", None), getattr(bundle.net.net, "decoder", None)
    if not isinstance(encoder, nn.Module) or not isinstance(decoder, nn.Module):
        raise ModelMismatch(
            f"'{bundle.model['name']}' has no encoder and decoder modules; the generator needs both, as "
            "'autoencoder' has them"
        )
    return nn.Sequential(bundle.net.scaling, encoder), decoder


def _floor(decoder: Bundle, judge: Bundle, data: TrainingData, frechet: float) -> Found:
    """What real images score: the best that any sampler can hope for."""
    real = recognise(judge.net, data.test.pixels)
    rebuilt = predict_in_batches(decoder.cleaned, data.test.pixels)
    first = torch.arange(min(PAIRED, len(rebuilt)))
    numbers = {
        "recognised": real.share,
        "reconstructed": recognise(judge.net, rebuilt).share,
        "frechet": frechet,
    }
    return numbers, {"images": data.test.pixels[first].numpy(), "reconstructions": as_bytes(rebuilt[first])}


def as_bytes(images: Float[Tensor, "n c h w"]) -> UInt8[np.ndarray, "n c h w"]:
    """Images in [0, 1] as bytes."""
    return (images * 255).round().to(torch.uint8).numpy()

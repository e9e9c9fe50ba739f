"""Scores of a trained network: learning curves after each epoch, and all scores once at the end."""

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from inklab.evaluation.scores import classification_scores, reconstruction_scores
from inklab.networks.layers import NormalizedModel
from inklab.seeding import Seed
from inklab.training.batches import TensorSet, TrainingData, scoring_inputs
from inklab.training.objectives import Objective
from inklab.training.recipe import Recipe
from inklab.training.step import cast_weights, fp32_param_names

LOOKED_AT = 5_000  # training images behind a training accuracy: as many as MNIST's validation images have


class EpochMetrics:
    """Points of learning curves, computed in the precision that the network is trained in.

    Args:
        objective: decides what is measured: accuracy and cross-entropy, or cross-entropy a pixel.
        data: all images; the test images are not looked at.
        recipe: says how images are corrupted that a denoiser is shown; the same noise each time.
        seed: the study's root seed.
        precision: "fp32" or "bf16".
    """

    def __init__(
        self, objective: Objective, data: TrainingData, recipe: Recipe, seed: Seed, precision: str
    ) -> None:
        self.objective, self.precision, self.validation = objective, precision, data.validation
        index = evenly_spaced(len(data.train.labels), LOOKED_AT)
        self.train = TensorSet(data.train.pixels[index], data.train.labels[index])
        if objective.target == "images":
            self.shown = scoring_inputs(data.validation, recipe.scored_with, seed / "validation noise")

    def after_epoch(self, net: NormalizedModel) -> dict[str, float]:
        """One point: `validation_loss`, for classifiers both accuracies; less without validation images."""
        quick = autocast_to(net, self.precision)
        if self.objective.target == "images":
            return (
                {"validation_loss": _bce(quick, self.shown, self.validation)}
                if len(self.validation.labels)
                else {}
            )
        point = {
            "train_accuracy": classification_scores(quick, self.train.pixels, self.train.labels).accuracy
        }
        if len(self.validation.labels):
            scores = classification_scores(quick, self.validation.pixels, self.validation.labels)
            point |= {"validation_loss": scores.loss, "validation_accuracy": scores.accuracy}
        return point


def final_scores(
    net: NormalizedModel, objective: Objective, recipe: Recipe, data: TrainingData, seed: Seed
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Score a trained network in fp32, as it will be used. The one place that looks at test images.

    Returns:
        Scores by name, and arrays to keep: predictions, or examples of a denoiser.
    """
    if objective.target == "images":
        return _denoiser_scores(net, recipe, data, seed)
    scores: dict[str, float] = {}
    for name, part in (("validation", data.validation), ("test", data.test)):
        if len(part.labels):
            measured = classification_scores(net, part.pixels, part.labels)
            scores |= {f"{name}_accuracy": measured.accuracy, f"{name}_loss": measured.loss}
    return scores, {
        "predicted": torch.from_numpy(measured.predicted), "confidence": torch.from_numpy(measured.confidence)
    }  # fmt: skip


def _denoiser_scores(
    net: NormalizedModel, recipe: Recipe, data: TrainingData, seed: Seed
) -> tuple[dict[str, float], dict[str, Tensor]]:
    scores: dict[str, float] = {}
    for name, part in (("validation", data.validation), ("test", data.test)):
        if len(part.labels):
            shown = scoring_inputs(part, recipe.scored_with, seed / f"{name} noise")
            measured = reconstruction_scores(net, shown, part.images(torch.arange(len(part.labels))))
            scores |= {f"{name}_bce": measured.bce, f"{name}_psnr": measured.psnr}
    first = [
        int((data.test.labels == label).nonzero()[0])
        for label in range(len(data.labels))
        if (data.test.labels == label).any()
    ][:10]
    clean, spoilt = data.test.images(torch.tensor(first)), shown[torch.tensor(first)]
    with torch.inference_mode():
        cleaned = torch.sigmoid(net(spoilt))
    return scores, {
        name: (images * 255).round().to(torch.uint8)
        for name, images in (("clean", clean), ("shown", spoilt), ("output", cleaned))
    }


def _bce(net: nn.Module, shown: Float[Tensor, "n c h w"], part: TensorSet) -> float:
    return reconstruction_scores(net, shown, part.images(torch.arange(len(part.labels)))).bce


def autocast_to(net: NormalizedModel, precision: str) -> NormalizedModel:
    """A copy that computes in a precision. Buffers such as the scaling's stay fp32."""
    quick = copy.deepcopy(net)
    whole = fp32_param_names(net)
    for name, parameter in quick.named_parameters():
        parameter.data = cast_weights(parameter.data, "fp32" if name in whole else precision)
    return quick


def evenly_spaced(count: int, most: int) -> Int[Tensor, " m"]:
    """At most so many places, evenly over all: of images that lie class by class, some of every class.

    Example:
        >>> evenly_spaced(10, 4).tolist(), evenly_spaced(2, 4).tolist()
        ([0, 2, 5, 7], [0, 1])
    """
    taken = min(count, most)
    return torch.arange(taken) * count // max(taken, 1)

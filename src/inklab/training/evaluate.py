"""Evaluation of a network in training: learning curves after each epoch, and all metrics once at the end."""

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inklab.evaluation.scores import classification_scores, reconstruction_scores
from inklab.networks.layers import NormalizedModel
from inklab.records.recipe import Precision, Recipe
from inklab.seeding import Seed
from inklab.training.batches import TensorSet, TrainingData, evaluation_inputs
from inklab.training.objectives import Objective
from inklab.training.step import cast_weights, fp32_param_names

MAX_TRAIN_IMAGES = 5_000
"""Training images behind a training accuracy: as many as MNIST's validation images."""

N_EXAMPLES = 10
"""Images that are kept of a denoiser: the first of each class, for so many classes."""


class EpochMetrics:
    """Points of learning curves, computed in the precision that the network is trained in.

    The task decides what is measured: accuracy and cross-entropy, or cross-entropy per pixel, of inputs with
    the same noise each time. The test set is not used.
    """

    def __init__(
        self, objective: Objective, data: TrainingData, recipe: Recipe, seed: Seed, precision: Precision
    ) -> None:
        self.objective, self.precision, self.validation = objective, precision, data.validation
        index = evenly_spaced(len(data.train), MAX_TRAIN_IMAGES)
        self.train = TensorSet(data.train.pixels[index], data.train.labels[index])
        if objective.task == "denoising":
            seed = seed / "validation noise"
            self.inputs = evaluation_inputs(data.validation, recipe.eval_corruption, seed)

    def after_epoch(self, net: NormalizedModel) -> dict[str, float]:
        """One point: `validation_loss`, of classifiers both accuracies; fewer without validation images."""
        net = cast_copy(net, self.precision)
        has_validation = len(self.validation) > 0
        if self.objective.task == "denoising":
            if not has_validation:
                return {}
            reconstruction = reconstruction_scores(net, self.inputs, self.validation.all_images)
            return {"validation_loss": reconstruction.bce}
        train = classification_scores(net, self.train.pixels, self.train.labels)
        point = {"train_accuracy": train.accuracy}
        if has_validation:
            validation = classification_scores(net, self.validation.pixels, self.validation.labels)
            point |= {"validation_loss": validation.loss, "validation_accuracy": validation.accuracy}
        return point


def final_metrics(
    net: NormalizedModel, objective: Objective, recipe: Recipe, data: TrainingData, seed: Seed
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Evaluate a trained network in fp32, as it will be used. Nothing else in training uses the test set.

    Returns:
        Metrics by name, and arrays to keep: predictions, or examples of a denoiser.
    """
    metrics: dict[str, float] = {}
    for split, images in (("validation", data.validation), ("test", data.test)):
        if not len(images):
            continue
        if objective.task == "denoising":
            inputs = evaluation_inputs(images, recipe.eval_corruption, seed / f"{split} noise")
            reconstruction = reconstruction_scores(net, inputs, images.all_images)
            metrics |= {f"{split}_bce": reconstruction.bce, f"{split}_psnr": reconstruction.psnr}
        else:
            scores = classification_scores(net, images.pixels, images.labels)
            metrics |= {f"{split}_accuracy": scores.accuracy, f"{split}_loss": scores.loss}
    if objective.task == "denoising":
        return metrics, _examples(net, data.test, inputs)
    predictions = {"predicted": scores.predicted, "confidence": scores.confidence}
    return metrics, {name: torch.from_numpy(array) for name, array in predictions.items()}


def _examples(net: NormalizedModel, test: TensorSet, inputs: Float[Tensor, "n c h w"]) -> dict[str, Tensor]:
    """The first test image of each class: clean, as the input, and denoised; as bytes."""
    labels = sorted(set(test.labels.tolist()))[:N_EXAMPLES]
    index = torch.tensor([int((test.labels == label).nonzero()[0]) for label in labels])
    with torch.inference_mode():
        outputs = torch.sigmoid(net(inputs[index]))
    images = {"clean": test.images(index), "inputs": inputs[index], "outputs": outputs}
    return {name: (values * 255).round().to(torch.uint8) for name, values in images.items()}


def cast_copy(net: NormalizedModel, precision: Precision) -> NormalizedModel:
    """A copy that computes in a precision. Buffers such as the normalization's stay fp32."""
    net = copy.deepcopy(net)
    fp32_params = fp32_param_names(net)
    for name, parameter in net.named_parameters():
        parameter.data = cast_weights(parameter.data, "fp32" if name in fp32_params else precision)
    return net


def evenly_spaced(count: int, n: int) -> Int[Tensor, " m"]:
    """At most n indices, evenly over all: of images sorted by class, they include some of every class.

    Example:
        >>> evenly_spaced(10, 4).tolist(), evenly_spaced(2, 4).tolist()
        ([0, 2, 5, 7], [0, 1])
    """
    n = min(count, n)
    return torch.arange(n) * count // max(n, 1)

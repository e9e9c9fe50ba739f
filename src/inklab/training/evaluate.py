"""Evaluation of a network in training: learning curves after each epoch, and all metrics once at the end."""

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from inklab.errors import format_error
from inklab.evaluation.class_metrics import class_metrics
from inklab.evaluation.scores import classification_scores, predict_in_batches, reconstruction_scores
from inklab.metrics import own_metrics
from inklab.networks.layers import NormalizedModel
from inklab.records.recipe import Precision, Recipe
from inklab.records.record import MAX_NUMBER
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
        index = evenly_spaced(len(data.train), MAX_TRAIN_IMAGES).to(data.train.device)
        self.train = TensorSet(data.train.pixels[index], data.train.labels[index])
        if objective.task == "denoising":
            seed = seed / "validation noise"
            self.inputs = evaluation_inputs(data.validation, recipe.eval_corruption, seed)

    def after_epoch(self, net: NormalizedModel) -> dict[str, float]:
        """One point: `validation_loss`, of classifiers both accuracies; fewer without validation images."""
        net = in_precision(net, self.precision)
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


class FinalMetrics(NamedTuple):
    """What is measured of a trained network.

    Attributes:
        metrics: values by name, with the split in front.
        arrays: to keep: predictions, or examples of a denoiser.
        absent: why metrics of the user's own could not be computed, by name.
    """

    metrics: dict[str, float]
    arrays: dict[str, Tensor]
    absent: dict[str, str]


def final_metrics(
    net: NormalizedModel,
    objective: Objective,
    recipe: Recipe,
    data: TrainingData,
    seed: Seed,
    own: Sequence[str] = (),
) -> FinalMetrics:
    """Evaluate a trained network in fp32, as it will be used. Nothing else in training uses the test set.

    Network and data lie on one device; what is returned lies on the processor. `own` are metrics of the
    user's own, by what experiments call them.
    """
    metrics: dict[str, float] = {}
    absent: dict[str, str] = {}
    for split, images in (("validation", data.validation), ("test", data.test)):
        if not len(images):
            continue
        if objective.task == "denoising":
            inputs = evaluation_inputs(images, recipe.eval_corruption, seed / f"{split} noise")
            reconstruction = reconstruction_scores(net, inputs, images.all_images)
            measured = {"bce": reconstruction.bce, "psnr": reconstruction.psnr}
        else:
            scores = classification_scores(net, images.pixels, images.labels)
            measured = {"accuracy": scores.accuracy, "loss": scores.loss}
        if all(map(math.isfinite, measured.values())):  # else it has diverged
            if objective.task == "classification":
                measured_on = scores.probabilities, images.labels.cpu().numpy()
                measured |= class_metrics(*measured_on, data.labels)
            elif own:
                outputs = torch.sigmoid(predict_in_batches(net, inputs))
                measured_on = outputs.cpu().numpy(), images.all_images.cpu().numpy()
            for name in own:
                measured |= _measure_own(name, *measured_on, absent)
        metrics |= {f"{split}_{name}": value for name, value in measured.items()}
    if objective.task == "denoising":
        return FinalMetrics(metrics, _examples(net, data.test, inputs), absent)
    predictions = {"predicted": scores.predicted, "confidence": scores.confidence}
    arrays = {name: torch.from_numpy(array) for name, array in predictions.items()}
    return FinalMetrics(metrics, arrays, absent)


def _measure_own(
    name: str, outputs: np.ndarray, truth: np.ndarray, absent: dict[str, str]
) -> dict[str, float]:
    """A metric of the user's own by its name in results; nothing if it fails, and then why in `absent`."""
    own = own_metrics.resolve(name)
    key, limit = own.metric.key, 1.0 if own.metric.is_share else MAX_NUMBER
    try:
        value = float(own.compute(outputs.copy(), truth.copy()))
    except Exception as error:  # a mistake in a metric must not cost a training
        absent[key] = f"it raised {type(error).__name__}: {format_error(error)}"
        return {}
    if (0 if own.metric.is_share else -limit) <= value <= limit:  # false of NaN
        return {key: value}
    absent[key] = f"it returned {value:g}" + (", which is no share in [0, 1]" if own.metric.is_share else "")
    return {}


def _examples(net: NormalizedModel, test: TensorSet, inputs: Float[Tensor, "n c h w"]) -> dict[str, Tensor]:
    """The first test image of each class: clean, as the input, and denoised; as bytes."""
    labels = sorted(set(test.labels.tolist()))[:N_EXAMPLES]
    firsts = [int((test.labels == label).nonzero()[0]) for label in labels]
    index = torch.tensor(firsts, device=test.device)
    with torch.inference_mode():
        outputs = torch.sigmoid(net(inputs[index]))
    images = {"clean": test.images(index), "inputs": inputs[index], "outputs": outputs}
    return {name: (values * 255).round().to(torch.uint8).cpu() for name, values in images.items()}


def in_precision(net: NormalizedModel, precision: Precision) -> NormalizedModel:
    """A copy that computes in bf16, or the network itself for fp32. Buffers such as the mean stay fp32."""
    if precision == "fp32":
        return net
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

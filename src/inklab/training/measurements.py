"""What diagnoses are made from: a network before and after training, measured on some training images.

Everything is measured on copies, with torch's generators put back: training ends in the same bits with and
without it. The network before training is built again from its seed.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase

from inklab.networks.layers import Dropout, NormalizedModel, for_inference
from inklab.records.outcomes import History
from inklab.records.plan import Trial
from inklab.records.recipe import Recipe
from inklab.seeding import Seed
from inklab.stats import wilson
from inklab.training.batches import TensorSet, TrainingData, batch_sizes, evaluation_inputs
from inklab.training.evaluate import evenly_spaced
from inklab.training.network_measurements import (
    NetworkMeasurements,
    Probe,
    longer_step,
    measure_network,
    midpoint_error,
    rms,
)
from inklab.training.objectives import Batch, Objective, objectives
from inklab.training.population import build_normalized
from inklab.usercode import is_user_code

N_IMAGES = 256
"""Training images that networks are measured on: before training forward and backward, after it forward."""

N_LABELED = 2_000
"""Training images whose labels are compared with a nearest-centroid classifier of pixels."""

OUTPUT_SHIFT = 3.0  # added to all outputs of an image, which no loss of logits can see


@dataclass(frozen=True)
class TrainingMeasurements(ABC):
    """What rules look at: one training.

    Attributes:
        recipe: how it was trained.
        history: learning curves.
        divergence: why it ended early, if it diverged; `after` is then the network before training.
        steps: that it took, of all members alike.
        images: `(n, c, h, w)` clean training images in [0, 1].
        inputs: `(n, c, h, w)` what the networks were given.
        n_validation: validation images.
        before: the network before training.
        after: the network after it.
        longer_step_loss: loss on other training images after one more step of 30 times the learning rate,
            divided by the loss before it; None if it was not tried, as where the loss is low.
        midpoint_error: how far the outputs of the mean of two images are from the mean of their outputs,
            relative to the outputs' spread; 0 for a linear network.
        dropout: largest share that a layer sets to zero; 0 without such layers.
        has_batch_norm: whether some layer is a BatchNorm.
    """

    LOW_LOSS: ClassVar[float]
    """Share of what there is to learn, below which a loss is low."""

    recipe: Recipe
    history: History
    divergence: str | None
    steps: int
    images: Float[Tensor, "n c h w"]
    inputs: Float[Tensor, "n c h w"]
    n_validation: int
    before: NetworkMeasurements
    after: NetworkMeasurements
    longer_step_loss: float | None
    midpoint_error: float
    dropout: float
    has_batch_norm: bool

    @property
    def has_contrast(self) -> bool:
        """Whether there is something to learn: images that are not all the same."""
        return float(self.images.std()) > 0

    @property
    @abstractmethod
    def guess_loss(self) -> float:
        """The loss in nats of the best answer that is the same for every image."""

    @property
    def least_loss(self) -> float:
        """The loss of perfect answers."""
        return 0.0

    @property
    def flat_loss(self) -> float:
        """The loss of a network without an opinion, as a fresh one should be."""
        return self.guess_loss

    @property
    @abstractmethod
    def is_at_chance(self) -> bool:
        """Whether it answers no better than the same for every image."""

    @property
    @abstractmethod
    def has_learned_well(self) -> bool:
        """Whether no setting can be called wrong."""

    @property
    @abstractmethod
    def has_learned_little(self) -> bool:
        """Whether most of what there is to learn is left."""

    @property
    @abstractmethod
    def losses(self) -> Sequence[float]:
        """The loss after each epoch, of training where that is comparable with `guess_loss`."""

    @property
    @abstractmethod
    def result(self) -> str:
        """What came out, in a clause with its numbers."""

    @property
    @abstractmethod
    def scores(self) -> dict[str, float]:
        """What came out, as evidence."""

    def loss_share(self, loss: float) -> float:
        """Which share of what there is to learn a loss leaves: 1 for guessing, 0 for perfect answers."""
        span = self.guess_loss - self.least_loss
        return (loss - self.least_loss) / span if span > 0 else 1.0

    @property
    def has_low_loss(self) -> bool:
        """Whether the loss on training images is low."""
        return self.loss_share(self.after.loss) < self.LOW_LOSS

    @property
    def input_ratio(self) -> float:
        """The spread of what enters the first layer with weights, over that of the inputs; 0 without one."""
        spread = float(self.inputs.std())
        return self.before.layers[0].input_std / spread if self.before.layers and spread > 0 else 0.0

    @property
    def has_died(self) -> bool:
        """Whether nine of ten inputs of some layer fell silent in training."""
        pairs = zip(self.before.layers, self.after.layers, strict=False)
        return any(old.silent_inputs < 0.9 <= new.silent_inputs for old, new in pairs)

    @property
    def change(self) -> float:
        """The largest relative change of a kernel over the training."""
        pairs = zip(self.before.layers, self.after.layers, strict=False)
        changes = [rms(b.weights - a.weights) / max(a.weight_rms, 1e-12) for a, b in pairs]
        return max((change for change in changes if math.isfinite(change)), default=0.0)

    @property
    def shrinkage(self) -> float:
        """Root mean square of all kernels after training, over that before."""
        sums = [sum(float(layer.weights.double().square().sum()) for layer in part.layers)
                for part in (self.before, self.after)]  # fmt: skip
        return math.sqrt(sums[1] / sums[0]) if sums[0] > 0 else 1.0


@dataclass(frozen=True)
class ClassifierMeasurements(TrainingMeasurements):
    """What rules look at: one training of a classifier.

    Attributes:
        labels: `(n,)` classes of the images.
        class_counts: training images of each class.
        answers: predicted and true classes of images, by the name of their split; always "training".
        label_z: by how many standard errors a nearest-centroid classifier of pixels beats labels that are
            unrelated to the images; None with too few images.
        shift_error: by how much the training loss changes, relative to it, if the same number is added to
            all outputs of an image; 0 for losses of logits.
    """

    LOW_LOSS = 0.3

    labels: Int[Tensor, " n"]
    class_counts: Int[Tensor, " k"]
    answers: Mapping[str, tuple[Int[Tensor, "..."], Int[Tensor, "..."]]]
    label_z: float | None
    shift_error: float

    @property
    def has_contrast(self) -> bool:
        """Whether images and classes differ."""
        return super().has_contrast and int((self.class_counts > 0).sum()) > 1

    @property
    def guess_loss(self) -> float:
        """The loss in nats of guessing by the classes' frequencies."""
        shares = self.class_counts[self.class_counts > 0].double() / self.class_counts.sum()
        return float(-(shares * shares.log()).sum())

    @property
    def accuracy(self) -> float:
        """Share of validation images classified correctly; of training images without validation ones."""
        columns = (self.history.validation_accuracy, self.history.train_accuracy)
        return next((column[-1] for column in columns if column and column[-1] is not None), 0.0)

    @property
    def train_accuracy(self) -> float:
        """Share of training images classified correctly after the last epoch."""
        column = self.history.values("train_accuracy")
        return column[-1] if column else 0.0

    @property
    def largest_share(self) -> float:
        """The share of the largest class: the accuracy of always answering it."""
        return float(self.class_counts.max() / self.class_counts.sum())

    @property
    def n_images(self) -> int:
        """Images behind `accuracy`."""
        return self.n_validation or int(self.class_counts.sum())

    @property
    def is_at_chance(self) -> bool:
        """Whether the accuracy is within the 95 % interval of the largest class's share, or below it."""
        return self.accuracy <= wilson(self.largest_share, self.n_images)[1]

    @property
    def has_learned_well(self) -> bool:
        """Whether more than 0.9 of the training images are classified correctly."""
        return self.train_accuracy > 0.9

    @property
    def has_learned_little(self) -> bool:
        """Whether at most half of the training images are classified correctly."""
        return self.train_accuracy <= 0.5

    @property
    def losses(self) -> Sequence[float]:
        """The training loss of each epoch."""
        return self.history.values("train_loss")

    @property
    def result(self) -> str:
        """Accuracy and loss."""
        return f"the accuracy is {self.accuracy:.1%} and the loss {self.after.loss:.3g}"

    @property
    def scores(self) -> dict[str, float]:
        """The accuracy on training images."""
        return {"train_accuracy": self.train_accuracy}

    @property
    def predicted_share(self) -> float:
        """The share of the images that are predicted as the class that is predicted most."""
        return float(self.after.outputs.argmax(1).bincount().max() / len(self.labels))


@dataclass(frozen=True)
class DenoiserMeasurements(TrainingMeasurements):
    """What rules look at: one training of a denoiser. Losses are cross-entropies per pixel.

    Attributes:
        user_objective: whether the loss is of the user's own.
    """

    LOW_LOSS = 0.5  # with noise, much of what the mean image leaves can't be known

    user_objective: bool

    @property
    def guess_loss(self) -> float:
        """The loss in nats of answering with the mean image."""
        return _pixel_entropy(self.images.mean(0))

    @property
    def least_loss(self) -> float:
        """The entropy of the clean images' pixels."""
        return _pixel_entropy(self.images)

    @property
    def flat_loss(self) -> float:
        """The loss of answering one half, if the mean image's is not higher."""
        return max(self.guess_loss, math.log(2))

    @property
    def is_at_chance(self) -> bool:
        """Whether it is no better than the mean image."""
        return not self.loss_share(self.after.loss) < 0.98

    @property
    def has_learned_well(self) -> bool:
        """Whether half of what the mean image leaves is learned."""
        return self.has_low_loss

    @property
    def has_learned_little(self) -> bool:
        """Whether at most a fifth of what the mean image leaves is learned."""
        return not self.loss_share(self.after.loss) < 0.8

    @property
    def losses(self) -> Sequence[float]:
        """The validation loss, which does not depend on the objective; the training loss without it."""
        return self.history.values("validation_loss") or self.history.values("train_loss")

    @property
    def result(self) -> str:
        """The loss, and that of the mean image."""
        return (
            f"the cross-entropy per pixel is {self.after.loss:.3g}, that of answering with the mean image "
            f"{self.guess_loss:.3g}"
        )

    @property
    def scores(self) -> dict[str, float]:
        """Both of them."""
        return {"loss": self.after.loss, "mean_image_loss": self.guess_loss}

    @property
    def pixel_errors(self) -> "PixelErrors":
        """How far outputs are from the clean images, as they are and after a sigmoid."""
        outputs = self.after.outputs
        errors = [float((pixels - self.images).square().mean()) for pixels in (outputs, outputs.sigmoid())]
        return PixelErrors(*errors)


class PixelErrors(NamedTuple):
    """Mean squared errors of outputs as they are, and after a sigmoid."""

    plain: float
    sigmoid: float


def _pixel_entropy(images: Float[Tensor, "..."]) -> float:
    """The mean cross-entropy in nats of pixels with themselves."""
    return float(functional.binary_cross_entropy(images, images))


def measure_training(
    trial: Trial,
    net: NormalizedModel,
    history: History,
    data: TrainingData,
    seed: int,
    divergence: str | None = None,
    test_predictions: Int[Tensor, " n"] | None = None,
) -> TrainingMeasurements:
    """Measure a network after its training, or after an epoch of it. Nothing that is given is changed.

    `seed` is the root of all randomness, from which the network before training is built again.
    `test_predictions` are the predicted classes of all test images.
    """
    recipe = trial.config.recipe
    objective = objectives.resolve(recipe.objective)
    index = evenly_spaced(len(data.train), N_IMAGES)
    sample = TensorSet(data.train.pixels_at(index), data.train.labels[index])
    with Seed(0).as_global(), torch.enable_grad():
        probe = _probe(sample, objective, recipe)
        start = build_normalized(
            trial.config, data.shape, len(data.labels), Seed(seed) / "replicate" / trial.replicate / "weights"
        )
        before = measure_network(for_inference(start), probe, gradients=True)
        end = start if divergence else copy.deepcopy(net).eval()
        after = before if divergence else measure_network(end, probe, gradients=False)
        shared: dict[str, Any] = dict(  # noqa: C408  (fields, which keyword syntax shows best)
            recipe=recipe, history=history, divergence=divergence,
            steps=len(history.epoch) * len(batch_sizes(len(data.train), recipe.batch_size)),
            images=sample.all_images, inputs=probe.inputs, n_validation=len(data.validation),
            before=before, after=after, longer_step_loss=None,
            midpoint_error=midpoint_error(end, probe, after.outputs), dropout=_largest_dropout(end),
            has_batch_norm=any(isinstance(module, _NormBase) for module in end.modules()),
        )  # fmt: skip
        measured: TrainingMeasurements
        if objective.task == "denoising":
            measured = DenoiserMeasurements(**shared, user_objective=is_user_code(objective.name))
        else:
            answers = {"training": (after.outputs.argmax(1), sample.labels)}
            if test_predictions is not None:
                answers["test"] = test_predictions.long(), data.test.labels
            measured = ClassifierMeasurements(
                **shared, labels=sample.labels, answers=answers, label_z=label_information(data),
                class_counts=torch.bincount(data.train.labels, minlength=len(data.labels)),
                shift_error=_shift_error(end, objective, probe),
            )  # fmt: skip
        if divergence or measured.has_low_loss:
            return measured
        return replace(measured, longer_step_loss=longer_step(end, recipe, probe))


def _probe(sample: TensorSet, objective: Objective, recipe: Recipe) -> Probe:
    """Images as networks are evaluated with them: classifiers on clean ones."""
    if objective.task == "classification":
        return Probe(sample.all_images, sample.labels, functional.cross_entropy)
    inputs = evaluation_inputs(sample, recipe.eval_corruption, Seed(0) / "diagnosis noise")
    return Probe(inputs, sample.all_images, functional.binary_cross_entropy_with_logits)


def _largest_dropout(net: nn.Module) -> float:
    dropouts = [module.share if isinstance(module, Dropout) else module.p for module in net.modules()
                if isinstance(module, (Dropout, nn.modules.dropout._DropoutNd))]  # fmt: skip
    return max(map(float, dropouts), default=0.0)


@lru_cache(maxsize=1)  # it depends on the data alone
def label_information(data: TrainingData) -> float | None:
    """By how many standard errors the nearest centroid of half of the images tells labels of the other half.

    None with fewer than 200 images or fewer than 10 a class.
    """
    index = evenly_spaced(len(data.train), N_LABELED)
    labels, images = data.train.labels[index], data.train.images(index).flatten(1)
    n_classes = len(labels.bincount().nonzero())
    if len(labels) < max(200, 10 * n_classes) or n_classes < 2:
        return None
    half = torch.randperm(len(labels), generator=(Seed(0) / "label information").generator())
    known, unknown = half[: len(half) // 2], half[len(half) // 2 :]
    present = labels[known].bincount().nonzero().flatten()
    centroids = torch.stack([images[known][labels[known] == label].mean(0) for label in present])
    predicted = present[torch.cdist(images[unknown], centroids).argmin(1)]
    n, k = len(unknown), int(labels.max()) + 1
    shares = [torch.bincount(part, minlength=k).double() / n for part in (predicted, labels[unknown])]
    chance = float((shares[0] * shares[1]).sum())
    hits = float((predicted == labels[unknown]).double().mean())
    return (hits - chance) / max(math.sqrt(chance * (1 - chance) / n), 1e-9)


def _shift_error(net: NormalizedModel, objective: Objective, probe: Probe) -> float:
    if not is_user_code(objective.name):
        return 0.0
    batch = Batch(probe.inputs, probe.targets, probe.inputs)
    with torch.no_grad():
        plain = float(objective.loss(lambda inputs: net(inputs).float(), batch))
        shifted = float(objective.loss(lambda inputs: net(inputs).float() + OUTPUT_SHIFT, batch))
    return abs(shifted - plain) / max(abs(plain), 1e-6)

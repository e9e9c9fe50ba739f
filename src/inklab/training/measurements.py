"""What diagnoses are made from: a network before and after training, measured on some training images.

Everything is measured on copies, with torch's generators put back: training ends in the same bits with and
without it. The network before training is built again from its seed.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from inklab.networks.layers import Dropout, NormalizedModel, for_inference
from inklab.records.outcomes import History
from inklab.records.plan import Trial
from inklab.records.recipe import Recipe
from inklab.seeding import Seed
from inklab.stats import wilson
from inklab.training.batches import TrainingData, batch_sizes
from inklab.training.evaluate import evenly_spaced
from inklab.training.objectives import Batch, Objective, objectives
from inklab.training.population import build_normalized
from inklab.usercode import is_user_code

N_IMAGES = 256
"""Training images that networks are measured on: forward and backward, before and after training."""

N_LABELED = 2_000
"""Training images whose labels are compared with a nearest-centroid classifier of pixels."""

LONGER_STEP = 30.0
"""Times the learning rate of the step that is tried."""

OUTPUT_SHIFT = 3.0  # added to all outputs of an image, which no loss of logits can see


@dataclass(frozen=True)
class LayerMeasurements:
    """A layer with weights, on some training images.

    Attributes:
        name: of the module.
        input_std: standard deviation of what enters it.
        silent_inputs: share of its input features (of convolutions: channels) that are 0 for every image.
        weights: its kernel.
        gradient_rms: root mean square of the loss's gradient with respect to the kernel.
    """

    name: str
    input_std: float
    silent_inputs: float
    weights: Float[Tensor, "..."]
    gradient_rms: float

    @property
    def weight_rms(self) -> float:
        """Root mean square of the kernel."""
        return _rms(self.weights)

    @property
    def has_equal_units(self) -> bool:
        """Whether all its units, two or more, have the same weights."""
        rows = self.weights.flatten(1)
        return len(rows) > 1 and bool((rows == rows[0]).all())


@dataclass(frozen=True)
class NetworkMeasurements:
    """A classifier on some training images.

    Attributes:
        logits: `(n, k)`, one row an image.
        loss: cross-entropy in nats.
        layers: those with weights, in the order in which images pass them.
    """

    logits: Float[Tensor, "n k"]
    loss: float
    layers: tuple[LayerMeasurements, ...]

    @property
    def has_equal_units(self) -> bool:
        """Whether all units of some layer but the last have the same weights."""
        return any(layer.has_equal_units for layer in self.layers[:-1])


@dataclass(frozen=True)
class TrainingMeasurements:
    """What rules look at: one training of a classifier.

    Attributes:
        recipe: how it was trained.
        history: learning curves.
        divergence: why it ended early, if it diverged; `after` is then the network before training.
        steps: that it took, of all members alike.
        images: `(n, c, h, w)` training images in [0, 1].
        labels: `(n,)` their classes.
        class_counts: training images of each class.
        n_validation: validation images.
        before: the network before training.
        after: the network after it.
        answers: predicted and true classes of images, by the name of their split; always "training".
        label_z: by how many standard errors a nearest-centroid classifier of pixels beats labels that are
            unrelated to the images; None with too few images.
        longer_step_loss: loss on other training images after one more step of 30 times the learning rate,
            divided by the loss before it; None if it was not tried.
        midpoint_error: how far the outputs of the mean of two images are from the mean of their outputs,
            relative to the outputs' spread; 0 for a linear network.
        shift_error: by how much the training loss changes, relative to it, if the same number is added to
            all outputs of an image; 0 for losses of logits.
        dropout: largest share that a layer sets to zero; 0 without such layers.
        has_batch_norm: whether some layer is a BatchNorm.
    """

    recipe: Recipe
    history: History
    divergence: str | None
    steps: int
    images: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    class_counts: Int[Tensor, " k"]
    n_validation: int
    before: NetworkMeasurements
    after: NetworkMeasurements
    answers: Mapping[str, tuple[Int[Tensor, "..."], Int[Tensor, "..."]]]
    label_z: float | None
    longer_step_loss: float | None
    midpoint_error: float
    shift_error: float
    dropout: float
    has_batch_norm: bool

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
    def label_entropy(self) -> float:
        """The loss in nats of guessing by the classes' frequencies."""
        shares = self.class_counts[self.class_counts > 0].double() / self.class_counts.sum()
        return float(-(shares * shares.log()).sum())

    @property
    def n_images(self) -> int:
        """Images behind `accuracy`."""
        return self.n_validation or int(self.class_counts.sum())

    @property
    def is_at_chance(self) -> bool:
        """Whether the accuracy is within the 95 % interval of the largest class's share, or below it."""
        return self.accuracy <= wilson(self.largest_share, self.n_images)[1]

    @property
    def predicted_share(self) -> float:
        """The share of the images that are predicted as the class that is predicted most."""
        return float(self.after.logits.argmax(1).bincount().max() / len(self.labels))

    @property
    def change(self) -> float:
        """The largest relative change of a kernel over the training."""
        pairs = zip(self.before.layers, self.after.layers, strict=False)
        changes = [_rms(b.weights - a.weights) / max(a.weight_rms, 1e-12) for a, b in pairs]
        return max((change for change in changes if math.isfinite(change)), default=0.0)

    @property
    def shrinkage(self) -> float:
        """Root mean square of all kernels after training, over that before."""
        sums = [sum(float(layer.weights.double().square().sum()) for layer in part.layers)
                for part in (self.before, self.after)]  # fmt: skip
        return math.sqrt(sums[1] / sums[0]) if sums[0] > 0 else 1.0


def measure_training(
    trial: Trial,
    net: NormalizedModel,
    history: History,
    data: TrainingData,
    seed: int,
    divergence: str | None = None,
    test_predictions: Int[Tensor, " n"] | None = None,
) -> TrainingMeasurements:
    """Measure a classifier after its training, or after an epoch of it. Nothing that is given is changed.

    `seed` is the root of all randomness, from which the network before training is built again.
    `test_predictions` are the predicted classes of all test images.
    """
    recipe = trial.config.recipe
    objective = objectives.resolve(recipe.objective)
    index = evenly_spaced(len(data.train), N_IMAGES)
    images, labels = data.train.images(index), data.train.labels[index]
    answers = {} if test_predictions is None else {"test": (test_predictions.long(), data.test.labels)}
    with Seed(0).as_global(), torch.enable_grad():
        start = build_normalized(
            trial.config, data.shape, len(data.labels), Seed(seed) / "replicate" / trial.replicate / "weights"
        )
        before = measure_network(for_inference(start), images, labels)
        end = start if divergence else copy.deepcopy(net).eval()
        after = before if divergence else measure_network(end, images, labels)
        modules = [module for module in end.modules() if isinstance(module, nn.Module)]
        dropouts = [module.share if isinstance(module, Dropout) else module.p for module in modules
                    if isinstance(module, (Dropout, nn.modules.dropout._DropoutNd))]  # fmt: skip
        return TrainingMeasurements(
            recipe=recipe, history=history, divergence=divergence,
            steps=len(history.epoch) * len(batch_sizes(len(data.train), recipe.batch_size)),
            images=images, labels=labels,
            class_counts=torch.bincount(data.train.labels, minlength=len(data.labels)),
            n_validation=len(data.validation), before=before, after=after,
            answers={"training": (after.logits.argmax(1), labels), **answers},
            label_z=label_information(data), longer_step_loss=_longer_step(end, recipe, images, labels),
            midpoint_error=_midpoint_error(end, images, after.logits),
            shift_error=_shift_error(end, objective, images, labels),
            dropout=max(map(float, dropouts), default=0.0),
            has_batch_norm=any(isinstance(module, _NormBase) for module in modules),
        )  # fmt: skip


def measure_network(
    net: NormalizedModel, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]
) -> NetworkMeasurements:
    """Run a classifier in evaluation mode on some images, forward and backward, and watch its layers."""
    inputs: dict[str, Tensor] = {}
    params = dict(net.net.named_parameters())
    with _watch_inputs(net.net, inputs):
        logits = net(images).float()
    loss = nn.functional.cross_entropy(logits, labels)
    kernels = {name: params[f"{name}.weight".lstrip(".")] for name in inputs}
    trainable = [kernel for kernel in kernels.values() if kernel.requires_grad]
    gradients = iter(torch.autograd.grad(loss, trainable, allow_unused=True) if trainable else ())
    layers = []
    for name, kernel in kernels.items():
        gradient = next(gradients) if kernel.requires_grad else None
        entering = inputs[name].float()
        dims = [
            dim for dim in range(entering.dim()) if dim != (1 if entering.dim() == 4 else entering.dim() - 1)
        ]
        silent = (entering == 0).all(dims[0]) if len(dims) == 1 else (entering == 0).flatten(2).all(2).all(0)
        layers.append(
            LayerMeasurements(
                name, float(entering.std()), float(silent.float().mean()),
                kernel.detach().clone(), 0.0 if gradient is None else _rms(gradient),
            )
        )  # fmt: skip
    return NetworkMeasurements(logits.detach(), float(loss.detach()), tuple(layers))


@contextmanager
def _watch_inputs(net: nn.Module, inputs: dict[str, Tensor]) -> Iterator[None]:
    """Keep what first enters each layer with a kernel, in the order of the calls."""

    def hook_of(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, arguments: tuple[object, ...]) -> None:
            if arguments and isinstance(arguments[0], Tensor) and arguments[0].dim() in (2, 4):
                inputs.setdefault(name, arguments[0].detach())

        return hook

    hooks = [
        module.register_forward_pre_hook(hook_of(name))
        for name, module in net.named_modules()
        if isinstance(kernel := getattr(module, "weight", None), nn.Parameter) and kernel.dim() >= 2
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


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


def _longer_step(
    net: NormalizedModel, recipe: Recipe, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]
) -> float | None:
    """The loss after a step of `LONGER_STEP` times the learning rate, relative to the loss before it.

    The step is taken on one half of the images, and its loss is that of the other half.
    """
    params = [value for value in net.parameters() if value.requires_grad]
    if len(labels) < 32 or not params:
        return None
    loss = nn.functional.cross_entropy(net(images[::2]).float(), labels[::2])
    grads = torch.autograd.grad(loss, params, allow_unused=True)
    rate = LONGER_STEP * recipe.learning_rate / (1 - recipe.momentum)
    moved = copy.deepcopy(net)
    with torch.no_grad():
        others = [value for value in moved.parameters() if value.requires_grad]
        for value, grad in zip(others, grads, strict=True):
            if grad is not None:
                value.sub_(rate * (grad if recipe.optimizer == "sgd" else grad.sign()))
        old, new = (
            float(nn.functional.cross_entropy(model(images[1::2]).float(), labels[1::2]))
            for model in (net, moved)
        )
    return new / old if old > 0 and math.isfinite(new / old) else None


def _midpoint_error(
    net: NormalizedModel, images: Float[Tensor, "n c h w"], logits: Float[Tensor, "n k"]
) -> float:
    other = logits.roll(1, 0)
    with torch.no_grad():
        middle = net((images + images.roll(1, 0)) / 2).float()
    return float((middle - (logits + other) / 2).abs().max() / max(float(logits.std()), 1e-12))


def _shift_error(
    net: NormalizedModel,
    objective: Objective,
    images: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
) -> float:
    if not is_user_code(objective.name):
        return 0.0
    batch = Batch(images, labels, images)
    with torch.no_grad():
        plain = float(objective.loss(lambda inputs: net(inputs).float(), batch))
        shifted = float(objective.loss(lambda inputs: net(inputs).float() + OUTPUT_SHIFT, batch))
    return abs(shifted - plain) / max(abs(plain), 1e-6)


def _rms(values: Tensor) -> float:
    return float(values.detach().double().square().mean().sqrt())

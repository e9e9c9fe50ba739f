"""Objectives: what a network is trained for, as a loss."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from inklab.errors import ConfigError
from inklab.metrics import Task
from inklab.records.recipe import Recipe
from inklab.registry import Registry, registered_entry
from inklab.usercode import require_function, short_name

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8
    from torch import Tensor

ADVERSARIAL_STEP = 0.1  # how far each pixel is moved, image range 0 to 1
STEP_PASSES = 3  # forward passes that a plain training step costs: one, and two for the gradient
LABEL_SMOOTHING = 0.1  # Szegedy et al., "Rethinking the Inception architecture" (2016), section 7

Forward = Callable[["Tensor"], "Tensor"]
"""Images `(n, c, h, w)` in [0, 1] to logits in float32."""


class Batch(NamedTuple):
    """The images of one step.

    Attributes:
        images: `(n, c, h, w)` clean images. An objective gets floats in [0, 1]; until then they are bytes.
        labels: `(n,)` integers in [0, k).
        inputs: what the network is given: the clean images, or a corrupted copy.
    """

    images: 'Float[Tensor, "..."] | UInt8[Tensor, "..."]'
    labels: 'Int[Tensor, "..."]'
    inputs: 'Float[Tensor, "..."] | UInt8[Tensor, "..."]'


LossFn = Callable[..., "Tensor"]
"""`(net, batch) -> scalar`, and `(net, batch, *, cross_entropy)` of a classifier whose loss uses it."""

CrossEntropy = Callable[["Tensor", "Tensor"], "Tensor"]
"""Logits `(n, k)` and labels `(n,)` to a scalar, with a recipe's label smoothing and class weights."""


@dataclass(frozen=True)
class Objective:
    """A loss, and what it is for.

    Attributes:
        name: what recipes call it.
        loss: `(net, batch) -> scalar`, a pure function of torch operations.
        task: "classification" (the network returns logits of classes) or "denoising" (logits of pixels).
        description: the first line of the function's docstring.
        label: what reports call the loss.
        cost: of a training step, in forward passes; a rough number for estimates.
    """

    name: str
    loss: LossFn
    task: Task
    description: str
    label: str
    cost: int = STEP_PASSES

    @property
    def is_metric(self) -> bool:
        """Whether its loss is also the one that is evaluated; that of a classifier is plain cross-entropy."""
        return self.task == "denoising" or self.name == "classify"

    def check(self, recipe: Recipe, n_classes: int, n_validation: int) -> None:
        """Refuse a recipe whose settings do not fit this objective or the data.

        Raises:
            ConfigError: label smoothing or class weights, but the loss does not use them; not one weight for
                each class; early stopping without validation images, or by what is not measured.
        """
        weights, stopping = recipe.class_weights, recipe.early_stopping
        for key, is_set in (("label_smoothing", recipe.label_smoothing), ("class_weights", weights)):
            if is_set and not self._takes_cross_entropy:
                known = [name for name, entry in objectives.all().items() if entry._takes_cross_entropy]
                raise ConfigError(
                    f"{key} is set, but objective '{short_name(self.name)}' does not use it; of the built-in "
                    f"ones do {', '.join(known)}, of your own those with an argument *, cross_entropy",
                    key=f"recipe.{key}",
                )
        if isinstance(weights, tuple) and len(weights) != n_classes:
            raise ConfigError(
                f"class_weights has {len(weights)} numbers, but the data has {n_classes} classes",
                key="recipe.class_weights",
            )
        if stopping and not n_validation:
            raise ConfigError(
                "early_stopping needs validation images, but none are held out; set data.validation or "
                "leave early_stopping out",
                key="recipe.early_stopping",
            )
        if stopping and self.task == "denoising" and stopping.metric != "validation_loss":
            raise ConfigError(
                f"early_stopping.metric is {stopping.metric}, which denoisers do not have; use "
                "validation_loss",
                key="recipe.early_stopping.metric",
            )

    @property
    def _takes_cross_entropy(self) -> bool:
        return "cross_entropy" in inspect.signature(self.loss).parameters

    def for_training(self, recipe: Recipe, labels: "Int[Tensor, ' n']", n_classes: int) -> "Objective":
        """The same with a recipe's label smoothing and class weights in its loss.

        `labels` are those of the training images, whose numbers balance the classes.
        """
        if not recipe.label_smoothing and recipe.class_weights is None:
            return self
        from torch.nn.functional import cross_entropy

        weights = _class_weights(recipe.class_weights, labels, n_classes)
        weighted = partial(cross_entropy, weight=weights, label_smoothing=recipe.label_smoothing)
        return replace(self, loss=partial(self.loss, cross_entropy=weighted))


def _class_weights(
    weights: str | Sequence[float] | None, labels: "Int[Tensor, ' n']", n_classes: int
) -> "Float[Tensor, ' k'] | None":
    """The weight of each class; "balanced" is that of scikit-learn's `compute_class_weight`.

    A class without training images does not count in it, and has the weight 0. They lie where the labels do.
    """
    import torch

    if weights is None:
        return None
    if not isinstance(weights, str):
        return torch.tensor(weights, dtype=torch.float32, device=labels.device)
    counts = torch.bincount(labels.cpu(), minlength=n_classes).double()
    balanced = len(labels) / (counts.count_nonzero() * counts)
    return balanced.where(counts > 0, 0.0).float().to(labels.device)


def _wrap(name: str, value: object) -> Objective:
    """A plain function of the user's is taken to be for classification."""
    entry = registered_entry(value)
    if isinstance(entry, Objective):
        return replace(entry, name=name)
    function = require_function(name, value, "an objective is a function (net, batch) -> loss")
    description = (function.__doc__ or "").partition("\n")[0]
    return Objective(name, function, "classification", description, short_name(name))


objectives: Registry[Objective] = Registry("objective", "inklab.training.objectives", wrap=_wrap)
"""Every objective by name."""


def objective(
    name: str, *, task: Task, label: str = "", cost: int = STEP_PASSES
) -> Callable[[LossFn], LossFn]:
    """Register `(net, batch) -> scalar loss` as an objective. It must be a pure function of torch operations.

    A classifier's may have an argument `*, cross_entropy=plain_cross_entropy`; what it then calls has the
    label smoothing and the class weights of the recipe.

    The arguments are the attributes of `Objective`; the label is the name if left out. A cost of 3 is one
    forward pass and two for the gradient of the weights; a loss that calls the network more often costs more.
    """

    def register(loss: LossFn) -> LossFn:
        description = (loss.__doc__ or "").partition("\n")[0]
        entry = Objective(name, loss, task, description, label or name, cost)
        return objectives.add_function(name, entry, loss)

    return register


def plain_cross_entropy(logits: "Float[Tensor, 'n k']", labels: "Int[Tensor, ' n']") -> "Tensor":
    """Cross-entropy in nats, averaged over the images."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits, labels)


@objective("classify", task="classification", label="cross-entropy")
def classify(net: Forward, batch: Batch, *, cross_entropy: CrossEntropy = plain_cross_entropy) -> "Tensor":
    """Cross-entropy of the true labels, in nats, averaged over the batch."""
    return cross_entropy(net(batch.inputs), batch.labels)


@objective(
    "classify-adversarial",
    task="classification",
    label="cross-entropy, half of it on adversarially perturbed images",
    cost=7,
)
def classify_adversarial(
    net: Forward, batch: Batch, *, cross_entropy: CrossEntropy = plain_cross_entropy
) -> "Tensor":
    """Cross-entropy in nats, half of it on images each of whose pixels was moved by 0.1 to increase the loss.

    Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples" (2015), section 6: the
    sign of the gradient of the loss gives the direction of each pixel. A step costs about twice that of
    `classify`: three forward and two backward passes.
    """
    import torch

    def loss(images: "Tensor") -> "Tensor":
        return cross_entropy(net(images), batch.labels)

    direction = torch.func.grad(loss)(batch.inputs).detach().sign()
    perturbed = (batch.inputs + ADVERSARIAL_STEP * direction).clamp(0, 1)
    return (loss(batch.inputs) + loss(perturbed)) / 2


@objective("classify-smoothed", task="classification", label="cross-entropy with labels smoothed by 0.1")
def classify_smoothed(net: Forward, batch: Batch) -> "Tensor":
    """Cross-entropy against labels of which a tenth is spread evenly over all classes, in nats."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(net(batch.inputs), batch.labels, label_smoothing=LABEL_SMOOTHING)


@objective("reconstruct", task="denoising", label="binary cross-entropy against the clean image")
def reconstruct(net: Forward, batch: Batch) -> "Tensor":
    """Binary cross-entropy per pixel against the clean image, in nats; with corrupted inputs: denoising."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(net(batch.inputs), batch.images)

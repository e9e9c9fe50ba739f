"""Attacks: images changed, within a budget, so that a given network misreads them.

A corruption does not know the network; an attack needs it, and its gradient. So attacks are functions of a
network, images and true labels, not corruptions.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from inklab.corruptions.corruption import check_images
from inklab.errors import DataError, ModelMismatchError, OutOfRangeError
from inklab.evaluation.scores import ForwardFn

PGD_STEPS = 40
PGD_STEP = 2.5  # step in units of budget / steps: the edge of the budget is reached from any start


def fgsm(
    classify: ForwardFn, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"], budget: float
) -> Float[Tensor, "n c h w"]:
    """The fast gradient sign method: each pixel moves by the budget in the direction that raises the loss.

    Goodfellow, Shlens and Szegedy (2015).

    Args:
        classify: differentiable, in evaluation mode; images in [0, 1] to `(n, k)` logits. A denoiser in front
            of a classifier may be part of it.
        images: floats in [0, 1].
        labels: true classes, in [0, k).
        budget: most that a pixel changes, image range 0 to 1; 0.3 is common for MNIST, 8/255 for photographs.

    Raises:
        OutOfRangeError: images or the budget are not as documented.
        DataError: the number of labels differs, or a label is no class of the network.
        ModelMismatchError: no logits, or no gradient reaches the images.

    Example:
        >>> net = lambda images: torch.cat([1 - images, images], dim=1).flatten(1)
        >>> fgsm(net, torch.full((1, 1, 1, 1), 0.75), torch.tensor([1]), 0.25).item()
        0.5
    """
    _check_attack(images, labels, budget)
    return (images + budget * _gradient(classify, images, labels).sign()).clamp(0, 1)


def pgd(
    classify: ForwardFn,
    images: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
    budget: float,
    *,
    rng: torch.Generator,
    steps: int = PGD_STEPS,
) -> Float[Tensor, "n c h w"]:
    """Projected gradient descent: many small steps of `fgsm` from a random start, kept within the budget.

    Madry et al. (2018). Each step is `2.5 budget / steps` long.

    Args:
        classify: as for `fgsm`.
        images: floats in [0, 1].
        labels: true classes, in [0, k).
        budget: most that a pixel changes, image range 0 to 1.
        rng: draws the start, uniformly within the budget.
        steps: gradient steps, at least 1.

    Raises:
        OutOfRangeError, DataError, ModelMismatchError: as `fgsm`; also if there are fewer steps than one.

    Example:
        >>> net = lambda images: torch.cat([1 - images, images], dim=1).flatten(1)
        >>> gray, rng = torch.full((1, 1, 1, 1), 0.75), torch.Generator().manual_seed(0)
        >>> pgd(net, gray, torch.tensor([1]), 0.25, rng=rng).item()
        0.5
    """
    _check_attack(images, labels, budget)
    if steps < 1:
        raise OutOfRangeError(f"an attack of {steps} steps does nothing; use 1 or more")
    start = torch.rand(images.shape, generator=rng, device=rng.device).to(images)
    lowest, highest = (images - budget).clamp(min=0), (images + budget).clamp(max=1)
    attacked = (images + budget * (2 * start - 1)).clamp(lowest, highest)
    for _ in range(steps):
        step = PGD_STEP * budget / steps * _gradient(classify, attacked, labels).sign()
        attacked = (attacked + step).clamp(lowest, highest)
    return attacked


def _gradient(classify: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> Tensor:
    """Of the cross-entropy, with respect to the images; that of one image does not depend on the others."""
    with torch.inference_mode(False), torch.enable_grad():
        inputs = images.clone().requires_grad_()
        logits = classify(inputs)
        if logits.ndim != 2 or len(logits) != len(images):
            raise ModelMismatchError(
                f"an attack needs (n, k) logits; the network returns {tuple(logits.shape)}"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
            raise DataError(
                f"labels go from {labels.min()} to {labels.max()}, but the network has "
                f"{logits.shape[1]} classes"
            )
        if not logits.requires_grad:
            raise ModelMismatchError(
                "no gradient reaches the images: give a differentiable network, such as model.net, outside "
                "torch.no_grad()"
            )
        loss = functional.cross_entropy(logits, labels.long(), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, inputs)
    return gradient


def _check_attack(images: Tensor, labels: Tensor, budget: float) -> None:
    check_images(images)
    if len(labels) != len(images):
        raise DataError(f"there are {len(images)} images and {len(labels)} labels; give one label per image")
    if not 0 <= budget <= 1:
        raise OutOfRangeError(f"budget {budget:g} is out of range; allowed: 0 to 1, the image range")

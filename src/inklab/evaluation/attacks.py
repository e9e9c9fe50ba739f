"""Attacks: images changed, within a budget, so that a certain network misreads them.

A corruption does not know the network; an attack needs it, and its gradient. So attacks are functions of a
network, images and true labels. In robustness experiments their names, `ATTACKS`, take the place of a
corruption's, and the budget is the strength.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from inklab.corruptions.corruption import Corruption, StrengthScale, check_images, corruptions
from inklab.counters import Draws
from inklab.errors import ConfigError, DataError, ModelMismatchError, OutOfRangeError, UnknownNameError
from inklab.evaluation.scores import ForwardFn
from inklab.records.components import ATTACKS
from inklab.usercode import is_user_code

BUDGETS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
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
    draws: Draws,
    steps: int = ATTACKS["pgd"],
) -> Float[Tensor, "n c h w"]:
    """Projected gradient descent: many small steps of `fgsm` from a random start, kept within the budget.

    Madry et al. (2018). Each step is `2.5 budget / steps` long.

    Args:
        classify: as for `fgsm`.
        images: floats in [0, 1].
        labels: true classes, in [0, k).
        budget: most that a pixel changes, image range 0 to 1.
        draws: for the start, uniform within the budget.
        steps: gradient steps, at least 1.

    Raises:
        OutOfRangeError, DataError, ModelMismatchError: as `fgsm`; also if there are fewer steps than one.

    Example:
        >>> net = lambda images: torch.cat([1 - images, images], dim=1).flatten(1)
        >>> from inklab.seeding import Seed
        >>> gray, draws = torch.full((1, 1, 1, 1), 0.75), Seed(0).draws()
        >>> pgd(net, gray, torch.tensor([1]), 0.25, draws=draws).item()
        0.5
    """
    _check_attack(images, labels, budget)
    if steps < 1:
        raise OutOfRangeError(f"an attack of {steps} steps does nothing; use 1 or more")
    start = draws.uniform(*images.shape).to(images.dtype)
    lowest, highest = (images - budget).clamp(min=0), (images + budget).clamp(max=1)
    attacked = (images + budget * (2 * start - 1)).clamp(lowest, highest)
    for _ in range(steps):
        step = PGD_STEP * budget / steps * _gradient(classify, attacked, labels).sign()
        attacked = (attacked + step).clamp(lowest, highest)
    return attacked


@dataclass(frozen=True)
class Attack(StrengthScale):
    """An attack whose strength is its budget: the most that a pixel changes, image range 0 to 1.

    Attributes:
        steps: gradient steps.

    Example:
        >>> net = lambda images: torch.cat([1 - images, images], dim=1).flatten(1)
        >>> from inklab.seeding import Seed
        >>> gray, draws = torch.full((1, 1, 1, 1), 0.75), Seed(0).draws()
        >>> attacks["fgsm"](net, gray, torch.tensor([1]), 0.25, draws).item()
        0.5
    """

    steps: int

    def __call__(
        self,
        classify: ForwardFn,
        images: Float[Tensor, "n c h w"],
        labels: Int[Tensor, " n"],
        budget: float,
        draws: Draws,
    ) -> Float[Tensor, "n c h w"]:
        """Images attacked by the gradient of `classify`, a whole pipeline; budget 0 changes nothing.

        Raises:
            OutOfRangeError, DataError, ModelMismatchError: as `fgsm` and `pgd`.
        """
        if self.name == "fgsm":
            return fgsm(classify, images, labels, budget)
        return pgd(classify, images, labels, budget, draws=draws, steps=self.steps)

    def with_steps(self, steps: int | None) -> "Attack":
        """The same attack with other steps; None leaves them as they are.

        Raises:
            ConfigError: it always takes one step.
        """
        if steps not in (None, 1) and self.name == "fgsm":
            raise ConfigError(f"'fgsm' takes one step, not {steps}; use 'pgd', or leave attack_steps out")
        return self if steps is None else replace(self, steps=steps)


attacks = {
    name: Attack(name, "budget, image range 0 to 1", BUDGETS, 1.0, steps) for name, steps in ATTACKS.items()
}
"""Every attack by name."""


def corruption_or_attack(name: str, attack_steps: int | None = None) -> Corruption | Attack:
    """What a robustness experiment names: an attack, a registered corruption, or one of the user's own.

    Args:
        name: of an attack or a corruption.
        attack_steps: gradient steps of an attack; None for its own number.

    Raises:
        UnknownNameError: there is neither of that name.
        ConfigError: steps of what is no such attack, or the user's code is no corruption.

    Example:
        >>> corruption_or_attack("pgd", 10).steps, corruption_or_attack("shot").name
        (10, 'shot')
    """
    if name in attacks:
        return attacks[name].with_steps(attack_steps)
    if attack_steps is not None:
        raise ConfigError(f"attack_steps is set, but '{name}' is no attack; leave it out, or use 'pgd'")
    if not is_user_code(name) and name not in corruptions:
        raise UnknownNameError("corruption", name, [*corruptions, *attacks])
    return corruptions.resolve(name)


def _gradient(classify: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> Tensor:
    """Of the cross-entropy, with respect to the images; that of one image does not depend on the others."""
    with torch.inference_mode(False), torch.enable_grad():
        inputs, labels = images.clone().requires_grad_(), labels.long().clone()  # as no inference tensors
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
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, inputs)
    return gradient


def _check_attack(images: Tensor, labels: Tensor, budget: float) -> None:
    check_images(images)
    if len(labels) != len(images):
        raise DataError(f"there are {len(images)} images and {len(labels)} labels; give one label per image")
    if not 0 <= budget <= 1:
        raise OutOfRangeError(f"budget {budget:g} is out of range; allowed: 0 to 1, the image range")

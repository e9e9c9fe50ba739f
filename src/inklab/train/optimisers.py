"""Optimisers as pairs of pure functions over stacked tensors.

Rates and momenta are tensors that broadcast over members, so that one program trains members with different
ones.
`torch.optim` is the oracle in the tests.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
Memory = dict[str, Tensors]

ADAM_DECAY = (0.9, 0.999)  # Kingma and Ba 2015, algorithm 1
ADAM_EPSILON = 1e-7  # as Keras; torch's default is 1e-8


class Hyper(NamedTuple):
    """One value a member (`(members,)`), or 0-dimensional for a network that is trained alone.

    `taken`, the steps taken before this one, is 0-dimensional and float64 in both cases: a number would be
    compiled in.
    """

    rate: Tensor
    l2: Tensor
    momentum: Tensor
    taken: Tensor


class Optimiser(NamedTuple):
    """`init(params) -> memory`; `update(params, grads, memory, hyper) -> params, memory`."""

    init: Callable[[Tensors], Memory]
    update: Callable[[Tensors, Tensors, Memory, Hyper], tuple[Tensors, Memory]]


def over(values: Tensor, like: Tensor) -> Tensor:
    """Shape `(members,)` values so that they broadcast against `(members, ...)`; 0-dimensional ones stay.

    Example:
        >>> over(torch.ones(3), torch.zeros(3, 5, 2)).shape
        torch.Size([3, 1, 1])
    """
    return values.reshape(values.shape + (1,) * (like.dim() - values.dim())) if values.dim() else values


def _sgd_init(params: Tensors) -> Memory:
    return {"velocity": {name: torch.zeros_like(value) for name, value in params.items()}}


def _sgd_update(params: Tensors, grads: Tensors, memory: Memory, hyper: Hyper) -> tuple[Tensors, Memory]:
    velocity = {
        name: torch.addcmul(grad, over(hyper.momentum, grad), memory["velocity"][name])
        for name, grad in grads.items()
    }
    return _descended(params, velocity, hyper.rate), {"velocity": velocity}


def _plain_init(params: Tensors) -> Memory:
    return {}


def _plain_update(params: Tensors, grads: Tensors, memory: Memory, hyper: Hyper) -> tuple[Tensors, Memory]:
    return _descended(params, grads, hyper.rate), memory


def _descended(params: Tensors, direction: Tensors, rate: Tensor) -> Tensors:
    # addcmul reads and writes each weight once; `p - rate * d` would go through memory twice.
    return {
        name: torch.addcmul(value, over(rate, value), direction[name], value=-1)
        for name, value in params.items()
    }


def _adam_init(params: Tensors) -> Memory:
    return {
        key: {name: torch.zeros_like(value) for name, value in params.items()} for key in ("mean", "square")
    }


def _adam_update(params: Tensors, grads: Tensors, memory: Memory, hyper: Hyper) -> tuple[Tensors, Memory]:
    first, second = ADAM_DECAY
    mean = {name: torch.lerp(memory["mean"][name], grad, 1 - first) for name, grad in grads.items()}
    square = {
        name: (memory["square"][name] * second).addcmul_(grad, grad, value=1 - second)
        for name, grad in grads.items()
    }
    # The corrections for having started at zero (their section 3), folded into the rate as at the end of
    # their section 2 and as in Keras: epsilon stands beside the uncorrected root. torch puts it beside the
    # corrected one; after 50 steps of the study's denoiser the loss differs by 1 %.
    root = (1 - second ** (hyper.taken + 1)).sqrt()
    rate = hyper.rate * (root / (1 - first ** (hyper.taken + 1))).float()
    moved = {name: mean[name] / (square[name].sqrt() + ADAM_EPSILON) for name in params}
    return _descended(params, moved, rate), {"mean": mean, "square": square}


SGD = Optimiser(_sgd_init, _sgd_update)
PLAIN_SGD = Optimiser(_plain_init, _plain_update)
ADAM = Optimiser(_adam_init, _adam_update)


def choose(name: str, momentum: float) -> Optimiser:
    """The optimiser of a recipe; SGD without momentum keeps no memory, which saves a third of its traffic."""
    if name == "adam":
        return ADAM
    return SGD if momentum else PLAIN_SGD

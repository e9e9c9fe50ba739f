"""Optimisers as pairs of pure functions over stacked tensors.

Rates and momenta are tensors that broadcast over members, so that one program trains members with different
ones.
`torch.optim` is the oracle in the tests.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
OptimizerState = dict[str, Tensors]

ADAM_DECAY = (0.9, 0.999)  # Kingma and Ba 2015, algorithm 1
ADAM_EPSILON = 1e-7  # as Keras; torch's default is 1e-8
MUON_POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # Jordan 2024: steepest at 0 of those that keep values near 1
MUON_ROUNDS = 3  # of it; five gained nothing that could be seen (docs/recipes/cnn-fast.md)
MUON_OTHER_RATE = 2.0  # rate of biases and the output layer, as a multiple of that of the kernels
MUON_WIDE_SIDE = 256  # rows and columns from which the iteration is computed in the training's precision


class HyperParams(NamedTuple):
    """One value a member (`(members,)`), or 0-dimensional for a network that is trained alone.

    `taken`, the steps taken before this one, is 0-dimensional and float64 in both cases: a number would be
    compiled in.
    """

    rate: Tensor
    l2: Tensor
    momentum: Tensor
    taken: Tensor


class Optimizer(NamedTuple):
    """`init(params) -> memory`; `update(params, grads, memory, hyper) -> params, memory`."""

    init: Callable[[Tensors], OptimizerState]
    update: Callable[[Tensors, Tensors, OptimizerState, HyperParams], tuple[Tensors, OptimizerState]]


def broadcast(values: Tensor, like: Tensor) -> Tensor:
    """Shape `(members,)` values so that they broadcast against `(members, ...)`; 0-dimensional ones stay.

    Example:
        >>> broadcast(torch.ones(3), torch.zeros(3, 5, 2)).shape
        torch.Size([3, 1, 1])
    """
    return values.reshape(values.shape + (1,) * (like.dim() - values.dim())) if values.dim() else values


def _sgd_init(params: Tensors) -> OptimizerState:
    return {"velocity": {name: torch.zeros_like(value) for name, value in params.items()}}


def _sgd_update(
    params: Tensors, grads: Tensors, memory: OptimizerState, hyper: HyperParams
) -> tuple[Tensors, OptimizerState]:
    velocity = _momentum(memory["velocity"], grads, hyper.momentum)
    return _apply(params, velocity, hyper.rate), {"velocity": velocity}


def _momentum(velocity: Tensors, grads: Tensors, momentum: Tensor) -> Tensors:
    return {
        name: torch.addcmul(grad, broadcast(momentum, grad), velocity[name]) for name, grad in grads.items()
    }


def _plain_init(params: Tensors) -> OptimizerState:
    return {}


def _plain_update(
    params: Tensors, grads: Tensors, memory: OptimizerState, hyper: HyperParams
) -> tuple[Tensors, OptimizerState]:
    return _apply(params, grads, hyper.rate), memory


def _apply(params: Tensors, direction: Tensors, rate: Tensor) -> Tensors:
    # addcmul reads and writes each weight once; `p - rate * d` would go through memory twice.
    return {
        name: torch.addcmul(value, broadcast(rate, value), direction[name], value=-1)
        for name, value in params.items()
    }


def _adam_init(params: Tensors) -> OptimizerState:
    return {
        key: {name: torch.zeros_like(value) for name, value in params.items()} for key in ("mean", "square")
    }


def _adam_update(
    params: Tensors, grads: Tensors, memory: OptimizerState, hyper: HyperParams
) -> tuple[Tensors, OptimizerState]:
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
    return _apply(params, moved, rate), {"mean": mean, "square": square}


def _muon_update(
    precision: torch.dtype, params: Tensors, grads: Tensors, memory: OptimizerState, hyper: HyperParams
) -> tuple[Tensors, OptimizerState]:
    velocity = _momentum(memory["velocity"], grads, hyper.momentum)
    ahead = _momentum(velocity, grads, hyper.momentum)  # Nesterov: once more, from where it leads
    kernels = _flatten_kernels(params, hyper.rate.dim())
    turned = {name: _muon_direction(ahead[name], hyper.rate.dim(), precision) for name in kernels}
    others = {name: value for name, value in params.items() if name not in kernels}
    after = {
        **_apply({name: params[name] for name in kernels}, turned, hyper.rate),
        **_apply(others, ahead, hyper.rate * MUON_OTHER_RATE),
    }
    return {name: after[name] for name in params}, {"velocity": velocity}


def _flatten_kernels(params: Tensors, leading: int) -> list[str]:
    """Names of all kernels but a dense last one, a classifier's output: its rows stand for classes."""
    kernels = [name for name, value in params.items() if value.dim() - leading >= 2]
    return kernels[:-1] if kernels and params[kernels[-1]].dim() - leading == 2 else kernels


def _muon_direction(ahead: Tensor, leading: int, precision: torch.dtype) -> Tensor:
    """A kernel's step: as a matrix, a row an output, with all singular values near 1."""
    matrix = ahead.flatten(leading + 1)
    rows, columns = matrix.shape[-2:]
    iterated = precision if min(rows, columns) >= MUON_WIDE_SIDE else torch.float32
    # Tall ones are scaled up, so that every output moves by as much as in a square one (Jordan 2024).
    longer = math.sqrt(max(1.0, rows / columns))
    return (orthogonalize(matrix, precision=iterated) * longer).reshape(ahead.shape)


def orthogonalize(
    matrix: Tensor, rounds: int = MUON_ROUNDS, precision: torch.dtype = torch.float32
) -> Tensor:
    """A matrix with the same singular vectors and singular values near 1, by Newton and Schulz's iteration.

    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), who iterate in bf16:
    what it rounds away is small against how far from 1 the values end. Where training is in bf16, wide
    kernels are turned in bf16: of 500 x 784 the iteration is as much work as a step of 500 images, and a
    step was three times as long in fp32. Small ones stay in fp32, where what it costs is lost in the noise
    of a step of 18 ms.

    Args:
        matrix: `(..., rows, columns)`, fp32.
        rounds: of the iteration; with five, values between 0.02 and 1 of the norm end in 0.7 to 1.2.
        precision: of the iteration. The norm is taken in fp32 in either, and so is what comes back.
    """
    a, b, c = MUON_POLYNOMIAL
    wide = matrix if matrix.shape[-2] <= matrix.shape[-1] else matrix.mT  # the smaller square is cheaper
    norm = wide.square().sum((-2, -1), keepdim=True).sqrt()
    wide = (wide / (norm + 1e-7)).to(precision)
    for _ in range(rounds):
        square = wide @ wide.mT
        wide = a * wide + (b * square + c * (square @ square)) @ wide
    wide = wide.to(matrix.dtype)
    return wide if matrix.shape[-2] <= matrix.shape[-1] else wide.mT


SGD = Optimizer(_sgd_init, _sgd_update)
PLAIN_SGD = Optimizer(_plain_init, _plain_update)
ADAM = Optimizer(_adam_init, _adam_update)
MUON = Optimizer(_sgd_init, partial(_muon_update, torch.float32))
MUON_IN_BF16 = Optimizer(_sgd_init, partial(_muon_update, torch.bfloat16))


def make_optimizer(name: str, momentum: float, precision: str = "fp32") -> Optimizer:
    """The optimiser of a recipe, for a training in "fp32" or "bf16".

    SGD without momentum keeps no memory, which saves a third of its traffic.
    """
    if name == "sgd":
        return SGD if momentum else PLAIN_SGD
    return {"adam": ADAM, "muon": MUON_IN_BF16 if precision == "bf16" else MUON}[name]

"""Optimizers as pairs of pure functions over stacked tensors, and schedules of the learning rate.

Learning rates, momenta and the like are tensors that broadcast over members, so that one program trains
members with different ones. `torch.optim` is the oracle in the tests.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import NamedTuple

import torch
from torch import Tensor

from inklab.records.execution import CPU
from inklab.records.recipe import OPTIMIZER_STATE, Precision, Recipe
from inklab.training.accelerators import counter_dtype, move

Tensors = dict[str, Tensor]
OptimizerState = dict[str, Tensors]
Update = tuple[Tensors, OptimizerState]
"""New parameters and the new state of an optimizer."""

ADAM_DECAY = (0.9, 0.999)  # Kingma and Ba 2015, algorithm 1
ADAM_EPSILON = 1e-7  # as Keras; torch's default is 1e-8
ADAMW_EPSILON = 1e-8  # as torch
CLIP_EPSILON = 1e-6  # as torch
ONE_CYCLE_START, ONE_CYCLE_END = 1 / 25, 1 / 250_000  # of the peak, as torch
MUON_POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # Jordan 2024: steepest at 0 of those that keep values near 1
MUON_ITERATIONS = 3  # five gained nothing that could be measured (docs/recipes/cnn-fast.md)
MUON_OTHER_RATE = 2.0  # learning rate of biases and the output layer, as a multiple of the kernels'
MUON_MIN_BF16_SIDE = 256  # rows and columns from which the iteration runs in the training's precision


class HyperParams(NamedTuple):
    """One value for each member, `(members,)`, or 0-dimensional for a network that is trained alone.

    `step`, the number of steps before this one, is 0-dimensional and float64 in both cases (float32 on a
    device without float64). It is a tensor because a number would be compiled in. `ema_weight` is the share
    of the new weights in their average.
    """

    learning_rate: Tensor
    l2: Tensor
    momentum: Tensor
    step: Tensor
    weight_decay: Tensor = torch.tensor(0.0)
    clip_norm: Tensor = torch.tensor(math.inf)
    ema_weight: Tensor = torch.tensor(1.0)


class Optimizer(NamedTuple):
    """`init(params) -> state`; `update(params, grads, state, hyper) -> params, state`."""

    init: Callable[[Tensors], OptimizerState]
    update: Callable[[Tensors, Tensors, OptimizerState, HyperParams], Update]


def make_optimizer(
    name: str, momentum: float, precision: Precision = "fp32", *, nesterov: bool = False
) -> Optimizer:
    """The optimizer of a recipe; `momentum` is the largest of any member.

    SGD without momentum keeps no state, which saves a third of its memory traffic.
    """
    if name == "sgd":
        return (NESTEROV_SGD if nesterov else SGD) if momentum else PLAIN_SGD
    return {"adam": ADAM, "adamw": ADAMW, "muon": MUON_BF16 if precision == "bf16" else MUON}[name]


def broadcast(values: Tensor, like: Tensor) -> Tensor:
    """Shape `(members,)` values so that they broadcast against `(members, ...)`; 0-dimensional ones stay.

    Example:
        >>> broadcast(torch.ones(3), torch.zeros(3, 5, 2)).shape
        torch.Size([3, 1, 1])
    """
    return values.reshape(values.shape + (1,) * (like.dim() - values.dim())) if values.dim() else values


def _zeros(keys: Sequence[str]) -> Callable[[Tensors], OptimizerState]:
    """The `init` of an optimizer that keeps a tensor like each parameter under each key."""
    return lambda params: {
        key: {name: torch.zeros_like(value) for name, value in params.items()} for key in keys
    }


def _sgd_update(params: Tensors, grads: Tensors, state: OptimizerState, hyper: HyperParams) -> Update:
    velocity = _momentum(state["velocity"], grads, hyper.momentum)
    return _apply(params, velocity, hyper.learning_rate), {"velocity": velocity}


def _nesterov_update(params: Tensors, grads: Tensors, state: OptimizerState, hyper: HyperParams) -> Update:
    velocity = _momentum(state["velocity"], grads, hyper.momentum)
    direction = _momentum(velocity, grads, hyper.momentum)
    return _apply(params, direction, hyper.learning_rate), {"velocity": velocity}


def _momentum(velocity: Tensors, grads: Tensors, rate: Tensor) -> Tensors:
    return {name: torch.addcmul(grad, broadcast(rate, grad), velocity[name]) for name, grad in grads.items()}


def _plain_update(params: Tensors, grads: Tensors, state: OptimizerState, hyper: HyperParams) -> Update:
    return _apply(params, grads, hyper.learning_rate), state


def _apply(params: Tensors, direction: Tensors, rate: Tensor) -> Tensors:
    # addcmul reads and writes each weight once; `p - rate * d` would go through memory twice.
    return {
        name: torch.addcmul(value, broadcast(rate, value), direction[name], value=-1)
        for name, value in params.items()
    }


def _moments(grads: Tensors, state: OptimizerState) -> tuple[Tensors, Tensors]:
    """Running means of the gradients and of their squares."""
    beta1, beta2 = ADAM_DECAY
    mean = {name: torch.lerp(state["mean"][name], grad, 1 - beta1) for name, grad in grads.items()}
    square = {
        name: (state["square"][name] * beta2).addcmul_(grad, grad, value=1 - beta2)
        for name, grad in grads.items()
    }
    return mean, square


def _adam_update(params: Tensors, grads: Tensors, state: OptimizerState, hyper: HyperParams) -> Update:
    beta1, beta2 = ADAM_DECAY
    mean, square = _moments(grads, state)
    # The bias corrections (their section 3), folded into the learning rate as at the end of their section 2
    # and as in Keras: epsilon is added to the uncorrected root. torch adds it to the corrected one; after 50
    # steps of the study's denoiser the loss differs by 1%.
    root = (1 - beta2 ** (hyper.step + 1)).sqrt()
    rate = hyper.learning_rate * (root / (1 - beta1 ** (hyper.step + 1))).float()
    direction = {name: mean[name] / (square[name].sqrt() + ADAM_EPSILON) for name in params}
    return _apply(params, direction, rate), {"mean": mean, "square": square}


def _adamw_update(params: Tensors, grads: Tensors, state: OptimizerState, hyper: HyperParams) -> Update:
    beta1, beta2 = ADAM_DECAY
    mean, square = _moments(grads, state)
    rate = hyper.learning_rate * (1 / (1 - beta1 ** (hyper.step + 1))).float()
    root = (1 - beta2 ** (hyper.step + 1)).sqrt().float()
    direction = {name: mean[name] / (square[name].sqrt() / root + ADAMW_EPSILON) for name in params}
    decayed = _apply(params, params, hyper.learning_rate * hyper.weight_decay)
    return _apply(decayed, direction, rate), {"mean": mean, "square": square}


def _muon_update(
    precision: torch.dtype, params: Tensors, grads: Tensors, state: OptimizerState, hyper: HyperParams
) -> Update:
    velocity = _momentum(state["velocity"], grads, hyper.momentum)
    nesterov = _momentum(velocity, grads, hyper.momentum)
    leading = hyper.learning_rate.dim()
    kernels = _inner_kernels(params, leading)
    direction = {name: _muon_direction(nesterov[name], leading, precision) for name in kernels}
    others = {name: value for name, value in params.items() if name not in kernels}
    updated = {
        **_apply({name: params[name] for name in kernels}, direction, hyper.learning_rate),
        **_apply(others, nesterov, hyper.learning_rate * MUON_OTHER_RATE),
    }
    return {name: updated[name] for name in params}, {"velocity": velocity}


def _inner_kernels(params: Tensors, leading: int) -> list[str]:
    """Names of all kernels except a dense last one, a classifier's output layer: its rows are classes."""
    kernels = [name for name, value in params.items() if value.dim() - leading >= 2]
    return kernels[:-1] if kernels and params[kernels[-1]].dim() - leading == 2 else kernels


def _muon_direction(momentum: Tensor, leading: int, precision: torch.dtype) -> Tensor:
    """The step of a kernel: as a matrix with one row for each output, with all singular values near 1."""
    matrix = momentum.flatten(leading + 1)
    rows, columns = matrix.shape[-2:]
    dtype = precision if min(rows, columns) >= MUON_MIN_BF16_SIDE else torch.float32
    # Tall ones are scaled up, so that every output moves by as much as in a square one (Jordan 2024).
    scale = math.sqrt(max(1.0, rows / columns))
    return (orthogonalize(matrix, dtype=dtype) * scale).reshape(momentum.shape)


def orthogonalize(
    matrix: Tensor, n_iterations: int = MUON_ITERATIONS, dtype: torch.dtype = torch.float32
) -> Tensor:
    """A matrix with the same singular vectors and singular values near 1, by the Newton-Schulz iteration.

    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), iterate in bf16: its
    rounding is small against how far from 1 the values end. Where training is in bf16, so are wide kernels:
    for 500 x 784 the iteration is as much work as a step of 500 images, and a step took three times as long
    in fp32. Small ones stay in fp32, whose cost is lost in the noise of a step of 18 ms. With five
    iterations, values between 0.02 and 1 of the norm end in 0.7 to 1.2. The norm and the result are fp32.
    """
    a, b, c = MUON_POLYNOMIAL
    wide = matrix if matrix.shape[-2] <= matrix.shape[-1] else matrix.mT  # the smaller square is cheaper
    norm = wide.square().sum((-2, -1), keepdim=True).sqrt()
    wide = (wide / (norm + 1e-7)).to(dtype)
    for _ in range(n_iterations):
        square = wide @ wide.mT
        wide = a * wide + (b * square + c * (square @ square)) @ wide
    wide = wide.to(matrix.dtype)
    return wide if matrix.shape[-2] <= matrix.shape[-1] else wide.mT


SGD = Optimizer(_zeros(OPTIMIZER_STATE["sgd"]), _sgd_update)
NESTEROV_SGD = Optimizer(_zeros(OPTIMIZER_STATE["sgd"]), _nesterov_update)
PLAIN_SGD = Optimizer(_zeros(()), _plain_update)
ADAM = Optimizer(_zeros(OPTIMIZER_STATE["adam"]), _adam_update)
ADAMW = Optimizer(_zeros(OPTIMIZER_STATE["adamw"]), _adamw_update)
MUON = Optimizer(_zeros(OPTIMIZER_STATE["muon"]), partial(_muon_update, torch.float32))
MUON_BF16 = Optimizer(_zeros(OPTIMIZER_STATE["muon"]), partial(_muon_update, torch.bfloat16))


def clip_gradients(grads: Tensors, clip_norm: Tensor) -> Tensors:
    """Gradients of which each member's norm, over all parameters, is at most `clip_norm`.

    Example:
        >>> grads = {"weight": torch.tensor([3.0, 0.0]), "bias": torch.tensor([4.0])}
        >>> clip_gradients(grads, torch.tensor(1.0))
        {'weight': tensor([0.6000, 0.0000]), 'bias': tensor([0.8000])}
    """
    leading = clip_norm.dim()
    squares = (grad.reshape(*grad.shape[:leading], -1).square().sum(-1) for grad in grads.values())
    scale = (clip_norm / (reduce(torch.add, squares).sqrt() + CLIP_EPSILON)).clamp(max=1)
    return {name: grad * broadcast(scale, grad) for name, grad in grads.items()}


# ---------------------------------------------------------------- schedules


def schedule_factor(
    schedule: str, step: int, n_steps: int, warmup: float = 0.0, *, drop_steps: int = 1, drop: float = 0.1
) -> float:
    """What the learning rate is multiplied with at a step, from 0, of `n_steps` in the whole training.

    It rises in the share `warmup` of the steps, to 1 at the last of these: linearly, or for "one-cycle" along
    a cosine. "step" multiplies it by `drop` after every `drop_steps` steps.

    Example:
        >>> schedule_factor("cosine", 0, 10), schedule_factor("cosine", 5, 10)
        (1.0, 0.5)
        >>> [schedule_factor("linear", step, 8, warmup=0.5) for step in range(8)]
        [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
        >>> [schedule_factor("step", step, 6, drop_steps=2, drop=0.5) for step in range(6)]
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """
    if schedule == "one-cycle":
        return _one_cycle(step, n_steps, warmup)
    warmup_steps = round(warmup * n_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "step":
        return float(drop ** (step // drop_steps))
    progress = (step - warmup_steps) / (n_steps - warmup_steps)
    factors = {"constant": 1.0, "cosine": (1 + math.cos(math.pi * progress)) / 2, "linear": 1 - progress}
    return round(factors[schedule], 15)


def _one_cycle(step: int, n_steps: int, warmup: float) -> float:
    """As torch's `OneCycleLR`, without its cycle of the momentum."""
    peak, last = warmup * n_steps - 1, n_steps - 1
    if step <= peak:
        start, end, progress = ONE_CYCLE_START, 1.0, step / peak if peak else 1.0
    else:
        start, end, progress = 1.0, ONE_CYCLE_END, (step - peak) / (last - peak)
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


class HyperSchedule:
    """The hyperparameters at each step of all members, or of the first if they are not stacked.

    Their recipes have the same schedule. The tensors lie on `device`.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        n_steps: int,
        *,
        stacked: bool,
        device: str = CPU,
    ) -> None:
        self.recipes, self.n_steps, self.stacked = recipes, n_steps, stacked
        self.device = torch.device(device)
        self._steps_per_epoch = n_steps // recipes[0].epochs
        self._key: tuple[float, bool] | None = None

    def at(self, step: int) -> HyperParams:
        """The hyperparameters at a step, which counts from 0."""
        key = self._factor(step), step == 0
        if key != self._key:  # making tensors takes most of the time of a small step
            self._key, self._hyper = key, self._make_hyper(*key)
        step_number = torch.tensor(step, dtype=counter_dtype(self.device))
        return self._hyper._replace(step=move(step_number, self.device))

    def _factor(self, step: int) -> float:
        recipe = self.recipes[0]
        drop_steps = (recipe.step_epochs or 1) * self._steps_per_epoch
        return schedule_factor(
            recipe.schedule, step, self.n_steps, recipe.warmup, drop_steps=drop_steps, drop=recipe.step_factor
        )

    def _make_hyper(self, factor: float, is_first: bool) -> HyperParams:
        values = [
            (
                recipe.learning_rate * factor, recipe.l2, recipe.momentum, recipe.weight_decay,
                math.inf if recipe.clip_norm is None else recipe.clip_norm,
                1.0 if is_first else 1 - (recipe.ema_decay or 0.0),  # the average begins after the first step
            )
            for recipe in self.recipes
        ]  # fmt: skip
        table = torch.tensor(values if self.stacked else values[0])
        rate, l2, momentum, weight_decay, clip_norm, ema_weight = (
            move(table, self.device).movedim(-1, 0).contiguous()
        )
        return HyperParams(rate, l2, momentum, rate.new_zeros(()), weight_decay, clip_norm, ema_weight)

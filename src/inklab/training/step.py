"""One training step, for one network or for all members of a population at once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.modules.batchnorm import _NormBase

from inklab.evaluation.scores import to_floats
from inklab.records.recipe import Precision
from inklab.training.objectives import Batch, Objective
from inklab.training.optimizers import (
    HyperParams,
    Optimizer,
    OptimizerState,
    Tensors,
    broadcast,
    clip_gradients,
)

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class TrainStep:
    """A step of gradient descent, a pure function `(state, batch, dropout_keys, hyper) -> state, losses`.

    Attributes:
        net: supplies the module structure and train/eval mode; weights come from `state`.
        objective: the loss that is minimized.
        optimizer: a pair of pure functions, `init` and `update`.
        l2_params: names of the parameters that L2 acts on.
        stacked: whether tensors have a leading member dimension; the computation is the same either way.
        precision: "fp32", or "bf16": the network computes in bf16 from fp32 master weights, the loss in fp32.
        clips: whether gradients are clipped.
    """

    net: nn.Module
    objective: Objective
    optimizer: Optimizer
    l2_params: frozenset[str]
    stacked: bool
    precision: Precision
    clips: bool = False

    def __call__(
        self, state: "State", batch: Batch, dropout_keys: Tensors, hyper: HyperParams
    ) -> tuple["State", Tensor]:
        """Take one step. `dropout_keys` replace the buffers that dropout draws from.

        Returns:
            The next state, and the losses, `(members,)` or 0-dimensional. They stay on the device, since
            reading them would wait for it.
        """
        weights, buffers = {**state.params, **state.compute_params}, {**state.buffers, **dropout_keys}
        grads, (losses, new_buffers) = self._grads_and_losses(weights, buffers, batch)
        grads = self._add_l2({name: grad.float() for name, grad in grads.items()}, state.params, hyper)
        if self.clips:  # after L2, whose gradient is part of the loss's, as in Keras
            grads = clip_gradients(grads, hyper.clip_norm)
        params, optimizer_state = self.optimizer.update(state.params, grads, state.optimizer_state, hyper)
        kept_buffers = {  # frozen parameters in bf16 are copies; in fp32, a module may have moved them itself
            name: new_buffers[name] if new_buffers[name].dtype == value.dtype else value
            for name, value in state.buffers.items()
        }
        average = _update_average(state.average, {**params, **kept_buffers}, hyper.ema_weight)
        return State(params, self.compute_params(params), kept_buffers, optimizer_state, average), losses

    @cached_property
    def _grads_and_losses(
        self,
    ) -> Callable[[Tensors, Tensors, Batch], tuple[Tensors, tuple[Tensor, Tensors]]]:
        function = grad_and_value(self._loss, has_aux=True)
        return vmap(function) if self.stacked else function

    def _loss(self, weights: Tensors, buffers: Tensors, batch: Batch) -> tuple[Tensor, Tensors]:
        # Copied, because a module such as BatchNorm writes into its buffers, and a step must be pure.
        buffers = {name: self._copy_buffer(name, value) for name, value in buffers.items()}
        forward = partial(self._logits, weights, buffers)
        return self.objective.loss(forward, scale_batch(batch)), buffers

    def _logits(self, weights: Tensors, buffers: Tensors, images: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.net, (weights, buffers), (images,))
        return logits.float()

    def _copy_buffer(self, name: str, value: Tensor) -> Tensor:
        """A copy of a buffer, or of a frozen parameter in the precision of the others."""
        if name not in self._frozen_params:
            return value.clone()
        precision = "fp32" if name in self._fp32_params else self.precision
        return cast_weights(value, precision, channels_last=False).clone()

    @cached_property
    def _frozen_params(self) -> frozenset[str]:
        return frozenset(name for name, value in self.net.named_parameters() if not value.requires_grad)

    def _add_l2(self, grads: Tensors, params: Tensors, hyper: HyperParams) -> Tensors:
        """Add the gradient of l2 * sum(w ** 2)."""
        for name in sorted(self.l2_params):
            grads[name] = torch.addcmul(grads[name], 2 * broadcast(hyper.l2, grads[name]), params[name])
        return grads

    def init_state(self, params: Tensors, buffers: Tensors, *, averaged: bool = False) -> "State":
        """The state before the first step; `averaged`: with the moving average of the weights."""
        tensors = {**params, **buffers} if averaged else {}
        average = {name: value.clone() for name, value in tensors.items() if value.is_floating_point()}
        return State(params, self.compute_params(params), buffers, self.optimizer.init(params), average)

    def compute_params(self, params: Tensors) -> Tensors:
        """Copies of the parameters in the dtype and layout of the computation, where these differ."""
        cast = {
            name: cast_weights(
                value, "fp32" if name in self._fp32_params else self.precision, channels_last=not self.stacked
            )
            for name, value in params.items()
        }
        return {name: value for name, value in cast.items() if value is not params[name]}

    @cached_property
    def _fp32_params(self) -> frozenset[str]:
        return fp32_param_names(self.net)  # needed in each step, and a walk through all modules


class State(NamedTuple):
    """What a step changes. In a population, tensors have a leading member dimension.

    Attributes:
        params: fp32 master weights.
        compute_params: bf16 or channels-last copies of the parameters used in forward and backward; empty
            where none are needed. Kept from step to step: the cast is then part of the update, which has the
            weights in the cache.
        buffers: the network's buffers, including dropout's keys, and its frozen parameters.
        optimizer_state: the optimizer's state, such as momentum.
        average: moving average of the parameters and of the buffers that are floats, such as running
            statistics; empty if the recipe has none.
    """

    params: Tensors
    compute_params: Tensors
    buffers: Tensors
    optimizer_state: OptimizerState
    average: Tensors


def _update_average(average: Tensors, tensors: Tensors, weight: Tensor) -> Tensors:
    return {
        name: torch.lerp(old, tensors[name], broadcast(weight, old).to(old.dtype))
        for name, old in average.items()
    }


Step = Callable[[State, Batch, Tensors, HyperParams], tuple[State, Tensor]]
"""The type of `TrainStep`."""


def scale_batch(batch: Batch) -> Batch:
    """A batch as objectives see it. Images travel as bytes, a quarter of the memory, and are divided here."""
    return Batch(to_floats(batch.images), batch.labels, to_floats(batch.inputs))


def cast_weights(weights: Tensor, precision: Precision, *, channels_last: bool = True) -> Tensor:
    """Weights in the dtype and layout that the network computes with; `weights` itself if nothing differs.

    Kernels of convolutions are laid out so that oneDNN is fastest; vmap has no such layout.
    """
    weights = weights.to(DTYPES[precision])
    if not channels_last or weights.dim() != 4:
        return weights
    return weights.contiguous(memory_format=torch.channels_last)


def fp32_param_names(net: nn.Module) -> frozenset[str]:
    """Parameters that stay fp32 in every precision: those of BatchNorm and its kin, like their statistics."""
    return frozenset(
        f"{name}.{key}".lstrip(".")
        for name, module in net.named_modules()
        if isinstance(module, _NormBase)
        for key, _ in module.named_parameters(recurse=False)
    )

"""One step of gradient descent, for one network or for all members of a population at once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.modules.batchnorm import _NormBase

from inklab.training.batches import to_floats
from inklab.training.objectives import Batch, Objective
from inklab.training.optimizers import HyperParams, Optimizer, OptimizerState, Tensors, broadcast

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class State(NamedTuple):
    """Where training stands. Lifted, every tensor leads with the members.

    Attributes:
        params: fp32 master weights.
        working: those of them that the network computes with in another precision or layout, so computed.
            Kept from step to step: rounding is then part of the update, which has the weights in hand.
        buffers: of the network, dropout's keys included.
        memory: of the optimiser.
    """

    params: Tensors
    working: Tensors
    buffers: Tensors
    memory: OptimizerState


Step = Callable[[State, Batch, Tensors, HyperParams], tuple[State, Tensor]]


@dataclass(frozen=True)
class TrainStep:
    """What a step is made of, and for.

    Attributes:
        net: gives the architecture and the mode; its own weights are not used.
        objective: what is minimised.
        optimiser: a pair of pure functions.
        decayed: names of the parameters that L2 acts on.
        lifted: whether tensors lead with members; the same program otherwise.
        precision: "fp32", or "bf16": the network computes in bf16 from fp32 master weights, the loss in fp32.
    """

    net: nn.Module
    objective: Objective
    optimiser: Optimizer
    decayed: frozenset[str]
    lifted: bool
    precision: str

    def init_state(self, params: Tensors, buffers: Tensors) -> State:
        """Where training begins from some weights."""
        return State(params, self.working(params), buffers, self.optimiser.init(params))

    @cached_property
    def _whole(self) -> frozenset[str]:
        return fp32_param_names(self.net)  # asked in each step, and a walk through all modules

    def working(self, params: Tensors) -> Tensors:
        """The weights that are computed with in another form than the masters', in that form."""
        forms = {name: "fp32" if name in self._whole else self.precision for name in params}
        computed = {
            name: cast_weights(value, forms[name], fast_layout=not self.lifted)
            for name, value in params.items()
        }
        return {name: value for name, value in computed.items() if value is not params[name]}

    def step(self) -> Step:
        """Build the step.

        Returns:
            `step(state, batch, keys, hyper) -> state, losses`, a pure function. `keys` replace the buffers
            that dropout draws from. Losses, `(members,)` or 0-dimensional, stay on the device; reading them
            would wait for it.
        """
        grad_and_loss = grad_and_value(self._loss, has_aux=True)
        if self.lifted:
            grad_and_loss = vmap(grad_and_loss)

        def step(state: State, batch: Batch, keys: Tensors, hyper: HyperParams) -> tuple[State, Tensor]:
            computed = {**state.params, **state.working}
            grads, (losses, buffers) = grad_and_loss(computed, {**state.buffers, **keys}, batch)
            grads = {name: grad.float() for name, grad in grads.items()}
            for name in sorted(self.decayed):  # the gradient of l2 * sum(w ** 2)
                grads[name] = torch.addcmul(
                    grads[name], 2 * broadcast(hyper.l2, grads[name]), state.params[name]
                )
            params, memory = self.optimiser.update(state.params, grads, state.memory, hyper)
            kept = {name: buffers[name] for name in state.buffers}
            return State(params, self.working(params), kept, memory), losses

        return step

    def _loss(self, computed: Tensors, buffers: Tensors, batch: Batch) -> tuple[Tensor, Tensors]:
        # Copied, because a module such as BatchNorm writes into its buffers; a pure step must not show it.
        buffers = {name: value.clone() for name, value in buffers.items()}

        def call(images: Tensor) -> Tensor:
            logits: Tensor = functional_call(self.net, (computed, buffers), (images,))
            return logits.float()

        return self.objective.loss(call, as_images(batch)), buffers


def as_images(batch: Batch) -> Batch:
    """A batch as objectives know it. It travels as bytes, a quarter of the memory, and is divided here."""
    return Batch(to_floats(batch.images), batch.labels, to_floats(batch.shown))


def cast_weights(weights: Tensor, precision: str, *, fast_layout: bool = True) -> Tensor:
    """Weights as the network computes with them; convolutions' channels-last, where oneDNN is fastest.

    Args:
        weights: fp32 master weights.
        precision: "fp32" or "bf16".
        fast_layout: False leaves kernels as they lie; vmap knows no channels-last.

    Returns:
        `weights` itself where it already is what is wanted.
    """
    weights = weights.to(PRECISIONS[precision])
    if not fast_layout or weights.dim() != 4:
        return weights
    return weights.contiguous(memory_format=torch.channels_last)


def fp32_param_names(net: nn.Module) -> frozenset[str]:
    """Parameters that stay fp32 in every precision: those of BatchNorm and its kin, as their statistics."""
    return frozenset(
        f"{name}.{key}".lstrip(".")
        for name, module in net.named_modules()
        if isinstance(module, _NormBase)
        for key, _ in module.named_parameters(recurse=False)
    )

"""One step of gradient descent, for one network or for all members of a population at once."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.modules.batchnorm import _NormBase

from inklab.train.objective import Batch, Objective
from inklab.train.optimisers import Hyper, Memory, Optimiser, Tensors, over

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class State(NamedTuple):
    """Where training stands. Lifted, every tensor leads with the members."""

    params: Tensors
    buffers: Tensors
    memory: Memory
    step: int


Step = Callable[[State, Batch, Tensors, Hyper], tuple[State, Tensor]]


def make_step(
    net: nn.Module,
    objective: Objective,
    optimiser: Optimiser,
    decayed: frozenset[str],
    *,
    lifted: bool,
    precision: str,
) -> Step:
    """Build the step.

    Args:
        net: gives the architecture and the mode; its own weights are not used.
        objective: what is minimised.
        optimiser: a pair of pure functions.
        decayed: names of the parameters that L2 acts on.
        lifted: whether tensors lead with members; the same program otherwise.
        precision: "fp32", or "bf16": the network computes in bf16 from fp32 master weights, the loss in fp32.

    Returns:
        `step(state, batch, keys, hyper) -> state, losses`. `keys` replace the buffers that dropout draws
        from. Losses, `(members,)` or 0-dimensional, stay on the device; reading them would wait for it.
    """
    whole = unrounded_names(net)

    def loss_of(params: Tensors, buffers: Tensors, batch: Batch) -> tuple[Tensor, Tensors]:
        # Copied, because a module such as BatchNorm writes into its buffers; a pure step must not show it.
        buffers = {name: value.clone() for name, value in buffers.items()}
        compute = {
            name: as_computed(value, "fp32" if name in whole else precision, fast_layout=not lifted)
            for name, value in params.items()
        }

        def call(images: Tensor) -> Tensor:
            logits: Tensor = functional_call(net, (compute, buffers), (images,))
            return logits.float()

        return objective.loss(call, batch), buffers

    grad_and_loss = grad_and_value(loss_of, has_aux=True)
    if lifted:
        grad_and_loss = vmap(grad_and_loss)

    def step(state: State, batch: Batch, keys: Tensors, hyper: Hyper) -> tuple[State, Tensor]:
        grads, (losses, buffers) = grad_and_loss(state.params, {**state.buffers, **keys}, batch)
        for name in decayed:  # the gradient of l2 * sum(w ** 2)
            grads[name] = torch.addcmul(grads[name], 2 * over(hyper.l2, grads[name]), state.params[name])
        params, memory = optimiser.update(state.params, grads, state.memory, hyper, state.step)
        return State(params, buffers, memory, state.step + 1), losses

    return step


def as_computed(weights: Tensor, precision: str, *, fast_layout: bool = True) -> Tensor:
    """Weights as the network computes with them; convolutions' channels-last, where oneDNN is fastest.

    Args:
        weights: fp32 master weights.
        precision: "fp32" or "bf16".
        fast_layout: False leaves kernels as they lie; vmap knows no channels-last.
    """
    weights = weights.to(PRECISIONS[precision])
    if not fast_layout or weights.dim() != 4:
        return weights
    return weights.contiguous(memory_format=torch.channels_last)


def unrounded_names(net: nn.Module) -> frozenset[str]:
    """Parameters that stay fp32 in every precision: those of BatchNorm and its kin, as their statistics."""
    return frozenset(
        f"{name}.{key}".lstrip(".")
        for name, module in net.named_modules()
        if isinstance(module, _NormBase)
        for key, _ in module.named_parameters(recurse=False)
    )

"""Several networks as one: stacked tensors in, separate networks out."""

import copy
import fnmatch
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from inklab.networks.layers import for_inference
from inklab.training.optimizers import Tensors


def stack_states(nets: Sequence[nn.Module]) -> tuple[Tensors, Tensors]:
    """Parameters and buffers of networks of one architecture, stacked along a new first dimension.

    Returns:
        `{name: (members, ...)}` twice.
    """
    parameters = [dict(net.named_parameters()) for net in nets]
    buffers = [dict(net.named_buffers()) for net in nets]
    return _stack(parameters), _stack(buffers)


def single_member(net: nn.Module) -> tuple[Tensors, Tensors]:
    """Parameters and buffers of one network, copied, not stacked."""
    return (
        {name: value.detach().clone() for name, value in net.named_parameters()},
        {name: value.detach().clone() for name, value in net.named_buffers()},
    )


def member(template: nn.Module, params: Tensors, buffers: Tensors, index: int | None) -> nn.Module:
    """One network out of a population, in evaluation mode, sharing no memory with it.

    Args:
        template: a network of the architecture.
        params: `{name: (members, ...)}`, or without members if `index` is None.
        buffers: the same for buffers.
        index: which member.
    """
    net = copy.deepcopy(template)
    values = {
        name: (value if index is None else value[index]) for name, value in {**params, **buffers}.items()
    }
    with torch.no_grad():
        for name, slot in [*net.named_parameters(), *net.named_buffers()]:
            slot.copy_(values[name])
    return for_inference(net)


def weight_decay_names(net: nn.Module, patterns: Sequence[str]) -> frozenset[str]:
    """Names of the kernels that L2 acts on.

    Args:
        net: a `NormalizedModel` network; patterns are matched against the names inside of it, such as
            `hidden.*.weight`.
        patterns: shell patterns.

    Returns:
        Full names. Biases and other one-dimensional parameters never match.
    """
    return frozenset(
        name
        for name, value in net.named_parameters()
        if value.dim() >= 2
        and any(fnmatch.fnmatchcase(name.removeprefix("net."), pattern) for pattern in patterns)
    )


def _stack(tensors: Sequence[Mapping[str, Tensor]]) -> Tensors:
    return {name: torch.stack([each[name].detach() for each in tensors]) for name in tensors[0]}

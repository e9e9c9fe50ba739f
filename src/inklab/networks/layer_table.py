"""What can be read off any module: a table of its layers, and the features before its last layer."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inklab.records.outcomes import LayerRow

ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Softmax)


def layer_table(net: nn.Module, shape: tuple[int, int, int]) -> list[LayerRow]:
    """List the layers of any module from `(n, c, h, w)` in the order in which an image passes them.

    Returns:
        One row per leaf module; an activation is named in the row of the last layer with weights before it.

    Example:
        >>> from inklab.networks.classifiers import mlp
        >>> [row.macs for row in layer_table(mlp((1, 28, 28), 10), (1, 28, 28)) if row.parameters]
        [50176, 4096, 640]
    """
    rows: list[LayerRow] = []

    def record_calls_of(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, ACTIVATIONS):
                _set_activation(rows, type(module).__name__)
            elif isinstance(output, Tensor) and not isinstance(module, nn.Identity):
                rows.append(_row(name, module, output))

        return hook

    leaves = [(name, module) for name, module in net.named_modules() if not list(module.children())]
    hooks = [module.register_forward_hook(record_calls_of(name)) for name, module in leaves]
    training = net.training
    try:
        net.eval()
        with torch.inference_mode():
            net(torch.zeros(1, *shape))
    finally:
        net.train(training)
        for hook in hooks:
            hook.remove()
    return rows


def _row(name: str, module: nn.Module, output: Tensor) -> LayerRow:
    return LayerRow(
        name=name,
        type=type(module).__name__,
        output_shape=tuple(output.shape[1:]),
        parameters=sum(p.numel() for p in module.parameters()),
        macs=_macs(module, output),
    )


def _set_activation(rows: list[LayerRow], name: str) -> None:
    for index in reversed(range(len(rows))):
        if rows[index].parameters:
            rows[index] = rows[index].model_copy(update={"activation": name})
            return


def _macs(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, nn.Linear):
        return module.in_features * math.prod(output.shape[1:])
    if isinstance(module, nn.Conv2d):
        kernel = module.in_channels // module.groups * math.prod(module.kernel_size)
        return math.prod(output.shape[1:]) * kernel
    return 0


def features_before_last(net: nn.Module) -> Callable[[Float[Tensor, "n c h w"]], Float[Tensor, "n f"]]:
    """The inputs of a classifier's last `nn.Linear`, which computes the logits, as a function of images.

    Raises:
        ValueError: it has no `nn.Linear`.
    """
    dense = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if not dense:
        raise ValueError("this network has no nn.Linear, so it has no features before one")

    def features(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        captured: list[Tensor] = []
        hook = dense[-1].register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
        try:
            net(images)
        finally:
            hook.remove()
        return captured[0].float()

    return features

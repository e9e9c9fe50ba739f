"""What can be read off any module: a table of its layers, and the features before its last layer."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Softmax)
SILENT = (nn.Identity,)


@dataclass
class Layer:
    """One row of a layer table. `output` is one image's shape; multiply-adds count one image forward."""

    layer: str
    kind: str
    activation: str | None
    output: list[int]
    parameters: int
    multiply_adds: int

    def to_json(self) -> dict[str, object]:
        """As it stands in an outcome."""
        return asdict(self)


def layer_table(net: nn.Module, shape: tuple[int, int, int]) -> list[Layer]:
    """List a network's layers in the order in which an image passes them.

    Args:
        net: any module from `(n, c, h, w)`.
        shape: channels, height, width of one image.

    Returns:
        One row a leaf module; an activation is named in the row of the last layer with weights before it.

    Example:
        >>> from inklab.networks.mlp import mlp
        >>> [row.multiply_adds for row in layer_table(mlp((1, 28, 28), 10), (1, 28, 28)) if row.parameters]
        [50176, 4096, 640]
    """
    rows: list[Layer] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            if isinstance(module, ACTIVATIONS):
                _activate(rows, type(module).__name__)
            elif isinstance(out, Tensor) and not isinstance(module, SILENT):
                parameters = sum(p.numel() for p in module.parameters())
                cost = _multiply_adds(module, out)
                rows.append(Layer(name, type(module).__name__, None, list(out.shape[1:]), parameters, cost))

        return hook

    leaves = [(name, module) for name, module in net.named_modules() if not list(module.children())]
    hooks = [module.register_forward_hook(note(name)) for name, module in leaves]
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


def _activate(rows: list[Layer], name: str) -> None:
    for row in reversed(rows):
        if row.parameters:
            row.activation = name
            return


def _multiply_adds(module: nn.Module, out: Tensor) -> int:
    if isinstance(module, nn.Linear):
        return module.in_features * math.prod(out.shape[1:])
    if isinstance(module, nn.Conv2d):
        return math.prod(out.shape[1:]) * module.in_channels // module.groups * math.prod(module.kernel_size)
    return 0


def features_before_last(net: nn.Module) -> Callable[[Float[Tensor, "n c h w"]], Float[Tensor, "n f"]]:
    """What enters a classifier's last dense layer, as a function of images.

    Args:
        net: a classifier whose last `nn.Linear` makes the logits.

    Raises:
        ValueError: it has no `nn.Linear`.
    """
    dense = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if not dense:
        raise ValueError("this network has no nn.Linear, so it has no features before one")

    def features(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        caught: list[Tensor] = []
        hook = dense[-1].register_forward_pre_hook(lambda _, given: caught.append(given[0]))
        try:
            net(images)
        finally:
            hook.remove()
        return caught[0].float()

    return features

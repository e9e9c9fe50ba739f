"""Max-pooling by windows that do not overlap, whose way back is one sweep."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.fx.experimental.proxy_tensor import get_proxy_mode


class MaxPool(nn.Module):
    """The largest value of each window of `side x side` pixels; rows and columns that fill none are left out.

    The same function and gradient, to the bit, as `nn.MaxPool2d(side)`: of equal values, the first gets it
    all. (Not so the gradient of a window with a NaN, where training has ended anyway.) Compiled, the gradient
    of PyTorch's own takes 14 of 45 ms of a step of the study's cnn, since it asks of each pixel which windows
    it might belong to. Here windows do not overlap, and it takes 1.3 ms. Not compiled, PyTorch's own is the
    faster one, 3 ms against 31, and is used.

    Args:
        side: of a window, and its stride; from 1 to 16.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        if not 1 <= side <= 16:  # bf16 counts places up to 256 exactly
            raise ValueError(f"pool must lie in 1 to 16, but is {side}")
        self.side = side

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c p q"]:
        """`(n, c, h, w)` to `(n, c, h // side, w // side)`."""
        if get_proxy_mode() is None:  # nobody is tracing
            return nn.functional.max_pool2d(features, self.side)
        largest, _ = _Pooling.apply(features, self.side)  # type: ignore[no-untyped-call]
        pooled: Tensor = largest
        return pooled

    def extra_repr(self) -> str:
        """Shown by print(net)."""
        return f"side={self.side}"


class LargestOfMap(nn.Module):
    """The largest value of each feature map: whether something is there, wherever it is."""

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c"]:
        """`(n, c, h, w)` to `(n, c)`."""
        return features.amax((2, 3))


class _Pooling(Function):
    """Windows' maxima and, for the way back, the place of each in its window."""

    generate_vmap_rule = True

    @staticmethod
    def forward(features: Tensor, side: int) -> tuple[Tensor, Tensor]:
        largest = nn.functional.max_pool2d(features, side)
        place = torch.zeros_like(largest)
        for number, view in reversed(list(enumerate(_places(features, side)))):  # so that the first one wins
            place = torch.where(view == largest, number, place)
        return largest, place

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        features, ctx.side = inputs
        ctx.size = features.shape[-2:]
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (place,) = ctx.saved_tensors
        return _spread(grads[0], place, ctx.side, ctx.size), None


def _places(features: Tensor, side: int) -> list[Tensor]:
    """The pixels at each place of a window: `side * side` views `(n, c, h // side, w // side)`."""
    height, width = (length // side * side for length in features.shape[-2:])
    return [features[..., i:height:side, j:width:side] for i in range(side) for j in range(side)]


def _spread(
    grad: Float[Tensor, "n c p q"], place: Float[Tensor, "n c p q"], side: int, size: torch.Size
) -> Float[Tensor, "n c h w"]:
    """Hand each window's gradient to the pixel that was its maximum; zero for all others."""
    right, below = size[1] - grad.shape[-1] * side, size[0] - grad.shape[-2] * side
    number = torch.arange(side * side, dtype=place.dtype, device=grad.device).reshape(side, 1, side, 1)
    # (n, p, 1, q, 1, c) against (side, 1, side, 1): channels stay innermost, as channels-last lies in memory.
    grad, place = (each.permute(0, 2, 3, 1)[:, :, None, :, None, :] for each in (grad, place))
    zero = torch.zeros((), dtype=grad.dtype, device=grad.device)
    spread = torch.where(place == number, grad, zero).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
    return nn.functional.pad(spread, (0, right, 0, below)) if right or below else spread

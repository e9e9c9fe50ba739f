"""Layers that torch has not, or not in this form, and how weights begin."""

from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
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


class Flatten(nn.Module):
    """One row of features an image, the channels innermost, as Keras orders them.

    That is how channels-last lies in memory, so nothing is copied, and what follows reads in order.
    """

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        """`(n, c, h, w)` to `(n, h * w * c)`."""
        return features.permute(0, 2, 3, 1).flatten(1)


def glorot(net: nn.Module) -> nn.Module:
    """Draw dense and convolutional weights Glorot uniform and set biases to zero, in place: what Keras does.

    Glorot and Bengio 2010, eq. 16: uniform on +-sqrt(6 / (fan_in + fan_out)).

    Returns:
        The same network.
    """
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def he(net: nn.Module) -> nn.Module:
    """Draw convolutional weights He normal, dense ones Glorot uniform, and set biases to zero, in place.

    He et al. 2015, eq. 10: normal with variance 2 / fan_in, which keeps the size of what goes through ReLUs.

    Returns:
        The same network.
    """
    for module in glorot(net).modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return net


class Normalize(nn.Module):
    """`(images - mean) / spread`, with both as buffers: saved, lifted and exported with the weights.

    Args:
        mean: subtracted from every value, in image units (range 0 to 1).
        spread: what is divided by; a standard deviation in image units, 1 for none.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, mean: float = 0.0, spread: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([mean], dtype=torch.float32))
        self.register_buffer("spread", torch.tensor([spread], dtype=torch.float32))

    def forward(self, images: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Images in [0, 1] to what the network is trained on; same shape."""
        return (images - self.mean) / self.spread


class NormalizedModel(nn.Module):
    """A network with its scaling in front: what is trained, saved, evaluated and exported.

    Args:
        scaling: the first thing that images meet.
        net: any module from `(n, c, h, w)` to logits.
    """

    def __init__(self, scaling: Normalize, net: nn.Module) -> None:
        super().__init__()
        self.scaling = scaling
        self.net = net

    def forward(self, images: Float[Tensor, "n c h w"]) -> Tensor:
        """Images in [0, 1] to logits, in the precision of the network's weights."""
        weights = next((part for part in self.net.parameters() if part.dim() > 1), None)  # no norm's: fp32
        scaled = self.scaling(images)
        logits: Tensor = self.net(scaled if weights is None else scaled.to(weights.dtype))
        return logits


AnyModule = TypeVar("AnyModule", bound=nn.Module)


def for_inference(net: AnyModule) -> AnyModule:
    """Set a network to evaluation mode and lay its kernels out for speed, in place.

    Channels-last is how oneDNN convolves fastest: 0.17 instead of 0.5 ms an image for the study's cnn.
    """
    return net.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


LOW_BITS = 0x7FFFFFFF


class Dropout(nn.Module):
    """Silence a share of the features in training and scale up the rest; the identity in evaluation.

    The mask depends on the buffer `key` (two int32) and a feature's place alone. The training loop sets the
    key each step.

    Args:
        share: probability that a feature is silenced, in [0, 1).
    """

    key: Tensor

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"dropout must lie in [0, 1), but is {share}")
        self.share = share
        # Not persistent: a key says where training stands; it is no part of a network for use.
        self.register_buffer("key", torch.zeros(2, dtype=torch.int32), persistent=False)

    def forward(self, features: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Any shape in, the same shape out."""
        if not self.training or self.share == 0:
            return features
        bits = keyed_bits(self.key, features.numel()).reshape(features.shape)
        kept = (bits >= int(self.share * (LOW_BITS + 1))).to(features.dtype)
        return features * (kept / (1 - self.share))

    def extra_repr(self) -> str:
        """Shown by print(net)."""
        return f"share={self.share}"


def keyed_bits(key: Int[Tensor, " 2"], count: int) -> Int[Tensor, " count"]:
    """Random whole numbers in [0, 2**31), a function of the key and the place alone.

    Two rounds of the 32-bit mixer `lowbias32` (C. Wellons, "Prospecting for Hash Functions", 2018), one for
    each half of the key. Costs about half of `bernoulli_` on a CPU and works under vmap, a key a member.
    """
    places = torch.arange(count, dtype=torch.int32, device=key.device)
    return _mix(_mix(places ^ key[0]) ^ key[1]) & LOW_BITS


def _mix(bits: Tensor) -> Tensor:
    # int32 arithmetic wraps; `>>` carries the sign down, so the mask makes it a logical shift.
    bits = (bits ^ ((bits >> 16) & 0xFFFF)) * 0x7FEB352D
    bits = (bits ^ ((bits >> 15) & 0x1FFFF)) * (0x846CA68B - (1 << 32))
    return bits ^ ((bits >> 16) & 0xFFFF)


def key_names(net: nn.Module) -> list[str]:
    """Names of all key buffers of a network, in a fixed order."""
    return [f"{name}.key".lstrip(".") for name, module in net.named_modules() if isinstance(module, Dropout)]

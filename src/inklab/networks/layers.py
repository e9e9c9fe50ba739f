"""Layers that torch does not have in this form, and initial weights."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.nn import functional

from inklab.counters import LOW_BITS, Draws, keyed_bits
from inklab.records.components import NormalizeConfig
from inklab.records.record import Shape


class MaxPool(nn.Module):
    """Max-pooling by windows of `side x side` pixels that do not overlap; rows and columns left over are cut.

    The same function and gradient, to the bit, as `nn.MaxPool2d(side)`: of equal values, the first gets the
    whole gradient. (The gradient of a window with a NaN differs; training has diverged then.) Compiled, the
    gradient of PyTorch's pooling takes 14 of 45 ms of a step of the study's cnn, since it looks up for each
    pixel the windows that it may belong to; this one takes 1.3 ms. Without compilation PyTorch's is faster,
    3 ms against 31, and is used. The side is from 1 to 16.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        if not 1 <= side <= 16:  # bf16 represents positions up to 256 exactly
            raise ValueError(f"pool must be in 1 to 16, but is {side}")
        self.side = side

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c p q"]:
        """`(n, c, h, w)` to `(n, c, h // side, w // side)`."""
        if get_proxy_mode() is None:  # not being traced
            return functional.max_pool2d(features, self.side)
        maxima, _ = _MaxPoolFunction.apply(features, self.side)  # type: ignore[no-untyped-call]
        pooled: Tensor = maxima
        return pooled

    def extra_repr(self) -> str:
        """What print(net) shows of it."""
        return f"side={self.side}"


class GlobalMaxPool(nn.Module):
    """The maximum of each feature map."""

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c"]:
        """`(n, c, h, w)` to `(n, c)`."""
        return features.amax((2, 3))


class _MaxPoolFunction(Function):
    """The maximum of each window, and for the gradient its position in the window.

    Positions in a window with side 2 are 0 1 / 2 3. Each is a strided view of the features.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(features: Tensor, side: int) -> tuple[Tensor, Tensor]:
        maxima = functional.max_pool2d(features, side)
        positions = torch.zeros_like(maxima)
        for position, view in reversed(list(enumerate(_window_views(features, side)))):  # the first one wins
            positions = torch.where(view == maxima, position, positions)
        return maxima, positions

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        features, ctx.side = inputs
        ctx.size = features.shape[-2:]
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (positions,) = ctx.saved_tensors
        return _scatter(grads[0], positions, ctx.side, ctx.size), None


def _window_views(features: Tensor, side: int) -> list[Tensor]:
    """The pixels at each position of a window: `side * side` views `(n, c, h // side, w // side)`."""
    height, width = (length // side * side for length in features.shape[-2:])
    return [features[..., i:height:side, j:width:side] for i in range(side) for j in range(side)]


def _scatter(
    grad: Float[Tensor, "n c p q"], positions: Float[Tensor, "n c p q"], side: int, size: torch.Size
) -> Float[Tensor, "n c h w"]:
    """Give each window's gradient to the pixel that was its maximum, and zero to all others."""
    right, below = size[1] - grad.shape[-1] * side, size[0] - grad.shape[-2] * side
    position = torch.arange(side * side, dtype=positions.dtype, device=grad.device).reshape(side, 1, side, 1)
    # (n, p, 1, q, 1, c) against (side, 1, side, 1): channels stay innermost, the layout of channels-last.
    grad, positions = (part.permute(0, 2, 3, 1)[:, :, None, :, None, :] for part in (grad, positions))
    zero = torch.zeros((), dtype=grad.dtype, device=grad.device)
    pixels = torch.where(positions == position, grad, zero).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
    return functional.pad(pixels, (0, right, 0, below)) if right or below else pixels


class Flatten(nn.Module):
    """One row of features per image, the channels innermost, as in Keras.

    This is the memory layout of channels-last, so nothing is copied.
    """

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        """`(n, c, h, w)` to `(n, h * w * c)`."""
        return features.permute(0, 2, 3, 1).flatten(1)


class UNet(nn.Module):
    """A U-Net from images to logits of pixels; the arguments are those of the network `unet`."""

    def __init__(self, shape: Shape, channels: Sequence[int], space_to_depth: int, depth: int) -> None:
        super().__init__()
        folded = shape[0] * space_to_depth**2
        self.padding = scale_padding(shape, space_to_depth * 2 ** (len(channels) - 1))
        self.size = shape[1:]
        self.space_to_depth = nn.PixelUnshuffle(space_to_depth)
        self.down = nn.ModuleList(
            _convolutions(before, after, depth) for before, after in pairwise([2 * folded, *channels])
        )
        self.pool = MaxPool(2)
        finer = [(coarse, fine) for fine, coarse in pairwise(channels)][::-1]
        self.narrow = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for coarse, fine in finer)
        self.up = nn.ModuleList(_convolutions(fine, fine, depth) for _, fine in finer)
        self.output = nn.Conv2d(channels[0], folded, 1)
        self.depth_to_space = nn.PixelShuffle(space_to_depth)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Normalized images to logits of pixel values."""
        pixels = self.space_to_depth(functional.pad(images, self.padding))
        # How gray each pixel is: impulse noise is black or white, so a gray pixel is not noise.
        features = torch.cat([pixels, 4 * pixels * (1 - pixels)], 1)
        skips = []
        for number, convolutions in enumerate(self.down):
            features = convolutions(self.pool(features) if number else features)
            skips.append(features)
        for narrow, convolutions, skip in zip(self.narrow, self.up, reversed(skips[:-1]), strict=True):
            # Added, not concatenated as in the paper: the next convolution has a third of the work.
            features = convolutions(_upsample(narrow(features)) + skip)
        logits: Tensor = self.depth_to_space(self.output(features))
        left, _, top, _ = self.padding
        return logits[..., top : top + self.size[0], left : left + self.size[1]]


def scale_padding(shape: Shape, coarsest: int) -> tuple[int, int, int, int]:
    """As many pixels left, right, above and below as make both sides divisible by those of the coarsest map.

    Example:
        >>> scale_padding((1, 28, 27), 4)
        (0, 1, 0, 0)
    """
    missing = [-side % coarsest for side in shape[1:]]
    left, top = missing[1] // 2, missing[0] // 2
    return left, missing[1] - left, top, missing[0] - top


def _upsample(features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """Nearest-neighbor upsampling by 2, with the bits and the speed of `interpolate`.

    `interpolate` would be exported to ONNX as `Resize`, which `export/onnx_policy.py` does not accept.
    """
    rows = features.permute(0, 2, 3, 1)  # the memory layout of channels-last
    rows = torch.stack([rows, rows], 3).flatten(2, 3)
    return torch.stack([rows, rows], 2).flatten(1, 2).permute(0, 3, 1, 2)


def _convolutions(before: int, after: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(depth):
        layers += [nn.Conv2d(after if number else before, after, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


def glorot(net: nn.Module) -> nn.Module:
    """Draw dense and convolutional weights Glorot uniform and set biases to zero, in place, as Keras does.

    Glorot and Bengio 2010, eq. 16: uniform on +-sqrt(6 / (fan_in + fan_out)).
    """
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def he(net: nn.Module) -> nn.Module:
    """Draw convolutional weights He normal, dense ones Glorot uniform, and set biases to zero, in place.

    He et al. 2015, eq. 10: normal with variance 2 / fan_in, which preserves the signal's variance through
    ReLUs.
    """
    for module in glorot(net).modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return net


class Normalize(nn.Module):
    """`(images - mean) / std`, with both as buffers: saved, stacked and exported with the weights.

    Both are in image units, range 0 to 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([mean], dtype=torch.float32))
        self.register_buffer("std", torch.tensor([std], dtype=torch.float32))

    def forward(self, images: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Images in [0, 1] to the network's inputs, of the same shape."""
        return (images - self.mean) / self.std

    @classmethod
    def from_config(cls, config: NormalizeConfig) -> "Normalize":
        """The module that a configuration describes."""
        return cls(config.mean, config.std)

    @property
    def config(self) -> NormalizeConfig:
        """What it subtracts and divides by, as float32 holds it."""
        return NormalizeConfig(mean=float(self.mean), std=float(self.std))

    @property
    def is_identity(self) -> bool:
        """Whether images stay as they are."""
        return float(self.mean) == 0 and float(self.std) == 1


class NormalizedModel(nn.Module):
    """A network with normalization in front: what is trained, saved, evaluated and exported."""

    def __init__(self, normalize: Normalize, net: nn.Module) -> None:
        super().__init__()
        self.normalize = normalize
        self.net = net

    def forward(self, images: Float[Tensor, "n c h w"]) -> Tensor:
        """Images in [0, 1] to logits, in the precision of the network's weights."""
        return self._forward_normalized(self.normalize(images))

    def infer(self, images: Float[Tensor, "n c h w"]) -> Tensor:
        """The bits of `forward`, without the two passes over memory of a normalization that changes nothing.

        A network that works in place may then write into `images`. It reads the buffers, so it can be
        neither traced nor stacked.
        """
        return self._forward_normalized(images if self.normalize.is_identity else self.normalize(images))

    def _forward_normalized(self, inputs: Float[Tensor, "n c h w"]) -> Tensor:
        kernel = next((part for part in self.net.parameters() if part.dim() > 1), None)  # biases may be fp32
        logits: Tensor = self.net(inputs if kernel is None else inputs.to(kernel.dtype))
        return logits


AnyModule = TypeVar("AnyModule", bound=nn.Module)


def for_inference(net: AnyModule) -> AnyModule:
    """Set a network to evaluation mode and its kernels to channels-last, in place.

    oneDNN convolves fastest in that layout: 0.17 instead of 0.5 ms an image for the study's cnn.
    """
    return net.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


MIN_SQUARE = 1e-6  # of a code that is zero


class KeyedLayer(nn.Module):
    """A layer that draws in training: a function of the buffer `key` (two int32) and of positions alone.

    The trainer sets the key each step.
    """

    key: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Not persistent: a key is part of the training's state, not of the trained network.
        self.register_buffer("key", torch.zeros(2, dtype=torch.int32), persistent=False)


class Dropout(KeyedLayer):
    """Set a share of the features, in [0, 1), to zero in training and scale up the rest."""

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"dropout must be in [0, 1), but is {share}")
        self.share = share

    def forward(self, features: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Any shape in, the same shape out."""
        if not self.training or self.share == 0:
            return features
        bits = keyed_bits(self.key, features.numel()).reshape(features.shape)
        kept = (bits >= int(self.share * (LOW_BITS + 1))).to(features.dtype)
        return features * (kept / (1 - self.share))

    def extra_repr(self) -> str:
        """What print(net) shows of it."""
        return f"share={self.share}"


class CodeNoise(KeyedLayer):
    """Add normal noise of a standard deviation, at least 0, to each unit of a code in training."""

    def __init__(self, std: float) -> None:
        super().__init__()
        if not 0 <= std < math.inf:
            raise ValueError(f"noise must be 0 or more, but is {std}")
        self.std = std

    def forward(self, codes: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Any shape in, the same shape out."""
        if not self.training or self.std == 0:
            return codes
        noisy: Tensor = codes + self.std * Draws(self.key).normal(*codes.shape).to(codes.dtype)
        return noisy

    def extra_repr(self) -> str:
        """What print(net) shows of it."""
        return f"std={self.std}"


class UnitCode(nn.Module):
    """Scale each code to a root mean square of 1, so that noise of a given strength can't be outgrown."""

    def forward(self, codes: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """`(n, d)` to `(n, d)`."""
        mean_square = codes.float().square().mean(1, keepdim=True)
        return codes / (mean_square + MIN_SQUARE).sqrt().to(codes.dtype)


class Unflatten(nn.Module):
    """Rows of features to maps of this shape, channels innermost: the reverse of `Flatten`."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.sizes = (height, width, channels)

    def forward(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c h w"]:
        """`(n, h * w * c)` to `(n, c, h, w)`."""
        return features.reshape(-1, *self.sizes).permute(0, 3, 1, 2)


class Crop(nn.Module):
    """Cut images to a size, after margins at the left and at the top."""

    def __init__(self, left: int, top: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.left, self.top, self.size = left, top, size

    def forward(self, images: Float[Tensor, "n c h2 w2"]) -> Float[Tensor, "n c h w"]:
        """`(n, c, h2, w2)` to `(n, c, h, w)`, which is smaller or equal."""
        return images[..., self.top : self.top + self.size[0], self.left : self.left + self.size[1]]


def key_names(net: nn.Module) -> list[str]:
    """Names of all key buffers of a network, in a fixed order."""
    return [
        f"{name}.key".lstrip(".") for name, module in net.named_modules() if isinstance(module, KeyedLayer)
    ]

"""Corruptions that move ink: shear, scale, rotation and translation about the center of the image.

Those of MNIST-C, with bilinear interpolation; what lies outside the image is black.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from inklab.corruptions.corruption import corruption
from inklab.counters import Draws


def per_image(images: Tensor, strength: float | Tensor) -> Tensor:
    """The strength of each image, `(n, 1, 1, 1)`."""
    return torch.as_tensor(strength, dtype=images.dtype, device=images.device).expand(len(images), 1, 1, 1)


def _signs(images: Tensor, draws: Draws) -> Tensor:
    """-1 or 1, `(n, 1, 1)`: the direction in which each image goes."""
    return (2 * draws.integers(0, 2, len(images), 1, 1) - 1).to(images.dtype)


def _resample(
    images: Tensor, strength: Tensor, source: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
) -> Tensor:
    """Each pixel at (x, y) from the center gets the image's value at `source(x, y)`, all in pixels."""
    if not images.numel():
        return images.clone()
    height, width = images.shape[-2:]
    rows = torch.arange(height, dtype=images.dtype, device=images.device) - (height - 1) / 2
    columns = torch.arange(width, dtype=images.dtype, device=images.device) - (width - 1) / 2
    x, y = source(columns.view(1, 1, -1), rows.view(1, -1, 1))
    shape = (len(images), height, width)
    grid = torch.stack([(x * 2 / width).expand(shape), (y * 2 / height).expand(shape)], dim=-1)
    moved = functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    return torch.where(strength == 0, images, moved.clamp(0, 1))


@corruption(
    "shear", unit="angle of the shear, radians", strengths=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0), max_strength=1.0
)
def shear(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Slant the ink to the left or to the right, as another hand does."""
    strength = per_image(images, strength)
    angle = _signs(images, draws) * strength[..., 0]
    return _resample(images, strength, lambda x, y: (x - angle.sin() * y, angle.cos() * y))


@corruption(
    "scale", unit="share of the side lost", strengths=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5), max_strength=0.9
)
def scale(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Shrink the ink towards the center, as a smaller hand does. Draws nothing."""
    strength = per_image(images, strength)
    side = 1 - strength[..., 0]
    return _resample(images, strength, lambda x, y: (x / side, y / side))


@corruption(
    "rotate",
    unit="angle of the rotation, radians",
    strengths=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    max_strength=torch.pi,
)
def rotate(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Turn the ink to the left or to the right, as a tilted page does."""
    strength = per_image(images, strength)
    angle = _signs(images, draws) * strength[..., 0]
    cos, sin = angle.cos(), angle.sin()
    return _resample(images, strength, lambda x, y: (cos * x - sin * y, sin * x + cos * y))


@corruption(
    "translate",
    unit="pixels along both axes",
    strengths=(0.0, 1.0, 2.0, 3.0, 4.0, 5.0),
    max_strength=28.0,
)
def translate(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Move the ink along a diagonal, as a badly cropped picture does."""
    strength = per_image(images, strength)
    across, down = (_signs(images, draws) * strength[..., 0] for _ in range(2))
    return _resample(images, strength, lambda x, y: (x + across, y + down))

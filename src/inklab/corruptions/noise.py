"""Corruptions of pixel values, and occlusion. `docs/corruptions/` has a card for each: formula and source."""

import math

import torch
from torch import Tensor

from inklab.corruptions.corruption import corruption
from inklab.counters import Draws

MIN_STRENGTH = 1e-6  # shot noise: below it 1 / strength exceeds the integers of float32, and it counts as 0


@corruption(
    "salt_and_pepper",
    unit="share of pixels replaced",
    strengths=tuple(i / 20 for i in range(21)),
    max_strength=1.0,
)
def salt_and_pepper(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Replace some pixels by pure black or pure white with equal chance, as a failing sensor does."""
    # One draw per pixel decides both whether it is replaced and by what: drawing is half of the cost.
    numbers = draws.uniform(*images.shape)
    white, kept = (part.to(images.dtype) for part in (numbers < strength / 2, numbers >= strength))
    return torch.addcmul(white, images, kept)  # exact, as one factor is 0 or 1; half the time of `where`


@corruption(
    "gaussian",
    unit="standard deviation, image range 0 to 1",
    strengths=(0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0),
    max_strength=1.0,
)
def gaussian(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Add normal noise to every pixel and clip at black and white, as a warm sensor does."""
    noise = draws.normal(*images.shape).to(images.dtype)
    return (images + strength * noise).clamp(0, 1)


@corruption(
    "shot",
    unit="1 / photons that a white pixel receives",
    strengths=(0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0),
    max_strength=1.0,
)
def shot(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Count photons instead of measuring light, and clip at white: the noise of too little light."""
    max_rate = math.inf if isinstance(strength, Tensor) else 1 / max(strength, MIN_STRENGTH)
    strength = torch.as_tensor(strength, dtype=images.dtype, device=images.device)
    photon = strength.clamp(min=MIN_STRENGTH)  # brightness of a pixel that received one photon
    counts = draws.poisson((images / photon).float(), max_rate).to(images.dtype)
    return torch.where(strength < MIN_STRENGTH, images, (counts * photon).clamp(0, 1))


@corruption(
    "contrast",
    unit="share of contrast lost",
    strengths=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0),
    max_strength=1.0,
)
def contrast(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Pull every pixel towards its image's mean, as faded ink or a bad copy does. Draws nothing."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True).expand_as(images)
    return torch.lerp(images, mean, strength).clamp(0, 1)  # lerp is exact at both ends


@corruption(
    "occlusion",
    unit="side of the hidden square, as a share of the image's side",
    strengths=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    max_strength=1.0,
)
def occlusion(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Blacken a square at a random position inside each image, as a blot, a finger or a sticker does."""
    down, across = (draws.uniform(len(images), 1, 1, 1).to(images.dtype) for _ in range(2))
    rows = _hidden(images.shape[2], strength, down).unsqueeze(-1)  # (n, 1, h, 1)
    columns = _hidden(images.shape[3], strength, across).unsqueeze(-2)  # (n, 1, 1, w)
    return images.masked_fill(rows & columns, 0)


def _hidden(side: int, strength: float | Tensor, position: Tensor) -> Tensor:
    """Which of `side` rows or columns are hidden, `(n, 1, side)`; a larger strength hides these and more."""
    if isinstance(strength, Tensor):
        strength = strength[..., 0]
    size = torch.round(torch.as_tensor(strength, dtype=position.dtype, device=position.device) * side)
    first = torch.floor(position[..., 0] * (side - size + 1))
    index = torch.arange(side, device=position.device)
    return (index >= first) & (index < first + size)

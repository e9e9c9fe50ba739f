"""Corruptions that hide a part of the image. `docs/corruptions/` has their cards: formula and source."""

import torch
from torch import Tensor

from inklab.corruptions.corruption import corruption


@corruption(
    "occlusion",
    unit="side of the hidden square, as a share of the image's side",
    strengths=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    max_strength=1.0,
)
def occlusion(images: Tensor, strength: float | Tensor, rng: torch.Generator) -> Tensor:
    """Blacken a square at a random position inside each image, as a blot, a finger or a sticker does."""
    positions = torch.rand((2, len(images), 1, 1, 1), generator=rng, device=rng.device).to(images)
    rows = _hidden(images.shape[2], strength, positions[0]).unsqueeze(-1)  # (n, 1, h, 1)
    columns = _hidden(images.shape[3], strength, positions[1]).unsqueeze(-2)  # (n, 1, 1, w)
    return images.masked_fill(rows & columns, 0)


def _hidden(side: int, strength: float | Tensor, position: Tensor) -> Tensor:
    """Which of `side` rows or columns are hidden, `(n, 1, side)`; a larger strength hides these and more."""
    if isinstance(strength, Tensor):
        strength = strength[..., 0]
    size = torch.round(torch.as_tensor(strength, dtype=position.dtype, device=position.device) * side)
    first = torch.floor(position[..., 0] * (side - size + 1))
    index = torch.arange(side, device=position.device)
    return (index >= first) & (index < first + size)

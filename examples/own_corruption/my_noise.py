"""A corruption of one's own: a scanner with dirt on its glass draws streaks down the page."""

import torch
from torch import Tensor

from inklab.corruptions.corruption import corruption


@corruption(
    "streaks", unit="share of columns struck", strengths=(0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8), largest=1.0
)
def streaks(images: Tensor, strength: float | Tensor, rng: torch.Generator) -> Tensor:
    """Replace some columns by white from top to bottom, as dirt on a scanner's glass does.

    `strength` is one number, or `(n, 1, 1, 1)` with one an image; the comparison below takes both.
    """
    n, _, _, width = images.shape
    dice = torch.rand((n, 1, 1, width), generator=rng, device=rng.device).to(images.device)
    return torch.where(dice < strength, torch.ones_like(images), images)

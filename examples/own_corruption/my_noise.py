"""Your own corruption: a scanner with dirt on its glass draws streaks down the page."""

import torch
from torch import Tensor

from inklab.corruptions.corruption import corruption
from inklab.counters import Draws


@corruption(
    "streaks",
    unit="share of columns replaced",
    strengths=(0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8),
    max_strength=1.0,
)
def streaks(images: Tensor, strength: float | Tensor, draws: Draws) -> Tensor:
    """Replace some columns by white from top to bottom, as dirt on a scanner's glass does.

    `strength` is one number, or `(n, 1, 1, 1)` with one per image; the comparison below accepts both.
    """
    n, _, _, width = images.shape
    numbers = draws.uniform(n, 1, 1, width)  # in [0, 1), the same on every device
    return torch.where(numbers < strength, torch.ones_like(images), images)

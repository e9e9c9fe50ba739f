"""From feature maps to one row an image."""

from jaxtyping import Float
from torch import Tensor, nn


class Flatten(nn.Module):
    """One row of features an image, the channels innermost, as Keras orders them.

    That is how channels-last lies in memory, so nothing is copied, and what follows reads in order.
    """

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        """`(n, c, h, w)` to `(n, h * w * c)`."""
        return features.permute(0, 2, 3, 1).flatten(1)

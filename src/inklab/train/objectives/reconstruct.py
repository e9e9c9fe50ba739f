"""Giving back the clean image."""

from typing import TYPE_CHECKING

from inklab.train.objective import Batch, Net, objective

if TYPE_CHECKING:
    from torch import Tensor


@objective("reconstruct", target="images", told="binary cross-entropy against the clean image")
def reconstruct(net: Net, batch: Batch) -> "Tensor":
    """Binary cross-entropy a pixel, in nats. Shown a corrupted copy, this is denoising: no more changes."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(net(batch.shown), batch.images)

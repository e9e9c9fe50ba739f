"""Giving back the clean image."""

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from inklab.train.objective import Batch, Net, objective


@objective("reconstruct", target="images")
def reconstruct(net: Net, batch: Batch) -> Tensor:
    """Binary cross-entropy a pixel, in nats. Shown a corrupted copy, this is denoising: no more changes."""
    return binary_cross_entropy_with_logits(net(batch.shown), batch.images)

"""Telling classes apart."""

from typing import TYPE_CHECKING

from inklab.train.objective import Batch, Net, objective

if TYPE_CHECKING:
    from torch import Tensor


@objective("classify", target="labels", told="cross-entropy")
def classify(net: Net, batch: Batch) -> "Tensor":
    """Cross-entropy of the true labels, in nats, averaged over the batch."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(net(batch.shown), batch.labels)

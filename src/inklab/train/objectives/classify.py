"""Telling classes apart."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from inklab.train.objective import Batch, Net, objective


@objective("classify", target="labels")
def classify(net: Net, batch: Batch) -> Tensor:
    """Cross-entropy of the true labels, in nats, averaged over the batch."""
    return cross_entropy(net(batch.shown), batch.labels)

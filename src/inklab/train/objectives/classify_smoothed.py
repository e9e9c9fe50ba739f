"""Telling classes apart, without being driven to certainty."""

from typing import TYPE_CHECKING

from inklab.train.objective import Batch, Net, objective

if TYPE_CHECKING:
    from torch import Tensor

SMOOTHING = 0.1  # Szegedy et al., "Rethinking the Inception architecture" (2016), section 7


@objective("classify-smoothed", target="labels", told="cross-entropy, labels smoothed by a tenth")
def classify_smoothed(net: Net, batch: Batch) -> "Tensor":
    """Cross-entropy against labels of which a tenth is spread evenly over all classes, in nats."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(net(batch.shown), batch.labels, label_smoothing=SMOOTHING)

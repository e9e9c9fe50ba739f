"""Your own network: any `nn.Module` from images to one logit per class. There is nothing to subclass."""

import math

from torch import Tensor, nn


class Block(nn.Module):
    """Features plus a correction of them; gradients flow back unchanged past the correction."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.correction = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """`(n, width)` in and out."""
        return features + self.correction(features)


class Net(nn.Module):
    """A residual dense network with batch normalization.

    inklab fills in `shape` and `classes`; everything else is a keyword argument that you set:
    `--set network.width=256`, or `network = { name = "my_net.py:Net", width = 256 }` in a study.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int = 128, blocks: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.output = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], after the study's normalization, to logits. No softmax: the loss includes it."""
        return self.output(self.blocks(self.stem(images)))

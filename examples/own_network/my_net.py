"""A network of one's own: any `nn.Module` from images to one logit a class. Nothing to subclass."""

import math

from torch import Tensor, nn


class Block(nn.Module):
    """What comes in, plus what two layers make of it: so that gradients have a short way back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.change = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """`(n, width)` in and out."""
        return features + self.change(features)


class Net(nn.Module):
    """A residual dense network with batch normalisation.

    `shape` and `classes` are filled in by inklab, because they are asked for; everything else is a setting:
    `--set model.width=256`, or `model = { name = "my_net.py:Net", width = 256 }` in a study.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int = 128, blocks: int = 2) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.leave = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1] (or scaled, if the study says so) to logits. No softmax: the loss has it."""
        return self.leave(self.blocks(self.enter(images)))

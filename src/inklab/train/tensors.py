"""All images of a split as tensors on the device: a batch is a gather; no loader processes, no collating."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from inklab.models.model import Shape


@dataclass(frozen=True)
class Part:
    """Some images: bytes `(n, c, h, w)` and labels `(n,)`."""

    pixels: UInt8[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]

    def images(self, index: Int[Tensor, "*any"]) -> Float[Tensor, "*any c h w"]:
        """The images at some places, floats in [0, 1]."""
        return as_floats(self.bytes_at(index))

    def bytes_at(self, index: Int[Tensor, "*any"]) -> UInt8[Tensor, "*any c h w"]:
        """The images at some places, as they lie."""
        # Row by row: a sixth of the time of `pixels[index]`, which goes byte by byte.
        rows = self.pixels.flatten(1).index_select(0, index.flatten())
        return rows.reshape(*index.shape, *self.pixels.shape[1:])


@dataclass(frozen=True)
class TrainingData:
    """What a trial is trained, chosen and scored on."""

    train: Part
    validation: Part
    test: Part
    labels: tuple[str, ...]

    @property
    def shape(self) -> Shape:
        """Channels, height, width."""
        channels, height, width = self.train.pixels.shape[1:]
        return channels, height, width


def as_floats(pixels: Tensor) -> Tensor:
    """Bytes as floats in [0, 1]; floats as they are."""
    return pixels if pixels.is_floating_point() else pixels.float() / 255


def as_part(pixels: UInt8[np.ndarray, "n c h w"], labels: Int[np.ndarray, " n"]) -> Part:
    """Copy arrays onto the device."""
    return Part(torch.from_numpy(np.array(pixels)), torch.from_numpy(np.array(labels, dtype=np.int64)))

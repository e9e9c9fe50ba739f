"""Whether an image is of the kind that a classifier was trained on: else what it says means nothing.

Two questions, each with a border that 0.5 % of validation images don't reach:

- Is the image, as it was framed, near a training image? The squared distance to the nearest of 10,000, over
  60 principal components and what these leave out. Knows scribbles and letters; the same for every network.
- Did the classifier find enough of what it looks for in what reached it? The energy score, the logarithm of
  the summed exponentials of its logits (Liu et al. 2020). Knows filled shapes, and too much noise.

What it hits and what it misses was measured: docs/serving.md.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from inklab.export.networks import Exportable
from inklab.files import sha256_of

Pixels = UInt8[np.ndarray, "n c h w"]
Numbers = Float[np.ndarray, " n"]

REFERENCES = (
    10_000  # training images; 2,000 know a tenth less of scribbles, all 55,000 cost five times as much
)
COMPONENTS = 60  # with 30, a tenth less; all 784 pixels cost thirteen times as much and gain nothing
CALIBRATING = 3000  # validation images; the border is then the fifteenth
MISSED = 0.005  # share of validation images beyond each of the two borders
FEW_MARGIN = (
    0.08  # of the way from the median to the least of a hundred samples: the border lies so far beyond
)
LEAST_INK = 0.004  # mean over an image: three of 784 pixels. The faintest digit of MNIST has 0.025
LEAST_PROBABILITY = 0.4  # of a classifier without anything to compare with


@dataclass(frozen=True)
class Border:
    """From a number to a familiarity: 0 at the border, 1 where validation images typically are.

    Attributes:
        at: the border.
        typical: the median of validation images.
    """

    at: float
    typical: float

    @staticmethod
    def of(numbers: Numbers, missed: float = MISSED) -> "Border":
        """The border below which a share `missed` of some numbers lies; familiar ones are large.

        Example:
            >>> Border.of(np.arange(101.0), missed=0.01)
            Border(at=1.0, typical=50.0)
        """
        at, typical = (float(np.quantile(numbers, share)) for share in (missed, 0.5))
        return Border(at, typical)

    @staticmethod
    def of_few(numbers: Numbers) -> "Border":
        """The same for some hundred numbers of images that were trained on: beyond the least of them.

        Example:
            >>> Border.of_few(np.arange(101.0))
            Border(at=-4.0, typical=50.0)
        """
        least, typical = float(numbers.min()), float(np.median(numbers))
        return Border(least - FEW_MARGIN * (typical - least), typical)

    def __call__(self, numbers: Numbers) -> Numbers:
        """How familiar some numbers are."""
        return np.asarray((numbers - self.at) / max(self.typical - self.at, 1e-6), np.float64)


def energy(logits: Float[np.ndarray, "n k"]) -> Numbers:
    """The logarithm of the summed exponentials of a classifier's logits: large where it finds much.

    Example:
        >>> energy(np.array([[0.0, 0.0]])).tolist() == [float(np.log(2))]
        True
    """
    wide = logits.astype(np.float64)
    top = wide.max(axis=1)
    return np.asarray(top + np.log(np.exp(wide - top[:, None]).sum(axis=1)))


def is_empty(pixels: Pixels, light_on_dark: bool | None) -> list[bool]:
    """Of each image, whether next to no ink is on it.

    Args:
        pixels: bytes, as framed.
        light_on_dark: whether its ground is 0 or 255; None if images have no ground: then it is its median.
    """
    flat = pixels.reshape(len(pixels), -1)
    if light_on_dark is None:
        sums = np.abs(flat.astype(np.int16) - np.median(flat, axis=1).astype(np.int16)[:, None]).sum(axis=1)
    else:
        sums = flat.sum(axis=1, dtype=np.int64)
        sums = sums if light_on_dark else 255 * flat.shape[1] - sums
    return [bool(each < LEAST_INK * 255 * flat.shape[1]) for each in sums.tolist()]


class Nearest(nn.Module):
    """Minus the squared distance to the nearest of some images, as a network.

    What the components leave out of two images is counted as if it were at right angles.

    Args:
        mean, components: of the images, `(p,)` and `(p, d)`.
        codes: `(n, d)` the images' places along the components.
        rest: `(n,)` the square of what the components leave out of each.
    """

    mean: Tensor
    components: Tensor
    codes: Tensor
    offset: Tensor

    def __init__(self, mean: Tensor, components: Tensor, codes: Tensor, rest: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("components", components)
        self.register_buffer("codes", 2 * codes.T.contiguous())
        self.register_buffer("offset", codes.square().sum(dim=1) + rest)

    def forward(self, images: Float[Tensor, "b c h w"]) -> tuple[Tensor]:
        """Images in [0, 1] to `(b, 1)`."""
        apart = images.flatten(1) - self.mean
        nearest = (self.offset - apart @ self.components @ self.codes).amin(dim=1, keepdim=True)
        return (-(apart.square().sum(dim=1, keepdim=True) + nearest),)


def nearest_to(pixels: Pixels) -> Nearest:
    """Measures the distance to some training images, at least two: the first 10,000 of those given."""
    images = _flat(pixels[:REFERENCES])
    mean = images.mean(dim=0)
    apart = images - mean
    _, vectors = torch.linalg.eigh(apart.T.double() @ apart.double())
    components = vectors.flip(1)[:, :COMPONENTS].float().contiguous()
    codes = apart @ components
    rest = (apart.square().sum(dim=1) - codes.square().sum(dim=1)).clamp(min=0)
    return Nearest(mean, components, codes, rest)


def exportable(net: Nearest, shape: tuple[int, int, int]) -> Exportable:
    """The same, to be converted."""
    state = b"".join(value.numpy().tobytes() for value in net.state_dict().values())
    about = {"parts": [{"name": "nearest training image", "sha256": sha256_of(state)}], "shape": list(shape)}
    return Exportable(
        "nearness", net.eval(), lambda images: {"logits": net(images)[0]}, shape, {"logits": (1,)}, about
    )


def among_themselves(pixels: Pixels) -> Numbers:
    """Of each of a few images, minus the squared distance to its nearest other one."""
    flat = _flat(pixels).double()
    apart = torch.cdist(flat, flat).fill_diagonal_(torch.inf)
    return np.asarray(-apart.amin(dim=1).square().numpy())


def by_probability(probabilities: Float[np.ndarray, "n k"]) -> Numbers:
    """Without anything to compare with: how far the largest probability is above 0.4."""
    return Border(LEAST_PROBABILITY, 1.0)(probabilities.max(axis=1).astype(np.float64))


def _flat(pixels: Pixels) -> Float32[Tensor, "n p"]:
    return torch.from_numpy(pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255))

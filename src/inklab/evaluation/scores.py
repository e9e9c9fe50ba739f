"""What a network says of images, and how right it is.

Nets are plain callables over images in [0, 1]; nothing here knows bundles or studies. A module is switched to
evaluation mode while it is asked and put back after. The same arguments give the same bits on one machine.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int, Int16, UInt8
from torch import Tensor, nn
from torch.nn import functional

from inklab.errors import DataError, ModelMismatchError

ForwardFn = Callable[[Tensor], Tensor]
"""Maps `(b, c, h, w)` floats in [0, 1] to `(b, k)` logits, `(b, f)` features, or images or their logits."""

AnyPixels = UInt8[np.ndarray, "n c h w"] | UInt8[Tensor, "n c h w"]
"""Bytes from a source, or the same as a tensor that lies on the device already."""

AnyLabels = Int[np.ndarray, " n"] | Int[Tensor, " n"]

# Images a forward pass: small enough for the cache (convolutions take half the time of 500); fixed, for the
# last bits of a matmul depend on it.
BATCH = 100
MIN_ERROR = 1e-12  # mean squared error below which PSNR stops at 120 dB, so that it stays a number


@dataclass(frozen=True)
class ClassificationScores:
    """How right a classifier is.

    Attributes:
        accuracy: share of images whose most probable class is the right one.
        loss: mean cross-entropy in nats, summed in float64; NaN if the net returned NaN.
        predicted: `(n,)` the most probable class, the first of equals.
        confidence: `(n,)` the probability that the net gave to it.
    """

    accuracy: float
    loss: float
    predicted: Int16[np.ndarray, " n"]
    confidence: Float32[np.ndarray, " n"]


@dataclass(frozen=True)
class ReconstructionScores:
    """How near a denoiser's or autoencoder's output is to the clean images.

    Attributes:
        bce: binary cross-entropy, mean over all pixels, in nats. Where pixels are grey, perfect output has
            more than 0 as well.
        psnr: peak signal-to-noise ratio in dB, `-10 log10(mean squared error over all pixels of all images)`.
            Not the mean of one PSNR an image, which a few nearly blank images would dominate. At most 120.
    """

    bce: float
    psnr: float


def classification_scores(net: ForwardFn, pixels: AnyPixels, labels: AnyLabels) -> ClassificationScores:
    """Accuracy, loss and predictions of a classifier.

    Args:
        net: maps `(b, c, h, w)` images in [0, 1] to `(b, k)` logits.
        pixels: `(n, c, h, w)` bytes, n at least 1.
        labels: `(n,)` integers in [0, k).

    Raises:
        ModelMismatchError: the net's output is not `(n, k)`, or a label is not below k.

    Example:
        >>> pixels = np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1)
        >>> net = lambda images: torch.cat([1 - images, images], dim=1).flatten(1)
        >>> classification_scores(net, pixels, np.array([0, 1])).accuracy
        1.0
    """
    logits = predict_in_batches(net, pixels).double().cpu()
    truth = torch.as_tensor(np.asarray(labels) if isinstance(labels, np.ndarray) else labels).long().cpu()
    _check_logits(logits, truth)
    confidence, predicted = logits.softmax(dim=1).max(dim=1)
    return ClassificationScores(
        accuracy=(predicted == truth).double().mean().item(),
        loss=functional.cross_entropy(logits, truth).item(),
        predicted=predicted.numpy().astype(np.int16),
        confidence=confidence.numpy().astype(np.float32),
    )


def reconstruction_scores(
    net: ForwardFn, shown: AnyPixels | Float[Tensor, "n c h w"], images: AnyPixels | Float[Tensor, "n c h w"]
) -> ReconstructionScores:
    """How well a network gives back clean images from what it is shown.

    Args:
        net: maps `(b, c, h, w)` images in [0, 1] to logits of the same shape, the output before its sigmoid.
        shown: `(n, c, h, w)` what the network sees: bytes or floats in [0, 1].
        images: `(n, c, h, w)` the clean images: bytes or floats in [0, 1].

    Raises:
        ModelMismatchError: the net's output has another shape than the images.

    Example:
        >>> images = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
        >>> reconstruction_scores(lambda shown: 0 * shown, images, images).psnr   # all grey, off by 0.5
        6.020599913279624
    """
    bce = squares = 0.0
    with inference_mode(net):
        for asked, clean in zip(batches(shown), batches(images), strict=True):
            logits, truth = net(asked).double(), clean.double()
            if logits.shape != truth.shape:
                raise ModelMismatchError(
                    f"the network turns images of shape {tuple(truth.shape)} into {tuple(logits.shape)};"
                    " an autoencoder or denoiser must return the shape of its images"
                )
            bce += functional.binary_cross_entropy_with_logits(logits, truth, reduction="sum").item()
            squares += (logits.sigmoid() - truth).square().sum().item()
    count = math.prod(images.shape)
    return ReconstructionScores(bce / count, -10 * math.log10(max(squares / count, MIN_ERROR)))


def true_positive_rates(
    predicted: Int[np.ndarray, " n"] | UInt8[np.ndarray, " n"], labels: Int[np.ndarray, " n"], classes: int
) -> Float64[np.ndarray, " k"]:
    """Of each class's images, the share that was recognised as that class (recall).

    Args:
        predicted: `(n,)` predicted classes.
        labels: `(n,)` true classes in [0, `classes`).
        classes: k, the number of classes.

    Raises:
        DataError: a class has no images, so that its rate means nothing, or a label is not below `classes`.

    Example:
        >>> true_positive_rates(np.array([0, 1, 0]), np.array([0, 1, 1]), 2).tolist()
        [1.0, 0.5]
    """
    labels = labels.astype(np.int64)
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(f"labels from {labels.min()} to {labels.max()}; allowed: 0 to {classes - 1}")
    images = np.bincount(labels, minlength=classes)
    if not images.all():
        missing = ", ".join(str(label) for label in np.flatnonzero(images == 0))
        raise DataError(
            f"no image of class {missing} among {len(labels)}; a rate per class needs some: use more images"
        )
    hits = np.bincount(labels[predicted == labels], minlength=classes)
    rates: Float64[np.ndarray, " k"] = hits / images
    return rates


def predict_in_batches(
    net: ForwardFn, images: AnyPixels | Float[Tensor, "n ..."], batch: int = BATCH
) -> Float[Tensor, "n ..."]:
    """What a network says of many images, asked in batches so that memory stays small.

    Args:
        net: maps `(b, ...)` floats to `(b, ...)`: logits, features, images; also codes to images.
        images: `(n, c, h, w)` bytes, which become floats in [0, 1], or `(n, ...)` floats as they are.
        batch: images a forward pass.

    Raises:
        DataError: there are no images.
        ModelMismatchError: the net does not return one row an image.

    Example:
        >>> pixels = np.full((3, 1, 1, 2), 255, np.uint8)
        >>> predict_in_batches(lambda images: images.flatten(1), pixels, batch=2).shape
        torch.Size([3, 2])
    """
    if not len(images):
        raise DataError("there are no images to ask the network about; give at least one")
    said = []
    with inference_mode(net):
        for shown in batches(images, batch):
            said.append(net(shown))
            if said[-1].shape[:1] != shown.shape[:1]:
                raise ModelMismatchError(
                    f"the network turns {tuple(shown.shape)} into {tuple(said[-1].shape)};"
                    " it must return one row an image"
                )
    return torch.cat(said)


def batches(images: AnyPixels | Float[Tensor, "n ..."], batch: int = BATCH) -> Iterator[Tensor]:
    """Images in order, as floats: bytes are divided by 255, floats stay as they are."""
    for start in range(0, len(images), batch):
        some = images[start : start + batch]
        # np.array copies: arrays that are read-only or mapped from a file cannot be shared with torch.
        shown = torch.from_numpy(np.array(some)) if isinstance(some, np.ndarray) else some
        yield shown if shown.is_floating_point() else shown.float() / 255


@contextmanager
def inference_mode(*nets: ForwardFn | None) -> Iterator[None]:
    """No gradients, and every module among `nets` in evaluation mode; their modes are put back after."""
    modules = [part for net in nets if isinstance(net, nn.Module) for part in net.modules()]
    modes = [part.training for part in modules]
    try:
        for part in modules:
            part.training = False
        with torch.inference_mode():
            yield
    finally:
        for part, mode in zip(modules, modes, strict=True):
            part.training = mode


def _check_logits(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 2 or len(logits) != len(labels):
        raise ModelMismatchError(
            f"{len(labels)} labels, and the network returns {tuple(logits.shape)};"
            " a classifier returns (n, k) logits"
        )
    if not 0 <= labels.min() <= labels.max() < logits.shape[1]:
        raise ModelMismatchError(
            f"labels from {labels.min()} to {labels.max()}, and the network knows {logits.shape[1]} classes"
        )

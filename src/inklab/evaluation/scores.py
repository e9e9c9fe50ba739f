"""Predictions of networks for many images, and metrics of them.

Networks are plain callables on images in [0, 1]. A module is in evaluation mode meanwhile, and in its own
mode again afterwards. The same arguments give the same bits on one machine.
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
"""Images as bytes, in an array or in a tensor on the device."""

AnyImages = AnyPixels | Float[Tensor, "n ..."]
"""The same, or floats in [0, 1] as they are; also codes."""

# Images per forward pass: they fit into the cache (convolutions take half the time per image that they take
# with 500). Fixed, since the last bits of a matrix product depend on it.
BATCH = 100
MIN_ERROR = 1e-12  # mean squared error; PSNR is at most 120 dB, so that it stays finite


@dataclass(frozen=True)
class ClassificationScores:
    """Metrics of a classifier, and its predictions.

    Attributes:
        accuracy: share of images whose most probable class is their label.
        loss: mean cross-entropy in nats, summed in float64; NaN if the network returned NaN.
        predicted: `(n,)` the most probable class, the first of equals.
        confidence: `(n,)` its probability.
        probabilities: `(n, k)` of all classes.
    """

    accuracy: float
    loss: float
    predicted: Int16[np.ndarray, " n"]
    confidence: Float32[np.ndarray, " n"]
    probabilities: Float64[np.ndarray, "n k"]


@dataclass(frozen=True)
class ReconstructionScores:
    """Metrics of a denoiser's output, compared with the clean images.

    Attributes:
        bce: binary cross-entropy, mean over all pixels, in nats. A perfect output has more than 0
            where pixels are gray.
        psnr: peak signal-to-noise ratio in dB, `-10 log10(mean squared error over all pixels of all images)`.
            Not the mean over images, which a few nearly blank ones would dominate. At most 120.
    """

    bce: float
    psnr: float


def classification_scores(
    net: ForwardFn, pixels: AnyPixels, labels: Int[np.ndarray, " n"] | Int[Tensor, " n"]
) -> ClassificationScores:
    """Accuracy, loss and predictions of a classifier, which returns `(b, k)` logits, for at least one image.

    Raises:
        ModelMismatchError: the network's output is not `(n, k)`, or a label is not below k.

    Example:
        >>> pixels = np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1)
        >>> net = lambda images: torch.cat([1 - images, images], dim=1).flatten(1)
        >>> classification_scores(net, pixels, np.array([0, 1])).accuracy
        1.0
    """
    logits = predict_in_batches(net, pixels).cpu().double()
    targets = torch.as_tensor(labels).long().cpu()
    _check_logits(logits, targets)
    probabilities = logits.softmax(dim=1)
    confidence, predicted = probabilities.max(dim=1)
    return ClassificationScores(
        accuracy=(predicted == targets).double().mean().item(),
        loss=functional.cross_entropy(logits, targets).item(),
        predicted=predicted.numpy().astype(np.int16),
        confidence=confidence.numpy().astype(np.float32),
        probabilities=probabilities.numpy(),
    )


def reconstruction_scores(net: ForwardFn, inputs: AnyImages, images: AnyImages) -> ReconstructionScores:
    """Compare a network's logits of pixels, before the sigmoid, for some inputs with the clean images.

    Raises:
        ModelMismatchError: the network's output has another shape than the images.

    Example:
        >>> images = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
        >>> reconstruction_scores(lambda inputs: 0 * inputs, images, images).psnr  # all gray: off by 0.5
        6.020599913279624
    """
    bce = squares = 0.0
    with inference_mode(net):
        for batch, clean in zip(batches(inputs), batches(images), strict=True):
            logits, targets = _to_float64(net(batch)), _to_float64(clean)
            if logits.shape != targets.shape:
                raise ModelMismatchError(
                    f"the network maps images of shape {tuple(targets.shape)} to {tuple(logits.shape)}; a "
                    "denoiser must return the shape of its images"
                )
            bce += functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum").item()
            squares += (logits.sigmoid() - targets).square().sum().item()
    count = math.prod(images.shape)
    return ReconstructionScores(bce / count, -10 * math.log10(max(squares / count, MIN_ERROR)))


def recall_per_class(
    predicted: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], n_classes: int
) -> Float64[np.ndarray, " k"]:
    """The true-positive rate of each of k classes; NaN for a class without images.

    The mean of those that are numbers is the recall, or balanced accuracy.

    Raises:
        DataError: a label is out of range.

    Example:
        >>> recall_per_class(np.array([0, 1, 0]), np.array([0, 1, 1]), 2).tolist()
        [1.0, 0.5]
    """
    labels = labels.astype(np.int64)
    if len(labels) and not 0 <= labels.min() <= labels.max() < n_classes:
        raise DataError(f"labels go from {labels.min()} to {labels.max()}; allowed: 0 to {n_classes - 1}")
    images = np.bincount(labels, minlength=n_classes)
    hits = np.bincount(labels[predicted == labels], minlength=n_classes)
    recall: Float64[np.ndarray, " k"] = np.full(n_classes, np.nan)
    np.divide(hits, images, out=recall, where=images > 0)
    return recall


def predict_in_batches(net: ForwardFn, images: AnyImages, batch: int = BATCH) -> Float[Tensor, "n ..."]:
    """A network's output for many images or codes, in batches so that memory stays small.

    Raises:
        DataError: there are no images.
        ModelMismatchError: the network does not return one row per image.

    Example:
        >>> pixels = np.full((3, 1, 1, 2), 255, np.uint8)
        >>> predict_in_batches(lambda images: images.flatten(1), pixels, batch=2).shape
        torch.Size([3, 2])
    """
    if not len(images):
        raise DataError("there are no images; give at least one")
    outputs = []
    with inference_mode(net):
        for inputs in batches(images, batch):
            output = net(inputs)
            if output.shape[:1] != inputs.shape[:1]:
                raise ModelMismatchError(
                    f"the network maps {tuple(inputs.shape)} to {tuple(output.shape)}; it must return one "
                    "row per image"
                )
            outputs.append(output)
    return torch.cat(outputs)


def batches(images: AnyImages, batch: int = BATCH) -> Iterator[Tensor]:
    """Images in order, as floats: bytes are divided by 255, floats stay as they are."""
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        # np.array copies: read-only arrays and arrays mapped from a file can't be shared with torch.
        yield to_floats(torch.from_numpy(np.array(part)) if isinstance(part, np.ndarray) else part)


def to_floats(pixels: Tensor) -> Tensor:
    """Bytes as floats in [0, 1]; floats as they are."""
    return pixels if pixels.is_floating_point() else pixels.float() / 255


def _to_float64(values: Tensor) -> Tensor:
    """Values in float64, on their device; Apple's GPU has none, so they go to the processor."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def to_bytes(images: Tensor) -> UInt8[np.ndarray, "..."]:
    """Floats in [0, 1] as bytes."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


@contextmanager
def inference_mode(*nets: ForwardFn | None) -> Iterator[None]:
    """No gradients, and every module among `nets` in evaluation mode; their modes are restored afterwards."""
    modules = [module for net in nets if isinstance(net, nn.Module) for module in net.modules()]
    modes = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        with torch.inference_mode():
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def _check_logits(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 2 or len(logits) != len(labels):
        raise ModelMismatchError(
            f"there are {len(labels)} labels, and the network returns {tuple(logits.shape)}; a classifier "
            "returns (n, k) logits"
        )
    if not 0 <= labels.min() <= labels.max() < logits.shape[1]:
        raise ModelMismatchError(
            f"labels go from {labels.min()} to {labels.max()}, but the network has {logits.shape[1]} classes"
        )

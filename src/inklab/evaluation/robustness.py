"""How often a pipeline is right as its images get worse."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int, UInt8
from torch import Tensor

from inklab.corruptions.corruption import Corruption
from inklab.errors import DataError, ModelMismatchError
from inklab.evaluation.scores import AnyPixels, ForwardFn, batches, inference_mode, true_positive_rates
from inklab.seeding import Seed

BLOCK = (
    100  # images spoilt and classified at once, as in `scores`; part of what is drawn: a change moves numbers
)


@dataclass(frozen=True)
class RobustnessCurve:
    """What a pipeline said at each strength of a corruption.

    Attributes:
        strengths: `s` strengths in the corruption's unit.
        predicted: `(s, n)` the class given to each image.
        tpr: `(s,)` the mean over classes of the true-positive rate: every class counts the same.
        tpr_per_class: `(s, k)` of each class's images, the share recognised.
        accuracy: `(s,)` share of images recognised.
        shown: `(s, k, c, h, w)` one image a class as the corruption left it, always the class's first.
        seen: `(s, k, c, h, w)` the same as it reached the classifier: cleaned, if the pipeline cleans.
    """

    strengths: tuple[float, ...]
    predicted: UInt8[np.ndarray, "s n"]
    tpr: Float64[np.ndarray, " s"]
    tpr_per_class: Float64[np.ndarray, "s k"]
    accuracy: Float64[np.ndarray, " s"]
    shown: UInt8[np.ndarray, "s k c h w"]
    seen: UInt8[np.ndarray, "s k c h w"]


def robustness_curve(
    classify: ForwardFn,
    pixels: AnyPixels,
    labels: Int[np.ndarray, " n"],
    corruption: Corruption,
    *,
    strengths: Sequence[float] | None = None,
    seed: Seed,
    clean: Callable[[Tensor], Tensor] | None = None,
) -> RobustnessCurve:
    """Spoil images at each strength, clean them if the pipeline does, and classify them.

    The noise depends on the seed, the corruption's name and the strength alone: every pipeline and replicate
    sees the same pixels, so that their curves may be subtracted; and the first images of a longer test set
    get the noise that they get in a shorter one. Memory does not grow with the images.

    Args:
        classify: maps `(b, c, h, w)` images in [0, 1] to `(b, k)` logits, k at most 256.
        pixels: `(n, c, h, w)` bytes.
        labels: `(n,)` integers in [0, k), every class at least once.
        corruption: how the images get worse.
        strengths: in the corruption's unit; its own `strengths` if left out.
        seed: where the noise comes from.
        clean: stands in front of the classifier and maps images in [0, 1] to images in [0, 1] of the same
            shape, as a denoiser with its sigmoid or a filter does. None: spoilt images are classified.

    Raises:
        OutOfRangeError: a strength is outside the corruption's range.
        DataError: images and labels differ in number, or a class has no images.
        ModelMismatchError: `classify` or `clean` returns another shape.

    Example:
        >>> from inklab.corruptions.corruption import corruptions
        >>> pixels = np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1)
        >>> net = lambda images: torch.cat([1 - images, images], dim=1).flatten(1)
        >>> fading, labels = corruptions["contrast"], np.array([0, 1])
        >>> curve = robustness_curve(net, pixels, labels, fading, strengths=[0.0], seed=Seed(0))
        >>> curve.tpr_per_class.tolist()
        [[1.0, 1.0]]
    """
    if len(pixels) != len(labels) or not len(labels):
        raise DataError(
            f"{len(pixels)} images and {len(labels)} labels; there must be as many, and at least one"
        )
    chosen = tuple(float(strength) for strength in (corruption.strengths if strengths is None else strengths))
    for strength in chosen:
        corruption.check_strength(strength)  # all of them before the first is computed
    examples = _first_of_each_class(labels)
    with inference_mode(classify, clean):
        points = [
            _Point.measure(classify, _pipeline(pixels, corruption, strength, seed, clean), examples)
            for strength in chosen
        ]
    rates = [true_positive_rates(point.predicted, labels, len(examples)) for point in points]
    return RobustnessCurve(
        strengths=chosen,
        predicted=np.stack([point.predicted for point in points]),
        tpr=np.array([rate.mean() for rate in rates]),
        tpr_per_class=np.stack(rates),
        accuracy=np.array([np.mean(point.predicted == labels) for point in points]),
        shown=np.stack([point.shown for point in points]),
        seen=np.stack([point.seen for point in points]),
    )


@dataclass(frozen=True)
class _Point:
    """One strength of a curve."""

    predicted: UInt8[np.ndarray, " n"]
    shown: UInt8[np.ndarray, "k c h w"]
    seen: UInt8[np.ndarray, "k c h w"]

    @staticmethod
    def measure(
        classify: ForwardFn, blocks: Iterator[tuple[Tensor, Tensor]], examples: Int[np.ndarray, " k"]
    ) -> "_Point":
        predicted, shown, seen = [], [], []
        order = np.argsort(examples)
        start = 0
        for spoilt, cleaned in blocks:
            predicted.append(_classes(classify(cleaned), len(cleaned), len(examples)))
            here = [int(examples[k]) - start for k in order if start <= examples[k] < start + len(spoilt)]
            shown.append(_to_bytes(spoilt[here]))
            seen.append(_to_bytes(cleaned[here]))
            start += len(spoilt)
        back = np.argsort(order)  # from the order of the images to the order of the classes
        return _Point(np.concatenate(predicted), np.concatenate(shown)[back], np.concatenate(seen)[back])


def _pipeline(
    pixels: AnyPixels,
    corruption: Corruption,
    strength: float,
    seed: Seed,
    clean: Callable[[Tensor], Tensor] | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of images as spoilt, and as they reach the classifier."""
    rng = (seed / corruption.name / repr(strength)).generator()
    for images in batches(pixels, BLOCK):
        spoilt = corruption(images, strength, rng)
        cleaned = spoilt if clean is None else clean(spoilt)
        if cleaned.shape != spoilt.shape:
            raise ModelMismatchError(
                f"cleaning turns {tuple(spoilt.shape)} into {tuple(cleaned.shape)};"
                " it must keep the shape of its images"
            )
        yield spoilt, cleaned


def _first_of_each_class(labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " k"]:
    """The index of each class's first image, for classes 0 to the largest label."""
    classes, first = np.unique(labels, return_index=True)
    missing = sorted(set(range(int(classes[-1]) + 1)) - set(classes.tolist()))
    if classes[0] < 0 or missing:
        raise DataError(
            f"no image of class {missing or classes[0]}; a noise curve needs every class: use more images"
        )
    return first


def _classes(logits: Tensor, rows: int, classes: int) -> UInt8[np.ndarray, " b"]:
    if logits.ndim != 2 or len(logits) != rows or not classes <= logits.shape[1] <= 256:
        raise ModelMismatchError(
            f"the classifier turns {rows} images into {tuple(logits.shape)};"
            f" expected ({rows}, k) logits with k from {classes} to 256"
        )
    return logits.argmax(dim=1).to(torch.uint8).cpu().numpy()


def _to_bytes(images: Tensor) -> UInt8[np.ndarray, "b c h w"]:
    return (images * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()

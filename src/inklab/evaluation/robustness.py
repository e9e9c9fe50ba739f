"""Robustness curves: how well a pipeline classifies images that get worse."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64, Int, Int16, UInt8
from torch import Tensor

from inklab.corruptions.corruption import Corruption
from inklab.corruptions.filters import get_filter
from inklab.data.dataset import MAX_CLASSES
from inklab.errors import DataError, ModelMismatchError
from inklab.evaluation.attacks import Attack
from inklab.evaluation.class_metrics import calibration
from inklab.evaluation.scores import AnyPixels, ForwardFn, batches, inference_mode, recall_per_class, to_bytes
from inklab.format import format_percent, pluralize
from inklab.metrics import CLASS_RECALL
from inklab.notebook import Columns, Tabular, card, html_table
from inklab.seeding import Seed

if TYPE_CHECKING:
    pass

BLOCK = 100  # images corrupted and classified at once; networks may give other last bits for another size

DenoiseFn = Callable[[Tensor], Tensor]


@runtime_checkable
class Classifies(Protocol):
    """What can be given a robustness curve, such as a `TrainedModel`."""

    def logits(self, images: Any) -> Tensor:
        """`(b, k)` logits of images in [0, 1]."""


def pipeline_functions(pipeline: "Classifies | Sequence[Any]") -> tuple[ForwardFn, DenoiseFn | None]:
    """What classifies and what denoises before that, of a classifier or of the parts of a pipeline.

    Args:
        pipeline: a classifier, or filters and denoisers and then a classifier, as of `Run.pipeline_models`.
            A filter is a registered name, `file.py:name`, or a function.

    Raises:
        UnknownNameError: there is no such filter.
        ModelMismatchError: the last part does not classify, or an earlier one does not denoise.
    """
    parts: list[Any] = list(pipeline) if isinstance(pipeline, Sequence) and len(pipeline) else [pipeline]
    *before, classifier = parts
    fitting = all(isinstance(part, str) or callable(part) or hasattr(part, "denoise") for part in before)
    if not hasattr(classifier, "logits") or not fitting:
        raise ModelMismatchError(
            "give a trained classifier, or the parts of a pipeline with the classifier last, as "
            "run.pipeline('denoiser+cnn') returns them"
        )
    steps = [part.denoise if hasattr(part, "denoise") else get_filter(part) for part in before]
    if not steps:
        return classifier.logits, None
    return classifier.logits, lambda images: reduce(lambda inputs, step: step(inputs), steps, images)


@dataclass(frozen=True, repr=False)
class RobustnessCurve(Tabular):
    """What a pipeline predicts at each strength of a corruption.

    Its table has a row for each strength: strength, recall, accuracy, ece, and each class's recall, such as
    `recall_shirt`.

    Attributes:
        strengths: `s` strengths in the corruption's unit.
        predicted: `(s, n)` predicted class of each image.
        recall: `(s,)` mean over classes of the true-positive rate (balanced accuracy); classes without
            images are left out.
        recall_per_class: `(s, k)` true-positive rate of each class; NaN for one without images.
        accuracy: `(s,)` share of images classified correctly.
        ece: `(s,)` expected calibration error: how far confidence and accuracy are apart.
        corrupted: `(s, m, c, h, w)` one corrupted image of each class that has any, always its first.
        denoised: `(s, m, c, h, w)` the same images as the classifier gets them; equal to `corrupted` without
            a denoiser.
        labels: `k` names of the classes; empty if they are numbers.

    Example:
        >>> curve.to_pandas().plot(x="strength", y="accuracy")  # doctest: +SKIP
    """

    strengths: tuple[float, ...]
    predicted: Int16[np.ndarray, "s n"]
    recall: Float64[np.ndarray, " s"]
    recall_per_class: Float64[np.ndarray, "s k"]
    accuracy: Float64[np.ndarray, " s"]
    ece: Float64[np.ndarray, " s"]
    corrupted: UInt8[np.ndarray, "s m c h w"]
    denoised: UInt8[np.ndarray, "s m c h w"]
    labels: tuple[str, ...] = ()

    @property
    def _columns(self) -> Columns:
        columns = self.recall_per_class.T
        labels = self.labels or range(len(columns))
        per_class = {
            f"{CLASS_RECALL}{label}": column.tolist() for label, column in zip(labels, columns, strict=True)
        }
        main = {
            "strength": self.strengths,
            "recall": self.recall.tolist(),
            "accuracy": self.accuracy.tolist(),
            "ece": self.ece.tolist(),
        }
        return {**main, **per_class}

    def __repr__(self) -> str:
        ends = f"{format_percent(self.accuracy[0], 1)} at {self.strengths[0]:g}"
        if len(self.strengths) > 1:
            ends += f" to {format_percent(self.accuracy[-1], 1)} at {self.strengths[-1]:g}"
        return f"RobustnessCurve({self.predicted.shape[1]:,} images, accuracy {ends})"

    def _repr_html_(self) -> str:
        rows = [
            [f"{strength:g}", format_percent(recall), format_percent(accuracy)]
            for strength, recall, accuracy in zip(self.strengths, self.recall, self.accuracy, strict=True)
        ]
        table = html_table(("strength", "mean recall", "accuracy"), rows, right=(0, 1, 2))
        images = pluralize(self.predicted.shape[1], "image")
        return card("Robustness curve", table, subtitle=f"{images}, one network")


def robustness_curve(
    classify: ForwardFn,
    pixels: AnyPixels,
    labels: Int[np.ndarray, " n"],
    corruption: Corruption | Attack,
    *,
    strengths: Sequence[float | int] | None = None,
    seed: Seed,
    denoise: DenoiseFn | None = None,
) -> RobustnessCurve:
    """Corrupt images at each strength, denoise them if the pipeline does, and classify them.

    The noise depends on the seed, the corruption's name and the strength only: all pipelines and replicates
    get the same pixels, so that their curves can be subtracted, and the first images of a longer test set get
    the same noise as in a shorter one. Memory does not grow with the number of images. An attack changes the
    images against the whole pipeline, by its gradient through denoiser and classifier, so each pipeline and
    replicate gets its own.

    Args:
        classify: maps images in [0, 1] to `(b, k)` logits, k at most 1,000.
        pixels: the images.
        labels: integers in [0, k).
        corruption: what the images are corrupted by, or attacked.
        strengths: in the corruption's unit; its own `strengths` if left out.
        seed: the source of the noise.
        denoise: maps images to images, in [0, 1], as a denoiser with its sigmoid or a filter does. None:
            corrupted images are classified.

    Raises:
        OutOfRangeError: a strength is outside the corruption's range.
        DataError: images and labels differ in number.
        ModelMismatchError: `classify` or `denoise` returns another shape, or can't be attacked, because no
            gradient passes.

    Example:
        >>> from inklab.corruptions.corruption import corruptions
        >>> pixels = np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1)
        >>> net = lambda images: torch.cat([1 - images, images], dim=1).flatten(1)
        >>> fading, labels = corruptions["contrast"], np.array([0, 1])
        >>> curve = robustness_curve(net, pixels, labels, fading, strengths=[0.0], seed=Seed(0))
        >>> curve.recall_per_class.tolist()
        [[1.0, 1.0]]
    """
    if len(pixels) != len(labels) or not len(labels):
        raise DataError(
            f"there are {len(pixels)} images and {len(labels)} labels; there must be one label per image, "
            "and at least one image"
        )
    strengths = tuple(map(float, corruption.strengths if strengths is None else strengths))
    for strength in strengths:
        corruption.check_strength(strength)  # all of them before the first is computed
    _, examples = np.unique(labels, return_index=True)
    with inference_mode(classify, denoise):
        points = [
            _evaluate(
                classify,
                _corrupt_and_denoise(pixels, labels, corruption, strength, seed, classify, denoise),
                examples,
                int(labels.max()) + 1,
            )
            for strength in strengths
        ]
    widths, predicted, confidence, corrupted, denoised = (
        np.stack(arrays) for arrays in zip(*points, strict=True)
    )
    recalls = np.stack([recall_per_class(row, labels, int(widths[0])) for row in predicted])
    return RobustnessCurve(
        strengths=strengths,
        predicted=predicted,
        recall=np.array([recall[np.isfinite(recall)].mean() for recall in recalls]),
        recall_per_class=recalls,
        accuracy=np.array([np.mean(row == labels) for row in predicted]),
        ece=np.array(
            [
                calibration(shares, row == labels).expected_error
                for shares, row in zip(confidence, predicted, strict=True)
            ]
        ),
        corrupted=corrupted,
        denoised=denoised,
    )


def _evaluate(
    classify: ForwardFn,
    blocks: Iterator[tuple[Tensor, Tensor]],
    examples: Int[np.ndarray, " m"],
    at_least: int,
) -> tuple[np.ndarray, ...]:
    """Of blocks of images: number of classes, predictions, their probabilities, and the images in `examples`.

    A classifier that knows fewer than `at_least` classes is refused.
    """
    predicted, confidence, kept, n_classes = [], [], {}, at_least
    for number, (corrupted, denoised) in enumerate(blocks):
        logits = classify(denoised)
        predicted.append(_predict(logits, len(denoised), at_least))
        confidence.append(logits.double().softmax(dim=1).amax(dim=1).cpu().numpy())
        n_classes = logits.shape[1]
        for index in (examples - number * BLOCK).tolist():
            if 0 <= index < len(corrupted):
                kept[number * BLOCK + index] = corrupted[index], denoised[index]
    pairs = zip(*(kept[index] for index in examples.tolist()), strict=True)
    return (
        np.array(n_classes),
        np.concatenate(predicted),
        np.concatenate(confidence),
        *(to_bytes(torch.stack(images)) for images in pairs),
    )


def _corrupt_and_denoise(
    pixels: AnyPixels,
    labels: Int[np.ndarray, " n"],
    corruption: Corruption | Attack,
    strength: float,
    seed: Seed,
    classify: ForwardFn,
    denoise: DenoiseFn | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of corrupted images, and of what the classifier gets."""
    noise_seed = seed / corruption.name / repr(strength)
    pipeline = classify if denoise is None else lambda images: classify(denoise(images))
    for number, images in enumerate(batches(pixels, BLOCK)):
        draws = noise_seed.draws(first=number * BLOCK, device=images.device)
        if isinstance(corruption, Attack):
            targets = torch.from_numpy(labels[number * BLOCK :][:BLOCK].astype(np.int64)).to(images.device)
            corrupted = corruption(pipeline, images, targets, strength, draws)
        else:
            corrupted = corruption(images, strength, draws)
        denoised = corrupted if denoise is None else denoise(corrupted)
        if denoised.shape != corrupted.shape:
            raise ModelMismatchError(
                f"denoising maps {tuple(corrupted.shape)} to {tuple(denoised.shape)}; it must keep the shape"
            )
        yield corrupted, denoised


def _predict(logits: Tensor, rows: int, n_classes: int) -> Int16[np.ndarray, " b"]:
    if logits.ndim != 2 or len(logits) != rows or not n_classes <= logits.shape[1] <= MAX_CLASSES:
        raise ModelMismatchError(
            f"the classifier maps {rows} images to {tuple(logits.shape)}; it must return ({rows}, k) logits "
            f"with k from {n_classes} to {MAX_CLASSES:,}"
        )
    return logits.argmax(dim=1).to(torch.int16).cpu().numpy()

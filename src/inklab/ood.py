"""Whether an image resembles the training images of a classifier: OOD scores and their calibration.

The page and predictions in Python are scored by the same detector with the same threshold.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8

import inklab
from inklab.data.dataset import ImageSet, Pixels
from inklab.io.files import cache_dir, cached, fingerprint
from inklab.records.components import Preprocessing
from inklab.records.plan import Plan
from inklab.records.record import Number, Record
from inklab.seeding import Seed

Scores = Float64[np.ndarray, " n"]
LogitsFn = Callable[[Float32[np.ndarray, "b c h w"]], Float32[np.ndarray, "b k"]]
"""A classifier's logits for images in [0, 1]."""

Abstained = Literal["empty", "ood"]
"""Why there is no answer: the image is empty, or out of distribution."""

MIN_PROBABILITY = 0.4
"""Largest probability below which an input is out of distribution, where there are no reference images."""
MAX_TRAINING_IMAGES = 10_000
"""Images that inputs are compared with: with 2,000, a tenth fewer scribbles are detected; all 55,000 cost
five times as much."""
N_COMPONENTS = 60  # with 30, a tenth fewer; all 784 pixels cost thirteen times as much and gain nothing
MAX_VALIDATION_IMAGES = 3000  # for the calibration; the threshold is then the fifteenth
MAX_FALSE_ALARMS = 0.005  # share of validation images beyond each of the two thresholds
SMALL_MARGIN = 0.08
"""How far the threshold of a hundred samples lies beyond their least value, as a share of the way from there
to their median."""
MIN_INK = 0.004  # mean over an image: three of 784 pixels. The faintest digit of MNIST has 0.025
BATCH = 100  # images of one pass in the background
TRAINING, SAMPLES = "training images", "samples"
VERSION = 2  # of what is computed here; a change invalidates caches


@dataclass(frozen=True, eq=False)
class ReferenceImages:
    """Images to compare with.

    Attributes:
        training: some training images.
        held_out: some validation images; None if only the samples in the run directory are at hand.
        identity: what they depend on, for names in the cache.
    """

    training: Pixels
    held_out: UInt8[np.ndarray, "m c h w"] | None
    identity: tuple[str | int, ...]

    @classmethod
    def draw(
        cls, training: ImageSet, validation: ImageSet, seed: Seed, identity: tuple[str | int, ...]
    ) -> "ReferenceImages":
        """Of all images of a study: some for training, and some of the validation images."""
        page = seed / "page"
        return cls(
            _draw(training, MAX_TRAINING_IMAGES, page / TRAINING),
            _draw(validation if len(validation) else training, MAX_VALIDATION_IMAGES, page / "held out"),
            (*identity, TRAINING, MAX_TRAINING_IMAGES, MAX_VALIDATION_IMAGES),
        )

    @classmethod
    def of_samples(cls, samples: ImageSet, identity: tuple[str | int, ...]) -> "ReferenceImages | None":
        """Of the training images that a run directory holds; None if they are too few."""
        return cls(samples.pixels, None, (*identity, SAMPLES)) if len(samples) > 1 else None

    @property
    def source(self) -> str:
        """What they are, for the page."""
        return SAMPLES if self.held_out is None else TRAINING

    @cached_property
    def neighbors(self) -> "PcaNearestNeighbor":
        """Finds the nearest training image; learned once, in a second or so."""
        return PcaNearestNeighbor.fit(self.training)


class TrainingRun(ABC):
    """What a trained model asks the run that trained it."""

    @property
    @abstractmethod
    def plan(self) -> Plan:
        """What was planned."""

    @property
    @abstractmethod
    def reference_images(self) -> ReferenceImages | None:
        """What inputs are compared with; None if no images are at hand."""

    @property
    @abstractmethod
    def images_note(self) -> str:
        """What OOD scores lack, why, and what to do; "" with all training images."""


def _draw(images: ImageSet, n: int, seed: Seed) -> Pixels:
    """At most n images, drawn at random, in their order."""
    return images.take(np.sort(seed.rng().permutation(len(images))[:n])).pixels


def float_batches(pixels: Pixels) -> Iterator[Float32[np.ndarray, "b c h w"]]:
    """Images in [0, 1], some at a time."""
    for start in range(0, len(pixels), BATCH):
        yield pixels[start : start + BATCH].astype(np.float32) / np.float32(255)


class Calibration(Record):
    """From a similarity to an OOD score: 0 where validation images typically are, 1 at the threshold.

    Attributes:
        threshold: similarity below which an input is out of distribution.
        median: of validation images.
    """

    threshold: Number
    median: Number

    @classmethod
    def fit(cls, similarities: Float[np.ndarray, " n"], share: float = MAX_FALSE_ALARMS) -> "Calibration":
        """The threshold below which a share of some similarities lies.

        Example:
            >>> Calibration.fit(np.arange(101.0), share=0.01)
            Calibration(threshold=1.0, median=50.0)
        """
        threshold, median = (float(np.quantile(similarities, q)) for q in (share, 0.5))
        return cls(threshold=threshold, median=median)

    @classmethod
    def fit_small(cls, similarities: Float[np.ndarray, " n"]) -> "Calibration":
        """The same for about a hundred training images: beyond the least of them.

        Example:
            >>> Calibration.fit_small(np.arange(101.0))
            Calibration(threshold=-4.0, median=50.0)
        """
        least, median = float(similarities.min()), float(np.median(similarities))
        return cls(threshold=least - SMALL_MARGIN * (median - least), median=median)

    def score(self, similarities: Float[np.ndarray, " n"]) -> Scores:
        """OOD scores.

        Example:
            >>> Calibration(threshold=1.0, median=3.0).score(np.array([3.0, 1.0, -1.0])).tolist()
            [0.0, 1.0, 2.0]
        """
        scale = max(self.median - self.threshold, 1e-6)
        return np.asarray(1 - (similarities - self.threshold) / scale, np.float64)


PROBABILITY = Calibration(threshold=MIN_PROBABILITY, median=1.0)
"""Threshold of the largest probability, used where there are no reference images."""


def energy(logits: Float[np.ndarray, "n k"]) -> Scores:
    """The logarithm of the summed exponentials of a classifier's logits: large where it recognizes much.

    Example:
        >>> energy(np.array([[0.0, 0.0]])).tolist() == [float(np.log(2))]
        True
    """
    wide = logits.astype(np.float64)
    largest = wide.max(axis=1)
    return np.asarray(largest + np.log(np.exp(wide - largest[:, None]).sum(axis=1)))


def is_empty(pixels: UInt8[np.ndarray, "n c h w"], preprocessing: Preprocessing) -> Bool[np.ndarray, " n"]:
    """Of each image, whether it has next to no ink.

    Args:
        pixels: bytes, preprocessed.
        preprocessing: says whether the background is 0 or 255, or that it may be any color: then it is the
            image's median.
    """
    light_on_dark = None if preprocessing.is_resize_only else preprocessing.light_on_dark
    flat = pixels.reshape(len(pixels), -1)
    if light_on_dark is None:
        background = np.median(flat, axis=1).astype(np.int16)[:, None]
        ink = np.abs(flat.astype(np.int16) - background).sum(axis=1)
    else:
        ink = flat.sum(axis=1, dtype=np.int64)
        ink = ink if light_on_dark else 255 * flat.shape[1] - ink
    return np.asarray(ink < MIN_INK * 255 * flat.shape[1])


def why_abstained(is_empty_image: bool, ood_score: float | None) -> Abstained | None:
    """Why an image has no answer; None if it has one.

    Example:
        >>> why_abstained(False, 1.2), why_abstained(True, 0.1), why_abstained(False, 1.0)
        ('ood', 'empty', None)
    """
    if is_empty_image:
        return "empty"
    return "ood" if ood_score is not None and ood_score > 1 else None


@dataclass(frozen=True, eq=False)
class PcaNearestNeighbor:
    """Finds the squared distance to the nearest of some images, in their principal components.

    |x - y|^2 = |x|^2 + |y|^2 - 2 x.y, where x.y is computed from the components only. What these leave out of
    two images is counted as if it were orthogonal.

    Attributes:
        mean: mean of the images.
        components: principal components.
        codes: the images' coordinates along the components, times 2.
        squares: the images' squared distances from their mean.
    """

    mean: Float32[np.ndarray, " p"]
    components: Float32[np.ndarray, "p d"]
    codes: Float32[np.ndarray, "d n"]
    squares: Float32[np.ndarray, " n"]

    @classmethod
    def fit(cls, pixels: Pixels, n_components: int = N_COMPONENTS) -> "PcaNearestNeighbor":
        """Learn at least two images."""
        images = _flatten(pixels)
        mean = images.mean(axis=0)
        centered = images - mean
        _, vectors = np.linalg.eigh((centered.T @ centered).astype(np.float64))
        components = np.ascontiguousarray(vectors[:, ::-1][:, :n_components], np.float32)
        codes = centered @ components
        return cls(mean, components, np.ascontiguousarray(2 * codes.T), np.square(centered).sum(axis=1))

    def similarity(self, images: Float32[np.ndarray, "b c h w"]) -> Float32[np.ndarray, " b"]:
        """Minus the squared distance of each image in [0, 1] to its nearest one."""
        centered = images.reshape(len(images), -1) - self.mean
        nearest = (self.squares - centered @ self.components @ self.codes).min(axis=1)
        return np.asarray(-(np.square(centered).sum(axis=1) + nearest))


def leave_one_out(pixels: Pixels) -> Scores:
    """Of each of a few images, minus the squared distance to its nearest other one."""
    flat = _flatten(pixels).astype(np.float64)
    squares = np.square(flat).sum(axis=1)
    distances = squares[:, None] + squares - 2 * flat @ flat.T
    np.fill_diagonal(distances, np.inf)
    return np.asarray(-distances.min(axis=1).clip(min=0))


def _flatten(pixels: Pixels) -> Float32[np.ndarray, "n p"]:
    return pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255)


@dataclass
class OodDetector:
    """Scores inputs by their distance from training images and by the energy of a classifier's logits.

    Attributes:
        neighbors: of training images; None until they are learned, or if there are none.
        distance: calibration of that distance.
        energies: calibrations of classifiers by id; one that is missing is scored by its largest probability.
        ready: whether there is anything to score with yet.
        note: what the scores lack, why, and what to do; "" if they are of all training images.
    """

    neighbors: PcaNearestNeighbor | None = None
    distance: Calibration | None = None
    energies: dict[str, Calibration] = field(default_factory=dict)
    ready: bool = False
    note: str = ""

    @classmethod
    def fit(cls, run: TrainingRun | None, name: str, weights_sha256: str, logits: LogitsFn) -> "OodDetector":
        """For one classifier of a run; arguments as of `fit_energy`. Without images: by probability."""
        detector = cls.of_probabilities()
        if run is not None:
            detector.note = run.images_note
        if run is not None and (references := run.reference_images) is not None:
            detector.fit_distance(references)
            detector.fit_energy(name, weights_sha256, logits, references)
        return detector

    @classmethod
    def of_probabilities(cls) -> "OodDetector":
        """One that knows no training images: it scores by the largest probability."""
        return cls(ready=True)

    def method(self, classifier: str) -> str:
        """What the scores of a classifier are of."""
        if classifier not in self.energies:
            return "largest probability"
        return "distance to the nearest training image and energy of the logits"

    def fit_distance(self, references: ReferenceImages) -> None:
        """Learn what training images look like."""
        neighbors = references.neighbors

        def fit() -> Calibration:
            if references.held_out is None:
                return Calibration.fit_small(leave_one_out(references.training))
            batches = float_batches(references.held_out)
            return Calibration.fit(np.concatenate([neighbors.similarity(batch) for batch in batches]))

        self.distance = _cached_calibration(references, ("distance", N_COMPONENTS), fit)
        self.neighbors = neighbors  # last: requests may come at any time

    def similarity(self, images: Float32[np.ndarray, "n c h w"]) -> tuple[np.ndarray]:
        """Of images in [0, 1] to the nearest training image, for the batcher."""
        assert self.neighbors is not None
        starts = range(0, max(len(images), 1), BATCH)  # so that memory stays small
        parts = [self.neighbors.similarity(images[start : start + BATCH]) for start in starts]
        return (np.concatenate(parts),)

    def fit_energy(
        self, name: str, weights_sha256: str, logits: LogitsFn, references: ReferenceImages
    ) -> None:
        """Calibrate the energy of a classifier.

        Args:
            name: its id.
            weights_sha256: of its network.
            logits: what it computes.
            references: images like those that it was trained on.
        """

        def fit() -> Calibration:
            is_small = references.held_out is None
            pixels = references.training if references.held_out is None else references.held_out
            energies = energy(np.concatenate([logits(batch) for batch in float_batches(pixels)]))
            return (Calibration.fit_small if is_small else Calibration.fit)(energies)

        self.energies[name] = _cached_calibration(references, ("energy", weights_sha256), fit)

    def score(
        self,
        classifier: str,
        similarity: Float32[np.ndarray, " n"] | None,
        logits: Float32[np.ndarray, "n k"] | None,
        probabilities: Float32[np.ndarray, "n k"],
    ) -> Scores | None:
        """OOD scores of images: 0 typical, above 1 out of distribution; None while they are unknown.

        Args:
            classifier: its id.
            similarity: similarity of the images before corruption, if `neighbors` was asked.
            logits: logits of the classifier's inputs, if it is known to give any.
            probabilities: the same, as rows that sum to 1.
        """
        if not self.ready:
            return None
        if classifier not in self.energies or logits is None:
            return PROBABILITY.score(probabilities.max(axis=1).astype(np.float64))
        scores = self.energies[classifier].score(energy(logits))
        if similarity is not None and self.distance is not None:
            scores = np.maximum(scores, self.distance.score(similarity))
        return scores


def _cached_calibration(
    references: ReferenceImages, key: tuple[str | int, ...], fit: Callable[[], Calibration]
) -> Calibration:
    identity = [VERSION, inklab.__version__, *references.identity, MAX_FALSE_ALARMS, *key]
    name = f"calibration-{fingerprint(identity)}.json"
    raw = cached(cache_dir("onnx") / name, lambda: fit().model_dump_json().encode())
    return Calibration.parse_json(raw, name)

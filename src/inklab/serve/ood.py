"""Whether an image resembles the training images of a classifier: OOD scores and their calibration."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8

import inklab
from inklab.data.dataset import ImageSet, Pixels
from inklab.export.onnx_file import Session
from inklab.io.files import fingerprint
from inklab.predictions import MIN_PROBABILITY
from inklab.records.record import Number, Record
from inklab.runs import Run
from inklab.seeding import Seed
from inklab.serve.model_registry import cached

Scores = Float64[np.ndarray, " n"]

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
NEAREST = "nearest training image"
"""Id of the nearest neighbor search among the batcher's networks: no experiment's name, for its spaces."""
VERSION = 2  # of what is computed here; a change invalidates caches


@dataclass(frozen=True)
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

    @property
    def source(self) -> str:
        """What they are, for the page."""
        return SAMPLES if self.held_out is None else TRAINING

    @classmethod
    def of(cls, run: Run) -> "ReferenceImages | None":
        """The reference images of a run; None if there are none. Takes a second or two."""
        plan = run.plan
        identity = (plan.data.sha256, plan.seed, plan.data.validation)
        sets = run.training_sets()
        if sets is None:
            samples = run.samples()
            if samples is None or len(samples) < 2:
                return None
            return cls(samples.pixels, None, (*identity, SAMPLES))
        training, validation = sets
        seed = Seed(plan.seed) / "page"
        return cls(
            _draw(training, MAX_TRAINING_IMAGES, seed / TRAINING),
            _draw(validation if len(validation) else training, MAX_VALIDATION_IMAGES, seed / "held out"),
            (*identity, TRAINING, MAX_TRAINING_IMAGES, MAX_VALIDATION_IMAGES),
        )


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


def is_empty(pixels: UInt8[np.ndarray, "n c h w"], light_on_dark: bool | None) -> Bool[np.ndarray, " n"]:
    """Of each image, whether it has next to no ink.

    Args:
        pixels: bytes, preprocessed.
        light_on_dark: whether the background is 0 or 255; None if images have none: then it is the median.
    """
    flat = pixels.reshape(len(pixels), -1)
    if light_on_dark is None:
        background = np.median(flat, axis=1).astype(np.int16)[:, None]
        ink = np.abs(flat.astype(np.int16) - background).sum(axis=1)
    else:
        ink = flat.sum(axis=1, dtype=np.int64)
        ink = ink if light_on_dark else 255 * flat.shape[1] - ink
    return np.asarray(ink < MIN_INK * 255 * flat.shape[1])


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
    """

    neighbors: PcaNearestNeighbor | None = None
    distance: Calibration | None = None
    energies: dict[str, Calibration] = field(default_factory=dict)
    ready: bool = False

    def fit_distance(self, references: ReferenceImages) -> None:
        """Learn what training images look like."""
        neighbors = PcaNearestNeighbor.fit(references.training)

        def fit() -> Calibration:
            if references.held_out is None:
                return Calibration.fit_small(leave_one_out(references.training))
            batches = float_batches(references.held_out)
            return Calibration.fit(np.concatenate([neighbors.similarity(batch) for batch in batches]))

        self.distance = _cached_calibration(references, ("distance", N_COMPONENTS), fit)
        self.neighbors = neighbors  # last: requests may come at any time

    def similarity(self, images: Float32[np.ndarray, "b c h w"]) -> tuple[np.ndarray]:
        """Of images in [0, 1] to the nearest training image, for the batcher."""
        assert self.neighbors is not None
        return (self.neighbors.similarity(images),)

    def fit_energy(
        self, name: str, weights_sha256: str, session: Session, references: ReferenceImages
    ) -> None:
        """Calibrate the energy of a classifier.

        Args:
            name: its id.
            weights_sha256: of its network.
            session: computes its logits.
            references: images like those that it was trained on.
        """

        def fit() -> Calibration:
            is_small = references.held_out is None
            pixels = references.training if references.held_out is None else references.held_out
            logits = np.concatenate([session(batch)["logits"] for batch in float_batches(pixels)])
            return (Calibration.fit_small if is_small else Calibration.fit)(energy(logits))

        self.energies[name] = _cached_calibration(references, ("energy", weights_sha256), fit)

    def score(
        self,
        classifier: str,
        similarity: Float32[np.ndarray, " n"] | None,
        logits: Float32[np.ndarray, "n k"],
        probabilities: Float32[np.ndarray, "n k"],
    ) -> Scores | None:
        """OOD scores of images: 0 typical, above 1 out of distribution; None while they are unknown.

        Args:
            classifier: its id.
            similarity: similarity of the images before corruption, if `neighbors` was asked.
            logits: logits of the classifier's inputs.
            probabilities: the same, as rows that sum to 1.
        """
        if not self.ready:
            return None
        if classifier not in self.energies:
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
    return Calibration.parse_json(cached(name, lambda: fit().model_dump_json().encode()), name)

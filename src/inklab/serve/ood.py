"""Whether an image resembles those that a network was trained on: references, distances, borders."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

import inklab
from inklab.data.dataset import ImageSet
from inklab.export.graphs import Exportable
from inklab.export.onnx_export import to_onnx
from inklab.export.onnx_runtime import Session
from inklab.export.verify import compare_outputs
from inklab.io.documents import fingerprint, parse_json, sha256_of
from inklab.run import StoredRun
from inklab.seeding import Seed
from inklab.serve.network_cache import cached
from inklab.shapes import Pixels
from inklab.study.run_directory import RunDirectory

ImageBatch = UInt8[np.ndarray, "n c h w"]
Numbers = Float[np.ndarray, " n"]

REFERENCES = (
    10_000  # training images; 2,000 know a tenth less of scribbles, all 55,000 cost five times as much
)
COMPONENTS = 60  # with 30, a tenth less; all 784 pixels cost thirteen times as much and gain nothing
CALIBRATING = 3000  # validation images; the border is then the fifteenth
MAX_MISSED = 0.005  # share of validation images beyond each of the two borders
FEW_MARGIN = (
    0.08  # of the way from the median to the least of a hundred samples: the border lies so far beyond
)
MIN_INK = 0.004  # mean over an image: three of 784 pixels. The faintest digit of MNIST has 0.025
MIN_PROBABILITY = 0.4  # of a classifier without anything to compare with


@dataclass(frozen=True)
class Calibration:
    """From a number to a familiarity: 0 at the border, 1 where validation images typically are.

    Attributes:
        at: the border.
        typical: the median of validation images.
    """

    at: float
    typical: float

    @staticmethod
    def of(numbers: Numbers, missed: float = MAX_MISSED) -> "Calibration":
        """The border below which a share `missed` of some numbers lies; familiar ones are large.

        Example:
            >>> Calibration.of(np.arange(101.0), missed=0.01)
            Calibration(at=1.0, typical=50.0)
        """
        at, typical = (float(np.quantile(numbers, share)) for share in (missed, 0.5))
        return Calibration(at, typical)

    @staticmethod
    def fit_small(numbers: Numbers) -> "Calibration":
        """The same for some hundred numbers of images that were trained on: beyond the least of them.

        Example:
            >>> Calibration.fit_small(np.arange(101.0))
            Calibration(at=-4.0, typical=50.0)
        """
        least, typical = float(numbers.min()), float(np.median(numbers))
        return Calibration(least - FEW_MARGIN * (typical - least), typical)

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


def is_empty(pixels: ImageBatch, light_on_dark: bool | None) -> list[bool]:
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
    return [bool(each < MIN_INK * 255 * flat.shape[1]) for each in sums.tolist()]


class PcaNearestNeighbor(nn.Module):
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


def nearest_to(pixels: ImageBatch) -> PcaNearestNeighbor:
    """Measures the distance to some training images, at least two: the first 10,000 of those given."""
    images = _flat(pixels[:REFERENCES])
    mean = images.mean(dim=0)
    apart = images - mean
    _, vectors = torch.linalg.eigh(apart.T.double() @ apart.double())
    components = vectors.flip(1)[:, :COMPONENTS].float().contiguous()
    codes = apart @ components
    rest = (apart.square().sum(dim=1) - codes.square().sum(dim=1)).clamp(min=0)
    return PcaNearestNeighbor(mean, components, codes, rest)


def exportable(net: PcaNearestNeighbor, shape: tuple[int, int, int]) -> Exportable:
    """The same, to be converted."""
    state = b"".join(value.numpy().tobytes() for value in net.state_dict().values())
    about = {"parts": [{"name": "nearest training image", "sha256": sha256_of(state)}], "shape": list(shape)}
    return Exportable(
        "nearness", net.eval(), lambda images: {"logits": net(images)[0]}, shape, {"logits": (1,)}, about
    )


def leave_one_out(pixels: ImageBatch) -> Numbers:
    """Of each of a few images, minus the squared distance to its nearest other one."""
    flat = _flat(pixels).double()
    apart = torch.cdist(flat, flat).fill_diagonal_(torch.inf)
    return np.asarray(-apart.amin(dim=1).square().numpy())


def by_probability(probabilities: Float[np.ndarray, "n k"]) -> Numbers:
    """Without anything to compare with: how far the largest probability is above 0.4."""
    return Calibration(MIN_PROBABILITY, 1.0)(probabilities.max(axis=1).astype(np.float64))


def _flat(pixels: ImageBatch) -> Float32[Tensor, "n p"]:
    return torch.from_numpy(pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255))


MAX_TRAINING, MAX_VALIDATION = 10_000, 3000  # images that are looked at; more cost time and change little
BLOCK = 100  # images of one pass while learning
TRAINING, SAMPLES = "training images", "samples"


@dataclass(frozen=True)
class ReferenceImages:
    """Images to compare with.

    Attributes:
        training: some of those that were trained on.
        held_out: some of those that were held out; None if there are the samples only.
        identity: what they depend on, for names of what is computed from them.
    """

    training: UInt8[np.ndarray, "n c h w"]
    held_out: UInt8[np.ndarray, "m c h w"] | None
    identity: list[Any]

    @property
    def source(self) -> str:
        """What they are, for the page."""
        return SAMPLES if self.held_out is None else TRAINING


def in_blocks(pixels: Pixels) -> Iterator[Float32[np.ndarray, "b c h w"]]:
    """Images in [0, 1], some at a time, for a network that learns of many."""
    for start in range(0, len(pixels), BLOCK):
        yield pixels[start : start + BLOCK].astype(np.float32) / np.float32(255)


def samples_of(folder: RunDirectory | None) -> Pixels | None:
    """Ten training images of each class, as they lie in a run's folder."""
    found = None if folder is None else StoredRun(folder).samples()
    return None if found is None else found[0]


def references_of(folder: RunDirectory | None) -> ReferenceImages | None:
    """A run's images, or None if there are none. Takes a second or two.

    Args:
        folder: the run; None for a lone bundle, which has no images.
    """
    if folder is None:
        return None
    run = StoredRun(folder)
    data = run.plan["data"]
    identity = [data["sha256"], run.plan["seed"], sum(data["counts"]["validation"])]
    parts = run.training_parts()
    if parts is None:
        samples = samples_of(folder)
        enough = samples is not None and len(samples) > 1
        return (
            ReferenceImages(samples, None, [*identity, SAMPLES]) if enough and samples is not None else None
        )
    training, held_out = parts
    seed = Seed(run.plan["seed"]) / "page"
    return ReferenceImages(
        _some(training, MAX_TRAINING, seed / TRAINING),
        _some(held_out if len(held_out) else training, MAX_VALIDATION, seed / "held out"),
        [*identity, TRAINING, MAX_TRAINING, MAX_VALIDATION],
    )


def _some(images: ImageSet, most: int, seed: Seed) -> Pixels:
    """At most so many images, drawn at random, in their order."""
    return images.take(np.sort(seed.rng().permutation(len(images))[:most])).pixels


NEAREST = "nearest training image"  # its id among the networks: no chapter's, for its spaces
VERSION = 1  # of what is computed here; a change makes what is in caches new


@dataclass
class OodDetector:
    """Borders of familiarity.

    Attributes:
        near: that of distances to training images; None until it is learnt, or if there are none.
        energies: those of classifiers by id; one that isn't there is judged by its largest probability.
        learnt: whether there is anything to say yet.
    """

    near: Calibration | None = None
    energies: dict[str, Calibration] = field(default_factory=dict)
    learnt: bool = False

    def fit_distance(self, references: ReferenceImages, shape: tuple[int, int, int], threads: int) -> Session:
        """Learn what training images look like.

        Returns:
            The network that measures how near images are, to be asked as `NEAREST`. Call `trust_images` once
            it can be.
        """
        name = _name("nearest", references)

        def make() -> bytes:
            wanted = exportable(nearest_to(references.training), shape)
            raw = to_onnx(wanted)
            compare_outputs(wanted, Session(raw), references.training)
            return raw

        return Session(cached(f"{name}.onnx", make), threads=threads)

    def calibrate_images(self, references: ReferenceImages, session: Session) -> None:
        """Find the border of distances."""

        def make() -> Calibration:
            if references.held_out is None:
                return Calibration.fit_small(leave_one_out(references.training))
            return Calibration.of(_nearness(session, references.held_out))

        self.near = _kept_border(_name("nearest", references), make)

    def fit_energy(self, name: str, weights: str, session: Session, references: ReferenceImages) -> None:
        """Find the border of a classifier's energies.

        Args:
            name: its id.
            weights: their SHA-256.
            session: gives its logits.
            references: images of the kind that it was trained on.
        """

        def make() -> Calibration:
            few = references.held_out is None
            known = references.training if references.held_out is None else references.held_out
            energies = energy(np.concatenate([session(each)["logits"] for each in in_blocks(known)]))
            return Calibration.fit_small(energies) if few else Calibration.of(energies)

        self.energies[name] = _kept_border(_name("energy", references, weights), make)

    def familiar(
        self, name: str, nearness: np.ndarray | None, logits: np.ndarray, probabilities: np.ndarray
    ) -> Numbers | None:
        """How familiar images are to a classifier: 0 and more: familiar; 1: typical; None: it can't be told.

        Args:
            name: the classifier's id.
            nearness: `(n, 1)` of the images as framed, if `NEAREST` was asked.
            logits: `(n, k)` of what reached the classifier.
            probabilities: the same, as rows that sum to 1.
        """
        if not self.learnt:
            return None
        if name not in self.energies:
            return by_probability(probabilities)
        found = self.energies[name](energy(logits))
        if nearness is not None and self.near is not None:
            found = np.minimum(found, self.near(nearness[:, 0]))
        return np.asarray(found)


def _nearness(session: Session, pixels: np.ndarray) -> Numbers:
    return np.concatenate([session(each)["logits"][:, 0] for each in in_blocks(pixels)]).astype(np.float64)


def _name(what: str, references: ReferenceImages, *more: str) -> str:
    of = [VERSION, inklab.__version__, references.identity, REFERENCES, COMPONENTS]
    return f"{what}-{fingerprint([*of, MAX_MISSED, *more])}"


def _kept_border(name: str, make: Callable[[], Calibration]) -> Calibration:
    def written() -> bytes:
        made = make()
        return json.dumps([made.at, made.typical]).encode()

    at, typical = parse_json(cached(f"{name}.json", written), name)
    return Calibration(at, typical)

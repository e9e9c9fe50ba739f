"""Whether a graph computes the same as the network it was made from, and on which inputs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from inklab.errors import ModelMismatchError
from inklab.export.graphs import CODES, Exportable
from inklab.seeding import Seed

MAX_REAL = 40  # images; spread over those at hand
REAL = "real images"
DRAWN = 7  # of each kind that is drawn at random

Given = dict[str, np.ndarray]
"""Inputs by their kind, `(n, ...)` float32 each."""


def inputs_for(wanted: Exportable, real: UInt8[np.ndarray, "n c h w"] | None = None) -> Given:
    """Inputs to compare on; always the same ones for one shape and the same real images.

    Args:
        wanted: what is compared.
        real: images, if there are any at hand; some of them are taken, in order and evenly spread.
    """
    shape = wanted.about["shape"]
    images = extreme_images(*shape)
    if real is not None and len(real):
        places = np.linspace(0, len(real) - 1, min(MAX_REAL, len(real))).round().astype(int)
        images = {REAL: real[places].astype(np.float32) / 255, **images}
    if wanted.given != CODES:
        return images
    assert wanted.encode is not None
    return _codes(images, wanted.encode, wanted.takes[0])


def extreme_images(channels: int, height: int, width: int) -> dict[str, Float32[np.ndarray, "n c h w"]]:
    """Images in [0, 1] that a training never shows.

    Example:
        >>> {kind: len(images) for kind, images in extreme_images(1, 4, 4).items()}
        {'all 0': 1, 'all 1': 1, 'checkerboards': 2, 'single pixels': 10, 'random bytes': 7, \
'salt and pepper': 7, 'values at the edges': 6}
    """
    shape = (channels, height, width)
    rng = (Seed(0) / "extreme images").rng()
    odd = np.indices((height, width)).sum(axis=0) % 2
    board = np.broadcast_to(odd, shape).astype(np.float32)
    drawn = (DRAWN, *shape)
    edges = np.array([1 / 255, 254 / 255, 0.5, np.finfo(np.float32).tiny, 1 - 2**-24], np.float32)
    ramp = np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), shape)
    return {
        "all 0": np.zeros((1, *shape), np.float32),
        "all 1": np.ones((1, *shape), np.float32),
        "checkerboards": np.stack([board, 1 - board]),
        "single pixels": _single_pixels(shape),
        "random bytes": rng.integers(0, 256, drawn).astype(np.float32) / 255,
        "salt and pepper": rng.integers(0, 2, drawn).astype(np.float32),
        "values at the edges": np.stack([*(np.full(shape, value) for value in edges), ramp]),
    }


def _single_pixels(shape: tuple[int, int, int]) -> Float32[np.ndarray, "n c h w"]:
    """One pixel that differs from all others: in the corners and in the middle, light and dark."""
    _, height, width = shape
    places = [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1), (height // 2, width // 2)]
    light = np.zeros((len(places), *shape), np.float32)
    for each, (row, column) in zip(light, places, strict=True):
        each[:, row, column] = 1
    return np.concatenate([light, 1 - light])


def _codes(images: Given, encode: Callable[[Tensor], Tensor], size: int) -> Given:
    """Codes of images, and codes that no image has."""
    with torch.inference_mode():
        of = {f"codes of {kind}": encode(torch.from_numpy(each)).numpy() for kind, each in images.items()}
    largest = np.float32(max(float(np.abs(codes).max()) for codes in of.values()))
    rng = (Seed(0) / "extreme codes").rng()
    units = np.eye(size, dtype=np.float32)[: 2 * DRAWN] * largest
    return {
        **of,
        "codes of nothing": np.zeros((1, size), np.float32),
        "codes of one unit": units,
        "random codes": rng.uniform(-largest, largest, (DRAWN, size)).astype(np.float32),
        "codes far away": rng.uniform(0, 10 * largest, (DRAWN, size)).astype(np.float32),
    }


BATCHES = (1, 2, 7)
TOLERANCE = 5e-5
"""Of probabilities and pixels, absolute; of logits and codes, which have no bounds, times the largest of that
image's, or times 1 if that is less. Measured over the digits study's networks: 2e-6, 7e-6 and 4e-6."""

FREE = ("logits", "codes")

Arrays = Mapping[str, np.ndarray]
InferFn = Callable[[np.ndarray], Arrays]


@dataclass(frozen=True)
class ParityReport:
    """How near an exported graph came to the original.

    Attributes:
        images: different inputs that were compared, each in batches of every size.
        real: how many of them were real images, or their codes.
        kinds: what they were.
        largest: of each output, the largest absolute difference.
        relative: the same as `TOLERANCE` counts it.
    """

    images: int
    real: int
    kinds: tuple[str, ...]
    largest: dict[str, float]
    relative: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file: differences in two digits, since the last bits mean nothing."""
        return {
            "images": self.images, "real": self.real, "kinds": list(self.kinds), "batches": list(BATCHES),
            "largest": {name: float(f"{value:.1e}") for name, value in self.largest.items()},
            "relative": {name: float(f"{value:.1e}") for name, value in self.relative.items()},
            "tolerance": TOLERANCE,
        }  # fmt: skip


def compare_outputs(
    wanted: Exportable, run: InferFn, real: UInt8[np.ndarray, "n c h w"] | None = None
) -> ParityReport:
    """Compare a graph with the original on real and extreme inputs, in batches of 1, 2 and 7.

    Args:
        wanted: the original.
        run: the graph, as a `Session`.
        real: images, if there are any at hand.

    Raises:
        ModelMismatchError: an output differs by more than `TOLERANCE`, has another shape or is no number, or
            another class is the most probable one. It says where and by how much.
    """
    given = inputs_for(wanted, real)
    largest: dict[str, float] = {}
    relative: dict[str, float] = {}
    with _one_thread():
        for kind, batch, inputs in _all_batches(given):
            place = f"on {kind} in batches of {batch}"
            right, found = _original(wanted, inputs), run(inputs)
            _refuse_other_form(wanted, right, found, place)
            for name, wants in right.items():
                difference, scale = np.abs(found[name].astype(np.float64) - wants), _scale(name, wants)
                _refuse_difference(wanted, name, difference, scale, place)
                largest[name] = max(largest.get(name, 0.0), float(difference.max()))
                relative[name] = max(relative.get(name, 0.0), float((difference / scale).max()))
            if "logits" in right:
                _refuse_other_classes(wanted, right["logits"], found["logits"], place)
    real_ones = sum(len(inputs) for kind, inputs in given.items() if kind.endswith(REAL))
    return ParityReport(sum(map(len, given.values())), real_ones, tuple(given), largest, relative)


@contextmanager
def _one_thread() -> Iterator[None]:
    """In one thread: the original's last bits, and so what is told of them, depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _all_batches(given: Given) -> Iterator[tuple[str, int, np.ndarray]]:
    """All inputs, in batches of exactly each size; a last one is filled up from the beginning."""
    for kind, inputs in given.items():
        for batch in BATCHES:
            for start in range(0, len(inputs), batch):
                yield kind, batch, inputs[np.arange(start, start + batch) % len(inputs)]


def _original(wanted: Exportable, inputs: np.ndarray) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        return {name: each.numpy() for name, each in wanted.original(torch.from_numpy(inputs)).items()}


def _scale(name: str, values: np.ndarray) -> np.ndarray:
    """What a difference is measured by: 1, or without bounds the largest of each row if that is more."""
    if name not in FREE:
        return np.ones((1,) * values.ndim)
    scale: np.ndarray = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1.0)
    return scale


def _refuse_other_form(wanted: Exportable, right: Arrays, found: Arrays, place: str) -> None:
    wants, gives = ({name: each.shape for name, each in made.items()} for made in (right, found))
    if wants != gives:
        raise _refusal(wanted, f"{place} it gives {gives}, not {wants}")


def _refuse_difference(
    wanted: Exportable, name: str, difference: np.ndarray, scale: np.ndarray, place: str
) -> None:
    if (difference <= TOLERANCE * scale).all():  # NaN is not
        return
    worst = float(difference.max())
    told = "are no numbers" if np.isnan(worst) else f"differ by up to {worst:.2g}"
    unit = " times the largest" if name in FREE else ""
    raise _refusal(wanted, f"{place} its {name} {told}; allowed: {TOLERANCE:g}{unit}")


def _refuse_other_classes(wanted: Exportable, right: np.ndarray, found: np.ndarray, place: str) -> None:
    """Refuse another most probable class, unless the two are as good as equal."""
    gap = right.max(axis=1) - right[np.arange(len(right)), found.argmax(axis=1)]
    if (gap > TOLERANCE * _scale("logits", right)[:, 0]).any():
        raise _refusal(wanted, f"{place} it says another class, {float(gap.max()):.2g} apart in the logits")


def _refusal(wanted: Exportable, told: str) -> ModelMismatchError:
    return ModelMismatchError(
        f"the exported '{wanted.name}' does not compute the same: {told}; nothing was written"
    )

"""What an exported network is compared on: real images, and the strangest that there can be."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from inklab.export.networks import CODES, Exportable
from inklab.seeding import Seed

MOST_REAL = 40  # images; spread over those at hand
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
        places = np.linspace(0, len(real) - 1, min(MOST_REAL, len(real))).round().astype(int)
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

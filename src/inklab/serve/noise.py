"""Noise that the page puts on images: registered corruptions, nested over strength."""

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from inklab.corrupt.corruption import Corruption, corruptions
from inklab.seeding import Seed


def known_corruptions(first: str | None) -> list[Corruption]:
    """Every registered corruption, the study's own one first.

    Code of a user's own that a plan names as its corruption is never run: a plan may come from anywhere.
    """
    return sorted(corruptions.all().values(), key=lambda each: (each.name != first, each.name))


def spoilt(
    pixels: UInt8[np.ndarray, "n c h w"], name: str, strength: float, seed: int
) -> Float32[np.ndarray, "n c h w"]:
    """Some images with noise, as floats in [0, 1].

    The draws depend on the seed, the corruption and the number and size of the images, not on the strength:
    with one seed, a pixel that salt and pepper replaces is replaced at every larger strength too.

    Args:
        pixels: bytes.
        name: of a registered corruption.
        strength: in its unit.
        seed: where the draws come from.

    Raises:
        UnknownName: no corruption is called so.
        OutOfRange: the strength is too large.

    Example:
        >>> grey = np.full((1, 1, 2, 2), 51, np.uint8)
        >>> spoilt(grey, "salt_and_pepper", 0.0, 7).ravel().tolist() == [51 / np.float32(255)] * 4
        True
    """
    corruption = corruptions[name]
    rng = (Seed(seed) / "page" / name).generator()
    images = torch.from_numpy(pixels.astype(np.float32) / np.float32(255))
    found: Float32[np.ndarray, "n c h w"] = corruption(images, strength, rng).numpy()
    return found


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] as the nearest bytes; bytes as they are."""
    if images.dtype == np.uint8:
        return images
    return np.asarray(np.rint(images * 255).clip(0, 255), np.uint8)

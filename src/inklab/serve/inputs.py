"""Images as requests give them: preprocessed pictures and corrupted images."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from inklab.corruptions.corruption import Corruption, corruptions
from inklab.data.preprocessing import open_image, preprocess_picture
from inklab.errors import DataError
from inklab.records.components import Preprocessing
from inklab.seeding import Seed
from inklab.serve.limits import HttpError, service_unavailable

DEFAULT_CORRUPTION = "salt_and_pepper"  # of a lone model, and of a study without a robustness experiment


class ImagePreprocessor:
    """Makes images of pictures, one at a time.

    Args:
        max_pixels: of a picture.
        max_queued: pictures that may wait.
    """

    def __init__(self, max_pixels: int, max_queued: int) -> None:
        self._max_pixels, self._free_slots = max_pixels, max_queued
        self._pool = ThreadPoolExecutor(1, "inklab pictures")

    def stop(self) -> None:
        """Take no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def preprocess(self, content: bytes, config: Preprocessing) -> UInt8[np.ndarray, "1 c h w"]:
        """A picture as an image; an empty one where no strokes are found.

        Raises:
            HttpError: it is no picture or has too many pixels (422), or too many wait (503).
        """
        if self._free_slots <= 0:
            raise service_unavailable("too many pictures wait for preprocessing")
        self._free_slots -= 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._preprocess, content, config)
        finally:
            self._free_slots += 1

    def _preprocess(self, content: bytes, config: Preprocessing) -> UInt8[np.ndarray, "1 c h w"]:
        try:
            picture = open_image(content, max_pixels=self._max_pixels)
        except DataError as error:
            raise HttpError(422, str(error)) from error
        try:
            return preprocess_picture(picture, config)[None]
        except DataError:  # no strokes: the prediction says so
            return np.full((1, *config.shape), 0 if config.light_on_dark else 255, np.uint8)


def default_corruption(study_corruption: str | None) -> str:
    """The study's own corruption, if it is a registered one.

    Code of a user's own that a plan names as its corruption is never run: a plan may come from anywhere.
    """
    is_registered = study_corruption is not None and study_corruption in corruptions
    return study_corruption if study_corruption is not None and is_registered else DEFAULT_CORRUPTION


def available_corruptions(study_corruption: str | None) -> list[Corruption]:
    """Every registered corruption, the study's own one first."""
    return sorted(corruptions.all().values(), key=lambda entry: (entry.name != study_corruption, entry.name))


def corrupt_pixels(
    pixels: UInt8[np.ndarray, "n c h w"], name: str, strength: float, seed: int
) -> Float32[np.ndarray, "n c h w"]:
    """Corrupted images, as floats in [0, 1].

    The draws depend on the seed, the corruption and the number and size of the images, not on the strength:
    with one seed, a pixel that salt and pepper replaces is replaced at every larger strength too.

    Args:
        pixels: bytes.
        name: of a registered corruption.
        strength: in its unit.
        seed: of the draws.

    Raises:
        UnknownNameError: there is no such corruption.
        OutOfRangeError: the strength is too large.

    Example:
        >>> gray = np.full((1, 1, 2, 2), 51, np.uint8)
        >>> corrupt_pixels(gray, "salt_and_pepper", 0.0, 7).ravel().tolist() == [51 / np.float32(255)] * 4
        True
    """
    corruption = corruptions[name]
    rng = (Seed(seed) / "page" / name).generator()
    images = torch.from_numpy(pixels.astype(np.float32) / np.float32(255))
    corrupted: Float32[np.ndarray, "n c h w"] = corruption(images, strength, rng).numpy()
    return corrupted


def to_uint8(images: np.ndarray) -> UInt8[np.ndarray, "n c h w"]:
    """Floats in [0, 1] as the nearest bytes; bytes as they are."""
    if images.dtype == np.uint8:
        return images
    return np.asarray(np.rint(images * 255).clip(0, 255), np.uint8)

"""Images as requests give them: framed pictures and corrupted images."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from inklab.corruptions.corruption import Corruption, corruptions
from inklab.data.image_file import open_image
from inklab.data.preprocessing import Preprocessing, frame
from inklab.errors import DataError
from inklab.seeding import Seed
from inklab.serve.limits import HttpError, service_unavailable


class ImagePreprocessor:
    """Frames pictures.

    Args:
        pixels: that a picture may have.
        waiting: pictures that may wait.
    """

    def __init__(self, pixels: int, waiting: int) -> None:
        self._most, self._room = pixels, waiting
        self._pool = ThreadPoolExecutor(1, "inklab pictures")

    def stop(self) -> None:
        """Take no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def framed(self, content: bytes, framing: Preprocessing) -> np.ndarray:
        """A picture as an image `(1, c, h, w)`; where no ink is found, as an empty one.

        Raises:
            HttpError: it is no picture or has too many pixels (422), or too many wait (503).
        """
        if self._room <= 0:
            raise service_unavailable("too many pictures wait to be framed")
        self._room -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, self._framed, content, framing
            )
        finally:
            self._room += 1

    def _framed(self, content: bytes, framing: Preprocessing) -> np.ndarray:
        try:
            picture = open_image(content, most=self._most)
        except DataError as error:
            raise HttpError(422, str(error)) from error
        try:
            return frame(picture, framing)[None]
        except DataError:  # no ink: that is something to be told, not a mistake
            ground = 0 if framing.light_on_dark else 255
            return np.full((1, *framing.shape), ground, np.uint8)


def available_corruptions(first: str | None) -> list[Corruption]:
    """Every registered corruption, the study's own one first.

    Code of a user's own that a plan names as its corruption is never run: a plan may come from anywhere.
    """
    return sorted(corruptions.all().values(), key=lambda each: (each.name != first, each.name))


def corrupt_bytes(
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
        UnknownNameError: no corruption is called so.
        OutOfRangeError: the strength is too large.

    Example:
        >>> grey = np.full((1, 1, 2, 2), 51, np.uint8)
        >>> corrupt_bytes(grey, "salt_and_pepper", 0.0, 7).ravel().tolist() == [51 / np.float32(255)] * 4
        True
    """
    corruption = corruptions[name]
    rng = (Seed(seed) / "page" / name).generator()
    images = torch.from_numpy(pixels.astype(np.float32) / np.float32(255))
    found: Float32[np.ndarray, "n c h w"] = corruption(images, strength, rng).numpy()
    return found


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] as the nearest bytes; bytes as they are."""
    if images.dtype == np.uint8:
        return images
    return np.asarray(np.rint(images * 255).clip(0, 255), np.uint8)

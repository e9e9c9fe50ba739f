"""Images as requests give them: framed pictures and corrupted images."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from inklab.corruptions.corruption import Corruption, corruptions
from inklab.data.image_file import open_picture
from inklab.data.preprocessing import Framing, frame
from inklab.errors import DataError
from inklab.seeding import Seed
from inklab.serve.limits import Refused, busy


class Pictures:
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

    async def framed(self, content: bytes, framing: Framing) -> np.ndarray:
        """A picture as an image `(1, c, h, w)`; where no ink is found, as an empty one.

        Raises:
            Refused: it is no picture or has too many pixels (422), or too many wait (503).
        """
        if self._room <= 0:
            raise busy("too many pictures wait to be framed")
        self._room -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, self._framed, content, framing
            )
        finally:
            self._room += 1

    def _framed(self, content: bytes, framing: Framing) -> np.ndarray:
        try:
            picture = open_picture(content, most=self._most)
        except DataError as error:
            raise Refused(422, str(error)) from error
        try:
            return frame(picture, framing)[None]
        except DataError:  # no ink: that is something to be told, not a mistake
            ground = 0 if framing.light_on_dark else 255
            return np.full((1, *framing.shape), ground, np.uint8)


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

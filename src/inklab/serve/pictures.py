"""Picture files that a request brings, framed as the training images were: one at a time, in a thread."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from inklab.data.framing import Framing, frame
from inklab.data.picture import open_picture
from inklab.errors import DataError
from inklab.serve.refused import Refused, busy


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

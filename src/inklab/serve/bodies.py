"""Reading bodies with bounds: of one, of all together, and in time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from inklab.serve.limits import MIB, Limits
from inklab.serve.refused import Refused, busy

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

DRAINED, DRAINED_SECONDS = 32 * MIB, 1.0  # of a body that is refused, so that its sender hears why


class Bodies:
    """Reads requests' bodies.

    Args:
        limits: bytes of one and of all, and seconds.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits, self._held = limits, 0

    @asynccontextmanager
    async def read(self, receive: Receive, length: str) -> AsyncIterator[bytes]:
        """A request's body, whose bytes count as held until the request is done.

        Args:
            receive: the request.
            length: its Content-Length, or an empty text.

        Raises:
            Refused: it is too large (413), too slow (408) or has too many values (422), or too much is held
                (503).
        """
        if length and (not length.isdecimal() or int(length[:20]) > self._limits.body):
            raise self._too_large()
        held = 0
        try:
            parts: list[bytes] = []
            try:
                async with asyncio.timeout(self._limits.body_seconds):
                    async for part in _parts(receive):
                        held += len(part)
                        self._hold(len(part), held)
                        parts.append(part)
            except TimeoutError:
                seconds = self._limits.body_seconds
                raise Refused(
                    408, f"the body was not there within {seconds:g} s; send it again, faster"
                ) from None
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            del parts
            if body.count(b",") > self._limits.values:
                raise Refused(
                    422, f"the body has more than {self._limits.values:,} values; send fewer at once"
                )
            yield body
        finally:
            self._held -= held

    def _hold(self, more: int, whole: int) -> None:
        self._held += more
        if whole > self._limits.body:
            raise self._too_large()
        if self._held > self._limits.bodies:
            raise busy("too many large requests are being read")

    def _too_large(self) -> Refused:
        return Refused(413, f"the body is too large; at most {self._limits.body:,} bytes are read")


async def _parts(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the body was cut short")
        if message.get("body"):
            yield message["body"]
        more = message.get("more_body", False)


async def drain(receive: Receive) -> None:
    """Read and forget what is still being sent, up to a bound."""
    left = DRAINED
    try:
        async with asyncio.timeout(DRAINED_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return

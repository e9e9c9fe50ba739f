"""What one request may cost: limits, bodies read within them, and refusals."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

MIB = 1024**2


@dataclass(frozen=True)
class Limits:
    """All limits in one place; the usual ones are for a small machine.

    Attributes:
        body: bytes of a request's body. A camera's picture of 12 megapixels has 3 to 5 MB, a third more as
            base64.
        bodies: bytes of all bodies that are held at once.
        values: commas in a body. The largest request that is allowed has some 300; without this bound, eight
            MiB of two million empty entries would each get an error of their own.
        body_seconds: in which a body must have come.
        head_seconds: in which a request's line and headers must have come.
        head: bytes of a request's line and headers together.
        seconds: in which an answer must be there, waiting included.
        requests: that are answered at once.
        connections: that are open at once.
        listeners: that follow the study at once.
        images: of one request.
        draws: new images of one request.
        pixels: of a picture that is to be framed. It takes 18 bytes a pixel meanwhile, one picture at a time.
        pictures: that wait to be framed.
        waiting: bytes of images that wait for networks, as floats.
    """

    body: int = 8 * MIB
    bodies: int = 64 * MIB
    values: int = 1000
    body_seconds: float = 10.0
    head_seconds: float = 10.0
    head: int = 32 * 1024
    seconds: float = 10.0
    requests: int = 256
    connections: int = 512
    listeners: int = 32
    images: int = 64
    draws: int = 100
    pixels: int = 16_000_000
    pictures: int = 16
    waiting: int = 64 * MIB


class HttpError(Exception):
    """A request that is not done.

    Args:
        status: the HTTP status, such as 422.
        message: one line: what was given, what is allowed, what to do.
        headers: beside the usual ones, such as Retry-After.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})

    @property
    def body(self) -> bytes:
        r"""The JSON that is sent.

        Example:
            >>> HttpError(422, "two lines\nin one").body
            b'{"error": "two lines in one"}'
        """
        return json.dumps({"error": " ".join(str(self).split())}).encode()


def service_unavailable(what: str, seconds: int = 1) -> HttpError:
    """A request that may be sent again a little later."""
    return HttpError(503, f"{what}; try again in {seconds} s", {"Retry-After": str(seconds)})


Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

MAX_DRAINED_BYTES, DRAINED_SECONDS = 32 * MIB, 1.0  # of a body that is refused, so that its sender hears why


class RequestBodyReader:
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
            HttpError: it is too large (413), too slow (408) or has too many values (422), or too much is held
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
                raise HttpError(
                    408, f"the body was not there within {seconds:g} s; send it again, faster"
                ) from None
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            del parts
            if body.count(b",") > self._limits.values:
                raise HttpError(
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
            raise service_unavailable("too many large requests are being read")

    def _too_large(self) -> HttpError:
        return HttpError(413, f"the body is too large; at most {self._limits.body:,} bytes are read")


async def _parts(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HttpError(400, "the body was cut short")
        if message.get("body"):
            yield message["body"]
        more = message.get("more_body", False)


async def drain(receive: Receive) -> None:
    """Read and forget what is still being sent, up to a bound."""
    left = MAX_DRAINED_BYTES
    try:
        async with asyncio.timeout(DRAINED_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return

"""What one request may cost: a size and a time for its body, a time for its response, and errors as JSON."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MIB = 1024**2
EVENTS = "/api/study/events"
"""Path of the event stream, which lasts as long as its client listens."""


@dataclass(frozen=True)
class Limits:
    """All limits of the server; the defaults suit a small machine.

    A server that others can reach belongs behind a reverse proxy, which limits slow and numerous clients
    better. Requests without the token, if there is one, are rejected before their bodies are read.

    Attributes:
        max_body_bytes: of a request. A photo of 12 megapixels has 3 to 5 MB, a third more as base64.
        body_seconds: within which a body must arrive.
        response_seconds: within which a response must be complete, waiting included.
        max_connections: open at once; further ones get status 503 from uvicorn.
        max_header_bytes: of a request's line and headers together.
        max_subscribers: of the study's progress.
        max_images: of one request.
        max_samples: new images of one request.
        max_picture_pixels: of a picture to preprocess. It takes 18 bytes a pixel, one picture at a time.
        max_queued_pictures: that wait for preprocessing.
        max_queued_bytes: of images that wait for networks, as floats.
    """

    max_body_bytes: int = 8 * MIB
    body_seconds: float = 10.0
    response_seconds: float = 10.0
    max_connections: int = 512
    max_header_bytes: int = 32 * 1024
    max_subscribers: int = 32
    max_images: int = 64
    max_samples: int = 100
    max_picture_pixels: int = 16_000_000
    max_queued_pictures: int = 16
    max_queued_bytes: int = 64 * MIB


class HttpError(HTTPException):
    """A request that gets an error as its response.

    Args:
        status: the HTTP status, such as 422.
        message: one line: what was given, what is allowed, what to do.
        headers: beside the usual ones, such as Retry-After.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, dict(headers or {}))

    def __str__(self) -> str:
        return self.detail


def service_unavailable(reason: str, seconds: int = 1) -> HttpError:
    """The error of a request that may succeed a little later."""
    return HttpError(503, f"{reason}; try again in {seconds} s", {"Retry-After": str(seconds)})


def error_response(error: HTTPException) -> JSONResponse:
    r"""An error as one line of JSON.

    Example:
        >>> error_response(HttpError(422, "two lines\nin one")).body
        b'{"error":"two lines in one"}'
    """
    return JSONResponse({"error": " ".join(error.detail.split())}, error.status_code, error.headers)


class LimitMiddleware:
    """Reads each body within its limits, and ends requests that take too long or whose client has gone.

    Args:
        app: the application.
        limits: of requests.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http" or scope["path"] == EVENTS:
            await self._app(scope, receive, send)
            return
        body = await self._read_body(scope, receive) if scope["method"] == "POST" else b""
        seconds = self._limits.response_seconds
        try:
            async with asyncio.timeout(seconds), cancel_on_disconnect(receive):
                await self._app(scope, _replay(body), send)
        except TimeoutError:
            raise service_unavailable(f"no response within {seconds:g} s", 2) from None

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes:
        if int(Headers(scope=scope).get("content-length", "0")) > self._limits.max_body_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                return await self._read_parts(receive)
        except TimeoutError:
            seconds = f"{self._limits.body_seconds:g} s"
            raise HttpError(
                408, f"the body did not arrive within {seconds}; send it faster", {"Connection": "close"}
            ) from None

    async def _read_parts(self, receive: Receive) -> bytes:
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise HttpError(400, "the body is incomplete")
            body += message.get("body", b"")
            if len(body) > self._limits.max_body_bytes:
                raise self._too_large()
            more = message.get("more_body", False)
        return bytes(body)

    def _too_large(self) -> HttpError:
        return HttpError(
            413, f"the body is too large; at most {self._limits.max_body_bytes:,} bytes are read"
        )


@asynccontextmanager
async def cancel_on_disconnect(receive: Receive) -> AsyncIterator[None]:
    """Cancel the block when the client disconnects, and continue behind it: nobody waits for the response.

    Args:
        receive: of a request whose body has been read.
    """

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.reschedule(0)  # a time in the past: `asyncio.timeout` cancels the block as if it were too late

    try:
        async with asyncio.timeout(None) as scope:
            watcher = asyncio.create_task(watch())
            try:
                yield
            finally:
                watcher.cancel()
    except TimeoutError:
        if not scope.expired():  # one of the block's own
            raise


def _replay(body: bytes) -> Callable[[], Awaitable[Message]]:
    """A `receive` that yields a body which has been read."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not messages:
            await asyncio.Future()  # `cancel_on_disconnect` waits for the client's disconnect
        return messages.pop()

    return receive

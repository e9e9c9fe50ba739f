"""Middleware: who may send requests, what one may cost, the headers of every response, and errors as JSON."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import escape

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inklab.serve.address import AllowedHosts, AuthToken

MIB = 1024**2
EVENTS = "/api/study/events"
"""Path of the event stream, which lasts as long as its client listens."""
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
RAW_SECURITY_HEADERS = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
WELCOME = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=./">'
    '<title>inklab</title><p><a href="./">Continue to the page</a></p></html>'
)
"""Not a redirect: after a link on another site, the browser would follow it without the new cookie."""
ERROR_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
    "<title>inklab: {status}</title><h1>inklab</h1><p>{message}</p></html>"
)
COOKIE_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True)
class Limits:
    """All limits of the server; the defaults suit a small machine.

    A server that others can reach belongs behind a reverse proxy, which limits slow and numerous clients
    better. Requests without the token, if there is one, are rejected before their bodies are read.

    Attributes:
        max_body_bytes: of a request. A photo of 12 megapixels has 3 to 5 MB, a third more as base64.
        body_seconds: time limit for the arrival of a body.
        response_seconds: time limit for a complete response, waiting included.
        max_connections: largest number of open connections; further ones get status 503 from uvicorn.
        max_header_bytes: largest size of a request's line and headers together.
        max_subscribers: largest number of subscribers to the study's progress.
        max_images: largest number of images in one request.
        max_samples: largest number of new images in one request.
        max_picture_pixels: largest number of pixels of a picture to preprocess. It takes 18 bytes a pixel,
            one picture at a time.
        max_queued_pictures: largest number of pictures that wait for preprocessing.
        max_queued_inspections: largest number of images that wait until a network is inspected for them.
        max_queued_bytes: largest size of the images that wait for networks, as floats.
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
    max_queued_inspections: int = 4
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


def error_page(error: HTTPException) -> HTMLResponse:
    """The same for a person whose browser opened an address.

    Example:
        >>> b"<p>a &amp; b</p>" in error_page(HttpError(403, "a & b")).body
        True
    """
    content = ERROR_PAGE.format(status=error.status_code, message=escape(" ".join(error.detail.split())))
    return HTMLResponse(content, error.status_code, error.headers)


class CompressionMiddleware:
    """Compresses what a GET is answered with: the page, results, /openapi.json. Streams stay as they are.

    Responses to POST are small, and each millisecond of theirs is one while a user draws.

    Args:
        app: the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._compressed = app, GZipMiddleware(app, minimum_size=1000, compresslevel=6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        is_whole = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] != EVENTS
        await (self._compressed if is_whole else self._app)(scope, receive, send)


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
        max_bytes, seconds = self._limits.max_body_bytes, self._limits.body_seconds
        too_large = HttpError(413, f"the body is too large; at most {max_bytes:,} bytes are read")
        if int(Headers(scope=scope).get("content-length", "0")) > max_bytes:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise HttpError(400, "the body is incomplete")
                    body += message.get("body", b"")
                    if len(body) > max_bytes:
                        raise too_large
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise HttpError(
                408, f"the body did not arrive within {seconds:g} s; send it faster", {"Connection": "close"}
            ) from None


@asynccontextmanager
async def cancel_on_disconnect(receive: Receive) -> AsyncIterator[None]:
    """Cancel the block when the client disconnects, then continue after it: the response has no reader.

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


# ---------------------------------------------------------------- who may send requests


class SecurityMiddleware:
    """Passes a request on to the application, or rejects it.

    Other web pages are kept out twice: a page that resolves its own name to this machine (DNS rebinding) by
    the `Host` header, one that sends requests here by `Origin` and `Sec-Fetch-Site`. A request with a body
    must be JSON, which no foreign page can send without asking first.

    Args:
        app: the application.
        hosts: names of this server.
        token: token that requests must have, if one is needed.
    """

    def __init__(self, app: ASGIApp, hosts: AllowedHosts, token: AuthToken | None) -> None:
        self._app, self._hosts, self._token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def secured(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                if "content-security-policy" in headers:  # the report's own
                    headers.raw.extend(RAW_SECURITY_HEADERS[1:])
                else:
                    headers.raw.extend(RAW_SECURITY_HEADERS)
                # Browsers may store files, but check them every time: the next server may have others.
                headers.setdefault("cache-control", "no-cache" if "etag" in headers else "no-store")
            await send(message)

        request = Request(scope)
        try:
            self._check_host(request)
            _check_origin(request)
            _check_content_type(request)
            if self._token is None or self._token.authorizes(request.headers, request.cookies):
                await self._app(scope, receive, secured)
            else:
                await self._welcome(request, self._token)(scope, receive, secured)
        except HttpError as error:
            if not started:
                respond = error_page if _is_visit(request) else error_response
                await respond(error)(scope, receive, secured)

    def _check_host(self, request: Request) -> None:
        hosts = request.headers.getlist("host")
        if len(hosts) != 1:
            raise HttpError(400, f"{len(hosts)} Host headers; exactly one is needed")
        if not self._hosts.allow(hosts[0]):
            raise HttpError(
                403,
                f"'{hosts[0][:100]}' is no name of this server; open http://localhost:{self._hosts.port}/, "
                f"or start the server with: inklab serve --allowed-host {_host_name(hosts[0])}",
            )

    def _welcome(self, request: Request, token: AuthToken) -> HTMLResponse:
        """Give a browser that opens the link with the token its cookie.

        Raises:
            HttpError: it is not that link.
        """
        tokens = request.query_params.getlist("token")
        is_page = request.method == "GET" and request.scope["path"] == "/"
        if not is_page or len(tokens) != 1 or not token.matches(tokens[0]):
            raise HttpError(
                401,
                "this server needs its token: open the link that inklab serve printed, which ends in "
                "?token=..., or send the header Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )
        response = HTMLResponse(WELCOME)
        response.set_cookie(
            token.cookie, token.cookie_value, max_age=COOKIE_SECONDS, httponly=True, samesite="strict"
        )
        return response


def _host_name(header: str) -> str:
    """What to type after --allowed-host; NAME where a header is no name and an optional port."""
    name = re.fullmatch(r"([a-z0-9][a-z0-9.-]{0,100})(:\d+)?", header.lower())
    return name[1] if name else "NAME"


def _is_visit(request: Request) -> bool:
    """Whether a browser opens an address for a person, rather than a program or the page's own script."""
    is_navigation = request.headers.get("sec-fetch-mode", "navigate") == "navigate"
    return is_navigation and request.method == "GET" and "text/html" in request.headers.get("accept", "")


def _check_origin(request: Request) -> None:
    """Reject requests of pages from elsewhere. Browsers send these headers, and pages can't change them."""
    host = request.headers["host"].lower()
    for origin in request.headers.getlist("origin"):
        if origin.lower() not in (f"http://{host}", f"https://{host}"):
            raise HttpError(403, f"pages of '{origin[:100]}' may not use this server; only its own page may")
    is_foreign = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    if is_foreign and not _follows_link(request):
        raise HttpError(403, "other sites may not use this server; only its own page may")


def _follows_link(request: Request) -> bool:
    """Whether the request navigates to the page, the only request that other sites may make."""
    return (
        request.method == "GET"
        and request.scope["path"] == "/"
        and request.headers.get("sec-fetch-mode") == "navigate"
        and request.headers.get("sec-fetch-dest") == "document"
    )


def _check_content_type(request: Request) -> None:
    content_type = request.headers.get("content-type", "")
    if request.method == "POST" and content_type.partition(";")[0].strip().lower() != "application/json":
        raise HttpError(415, f"Content-Type is '{content_type[:100]}'; only application/json is read")

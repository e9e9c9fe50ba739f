"""What every request passes first: who may ask, in time, and the headers of every answer."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from inklab.serve.address import AllowedHosts, AuthToken
from inklab.serve.limits import HttpError, Limits, RequestBodyReader, drain, service_unavailable

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

EVENTS, HEALTH = "/api/study/events", "/health"
QUESTIONS = ("/api/predict", "/api/denoise", "/api/generate")
"""Where a body is read."""
SECURITY = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        b"connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)  # fmt: skip
NOT_KEPT = (b"cache-control", b"no-store")
WELCOME = (
    b'<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=/">'
    b'<title>inklab</title><p><a href="/">Go on to the page</a></p></html>'
)
"""Not a redirect: after a link on another site, the browser would follow it without the new cookie."""


class SecurityMiddleware:
    """Lets a request through to the application, or refuses it.

    Args:
        app: what is guarded.
        names: under which it may be asked.
        key: the token, if one is needed.
        limits: of requests.
    """

    def __init__(self, app: App, names: AllowedHosts, key: AuthToken | None, limits: Limits) -> None:
        self._app, self._names, self._key, self._limits = app, names, key, limits
        self._bodies = RequestBodyReader(limits)
        self._running = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            await self._handle(scope, receive, answer)
        except HttpError as error:
            if not answer.begun:
                await answer.refuse(error, receive)

    async def _handle(self, scope: MutableMapping[str, Any], receive: Receive, answer: "_Answer") -> None:
        headers = _Headers(scope["headers"])
        self._check_sender(scope, headers)
        if self._key is not None and not self._key.opens(
            headers.one(b"authorization"), headers.all(b"cookie")
        ):
            if await self._welcome(scope, answer):
                return
            raise HttpError(
                401,
                "this server asks for its token: open the link that it printed, or send it as a Bearer",
                {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        if scope["path"] in (
            EVENTS,
            HEALTH,
        ):  # the first lasts, and counts listeners; the second always answers
            await self._app(scope, receive, answer.send)
            return
        if self._running >= self._limits.requests:
            raise service_unavailable("too many requests are being answered")
        self._running += 1
        try:
            await self._answered(scope, receive, answer, headers)
        finally:
            self._running -= 1

    def _check_sender(self, scope: MutableMapping[str, Any], headers: "_Headers") -> None:
        """Refuse other names, other sites, and other places than those below /."""
        if not scope["raw_path"].startswith(b"/") or scope["path"] != "/" and "\x00" in scope["path"]:
            raise HttpError(400, "a request's target begins with /")
        hosts = headers.all(b"host")
        if len(hosts) != 1:
            raise HttpError(400, f"{len(hosts)} Host headers; exactly one is needed")
        if not self._names.allow(hosts[0]):
            raise HttpError(
                403,
                f"'{hosts[0][:100]}' is not a name of this server; if it is to be one, start it with "
                "--allow-host",
            )
        own = (f"http://{hosts[0]}".lower(), f"https://{hosts[0]}".lower())
        for origin in headers.all(b"origin"):
            if origin.lower() not in own:
                raise HttpError(
                    403, f"pages of '{origin[:100]}' may not ask this server; only its own page may"
                )
        if headers.one(b"sec-fetch-site") in ("cross-site", "same-site") and not _visits(scope, headers):
            raise HttpError(403, "other sites may not ask this server; only its own page may")

    async def _welcome(self, scope: MutableMapping[str, Any], answer: "_Answer") -> bool:
        """Give a browser that comes with the token its cookie."""
        assert self._key is not None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if (
            scope["path"] != "/"
            or scope["method"] != "GET"
            or len(given) != 1
            or not self._key.fits(given[0])
        ):
            return False
        cookie = f"{self._key.cookie}={self._key.secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"set-cookie", cookie.encode())]
        await answer.whole(200, WELCOME, headers)
        return True

    async def _answered(
        self, scope: MutableMapping[str, Any], receive: Receive, answer: "_Answer", headers: "_Headers"
    ) -> None:
        if scope["method"] != "POST" or scope["path"] not in QUESTIONS:
            await self._in_time(scope, receive, answer)
            return
        if headers.one(b"content-type").partition(";")[0].strip().lower() != "application/json":
            raise HttpError(
                415, f"Content-Type '{headers.one(b'content-type')[:100]}'; only application/json is read"
            )
        async with self._bodies.read(receive, headers.one(b"content-length")) as body:
            gone = asyncio.ensure_future(_until_gone(receive))
            task = asyncio.current_task()
            assert task is not None
            gone.add_done_callback(lambda done: done.cancelled() or answer.ended or task.cancel())
            scope["body"] = body
            try:
                await self._in_time(scope, receive, answer)
            except asyncio.CancelledError:
                if not gone.done() or gone.cancelled() or task.uncancel():
                    raise
            finally:
                gone.cancel()

    async def _in_time(self, scope: MutableMapping[str, Any], receive: Receive, answer: "_Answer") -> None:
        try:
            async with asyncio.timeout(self._limits.seconds):
                await self._app(scope, receive, answer.send)
        except TimeoutError:
            raise service_unavailable(f"no answer within {self._limits.seconds:g} s", 2) from None


async def _until_gone(receive: Receive) -> None:
    """Wait until a client that has sent all has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _visits(scope: MutableMapping[str, Any], headers: "_Headers") -> bool:
    """Whether somebody follows a link to the page; other sites may do nothing else."""
    return (
        scope["path"] == "/"
        and scope["method"] == "GET"
        and headers.one(b"sec-fetch-mode") == "navigate"
        and headers.one(b"sec-fetch-dest") == "document"
    )


class _Headers:
    """A request's headers by name, as they came."""

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self._raw = raw

    def all(self, name: bytes) -> list[str]:
        return [value.decode("latin-1") for key, value in self._raw if key == name]

    def one(self, name: bytes) -> str:
        """The last one, or an empty text."""
        found = ""
        for key, value in self._raw:
            if key == name:
                found = value.decode("latin-1")
        return found


class _Answer:
    """What is sent back, with the headers that every answer has."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = self.ended = False

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self.begun = True
            given = list(message.get("headers", ()))
            kept = () if any(name == b"cache-control" for name, _ in given) else (NOT_KEPT,)
            message = {**message, "headers": [*given, *kept, *SECURITY]}
        else:
            self.ended = not message.get("more_body", False)
        await self._send(message)

    async def whole(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Send an answer that is short."""
        length = (b"content-length", str(len(body)).encode())
        await self.send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        await self.send({"type": "http.response.body", "body": body})

    async def refuse(self, error: HttpError, receive: Receive) -> None:
        """Say why a request is not done; what is still being sent is read, so that it is heard."""
        given = {"Content-Type": "application/json", **error.headers}
        ends = error.status in (400, 408, 413)  # what follows on this connection can't be trusted
        given |= {"Connection": "close"} if ends else {}
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()]
        length = (b"content-length", str(len(error.body)).encode())
        await self.send(
            {"type": "http.response.start", "status": error.status, "headers": [*headers, length]}
        )
        await self.send({"type": "http.response.body", "body": error.body, "more_body": ends})
        if ends:
            await drain(receive)
            await self.send({"type": "http.response.body", "body": b""})

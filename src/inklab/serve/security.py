"""Who may ask: hosts, tokens, and the headers of every answer."""

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs

from inklab.errors import SpecError
from inklab.serve.limits import Bodies, Limits, Refused, busy, drain

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
SHORTEST_TOKEN = 16  # characters
TOKEN = re.compile(rf"[\w.~-]{{{SHORTEST_TOKEN},200}}", re.ASCII)
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")
ANY = ("0.0.0.0", "::")  # addresses to bind to that nobody asks for


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address.

    Example:
        >>> [is_loopback(each) for each in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "192.168.0.7")]
        [True, True, True, False, False]
    """
    if address == "localhost":
        return True
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def check_address(address: str, token: str | None) -> None:
    """Refuse to be reached from other machines without a token.

    Raises:
        SpecError: `address` is no loopback address, and there is no token.
    """
    if token is None and not is_loopback(address):
        raise SpecError(
            f"--host {address} lets other machines ask, so a token is needed: add --token auto, or use "
            "--host 127.0.0.1"
        )


def token_of(asked: str | None) -> str | None:
    """The token that was asked for; "auto" makes one.

    Raises:
        SpecError: it is too short, or has characters that don't stand in a link as they are.
    """
    if asked == "auto":
        return secrets.token_urlsafe(24)
    if asked is not None and not TOKEN.fullmatch(asked):
        raise SpecError(
            f"the token has {len(asked)} characters; allowed are {SHORTEST_TOKEN} to 200 letters, digits, "
            "and any of - _ . ~, or 'auto'"
        )
    return asked


@dataclass(frozen=True)
class Names:
    """Names under which a server may be asked; by others, foreign pages get round a browser's rules.

    Attributes:
        port: where it listens.
        own: names with that port: the loopback's, and the address it is bound to.
        also: names that the user allows, with any port or none: a proxy may stand in front.
    """

    port: int
    own: frozenset[str]
    also: frozenset[str] = frozenset()

    @staticmethod
    def of(address: str, port: int, allowed: Sequence[str] = ()) -> "Names":
        """Names of a server that listens at an address.

        Raises:
            SpecError: one that is to be allowed is no name of a machine.
        """
        for name in allowed:
            if not NAME.fullmatch(_bracketed(name)):
                raise SpecError(
                    f"--allow-host '{name[:60]}' is no name of a machine; give one such as lab.example"
                )
        bound = () if address in ANY else (_bracketed(address),)
        return Names(port, frozenset((*LOOPBACK, *bound)), frozenset(map(_bracketed, allowed)))

    def allow(self, host: str) -> bool:
        """Whether a Host header names this server.

        Example:
            >>> here = Names.of("127.0.0.1", 8470)
            >>> [here.allow(host) for host in ("localhost:8470", "[::1]:8470", "localhost", "evil.example")]
            [True, True, False, False]
        """
        name, port = _split(host.lower())
        if name in self.also:
            return port is None or port.isdecimal()
        return name in self.own and (port or "80") == str(self.port)


def _bracketed(name: str) -> str:
    name = name.lower()
    return f"[{name}]" if ":" in name and not name.startswith("[") else name


def _split(host: str) -> tuple[str, str | None]:
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and not port.endswith("]") else (host, None)


@dataclass(frozen=True)
class Key:
    """The token of a server, as it is asked for.

    Attributes:
        token: the text.
        port: where it listens; cookies don't tell ports apart, so it is part of the cookie's name.
    """

    token: str
    port: int

    @property
    def cookie(self) -> str:
        """The cookie that is set in a browser that came with the token; the token can't be had from it."""
        return f"inklab_{self.port}"

    @property
    def secret(self) -> str:
        """What stands in the cookie."""
        return hashlib.sha256(f"inklab page {self.token}".encode()).hexdigest()

    def fits(self, given: str) -> bool:
        """Whether somebody gave the token; takes as long for a wrong one."""
        return hmac.compare_digest(given.encode(), self.token.encode())

    def opens(self, authorization: str, cookies: Iterable[str]) -> bool:
        """Whether a request's headers have it: `Authorization: Bearer TOKEN`, or the cookie."""
        kind, _, given = authorization.partition(" ")
        if kind.lower() == "bearer" and self.fits(given.strip()):
            return True
        return any(hmac.compare_digest(each.encode(), self.secret.encode()) for each in self._values(cookies))

    def _values(self, cookies: Iterable[str]) -> list[str]:
        try:
            jars = [SimpleCookie(each) for each in cookies]
        except CookieError:
            return []
        return [jar[self.cookie].value for jar in jars if self.cookie in jar]


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


class Guard:
    """Lets a request through to the application, or refuses it.

    Args:
        app: what is guarded.
        names: under which it may be asked.
        key: the token, if one is needed.
        limits: of requests.
    """

    def __init__(self, app: App, names: Names, key: Key | None, limits: Limits) -> None:
        self._app, self._names, self._key, self._limits = app, names, key, limits
        self._bodies = Bodies(limits)
        self._running = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            await self._handle(scope, receive, answer)
        except Refused as error:
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
            raise Refused(
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
            raise busy("too many requests are being answered")
        self._running += 1
        try:
            await self._answered(scope, receive, answer, headers)
        finally:
            self._running -= 1

    def _check_sender(self, scope: MutableMapping[str, Any], headers: "_Headers") -> None:
        """Refuse other names, other sites, and other places than those below /."""
        if not scope["raw_path"].startswith(b"/") or scope["path"] != "/" and "\x00" in scope["path"]:
            raise Refused(400, "a request's target begins with /")
        hosts = headers.all(b"host")
        if len(hosts) != 1:
            raise Refused(400, f"{len(hosts)} Host headers; exactly one is needed")
        if not self._names.allow(hosts[0]):
            raise Refused(
                403,
                f"'{hosts[0][:100]}' is not a name of this server; if it is to be one, start it with "
                "--allow-host",
            )
        own = (f"http://{hosts[0]}".lower(), f"https://{hosts[0]}".lower())
        for origin in headers.all(b"origin"):
            if origin.lower() not in own:
                raise Refused(
                    403, f"pages of '{origin[:100]}' may not ask this server; only its own page may"
                )
        if headers.one(b"sec-fetch-site") in ("cross-site", "same-site") and not _visits(scope, headers):
            raise Refused(403, "other sites may not ask this server; only its own page may")

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
            raise Refused(
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
            raise busy(f"no answer within {self._limits.seconds:g} s", 2) from None


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

    async def refuse(self, error: Refused, receive: Receive) -> None:
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

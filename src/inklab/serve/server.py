"""The server: its HTTP protocol with limits, and its life."""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from inklab.serve.address import BACKLOG, AllowedHosts, AuthToken, BindAddress
from inklab.serve.app import build_app
from inklab.serve.app_state import AppState
from inklab.serve.limits import Limits
from inklab.serve.security import SecurityMiddleware

LIMITS = Limits()
TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 61\r\n"
    b"retry-after: 1\r\nconnection: close\r\n\r\n"
    b'{"error": "too many connections are open; try again in 1 s"}\n'
)
TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
    b"content-length: 52\r\nconnection: close\r\n\r\n"
    b'{"error": "the headers are too large; send fewer."}\n'
)


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol that gives up on requests whose line and headers are long or slow to come."""

    def connection_made(self, transport: Any) -> None:  # uvloop's are no asyncio.Transport
        """A client has come."""
        super().connection_made(transport)
        self._head = 0
        self._timer: asyncio.TimerHandle | None = None
        self._await_head()
        if len(self.connections) > LIMITS.connections:
            transport.write(TOO_MANY)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """A client has gone."""
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        if self.transport.is_closing():
            return
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()
        waiting = self._timer is not None
        super().data_received(data)
        if waiting and self._timer is not None:
            self._head += len(data)
            if self._head > LIMITS.head and not self.transport.is_closing():
                self.transport.write(TOO_LONG)
                self.transport.close()

    def on_headers_complete(self) -> None:
        """The parser has read a request's line and headers."""
        self._head_is_there()
        if not self.url.startswith(
            b"/"
        ):  # http://other.example/...: a form for proxies, with a host of its own
            self.url = b"*"
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head = 0
        self._timer = self.loop.call_later(LIMITS.head_seconds, self._give_up)

    def _head_is_there(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self, *_: Any) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()


Listening = Callable[[Mapping[str, str]], None]
"""Called once a server answers, with what it can't serve and why."""

SWITCH_INTERVAL = 1e-4
"""Seconds after which Python's threads take turns. A pass of a network that has ended waits so long for the
event loop to let go. With the usual 5e-3, a fifth fewer requests are answered
(1,290 to 1,560 a second against 1,610 to 1,860, at 8 and 64 clients, in turns)."""

SHUTDOWN_TIMEOUT = 3  # seconds that answers under way may take after the server was told to end


class UvicornServer(uvicorn.Server):
    """uvicorn that says when it listens, and ends those who follow the study before it waits for answers."""

    def __init__(self, config: uvicorn.Config, service: AppState, listening: Listening) -> None:
        super().__init__(config)
        self._service, self._listening = service, listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started:
            self._listening(self._service.shelf.left_out)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        if self._service.follower is not None:
            await self._service.follower.close()
        await super().shutdown(sockets)


def server(
    folder: Path,
    place: BindAddress,
    listener: socket.socket,
    listening: Listening,
    trusted: Collection[str] = (),
    limits: Limits | None = None,
) -> UvicornServer:
    """A server that is ready to run: `run(sockets=[listener])` or `await serve(...)`.

    Args:
        folder: a run or a bundle.
        place: where, and for whom.
        listener: the socket there.
        listening: called once it answers.
        trusted: code of one's own that may be run.
        limits: of what is taken; the usual ones if left out.

    Raises:
        InklabError: there is nothing to serve, or a package is missing.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    limits, port = limits or Limits(), listener.getsockname()[1]
    service = AppState(folder, trusted, limits)
    key = None if place.token is None else AuthToken(place.token, port)
    app = SecurityMiddleware(
        build_app(service), AllowedHosts.of(place.host, port, place.allowed), key, limits
    )
    config = uvicorn.Config(
        app, http=LimitedHttpProtocol, ws="none", loop="uvloop", lifespan="on", log_config=None,
        access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT, backlog=BACKLOG,
    )  # fmt: skip
    return UvicornServer(config, service, listening)


def serve(
    folder: Path,
    place: BindAddress,
    listener: socket.socket,
    listening: Listening,
    trusted: Collection[str] = (),
) -> None:
    """Serve until Ctrl-C or SIGTERM; arguments as of `server`."""
    running = server(folder, place, listener, listening, trusted)
    sys.setswitchinterval(SWITCH_INTERVAL)
    with suppress(KeyboardInterrupt):  # uvicorn raises it once more after all has ended well
        running.run(sockets=[listener])

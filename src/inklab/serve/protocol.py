"""HTTP with bounds on what comes before a body: time, bytes, connections. uvicorn has none of its own."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from inklab.serve.limits import Limits

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


class Bounded(HttpToolsProtocol):
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

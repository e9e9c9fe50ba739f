"""Serving until told to end."""

import logging
import socket
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

import uvicorn

from inklab.serve.app import application
from inklab.serve.guard import Guard
from inklab.serve.hosts import Key, Names
from inklab.serve.limits import Limits
from inklab.serve.listening import BACKLOG, Place
from inklab.serve.protocol import Bounded
from inklab.serve.service import Service

Listening = Callable[[Mapping[str, str]], None]
"""Called once a server answers, with what it can't serve and why."""

SWITCH = 1e-4
"""Seconds after which Python's threads take turns. A pass of a network that has ended waits so long for the
event loop to let go. With the usual 5e-3, a fifth fewer requests are answered
(1,290 to 1,560 a second against 1,610 to 1,860, at 8 and 64 clients, in turns)."""

PATIENCE = 3  # seconds that answers under way may take after the server was told to end


class Serving(uvicorn.Server):
    """uvicorn that says when it listens, and ends those who follow the study before it waits for answers."""

    def __init__(self, config: uvicorn.Config, service: Service, listening: Listening) -> None:
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
    place: Place,
    listener: socket.socket,
    listening: Listening,
    trusted: Collection[str] = (),
    limits: Limits | None = None,
) -> Serving:
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
    service = Service(folder, trusted, limits)
    key = None if place.token is None else Key(place.token, port)
    app = Guard(application(service), Names.of(place.host, port, place.allowed), key, limits)
    config = uvicorn.Config(
        app, http=Bounded, ws="none", loop="uvloop", lifespan="on", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, timeout_graceful_shutdown=PATIENCE, backlog=BACKLOG,
    )  # fmt: skip
    return Serving(config, service, listening)


def serve(
    folder: Path,
    place: Place,
    listener: socket.socket,
    listening: Listening,
    trusted: Collection[str] = (),
) -> None:
    """Serve until Ctrl-C or SIGTERM; arguments as of `server`."""
    running = server(folder, place, listener, listening, trusted)
    sys.setswitchinterval(SWITCH)
    with suppress(KeyboardInterrupt):  # uvicorn raises it once more after all has ended well
        running.run(sockets=[listener])

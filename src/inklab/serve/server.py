"""The life of the server: from an address to its end."""

import logging
import socket
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

import uvicorn

from inklab.serve.address import BACKLOG, AllowedHosts, AuthToken, BindAddress
from inklab.serve.app import build_app
from inklab.serve.app_state import AppState
from inklab.serve.limits import LimitMiddleware, Limits
from inklab.serve.security import SecurityMiddleware

OnReady = Callable[[Mapping[str, str]], None]
"""Called once the server answers, with the models that can't be served and why."""

SWITCH_INTERVAL = 1e-4
"""Seconds after which Python's threads take turns. A network that has finished waits so long for the event
loop to release the interpreter. With the default of 5e-3, a fifth fewer requests are answered
(1,290 to 1,560 a second against 1,610 to 1,860, at 8 and 64 clients, alternately)."""

SHUTDOWN_SECONDS = 3  # that responses under way may take after the server was asked to end


class UvicornServer(uvicorn.Server):
    """uvicorn, which ends the study's event streams before it waits for responses.

    Args:
        config: of uvicorn.
        state: of the application.
    """

    def __init__(self, config: uvicorn.Config, state: AppState) -> None:
        super().__init__(config)
        self.app_state = state

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        if self.app_state.progress_stream is not None:
            await self.app_state.progress_stream.close()
        await super().shutdown(sockets)


def create_server(
    path: Path,
    address: BindAddress,
    listener: socket.socket,
    on_ready: OnReady,
    trust_code: Collection[str] = (),
    limits: Limits | None = None,
) -> UvicornServer:
    """A server that is ready to run: `run(sockets=[listener])` or `await serve(...)`.

    Args:
        path: a run directory, or the directory of a trained model.
        address: where, and for whom.
        listener: the socket there.
        on_ready: called once it answers.
        trust_code: code of your own that may be run.
        limits: of requests; the defaults if left out.

    Raises:
        InklabError: there is nothing to serve, or a package is missing.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    limits, port = limits or Limits(), listener.getsockname()[1]
    state = AppState(path, trust_code, limits)
    token = None if address.token is None else AuthToken(address.token, port)
    app = LimitMiddleware(build_app(state, on_ready), limits)
    config = uvicorn.Config(
        SecurityMiddleware(app, AllowedHosts.of(address, port), token),
        http="h11",  # unlike httptools, it limits the size of headers
        h11_max_incomplete_event_size=limits.max_header_bytes,
        limit_concurrency=limits.max_connections,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        backlog=BACKLOG,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    return UvicornServer(config, state)


def serve(
    path: Path,
    address: BindAddress,
    listener: socket.socket,
    on_ready: OnReady,
    trust_code: Collection[str] = (),
) -> None:
    """Serve until Ctrl-C or SIGTERM; arguments as of `create_server`."""
    server = create_server(path, address, listener, on_ready, trust_code)
    sys.setswitchinterval(SWITCH_INTERVAL)
    with suppress(KeyboardInterrupt):  # uvicorn raises it once more after a clean end
        server.run(sockets=[listener])

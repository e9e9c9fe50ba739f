"""Where to listen. Free of heavy imports: a port that is taken is told at once."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from inklab.errors import SpecError

BACKLOG = 1024  # connections that the system keeps while the server is busy


@dataclass(frozen=True)
class Place:
    """Where to listen, and for whom.

    Attributes:
        host: an address of this machine; loopback, or there must be a token.
        port: 0 takes a free one.
        token: what must be given, if anything.
        allowed: names under which others may ask, beside the loopback's and `host`.
    """

    host: str = "127.0.0.1"
    port: int = 8470
    token: str | None = None
    allowed: Sequence[str] = ()


def listen(place: Place) -> socket.socket:
    """A socket at the place.

    Raises:
        SpecError: the port is taken, or the address is not this machine's.
    """
    kind = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    listener = socket.socket(kind, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((place.host, place.port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise SpecError(
            f"can't listen at {place.host}, port {place.port}: {reason}; choose another --port, or 0, which "
            "takes a free one"
        ) from error
    return listener

"""Where the server listens, and who may ask: its address, its host names, its token."""

import hashlib
import hmac
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from inklab.errors import ConfigError

BACKLOG = 1024  # connections that the system queues while the server is busy
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
ANY_ADDRESS = ("0.0.0.0", "::")  # addresses to bind to that are no names of a server
MIN_TOKEN_LENGTH = 16  # characters
TOKEN = re.compile(rf"[\w.~-]{{{MIN_TOKEN_LENGTH},200}}", re.ASCII)
HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")


@dataclass(frozen=True)
class BindAddress:
    """Where to listen, and for whom.

    Attributes:
        host: an address of this machine; with any but a loopback address, a token is needed.
        port: 0 takes a free one.
        token: token that requests must have; None if they need none.
        allowed_hosts: names of the server, besides those of the loopback and `host`.
    """

    host: str = "127.0.0.1"
    port: int = 8470
    token: str | None = None
    allowed_hosts: Sequence[str] = ()

    def check(self) -> None:
        """Refuse an address that other machines reach without a token, and host names that are none.

        Raises:
            ConfigError: see above.
        """
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"--host {self.host} lets other machines use the server, so a token is needed: add "
                "--token auto, or use --host 127.0.0.1",
                key="token",
            )
        AllowedHosts.of(self, self.port)


def listen(address: BindAddress) -> socket.socket:
    """A socket that listens at an address.

    Raises:
        ConfigError: the port is in use, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"can't listen at {address.host}, port {address.port}: {reason}; choose another --port, or 0 for "
            "a free one",
            key="port",
        ) from error
    return listener


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address.

    Example:
        >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "192.168.0.7")]
        [True, True, True, False, False]
    """
    if address == "localhost":
        return True
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def parse_token(text: str | None) -> str | None:
    """The token that a user chose; "auto" makes a random one.

    Raises:
        ConfigError: it is too short or too long, or has characters that a link can't contain as they are.
    """
    if text == "auto":
        return secrets.token_urlsafe(24)
    if text is not None and not TOKEN.fullmatch(text):
        raise ConfigError(
            f"the token has {len(text)} characters; allowed are {MIN_TOKEN_LENGTH} to 200 letters, digits, "
            "and any of - _ . ~, or 'auto'",
            key="token",
        )
    return text


@dataclass(frozen=True)
class AllowedHosts:
    """Names of a server; a request for another name comes from a page that pretends to be the server's.

    Attributes:
        port: where it listens.
        bound: names with that port: the loopback's, and the address that it is bound to.
        extra: names that the user allows, with any port or none: a proxy may be in front.
    """

    port: int
    bound: frozenset[str]
    extra: frozenset[str] = frozenset()

    @classmethod
    def of(cls, address: BindAddress, port: int) -> "AllowedHosts":
        """Names of a server that listens at an address.

        Args:
            address: with the names that the user allows.
            port: the port that it got.

        Raises:
            ConfigError: one of them is no host name.
        """
        for name in address.allowed_hosts:
            if not HOST_NAME.fullmatch(_bracketed(name)):
                raise ConfigError(
                    f"--allowed-host '{name[:60]}' is no host name; write one such as lab.example",
                    key="allowed-host",
                )
        bound = () if address.host in ANY_ADDRESS else (_bracketed(address.host),)
        return cls(port, frozenset((*LOOPBACK, *bound)), frozenset(map(_bracketed, address.allowed_hosts)))

    def allow(self, host: str) -> bool:
        """Whether a Host header names this server.

        Example:
            >>> hosts = AllowedHosts.of(BindAddress(), 8470)
            >>> [hosts.allow(host) for host in ("localhost:8470", "[::1]:8470", "localhost", "evil.example")]
            [True, True, False, False]
        """
        name, colon, port = host.lower().rpartition(":")
        if not colon or port.endswith("]"):  # no port; the colon is of an IPv6 address
            name, port = host.lower(), "80"
        if name in self.extra:
            return port.isdecimal()
        return name in self.bound and (port or "80") == str(self.port)


def _bracketed(name: str) -> str:
    name = name.lower()
    return f"[{name}]" if ":" in name and not name.startswith("[") else name


@dataclass(frozen=True)
class AuthToken:
    """The token of a server.

    Attributes:
        token: the text.
        port: where the server listens; cookies ignore ports, so it is part of the cookie's name.
    """

    token: str
    port: int

    @property
    def cookie(self) -> str:
        """Name of the cookie that a browser gets when it opens the link with the token."""
        return f"inklab_{self.port}"

    @property
    def cookie_value(self) -> str:
        """Value of that cookie; the token can't be computed from it."""
        return hashlib.sha256(f"inklab page {self.token}".encode()).hexdigest()

    def matches(self, text: str) -> bool:
        """Whether a text is the token; takes as long for a wrong one."""
        return _is_equal(text, self.token)

    def authorizes(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> bool:
        """Whether a request has the token: `Authorization: Bearer TOKEN`, or the cookie."""
        scheme, _, text = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.matches(text.strip()):
            return True
        return _is_equal(cookies.get(self.cookie, ""), self.cookie_value)


def _is_equal(text: str, secret: str) -> bool:
    return hmac.compare_digest(text.encode(), secret.encode())

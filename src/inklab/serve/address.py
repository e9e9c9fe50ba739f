"""Where the server listens, and who may ask: its address, the names it answers to, its token."""

import hashlib
import hmac
import re
import secrets
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address

from inklab.errors import ConfigError

BACKLOG = 1024  # connections that the system keeps while the server is busy


@dataclass(frozen=True)
class BindAddress:
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


def listen(place: BindAddress) -> socket.socket:
    """A socket at the place.

    Raises:
        ConfigError: the port is taken, or the address is not this machine's.
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
        raise ConfigError(
            f"can't listen at {place.host}, port {place.port}: {reason}; choose another --port, or 0, which "
            "takes a free one"
        ) from error
    return listener


LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


MIN_TOKEN_LENGTH = 16  # characters


TOKEN = re.compile(rf"[\w.~-]{{{MIN_TOKEN_LENGTH},200}}", re.ASCII)


NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")


ANY_ADDRESS = ("0.0.0.0", "::")  # addresses to bind to that nobody asks for


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
        ConfigError: `address` is no loopback address, and there is no token.
    """
    if token is None and not is_loopback(address):
        raise ConfigError(
            f"--host {address} lets other machines ask, so a token is needed: add --token auto, or use "
            "--host 127.0.0.1"
        )


def token_of(asked: str | None) -> str | None:
    """The token that was asked for; "auto" makes one.

    Raises:
        ConfigError: it is too short, or has characters that don't stand in a link as they are.
    """
    if asked == "auto":
        return secrets.token_urlsafe(24)
    if asked is not None and not TOKEN.fullmatch(asked):
        raise ConfigError(
            f"the token has {len(asked)} characters; allowed are {MIN_TOKEN_LENGTH} to 200 letters, digits, "
            "and any of - _ . ~, or 'auto'"
        )
    return asked


@dataclass(frozen=True)
class AllowedHosts:
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
    def of(address: str, port: int, allowed: Sequence[str] = ()) -> "AllowedHosts":
        """Names of a server that listens at an address.

        Raises:
            ConfigError: one that is to be allowed is no name of a machine.
        """
        for name in allowed:
            if not NAME.fullmatch(_bracketed(name)):
                raise ConfigError(
                    f"--allow-host '{name[:60]}' is no name of a machine; give one such as lab.example"
                )
        bound = () if address in ANY_ADDRESS else (_bracketed(address),)
        return AllowedHosts(port, frozenset((*LOOPBACK, *bound)), frozenset(map(_bracketed, allowed)))

    def allow(self, host: str) -> bool:
        """Whether a Host header names this server.

        Example:
            >>> here = AllowedHosts.of("127.0.0.1", 8470)
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
class AuthToken:
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

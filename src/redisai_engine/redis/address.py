"""
The address of Redis, and how a connection to it is opened.

URLs are redis-py's and are parsed by redis-py. They can't select a database here, because each client selects its own.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from redisai_engine.errors import StartError

_SCHEMES = ("redis://", "rediss://", "unix://")
#: The query parameters that rediss:// allows, by redis-py's names.
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")


@dataclass(frozen=True, slots=True)
class Address:
    """
    Where Redis listens: the path of a unix socket, or a host and port.

    User name and password are for the engine's own connection. Clients authenticate for themselves.
    """

    path: str = ""
    host: str = "127.0.0.1"
    port: int = 6379
    tls: ssl.SSLContext | None = None
    username: str = ""
    password: str = ""

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.path else f"{'rediss' if self.tls else 'redis'}://{self.host}:{self.port}"

    async def connect(self, factory: Callable[[], asyncio.Protocol]) -> None:
        """Open a connection for the protocol that `factory` makes. Raise OSError."""
        loop = asyncio.get_running_loop()
        if self.path:
            await loop.create_unix_connection(factory, self.path)
        else:
            await loop.create_connection(factory, self.host, self.port, ssl=self.tls)

    @property
    def credentials(self) -> tuple[bytes, ...]:
        """The arguments of AUTH; empty without a password."""
        if not self.password:
            return ()
        return tuple(part.encode() for part in (self.username, self.password) if part)


def parse_address(url: str) -> Address:
    """Parse a redis://, rediss:// or unix:// URL. Raise StartError that names the wrong part and what is allowed."""
    from redis.connection import parse_url  # takes 0.15 s, which an engine with an embedded redis-server need not wait

    if not url.startswith(_SCHEMES):
        raise StartError(f"--redis can't be {_hidden(url)!r}: it must start with redis://, rediss:// or unix://")
    try:
        given: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
        is_tcp, path, port = not url.startswith("unix:"), urlsplit(url).path, urlsplit(url).port
    except ValueError:
        port = 0
    if port == 0:
        raise StartError(f"--redis has a bad port in {_hidden(url)!r}: it must be from 1 to 65535")
    # redis-py ignores a path that isn't a number; here it is refused like a database.
    if given.pop("db", 0) or (is_tcp and path not in ("", "/", "/0")):
        raise StartError(f"--redis can't name a database, as {_hidden(url)!r} does: clients choose theirs with SELECT")
    if not (is_tcp or given.get("path")):
        raise StartError("--redis can't be 'unix://' alone: the socket's path is missing")
    is_tls = given.pop("connection_class", None) is not None and is_tcp
    tls = _tls(url, {name: given.pop(name) for name in _TLS if name in given}) if is_tls else None
    _refuse_unknown(url, given, allowed=_TLS if is_tls else ())
    return Address(tls=tls, **given)


def _refuse_unknown(url: str, given: dict[str, Any], *, allowed: tuple[str, ...]) -> None:
    unknown = given.keys() - {"host", "port", "path", "username", "password"}
    if unknown:
        what = f"the parameters are {', '.join(allowed)}" if allowed else "this scheme has no parameters"
        raise StartError(f"--redis has the unknown parameter {min(unknown)!r} in {_hidden(url)!r}: {what}")


def _tls(url: str, given: dict[str, Any]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=given.get("ssl_ca_certs"))
        context.check_hostname = given.get("ssl_check_hostname", True) and given.get("ssl_cert_reqs") != "none"
        if given.get("ssl_cert_reqs") == "none":
            context.verify_mode = ssl.CERT_NONE
        if "ssl_certfile" in given:
            context.load_cert_chain(given["ssl_certfile"], given.get("ssl_keyfile"))
    except OSError as error:
        raise StartError(f"--redis names certificates that can't be used in {_hidden(url)!r}: {error}") from None
    return context


def _hidden(url: str) -> str:
    """Return the URL with user name and password replaced, for error messages."""
    before, at, rest = url.rpartition("@")
    return f"{before.partition('://')[0]}://***@{rest}" if at else url

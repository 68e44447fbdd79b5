"""
Listening on a port, for any front: TLS with the listener's certificate, and errors that say what to change.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import Callable, Iterable
from typing import Any

from redisai_engine.certificates import load_authorities, load_certificate, modern
from redisai_engine.config import Settings
from redisai_engine.errors import StartError
from redisai_engine.fronts.closing import Closing
from redisai_engine.fronts.handshakes import Handshakes
from redisai_engine.keepalive import keep_alive

_VERIFIED = {"yes": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "no": ssl.CERT_NONE}
_IDLE_SECONDS = 300  # of a client's connection, until the kernel asks whether the client still exists; as in Redis
_INTERVAL_SECONDS = 100
_PATIENCE_SECONDS = 30.0


class Listener:
    """A port on which connections are accepted."""

    def __init__(self, server: asyncio.Server, handshakes: Handshakes | None, closing: Closing | None) -> None:
        self._server = server
        self._handshakes = handshakes
        self._closing = closing

    @property
    def under_way(self) -> int:
        """How many clients are in their TLS handshake: 0 without TLS."""
        return 0 if self._handshakes is None else len(self._handshakes)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    def close(self) -> None:
        """Accept no more connections."""
        self._server.close()
        if self._handshakes is not None:
            self._handshakes.close()
        if self._closing is not None:
            self._closing.end()


async def listen(
    loop: asyncio.AbstractEventLoop,
    connection: Callable[[], asyncio.Protocol],
    settings: Settings,
    port: int,
    *,
    flag: str,
    shared: bool,
    is_full: Callable[[], bool],
    transports: Callable[[], Iterable[Any]],
    patience: float = _PATIENCE_SECONDS,
) -> Listener:
    """
    Accept connections. With `shared`, other processes listen on the same port. `flag` is the setting of the port.

    While `is_full`, connections that begin with TLS are closed. Others are up to `connection`, which may answer.

    `transports` returns those of all clients, which over TLS are ended if they are being closed and a client takes
    nothing for `patience` seconds.

    Raise StartError if the address or the certificate can't be used.
    """
    tls = tls_of(settings)
    handshakes = None if tls is None else Handshakes(loop, tls, connection, is_full)
    try:
        server = await loop.create_server(
            connection, _hosts(settings.bind), port, backlog=1024, reuse_port=shared or None, start_serving=tls is None
        )
    except OSError as error:
        raise cannot_listen(settings.bind, port, error, flag) from None
    for listening in server.sockets:
        keep_alive(listening, idle=_IDLE_SECONDS, interval=_INTERVAL_SECONDS)
    if handshakes is not None:
        handshakes.accept_on(server.sockets)
    closing = None if tls is None else Closing(loop, transports, patience)
    return Listener(server, handshakes, closing)


def _hosts(bind: str) -> Any:
    """Return an ASCII name or address as bytes, for which Python needs no tables of international names: 0.45 MB."""
    return [bind.encode()] if bind and bind.isascii() else bind


def cannot_listen(bind: str, port: int, error: OSError, flag: str) -> StartError:
    """Return what is told of a port that can't be had. `flag` is its setting."""
    # uvloop's own text is long. Errors of getaddrinfo() have negative numbers, unknown to os.strerror().
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
    hint = f"; choose another {flag}" if error.errno == errno.EADDRINUSE else ""
    return StartError(f"can't listen on {bind}:{port}: {reason}{hint}")


def tls_of(settings: Settings) -> ssl.SSLContext | None:
    """Return how connections are encrypted: None if they aren't. Raise StartError if a file can't be used."""
    if not settings.tls_cert:
        return None
    tls = modern(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    load_certificate(tls, settings.tls_cert, settings.tls_key, names=("tls-cert", "tls-key"))
    if settings.tls_ca_cert_file:
        load_authorities(tls, settings.tls_ca_cert_file, "tls-ca-cert-file")
        tls.verify_mode = _VERIFIED[settings.tls_auth_clients or "yes"]
    return tls

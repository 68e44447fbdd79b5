"""
Listening on a port, for any front: TLS with the listener's certificate, and errors that say what to change.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import Callable

from redisai_engine.certificates import load_authorities, load_certificate, modern
from redisai_engine.config import Settings
from redisai_engine.errors import StartError
from redisai_engine.keepalive import keep_alive

_HANDSHAKE_SECONDS = 10.0  # then a client that doesn't speak TLS, or not to the end, is let go
_VERIFIED = {"yes": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "no": ssl.CERT_NONE}
_IDLE_SECONDS = 300  # of a client's connection, until the kernel asks whether the client still exists; as in Redis
_INTERVAL_SECONDS = 100


async def listen(
    loop: asyncio.AbstractEventLoop,
    connection: Callable[[], asyncio.Protocol],
    settings: Settings,
    port: int,
    *,
    flag: str,
    shared: bool,
) -> asyncio.Server:
    """
    Accept connections. With `shared`, other processes listen on the same port. `flag` is the setting of the port.

    Raise StartError if the address or the certificate can't be used.
    """
    tls = _tls(settings)
    try:
        server = await loop.create_server(
            connection,
            settings.bind,
            port,
            ssl=tls,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS if tls else None,
            backlog=1024,
            reuse_port=shared or None,
        )
    except OSError as error:
        # uvloop's own text is long. Errors of getaddrinfo() have negative numbers, unknown to os.strerror().
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        hint = f"; choose another {flag}" if error.errno == errno.EADDRINUSE else ""
        raise StartError(f"can't listen on {settings.bind}:{port}: {reason}{hint}") from None
    for listening in server.sockets:
        keep_alive(listening, idle=_IDLE_SECONDS, interval=_INTERVAL_SECONDS)
    return server


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.tls_cert:
        return None
    tls = modern(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    load_certificate(tls, settings.tls_cert, settings.tls_key, names=("tls-cert", "tls-key"))
    if settings.tls_ca_cert_file:
        load_authorities(tls, settings.tls_ca_cert_file, "tls-ca-cert-file")
        tls.verify_mode = _VERIFIED[settings.tls_auth_clients or "yes"]
    return tls

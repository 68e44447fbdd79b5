"""
The front that speaks Redis' protocol: listens, creates a session for each connection, and drains them at the end.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import ssl
from typing import cast

from redisai_engine.certificates import load_authorities, load_certificate, modern
from redisai_engine.config import Settings
from redisai_engine.errors import StartError
from redisai_engine.fronts.resp.handshakes import Handshakes
from redisai_engine.fronts.resp.relayed_names import RelayedNames
from redisai_engine.fronts.resp.session import LOOKED_AT, Session
from redisai_engine.keepalive import keep_alive
from redisai_engine.protocol import replies, texts
from redisai_engine.service.engine import Engine

_log = logging.getLogger(__name__)

_VERIFIED = {"yes": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "no": ssl.CERT_NONE}
_IDLE_SECONDS = 300  # of a client's connection, until the kernel asks whether the client still exists; as in Redis
_INTERVAL_SECONDS = 100
_TOO_MANY_CLIENTS = "ERR max number of clients reached"  # Redis' text


class RespFront:
    """All connections of one process, and what they share."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sessions: set[Session] = set()
        self._relayed_names = RelayedNames(LOOKED_AT)
        self._server: asyncio.Server | None = None
        self._most_clients = 0
        self._is_full = False
        self._handshakes: Handshakes | None = None  # None without TLS

    async def listen(self, settings: Settings, *, shared: bool, most_clients: int) -> tuple[str, int]:
        """
        Accept connections and return host and port. With `shared`, other processes listen on the same port.

        Clients beyond `most_clients` are answered with an error, as Redis does.

        Raise StartError if the address or the certificate can't be used.
        """
        tls = _tls(settings)
        if tls is not None:
            self._handshakes = Handshakes(self._engine.loop, tls, self._session, self._has_no_room)
        self._most_clients = most_clients
        try:
            self._server = await self._engine.loop.create_server(
                self._session,
                settings.bind,
                settings.port,
                backlog=1024,
                reuse_port=shared or None,
                start_serving=tls is None,
            )
        except OSError as error:
            # uvloop's own text is long. Errors of getaddrinfo() have negative numbers, unknown to os.strerror().
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            hint = "; choose another --port" if error.errno == errno.EADDRINUSE else ""
            raise StartError(f"can't listen on {settings.bind}:{settings.port}: {reason}{hint}") from None
        for listening in self._server.sockets:
            keep_alive(listening, idle=_IDLE_SECONDS, interval=_INTERVAL_SECONDS)
        if self._handshakes is not None:
            self._handshakes.accept_on(self._server.sockets)
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def drain(self, seconds: float) -> None:
        """Accept no new connections, let all others finish what they have begun, for up to `seconds`."""
        if self._server is not None:
            self._server.close()
        if self._handshakes is not None:
            self._handshakes.close()
        for session in list(self._sessions):
            session.finish()
        deadline = self._engine.loop.time() + seconds
        while self._sessions and self._engine.loop.time() < deadline:
            await asyncio.sleep(0.005)

    def _has_no_room(self) -> bool:
        """Return whether there are as many clients as fit, those included that aren't through their handshake yet."""
        count = len(self._sessions) + (len(self._handshakes) if self._handshakes is not None else 0)
        is_full = count >= self._most_clients
        if is_full != self._is_full:
            self._is_full = is_full
            if is_full:
                _log.warning("there are %d clients, as many as the descriptors allow: more are refused", count)
            else:
                _log.warning("clients are accepted again")
        return is_full

    def _session(self) -> asyncio.Protocol:
        if self._handshakes is None and self._has_no_room():
            return _Refusal(_TOO_MANY_CLIENTS)
        try:
            return cast(asyncio.Protocol, Session(self._engine, self._sessions, self._relayed_names))
        except Exception:  # which would make uvloop stop listening
            _log.exception("a connection can't be served because of a bug in the engine")
            return _Refusal(texts.ENGINE_FAILED)


class _Refusal(asyncio.Protocol):
    """A connection that gets an error and closes."""

    def __init__(self, error: str) -> None:
        self._error = error

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writer = cast(asyncio.WriteTransport, transport)  # uvloop's isn't one by its classes
        writer.write(replies.error(self._error))
        writer.close()


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.tls_cert:
        return None
    tls = modern(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    load_certificate(tls, settings.tls_cert, settings.tls_key, names=("tls-cert", "tls-key"))
    if settings.tls_ca_cert_file:
        load_authorities(tls, settings.tls_ca_cert_file, "tls-ca-cert-file")
        tls.verify_mode = _VERIFIED[settings.tls_auth_clients or "yes"]
    return tls

"""
The front that speaks Redis' protocol: listens, creates a session for each connection, and drains them at the end.
"""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from redisai_engine.config import Settings
from redisai_engine.fronts.listening import Listener, listen
from redisai_engine.fronts.resp.relayed_names import RelayedNames
from redisai_engine.fronts.resp.session import LOOKED_AT, Session
from redisai_engine.protocol import replies, texts
from redisai_engine.service.engine import Engine

_log = logging.getLogger(__name__)

_TOO_MANY_CLIENTS = "ERR max number of clients reached"  # Redis' text


class RespFront:
    """All connections of one process, and what they share."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sessions: set[Session] = set()
        self._relayed_names = RelayedNames(LOOKED_AT)
        self._listener: Listener | None = None
        self._most_clients = 0
        self._is_full = False

    async def listen(self, settings: Settings, *, shared: bool, most_clients: int) -> tuple[str, int]:
        """
        Accept connections and return host and port. With `shared`, other processes listen on the same port.

        Clients beyond `most_clients` are answered with an error, as Redis does.

        Raise StartError if the address or the certificate can't be used.
        """
        self._most_clients = most_clients
        self._listener = await listen(
            self._engine.loop,
            self._session,
            settings,
            settings.port,
            flag="--port",
            shared=shared,
            is_full=self._has_no_room,
            transports=lambda: [session.transport for session in self._sessions],
        )
        return self._listener.address

    async def drain(self, seconds: float) -> None:
        """Accept no new connections, let all others finish what they have begun, for up to `seconds`."""
        if self._listener is not None:
            self._listener.close()
        for session in list(self._sessions):
            session.finish()
        deadline = self._engine.loop.time() + seconds
        while self._sessions and self._engine.loop.time() < deadline:
            await asyncio.sleep(0.005)

    @property
    def _under_way(self) -> int:
        """How many clients are in their TLS handshake."""
        return 0 if self._listener is None else self._listener.under_way

    def _has_no_room(self) -> bool:
        """Return whether there are as many clients as fit, those included that aren't through their handshake yet."""
        count = len(self._sessions) + self._under_way
        is_full = count >= self._most_clients
        if is_full != self._is_full:
            self._is_full = is_full
            if is_full:
                _log.warning("there are %d clients, as many as the descriptors allow: more are refused", count)
            else:
                _log.warning("clients are accepted again")
        return is_full

    def _session(self) -> asyncio.Protocol:
        try:
            if not self._under_way and self._has_no_room():  # else it was asked before the handshake
                return _Refusal(_TOO_MANY_CLIENTS)
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

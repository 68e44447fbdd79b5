"""
The front that speaks HTTP: listens, hands connections to uvicorn's protocol, and drains them at the end.

Everything runs in the engine's process and event loop, so requests share queues, batches and models with RESP's.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from redisai_engine.config import Settings
from redisai_engine.fronts.http.access.introducing import introduce
from redisai_engine.fronts.http.access.users import Users
from redisai_engine.fronts.http.application import Application
from redisai_engine.fronts.http.bounds import BodyRoom
from redisai_engine.fronts.http.direct import DirectProtocol, Routes
from redisai_engine.fronts.http.gate import Gate
from redisai_engine.fronts.http.hot import paths_of
from redisai_engine.fronts.http.untaken import Untaken
from redisai_engine.fronts.http.v2.models import v2_model
from redisai_engine.fronts.listening import Listener, listen
from redisai_engine.service.engine import Engine
from redisai_engine.watching.monitor import Monitor

_log = logging.getLogger(__name__)

_KEEP_ALIVE_SECONDS = 75  # that a connection may stay idle between two requests; as in nginx
_BODIES = 4  # of the largest size, that may be under way at the same time
_FULL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n"


class HttpFront:
    """All HTTP connections of one process, and what they share."""

    def __init__(self, engine: Engine, monitor: Monitor) -> None:
        self._engine = engine
        self._users = Users(engine)
        self._state = ServerState()
        self._listener: Listener | None = None
        self._gate = Gate(self._users, is_protected=engine.settings.protected_mode)
        self._routes = Routes()
        self._room = BodyRoom(_BODIES * engine.settings.http_body_limit)
        self._config = _config(Application(engine, self._gate, monitor, self._room))
        self._patience = float(engine.settings.http_timeout)
        self._untaken = Untaken(engine.loop, self._state.connections, self._patience, engine.gave_up)
        self._most_clients = 0
        engine.stored = self._stored

    async def listen(self, settings: Settings, *, shared: bool, most_clients: int) -> tuple[str, int]:
        """
        Accept connections and return host and port. With `shared`, other processes listen on the same port.

        Raise StartError if the address or the certificate can't be used.
        """
        self._most_clients = most_clients
        self._config.load()
        self._listener = await listen(
            self._engine.loop,
            self._connection,
            settings,
            settings.http_port,
            flag="--http-port",
            shared=shared,
            is_full=self._is_full,
            transports=lambda: [connection.transport for connection in self._state.connections],
            patience=self._patience,
        )
        self._untaken.begin()
        return self._listener.address

    async def drain(self, seconds: float) -> None:
        """Accept no new connections, let all others finish what they have begun, for up to `seconds`."""
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        deadline = self._engine.loop.time() + seconds
        while self._state.connections and self._engine.loop.time() < deadline:
            await asyncio.sleep(0.005)

    def close(self) -> None:
        """End all connections to Redis."""
        self._untaken.end()
        self._users.close()

    def _stored(self, user: bytes, database: int, key: bytes) -> None:
        """Make ready what the first prediction of a model needs that a user has just stored."""
        model = self._engine.models.held((database, key))
        if database or model is None:  # HTTP has one database only
            return
        v2_model(model)
        for path in paths_of(key):
            self._routes.find(path)
        introduce(self._users, user, key, model)

    @property
    def _under_way(self) -> int:
        return 0 if self._listener is None else self._listener.under_way

    def _is_full(self) -> bool:
        return len(self._state.connections) + self._under_way >= self._most_clients

    def _connection(self) -> asyncio.Protocol:
        if not self._under_way and self._is_full():  # else it was asked before the handshake
            return _Overflow()
        return DirectProtocol(
            self._config,
            self._state,
            {},
            self._engine.loop,
            gate=self._gate,
            routes=self._routes,
            spans=self._engine.spans,
            body_limit=self._engine.settings.http_body_limit,
            room=self._room,
            patience=self._patience,
        )


class _Overflow(asyncio.Protocol):
    """A connection beyond the limit: it gets 503 and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writer = cast(asyncio.WriteTransport, transport)
        writer.write(_FULL)
        writer.close()


def _config(application: Any) -> Config:
    return Config(
        application,
        http=DirectProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )

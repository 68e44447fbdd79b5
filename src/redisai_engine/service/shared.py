"""
One connection to Redis that the clients of a process share, for commands which look the same on any connection.

Theory of operation. With a connection for each client, the commands of fifty clients are fifty writes and fifty reads a
turn, on Redis' side as well. On this connection they are one of each. Who may use it, and when, decides
`commands/client.py`; the reasons are in docs/decisions/0013-a-shared-connection.md. It logs in as nobody, stays in
database 0, and is called `redisai-shared` in CLIENT LIST.

It may lead to another server than a client's own connection, behind an address that has moved. So both are asked for
the server's run id, and only clients of the same server share.

Whoever asks is told if the connection ends before the answer. Then it is opened anew, but not at once.

Invariant: while `serves` returns True, the connection is open, and Redis has answered on it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any, Final, Protocol

from redisai_engine.config import Settings
from redisai_engine.protocol import replies, texts
from redisai_engine.redis.address import Address
from redisai_engine.redis.backpressure import Reading
from redisai_engine.redis.liveness import Liveness
from redisai_engine.redis.traffic import Traffic
from redisai_engine.redis.upstream import Relayed, Upstream
from redisai_engine.service.turn import Turn

_log = logging.getLogger(__name__)

#: Asks a server who it is.
WHO: Final = replies.command(b"INFO", b"server")
MOST_WHO: Final = 2**16  # bytes of the answer

_NAMING: Final = replies.command(b"CLIENT", b"SETNAME", b"redisai-shared")
_RUN_ID: Final = re.compile(rb"\r\nrun_id:(\w+)\r\n")
_MOST_KEYS: Final = 10_000
_LONGEST_KEY: Final = 256  # bytes
_PAUSE_SECONDS: Final = 1.0  # before it is opened again


def run_id(answer: bytes) -> bytes:
    """Return the server's run id in the answer to `WHO`; nothing if there is none."""
    found = _RUN_ID.search(answer)
    return b"" if found is None else found[1]


class Asker(Protocol):
    """Whoever waits for an answer on the shared connection."""

    def shared_lost(self, reason: str, *, by_redis: bool) -> None:
        """Go on without the answer: the connection has ended, as `Owner.upstream_lost` explains."""


class SmallKeys:
    """Some of the keys that held little when they were last read or written here. They may hold anything by now."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: set[bytes] = set()

    def __contains__(self, key: bytes) -> bool:
        return key in self._keys

    def add(self, key: bytes) -> None:
        if len(key) > _LONGEST_KEY:
            return
        if len(self._keys) >= _MOST_KEYS:
            self._keys.clear()
        self._keys.add(key)

    def discard(self, key: bytes) -> None:
        self._keys.discard(key)


class SharedConnection:
    """The shared connection of one process, opened when it is first wanted."""

    def __init__(
        self,
        address: Address,
        loop: asyncio.AbstractEventLoop,
        *,
        settings: Settings,
        traffic: Traffic,
        liveness: Liveness,
        turn: Turn,
    ) -> None:
        self.reading = Reading()  # of nobody: each client waits for its own answer before it goes on
        self.small_keys = SmallKeys()
        self._address = address
        self._loop = loop
        self._settings = settings
        self._traffic = traffic
        self._liveness = liveness
        self._turn = turn
        self._upstream: Upstream | None = None
        self._server = b""  # the run id of the server at its other end, once that is known
        self._rests_until = 0.0
        self._waiting: dict[Asker, None] = {}
        self._is_planned = False  # it is flushed at the end of this turn
        self._is_closed = False

    def serves(self, server: bytes) -> bool:
        """Return whether the connection can be used by a client of this server. Open one if there is none."""
        if self._server == server:
            return True
        if self._upstream is None:
            self._open()
        elif self._server and not self._waiting and self._loop.time() >= self._rests_until:
            self._end()  # the address leads to another server by now
        return False

    def ask(
        self,
        asker: Asker,
        requests: bytes,
        count: int,
        done: Callable[[list[Any]], None],
        *,
        most: int | None = None,
        refusal: str = "",
    ) -> None:
        """
        Send `count` encoded commands, as `Upstream.ask_encoded` does, at the end of this turn. Only while it `serves`.

        `done` must call `answered`. If it is never called, `shared_lost` of `asker` is.
        """
        upstream = self._upstream
        assert upstream is not None
        self._waiting[asker] = None
        upstream.ask_encoded(requests, count, done, most=most, refusal=refusal)
        if not self._is_planned:
            self._is_planned = True
            self._turn.sends(self)

    def answered(self, asker: Asker) -> None:
        """Record that nothing more is due to `asker`."""
        self._waiting.pop(asker, None)

    def flush(self) -> None:
        """Write what was asked in this turn."""
        self._is_planned = False
        if self._upstream is not None:
            self._upstream.flush()

    def fail(self) -> None:
        if self._upstream is not None:
            self._upstream.give_up(texts.ENGINE_FAILED)

    def close(self) -> None:
        self._is_closed = True
        self._end()

    def _open(self) -> None:
        if self._is_closed or self._loop.time() < self._rests_until:
            return
        settings = self._settings
        upstream = Upstream(
            self._address,
            self,
            self._loop,
            settings.request_limit,
            timeout_ms=settings.upstream_timeout,
            traffic=self._traffic,
        )
        self._upstream = upstream
        self._rest()  # a server that can't be used isn't asked again and again
        self._liveness.watch(upstream)
        upstream.ask_encoded(_NAMING + WHO, 2, self._identified, most=MOST_WHO)

    def _identified(self, got: list[bytes]) -> None:
        self._server = run_id(got[1])
        if not self._server:  # Redis asks for a password, or doesn't say
            self._end()

    def _end(self) -> None:
        upstream, self._upstream = self._upstream, None
        self._server = b""
        self._rest()
        if upstream is not None:
            self._liveness.forget(upstream)
            upstream.close()

    def _rest(self) -> None:
        self._rests_until = self._loop.time() + _PAUSE_SECONDS

    # What its connection to Redis calls

    def relayed(self, entry: Relayed, data: bytes) -> None:
        """Take bytes of relayed replies: there are none, because nothing is relayed."""

    def pushed(self, data: bytes) -> None:
        """Drop a message that no command asked for."""

    def upstream_lost(self, reason: str, *, in_reply: bool, by_redis: bool) -> None:
        self._end()
        waiting, self._waiting = self._waiting, {}
        for asker in waiting:
            try:
                asker.shared_lost(reason, by_redis=by_redis)
            except Exception:  # must not keep the others from theirs
                _log.exception("a command can't go on without the shared connection because of a bug in the engine")

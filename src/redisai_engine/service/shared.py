"""
One connection to Redis that the clients of a process share, for commands which look the same on any connection.

Theory of operation. With a connection for each client, the commands of fifty clients are fifty writes and fifty reads a
turn, on Redis' side as well. On this connection they are one of each. Who may use it, and when, decides
`commands/client.py`; the reasons are in docs/decisions/0013-a-shared-connection.md. It stays in database 0, and is
called `redisai-shared` in CLIENT LIST. One logs in as nobody, for clients that haven't either; others as the clients
of one login did (`Logins`).

Clients that gave the same name and password have the same user in Redis. Once there are two of them, a connection is
opened that logs in as they did, with the password that the second one has just given. Passwords aren't kept: logins are
told apart by a digest with a key of the process. So a connection that has ended isn't opened again before the next
client logs in; until then each has its own.

It may lead to another server than a client's own connection, behind an address that has moved. So both are asked for
the server's run id, and only clients of the same server share.

Whoever asks is told if the connection ends before the answer. Then it is opened anew, but not at once.

Redis tells on it when a key changes that was read there (client tracking), for the tensors that are kept in memory
(`memory/tensors.py`). Changes that are made over it aren't told (NOLOOP): who makes them knows.

Invariant: while `serves` returns True, the connection is open, and Redis has answered on it. A client shares only what
was logged in with the name and password that Redis took from the client itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable
from typing import Any, Final, Protocol

from redisai_engine.config import Settings
from redisai_engine.protocol import replies, texts
from redisai_engine.redis.address import Address
from redisai_engine.redis.backpressure import Reading
from redisai_engine.redis.liveness import Liveness
from redisai_engine.redis.traffic import Arrivals, Traffic
from redisai_engine.redis.upstream import Relayed, Upstream
from redisai_engine.service.memory.tallies import Tallies
from redisai_engine.service.memory.tensors import MOST, MOST_OF_LOGIN, KeptTensors
from redisai_engine.service.turn import Turn

_log = logging.getLogger(__name__)

#: Asks a server who it is.
WHO: Final = replies.command(b"INFO", b"server")
MOST_WHO: Final = 2**16  # bytes of the answer

NAME: Final = b"redisai-shared"
_NAMING: Final = replies.command(b"CLIENT", b"SETNAME", NAME)
_TRACKING: Final = replies.command(b"HELLO", b"3") + replies.command(b"CLIENT", b"TRACKING", b"ON", b"NOLOOP")
_RUN_ID: Final = re.compile(rb"\r\nrun_id:(\w+)\r\n")
#: Logins that clients have at the same time and that may have a shared connection.
_MOST_LOGINS: Final = 64
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
    """
    A shared connection of one process, opened when it is first wanted.

    With `login`, a HELLO that logs in, it is opened at once, and never again: the request isn't kept.
    """

    def __init__(
        self,
        address: Address,
        loop: asyncio.AbstractEventLoop,
        *,
        settings: Settings,
        traffic: Traffic,
        arrivals: Arrivals,
        tallies: Tallies | None,
        liveness: Liveness,
        turn: Turn,
        login: bytes = b"",
    ) -> None:
        self.reading = Reading()  # of nobody: each client waits for its own answer before it goes on
        self.small_keys = SmallKeys()
        self._arrivals = Arrivals(total=arrivals)
        self.kept = KeptTensors(arrivals, self._arrivals, tallies, MOST_OF_LOGIN if login else MOST)
        # Redis may have answered clients of other workers when this process hasn't heard of it, unless it sees tallies.
        self._may_keep = not settings.strict and (settings.workers == 1 or tallies is not None)
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
        self._is_unknown = False  # Redis doesn't say who it is, or has not let it in
        self._has_login = bool(login)
        if login:
            self._open(login)

    @property
    def is_open(self) -> bool:
        """Whether Redis has let it in and has said who it is."""
        return bool(self._server)

    @property
    def is_over(self) -> bool:
        """Whether it has ended, so that another one with its login may be opened. It was open, or couldn't be."""
        return self._upstream is None and not self._is_unknown and self._loop.time() >= self._rests_until

    def serves(self, server: bytes) -> bool:
        """Return whether the connection can be used by a client of this server. Open one if there is none."""
        if self._server == server:
            return True
        if self._upstream is None:
            if not self._has_login:
                self._open(_NAMING)
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
        reads: bool = False,
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
        upstream.ask_encoded(requests, count, done, reads=reads, most=most, refusal=refusal)
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

    def _open(self, greeting: bytes) -> None:
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
            arrivals=self._arrivals,
        )
        self._upstream = upstream
        self._rest()  # a server that can't be used isn't asked again and again
        self._liveness.watch(upstream)
        upstream.ask_encoded(greeting + WHO, 2, self._identified, most=MOST_WHO)
        if self._may_keep:
            upstream.ask_encoded(_TRACKING, 2, self._tracked, most=MOST_WHO)

    def _tracked(self, got: list[bytes]) -> None:
        self.kept.is_on = got[0].startswith(b"%") and got[1] == replies.OK

    def _identified(self, got: list[bytes]) -> None:
        # Where nobody needs a password, a login that was refused would leave the connection with the rights of nobody.
        is_let_in = not self._has_login or got[0].startswith(b"*")
        self._server = run_id(got[1]) if is_let_in else b""
        if not self._server:  # Redis asks for a password, or doesn't say
            self._is_unknown = is_let_in
            self._end()

    def _end(self) -> None:
        upstream, self._upstream = self._upstream, None
        self._server = b""
        self.kept.end()
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
        """Take a message that no command asked for."""
        self.kept.told(data)

    def upstream_lost(self, reason: str, *, in_reply: bool, by_redis: bool) -> None:
        self._end()
        waiting, self._waiting = self._waiting, {}
        for asker in waiting:
            try:
                asker.shared_lost(reason, by_redis=by_redis)
            except Exception:  # must not keep the others from theirs
                _log.exception("a command can't go on without the shared connection because of a bug in the engine")


class Login:
    """One user name with one password, as clients have given it to Redis. `clients` are connected with it."""

    __slots__ = ("clients", "digest", "shared")

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.clients = 0
        self.shared: SharedConnection | None = None


class Logins:
    """The logins of all connected clients. `new` makes a shared connection that logs in with a request."""

    def __init__(self, new: Callable[[bytes], SharedConnection]) -> None:
        self._new = new
        self._key = os.urandom(32)
        self._logins: dict[bytes, Login] = {}

    def enter(self, user: bytes, password: bytes) -> Login | None:
        """Take note of a client that Redis has let in with these; None if there are too many logins."""
        import hmac  # with hashlib, which engines without passwords don't need

        digest = hmac.digest(self._key, b"%d %b%b" % (len(user), user, password), "sha256")
        login = self._logins.get(digest)
        if login is None:
            if len(self._logins) >= _MOST_LOGINS:
                return None
            login = self._logins[digest] = Login(digest)
        login.clients += 1
        shared = login.shared
        if login.clients > 1 and (shared is None or shared.is_over):
            login.shared = self._new(replies.command(b"HELLO", b"2", b"AUTH", user, password, b"SETNAME", NAME))
        return login

    def leave(self, login: Login) -> None:
        """Take note that a client has gone, or has another login. The last one closes the connection."""
        login.clients -= 1
        if not login.clients:
            del self._logins[login.digest]
            if login.shared is not None:
                login.shared.close()

    def close(self) -> None:
        """Close all connections."""
        for login in self._logins.values():
            if login.shared is not None:
                login.shared.close()

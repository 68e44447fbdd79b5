"""
A client, as far as the commands that it sends need to know it.

Bodies, tasks and the fast path see only this much of a front: its connection to Redis, the shared engine, and a way to
be served at the end of the turn. There is no socket here, so anything that implements `Front` can be a front.

Invariant: everything done for a client reaches Redis over that client's own connection, or over the shared one while
nothing tells them apart (`Client.shared`). So access rights, database and order are Redis' own business.
"""

from __future__ import annotations

from typing import Protocol

from redisai_engine.commands.rights import Rights
from redisai_engine.commands.tensor_script import TensorScript
from redisai_engine.commands.transaction import Transaction
from redisai_engine.execution.figures import RESP
from redisai_engine.redis.upstream import Owner, Upstream
from redisai_engine.service.engine import Engine
from redisai_engine.service.shared import MOST_WHO, WHO, Login, SharedConnection, run_id
from redisai_engine.service.turn import Participant

#: The user of whoever gives a password without a name.
DEFAULT_USER = b"default"


class Front(Participant, Owner, Protocol):
    """The transport side of a client: served by the turn, and given what its connection to Redis receives."""


class ClientStream(Protocol):
    """A stream of answers that a client has begun (`execution/streams.py`)."""

    def close(self) -> None:
        """End it, if it hasn't ended."""


class NestedTask(Protocol):
    """A command that runs inside another one (`task.carry_out`)."""

    def end(self, reply: bytes) -> None:
        """End with this reply, even if an outcome is still pending."""


class Client:
    """
    One client, and the state that its commands leave behind for later ones.

    `front_number` says by which front it came, for metrics (`execution/figures.py`).
    """

    def __init__(self, engine: Engine, front: Front, front_number: int = RESP) -> None:
        self.engine = engine
        self.front_number = front_number
        self.protocol = 2  # or 3
        self.database = 0
        #: Redis' user, as far as is known from what the client has sent: empty for that of a new connection.
        self.user = b""
        self.transaction: Transaction | None = None  # between MULTI and EXEC
        self.rights = Rights(engine.loop)
        self.tensor_script = TensorScript(engine.loop)
        self.parts: set[NestedTask] = set()
        self.lost = b""  # the error reply for anything that still needs Redis; empty while the connection holds
        self.opened_upstream: Upstream | None = None  # None until a command needs Redis
        self.stream: ClientStream | None = None
        #: Whether the client's own connection is in the state of a new one, as far as others can tell.
        self.may_share = False
        self.wrote_apart = False  # over the shared connection, which WAIT on its own knows nothing of
        #: What it shares its connection with; None if it has not logged in, or may not share.
        self.login: Login | None = None
        self._front = front
        self._server = b""  # the run id of the server that its own connection leads to
        self._asks_server = False

    @property
    def upstream(self) -> Upstream:
        """The connection to Redis, opened on first use."""
        if self.opened_upstream is None:
            engine = self.engine
            settings = engine.settings
            self.opened_upstream = Upstream(
                engine.redis_address,
                self._front,
                engine.loop,
                settings.request_limit,
                timeout_ms=settings.upstream_timeout,
                traffic=engine.traffic,
                arrivals=engine.arrivals,
            )
            engine.liveness.watch(self.opened_upstream)
        return self.opened_upstream

    @property
    def in_transaction(self) -> bool:
        return self.transaction is not None

    @property
    def may_trust(self) -> bool:
        """
        Whether the current request may rely on cached knowledge about keys instead of asking Redis.

        Not while a reply from Redis is pending: the reply to a plain command earlier in the pipeline may reveal a
        change of which the engine hasn't been notified yet. A client must never see the new state first and the old one
        afterwards.
        """
        return self.opened_upstream is None or self.opened_upstream.is_idle

    @property
    def shared(self) -> SharedConnection | None:
        """
        The connection that a request may take in place of the client's own; None if it must take its own.

        The caller has seen that nothing is on its way on the client's own connection (`may_trust`), that Redis has let
        the client in there within the last second (`rights`), and has later requests wait.
        """
        if not self.may_share or self.database:
            return None
        login = self.login
        shared = self.engine.shared if login is None else login.shared
        # A login that may not ask Redis who it is would be noted in its ACL LOG by each client.
        if shared is None or (login is not None and not shared.is_open):
            return None
        if not self._server:
            self._ask_server()
            return None
        return shared if shared.serves(self._server) else None

    def _ask_server(self) -> None:
        if not self._asks_server:
            self._asks_server = True
            self.upstream.ask_encoded(WHO, 1, self._take_server, reads=True, most=MOST_WHO)

    def _take_server(self, got: list[bytes]) -> None:
        self._server = run_id(got[0])
        self.may_share = self.may_share and bool(self._server)

    def end_with_redis(self, reason: str, *, by_redis: bool) -> None:
        """End the client's connection as if its own to Redis had ended."""
        self._front.upstream_lost(reason, in_reply=False, by_redis=by_redis)

    def touch(self) -> None:
        """Serve this client at the end of this turn."""
        self.engine.turn.touch(self._front)

    def answered(self) -> None:
        """Write a finished reply at the end of this turn; none of the client's requests waited for it."""
        self.engine.turn.answered(self._front)

    def forget_rights(self) -> None:
        """Forget all remembered rights: from now on the client may be a different user."""
        self.rights.forget()
        self.tensor_script.allow()
        self.end_stream()

    def end_login(self) -> None:
        """Share nothing more with those who have logged in as this client did."""
        login, self.login = self.login, None
        if login is not None:
            self.may_share = False
            self.engine.logins.leave(login)

    def end_stream(self) -> None:
        """End the stream that the client has begun, if there is one."""
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.close()

    def lose(self, error: bytes) -> None:
        """End all parts, now and later, with this error: no more replies will come from Redis."""
        self.lost = error
        self.end_stream()
        self.end_login()
        for part in list(self.parts):
            part.end(error)

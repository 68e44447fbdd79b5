"""
Whoever sends commands, as far as the carrying out of a command has to know.

This is all that bodies, tasks and the short way get of a front: its connection to Redis, the shared engine, and "look
after me at the end of the turn". There is no socket here, so any front will do that keeps `Front`.

Invariant: everything done for a client goes to Redis over its own connection, so rights, database and order are Redis'.
"""

from __future__ import annotations

from typing import Protocol

from redisai_engine.commands.rights import Rights
from redisai_engine.commands.tensor_script import TensorScript
from redisai_engine.commands.transaction import Transaction
from redisai_engine.redis.upstream import Owner, Upstream
from redisai_engine.service.engine import Engine
from redisai_engine.service.turn import Participant


class Front(Participant, Owner, Protocol):
    """What stands behind a client: the turn looks after it, and it takes what Redis sends without being asked."""


class Part(Protocol):
    """A command that runs in the midst of another one (`task.carry_out`)."""

    def end(self, reply: bytes) -> None:
        """End with that reply, whatever it waits for."""


class Client:
    """A client, and what its commands have changed for those that come after them."""

    def __init__(self, engine: Engine, front: Front) -> None:
        self.engine = engine
        self.protocol = 2  # or 3
        self.database = 0
        self.transaction: Transaction | None = None  # between MULTI and EXEC
        self.rights = Rights(engine.loop)
        self.tensor_script = TensorScript(engine.loop)
        self.parts: set[Part] = set()
        self.lost = b""  # the error of whatever would need Redis still
        self.opened_upstream: Upstream | None = None  # the connection to Redis, if it was needed before
        self._front = front

    @property
    def upstream(self) -> Upstream:
        """The connection to Redis, opened when it is first needed."""
        if self.opened_upstream is None:
            self.opened_upstream = Upstream(self.engine.redis_address, self._front, self.engine.loop)
        return self.opened_upstream

    @property
    def in_transaction(self) -> bool:
        return self.transaction is not None

    @property
    def may_trust(self) -> bool:
        """
        Whether what is known of keys without asking may be used for the present request.

        Not behind a plain command that is still on its way: its reply may show a change that the engine hasn't been
        told of yet, and what one client sees must fit together.
        """
        return self.opened_upstream is None or self.opened_upstream.is_idle

    def touch(self) -> None:
        """Look after this client at the end of this turn."""
        self.engine.turn.touch(self._front)

    def answered(self) -> None:
        """Write a reply at the end of this turn; none of the client's requests waited for it."""
        self.engine.turn.answered(self._front)

    def forget_rights(self) -> None:
        """Forget what the client was seen to be allowed: it may be another user from now on."""
        self.rights.forget()
        self.tensor_script.allow()

    def lose(self, error: bytes) -> None:
        """End whatever needs Redis still, now and later, with this error: nothing comes from there any more."""
        self.lost = error
        for part in list(self.parts):
            part.end(error)

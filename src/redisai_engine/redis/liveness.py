"""
Whether Redis still answers at all, and the end of all waiting when it doesn't.

Theory of operation. A command may wait in Redis for as long as its client likes (BLPOP, WAIT, a long script), so how
long a reply has been due doesn't tell a slow command from a Redis that is gone. So while some reply is due for long,
Redis is asked something on a connection of the engine's own, and any answer proves that it lives. It is asked twice:
PING, and then a command without its argument, since Redis answers that even during CLIENT PAUSE, without a login, and
while it loads its data. When neither is answered for the time allowed, all who wait for Redis are told so and their
connections are closed, except those whose own command may be what holds up Redis, such as SAVE. Redis is asked on and
on; when it answers again, nothing else is needed.

Looks are counted instead of seconds: an event loop that didn't run for a while has not read the answers either.

Invariant: no timer and no question exist per request. While no reply is due for longer than one look, Redis is asked
nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

from redisai_engine.protocol import texts
from redisai_engine.redis.address import Address

_LOOKS = 10  # how often Redis may be found silent, at even intervals, before it is given up
_PATIENT = b"*1\r\n$4\r\nPING\r\n"
_PROMPT = b"*1\r\n$4\r\nECHO\r\n"  # lacks its argument

_log = logging.getLogger(__name__)


class Waiting(Protocol):
    """A connection to Redis on which replies may be due."""

    @property
    def may_be_given_up(self) -> bool:
        """Whether a reply is due, and none for a command that may hold up all of Redis itself."""

    def has_waited(self) -> bool:
        """Return whether the same reply was due at the previous call."""

    def give_up(self, reason: str) -> None:
        """End everything that waits, with this error, and close."""


class Liveness:
    """
    Looks after the connections to one Redis. `given_up` is called when Redis is found silent.

    With `timeout_ms` 0 nobody is ever given up.
    """

    def __init__(
        self, address: Address, loop: asyncio.AbstractEventLoop, timeout_ms: int, given_up: Callable[[], None]
    ) -> None:
        self._address = address
        self._loop = loop
        self._timeout_ms = timeout_ms
        self._given_up = given_up
        self._connections: set[Waiting] = set()
        self._silent = 0  # looks in a row at a Redis that owes an answer
        self._questions: dict[bytes, _LifeSign] = {}
        self._timer: asyncio.TimerHandle | None = None
        if timeout_ms:
            self._plan()

    def watch(self, connection: Waiting) -> None:
        self._connections.add(connection)

    def forget(self, connection: Waiting) -> None:
        self._connections.discard(connection)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._end_questions()

    def _plan(self) -> None:
        self._timer = self._loop.call_later(self._timeout_ms / 1000 / _LOOKS, self._look)

    def _look(self) -> None:
        self._plan()
        waiting = sum([connection.has_waited() for connection in self._connections])
        if not waiting and not self._silent:
            return
        self._silent += 1
        if self._silent > _LOOKS:
            self._give_up()
        self._ask(_PATIENT)
        if self._silent > _LOOKS // 2:
            self._ask(_PROMPT)

    def _ask(self, words: bytes) -> None:
        """Ask this unless it is being asked. After a while the connection may be what is broken, so a new one is."""
        question = self._questions.get(words)
        if question is not None and not question.is_over and question.looks < _LOOKS:
            question.looks += 1
            return
        if question is not None:
            question.close()
        self._questions[words] = _LifeSign(self._address, self._loop, words, self._answered)

    def _answered(self) -> None:
        if self._silent > _LOOKS:
            _log.warning("Redis at %s answers again", self._address)
        self._silent = 0
        self._end_questions()

    def _end_questions(self) -> None:
        for question in self._questions.values():
            question.close()
        self._questions.clear()

    def _give_up(self) -> None:
        if self._silent == _LOOKS + 1:
            _log.error(
                "Redis at %s hasn't answered anything for %d ms (upstream-timeout): whoever waits for it gets an error",
                *(self._address, self._timeout_ms),
            )
            self._given_up()
        for connection in list(self._connections):
            if connection.may_be_given_up:
                connection.give_up(texts.REDIS_SILENT % self._timeout_ms)


class _LifeSign(asyncio.Protocol):
    """A connection that asks one thing. `answered` is called when the first bytes arrive, whatever they are."""

    def __init__(
        self, address: Address, loop: asyncio.AbstractEventLoop, words: bytes, answered: Callable[[], None]
    ) -> None:
        self.is_over = False  # no answer will come any more
        self.looks = 0
        self._words = words
        self._answered = answered
        self._transport: asyncio.Transport | None = None
        self._task = loop.create_task(self._open(address))

    async def _open(self, address: Address) -> None:
        with suppress(OSError):
            await address.connect(lambda: self)
            return
        self.is_over = True

    def close(self) -> None:
        self.is_over = True
        self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports share no base class with asyncio's
        if self.is_over:
            self._transport.abort()
        else:
            self._transport.write(self._words)

    def data_received(self, data: bytes) -> None:
        if not self.is_over:
            self._answered()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over = True

"""
Clients that don't take their answers: an answer has to be taken at a rate, as a body has to come at one.

Theory of operation. Neither uvicorn nor the event loop bounds how long bytes wait for a client, nor does closing help,
as a transport first writes what it has. So all connections of a front are looked at together now and then, which costs
a request nothing. What a client has taken, the kernel knows: it counts what the other side has acknowledged. The event
loop doesn't: over TLS its transports don't tell of what waits below the encryption.

A connection is ended if it still owes bytes that it owed at the look before, and has taken too few since. Only this
tells who doesn't take from who is asked at a moment when a small answer happens to be under way.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import struct
import termios
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from redisai_engine.fronts.closing import LEAST_RATE, acknowledged, reset

_log = logging.getLogger(__name__)

_COUNT = struct.Struct("i")


class Debt(NamedTuple):
    """What a client has taken of all answers of its connection, and up to where it could have."""

    taken: int
    until: int

    def is_neglected(self, now: Debt, least: float) -> bool:
        """Return whether less than `least` bytes of this was taken, and not all of it."""
        return now.taken < self.until and now.taken - self.taken < least


class Untaken:
    """
    The answers that wait for clients of one front, looked at every `patience` seconds.

    `gave_up` is told how many connections were ended at a look.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connections: Iterable[Any],
        patience: float,
        gave_up: Callable[[int], None],
    ) -> None:
        self._loop = loop
        self._connections = connections
        self._patience = patience
        self._gave_up = gave_up
        self._debts: WeakKeyDictionary[Any, Debt] = WeakKeyDictionary()  # at the last look
        self._timer: asyncio.TimerHandle | None = None
        self._looked_at = 0.0

    def begin(self) -> None:
        """Look at all connections from now on."""
        self._looked_at = self._loop.time()
        self._timer = self._loop.call_later(self._patience, self._look)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        least = LEAST_RATE * (self._loop.time() - self._looked_at)
        self.begin()
        before, self._debts = self._debts, WeakKeyDictionary()
        ended = 0
        for connection in list(self._connections):
            debt = debt_of(connection)
            if debt is None:
                continue
            earlier = before.get(connection)
            if earlier is not None and earlier.is_neglected(debt, least):
                reset(connection.transport)
                ended += 1
            else:
                self._debts[connection] = debt
        if ended:
            self._gave_up(ended)
            _log.warning("closed clients over HTTP that didn't take their answers (see --http-timeout): %d", ended)


def debt_of(connection: Any) -> Debt | None:
    """Return what the client of one of uvicorn's connections owes. None: nothing, or nobody knows."""
    transport = connection.transport
    waiting = transport.get_write_buffer_size()
    is_tls = connection.scheme == "https"
    if not waiting and not is_tls and (connection.cycle is None or connection.cycle.response_complete):
        return None  # the kernel has it all, and goes on alone if the connection is closed
    of_kernel = transport.get_extra_info("socket")
    if of_kernel is None:
        return None
    waiting += _unacknowledged(of_kernel)
    if not waiting:
        return None
    taken = acknowledged(of_kernel)
    if taken:
        return Debt(taken, taken + waiting)
    return None if is_tls else Debt(-waiting, 0)  # a kernel that doesn't count: what waits must become less


def _unacknowledged(connection: Any) -> int:
    count: int = _COUNT.unpack(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(_COUNT.size)))[0]
    return count

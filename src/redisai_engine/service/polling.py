"""
Busy polling: for a moment after a turn, the event loop checks for events again and again instead of sleeping.

Theory of operation. A sleeping core takes 20 to 40 microseconds to wake, as long as a small prediction itself takes. A
client that sends its next request as soon as it is answered, and Redis with the reply to a command, often need less. So
after a turn that followed the previous one closely, the loop stays awake for as long as the next one may take to come.
A turn of several connections needs no polling, because there is always work. Every poll yields the core to any other
thread that wants it, and there is no polling while a model runs in a thread.

Worker processes leave at least one core to others: there is one place fewer to poll in than there are processors, and
a worker polls only while it has its place, which it may share with another worker. A place is a lock on a byte of a
file, which the system takes back from a process that ends.

Invariant: when all connections have been silent for longer than `seconds`, the process sleeps.
"""

from __future__ import annotations

import fcntl
import os
from asyncio import AbstractEventLoop
from time import monotonic

from redisai_engine.config import Settings
from redisai_engine.processors import available

#: For so long a process doesn't ask again for its place, in seconds, after another one had it.
_PATIENCE = 0.01


def microseconds(settings: Settings) -> int:
    """Return how long a process may poll, in microseconds: 0 if that would leave no core to others."""
    return settings.busy_poll if available() > 1 else 0


class PollingPlace:
    """
    The place to poll in of worker `number`, counted from 1. `descriptor` is a file that all workers have open.

    Only one process at a time has it. The lock is the process's: a second object in it would be no other.
    """

    def __init__(self, descriptor: int, number: int) -> None:
        self._descriptor = descriptor
        self._byte = (number - 1) % max(1, available() - 1)

    def take(self) -> bool:
        """Take the place and return True, or False if another process has it."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._byte)
        except OSError:
            return False
        return True

    def leave(self) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self._byte)


class BusyPolling:
    """
    Busy polling of one event loop, for up to `seconds` after a turn. 0 means never.

    With a `place`, it polls only while it has that.
    """

    __slots__ = ("_ended_at", "_loop", "_place", "_refused_until", "_seconds", "is_polling")

    def __init__(self, loop: AbstractEventLoop, seconds: float, place: PollingPlace | None = None) -> None:
        self._loop = loop
        self._seconds = seconds
        self._place = place
        self._ended_at = 0.0  # when the latest turn with one connection ended
        self._refused_until = 0.0
        self.is_polling = False

    def turn_ended(self) -> None:
        """Start polling if this turn, of one connection, ended soon after the previous one."""
        now = monotonic()
        if now - self._ended_at < self._seconds and not self.is_polling and self._may_begin(now):
            self.is_polling = True
            self._loop.call_soon(self._poll)
        self._ended_at = now

    def _may_begin(self, now: float) -> bool:
        if self._place is None:
            return True
        if now < self._refused_until:
            return False
        if self._place.take():
            return True
        self._refused_until = now + _PATIENCE
        return False

    def _poll(self) -> None:
        # A callback that is due keeps the loop from sleeping: it checks for events with a timeout of zero.
        if monotonic() - self._ended_at < self._seconds:
            os.sched_yield()
            self._loop.call_soon(self._poll)
        else:
            self.is_polling = False
            if self._place is not None:
                self._place.leave()

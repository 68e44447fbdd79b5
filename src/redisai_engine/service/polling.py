"""
Busy polling: for a moment after a turn, the event loop checks for events again and again instead of sleeping.

Theory of operation. A sleeping core takes 20 to 40 microseconds to wake, as long as a small prediction itself takes. A
client that sends its next request as soon as it is answered, and Redis with the reply to a command, often need less. So
after a turn that followed the previous one closely, the loop stays awake for as long as the next one may take to come.
A turn of several connections needs no polling, because there is always work. Every poll yields the core to any other
thread that wants it, unless a turn is due, and there is no polling while a model runs in a thread. Where another takes
the core for long, yielding it costs more than sleeping would, so there is no polling for a while then.

A run in a process of the model's own (`Errands`) takes the time of the event loop only at its two ends. For such a run
that is the only one, the loop stays awake a few times as long. Its answer, whenever it comes, says nothing of the
client, so what counts is the pause between the last reply and the next request. The process that runs the model stays
awake for its next request likewise (`worker_seconds`), and so do engine and host around a short run in a host.

Worker processes leave at least one core to others: there is one place fewer to poll in than there are processors, and
a worker polls only while it has its place, which it may share with another worker. A place is a lock on a byte of a
file, which the system takes back from a process that ends.

Invariant: when all connections have been silent for longer than `seconds`, or no run elsewhere has been answered for
`_TIMES_ELSEWHERE` as long, the process sleeps.
"""

from __future__ import annotations

import fcntl
import os
from asyncio import AbstractEventLoop
from time import monotonic

from redisai_engine.config import Settings
from redisai_engine.processors import CONTENDED_SECONDS, REST_SECONDS, available

#: For so long a process doesn't ask again for its place, in seconds, after another one had it.
_PATIENCE = 0.01

#: How many times as long the loop stays awake for the answer of a run elsewhere.
_TIMES_ELSEWHERE = 5

#: How many times as long a process that runs models stays awake: it waits for the client, the loop and both their ways.
_TIMES_WORKER = 2


def microseconds(settings: Settings) -> int:
    """Return how long a process may poll, in microseconds: 0 if that would leave no core to others."""
    return settings.busy_poll if available() > 1 else 0


def worker_seconds(settings: Settings) -> float:
    """Return how long a process of a model's own may poll for its next request."""
    return _TIMES_WORKER * microseconds(settings) / 1e6


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

    __slots__ = (
        "_ended_at",
        "_is_close",
        "_is_elsewhere",
        "_loop",
        "_place",
        "_rests_until",
        "_seconds",
        "_until",
        "is_due",
        "is_polling",
    )

    def __init__(self, loop: AbstractEventLoop, seconds: float, place: PollingPlace | None = None) -> None:
        self._loop = loop
        self._seconds = seconds
        self._place = place
        self._ended_at = 0.0  # when the latest turn with one connection ended
        self._is_close = False  # whether the latest request came soon after the reply before it
        self._is_elsewhere = False  # whether the latest turn left a run elsewhere
        self._until = 0.0
        self._rests_until = 0.0
        self.is_polling = False
        self.is_due = False  # a turn is about to take place

    def turn_ended(self, began_at: float, *, is_elsewhere: bool = False) -> None:
        """
        Start polling if this turn, of one connection, began soon after the previous one had ended.

        `is_elsewhere`: all that is left now is a run in a process of the model's own.
        """
        if not self._is_elsewhere:
            self._is_close = began_at - self._ended_at < self._seconds
        self._is_elsewhere = is_elsewhere
        self._ended_at = monotonic()
        self._until = self._ended_at + (_TIMES_ELSEWHERE * self._seconds if is_elsewhere else self._seconds)
        if self._is_close and not self.is_polling and self._may_begin(self._ended_at):
            self.is_polling = True
            self._loop.call_soon(self._poll)

    def _may_begin(self, now: float) -> bool:
        if now < self._rests_until:
            return False
        if self._place is None or self._place.take():
            return True
        self._rests_until = now + _PATIENCE
        return False

    def _poll(self) -> None:
        # A callback that is due keeps the loop from sleeping: it checks for events with a timeout of zero.
        if self.is_due:  # others must not get the core first
            self._loop.call_soon(self._poll)
            return
        now = monotonic()
        if now < self._until:
            os.sched_yield()
            back_at = monotonic()
            if back_at - now < CONTENDED_SECONDS:
                self._loop.call_soon(self._poll)
                return
            self._rests_until = back_at + REST_SECONDS
        self.is_polling = False
        if self._place is not None:
            self._place.leave()

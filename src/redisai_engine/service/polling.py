"""
Busy polling: for a moment after a turn the event loop looks for events again and again instead of going to sleep.

Theory of operation. A core that sleeps takes 20 to 40 microseconds to wake, as long as a small prediction itself. A
client that asks again as soon as it is answered, and Redis with the reply to a command, are back sooner than that
costs. So after a turn that came shortly behind the one before it, the loop is kept awake for as long as the next may
take. A turn of several connections needs none of this: there is work then without waiting. Every look gives the
processor away if anybody else wants it, and nothing is polled while a model runs in a thread.

Invariant: a connection that is silent for longer than `seconds` leaves the process asleep.
"""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop
from time import monotonic

from redisai_engine.config import Settings


def microseconds(settings: Settings) -> int:
    """How long each process may poll: not at all where the workers leave no processor to anybody else."""
    return settings.busy_poll if _processors() > settings.workers else 0


def _processors() -> int:
    """Counts those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class BusyPolling:
    """Keeps one event loop awake. `seconds` 0: never."""

    __slots__ = ("_ended_at", "_loop", "_seconds", "is_polling")

    def __init__(self, loop: AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._ended_at = 0.0  # of the latest turn with one connection
        self.is_polling = False

    def turn_ended(self) -> None:
        """Polls if this turn, of one connection, ended soon behind the one before it."""
        now = monotonic()
        if now - self._ended_at < self._seconds and not self.is_polling:
            self.is_polling = True
            self._loop.call_soon(self._poll)
        self._ended_at = now

    def _poll(self) -> None:
        # A callback that is due keeps the loop from sleeping: it looks for events without waiting.
        if monotonic() - self._ended_at < self._seconds:
            os.sched_yield()
            self._loop.call_soon(self._poll)
        else:
            self.is_polling = False

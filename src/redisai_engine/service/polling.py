"""
Busy polling: for a moment after a turn, the event loop checks for events again and again instead of sleeping.

Theory of operation. A sleeping core takes 20 to 40 microseconds to wake, as long as a small prediction itself takes. A
client that sends its next request as soon as it is answered, and Redis with the reply to a command, often need less. So
after a turn that followed the previous one closely, the loop stays awake for as long as the next one may take to come.
A turn of several connections needs no polling, because there is always work. Every poll yields the core to any other
thread that wants it, and there is no polling while a model runs in a thread.

Invariant: when all connections have been silent for longer than `seconds`, the process sleeps.
"""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop
from time import monotonic

from redisai_engine.config import Settings
from redisai_engine.processors import available


def microseconds(settings: Settings) -> int:
    """Return how long each process may poll, in microseconds: 0 if the workers would leave no core to others."""
    return settings.busy_poll if available() > settings.workers else 0


class BusyPolling:
    """Busy polling of one event loop, for up to `seconds` after a turn. 0 means never."""

    __slots__ = ("_ended_at", "_loop", "_seconds", "is_polling")

    def __init__(self, loop: AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._ended_at = 0.0  # when the latest turn with one connection ended
        self.is_polling = False

    def turn_ended(self) -> None:
        """Start polling if this turn, of one connection, ended soon after the previous one."""
        now = monotonic()
        if now - self._ended_at < self._seconds and not self.is_polling:
            self.is_polling = True
            self._loop.call_soon(self._poll)
        self._ended_at = now

    def _poll(self) -> None:
        # A callback that is due keeps the loop from sleeping: it checks for events with a timeout of zero.
        if monotonic() - self._ended_at < self._seconds:
            os.sched_yield()
            self._loop.call_soon(self._poll)
        else:
            self.is_polling = False

"""
When a process that has died may be started anew. This module starts nothing and reads no clock.

Theory of operation. The first death costs nothing but the request that it ended. Each further death within a minute
doubles the wait before the next start, so that what dies at once doesn't take the machine. With `most` deaths in a
minute it has failed.
"""

from __future__ import annotations

from collections import deque
from math import inf

_MINUTE = 60.0
_SHORTEST, _LONGEST = 0.1, 30.0  # seconds


class Restarts:
    """The deaths of one process and its successors. `most` in a minute are final; 0 means that it never fails."""

    def __init__(self, most: int = 0) -> None:
        self._most = most
        self._deaths: deque[float] = deque()
        self._in_a_row = 0
        self.failed = False

    def died(self, now: float) -> None:
        """Record a death. `now` is in seconds."""
        self._in_a_row = self._in_a_row + 1 if self._deaths and now - self._deaths[-1] < _MINUTE else 1
        self._deaths.append(now)
        while now - self._deaths[0] > _MINUTE:
            self._deaths.popleft()
        if self._most and len(self._deaths) >= self._most:
            self.failed = True

    def wait(self, now: float) -> float:
        """Return the seconds until the next start: 0 for at once, inf for never."""
        if self.failed:
            return inf
        if self._in_a_row < 2:
            return 0.0
        pause: float = min(_SHORTEST * 2 ** min(self._in_a_row - 2, 20), _LONGEST)
        return max(self._deaths[-1] + pause - now, 0.0)

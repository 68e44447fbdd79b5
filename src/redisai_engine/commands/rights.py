"""
What a client was seen to be allowed, remembered for a moment, so that not every request has to ask Redis again.

Invariant: a right that Redis takes away holds for at most `_SECONDS` more.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop

_SECONDS = 1.0
_MOST = 1000  # keys with rights that are remembered


class Rights:
    """The rights of one client, each to a key, by the loop's time until which they count."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._until: dict[tuple[bytes, bytes], float] = {}
        self.changes = 0  # as long as this number stays, what `until` returned is true

    def has(self, key: bytes, right: bytes) -> bool:
        return self.until(key, right) > self._loop.time()

    def until(self, key: bytes, right: bytes) -> float:
        """Return the loop's time at which a right has to be shown anew."""
        return self._until.get((key, right), 0.0)

    def grant(self, key: bytes, right: bytes) -> None:
        """Remember that Redis has just allowed it."""
        if len(self._until) > _MOST:
            self._until.clear()
        self._until[key, right] = self._loop.time() + _SECONDS

    def forget(self) -> None:
        self.changes += 1
        self._until.clear()

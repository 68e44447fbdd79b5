"""
The rights that Redis has shown a client to have, remembered briefly so that not every request asks again.

Invariant: a right that is revoked in Redis still counts for at most `_SECONDS`.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop

_SECONDS = 1.0
_MOST = 1000  # remembered rights of one client
_LONGEST = 1024  # bytes of a key; the rights to longer ones are asked for each time


class Rights:
    """The rights of one client, each to one key, with the loop's time at which they expire."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._until: dict[tuple[bytes, bytes], float] = {}
        self.changes = 0  # while this number stays the same, what `until` returned is valid

    def has(self, key: bytes, right: bytes) -> bool:
        return self.until(key, right) > self._loop.time()

    def until(self, key: bytes, right: bytes) -> float:
        """Return the loop's time at which a right must be confirmed again; 0.0 if it isn't remembered."""
        return self._until.get((key, right), 0.0)

    def grant(self, key: bytes, right: bytes) -> None:
        """Remember a right that Redis has just confirmed."""
        if len(key) > _LONGEST:
            return
        if len(self._until) > _MOST:
            self._until.clear()
        self._until[key, right] = self._loop.time() + _SECONDS

    def forget(self) -> None:
        self.changes += 1
        self._until.clear()

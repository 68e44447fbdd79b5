"""
Names of commands that nobody in the engine looks at: found once, then runs of them are relayed in one piece.
"""

from __future__ import annotations

from collections.abc import Container

_MOST = 1000  # names, as clients write them; beyond that commands are relayed one by one


class RelayedNames:
    """The names seen so far by all connections of a front, but for those that are `looked_at` (in upper case)."""

    def __init__(self, looked_at: Container[bytes]) -> None:
        self.names: set[bytes] = set()
        self._looked_at = looked_at

    def add(self, name: bytes) -> None:
        if len(self.names) < _MOST and name.upper() not in self._looked_at:
            self.names.add(name)

"""
The names of commands that the engine only relays. A name is checked once; then runs of such commands go in one piece.
"""

from __future__ import annotations

from collections.abc import Container

#: Commands during which Redis answers nobody, however long they take. (During a script it says after a while: BUSY.)
HOLD_UP_REDIS = frozenset((b"DEBUG", b"FLUSHALL", b"FLUSHDB", b"KEYS", b"MIGRATE", b"SAVE", b"SHUTDOWN"))

_LONGEST = 64  # bytes of a name: longer ones, which no Redis has, aren't worth their memory
_MOST = 1000  # names, in the clients' own letter case; commands beyond that are relayed one by one


class RelayedNames:
    """The names that all connections of a front have sent so far, except those `looked_at` (in upper case)."""

    def __init__(self, looked_at: Container[bytes]) -> None:
        self.names: set[bytes] = set()
        self._looked_at = looked_at

    def add(self, name: bytes) -> None:
        if len(self.names) < _MOST and len(name) <= _LONGEST and name.upper() not in self._looked_at:
            self.names.add(name)

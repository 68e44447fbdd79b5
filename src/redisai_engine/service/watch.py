"""
Drops from memory what keys no longer hold, also when somebody else has changed or deleted them.

Theory of operation. What is kept in memory was read under client tracking, so Redis reports when its key changes. Some
time after such a report, what the key holds now is read again, which also has Redis report the next change. A version
that isn't there any more is dropped. Without a tracking connection (`--strict`, or Redis refuses it) nothing is
dropped here: versions leave when their key is used next, or when memory is short.

Invariant: a version is dropped only if Redis has answered that the key holds another one, or none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from redisai_engine.redis.tracking import Tracking
from redisai_engine.service.cache import Cache, Place

_DELAY_SECONDS = 0.05  # so that many changes at once are looked at together
_SLICE = 500  # keys that are read at once


class KeyWatch:
    """Looks after caches, each with the field of the hashes in which Redis has the id of what they keep."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.tracking: Tracking | None = None
        self._loop = loop
        self._caches: list[tuple[bytes, Cache[Any]]] = []
        self._gone: dict[bytes, Callable[[Place], None]] = {}  # by field
        self._suspects: set[bytes] = set()
        self._is_planned = False

    def add(self, field: bytes, cache: Cache[Any], gone: Callable[[Place], None] = lambda place: None) -> None:
        """Look after a cache, too. `gone` is called with a key that was looked at and holds nothing of the kind."""
        self._caches.append((field, cache))
        self._gone[field] = gone

    def begin(self, place: Place, field: bytes, cache: Cache[Any]) -> None:
        """Read what a key holds under tracking, for a version that has just been kept."""
        if self.tracking is None or not self.tracking.is_open:
            return
        kept = cache.id_at(place)

        def answered(held: bytes | None, expires_in_ms: int) -> None:
            if held != kept and cache.id_at(place) == kept:
                cache.drop(place)
                if held is None:
                    self._gone[field](place)

        self.tracking.read(*place, field, answered)

    def changed(self, keys: Iterable[bytes] | None) -> None:
        """Take Redis' report that these keys have changed, or any key (None)."""
        if keys is None:
            self._suspects.update(key for _, cache in self._caches for _, key in cache)
        else:
            self._suspects.update(keys)
        self._plan()

    def _plan(self) -> None:
        if self._suspects and not self._is_planned:
            self._is_planned = True
            self._loop.call_later(_DELAY_SECONDS, self._look)

    def _look(self) -> None:
        self._is_planned = False
        now = {self._suspects.pop() for _ in range(min(_SLICE, len(self._suspects)))}
        for field, cache in self._caches:
            for place in [place for place in cache if place[1] in now]:
                self.begin(place, field, cache)
        self._plan()

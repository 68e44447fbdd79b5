"""
The compiled scripts in memory, each with its run statistics.

They leave as models do: when their key came to hold something else (`watch.py`), and when memory is short (`cache.py`).
"""

from __future__ import annotations

from redisai_engine.backends.scripts import Script
from redisai_engine.execution.job import Share
from redisai_engine.execution.statistics import RunStatistics
from redisai_engine.redis import store
from redisai_engine.service.cache import Cache, Held
from redisai_engine.service.watch import KeyWatch

_LIMIT = 64 * 2**20  # bytes of all compiled scripts
_LEAST = 64 * 1024  # bytes of one
_TIMES = 200  # bytes for each character of the source: 90 when it is compiled (measured), as much again when it has run


class Scripts:
    """The compiled scripts. One that has left is compiled again when it is next called."""

    def __init__(self, watch: KeyWatch, limit: int = _LIMIT, least: int = _LEAST) -> None:
        self._cache: Cache[tuple[Script, Share]] = Cache(limit)
        self._least = least  # bytes that each counts at least
        self._watch = watch
        watch.add(store.SCRIPT_ID, self._cache)

    def compiled(self, database: int, key: bytes, id_: bytes) -> Script | None:
        """Return this version of the key's script if it is in memory, and mark it as the most recently used."""
        held = self._cache.get((database, key), id_)
        return None if held is None else held.value[0]

    def statistics(self, database: int, key: bytes, id_: bytes) -> RunStatistics | None:
        """Return the run statistics of a script, or None if it isn't in memory."""
        held = self._cache.get((database, key), id_)
        return None if held is None else held.statistics

    def share(self, database: int, key: bytes, id_: bytes) -> Share | None:
        """Return the script's share of its device, or None if it isn't in memory."""
        held = self._cache.get((database, key), id_)
        return None if held is None else held.value[1]

    def keep(self, database: int, key: bytes, id_: bytes, script: Script, characters: int) -> None:
        """Keep a compiled script that the key holds, in place of an older version."""
        place = (database, key)
        size = max(_TIMES * characters, self._least)
        self._cache.keep(place, Held(id_, (script, Share()), size, RunStatistics(), script))
        self._watch.begin(place, store.SCRIPT_ID, self._cache)

    @property
    def left(self) -> int:
        """How many scripts have left memory so far."""
        return self._cache.left

    def weigh(self) -> None:
        """Count what scripts in processes of their own take now, and make room for it."""
        self._cache.weigh()

    def drop(self, database: int, key: bytes) -> None:
        """Drop what the key held: it has been deleted."""
        self._cache.drop((database, key))

    def drop_version(self, id_: bytes) -> None:
        """Drop this version, whichever keys hold it."""
        self._cache.drop_version(id_)

"""
The cache of compiled scripts, by id, each with its run statistics.

Invariant: an id names one version of one script forever, so a cached script never goes stale. The least recently used
script is evicted first.
"""

from __future__ import annotations

from collections import OrderedDict

from redisai_engine.backends.scripts import Script
from redisai_engine.execution.job import Share
from redisai_engine.execution.statistics import RunStatistics

_LIMIT = 1000  # scripts; a compiled script of typical size takes about 100 kB


class Scripts:
    """The compiled scripts. An evicted script is compiled again when it is next called."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._by_id: OrderedDict[bytes, tuple[Script, RunStatistics, Share]] = OrderedDict()

    def compiled(self, id_: bytes) -> Script | None:
        """Return the script with this id, if it is cached, and mark it as the most recently used."""
        found = self._by_id.get(id_)
        if found is None:
            return None
        self._by_id.move_to_end(id_)
        return found[0]

    def statistics(self, id_: bytes) -> RunStatistics | None:
        """Return the run statistics of a script, or None if it isn't cached."""
        found = self._by_id.get(id_)
        return None if found is None else found[1]

    def share(self, id_: bytes) -> Share | None:
        """Return the script's share of its device, or None if it isn't cached."""
        found = self._by_id.get(id_)
        return None if found is None else found[2]

    def keep(self, id_: bytes, script: Script) -> None:
        """Cache a compiled script with statistics of zero. Beyond the limit, evict the least recently used script."""
        self._by_id[id_] = script, RunStatistics(), Share()
        if len(self._by_id) > self._limit:
            self._by_id.popitem(last=False)

    def drop(self, id_: bytes) -> None:
        """Remove a script from memory, if it is there."""
        self._by_id.pop(id_, None)

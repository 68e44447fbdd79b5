"""
The scripts in memory, by id, each with its run figures.

Invariant: an id names one version of one script for ever, so what is kept never goes stale; what is used least leaves.
"""

from __future__ import annotations

from collections import OrderedDict

from redisai_engine.backends.torch_script import TorchScript
from redisai_engine.execution.statistics import RunStatistics

_LIMIT = 1000  # scripts; compiled, one of ordinary size takes some 100 kB


class Scripts:
    """What is compiled. A script that left is compiled again when it is next called."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._by_id: OrderedDict[bytes, tuple[TorchScript, RunStatistics]] = OrderedDict()

    def compiled(self, id_: bytes) -> TorchScript | None:
        """Return the script with that id, which becomes the last to leave."""
        found = self._by_id.get(id_)
        if found is None:
            return None
        self._by_id.move_to_end(id_)
        return found[0]

    def statistics(self, id_: bytes) -> RunStatistics | None:
        """Return the figures of a script in memory."""
        found = self._by_id.get(id_)
        return None if found is None else found[1]

    def keep(self, id_: bytes, script: TorchScript) -> None:
        """Keep a compiled script; its figures begin at zero, and the least recently used script leaves for it."""
        self._by_id[id_] = script, RunStatistics()
        if len(self._by_id) > self._limit:
            self._by_id.popitem(last=False)

"""
The scripts in memory, by id.

Invariant: an id names one version of one script for ever, so what is kept never goes stale; what is used least leaves.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redisai_engine.backends.torch_script import TorchScript

_LIMIT = 1000  # scripts; compiled, one of ordinary size takes some 100 kB


class Scripts:
    """What is compiled. A script that left is compiled again when it is next called."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._by_id: OrderedDict[bytes, TorchScript] = OrderedDict()

    def by_id(self, id_: bytes) -> TorchScript | None:
        found = self._by_id.get(id_)
        if found is not None:
            self._by_id.move_to_end(id_)
        return found

    def add(self, id_: bytes, script: TorchScript) -> None:
        self._by_id[id_] = script
        if len(self._by_id) > self._limit:
            self._by_id.popitem(last=False)

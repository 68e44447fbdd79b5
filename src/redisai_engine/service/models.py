"""
The models in memory, and how the engine knows that a key still holds the one it has.

Theory of operation. An id names one version of one model for ever, so what is loaded is kept by id. Which id a key
holds is asked of Redis on the client's own connection, unless it is known: `follow` reads the id on a connection of
the engine's own that has client tracking on, so that Redis says when the key changes. What can change a key through
this engine is told to `distrust` when it is sent and again when its reply is there, so such a change holds at once;
one made elsewhere holds when Redis' message has come, which takes milliseconds, and at once behind a plain command
of the same pipeline (`Session.may_trust`). Without that connection nothing is
known, and every run asks.

A version that was replaced leaves the memory when this process learns of it; others leave by least recent use.

Invariants: an entry of `_current` was read under tracking and no message about its key has come since; what is loaded
stays below `model_memory`, the newest model aside.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from redisai_engine.config import Settings
from redisai_engine.execution.job import RunnableModel
from redisai_engine.execution.statistics import RunStatistics
from redisai_engine.redis import store
from redisai_engine.redis.tracking import Tracking
from redisai_engine.redis.upstream import Address

Place = tuple[int, bytes]

_LEAST_SIZE = 128 * 1024  # bytes; what a session of ONNX Runtime takes for a model of a few hundred (measured: 106 KB)


@dataclass(frozen=True, slots=True)
class Known:
    """The model that a key holds, its id, and the loop's time at which the key expires."""

    model: RunnableModel
    id: bytes
    expires_at: float


class Models:
    """What is loaded, by id; what is known of keys, by database and key."""

    def __init__(self, settings: Settings, upstream: Address, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._limit = settings.model_memory
        self._size = 0
        self._by_id: OrderedDict[bytes, tuple[RunnableModel, int]] = OrderedDict()
        self._statistics: dict[bytes, RunStatistics] = {}
        self._held: dict[Place, bytes] = {}  # the id that each key was last seen to hold
        self._current: dict[Place, Known] = {}
        self._asked: dict[Place, list[bytes]] = {}  # `follow` waits for the answer about this id
        self.names: set[bytes] = set()  # keys in `_current` or `_asked`, of any database
        self.changes = 0  # as long as this number stays, what `known` gave is still known until it expires
        self._tracking = None if settings.strict else Tracking(upstream, loop, self._changed)

    def by_id(self, id_: bytes) -> RunnableModel | None:
        """Gives the loaded model with that id, which becomes the last to leave."""
        found = self._by_id.get(id_)
        if found is None:
            return None
        self._by_id.move_to_end(id_)
        return found[0]

    def add(self, id_: bytes, model: RunnableModel, size: int) -> None:
        """Keeps a loaded model whose blob has `size` bytes; the least recently used leave for it."""
        self._by_id[id_] = (model, size)
        self._size += max(size, _LEAST_SIZE)
        while self._size > self._limit and len(self._by_id) > 1:
            self._drop(next(iter(self._by_id)))

    def _drop(self, id_: bytes) -> None:
        if id_ in self._by_id:
            _, size = self._by_id.pop(id_)
            self._size -= max(size, _LEAST_SIZE)
        self._statistics.pop(id_, None)
        self.changes += 1
        self._current = {place: known for place, known in self._current.items() if known.id != id_}
        self._held = {place: held for place, held in self._held.items() if held != id_}

    def holds(self, database: int, key: bytes, id_: bytes | None) -> None:
        """Takes note of the id that a key was seen to hold; the version before it leaves, unless another key has it."""
        before = self._held.get((database, key))
        if before == id_:
            return
        if id_ is None:
            del self._held[database, key]
        else:
            self._held[database, key] = id_
        if before is not None and before not in self._held.values():
            self._drop(before)

    def size_of(self, backend: str) -> int:
        """Gives the bytes of that backend's models that are loaded, as large as their blobs are."""
        return sum(size for model, size in self._by_id.values() if model.backend_name == backend)

    def statistics(self, id_: bytes) -> RunStatistics:
        """Gives the figures of the model with that id; they begin at zero."""
        return self._statistics.setdefault(id_, RunStatistics())

    def current(self, database: int, key: bytes) -> RunnableModel | None:
        """Gives the model that the key holds, if that is known without asking."""
        known = self.known(database, key)
        return None if known is None else known.model

    def known(self, database: int, key: bytes) -> Known | None:
        """Gives what is known of the key without asking."""
        entry = self._current.get((database, key))
        if entry is not None and entry.expires_at <= self._loop.time():
            del self._current[database, key]
            return None
        return entry

    def follow(self, database: int, key: bytes, id_: bytes, model: RunnableModel) -> None:
        """Begins to follow what the key holds; `id_` and `model` are what it held just now."""
        place = (database, key)
        if self._tracking is None or not self._tracking.is_open or place in self._asked:
            return
        known = self._current.get(place)
        if known is not None and known.model is model:
            return
        asked = self._asked[place] = [id_]
        self.names.add(key)

        def answered(held: bytes | None, expires_in_ms: int) -> None:
            if self._asked.pop(place, None) is not asked or held != id_:
                return
            expires_at = self._loop.time() + expires_in_ms / 1000 if expires_in_ms >= 0 else float("inf")
            self._current[place] = Known(model, id_, expires_at)
            self.changes += 1

        self._tracking.read(database, key, store.ID, answered)

    def found(self, database: int, key: bytes, id_: bytes) -> None:
        """Takes note of the id that Redis gave for a key: nothing that is known, or asked, of another is trusted."""
        place = (database, key)
        known, asked = self._current.get(place), self._asked.get(place)
        if (known is not None and known.id != id_) or (asked is not None and asked != [id_]):
            self.forget(database, key)

    def forget(self, database: int, key: bytes) -> None:
        """Trusts nothing known about one key any more."""
        self.changes += 1
        self._current.pop((database, key), None)
        self._asked.pop((database, key), None)

    def distrust(self, keys: Iterable[bytes]) -> None:
        """Trusts nothing known about these keys, in whatever database."""
        gone = set(keys)
        for place in [place for place in (*self._current, *self._asked) if place[1] in gone]:
            self.forget(*place)
        self.names -= gone

    def distrust_all(self) -> None:
        self.changes += 1
        self._current.clear()
        self._asked.clear()
        self.names.clear()

    def close(self) -> None:
        if self._tracking is not None:
            self._tracking.close()

    def _changed(self, keys: Iterable[bytes] | None) -> None:
        """Redis' message; None means that any key may have changed, or that messages were lost."""
        if keys is None:
            self.distrust_all()
        else:
            self.distrust(keys)

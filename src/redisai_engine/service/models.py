"""
The cache of models in memory, and how the engine knows that a key still holds the model it has.

Theory of operation. An id names one version of one model forever, so loaded models are cached by id. Which id a key
holds is asked of Redis on the client's own connection, unless it is *known*: `track` reads the id on a connection of
the engine's own that has client tracking on, so Redis sends an invalidation when the key changes.

A command that may change a key through this process invalidates the key when it is sent and again when its reply
arrives, so the change takes effect at once. A change made elsewhere takes effect when Redis' invalidation arrives,
which takes milliseconds, and at once behind a plain command of the same pipeline (`Client.may_trust`). Without the
tracking connection nothing is known, and every run asks Redis.

A version that was replaced is evicted when this process learns of it. Other models are evicted when memory is short,
the least recently used first.

Invariants: an entry of `_known` was read under tracking, and no invalidation of its key has arrived since. The size of
all loaded models is at most `model_memory`, unless the newest model alone exceeds it.
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
from redisai_engine.redis.address import Address
from redisai_engine.redis.tracking import Tracking

Place = tuple[int, bytes]  # a database and a key in it

_LEAST_SIZE = 128 * 1024  # bytes counted per model; for one of a few hundred bytes ONNX Runtime takes 106 KB (measured)


@dataclass(frozen=True, slots=True)
class KnownModel:
    """The model that a key holds, its id, and the event loop's time at which the key expires (inf: never)."""

    model: RunnableModel
    id: bytes
    expires_at: float


class Models:
    """The loaded models, by id, and what is known of keys, by database and key."""

    def __init__(self, settings: Settings, redis_address: Address, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._limit = settings.model_memory
        self._size = 0
        self._loaded: OrderedDict[bytes, tuple[RunnableModel, int]] = OrderedDict()
        self._versions: dict[Place, bytes] = {}  # the id that each key was last seen to hold
        self._known: dict[Place, KnownModel] = {}
        self._asking: dict[Place, list[bytes]] = {}  # `track` waits for Redis' answer about this id
        self.tracked_keys: set[bytes] = set()  # all keys in `_known` or `_asking`, of any database, and perhaps more
        self.changes = 0  # while this number is the same, what `known` returned is valid until it expires
        self._tracking = None if settings.strict else Tracking(redis_address, loop, self._changed)

    # In memory, by id

    def loaded(self, id_: bytes) -> RunnableModel | None:
        """Return the loaded model with this id, if any, and mark it as the most recently used."""
        found = self._loaded.get(id_)
        if found is None:
            return None
        self._loaded.move_to_end(id_)
        return found[0]

    def keep(self, id_: bytes, model: RunnableModel, size: int) -> None:
        """Keep a loaded model, whose blob has `size` bytes, and evict the least recently used ones to make room."""
        self._loaded[id_] = (model, size)
        self._size += max(size, _LEAST_SIZE)
        while self._size > self._limit and len(self._loaded) > 1:
            self.drop(next(iter(self._loaded)))

    def drop(self, id_: bytes) -> None:
        """Remove a model from memory, if it is there, and forget which keys hold it."""
        if id_ in self._loaded:
            _, size = self._loaded.pop(id_)
            self._size -= max(size, _LEAST_SIZE)
        self.changes += 1
        self._known = {place: known for place, known in self._known.items() if known.id != id_}
        self._versions = {place: version for place, version in self._versions.items() if version != id_}

    def size_of(self, backend: str) -> int:
        """Return the total size in bytes of the blobs of a backend's loaded models."""
        return sum(size for model, size in self._loaded.values() if model.backend_name == backend)

    def statistics(self, id_: bytes) -> RunStatistics | None:
        """Return the run statistics of a model, or None if it isn't in memory."""
        found = self._loaded.get(id_)
        return None if found is None else found[0].statistics

    # What keys hold

    def note_version(self, database: int, key: bytes, id_: bytes | None) -> None:
        """
        Record the id that a key was seen to hold; None means that it holds no model.

        The key's previous version is evicted, unless another key holds it.
        """
        before = self._versions.get((database, key))
        if before == id_:
            return
        if id_ is None:
            del self._versions[database, key]
        else:
            self._versions[database, key] = id_
        if before is not None and before not in self._versions.values():
            self.drop(before)

    def known(self, database: int, key: bytes) -> KnownModel | None:
        """Return the model that the key holds, if it is known without asking Redis, otherwise None."""
        entry = self._known.get((database, key))
        if entry is not None and entry.expires_at <= self._loop.time():
            del self._known[database, key]
            return None
        return entry

    def track(self, database: int, key: bytes, id_: bytes, model: RunnableModel) -> None:
        """Have Redis report when the key changes. `id_` and `model` are what it held just now."""
        place = (database, key)
        if self._tracking is None or not self._tracking.is_open or place in self._asking:
            return
        known = self._known.get(place)
        if known is not None and known.model is model:
            return
        asked = self._asking[place] = [id_]
        self.tracked_keys.add(key)

        def answered(held: bytes | None, expires_in_ms: int) -> None:
            # A list is compared by identity, so an answer from before an invalidation is recognized even if the same id
            # has been asked about again since.
            if self._asking.pop(place, None) is not asked or held != id_:
                return
            expires_at = self._loop.time() + expires_in_ms / 1000 if expires_in_ms >= 0 else float("inf")
            self._known[place] = KnownModel(model, id_, expires_at)
            self.changes += 1

        self._tracking.read(database, key, store.ID, answered)

    # Invalidation

    def forget(self, database: int, key: bytes) -> None:
        """Forget what is known of one key."""
        self.changes += 1
        self._known.pop((database, key), None)
        self._asking.pop((database, key), None)

    def forget_others(self, database: int, key: bytes, id_: bytes) -> None:
        """Forget what is known or being asked of one key, unless it is this id, which Redis has just returned."""
        place = (database, key)
        known, asked = self._known.get(place), self._asking.get(place)
        if (known is not None and known.id != id_) or (asked is not None and asked != [id_]):
            self.forget(database, key)

    def forget_keys(self, keys: Iterable[bytes]) -> None:
        """Forget what is known of these keys in any database, because Redis' invalidations don't name the database."""
        gone = set(keys)
        for place in [place for place in (*self._known, *self._asking) if place[1] in gone]:
            self.forget(*place)
        self.tracked_keys -= gone

    def forget_all(self) -> None:
        """Forget what is known of all keys."""
        self.changes += 1
        self._known.clear()
        self._asking.clear()
        self.tracked_keys.clear()

    def close(self) -> None:
        if self._tracking is not None:
            self._tracking.close()

    def _changed(self, keys: Iterable[bytes] | None) -> None:
        """Handle an invalidation. None means that any key may have changed, or that invalidations were lost."""
        if keys is None:
            self.forget_all()
        else:
            self.forget_keys(keys)

"""
The models in memory, and how the engine knows that a key still holds the one it has.

Theory of operation. An id names one version of one model for ever, so what is loaded is kept by id. Which id a key
holds is asked of Redis on the client's own connection, unless it is *known*: `track` reads the id on a connection of
the engine's own that has client tracking on, so that Redis says when the key changes. What can change a key through
this engine makes it unknown when it is sent and again when its reply is there, so such a change holds at once; one made
elsewhere holds when Redis' message has come, which takes milliseconds, and at once behind a plain command of the same
pipeline (`Client.may_trust`). Without that connection nothing is known, and every run asks.

A version that was replaced leaves the memory when this process learns of it; others leave by least recent use.

Invariants: an entry of `_known` was read under tracking and no message about its key has come since; what is loaded
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
from redisai_engine.redis.address import Address
from redisai_engine.redis.tracking import Tracking

Place = tuple[int, bytes]  # a database and a key in it

_LEAST_SIZE = 128 * 1024  # bytes; what a session of ONNX Runtime takes for a model of a few hundred (measured: 106 KB)


@dataclass(frozen=True, slots=True)
class KnownModel:
    """The model that a key holds, its id, and the loop's time at which the key expires."""

    model: RunnableModel
    id: bytes
    expires_at: float


class Models:
    """What is loaded, by id; what is known of keys, by database and key."""

    def __init__(self, settings: Settings, redis_address: Address, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._limit = settings.model_memory
        self._size = 0
        self._loaded: OrderedDict[bytes, tuple[RunnableModel, int]] = OrderedDict()
        self._versions: dict[Place, bytes] = {}  # the id that each key was last seen to hold
        self._known: dict[Place, KnownModel] = {}
        self._asking: dict[Place, list[bytes]] = {}  # `track` waits for the answer about this id
        self.tracked_keys: set[bytes] = set()  # keys in `_known` or `_asking`, of any database
        self.changes = 0  # as long as this number stays, what `known` returned is still known until it expires
        self._tracking = None if settings.strict else Tracking(redis_address, loop, self._changed)

    # In memory, by id

    def loaded(self, id_: bytes) -> RunnableModel | None:
        """Return the loaded model with that id, which becomes the last to leave."""
        found = self._loaded.get(id_)
        if found is None:
            return None
        self._loaded.move_to_end(id_)
        return found[0]

    def keep(self, id_: bytes, model: RunnableModel, size: int) -> None:
        """Keep a loaded model whose blob has `size` bytes; the least recently used leave for it."""
        self._loaded[id_] = (model, size)
        self._size += max(size, _LEAST_SIZE)
        while self._size > self._limit and len(self._loaded) > 1:
            self._drop(next(iter(self._loaded)))

    def _drop(self, id_: bytes) -> None:
        if id_ in self._loaded:
            _, size = self._loaded.pop(id_)
            self._size -= max(size, _LEAST_SIZE)
        self.changes += 1
        self._known = {place: known for place, known in self._known.items() if known.id != id_}
        self._versions = {place: version for place, version in self._versions.items() if version != id_}

    def size_of(self, backend: str) -> int:
        """Return the bytes of that backend's models that are loaded, as large as their blobs are."""
        return sum(size for model, size in self._loaded.values() if model.backend_name == backend)

    def statistics(self, id_: bytes) -> RunStatistics | None:
        """Return the figures of a model in memory."""
        found = self._loaded.get(id_)
        return None if found is None else found[0].statistics

    # What keys hold

    def note_version(self, database: int, key: bytes, id_: bytes | None) -> None:
        """Note the id that a key was seen to hold; the version before it leaves, unless another key has it."""
        before = self._versions.get((database, key))
        if before == id_:
            return
        if id_ is None:
            del self._versions[database, key]
        else:
            self._versions[database, key] = id_
        if before is not None and before not in self._versions.values():
            self._drop(before)

    def known(self, database: int, key: bytes) -> KnownModel | None:
        """Return the model that the key holds, if that is known without asking Redis."""
        entry = self._known.get((database, key))
        if entry is not None and entry.expires_at <= self._loop.time():
            del self._known[database, key]
            return None
        return entry

    def track(self, database: int, key: bytes, id_: bytes, model: RunnableModel) -> None:
        """Have Redis tell when the key changes; `id_` and `model` are what it held just now."""
        place = (database, key)
        if self._tracking is None or not self._tracking.is_open or place in self._asking:
            return
        known = self._known.get(place)
        if known is not None and known.model is model:
            return
        asked = self._asking[place] = [id_]
        self.tracked_keys.add(key)

        def answered(held: bytes | None, expires_in_ms: int) -> None:
            if self._asking.pop(place, None) is not asked or held != id_:
                return
            expires_at = self._loop.time() + expires_in_ms / 1000 if expires_in_ms >= 0 else float("inf")
            self._known[place] = KnownModel(model, id_, expires_at)
            self.changes += 1

        self._tracking.read(database, key, store.ID, answered)

    # What is known no more

    def forget(self, database: int, key: bytes) -> None:
        """Forget what is known of one key."""
        self.changes += 1
        self._known.pop((database, key), None)
        self._asking.pop((database, key), None)

    def forget_others(self, database: int, key: bytes, id_: bytes) -> None:
        """Forget what is known of one key, or being asked, unless it is this id, which Redis has just given."""
        place = (database, key)
        known, asked = self._known.get(place), self._asking.get(place)
        if (known is not None and known.id != id_) or (asked is not None and asked != [id_]):
            self.forget(database, key)

    def forget_keys(self, keys: Iterable[bytes]) -> None:
        """Forget what is known of these keys, in whatever database."""
        gone = set(keys)
        for place in [place for place in (*self._known, *self._asking) if place[1] in gone]:
            self.forget(*place)
        self.tracked_keys -= gone

    def forget_all(self) -> None:
        self.changes += 1
        self._known.clear()
        self._asking.clear()
        self.tracked_keys.clear()

    def close(self) -> None:
        if self._tracking is not None:
            self._tracking.close()

    def _changed(self, keys: Iterable[bytes] | None) -> None:
        """Take Redis' message; None means that any key may have changed, or that messages were lost."""
        if keys is None:
            self.forget_all()
        else:
            self.forget_keys(keys)

"""
The cache of models in memory, and how the engine knows that a key still holds the model it has.

Theory of operation. An id names one version of one model forever, so loaded models are cached by id. Which id a key
holds is asked of Redis on the client's own connection, unless it is *known*: `track` reads the id on a connection of
the engine's own that has client tracking on, so Redis sends an invalidation when the key changes.

A command that may change a key through this process invalidates the key when it is sent and again when its reply
arrives, so the change takes effect at once. A change made elsewhere takes effect when Redis' invalidation arrives,
which takes milliseconds, and at once behind a plain command of the same pipeline (`Client.may_trust`). Without the
tracking connection nothing is known, and every run asks Redis.

Versions leave memory when this process learns that they were replaced (`watch.py`), and when memory is short
(`cache.py`).

Invariant: an entry of `_known` was read under tracking, and no invalidation of its key has arrived since. Nothing that
has left memory can be reached through one: it no longer has a model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from redisai_engine.backends.base import LoadedModel, NoModel
from redisai_engine.config import Settings
from redisai_engine.execution.figures import Ledger
from redisai_engine.execution.job import RunnableModel
from redisai_engine.execution.statistics import RunStatistics
from redisai_engine.redis import store
from redisai_engine.redis.address import Address
from redisai_engine.redis.tracking import REFUSED_SECONDS, Tracking
from redisai_engine.service.cache import Cache, Held, Place
from redisai_engine.service.watch import KeyWatch


class KnownModel:
    """The model that a key holds, its id, and the event loop's time at which the key expires (inf: never)."""

    __slots__ = ("expires_at", "id", "model")

    def __init__(self, model: RunnableModel, id_: bytes, expires_at: float) -> None:
        self.model = model
        self.id = id_
        self.expires_at = expires_at


#: Takes the place of a model that has left memory, where a connection that may never come back refers to it.
_GONE = RunnableModel(NoModel(), backend_name="")


class Models:
    """The loaded models, and what is known of keys, both by database and key."""

    def __init__(
        self,
        settings: Settings,
        redis_address: Address,
        loop: asyncio.AbstractEventLoop,
        ledger: Ledger | None = None,
    ) -> None:
        self._loop = loop
        self._ledger = ledger or Ledger()
        self.limit = settings.model_memory  # bytes
        self._cache: Cache[RunnableModel] = Cache(settings.model_memory, self._left)
        self._known: dict[Place, KnownModel] = {}
        self._asking: dict[Place, list[bytes]] = {}  # `track` waits for Redis' answer about this id
        self.tracked_keys: set[bytes] = set()  # all keys in `_known` or `_asking`, of any database, and perhaps more
        self.changes = 0  # while this number is the same, what `known` returned is valid until it expires
        self.watch = KeyWatch(loop)
        self.watch.add(store.ID, self._cache, self._ledger.forget)
        self._tracking = None if settings.strict else Tracking(redis_address, loop, self._changed)
        self.watch.tracking = self._tracking

    # In memory

    def loaded(self, database: int, key: bytes, id_: bytes) -> RunnableModel | None:
        """Return this version of the key's model if it is in memory, and mark it as the most recently used."""
        held = self._cache.get((database, key), id_)
        return None if held is None else held.value

    def keep(self, database: int, key: bytes, id_: bytes, model: RunnableModel) -> None:
        """Keep a loaded model that the key holds, in place of an older version, and make room for it."""
        place = (database, key)
        model.figures = self._ledger.of(place, id_, model.backend_name, model.device)
        weighable = model.loaded if model.loaded.is_elsewhere else None
        self._cache.keep(place, Held(id_, model, model.memory, model.statistics, weighable))

    @property
    def left(self) -> int:
        """How many models have left memory so far."""
        return self._cache.left

    def weigh(self) -> None:
        """Count what models in processes of their own take now, and make room for it."""
        self._cache.weigh()

    def elsewhere(self) -> list[LoadedModel]:
        """Return the models that run in processes of their own."""
        return [held.value.loaded for held in self._cache.values() if held.value.loaded.is_elsewhere]

    def drop(self, database: int, key: bytes) -> None:
        """Drop what the key held."""
        self._cache.drop((database, key))

    def unload(self, database: int, key: bytes) -> None:
        """Drop what the key holds from memory, until it is asked for again."""
        self.forget(database, key)
        self.drop(database, key)

    def deleted(self, database: int, key: bytes) -> None:
        """Drop what the key held, with its figures: it has been deleted."""
        self.drop(database, key)
        self._ledger.forget((database, key))

    def moved(self, database: int, key: bytes, other: bytes) -> None:
        """Keep what the key held for another one: Redis has renamed it."""
        held = self._cache.move((database, key), (database, other))
        if held is not None and key != other:
            model = held.value
            model.figures = self._ledger.of((database, other), held.id, model.backend_name, model.device)
            self._ledger.forget((database, key))
            self.watch.changed((other,))  # it may have changed since; from now on Redis reports that

    def drop_version(self, id_: bytes) -> None:
        """Drop this version, whichever keys hold it."""
        self._cache.drop_version(id_)

    def peek(self, place: Place, id_: bytes) -> RunnableModel | None:
        """Return this version of the key's model if it is in memory, without counting that as a use."""
        held = self._cache.peek(place)
        return held.value if held is not None and held.id == id_ else None

    def held(self, place: Place) -> RunnableModel | None:
        """Return what is in memory for a key, without counting that as a use; the key may hold another one by now."""
        held = self._cache.peek(place)
        return None if held is None else held.value

    def size_of(self, backend: str) -> int:
        """Return how many bytes a backend's loaded models take."""
        return sum(held.size for held in self._cache.values() if held.value.backend_name == backend)

    def statistics(self, database: int, key: bytes, id_: bytes) -> RunStatistics | None:
        """Return the run statistics of a model, or None if it isn't in memory."""
        held = self._cache.get((database, key), id_)
        return None if held is None else held.statistics

    # What keys hold

    def known(self, database: int, key: bytes) -> KnownModel | None:
        """Return the model that the key holds, if it is known without asking Redis, otherwise None."""
        entry = self._known.get((database, key))
        if entry is not None and entry.expires_at <= self._loop.time():
            self._forget_place((database, key))
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
            if self._asking.pop(place, None) is not asked:
                return
            if held != id_:
                self.watch.changed((key,))
                return
            if self._cache.id_at(place) != id_:  # it has left memory meanwhile
                return
            expires_at = self._loop.time() + expires_in_ms / 1000 if expires_in_ms >= 0 else float("inf")
            self._forget_place(place)  # of an older version
            self._known[place] = KnownModel(model, id_, expires_at)

        def refused() -> None:
            # Until then `_asking` keeps the place from being asked about with every prediction.
            self._loop.call_later(REFUSED_SECONDS, self._ask_again, place, asked)

        self._tracking.read(database, key, store.ID, answered, refused)

    def _ask_again(self, place: Place, asked: list[bytes]) -> None:
        if self._asking.get(place) is asked:
            del self._asking[place]

    @property
    def tracking(self) -> str:
        """Whether Redis reports changes, for people to read: "on", or why it doesn't."""
        if self._tracking is None:
            return "off: strict"
        if self.tracking_problem:
            return f"off: {self.tracking_problem}"
        return "on" if self._tracking.is_open else "off: not connected"

    @property
    def tracking_opened(self) -> int:
        """How often Redis has begun to report changes to the engine."""
        return 0 if self._tracking is None else self._tracking.opened

    @property
    def tracking_problem(self) -> str:
        """Redis' text if it refuses to report changes, otherwise empty."""
        return "" if self._tracking is None else self._tracking.problem

    # Invalidation

    def forget(self, database: int, key: bytes) -> None:
        """Forget what is known of one key."""
        self._forget_place((database, key))

    def _forget_place(self, place: Place) -> None:
        self.changes += 1
        known = self._known.pop(place, None)
        if known is not None:
            known.model = _GONE  # the fast paths of connections that don't come back would keep it in memory
        self._asking.pop(place, None)

    def _left(self, place: Place, model: RunnableModel) -> None:
        """Take that a model has left memory, apart from runs that have begun."""
        self._forget_place(place)
        model.loaded.leaves()
        model.view = None  # which may refer to the model

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
            self._forget_place(place)
        self.tracked_keys -= gone

    def forget_all(self) -> None:
        """Forget what is known of all keys."""
        for place in (*self._known, *self._asking):
            self._forget_place(place)
        self.tracked_keys.clear()

    def stop_tracking(self) -> None:
        """Trust nothing that is known: Redis is silent, so its reports of changes may be missing. Track anew."""
        if self._tracking is not None:
            self._tracking.reopen()

    def close(self) -> None:
        if self._tracking is not None:
            self._tracking.close()

    def _changed(self, keys: Iterable[bytes] | None) -> None:
        """Handle an invalidation. None means that any key may have changed, or that invalidations were lost."""
        keys = None if keys is None else list(keys)
        if keys is None:
            self.forget_all()
        else:
            self.forget_keys(keys)
        self.watch.changed(keys)

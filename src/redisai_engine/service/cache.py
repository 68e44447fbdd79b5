"""
Loaded versions of what keys hold, bounded by memory: one version per key.

A version is cached for the key that it was read from, not by its id alone: whoever may write some key can give it the
id of another key's model.

When memory is short, those leave first that ran least since room was last made, and of these the least recently looked
up. So loading many models, each for a few runs, doesn't push out one that is in use.

What processes of their own take changes while they run, so they are weighed again from time to time.

Invariant: the size of all entries, when they were last weighed, is at most the limit, unless one alone exceeds it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from redisai_engine.execution.statistics import RunStatistics

Place = tuple[int, bytes]  # a database and a key in it
Value = TypeVar("Value")


class Weighable(Protocol):
    """What knows how many bytes it takes now (0: it doesn't), and can give back what it doesn't need."""

    @property
    def memory(self) -> int: ...
    def give_back(self) -> None: ...


class Held(Generic[Value]):
    """A version in memory: its id, its size in bytes, which `weighable` may change, and how much it has been used."""

    __slots__ = ("calls", "id", "size", "statistics", "use", "value", "weighable")

    def __init__(
        self, id_: bytes, value: Value, size: int, statistics: RunStatistics, weighable: Weighable | None = None
    ) -> None:
        self.id = id_
        self.value = value
        self.size = size
        self.statistics = statistics
        self.weighable = weighable
        self.calls = 0  # of the statistics, when `use` was last computed
        self.use = 0.0  # runs; those before room was last made count half, those before that a quarter ...

    def age(self) -> None:
        calls = self.statistics.calls
        self.use = self.use / 2 + max(calls - self.calls, 0)  # RESETSTAT may have set them to zero
        self.calls = calls


class Cache(Generic[Value]):
    """Versions by place. `dropped` is called with the place of every entry that leaves, and with what was there."""

    def __init__(self, limit: int, dropped: Callable[[Place, Value], None] = lambda place, value: None) -> None:
        self._limit = limit
        self._dropped = dropped
        self._held: OrderedDict[Place, Held[Value]] = OrderedDict()
        self._size = 0
        self.left = 0  # how many entries have left

    def __iter__(self) -> Iterator[Place]:
        return iter(self._held)

    def get(self, place: Place, id_: bytes) -> Held[Value] | None:
        """Return this version if it is in memory, and mark it as the most recently looked up."""
        held = self._held.get(place)
        if held is None or held.id != id_:
            return None
        self._held.move_to_end(place)
        return held

    def id_at(self, place: Place) -> bytes | None:
        held = self._held.get(place)
        return None if held is None else held.id

    def peek(self, place: Place) -> Held[Value] | None:
        return self._held.get(place)

    def values(self) -> list[Held[Value]]:
        return list(self._held.values())

    def keep(self, place: Place, held: Held[Value]) -> None:
        """Keep a version in place of an older one of the same key, and make room for it."""
        present = self._held.get(place)
        if present is not None and present.id == held.id:
            return  # somebody else has loaded it meanwhile
        self.drop(place)
        self._held[place] = held
        self._size += held.size
        if self._size > self._limit:
            self._make_room(place)

    def weigh(self) -> None:
        """Take over what entries take now, where they know that themselves, and make room."""
        self._weigh_all()
        if self._size > self._limit:
            for held in self._held.values():
                if held.weighable is not None:
                    held.weighable.give_back()
            self._weigh_all()
        if self._size > self._limit:
            self._make_room()

    def drop(self, place: Place) -> None:
        held = self._held.pop(place, None)
        if held is not None:
            self._size -= held.size
            self.left += 1
            self._dropped(place, held.value)

    def move(self, place: Place, other: Place) -> Held[Value] | None:
        """Keep for another key what was kept for one, and return it."""
        held = self._held.get(place)
        if held is not None and place != other:
            self.drop(place)
            self.keep(other, held)
        return held

    def drop_version(self, id_: bytes) -> None:
        for place in [place for place, held in self._held.items() if held.id == id_]:
            self.drop(place)

    def _weigh_all(self) -> None:
        for held in self._held.values():
            if held.weighable is not None:
                size = held.weighable.memory or held.size
                self._size += size - held.size
                held.size = size

    def _make_room(self, newest: Place | None = None) -> None:
        """Drop entries until the others fit, but not the newest one, or without that the one that was used most."""
        for held in self._held.values():
            held.age()
        # The sort is stable, so among equals the order is that of the dictionary.
        by_use = sorted(self._held, key=lambda place: self._held[place].use)
        spared = newest or by_use[-1]
        for place in by_use:
            if self._size <= self._limit:
                return
            if place != spared:
                self.drop(place)

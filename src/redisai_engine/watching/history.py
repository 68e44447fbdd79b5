"""
An hour of figures of every deployment, kept by the engine itself: seconds for five minutes, then quarter minutes.

Theory of operation. Once a second the counts of all deployments are compared with those of the second before. What has
come is a slot, kept as bytes. Seconds without requests have no slot. Durations are kept as histograms, of which
quantiles are computed later, so slots of several processes and of several seconds can be added up.

Invariant: at most `MOST_DEPLOYMENTS` times `FINE` + `COARSE` slots are kept: 9 MB.
"""

from __future__ import annotations

import struct
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redisai_engine.codec.record import is_own_key
from redisai_engine.execution.figures import DURATIONS, OWN, Figures, Ledger, Place

FINE, COARSE = 300, 240  # slots of one deployment
COARSE_SECONDS = 15
MOST_DEPLOYMENTS = 100
_MOST_MARKS = 20

#: What a slot has before the counts of the latency's buckets.
NAMES = ("requests", "errors", "runs", "rows", "latency_seconds", "queue_seconds", "run_seconds")
_SIZE = len(NAMES) + len(DURATIONS) + 1
_SLOT = struct.Struct(f"<{len(NAMES)}d{len(DURATIONS) + 1}I")

Counts = list[float]  # NAMES, then the buckets
Slot = tuple[int, Counts]  # with the second at which it begins


@dataclass
class _Deployment:
    """The slots of one deployment, and the times at which another version began to be asked."""

    fine: deque[tuple[int, bytes]] = field(default_factory=lambda: deque(maxlen=FINE))
    coarse: deque[tuple[int, bytes]] = field(default_factory=lambda: deque(maxlen=COARSE))
    marks: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=_MOST_MARKS))


class History:
    """The figures of the last hour in one process. `take` is called once a second."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._before: dict[Place, Counts] = {}
        self._ids: dict[Place, set[bytes]] = {}
        self._deployments: OrderedDict[Place, _Deployment] = OrderedDict()

    def take(self, now: int) -> None:
        """Keep what has been counted since the last call, as of this second of the clock."""
        totals: dict[Place, Counts] = {}
        ids: dict[Place, set[bytes]] = {}
        for place, id_, figures in self._ledger.versions():
            if not is_own_key(place[1]):
                counts = counts_of(figures)
                totals[place] = added(totals[place], counts) if place in totals else counts
                ids.setdefault(place, set()).add(id_)
        for place, known in ids.items():
            for id_ in known - self._ids.get(place, set()):
                self._deployment(place).marks.append((now, id_.decode("ascii", "replace")))
        for place, counts in totals.items():
            self._compare(place, now, counts)
        for place in self._deployments.keys() - totals.keys():
            del self._deployments[place]  # it has been deleted
        self._before, self._ids = totals, ids

    def _compare(self, place: Place, now: int, counts: Counts) -> None:
        before = self._before.get(place)
        if before == counts:
            return
        new = counts if before is None else [one - other for one, other in zip(counts, before, strict=True)]
        if (new[0] or new[1]) and min(new) >= 0:  # less than zero: an old version's counts have been dropped
            self._keep(place, now, new)

    def of(self, place: Place) -> dict[str, Any]:
        """Return the slots and marks of a deployment as JSON has them."""
        found = self._deployments.get(place, _Deployment())
        return {
            "fine": [(second, list(_SLOT.unpack(slot))) for second, slot in found.fine],
            "coarse": [(second, list(_SLOT.unpack(slot))) for second, slot in found.coarse],
            "marks": list(found.marks),
        }

    def recent(self, since: int) -> list[tuple[Place, Counts]]:
        """Return what each deployment has counted after this second, which is at most five minutes ago."""
        found = []
        for place, deployment in self._deployments.items():
            counts: Counts = [0.0] * _SIZE
            for second, slot in reversed(deployment.fine):
                if second <= since:
                    break
                counts = added(counts, _SLOT.unpack(slot))
            found.append((place, counts))
        return found

    def _keep(self, place: Place, now: int, counts: Counts) -> None:
        found = self._deployment(place)
        found.fine.append((now, _packed(counts)))
        quarter = now - now % COARSE_SECONDS
        if found.coarse and found.coarse[-1][0] == quarter:
            _, latest = found.coarse.pop()
            counts = added(list(_SLOT.unpack(latest)), counts)
        found.coarse.append((quarter, _packed(counts)))

    def _deployment(self, place: Place) -> _Deployment:
        found = self._deployments.get(place)
        if found is None:
            found = self._deployments[place] = _Deployment()
            if len(self._deployments) > MOST_DEPLOYMENTS:
                self._deployments.popitem(last=False)
        self._deployments.move_to_end(place)
        return found


def _packed(counts: Counts) -> bytes:
    return _SLOT.pack(*counts[: len(NAMES)], *[min(int(count), 2**32 - 1) for count in counts[len(NAMES) :]])


def counts_of(figures: Figures) -> Counts:
    """Return what one version has counted, without the engine's own runs."""
    fronts = figures.fronts[:OWN]
    buckets: list[float] = [float(sum(counts)) for counts in zip(*[front.latency for front in fronts], strict=True)]
    return [
        sum(buckets),
        float(sum([sum(front.errors.values()) for front in fronts])),
        float(sum(figures.run)),
        float(figures.rows_total),
        sum([front.latency_seconds for front in fronts]),
        sum([front.queue_seconds for front in fronts]),
        figures.run_seconds,
        *buckets,
    ]


def added(one: Sequence[float], other: Sequence[float]) -> Counts:
    return [first + second for first, second in zip(one, other, strict=True)]


def merged(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Add up what several processes have of one deployment."""
    whole: dict[str, dict[int, Counts]] = {"fine": {}, "coarse": {}}
    marks: dict[str, int] = {}
    for part in parts:
        for name, slots in whole.items():
            for second, counts in part.get(name, ()):
                slots[second] = added(slots[second], counts) if second in slots else list(counts)
        for second, id_ in part.get("marks", ()):
            marks[id_] = min(second, marks.get(id_, second))
    return {
        **{name: sorted(slots.items()) for name, slots in whole.items()},
        "marks": sorted((second, id_) for id_, second in marks.items()),
    }


def quantile(counts: Counts, part: float) -> float | None:
    """Return the duration in seconds below which this part of the requests is, or None without requests."""
    buckets = counts[len(NAMES) :]
    wanted = part * sum(buckets)
    if not wanted:
        return None
    low = 0.0
    for bound, count in zip(DURATIONS, buckets, strict=False):
        if count >= wanted:
            return low + (bound - low) * wanted / count
        wanted -= count
        low = bound
    return low


def now_in_seconds() -> int:
    return int(time.time())

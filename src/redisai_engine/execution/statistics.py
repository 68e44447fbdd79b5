"""
The figures that AI.INFO shows for a model or script, counted as RedisAI counts them.

Invariant: figures change in the event loop's thread only, so they need no lock.
"""

from __future__ import annotations

from dataclasses import dataclass

Place = tuple[int, bytes]


@dataclass(slots=True)
class RunStatistics:
    """
    What happened to the runs of one stored model or script.

    `duration_us` leaves out the time in the queue; a request that ran in a batch counts the whole batch's time.
    `samples` adds up the first dimension of the first output. `calls` counts failed runs too.
    """

    duration_us: int = 0
    samples: int = 0
    calls: int = 0
    errors: int = 0

    def succeeded(self, duration_us: int, samples: int) -> None:
        self.calls += 1
        self.duration_us += duration_us
        self.samples += samples

    def failed(self) -> None:
        self.calls += 1
        self.errors += 1

    def reset(self) -> None:
        self.duration_us = self.samples = self.calls = self.errors = 0


class StatisticsTable:
    """The figures of everything that is stored, by database and key."""

    def __init__(self) -> None:
        self._rows: dict[Place, RunStatistics] = {}

    def start(self, db: int, key: bytes) -> RunStatistics:
        """Begins anew for a model that was just stored; runs of the one before go on counting in their own row."""
        row = self._rows[db, key] = RunStatistics()
        return row

    def get(self, db: int, key: bytes) -> RunStatistics | None:
        return self._rows.get((db, key))

    def get_or_start(self, db: int, key: bytes) -> RunStatistics:
        return self._rows.get((db, key)) or self.start(db, key)

    def forget(self, db: int, key: bytes) -> None:
        self._rows.pop((db, key), None)

    def clear(self) -> None:
        self._rows.clear()

"""
The run statistics that AI.INFO shows for a model or script, counted as in RedisAI.

Invariant: statistics change only in the event loop's thread, so they need no lock.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RunStatistics:
    """
    The statistics of one stored model or script.

    `duration_us` is in microseconds and excludes time in the queue; a request that ran in a batch counts the whole
    batch's time. `samples` sums the first dimension of the first output. `calls` includes failed runs.
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

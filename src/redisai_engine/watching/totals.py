"""
The metrics of all processes added up, those of processes that have ended included.

Without these, a total would shrink when a worker dies, and Prometheus would take what is left for new counts.

Invariant: a total shrinks only when its deployment is gone from all processes.
"""

from __future__ import annotations

from collections.abc import Mapping

from redisai_engine.watching.measuring import Samples, Value
from redisai_engine.watching.table import GAUGE, METRICS

Totals = dict[str, dict[tuple[str, ...], Value]]


class Sums:
    """Adds up what processes tell. A process is known by any text that no other has ever had."""

    def __init__(self) -> None:
        self._latest: dict[str, Samples] = {}
        self._ended: Totals = {}

    def of(self, told: Mapping[str, Samples]) -> Totals:
        """Return the totals of these processes and of those before them. Who isn't among them has ended."""
        for process in self._latest.keys() - told.keys():
            _add(self._ended, self._latest[process], counters_only=True)
        self._latest = dict(told)
        totals: Totals = {}
        for samples in told.values():
            _add(totals, samples)
        self._ended = {
            name: kept
            for name, rows in self._ended.items()
            if (kept := {labels: value for labels, value in rows.items() if labels in totals.get(name, {})})
        }
        for name, rows in self._ended.items():
            for labels, value in rows.items():
                totals[name][labels] = _sum(totals[name][labels], value)
        return totals


def totals_of(samples: Samples) -> Totals:
    """Return one process' samples, where those with the same labels are added up."""
    totals: Totals = {}
    _add(totals, samples)
    return totals


def _add(totals: Totals, samples: Samples, *, counters_only: bool = False) -> None:
    for name, rows in samples.items():
        if name not in METRICS or (counters_only and METRICS[name].kind == GAUGE):
            continue
        into = totals.setdefault(name, {})
        for labels, value in rows:
            key = tuple(labels)
            into[key] = _sum(into[key], value) if key in into else value


def _sum(one: Value, other: Value) -> Value:
    if isinstance(one, list) and isinstance(other, list):
        return [first + second for first, second in zip(one, other, strict=True)]
    assert not isinstance(one, list)
    assert not isinstance(other, list)
    return one + other

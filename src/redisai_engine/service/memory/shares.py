"""
Has the processes of models measured, now and then.

Theory of operation. What a process shares with others changes as these come and go, and reading its part takes the
kernel milliseconds, in which that process can't map memory. So a thread measures, and so seldom that it takes a
hundredth of a processor at most.

Invariant: the event loop never waits for a measurement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import thread_time
from typing import TypeAlias
from weakref import WeakMethod

_LEAST_SECONDS = 2.0  # from the end of one time to the next
_TIMES = 100  # the processor time that it took, for the same

Measure: TypeAlias = "WeakMethod[Callable[[], object]]"


class Shares:
    """When to measure: `look` is called about once a second."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._not_before = 0.0

    def look(self, measures: Sequence[Measure]) -> None:
        """Call each of these in a thread if it's time. They keep nothing in memory."""
        if measures and self._loop.time() >= self._not_before:
            self._not_before = float("inf")
            self._loop.create_task(self._measure(measures))

    async def _measure(self, measures: Sequence[Measure]) -> None:
        seconds = await asyncio.to_thread(_timed, measures)
        self._not_before = self._loop.time() + max(_LEAST_SECONDS, _TIMES * seconds)


def _timed(measures: Sequence[Measure]) -> float:
    """Measure, and return the processor time that it took: how busy the machine is doesn't count."""
    begin = thread_time()
    for reference in measures:
        measure = reference()
        if measure is not None:
            measure()
    return thread_time() - begin

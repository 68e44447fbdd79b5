"""
How much the engine's connections to Redis have carried, for metrics, and whether they can be opened, for the log; and
that something has arrived on any of them.

Invariant: counts change only in the event loop's thread and only grow, apart from `open`.
"""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)


class Arrivals:
    """
    How often Redis has sent something on some connections. It is counted in `total`, too, if there is one.

    `of_changes` may have answered a command that changes keys, `others` have not. Both go on from what `tally` holds,
    if there is one, which other processes read (`service/memory/tallies.py`).
    """

    __slots__ = ("_tally", "_total", "of_changes", "others")

    def __init__(self, *, total: Arrivals | None = None, tally: memoryview | None = None) -> None:
        self.of_changes = 0 if tally is None else tally[0]
        self.others = 0 if tally is None else tally[1]
        self._tally = tally
        self._total = total

    @property
    def all(self) -> int:
        return self.of_changes + self.others

    def count(self, *, of_change: bool) -> None:
        """Count before anything is done with what has arrived, so that nobody learns of it earlier."""
        if of_change:
            self.of_changes += 1
        else:
            self.others += 1
        if self._tally is not None:
            self._tally[0 if of_change else 1] = self.of_changes if of_change else self.others
        if self._total is not None:
            self._total.count(of_change=of_change)


class Traffic:
    """
    Of all clients' connections to Redis: those that are open, were opened, and were ended by Redis or the network.

    `relayed` are commands that were passed on unchanged, `asked` are steps of the engine's own: each is one round trip
    with any number of commands.
    """

    def __init__(self) -> None:
        self.open = 0
        self.opened = 0
        self.lost = 0
        self.relayed = 0
        self.asked = 0
        self._problem = ""

    def reached(self) -> None:
        """Count a connection that has been opened."""
        self.open += 1
        self.opened += 1
        if self._problem:
            _log.warning("Redis can be reached again")
            self._problem = ""

    def unreachable(self, problem: str) -> None:
        """Log why no connection can be opened, once."""
        if problem != self._problem:
            _log.error("%s; clients that need it see their connections end", problem)
            self._problem = problem

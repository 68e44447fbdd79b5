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
    How often Redis has sent something on some connections: `all`. It is counted in `total`, too, if there is one.

    `of_changes` of these may have answered a command that changes keys.
    """

    __slots__ = ("_total", "all", "of_changes")

    def __init__(self, *, total: Arrivals | None = None) -> None:
        self.all = 0
        self.of_changes = 0
        self._total = total

    def count(self, *, of_change: bool) -> None:
        self.all += 1
        if of_change:
            self.of_changes += 1
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

"""
How much the engine's connections to Redis have carried, for metrics, and whether they can be opened, for the log.

Invariant: counts change only in the event loop's thread and only grow, apart from `open`.
"""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)


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

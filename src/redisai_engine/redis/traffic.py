"""
How much the engine's connections to Redis have carried, for metrics.

Invariant: counts change only in the event loop's thread and only grow, apart from `open`.
"""

from __future__ import annotations


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

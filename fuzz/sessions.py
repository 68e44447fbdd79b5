"""The table of targets that need a server: what is sent, and who makes it up. Their inputs are bytes, too."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from fuzz import blobs, commands
from fuzz.limits import Check
from fuzz.serving import Serving
from support.connection import Connection


@dataclass(frozen=True)
class Session:
    """`weight` is its share of the time, where a parser has 1; `cost` is how many of a parser's inputs equal one."""

    warm: Callable[[Connection], None]
    send: Callable[[Connection, bytes], None]
    inputs: Callable[[], st.SearchStrategy[bytes]]
    weight: int
    cost: int
    neighbours: Callable[[], dict[str, tuple[bytes, int]]] = dict

    @contextlib.contextmanager
    def served(self) -> Iterator[Check]:
        """Start the servers. Yield a check that raises ServerFault."""
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            serving = Serving(Path(folder), self.warm, self.neighbours())

            def check(data: bytes) -> None:
                with serving.checked() as wire:
                    self.send(wire, data)

            try:
                yield check
            finally:
                serving.stop()


SESSIONS: dict[str, Session] = {
    "commands": Session(commands.warm, commands.send, commands.sequences, weight=4, cost=100),
    "blobs": Session(blobs.warm, blobs.send, blobs.inputs, weight=8, cost=500, neighbours=blobs.neighbours),
}

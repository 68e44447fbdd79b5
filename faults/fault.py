"""
A row of the table: a fault that is done to real processes.

Most rows are a `Fault`: harm done under load (`run.py`). Anything else with the attributes of `Row` is a row, too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from faults.outcome import Outcome
from faults.processes import Processes
from faults.run import Harm, under_load

#: Errors of a connection that ends with the process at its other end.
ENDED = r"connection (ended|refused)"
#: What the engine answers while Redis is silent.
AWAY = r"ERR .*Redis.*"


class Row(Protocol):
    """
    A row of the table.

    `scripts/test --faults` runs it by its word. One that `is_short` belongs to the selection in the ordinary tests.
    """

    @property
    def title(self) -> str: ...
    @property
    def word(self) -> str: ...
    @property
    def is_short(self) -> bool: ...

    def run(self, folder: Path) -> Outcome:
        """Carry it out in a new folder. Raise AssertionError if it can't come to its end."""


@dataclass(frozen=True)
class Fault:
    """
    Harm done to processes under load. `allowed` matches every error that clients may see; any other is a problem.

    `arguments` are those of the engine.
    """

    title: str
    word: str
    processes: Callable[..., AbstractContextManager[Processes]]
    harm: Harm
    allowed: str
    arguments: tuple[str, ...] = ()
    is_short: bool = False

    def run(self, folder: Path) -> Outcome:
        return under_load(self.processes(folder, *self.arguments), self.harm, self.allowed)

"""
The table of faults, in the order of the page.

Each module has the faults of one kind of process, and at its end their rows. A new module is added here.
"""

from __future__ import annotations

from pathlib import Path

from faults import client_faults, engine_faults, model_faults, plugin_faults, redis_faults
from faults.fault import Row
from faults.outcome import Outcome
from faults.soak import Soak

FAULTS: list[Row] = [
    *redis_faults.FAULTS,
    *engine_faults.FAULTS,
    *model_faults.FAULTS,
    *client_faults.FAULTS,
    *plugin_faults.FAULTS,
]

#: Its minutes are too many for a run of all faults.
APART: list[Row] = [Soak()]


def run(fault: Row, below: Path) -> Outcome:
    """Carry a fault out in a new folder. One that doesn't come to its end has failed."""
    folder = below / fault.word
    folder.mkdir()
    try:
        return fault.run(folder)
    except (AssertionError, OSError) as error:
        return Outcome("", None, "", [f"{type(error).__name__}: {error}"])

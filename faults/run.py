"""One fault from beginning to end: processes, clients at work, the harm, and what came of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from faults.load import MODEL, Load, lost
from faults.table import Fault, folder_of
from support.connection import connected
from support.gateway import store_model
from support.waiting import wait_until

_WARM_UP = 200  # predictions before the harm
_AFTER = 500  # and behind it
_SECONDS = 90.0


@dataclass(frozen=True)
class Outcome:
    """What a fault did. `problems` are reasons to fail: lost or wrong data, errors that clients should never see."""

    fault: Fault
    seen: dict[str, int]  # errors and how many clients got them
    predictions: int
    writes: int
    recovery_s: float  # the longest time in which no prediction was answered
    problems: list[str]


def run(fault: Fault, below: Path) -> Outcome:
    """Carry a fault out in a new folder. Raise AssertionError if the engine doesn't serve again."""
    with fault.processes(folder_of(fault, below), *fault.arguments) as there:
        with connected(there.engine) as wire:
            store_model(wire, MODEL)
        with Load(there.engine) as load:
            _wait_for(lambda: len(load.answers) > _WARM_UP and len(load.keys) > 0, "predictions and writes")
            begin = monotonic()
            fault.harm(there)
            over = monotonic()
            _wait_for(lambda: load.answered_since(over) is not None, "a prediction after the fault")
            answered, written = len(load.answers), len(load.keys)
            _wait_for(lambda: len(load.answers) > answered + _AFTER and len(load.keys) > written, "more of both")
        problems = [*load.wrong, *_unexpected(fault, load), *(f"lost {name}" for name in lost(load, there.engine))]
        return Outcome(
            fault,
            dict(load.errors),
            len(load.answers),
            len(load.keys) + len(load.models),
            load.longest_pause(begin),
            problems,
        )


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, timeout_s=_SECONDS, what=what)


def _unexpected(fault: Fault, load: Load) -> list[str]:
    return [f"a client got {error!r}" for error in load.errors if not re.fullmatch(fault.allowed, error)]

"""One fault under load, from beginning to end: processes, clients at work, the harm, and what came of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic

from faults.load import MODEL, Load, lost
from faults.outcome import Outcome
from faults.processes import Processes
from support.connection import connected
from support.gateway import store_model
from support.waiting import wait_until

#: What a scenario does. It may return what there is to tell of it.
Harm = Callable[[Processes], str | None]

_WARM_UP = 200  # predictions before the harm
_AFTER = 500  # and behind it
_SECONDS = 90.0
_LONGEST = 120  # characters of an error
_OWN_ADDRESS = re.compile(r"(?<=unix://)\S+(?=/redis.sock)|(?<=127\.0\.0\.1:)\d+")


def under_load(processes: AbstractContextManager[Processes], harm: Harm, allowed: str) -> Outcome:
    """Do harm to processes while clients are at work. Raise AssertionError if the engine doesn't serve again."""
    with processes as there:
        with connected(there.engine) as wire:
            store_model(wire, MODEL)
        with Load(there.engine) as load:
            _wait_for(lambda: len(load.answers) > _WARM_UP and len(load.keys) > 0, "predictions and writes")
            begin = monotonic()
            told = harm(there)
            over = monotonic()
            _wait_for(lambda: load.answered_since(over) is not None, "a prediction after the fault")
            answered, written = len(load.answers), len(load.keys)
            _wait_for(lambda: len(load.answers) > answered + _AFTER and len(load.keys) > written, "more of both")
        unexpected = [f"a client got {error!r}" for error in load.errors if not re.fullmatch(allowed, error)]
        return Outcome(
            "; ".join(filter(None, (told, shown(load.errors)))) or "nothing",
            load.longest_pause(begin),
            f"{len(load.answers):,} predictions, {len(load.keys) + len(load.models):,} writes",
            [*load.wrong, *unexpected, *(f"lost {name}" for name in lost(load, there.engine))],
        )


def shown(errors: Counter[str]) -> str:
    """Return the most frequent errors, for people to read, without what differs from run to run."""
    return "; ".join(f"{count} × `{_cut(error)}`" for error, count in errors.most_common(3))


def _cut(error: str) -> str:
    error = _OWN_ADDRESS.sub("…", error)
    return error if len(error) <= _LONGEST else error[: _LONGEST - 1] + "…"


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, timeout_s=_SECONDS, what=what)

"""Faults of the engine's own processes."""

from __future__ import annotations

import signal
from collections.abc import Callable

from faults.fault import ENDED, Fault
from faults.processes import Processes, embedded
from support.servers import Server, start_engine
from support.waiting import wait_until


def worker_is(number: signal.Signals) -> Callable[[Processes], None]:
    """Return a scenario that sends one of two workers a signal, and waits for the one in its place."""

    def scenario(there: Processes) -> None:
        first = there.workers[0]
        first.send_signal(number)
        wait_until(lambda: first not in there.workers and len(there.workers) == 2, timeout_s=60, what="a new worker")

    return scenario


def engine_is_killed(there: Processes) -> None:
    """Kill the engine, and start it again on its port and its data, as systemd would."""
    _restart(there, lambda engine: engine.process.kill())


def engine_is_terminated(there: Processes) -> None:
    _restart(there, lambda engine: engine.process.terminate())


def _restart(there: Processes, end: Callable[[Server], None]) -> None:
    before = there.engine
    end(before)
    before.process.wait(60)
    data = str(before.data_dir)
    there.engine = start_engine(there.folder / "again", "--data-dir", data, "--port", str(before.port))


FAULTS = [
    Fault(
        "A worker is killed",
        "worker-killed",
        embedded,
        worker_is(signal.SIGKILL),
        ENDED,
        ("--workers", "2"),
        is_short=True,
    ),
    Fault(
        "A worker hangs (SIGSTOP)",
        "worker-hangs",
        embedded,
        worker_is(signal.SIGSTOP),
        f"{ENDED}|no answer.*",
        ("--workers", "2", "--worker-timeout", "1000"),
    ),
    Fault("The engine is killed (SIGKILL) and started again", "engine-killed", embedded, engine_is_killed, ENDED),
    Fault(
        "The engine is ended (SIGTERM) and started again",
        "engine-ended",
        embedded,
        engine_is_terminated,
        ENDED + "|ERR the engine is shutting down.*",
    ),
]

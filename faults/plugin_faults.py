"""Faults of the plugin: its connection is cut, or answered without end; two do the same at once; Ctrl-C."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

from faults.fault import Fault
from faults.processes import Processes, embedded
from mlflow_redisai import errors
from mlflow_redisai.deadline import Limit
from support.bad_line import TRICKLE, bad_line
from support.cut_calls import NAME, Deployed, anew, cuts, prepared_at, store_at
from support.interrupted import COMMAND_LINE, stopping
from support.saved_models import save_multiplication

_ROUNDS = 10
#: Where a create is interrupted, and whether it must be let go on to notice.
_POINTS = ("verify", "exec")


def _deployed(there: Processes) -> Deployed:
    logging.getLogger("mlflow_redisai").setLevel(logging.ERROR)  # hundreds of retries would be told
    return Deployed(there.engine, prepared_at(there.engine, there.folder / "model"))


def connection_is_cut(there: Processes) -> None:
    """Cut it before, in and after each command of each change, and in its reply. Each change has its effect once."""
    deployed = _deployed(there)
    for _ in cuts(there.engine, deployed.absent, deployed.create):
        assert deployed.is_the_new_one()
    for _ in cuts(there.engine, deployed.present, deployed.update):
        assert deployed.is_the_new_one()
    for _ in cuts(there.engine, deployed.present, deployed.delete):
        assert deployed.keys() == []


def answer_never_ends(there: Processes) -> None:
    """Answer each command of an update byte by byte. It is given up, and what is there is whole."""
    deployed = _deployed(there)
    deployed.present()
    with bad_line(there.engine) as good:
        deployed.update(good.target)
    for number in range(1, len(good.commands) + 1):
        deployed.present()
        line, limit = bad_line(there.engine, TRICKLE, number), Limit("update", 0.3, "")
        with suppress(errors.CallTimedOut), line as bad, limit:
            deployed.update(bad.target)
        assert deployed.store.read(NAME).record is not None
        assert len(deployed.keys()) == 2


def two_update(there: Processes) -> None:
    deployed = _deployed(there)
    deployed.present()
    _both(lambda: store_at(there.engine.target).replace(NAME, anew(deployed.prepared)))
    assert deployed.store.read(NAME).record is not None
    assert len(deployed.keys()) == 2


def two_create(there: Processes) -> None:
    deployed = _deployed(there)
    for _ in range(_ROUNDS):
        deployed.absent()
        won = _both(lambda: store_at(there.engine.target).create(NAME, anew(deployed.prepared)), rounds=1)
        assert won == 1, f"{won} of two creates won"
        assert len(deployed.keys()) == 2


def _both(change: Callable[[], object], rounds: int = _ROUNDS) -> int:
    """Make a change in two threads, and return how many did not find the name taken."""
    won: list[int] = []

    def work() -> None:
        for _ in range(rounds):
            with suppress(errors.DeploymentExists):
                change()
                won.append(1)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(won)


def create_is_interrupted(there: Processes) -> None:
    model = save_multiplication(there.folder / "model", 2.0).uri
    for point in _POINTS:
        for number in (signal.SIGINT, signal.SIGTERM):
            words = ("create", "-t", there.engine.target, "--name", NAME, "-m", model)
            with stopping(point, there.engine.target, COMMAND_LINE, str(there.folder / "errors"), *words) as process:
                assert process.process.pid is not None
                os.kill(process.process.pid, number)
                process.go_on()
                assert process.ended() == 128 + number
            assert list(there.engine.client().scan_iter(f"*{NAME}*")) == []


FAULTS = [
    Fault("The plugin's connection is cut at each command", "plugin-cut", embedded, connection_is_cut, ""),
    Fault("The plugin is answered byte by byte, without end", "plugin-trickle", embedded, answer_never_ends, ""),
    Fault("Two plugins update the same deployment", "plugin-updaters", embedded, two_update, "", is_short=True),
    Fault("Two plugins create the same deployment", "plugin-creators", embedded, two_create, "", is_short=True),
    Fault("A create is interrupted (SIGINT, SIGTERM)", "plugin-interrupted", embedded, create_is_interrupted, ""),
]

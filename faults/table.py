"""The table of faults, in the order of the page: what happens, to which processes, and what clients may see of it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from faults import scenarios
from faults.scenarios import Processes, apart, embedded, worker_is

#: Errors of a connection that ends with the process at its other end.
_ENDED = r"connection (ended|refused)"
#: What the engine answers while Redis is away.
_AWAY = r"ERR .*Redis.*"


@dataclass(frozen=True)
class Fault:
    """One row. `allowed` matches every error that clients may see; any other one is a failure."""

    title: str
    processes: Callable[..., AbstractContextManager[Processes]]
    harm: Callable[[Processes], None]
    allowed: str
    arguments: tuple[str, ...] = ()
    is_short: bool = False  # it belongs to the selection in the ordinary tests


def _refused(setting: str, value: str, usual: str) -> Callable[[Processes], None]:
    return scenarios.set_for_a_while(setting, value, usual)


FAULTS = [
    Fault(
        "Redis is killed and started again",
        apart,
        scenarios.redis_is_killed,
        f"{_ENDED}|{_AWAY}|LOADING.*",
        is_short=True,
    ),
    Fault(
        "The engine's own redis-server is killed",
        embedded,
        scenarios.own_redis_is_killed,
        f"{_ENDED}|{_AWAY}|LOADING.*",
    ),
    Fault(
        "Redis stands still (SIGSTOP), and goes on",
        apart,
        scenarios.redis_is_stopped,
        f"{_ENDED}|{_AWAY}",
        ("--upstream-timeout", "2000"),
    ),
    Fault("All connections to Redis are cut, 20 times", apart, scenarios.all_connections_are_cut, f"{_ENDED}|{_AWAY}"),
    Fault("Redis is out of memory", apart, _refused("maxmemory", "1", "0"), "OOM.*", is_short=True),
    Fault(
        "Redis becomes a read-only replica", apart, scenarios.redis_is_a_replica, "READONLY.*|MASTERDOWN.*|LOADING.*"
    ),
    Fault("Redis misses its replicas", apart, _refused("min-replicas-to-write", "1", "0"), "NOREPLICAS.*"),
    Fault("A worker is killed", embedded, worker_is(signal.SIGKILL), _ENDED, ("--workers", "2"), is_short=True),
    Fault(
        "A worker hangs (SIGSTOP)",
        embedded,
        worker_is(signal.SIGSTOP),
        f"{_ENDED}|no answer.*",
        ("--workers", "2", "--worker-timeout", "1000"),
    ),
    Fault("The engine is killed (SIGKILL) and started again", embedded, scenarios.engine_is_killed, _ENDED),
    Fault(
        "The engine is ended (SIGTERM) and started again",
        embedded,
        scenarios.engine_is_terminated,
        _ENDED + "|ERR the engine is shutting down.*",
    ),
    Fault("A model's process is killed", embedded, scenarios.model_process_is_killed, "", is_short=True),
    Fault("A script never ends", embedded, scenarios.script_never_ends, "", ("--model-execution-timeout", "1000")),
    Fault(
        "A run of an ONNX model never ends",
        embedded,
        scenarios.run_takes_too_long,
        "",
        ("--model-execution-timeout", "1000"),
    ),
    Fault("Fifty damaged models are stored", embedded, scenarios.blob_is_damaged, ""),
    Fault(
        "Clients leave in the middle of a request, at each byte",
        embedded,
        scenarios.clients_are_cut_off,
        "",
        is_short=True,
    ),
    Fault(
        "A client asks for gigabytes and reads nothing",
        embedded,
        scenarios.client_reads_nothing,
        "",
        ("--output-limit", "16777216"),
    ),
]


def folder_of(fault: Fault, below: Path) -> Path:
    """Return a new folder for a fault's processes."""
    folder = below / str(FAULTS.index(fault))
    folder.mkdir()
    return folder

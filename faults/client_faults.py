"""Faults of clients."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psutil

from faults import memory
from faults.fault import Fault
from faults.processes import Processes, embedded
from support.gateway import prediction

_OUTPUT_LIMIT = 16 << 20
_LARGE_MIB = 4
_ENGINE_MIB = 100
_REDIS_MIB = 100


def clients_are_cut_off(there: Processes) -> None:
    """End connections after each byte of a prediction, without reading the reply."""
    request = prediction("faults:model", 1, 2)
    for end in range(1, len(request) + 1):
        with socket.create_connection(("127.0.0.1", there.engine.port)) as connection:
            connection.sendall(request[:end])


def client_reads_nothing(there: Processes) -> str:
    """
    Ask for more than `--output-limit` allows, until the engine ends the connection.

    Redis holds no more than that in replies, nor does the engine. Return by how much both have grown.
    """
    there.ask("SET", "faults:large", b"x" * (_LARGE_MIB << 20))
    with _watching(there) as highest:
        _ask_without_reading(there)
    grown = {name: round(most - first) for name, (first, most) in highest.items()}
    told = ", ".join(f"{name} +{by} MiB" for name, by in grown.items())
    assert grown["engine"] < _ENGINE_MIB, told
    assert grown["Redis"] < _REDIS_MIB, told
    return told


def _ask_without_reading(there: Processes) -> None:
    with socket.create_connection(("127.0.0.1", there.engine.port), timeout=60) as connection:
        try:
            for _ in range(100_000):
                connection.sendall(b"GET faults:large\r\n" * 100)
        except OSError:
            return
    raise AssertionError("the connection was never ended")


@contextmanager
def _watching(there: Processes) -> Iterator[dict[str, tuple[float, float]]]:
    """Yield what the engine and its redis-server take, in MiB: at first, and at most until the end of the context."""
    pids = {"engine": there.engine.process.pid, "Redis": there.own_redis.pid}
    # Nothing that costs the kernel more than reading a counter, or it would be this that holds up Redis.
    measures = {name: partial(memory.resident, psutil.Process(pid)) for name, pid in pids.items()}
    found = {name: (first := measure(), first) for name, measure in measures.items()}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            for name, measure in measures.items():
                first, most = found[name]
                found[name] = first, max(most, measure())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield found
    finally:
        over.set()
        watching.join()


FAULTS = [
    Fault(
        "Clients leave in the middle of a request, at each byte",
        "clients-leave",
        embedded,
        clients_are_cut_off,
        "",
        is_short=True,
    ),
    Fault(
        "A client asks for gigabytes and reads nothing",
        "reads-nothing",
        embedded,
        client_reads_nothing,
        "",
        ("--output-limit", str(_OUTPUT_LIMIT)),
    ),
]

"""Faults of clients."""

from __future__ import annotations

import socket

from faults.fault import Fault
from faults.processes import Processes, embedded
from support.gateway import prediction


def clients_are_cut_off(there: Processes) -> None:
    """End connections after each byte of a prediction, without reading the reply."""
    request = prediction("faults:model", 1, 2)
    for end in range(1, len(request) + 1):
        with socket.create_connection(("127.0.0.1", there.engine.port)) as connection:
            connection.sendall(request[:end])


def client_reads_nothing(there: Processes) -> None:
    """Ask for more than `--output-limit` allows, until the engine ends the connection."""
    there.ask("SET", "faults:large", b"x" * (4 << 20))
    with socket.create_connection(("127.0.0.1", there.engine.port), timeout=60) as connection:
        try:
            for _ in range(100_000):
                connection.sendall(b"GET faults:large\r\n" * 100)
        except OSError:
            return
    raise AssertionError("the connection was never ended")


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
        ("--output-limit", "16777216"),
    ),
]

"""
TLS connections that are being closed: they may take as long as their clients take what is left for them.

Theory of operation. Closing over TLS writes what waits, and then waits for the client's own farewell. The event loop
would end that after a fixed time, whether or not the client is still taking an answer. So it gets no time of its own,
and connections that are being closed are looked at now and then. What a client has taken, the kernel knows: it counts
what the other side has acknowledged.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any

LEAST_RATE = 500  # bytes a second, of a body and of an answer; the slowest modems were faster

_TCP_INFO = getattr(socket, "TCP_INFO", None)  # Linux
_INFO_BYTES = 128  # of struct tcp_info, up to the end of the field that is read
_ACKNOWLEDGED = struct.Struct("120xQ")
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: the kernel forgets what it has, too


class Closing:
    """
    The connections of one front that are being closed, looked at every `patience` seconds.

    One is ended whose client has taken too little between two looks. `transports` returns those of all clients.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transports: Callable[[], Iterable[Any]], patience: float
    ) -> None:
        self._loop = loop
        self._transports = transports
        self._patience = patience
        self._taken: dict[Any, int] = {}  # at the last look, by transports that were being closed
        self._looked_at = loop.time()
        self._timer = loop.call_later(patience, self._look)

    def end(self) -> None:
        self._timer.cancel()
        self._taken.clear()

    def _look(self) -> None:
        now = self._loop.time()
        least = LEAST_RATE * (now - self._looked_at)
        self._looked_at = now
        self._timer = self._loop.call_later(self._patience, self._look)
        before, self._taken = self._taken, {}
        for transport in self._transports():
            if transport is None or not transport.is_closing():
                continue
            taken = acknowledged(transport.get_extra_info("socket"))
            if transport in before and taken - before[transport] < least:
                reset(transport)
            else:
                self._taken[transport] = taken


def acknowledged(connection: Any) -> int:
    """Return how many bytes the other side has taken; 0 if the system doesn't tell."""
    if _TCP_INFO is None or connection is None or connection.fileno() < 0:
        return 0
    info = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO_BYTES)
    return int(_ACKNOWLEDGED.unpack(info)[0]) if len(info) == _INFO_BYTES else 0


def reset(transport: Any) -> None:
    """End a connection, and forget what waits for the other side."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()

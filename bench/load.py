"""
The load generator: N connections in a closed loop. Each sends its request again as soon as the reply has arrived.

Theory of operation. There is one thread and one epoll. Each reply takes one recv, one comparison and one send. The same
loop drives every protocol, so that no side benefits from a cheaper client. A reply that differs from the first one
(HTTP has a date in it) is parsed and its answer compared, so a server that answers fast but wrong is not accepted.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.wire import Exchange

_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Load:
    """What one run of the generator measured."""

    connections: int
    seconds: float
    requests: int
    per_second: float
    median_ms: float
    p99_ms: float
    worst_ms: float


class _Connection:
    """One client of the closed loop. `answered` is called when its socket is readable."""

    def __init__(self, port: int, exchange: Exchange, first: bytes) -> None:
        self._exchange = exchange
        self._first = first
        self._answer = exchange.answer(first)
        self._received = b""
        self._sent_at = 0.0
        self.latencies: list[float] = []
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self) -> None:
        self._sent_at = time.perf_counter()
        self.socket.sendall(self._exchange.request)

    def answered(self) -> float | None:
        """
        Receive what has arrived, and return the time if the reply is complete.

        Raise for a wrong answer or a lost connection.
        """
        data = self.socket.recv(1 << 20)
        now = time.perf_counter()
        if self._received or data != self._first:
            if not data:
                raise ConnectionError("the server closed the connection")
            data = self._received = self._received + data
            if len(data) != len(self._first) and self._exchange.measure(data) is None:
                return None
            if self._exchange.answer(data) != self._answer:
                raise ValueError(f"the answer differs from the first one: {data[:300]!r}")
            self._received = b""
        self.latencies.append(now - self._sent_at)
        return now


def first_reply(port: int, exchange: Exchange) -> bytes:
    """Send one request over its own connection. Raise ValueError if the reply is an error."""
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S) as connection:
        connection.sendall(exchange.request)
        received = b""
        while (length := exchange.measure(received)) is None:
            data = connection.recv(1 << 20)
            if not data:
                raise ConnectionError(f"the server closed the connection after {received[:300]!r}")
            received += data
    exchange.answer(received[:length])
    return received[:length]


def run(port: int, exchange: Exchange, connections: int, seconds: float) -> Load:
    """
    Load the server for that many seconds and return the measurement.

    Raise for any wrong answer or lost connection.
    """
    first = first_reply(port, exchange)
    with contextlib.ExitStack() as sockets, select.epoll() as poll:
        clients = [_Connection(port, exchange, first) for _ in range(connections)]
        by_number = {sockets.enter_context(client.socket).fileno(): client for client in clients}
        for number in by_number:
            poll.register(number, select.EPOLLIN)
        started = now = time.perf_counter()
        deadline = started + seconds
        for client in clients:
            client.send()
        working = len(clients)
        while working:
            ready = poll.poll(_PATIENCE_S)
            if not ready:
                raise TimeoutError(f"no reply for {_PATIENCE_S:.0f} seconds")
            for number, _ in ready:
                done = by_number[number].answered()
                if done is None:
                    continue
                now = done
                if now < deadline:
                    by_number[number].send()
                else:
                    working -= 1
                    poll.unregister(number)
    return _load(connections, now - started, np.concatenate([client.latencies for client in clients]))


def in_sequence(port: int, exchanges: Sequence[Exchange], seconds: float) -> Load:
    """
    Send the exchanges in sequence over one connection, each when the previous reply has arrived.

    A latency is that of the whole sequence. The sockets block, which is the least that a client can cost.
    """
    lengths = [len(first_reply(port, exchange)) for exchange in exchanges]
    latencies = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started = now = time.perf_counter()
        while now - started < seconds:
            before = now
            for exchange, length in zip(exchanges, lengths, strict=True):
                connection.sendall(exchange.request)
                reply = connection.recv(length, socket.MSG_WAITALL)
                exchange.answer(reply)  # raises for an error
            now = time.perf_counter()
            latencies.append(now - before)
    return _load(1, now - started, np.array(latencies))


def first_and_later(port: int, before: Exchange, exchange: Exchange, later: int) -> tuple[float, float]:
    """
    Return the seconds that an exchange takes for the first time, and the median of so many later times.

    `before` is made first over the same connection, as often as the exchange later: the later times are those of a
    machine that is busy with such requests, on which the first one comes, too. After a pause of milliseconds each of
    them would take a multiple.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(later):
            _once(connection, before)
        took = [_once(connection, exchange) for _ in range(1 + later)]
    return took[0], float(np.median(took[1:]))


def _once(connection: socket.socket, exchange: Exchange) -> float:
    """Return the seconds of an exchange. Raise ValueError if the reply is an error."""
    before, received = time.perf_counter(), b""
    connection.sendall(exchange.request)
    while exchange.measure(received) is None:
        received += connection.recv(1 << 20)
    seconds = time.perf_counter() - before
    exchange.answer(received)
    return seconds


def _load(connections: int, elapsed: float, latencies_s: np.ndarray[Any, Any]) -> Load:
    latencies = latencies_s * 1000
    return Load(
        connections=connections,
        seconds=round(elapsed, 3),
        requests=len(latencies),
        per_second=round(len(latencies) / elapsed, 1),
        median_ms=round(float(np.median(latencies)), 4),
        p99_ms=round(float(np.percentile(latencies, 99)), 4),
        worst_ms=round(float(latencies.max()), 4),
    )

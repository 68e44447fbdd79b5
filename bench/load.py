"""
The load generator: N connections in a closed loop, each sends its request again as soon as the reply is there.

Theory of operation: one event loop (uvloop), one asyncio.Protocol a connection, no task and no future a request. The
same class drives every protocol, so that no side is helped by a cheaper client. A reply of the first one's length is
whole, any other is measured; every answer is compared with the first one, so a server that answers fast and wrong does
not pass.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import uvloop

from bench.wire import Exchange


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


class _Connection(asyncio.Protocol):
    def __init__(self, exchange: Exchange, length: int, answer: bytes, deadline: float, ended: Callable[..., None]):
        self.exchange = exchange
        self.length = length
        self.answer = answer
        self.deadline = deadline
        self.ended = ended
        self.received = bytearray()
        self.latencies: list[float] = []
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._send()

    def _send(self) -> None:
        self.sent_at = time.perf_counter()
        self.transport.write(self.exchange.request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if len(self.received) != self.length and self.exchange.measure(bytes(self.received)) is None:
            return
        now = time.perf_counter()
        self.latencies.append(now - self.sent_at)
        reply = bytes(self.received)
        self.received.clear()
        if self.exchange.answer(reply) != self.answer:
            self.ended(self, ValueError(f"another answer than the first one: {reply[:300]!r}"))
            self.transport.abort()
        elif now >= self.deadline:
            self.ended(self, None)
            self.transport.close()
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended(self, error or ConnectionError("the server closed the connection"))


def first_reply(port: int, exchange: Exchange, timeout_s: float = 60.0) -> tuple[int, bytes]:
    """Asks once, over a connection of its own; gives the reply's length and its answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        connection.sendall(exchange.request)
        received = b""
        while (length := exchange.measure(received)) is None:
            data = connection.recv(1 << 20)
            if not data:
                raise ConnectionError(f"the server closed the connection after {received[:300]!r}")
            received += data
    return length, exchange.answer(received[:length])


def run(port: int, exchange: Exchange, connections: int, seconds: float) -> Load:
    """Loads the server for that long and gives what came out; any wrong answer or broken connection raises."""
    return uvloop.run(_run(port, exchange, connections, seconds))


def in_sequence(port: int, exchanges: Sequence[Exchange], seconds: float) -> Load:
    """
    Sends the exchanges one after another over one connection, each when the reply to the one before is there.

    A latency is that of the whole sequence. Sockets that block: the least that a client can cost.
    """
    lengths = [first_reply(port, exchange)[0] for exchange in exchanges]
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


async def _run(port: int, exchange: Exchange, connections: int, seconds: float) -> Load:
    length, answer = first_reply(port, exchange)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    open_connections = set()
    clients = []

    def ended(client: _Connection, error: Exception | None) -> None:
        if client not in open_connections:
            return  # told already
        open_connections.discard(client)
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        elif not open_connections:
            done.set_result(None)

    started = time.perf_counter()
    for _ in range(connections):
        client = _Connection(exchange, length, answer, started + seconds, ended)
        clients.append(client)
        open_connections.add(client)
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
    await done
    elapsed = time.perf_counter() - started
    return _load(connections, elapsed, np.concatenate([client.latencies for client in clients]))


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

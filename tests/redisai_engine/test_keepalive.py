"""The kernel probes connections on both sides, so a machine that has vanished is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support.connection import Connect
from support.gateway import Pair
from support.waiting import wait_until

ESTABLISHED, KEEPALIVE = "01", "02"


def timers(*, local: int | None = None, remote: int | None = None) -> set[str]:
    """Return the kinds of timers that the kernel runs for the established connections with this port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        row[5].partition(":")[0]
        for row in rows
        if row[3] == ESTABLISHED and (port(row[1]) == local if local else port(row[2]) == remote)
    }


def port(address: str) -> int:
    return int(address.partition(":")[2], 16)


def test_clients_are_probed(new_pair: Callable[..., Pair], connect: Connect) -> None:
    pair = new_pair()
    wires = [connect(pair.engine) for _ in range(3)]
    assert [wire.ask("PING") for wire in wires] == [b"+PONG\r\n"] * 3

    wait_until(lambda: timers(local=pair.engine.port) == {KEEPALIVE})


def test_redis_is_probed(new_pair: Callable[..., Pair], connect: Connect) -> None:
    """On the connections of clients and on that of the engine's own."""
    pair = new_pair()
    wires = [connect(pair.engine) for _ in range(3)]
    assert [wire.ask("SET k 1") for wire in wires] == [b"+OK\r\n"] * 3

    wait_until(lambda: timers(remote=pair.redis.port) == {KEEPALIVE})

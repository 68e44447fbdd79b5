"""The kernel looks whether silent peers are still there, on both sides of the engine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.connection import Connect
from support.gateway import Pair
from support.waiting import wait_until

_KEEPALIVE = "02"  # the timer that is running, in Linux's /proc/net/tcp


def timers(*, local: int | None = None, remote: int | None = None) -> list[str]:
    """Return the timers of established IPv4 connections with these ports."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        words[5].partition(":")[0]
        for words in lines
        if words[3] == "01"
        and (local is None or int(words[1].partition(":")[2], 16) == local)
        and (remote is None or int(words[2].partition(":")[2], 16) == remote)
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="timers of connections are read from Linux's /proc/net/tcp")
def test_connections_of_clients_and_to_redis_are_kept_alive(new_pair: Callable[..., Pair], connect: Connect) -> None:
    pair = new_pair()
    client = connect(pair.engine)
    client.ask("GET x")  # over a connection to Redis of its own

    for ports in ({"local": pair.engine.port}, {"remote": pair.redis.port}):
        # Until what was just sent is acknowledged, another timer runs.
        wait_until(lambda ports=ports: set(timers(**ports)) == {_KEEPALIVE})

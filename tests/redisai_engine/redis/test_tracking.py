"""The engine's own connection to Redis, lost and refused. The tests of models in memory cover what it is for."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from support.connection import Connect, Connection
from support.gateway import Pair
from support.waiting import wait_until

pytestmark = pytest.mark.slow


def rejected(direct: Connection) -> int:
    return int(direct.ask("INFO stats").decode().split("rejected_connections:")[1].split("\r\n")[0])


def test_a_redis_that_takes_no_more_connections_is_not_besieged(new_pair: Callable[..., Pair], connect: Connect):
    """The engine tries about once a second."""
    pair = new_pair()
    direct = connect(pair.redis)
    wait_until(lambda: b"tracking_clients:1" in direct.ask("INFO clients"))
    direct.send("CONFIG SET maxclients 1", "CLIENT KILL TYPE normal SKIPME yes")
    direct.replies(2)

    wait_until(lambda: rejected(direct) >= 1)
    first, since = rejected(direct), time.monotonic()
    wait_until(lambda: rejected(direct) >= first + 2)

    assert rejected(direct) <= first + 3
    assert time.monotonic() - since > 0.9


def test_it_comes_back_when_redis_takes_connections_again(new_pair: Callable[..., Pair], connect: Connect):
    pair = new_pair()
    direct = connect(pair.redis)
    wait_until(lambda: b"tracking_clients:1" in direct.ask("INFO clients"))
    direct.send("CONFIG SET maxclients 1", "CLIENT KILL TYPE normal SKIPME yes")
    direct.replies(2)
    wait_until(lambda: rejected(direct) >= 1)

    direct.ask("CONFIG SET maxclients 100")

    wait_until(lambda: b"tracking_clients:1" in direct.ask("INFO clients"), timeout_s=5)

"""The engine's own connection to Redis, lost and refused. The tests of models in memory cover what it is for."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from support.connection import Connect, Connection
from support.gateway import Pair, predict, store_model
from support.waiting import wait_until

pytestmark = pytest.mark.slow


def rejected(direct: Connection) -> int:
    return int(direct.ask("INFO stats").decode().split("rejected_connections:")[1].split("\r\n")[0])


@pytest.fixture
def full(new_pair: Callable[..., Pair], connect: Connect) -> Connection:
    """The only connection to a Redis that has taken the engine's away and rejects others."""
    direct = connect(new_pair().redis)
    wait_until(lambda: b"tracking_clients:1" in direct.ask("INFO clients"))
    direct.send("CONFIG SET maxclients 1", "CLIENT KILL TYPE normal SKIPME yes")
    direct.replies(2)
    wait_until(lambda: rejected(direct) >= 1)
    return direct


def test_a_redis_that_takes_no_more_connections_is_not_besieged(full: Connection):
    """The engine tries about once a second."""
    first, since = rejected(full), time.monotonic()
    wait_until(lambda: rejected(full) >= first + 2)

    assert rejected(full) <= first + 3
    assert time.monotonic() - since > 0.9


def test_it_comes_back_when_redis_takes_connections_again(full: Connection):
    full.ask("CONFIG SET maxclients 100")

    wait_until(lambda: b"tracking_clients:1" in full.ask("INFO clients"), timeout_s=5)


def test_rights_that_are_taken_away_are_told_once_until_they_are_given_back(
    new_pair: Callable[..., Pair], connect: Connect
) -> None:
    pair = new_pair()
    direct, wire = connect(pair.redis), connect(pair.engine)
    wait_until(lambda: b"ai_tracking:on" in wire.ask("INFO ai"))
    store_model(wire, "m")

    assert direct.ask("ACL SETUSER default -client|tracking") == b"+OK\r\n"
    direct.send("CLIENT KILL TYPE normal SKIPME yes")
    wait_until(lambda: b"ai_tracking:off: NOPERM" in connect(pair.engine).ask("INFO ai"))
    assert [predict(connect(pair.engine), "m", 1, 2) for _ in range(3)] == [3] * 3
    assert b"off: NOPERM" in connect(pair.engine).ask("AI.INFO m")
    assert direct.reply().startswith(b":")
    assert direct.ask("ACL SETUSER default +client|tracking") == b"+OK\r\n"

    wait_until(lambda: b"ai_tracking:on" in connect(pair.engine).ask("INFO ai"))
    log = pair.engine.logged("tells the engine of changes again")
    assert log.count("Redis doesn't tell the engine of changes") == 1
    assert b"off: NOPERM" not in connect(pair.engine).ask("AI.INFO m")


def test_a_password_that_is_set_is_told(new_pair: Callable[..., Pair], connect: Connect) -> None:
    pair = new_pair()
    direct = connect(pair.redis)
    wait_until(lambda: b"tracking_clients:1" in direct.ask("INFO clients"))

    direct.send("CONFIG SET requirepass new", "CLIENT KILL TYPE normal SKIPME yes")

    assert "NOAUTH" in pair.engine.logged("Redis doesn't tell the engine of changes")
    assert direct.replies(2)[0] == b"+OK\r\n"
    assert direct.ask("CONFIG", "SET", "requirepass", "") == b"+OK\r\n"
    wait_until(lambda: b"tracking_clients:1" in direct.ask("INFO clients"))

"""Kept connections are used again, replaced when they are lost, and never shared with a child process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import redis
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import ResponseError

from mlflow_redisai.server.kept_connections import KeptConnections
from support.servers import Server


@pytest.fixture
def kept() -> Iterator[KeptConnections]:
    connections = KeptConnections()
    yield connections
    connections.close()


@pytest.fixture
def pool(redis_server: Server) -> Iterator[redis.ConnectionPool]:
    with redis.Redis(port=redis_server.port) as client:
        yield client.connection_pool


def identity(kept: KeptConnections, pool: redis.ConnectionPool) -> int:
    [number] = kept.exchange(pool, [["CLIENT", "ID"]])
    return int(number)


def test_the_same_connection_is_used_again(kept: KeptConnections, pool: redis.ConnectionPool) -> None:
    assert identity(kept, pool) == identity(kept, pool)


@pytest.mark.parametrize("size", [0, 1, 5000, 70_000, 5_000_000])
def test_arguments_of_all_kinds_and_sizes_arrive(kept: KeptConnections, pool: redis.ConnectionPool, size: int) -> None:
    blob = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    assert kept.exchange(pool, [["ECHO", blob], ["ECHO", "ä"], ["ECHO", -7]]) == [blob, "ä".encode(), b"-7"]


def test_an_error_is_a_reply_and_harms_nothing(kept: KeptConnections, pool: redis.ConnectionPool) -> None:
    first, error, last = kept.exchange(pool, [["ECHO", "a"], ["NOSUCHCOMMAND"], ["ECHO", "b"]])

    assert (first, last) == (b"a", b"b")
    assert isinstance(error, ResponseError)
    assert kept.exchange(pool, [["ECHO", "c"]]) == [b"c"]


def test_a_connection_that_the_server_has_closed_is_replaced_the_next_time(
    kept: KeptConnections, pool: redis.ConnectionPool, redis_server: Server
) -> None:
    first = identity(kept, pool)
    redis_server.client().client_kill_filter(_id=str(first))

    with pytest.raises(Lost):
        identity(kept, pool)
    assert identity(kept, pool) != first


def test_a_server_that_is_gone_is_an_error(kept: KeptConnections, new_redis: Callable[..., Server]) -> None:
    server = new_redis()
    pool = redis.Redis(port=server.port).connection_pool
    identity(kept, pool)
    server.stop()

    with pytest.raises(Lost):
        identity(kept, pool)


def test_a_child_has_connections_of_its_own(kept: KeptConnections, pool: redis.ConnectionPool) -> None:
    mine = identity(kept, pool)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, str(identity(kept, pool)).encode())
        os._exit(0)
    os.waitpid(child, 0)

    assert int(os.read(read, 100)) != mine
    assert identity(kept, pool) == mine


def test_an_interruption_leaves_no_reply_for_the_next(
    kept: KeptConnections, pool: redis.ConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity(kept, pool)
    with monkeypatch.context() as patched:
        patched.setattr(
            redis.connection.Connection, "read_response", lambda self: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            kept.exchange(pool, [["ECHO", "lost"]])

    assert kept.exchange(pool, [["ECHO", "next"]]) == [b"next"]

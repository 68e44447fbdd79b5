"""The length of an argument: at most 512 MB, as in Redis, and at most what the Redis behind the engine accepts."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from support.connection import Connect
from support.gateway import Pair, predict, store_model
from support.replies import bulk

PONG = b"+PONG\r\n"
TOO_LONG = b"-ERR Protocol error: invalid bulk length\r\n"
MOST = 512 * 1024 * 1024
LOWERED = 1024 * 1024  # the lowest proto-max-bulk-len that Redis accepts


@pytest.mark.parametrize("length", [MOST + 1, -1, 10**30])
@pytest.mark.parametrize("name", [b"SET", b"AI.TENSORSET"])
def test_a_longer_argument_ends_the_connection(pair: Pair, connect: Connect, name: bytes, length: int):
    """The error comes with the announced length, before any byte of the argument. Earlier requests are answered."""
    wire = connect(pair.engine)

    wire.send(b"PING\r\n*3\r\n" + bulk(name) + b"$%d\r\n" % length)

    assert wire.rest() == PONG + TOO_LONG


def test_announced_bytes_take_no_memory(new_pair: Callable[..., Pair], connect: Connect):
    pair = new_pair()
    statm = Path(f"/proc/{pair.engine.process.pid}/statm")
    if not statm.exists():
        pytest.skip("memory is read from /proc, which is not here")
    wires = [connect(pair.engine) for _ in range(20)]
    before = int(statm.read_text().split()[1])

    for wire in wires:
        wire.send(b"PING\r\n*2\r\n$4\r\nECHO\r\n$%d\r\nthe beginning" % MOST)
    assert [wire.reply() for wire in wires] == [PONG] * 20

    assert (int(statm.read_text().split()[1]) - before) * resource.getpagesize() < 20 * LOWERED


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("SET", "k", b"x" * (LOWERED + 1)),
        ("AI.TENSORSET", "t", "UINT8", LOWERED + 1, "BLOB", b"x" * (LOWERED + 1)),
        ("AI.TENSORSET", "t", "UINT8", LOWERED + 1),  # a short request, but a long value to store
    ],
    ids=["SET", "blob", "shape"],
)
def test_a_lower_limit_of_redis_holds(
    new_pair: Callable[..., Pair], connect: Connect, command: tuple[bytes | str | int, ...]
):
    """Redis replies with its error and closes the connection, and so does the engine. Other clients notice nothing."""
    pair = new_pair()
    other = connect(pair.engine)
    store_model(other, "m")
    assert other.ask("CONFIG", "SET", "proto-max-bulk-len", LOWERED) == b"+OK\r\n"
    wire = connect(pair.engine)

    wire.send("PING", command)

    first, *errors = wire.rest().splitlines(keepends=True)
    assert first == PONG
    # Redis closes the connection while bytes are in flight, so its own error may be lost.
    assert errors in ([], [TOO_LONG])
    assert other.ask("EXISTS k t") == b":0\r\n"
    assert predict(other, "m", 1, 2) == 3.0

"""SYNC and PSYNC: a backup taken through the engine is the one that Redis gives."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from support.connection import Connect, Connection
from support.gateway import Pair
from support.servers import of_the_machine

SNAPSHOT = b"-ver"  # how each begins, but for the name of Redis or Valkey


ATTEMPTS, SECONDS = 40, 0.5


def received(wire: Connection, *marks: bytes, meanwhile: str = "") -> bytes:
    """
    Return what has arrived when all marks are in it, in this order.

    `meanwhile` is sent again and again, as replicas do: an acknowledgement that comes too early counts for nothing.
    """
    data = b""
    wire.socket.settimeout(SECONDS)
    for _ in range(ATTEMPTS):
        if meanwhile:
            wire.send(meanwhile)
        with suppress(TimeoutError):
            while not _holds(data, marks):
                data += wire.socket.recv(2**16)
            return data
    raise AssertionError(f"{marks} did not come in {data[-100:]!r}")


def _holds(data: bytes, marks: tuple[bytes, ...]) -> bool:
    position = 0
    for mark in marks:
        position = data.find(mark, position) + 1
        if not position:
            return False
    return True


@pytest.mark.parametrize("request_", ["SYNC", "PSYNC ? -1"])
@pytest.mark.parametrize("capable", [True, False], ids=["with a mark at its end", "with its length"])
def test_the_snapshot_and_later_changes_come_through(
    new_pair: Callable[..., Pair], connect: Connect, request_: str, *, capable: bool
) -> None:
    pair = new_pair()
    direct, wire = connect(pair.redis), connect(pair.engine)
    direct.ask("CONFIG SET repl-diskless-sync-delay 0")
    direct.ask("SET", "replication:key", b"\r\n\xff$-1\r\n" * 1000)
    assert wire.ask("PING") == b"+PONG\r\n"
    if capable:
        assert wire.ask("REPLCONF capa eof") == b"+OK\r\n"

    wire.send(request_)

    received(wire, SNAPSHOT, b"replication:key")
    direct.ask("SET replication:later 1")
    # After a snapshot with a mark, Redis sends changes only to who has told that it has arrived.
    received(wire, b"replication:later", meanwhile="REPLCONF ACK 0" if capable else "")
    assert connect(pair.engine).ask("PING") == b"+PONG\r\n"


@pytest.mark.skipif(of_the_machine("redis-cli") is None, reason="there is no redis-cli")
def test_redis_cli_takes_a_backup(new_pair: Callable[..., Pair], connect: Connect, tmp_path: Path) -> None:
    pair = new_pair()
    connect(pair.redis).ask("CONFIG SET repl-diskless-sync-delay 0")
    connect(pair.redis).ask("SET replication:key value")
    file = tmp_path / "backup.rdb"

    program = str(of_the_machine("redis-cli"))
    words = [program, "-p", str(pair.engine.port), "--rdb", str(file)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 0, ended.stderr
    assert file.read_bytes().count(SNAPSHOT)
    assert b"replication:key" in file.read_bytes()

"""
Ten thousand clients that send nothing, or half a command.

None of them costs Redis a connection, each costs the engine little memory, and nobody has to wait.
"""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.connection import Connect, connected
from support.gateway import Pair, predict, store_model
from support.servers import Server
from support.waiting import wait_until

WANTED = 10_000
SPARE = 200  # descriptors for everything else that the tests and the engine keep open
BYTES_EACH = 16 * 1024  # the engine's memory for a silent connection; about five times what it takes


@pytest.fixture
def descriptors() -> Iterator[int]:
    """Raise this process's limit, which the engine's process inherits, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * WANTED + SPARE  # the engine keeps a second one for each client
    try:
        raised = wanted if hard == resource.RLIM_INFINITY else max(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, raised))
    except (ValueError, OSError):  # only root may go beyond the hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, wanted), hard))
    yield resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def resident_bytes(server: Server) -> int:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def open_descriptors(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc, which this system lacks")
def test_ten_thousand_idle_connections_open_none_to_redis(
    descriptors: int, new_pair: Callable[..., Pair], connect: Connect
):
    count = min(WANTED, (descriptors - SPARE) // 2)
    pair = new_pair()
    direct = pair.redis.client()
    busy = connect(pair.engine)
    store_model(busy, "m")
    predict(busy, "m", 1, 2)
    clients = len(direct.client_list())
    memory, files = resident_bytes(pair.engine), open_descriptors(pair.engine)

    with ExitStack() as idle:
        for number in range(count):
            client = idle.enter_context(socket.create_connection((pair.engine.host, pair.engine.port), timeout=30))
            if number % 2:
                client.send(b"*2\r\n$3\r\nGET\r\n")  # the key never comes
        wait_until(lambda: open_descriptors(pair.engine) >= files + count, what="accepting all connections")
        started = time.monotonic()
        answers = [predict(busy, "m", a, 2) for a in range(100)]
        took = time.monotonic() - started

        assert len(direct.client_list()) < clients + 10  # the engine's own may come and go
        assert resident_bytes(pair.engine) - memory < count * BYTES_EACH
        assert answers == [a + 2.0 for a in range(100)]
        assert took < 10, "those who say nothing keep the others waiting"
    wait_until(lambda: open_descriptors(pair.engine) <= files, what="closing all connections")
    assert predict(busy, "m", 3, 4) == 7.0


def test_connections_to_redis_end_with_their_clients(new_pair: Callable[..., Pair]):
    pair = new_pair()
    direct = pair.redis.client()

    def present() -> set[bytes]:
        return {b":%s\r\n" % client["id"].encode() for client in direct.client_list()}

    with ExitStack() as opened:
        wires = [opened.enter_context(connected(pair.engine)) for _ in range(200)]
        for wire in wires:
            wire.send("CLIENT ID")
        theirs = {wire.reply() for wire in wires}
        assert len(theirs) == 200
        assert theirs <= present()
    wait_until(lambda: not theirs & present(), what="closing the connections to Redis")

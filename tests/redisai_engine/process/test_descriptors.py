"""The engine takes all descriptors that it may have. Where they end, clients are told so, and later ones find room."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from support.certificates import Certificates, make_certificates
from support.connection import Connect, connected
from support.servers import Server
from support.waiting import accepts_connections, wait_until

PONG = b"+PONG\r\n"
FULL = b"-ERR max number of clients reached\r\n"


def room(server: Server) -> int:
    """Return how many clients fit, as the log says."""
    (told,) = re.findall(r"there is room for (\d+) clients", server.logged("there is room for"))
    return int(told)


def soft_limit(server: Server) -> int:
    lines = Path(f"/proc/{server.process.pid}/limits").read_text().splitlines()
    return next(int(line.split()[3]) for line in lines if line.startswith("Max open files"))


def test_the_soft_limit_is_raised_to_the_hard_one(redis_server: Server, new_engine: Callable[..., Server]) -> None:
    server = new_engine("--redis", redis_server.url, descriptors="-S -n 256 && ulimit -H -n 4000")

    assert soft_limit(server) == 4000
    assert 1900 < room(server) < 2000


def test_clients_beyond_the_limit_are_refused_until_others_leave(
    redis_server: Server, new_engine: Callable[..., Server], connect: Connect
) -> None:
    server = new_engine("--redis", redis_server.url, descriptors="-n 160")
    served = [connect(server) for _ in range(room(server))]
    assert [wire.ask("PING") for wire in served] == [PONG] * len(served)

    refused = [connect(server) for _ in range(20)]

    assert {wire.rest() for wire in refused} == {FULL}
    assert [wire.ask("SET descriptors:x 1") for wire in served] == [b"+OK\r\n"] * len(served)
    for wire in served[:5]:
        wire.close()
    wait_until(lambda: _is_served(connect, server))
    log = server.logged("clients are accepted again")
    assert log.count("as many as the descriptors allow: more are refused") == 1
    assert log.count("clients are accepted again") == 1
    assert "Too many open files" not in log


def _is_served(connect: Connect, server: Server) -> bool:
    try:
        wire = connect(server)
        wire.send("PING")
        wire.half_close()
        return wire.rest() == PONG
    except ConnectionError:  # the refusal came before the question
        return False


def test_a_crowd_that_comes_at_once_is_survived(
    redis_server: Server, new_engine: Callable[..., Server], connect: Connect
) -> None:
    """So many that the table is full before the first of them is refused: those are closed, and the port stays open."""
    server = new_engine("--redis", redis_server.url, descriptors="-n 160")
    os.kill(server.process.pid, signal.SIGSTOP)
    crowd = [connect(server) for _ in range(400)]

    os.kill(server.process.pid, signal.SIGCONT)
    for wire in crowd:
        wire.close()

    wait_until(lambda: accepts_connections(server.port) and _is_served(connect, server))
    assert "Traceback" not in server.log.read_text()


def test_connections_in_their_tls_handshake_count_as_clients(
    redis_server: Server, new_engine: Callable[..., Server], tmp_path: Path
) -> None:
    """Those that don't fit are closed at once. When others have left, the next ones are served."""
    files = make_certificates(tmp_path)
    server = new_engine("--redis", redis_server.url, *files.server.for_engine, descriptors="-n 160")
    with ExitStack() as open_:
        silent = [open_.enter_context(socket.create_connection((server.host, server.port))) for _ in range(300)]
        wait_until(lambda: sum(map(_is_closed, silent)) == len(silent) - room(server), what="the end of the others")
        log = server.logged("as many as the descriptors allow: more are refused")
        assert "Too many open files" not in log

    wait_until(lambda: _is_served_by_tls(server, files))
    assert "Traceback" not in server.logged("clients are accepted again")


def _is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def _is_served_by_tls(server: Server, files: Certificates) -> bool:
    try:
        with connected(server, tls=files.context()) as wire:
            return wire.ask("PING") == PONG
    except OSError:  # it is refused in its handshake
        return False

"""An engine's worker processes, and connections to a chosen one: the kernel decides which one a client gets."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from support.connection import Connect, Connection
from support.servers import Server
from support.waiting import wait_until

_MOST_ATTEMPTS = 200


def children(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def workers_of(server: Server) -> list[int]:
    """Return the processes that serve, without the redis-server."""
    return [child for child in sorted(children(server.process.pid)) if b"redisai_engine" in command_line(child)]


def command_line(process: int) -> bytes:
    """Return a process's command line, empty for one that has ended meanwhile."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def replace(server: Server, worker: int, number: int = signal.SIGKILL) -> None:
    """End a worker by a signal, and wait until another one listens in its place."""
    others = set(workers_of(server)) - {worker}
    os.kill(worker, number)
    wait_until(
        lambda: len(set(workers_of(server)) - {worker}) > len(others) and listeners(server.port) > len(others),
        timeout_s=60,
        what="a new worker",
    )


def listeners(port: int) -> int:
    """Return how many sockets listen on a port of 127.0.0.1."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1] == f"0100007F:{port:04X}" and line.split()[3] == "0A" for line in lines)


def worker_of(server: Server, opened: Connection) -> int:
    """Return the worker that serves a connection."""
    address = f"0100007F:{server.port:04X} 0100007F:{opened.socket.getsockname()[1]:04X}"

    def holder() -> int:
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        found = [f"socket:[{words[9]}]" for words in lines if " ".join(words[1:3]) == address]
        return next((worker for worker in workers_of(server) if found and found[0] in _open_files(worker)), 0)

    return wait_until(holder, what="the worker that serves a connection")


def _open_files(process: int) -> set[str]:
    found = set()
    for link in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found.add(os.readlink(link))
    return found


def connect_to(server: Server, connect: Connect, number: int) -> Connection:
    """Open a connection to worker `number`, counted from 0; with more than there are, again from the first."""
    workers = workers_of(server)
    if not workers:  # the engine is one process
        return connect(server)
    wanted = workers[number % len(workers)]
    for _ in range(_MOST_ATTEMPTS):
        opened = connect(server)
        if worker_of(server, opened) == wanted:
            return opened
        opened.close()
    raise AssertionError(f"{_MOST_ATTEMPTS} connections went to other workers")

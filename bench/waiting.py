"""
A program in C that answers as the engine does, but only waits (`waiting.c`): no engine behind Redis can be faster.

It is what a client, the system and Redis take by themselves.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import servers
from bench.drive import Argument
from bench.wire import redis_exchange, resp_length


@dataclass(frozen=True)
class Canned:
    """What it answers, after Redis has answered `request`, if any, and after so many microseconds."""

    reply: bytes
    request: bytes = b""
    microseconds: int = 0


@contextlib.contextmanager
def waiting(folder: Path, redis: Path, canned: Mapping[str, Canned]) -> Iterator[servers.Running]:
    """
    Compile and start it, in front of the Redis with its socket in the folder `redis`.

    `canned` has its answers to what contains a word. It takes a processor for itself as long as it has a client.
    """
    folder.mkdir(exist_ok=True)
    program = folder / "waiting"
    if not program.exists():
        source = Path(__file__).with_suffix(".c")
        subprocess.run(
            [os.environ.get("CC", "cc"), "-O2", "-D_GNU_SOURCE", "-o", str(program), str(source)], check=True
        )
    words = []
    for number, (word, answer) in enumerate(canned.items()):
        reply, request = folder / f"{number}.reply", folder / f"{number}.request"
        reply.write_bytes(answer.reply)
        request.write_bytes(answer.request)
        words += [word, str(reply), str(request), str(answer.microseconds)]
    log = folder / "waiting.log"
    with servers.process([str(program), str(redis / servers.SOCKET), *words], log) as started:
        yield servers.when_ready(started, log, lambda: servers.port_told(log))


def reply_to(port: int, command: Sequence[Argument]) -> bytes:
    """Return the bytes with which a server answers a command."""
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(redis_exchange(command).request)
        while (size := resp_length(found) if found else None) is None:
            found += connection.recv(65536)
    return found[:size]

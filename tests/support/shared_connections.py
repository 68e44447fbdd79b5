"""Whose connection to Redis a command went over, as Redis' MONITOR shows it."""

from __future__ import annotations

import contextlib
import re
import threading
import uuid
from collections.abc import Iterator

from support.bad_line import BadLine
from support.connection import TIMEOUT_S, Connect, Connection
from support.replies import OK, bulk
from support.servers import Server
from support.waiting import wait_until

NAME = b"redisai-shared"
#: Ends that a client's commands go over the shared connection, and does nothing else.
APART = "CLIENT TRACKING OFF"

#: A deed: what follows on this connection waits.
HOLD = "hold"

_LINE = re.compile(rb'\+[\d.]+ \[\d+ ([^\]]*)\] (".*")\r\n')


class Watching:
    """What Redis carries out, seen by MONITOR."""

    def __init__(self, server: Server, connect: Connect) -> None:
        self.direct = connect(server)
        self._monitor = connect(server)
        assert self._monitor.ask("MONITOR") == OK

    def since(self) -> list[tuple[bytes, bytes]]:
        """Return address and words of the commands since the previous call; those of a script have its caller's."""
        token = uuid.uuid4().hex.encode()
        self.direct.ask("ECHO", token)
        found = []
        while token not in (line := self._monitor.reply()):
            match = _LINE.fullmatch(line)
            assert match is not None, line
            found.append((found[-1][0] if match[1] == b"lua" else match[1], match[2]))
        return found

    def shared_addresses(self) -> set[bytes]:
        """Return the address of the shared connection, or nothing while there is none."""
        return {client[b"addr"] for client in self.clients() if client[b"name"] == NAME}

    def clients(self) -> list[dict[bytes, bytes]]:
        told = self.direct.ask("CLIENT LIST").partition(b"\r\n")[2]
        lines = [line for line in told.splitlines() if line]
        return [dict(field.split(b"=", 1) for field in line.split() if b"=" in field) for line in lines]

    def went_over_shared(self, opened: Connection, run: str, output: str) -> bool:
        """Run a model, and return whether its output was written over the shared connection."""
        return self.is_shared(opened, run, f'"SET" "{output}"')

    def is_shared(self, opened: Connection, command: str, made_of: str) -> bool:
        """Send a command, and return whether Redis was sent what it is made of over the shared connection."""
        self.since()
        assert not opened.ask(command).startswith(b"-")
        senders = {who for who, words in self.since() if words.startswith(made_of.encode())}
        assert senders
        return senders <= self.shared_addresses()

    def until_shared(self, opened: Connection, run: str, output: str) -> None:
        wait_until(lambda: self.went_over_shared(opened, run, output), what="the shared connection")


def forget_tensors(opened: Connection) -> None:
    """Have the engine relay something, after which it asks Redis again for tensors that it has kept."""
    assert opened.ask("ECHO something") == bulk("something")


class NamedLine(BadLine):
    """A bad line that does its deed at the first command with these words since `arm`. HOLD: waits for `release`."""

    def __init__(self, server: Server, deed: str) -> None:
        super().__init__(server, deed, 0)
        self._armed: list[bytes] | None = None
        self._released = threading.Event()

    @property
    def url(self) -> str:
        return self.target.replace("redisai:", "redis:")

    def lead_to(self, server: Server) -> None:
        """Lead new connections to another server."""
        self._server = server

    def arm(self, *words: bytes) -> None:
        self._armed = list(words)

    def release(self) -> None:
        self._released.set()

    @property
    def is_done(self) -> bool:
        return self._armed is None

    def deed_at(self, command: list[bytes]) -> str | None:
        if self._armed is None or command[: len(self._armed)] != self._armed:
            return None
        self._armed = None
        if self._deed != HOLD:
            return self._deed
        self._released.wait(TIMEOUT_S)
        return None


@contextlib.contextmanager
def named_line(server: Server, deed: str) -> Iterator[NamedLine]:
    line = NamedLine(server, deed)
    try:
        yield line
    finally:
        line.close()

"""
A TCP proxy that does something bad at one place of a conversation: it cuts the connection, or goes on without end.

It counts the commands of all its connections. At the command with a given number it does its deed, once.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from redisai_engine.protocol.requests import RequestParser
from support.servers import Server

#: Where a connection is cut: before the command, in the middle of it, after it, after the first byte of the reply.
CUTS = ("before", "within", "after", "in the reply")
#: After the command, and nobody listens any more.
GONE = "gone"
#: The reply begins, and goes on a byte at a time, without end.
TRICKLE = "trickle"
_TIMEOUT_S = 120.0
_BETWEEN_BYTES_S = 0.05
_RECEIVED = 1 << 16


class BadLine:
    """What happens at which command, and how many commands there were."""

    def __init__(self, server: Server, deed: str, at: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.commands: list[list[bytes]] = []
        self._server, self._deed, self._at = server, deed, at
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._sockets: list[socket.socket] = [self.listener]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def target(self) -> str:
        return f"redisai://127.0.0.1:{self.listener.getsockname()[1]}"

    def close(self) -> None:
        self._closing.set()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_TIMEOUT_S)
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                upstream = socket.create_connection((self._server.host, self._server.port), timeout=_TIMEOUT_S)
                client.settimeout(_TIMEOUT_S)
                self._sockets += [client, upstream]
                _Pair(self, client, upstream).start()

    def start(self, thread: threading.Thread) -> None:
        self._threads.append(thread)
        thread.start()

    def deed_at(self, command: list[bytes]) -> str | None:
        """Count a command, and return what is to happen at it."""
        with self._lock:
            self.commands.append(command)
            return self._deed if len(self.commands) == self._at else None

    def trickle(self, client: socket.socket) -> None:
        """Send a number that never ends."""
        client.sendall(b":")
        while not self._closing.wait(_BETWEEN_BYTES_S):
            client.sendall(b"0")


class _Pair:
    """One connection through the proxy."""

    def __init__(self, line: BadLine, client: socket.socket, upstream: socket.socket) -> None:
        self.line, self.client, self.upstream = line, client, upstream
        self.deed: str | None = None

    def start(self) -> None:
        for work in (self._requests, self._replies):
            self.line.start(threading.Thread(target=self._until_closed, args=(work,), daemon=True))

    def _until_closed(self, work: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):
            work()
        for each in (self.client, self.upstream):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _requests(self) -> None:
        parser = RequestParser()
        while data := self.client.recv(_RECEIVED):
            parser.feed(data)
            while (command := parser.next()) is not None:
                if self._pass_on(command):
                    return

    def _pass_on(self, command: list[bytes]) -> bool:
        """Pass one command on, and return whether the connection is to be cut now."""
        encoded = b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%b\r\n" % (len(each), each) for each in command)
        deed = self.line.deed_at(command)
        if deed == "before":
            return True
        if deed == "within":
            self.upstream.sendall(encoded[: len(encoded) // 2])
            return True
        self.deed = deed or self.deed
        self.upstream.sendall(encoded)
        return False

    def _replies(self) -> None:
        while data := self.upstream.recv(_RECEIVED):
            if self.deed == GONE:
                self.line.listener.shutdown(socket.SHUT_RDWR)
            if self.deed in ("after", GONE):
                return
            if self.deed == TRICKLE:
                self.line.trickle(self.client)
            if self.deed == "in the reply":
                self.client.sendall(data[:1])
                return
            self.client.sendall(data)


@contextlib.contextmanager
def bad_line(server: Server, deed: str = "", at: int = 0) -> Iterator[BadLine]:
    """Run a proxy before `server` for the duration of the block. Without a number nothing bad happens."""
    line = BadLine(server, deed, at)
    try:
        yield line
    finally:
        line.close()

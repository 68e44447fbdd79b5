"""
A bare connection to a server: bytes out, replies back unchanged. Every wait ends after some seconds.

Written for the tests, so that their expectations don't depend on the engine's own parsers.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator

from support.servers import Server

TIMEOUT_S = 10.0

_ITEMS = {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}
_SIZED = (b"$", b"=", b"!")


class Connection:
    """One connection. `ask` sends a command and returns its reply; `send` and `reply` do one half each."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(TIMEOUT_S)
        self._file = connection.makefile("rb")

    def send(self, *commands: bytes | str | tuple[bytes | str | int, ...]) -> None:
        """Send commands in one write: bytes unchanged, text as the words of a line, a tuple as arguments."""
        self.socket.sendall(b"".join(map(encoded, commands)))

    def reply(self) -> bytes:
        """Return the next reply or push, unchanged."""
        line = self._file.readline()
        assert line.endswith(b"\r\n"), f"the connection ended behind {line!r}"
        kind, number = line[:1], line[1:-2]
        if kind in _SIZED and int(number) >= 0:
            return line + self._exactly(int(number) + 2)
        if kind in _ITEMS:
            attributed = kind == b"|"  # it precedes a reply
            return line + b"".join(self.replies(max(int(number), 0) * _ITEMS[kind] + attributed))
        return line

    def replies(self, count: int) -> list[bytes]:
        return [self.reply() for _ in range(count)]

    def ask(self, *command: bytes | str | int) -> bytes:
        """
        Send `ask("GET key")` or, with spaces or bytes in the arguments, `ask("SET", "key", b"...")`.

        Return the reply.
        """
        self.send(command[0] if len(command) == 1 and isinstance(command[0], str) else command)
        return self.reply()

    def ask_raw(self, request: bytes) -> bytes:
        """Send bytes that are one request and return its reply."""
        self.send(request)
        return self.reply()

    def ends(self) -> bool:
        """Return whether the server closes the connection next, with nothing more to read."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True

    def rest(self) -> bytes:
        """Return everything up to the end of the connection, which may be a reset: unread requests make it one."""
        parts = []  # of which there may be gigabytes
        with contextlib.suppress(ConnectionResetError):
            while more := self._file.read1(1 << 20):
                parts.append(more)
        return b"".join(parts)

    def is_quiet(self, *, barrier: str = "PING") -> bool:
        """Return whether nothing can be read except the reply to `barrier`, which is sent for that purpose."""
        return self.ask(barrier) == b"+PONG\r\n"

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def _exactly(self, count: int) -> bytes:
        data = self._file.read(count)
        assert len(data) == count, f"the connection ended {count - len(data)} bytes before the reply"
        return data


def encoded(command: bytes | str | tuple[bytes | str | int, ...]) -> bytes:
    """Encode a command as an array of bulk strings. Bytes are returned unchanged."""
    if isinstance(command, bytes):
        return command
    words = command.split() if isinstance(command, str) else command
    arguments = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%b\r\n" % (len(each), each) for each in arguments)


@contextlib.contextmanager
def connected(server: Server, *, tls: ssl.SSLContext | None = None) -> Iterator[Connection]:
    raw = socket.create_connection((server.host, server.port), timeout=TIMEOUT_S)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wire = Connection(tls.wrap_socket(raw, server_hostname="localhost") if tls else raw)
    try:
        yield wire
    finally:
        wire.close()


Connect = Callable[..., Connection]

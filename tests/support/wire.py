"""A connection that shows replies as they are on the wire, for cases that client libraries hide or convert."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import TYPE_CHECKING

from redisai_engine.protocol.frames import FrameScanner, Value, decode
from redisai_engine.protocol.requests import encode

if TYPE_CHECKING:
    from typing_extensions import Self

TIMEOUT_S = 30.0


class Wire:
    """One connection to a server."""

    def __init__(self, port: int, *, protocol: int = 2, timeout_s: float = TIMEOUT_S) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._held = b""
        if protocol == 3:
            self.raw("HELLO", 3)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._socket.close()

    def raw(self, *words: bytes | str | int) -> bytes:
        """Send a command and return the bytes of its reply."""
        self.send(*words)
        return self.receive()

    def ask(self, *words: bytes | str | int) -> Value:
        """Send a command and return its reply decoded: maps flat, simple strings as bytes, errors as ReplyError."""
        return decode(self.raw(*words))

    def send(self, *words: bytes | str | int) -> None:
        self.send_bytes(encode([word if isinstance(word, bytes) else str(word).encode() for word in words]))

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are, such as a part of a command."""
        self._socket.sendall(data)

    def receive(self) -> bytes:
        while True:
            frames = FrameScanner().scan(self._held)
            if frames:
                end = frames[0][1]
                reply, self._held = self._held[:end], self._held[end:]
                return reply
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._held += data

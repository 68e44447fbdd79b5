"""A TCP proxy in front of Redis with which a test does something between any two commands that an engine sends."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from redisai_engine.protocol.frames import PUSH, FrameScanner
from redisai_engine.protocol.requests import RequestParser
from support.connection import encoded
from support.proxies import RECEIVED, accepting
from support.servers import Server

TIMEOUT_S = 30.0


class Stepping:
    """
    A proxy that listens on `port`. `before` is called before each command that names `key` reaches Redis: `command`.

    By then, Redis has answered all that came earlier on the same connection.
    """

    def __init__(self, port: int, key: bytes) -> None:
        self.port = port
        self.before: Callable[[], None] | None = None
        self.command: list[bytes] = []
        self._key = key

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def concerns(self, command: list[bytes]) -> bool:
        return self.before is not None and self._key in command


class _Passage:
    """One connection through the proxy."""

    def __init__(self, stepping: Stepping, client: socket.socket, upstream: socket.socket) -> None:
        self._stepping = stepping
        self._client, self._upstream = client, upstream
        self._unanswered = 0
        self._changed = threading.Condition()

    def start(self) -> None:
        for work in (self._pass_requests, self._pass_replies):
            threading.Thread(target=work, daemon=True).start()

    def _pass_requests(self) -> None:
        parser = RequestParser()
        with contextlib.suppress(OSError):
            while data := self._client.recv(RECEIVED):
                parser.feed(data)
                while (command := parser.next()) is not None:
                    self._step(command)
            self._upstream.shutdown(socket.SHUT_WR)

    def _step(self, command: list[bytes]) -> None:
        stepping = self._stepping
        if stepping.concerns(command):
            with self._changed:
                assert self._changed.wait_for(lambda: self._unanswered <= 0, TIMEOUT_S), "Redis doesn't answer"
            if stepping.before is not None:
                stepping.command = command
                stepping.before()
        with self._changed:
            self._unanswered += 1
        self._upstream.sendall(encoded(tuple(command)))

    def _pass_replies(self) -> None:
        scanner = FrameScanner()
        with contextlib.suppress(OSError):
            while data := self._upstream.recv(RECEIVED):
                answers = sum(kind != PUSH for kind, _ in scanner.scan(data))
                with self._changed:
                    self._unanswered -= answers
                    self._changed.notify_all()
                self._client.sendall(data)
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def stepping(server: Server, key: str) -> Iterator[Stepping]:
    """Run such a proxy in front of `server` for the duration of the block."""
    proxy = Stepping(0, key.encode())
    with accepting(server, lambda client, upstream: _Passage(proxy, client, upstream).start()) as proxy.port:
        yield proxy

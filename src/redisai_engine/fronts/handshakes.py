"""
TLS handshakes with clients: how many are under way, so that they count as clients, and an end to those that take long.

The event loop's own servers tell nobody of connections that aren't through their handshake, and can't refuse any. So
connections are accepted here, where clients must use TLS.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

_SECONDS = 10.0  # then a client that doesn't speak TLS, or not to the end, is let go
FAREWELL_SECONDS = 1e6  # for what `closing.py` ends: the event loop's 30 s would cut off answers
_BACKLOG = 1024  # of connections that wait to be accepted
_AT_ONCE = 64  # connections that are accepted in a row
_PAUSE_SECONDS = 0.1  # where none can be accepted, as when there are no descriptors


class Handshakes:
    """
    The handshakes of one front. `session` makes what serves a client once it is through.

    While `is_full`, connections are closed: before the handshake nothing can be said. Redis does the same.

    Invariant: what `len` returns is the number of connections that are open and not yet a client's.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: ssl.SSLContext,
        session: Callable[[], asyncio.Protocol],
        is_full: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._context = context
        self._session = session
        self._is_full = is_full
        self._listening: list[socket.socket] = []
        self._under_way: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    def accept_on(self, bound: Iterable[Any]) -> None:
        """Accept connections on sockets that are bound to their addresses."""
        for each in bound:
            listening = socket.socket(fileno=os.dup(each.fileno()))
            listening.setblocking(False)  # noqa: FBT003  # the name of the function says it
            listening.listen(_BACKLOG)
            self._listening.append(listening)
            self._loop.add_reader(listening, self._accept, listening)

    def close(self) -> None:
        """Accept no more connections, and end those that aren't through."""
        for listening in self._listening:
            self._loop.remove_reader(listening)
            listening.close()
        self._listening.clear()
        for task in self._under_way:
            task.cancel()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(listening)
                self._loop.call_later(_PAUSE_SECONDS, self._go_on, listening)
                return
            if self._is_full():
                connection.close()
                continue
            connection.setblocking(False)  # noqa: FBT003
            task = self._loop.create_task(self._shake_hands(connection))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    def _go_on(self, listening: socket.socket) -> None:
        if listening in self._listening:
            self._loop.add_reader(listening, self._accept, listening)

    async def _shake_hands(self, connection: socket.socket) -> None:
        # asyncio's own loop has the second limit from Python 3.11 on only, uvloop always.
        limits: Any = {"ssl_handshake_timeout": _SECONDS, "ssl_shutdown_timeout": FAREWELL_SECONDS}
        # Errors of TLS and of time are among these. The event loop closes the connection then.
        with suppress(OSError, asyncio.TimeoutError):
            await self._loop.connect_accepted_socket(self._session, connection, ssl=self._context, **limits)

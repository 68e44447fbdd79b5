"""
What clients may send over HTTP before they are answered: bounds on the head of a request, and on all bodies together.

uvicorn's protocol has none. A head counts until the parser has seen its end, a body until all of it is there.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from redisai_engine.fronts.http.access.failures import RequestRefused

_HEAD_BYTES = 64 * 1024  # of request line and headers
_HEAD_SECONDS = 60.0  # from the connection, or from its first byte, until a head is complete
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BodyRoom:
    """The bytes of bodies that one process is receiving, of all connections together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    def take(self, size: int) -> None:
        """Use `size` bytes. Raise RequestRefused, and use none, if that is more than is left."""
        if self.used + size > self._limit:
            raise RequestRefused(
                503,
                f"the bodies of requests that are being received have {self.used} bytes, and may have {self._limit} "
                "together; try again later",
            )
        self.used += size

    def give(self, size: int) -> None:
        """Give bytes back."""
        self.used -= size


class BoundedProtocol(HttpToolsProtocol):
    """One connection. A head that is too large, or that doesn't come, ends it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head = 0  # bytes of an incomplete head
        self._in_head = True
        self._impatience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._impatience = self.loop.call_later(_HEAD_SECONDS, self._give_up)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_head:
            self._head += len(data)
            if self._head > _HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()
            elif self._impatience is None:
                self._impatience = self.loop.call_later(_HEAD_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.begin_head()

    def on_headers_complete(self) -> None:
        self.end_head()
        super().on_headers_complete()

    def begin_head(self) -> None:
        self._in_head = True
        self._head = 0

    def end_head(self) -> None:
        self._in_head = False
        if self._impatience is not None:
            self._end_waiting()

    def _end_waiting(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def _give_up(self) -> None:
        self._impatience = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
